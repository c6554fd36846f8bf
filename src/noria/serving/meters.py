"""Counters and histograms of one server process, as Prometheus reads them.

Written by the predicting threads (and the loop, for its own counters), read by /metrics.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

__all__ = ["BUCKETS_S", "Counted", "Meters"]

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_BOUNDS_US = tuple(int(bound * 1e6) for bound in BUCKETS_S)
_BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Counted(Protocol):
    """What the meters look at in an answer."""

    status: int
    us: int
    rows: int
    release: int
    arm: str


class _Series:
    """One histogram with its sum, and rows by status, of one release and arm."""

    __slots__ = ("buckets", "rows", "status", "total_us")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_BOUNDS_US) + 1)
        self.total_us = 0
        self.rows = 0
        self.status: dict[int, int] = {}


class Meters:
    """All numbers of a process. `refused` counts 503s, `unlogged` rows the disk did not take."""

    def __init__(self) -> None:
        self.refused = 0
        self.unlogged = 0
        self.shadows = 0
        self.shadows_dropped = 0
        self.malformed = 0
        self.batches = [0] * (len(_BATCH_BOUNDS) + 1)
        self.batch_rows = 0
        self.swaps = 0
        self._series: dict[tuple[str, int, str], _Series] = {}
        self._said: dict[str, float] = {}
        self._guard = threading.Lock()

    def batch(self, model: str, group: Sequence[object], answers: Iterable[Counted]) -> None:
        """Count one predicted group of answers. Thread safe."""
        with self._guard:
            self._count(model, answers)

    def _count(self, model: str, answers: Iterable[Counted]) -> None:
        rows = 0
        for answer in answers:
            key = (model, answer.release, answer.arm)
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = _Series()
            series.buckets[bisect.bisect_left(_BOUNDS_US, answer.us)] += 1
            series.total_us += answer.us
            series.rows += answer.rows
            series.status[answer.status] = series.status.get(answer.status, 0) + 1
            rows += answer.rows
        self.batches[bisect.bisect_left(_BATCH_BOUNDS, rows)] += 1
        self.batch_rows += rows

    def should_say(self, what: str, every_s: float = 5.0) -> bool:
        """Whether a repeated complaint is due again."""
        now = time.monotonic()
        if now - self._said.get(what, -every_s) < every_s:
            return False
        self._said[what] = now
        return True

    def text(self, *, queued_rows: int, deployments: dict[str, int]) -> str:
        """Everything in the Prometheus text format. Source: prometheus.io, exposition formats, 0.0.4."""
        lines = [
            *_counter("noria_malformed_total", "Requests refused before they reached a model.", self.malformed),
            *_counter("noria_busy_total", "Requests refused because the queue was full.", self.refused),
            *_counter(
                "noria_unlogged_rows_total", "Rows not answered because the log could not take them.", self.unlogged
            ),
            *_counter("noria_shadow_rows_total", "Rows that a shadow answered.", self.shadows),
            *_counter(
                "noria_shadow_rows_dropped_total", "Rows that the shadow queue could not take.", self.shadows_dropped
            ),
            *_counter("noria_route_swaps_total", "Times that a new table of routes came into force.", self.swaps),
            "# HELP noria_queue_rows Rows that wait for an answer.",
            "# TYPE noria_queue_rows gauge",
            f"noria_queue_rows {queued_rows}",
            "# HELP noria_deployment_seq The deployment in force, by its place in the ledger.",
            "# TYPE noria_deployment_seq gauge",
            *(f'noria_deployment_seq{{model="{model}"}} {seq}' for model, seq in sorted(deployments.items())),
        ]
        lines += self._batch_lines()
        lines += self._series_lines()
        return "\n".join(lines) + "\n"

    def _batch_lines(self) -> list[str]:
        lines = ["# HELP noria_batch_rows Rows predicted together.", "# TYPE noria_batch_rows histogram"]
        reached = 0
        for bound, count in zip((*_BATCH_BOUNDS, "+Inf"), self.batches, strict=True):
            reached += count
            lines.append(f'noria_batch_rows_bucket{{le="{bound}"}} {reached}')
        return [*lines, f"noria_batch_rows_sum {self.batch_rows}", f"noria_batch_rows_count {reached}"]

    def _series_lines(self) -> list[str]:
        requests = ["# HELP noria_requests_total Requests answered.", "# TYPE noria_requests_total counter"]
        latency = [
            "# HELP noria_request_seconds From arrival to the answer being ready.",
            "# TYPE noria_request_seconds histogram",
        ]
        for (model, release, arm), series in sorted(self._series.items()):
            labels = f'model="{model}",release="{release}",arm="{arm}"'
            for status, count in sorted(series.status.items()):
                requests.append(f'noria_requests_total{{{labels},status="{status}"}} {count}')
            reached = 0
            for bound, count in zip((*BUCKETS_S, "+Inf"), series.buckets, strict=True):
                reached += count
                latency.append(f'noria_request_seconds_bucket{{{labels},le="{bound}"}} {reached}')
            latency.append(f"noria_request_seconds_sum{{{labels}}} {series.total_us / 1e6:.6f}")
            latency.append(f"noria_request_seconds_count{{{labels}}} {reached}")
        return requests + latency


def _counter(name: str, text: str, value: int) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} counter", f"{name} {value}"]
