"""Two models beside each other in every group of rows that some columns make, each by the paired test.

Small groups are left out, and intervals are widened for the number of groups that are looked at (Bonferroni): without
it, thirty honest small groups would have one that looks bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.registry.evidence import Champion
from noria.registry.levels import levels_of
from noria.registry.metrics import Metric
from noria.registry.paired import Paired, compare
from noria.registry.scored import Sample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bools: TypeAlias = npt.NDArray[np.bool_]
    Blocks: TypeAlias = npt.NDArray[np.int64]
else:
    np = lazy("numpy")

__all__ = ["MIN_ROWS", "Group", "compared", "groups_by", "widened"]

MIN_ROWS = 200
"""Rows that a group needs to be compared, where no rule says another number."""


@frozen
class Group:
    """The rows of a sample where `column` is `level`; `mask` has shape (n_rows,)."""

    column: str
    level: str
    mask: Bools
    n: int


def groups_by(sample: Sample, columns: Sequence[str]) -> list[Group]:
    """The groups that each of some columns of the rows makes, the largest of a column first."""
    return [
        Group(column, level, mask, int(mask.sum()))
        for column in columns
        for level, mask in levels_of(sample.rows[column])
    ]


def widened(level: float, groups: int) -> float:
    """The level of each of so many intervals that all hold at once with probability `level`, or more."""
    return 1 - (1 - level) / max(groups, 1)


def compared(
    metric: Metric,
    sample: Sample,
    champion: Champion,
    groups: Sequence[Group],
    *,
    level: float,
    blocks: Blocks | None = None,
) -> list[Paired]:
    """The paired test of a metric in each of some groups, in their order.

    Args:
        level: of each interval: `widened` already.
        blocks: as `paired.compare` takes them, of all rows.
    """
    return [
        compare(
            metric,
            sample.y[group.mask],
            champion.score[group.mask],
            sample.score[group.mask],
            level=level,
            thresholds=(champion.threshold, sample.threshold),
            rows=sample.rows[group.mask] if metric.needs_rows else None,
            blocks=None if blocks is None else blocks[group.mask],
        )
        for group in groups
    ]
