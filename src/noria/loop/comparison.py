"""A challenger against the champion on the same newest labelled rows: the numbers that the policy judges by.

Rows of one hour share their weather, their queue and their mood; the interval therefore counts hours,
not rows, wherever the rows have a time. The comparison is stored with the run before the run ends, so
that judging can be taken up again by another process without training anything again.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any, TypeAlias

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.packaging.predictor import Predictor
from noria.registry.metrics import METRICS
from noria.registry.paired import Paired, mean_gain, too_few
from noria.registry.scored import HasRoles, score

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Blocks: TypeAlias = npt.NDArray[np.int64]
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["ARTIFACT", "BLOCK", "Comparison", "compare", "read"]

ARTIFACT = "comparison"
BLOCK = "1h"
LEVEL = 0.95
METRIC = {"binary": "log_loss", "regression": "mae"}


@frozen(kw_only=True)
class Comparison:
    """Champion and challenger on n rows in so many blocks of time; `gain` positive means the challenger is better.

    Versions are model versions. None where a number is not defined: one class, few rows, a bad score. `detectable` is
    the smallest true gain that such rows prove in 4 of 5 cases.
    """

    metric: str
    champion: int
    challenger: int
    champion_score: float | None
    challenger_score: float | None
    gain: float | None
    low: float | None
    high: float | None
    n: int
    blocks: int
    level: float
    detectable: float | None = None


def compare(
    champion: Predictor,
    challenger: Predictor,
    holdout: pd.DataFrame,
    *,
    roles: HasRoles,
    versions: tuple[int, int],
) -> Comparison:
    """Score both on the labelled rows of a holdout and compare them, blocked by hour of the time column.

    Raises: ModelFailed if one of them cannot score.
    """
    ours = score(challenger, holdout, roles.label)
    theirs = champion.predict(ours.rows)
    blocks = _hours(ours.rows, roles.time)
    metric = METRIC[ours.task]
    found = mean_gain(METRICS[metric], ours.y, theirs, ours.score, level=LEVEL, blocks=blocks)
    units = len(np.unique(blocks)) if blocks is not None else len(ours.y)
    return _comparison(found, versions, units, is_enough=not too_few(ours.y, ours.task))


def read(content: bytes) -> Comparison:
    """The comparison that a run stored."""
    return Comparison(**json.loads(content))


def encoded(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON."""
    return dataclasses.asdict(comparison)


def _hours(rows: pd.DataFrame, time: str) -> Blocks | None:
    if not time or time not in rows.columns:
        return None
    moments = pd.to_datetime(rows[time], utc=True)
    codes, _ = pd.factorize(moments.dt.floor(BLOCK))
    return np.asarray(codes, dtype=np.int64)


def _comparison(found: Paired, versions: tuple[int, int], blocks: int, *, is_enough: bool) -> Comparison:
    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return Comparison(
        metric=found.metric,
        champion=versions[0],
        challenger=versions[1],
        champion_score=known(found.champion),
        challenger_score=known(found.challenger),
        gain=known(found.gain),
        low=known(found.low) if is_enough else None,
        high=known(found.high) if is_enough else None,
        n=found.n,
        blocks=blocks,
        level=found.level,
        detectable=found.detectable() if is_enough else None,
    )
