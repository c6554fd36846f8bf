"""What calls at the threshold that is deployed come to: right and wrong ones counted, or how far values are off.

Rows are taken as independent, as the intervals of slices and groups take them. Nothing here decides.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.registry.groups import Share, share_of
from noria.registry.metrics import z_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.float64]
else:
    np = lazy("numpy")

__all__ = ["QUANTILES", "Confusion", "Residuals", "confusion_of", "residuals_of"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@frozen(kw_only=True)
class Confusion:
    """Labels against calls: a row is called positive at or above `threshold`. Counts are rows.

    `precision` is of the rows called positive, `recall` of the positives, `specificity` of the negatives, `called` of
    all rows; each with Wilson's interval. With a `reason` nothing could be counted.
    """

    reason: str = ""
    threshold: float = 0.5
    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    true_negatives: int = 0
    precision: Share | None = None
    recall: Share | None = None
    specificity: Share | None = None
    called: Share | None = None


@frozen(kw_only=True)
class Residuals:
    """Predicted minus observed: the mean with its interval, and `quantiles` as (share of rows below, residual)."""

    reason: str = ""
    n: int = 0
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    quantiles: tuple[tuple[float, float], ...] = ()


def confusion_of(y: Array, score: Array, threshold: float, level: float = 0.95) -> Confusion:
    """The four counts and the shares that follow from them. Raises: UsageError without rows or for a bad score."""
    _require_finite(y, score)
    called, positive = score >= threshold, y == 1
    hits, alarms = int((called & positive).sum()), int((called & ~positive).sum())
    misses, quiet = int((~called & positive).sum()), int((~called & ~positive).sum())
    return Confusion(
        threshold=threshold,
        true_positives=hits,
        false_positives=alarms,
        false_negatives=misses,
        true_negatives=quiet,
        precision=share_of(hits, hits + alarms, level),
        recall=share_of(hits, hits + misses, level),
        specificity=share_of(quiet, quiet + alarms, level),
        called=share_of(hits + alarms, len(y), level),
    )


def residuals_of(y: Array, score: Array, level: float = 0.95) -> Residuals:
    """How far a regression is off, by the normal interval of its mean. Raises: UsageError as `confusion_of`."""
    _require_finite(y, score)
    off = score - y
    mean = float(off.mean())
    half = z_of(level) * float(off.std(ddof=1)) / math.sqrt(len(off)) if len(off) > 1 else math.nan
    found = np.quantile(off, QUANTILES).tolist()
    return Residuals(
        n=len(off),
        mean=mean,
        low=mean - half if math.isfinite(half) else None,
        high=mean + half if math.isfinite(half) else None,
        quantiles=tuple(zip(QUANTILES, found, strict=True)),
    )


def _require_finite(y: Array, score: Array) -> None:
    if not len(y):
        raise UsageError("there is no labelled row")
    broken = int((~np.isfinite(score)).sum())
    if broken:
        raise UsageError(f"{broken} of {len(score)} scores are not finite")
    if not np.isfinite(y).all():
        raise UsageError(f"{int((~np.isfinite(y)).sum())} of {len(y)} labels are not finite")
