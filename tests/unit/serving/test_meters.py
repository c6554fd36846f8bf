"""The counters as Prometheus text."""

from __future__ import annotations

from noria.serving.answers import Answer
from noria.serving.meters import Meters


def test_buckets_are_cumulative_and_the_counts_agree() -> None:
    meters = Meters()
    answers = [Answer(200, b"", us, 1, 3, "stable") for us in (500, 1000, 1001, 9_000_000)] + [
        Answer(500, b"", 10, 1, 3, "stable")
    ]
    meters.batch("m", answers, answers)
    text = meters.text(queued_rows=2, deployments={"m": 9})
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    labels = 'model="m",release="3",arm="stable"'
    assert lines[f'noria_request_seconds_bucket{{{labels},le="0.001"}}'] == "3"
    assert lines[f'noria_request_seconds_bucket{{{labels},le="0.0025"}}'] == "4"
    assert lines[f'noria_request_seconds_bucket{{{labels},le="+Inf"}}'] == "5"
    assert lines[f"noria_request_seconds_count{{{labels}}}"] == "5"
    assert lines[f'noria_requests_total{{{labels},status="500"}}'] == "1"
    assert lines["noria_batch_rows_count"] == "1"
    assert lines["noria_batch_rows_sum"] == "5"
    assert lines["noria_queue_rows"] == "2"
