"""The metrics of two runs as they were logged: the last values, and of series the best of each with its step.

These are what the runs themselves said, each on rows of its own choice, so no difference here has an interval.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from noria.core.frozen import frozen
from noria.experiments import records
from noria.experiments.curves import Drawn, curves_of
from noria.registry.metrics import METRICS
from noria.store.workspace import Workspace
from noria.tracking.records import RunRecord
from noria.tracking.system import is_system

__all__ = ["Logged", "better_of", "logged"]

METRICS_MAX = 200
POINTS = 64
"""Of a series so many points are read; the least and the greatest are always among them."""
_LOWER = frozenset({"loss", "error", "err", "mae", "mse", "rmse", "mape", "brier", "perplexity", "logloss"})
_HIGHER = frozenset({"acc", "accuracy", "auc", "f1", "precision", "recall", "r2", "roc"})


@frozen(kw_only=True)
class Logged:
    """One metric of both: the last values and b less a. `better` is "" where a name does not say which way is better.

    Of a series `a_points` is 2 or more; the best of either is given with its step where it is known which way is
    better. None: it was not logged, or is not finite.
    """

    metric: str
    better: str
    a: float | None
    b: float | None
    difference: float | None
    a_points: int = 0
    b_points: int = 0
    a_best: float | None = None
    a_best_step: int | None = None
    b_best: float | None = None
    b_best_step: int | None = None


def logged(ws: Workspace, a: RunRecord | None, b: RunRecord | None) -> tuple[Logged, ...]:
    """Every metric that either run logged, by name, without those of the machine; METRICS_MAX at most."""
    last = [_last(ws, run) for run in (a, b)]
    names = sorted({name for each in last for name in each if not is_system(name)})[:METRICS_MAX]
    series = [_series(ws, run, names) for run in (a, b)]
    return tuple(
        _line(name, last[0].get(name), last[1].get(name), series[0].get(name), series[1].get(name)) for name in names
    )


def better_of(name: str) -> str:
    """Which way a metric of that name is better: "higher", "lower", or "" where the name does not say."""
    plain = name.lower()
    if plain in METRICS:
        return METRICS[plain].better
    words = set(re.split(r"[^a-z0-9]+", plain))
    is_lower, is_higher = bool(words & _LOWER), bool(words & _HIGHER)
    return "" if is_lower == is_higher else "lower" if is_lower else "higher"


def _last(ws: Workspace, run: RunRecord | None) -> Mapping[str, float | None]:
    if run is None:
        return {}
    with ws.ledger.read() as tx:
        told = records.latest(tx, [run.run])[run.run]
    return {**run.metrics, **told}


def _series(ws: Workspace, run: RunRecord | None, names: list[str]) -> dict[str, Drawn]:
    return {} if run is None else {each.metric: each for each in curves_of(ws, run.run, names, POINTS)}


def _line(name: str, a: float | None, b: float | None, one: Drawn | None, other: Drawn | None) -> Logged:
    better = better_of(name)
    ends = [value if value is not None and math.isfinite(value) else None for value in (a, b)]
    best = [_best(each, better) for each in (one, other)]
    return Logged(
        metric=name,
        better=better,
        a=ends[0],
        b=ends[1],
        difference=ends[1] - ends[0] if ends[0] is not None and ends[1] is not None else None,
        a_points=one.total if one else 0,
        b_points=other.total if other else 0,
        a_best=best[0][0],
        a_best_step=best[0][1],
        b_best=best[1][0],
        b_best_step=best[1][1],
    )


def _best(drawn: Drawn | None, better: str) -> tuple[float | None, int | None]:
    """The best value of a series and the first step that has it; neither for a single point."""
    if drawn is None or drawn.total < 2 or not better:
        return None, None
    sign = 1 if better == "higher" else -1
    points = zip(drawn.curve.values.tolist(), drawn.curve.steps.tolist(), strict=True)
    finite = [(value, step) for value, step in points if math.isfinite(value)]
    if not finite:
        return None, None
    return max(finite, key=lambda point: (sign * point[0], -point[1]))
