"""The rows on which two models part: what this version calls otherwise than the champion, and who was right.

A gain in a mean hides which rows paid for it. Counts are of all labelled rows; examples are few, the furthest apart
first, and named by their place in the holdout and their key, so that whoever reviews can look them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.registry.evidence import Champion
from noria.registry.groups import Share, share_of
from noria.registry.scored import Sample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Array: TypeAlias = npt.NDArray[np.float64]
    Mask: TypeAlias = npt.NDArray[np.bool_]
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["Flips", "Turn", "TurnedRow", "flips_of"]

EXAMPLES_MAX = 8
"""Rows that are shown of each way."""
KEY_MAX = 80


@frozen(kw_only=True)
class TurnedRow:
    """One row: its place in the holdout (from 0), its key ("" without one), its label, and what both models gave."""

    row: int
    key: str
    label: float
    champion: float
    score: float


@frozen(kw_only=True)
class Turn:
    """One way to part: `n` rows, of which this version was right on `right`, and the furthest of them."""

    way: str
    n: int
    right: int
    rows: tuple[TurnedRow, ...]


@frozen(kw_only=True)
class Flips:
    """Where this version and the champion part.

    Binary: rows called positive now and not by the champion, and the other way, each at its own threshold; of all of
    them `better` is the share where this version is right (the champion is right on the others). Regression: rows
    where this version is nearer to the outcome, and farther from it. `same` rows did not part.
    """

    reason: str = ""
    champion: int = 0
    threshold: float | None = None
    champion_threshold: float | None = None
    n: int = 0
    same: int = 0
    better: Share | None = None
    turns: tuple[Turn, ...] = ()


def flips_of(sample: Sample, champion: Champion, *, places: Sequence[int], key: str = "", level: float = 0.95) -> Flips:
    """Where a sample's scores and a champion's part.

    Args:
        places: the place in the holdout of each row of the sample.
        key: the column that names a row.
    Raises: UsageError if a score is not finite.
    """
    for scores in (sample.score, champion.score):
        if not np.isfinite(scores).all():
            raise UsageError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    keys = sample.rows[key].tolist() if key and key in sample.rows.columns else None
    if sample.task == "binary":
        now, before = sample.score >= sample.threshold, champion.score >= champion.threshold
        ways = [("called now", now & ~before), ("called no more", ~now & before)]
        is_right = now == (sample.y == 1)
    else:
        gain = np.abs(champion.score - sample.y) - np.abs(sample.score - sample.y)
        ways, is_right = [("nearer", gain > 0), ("farther", gain < 0)], gain > 0
    apart = np.abs(sample.score - champion.score)
    turns = tuple(_turn(way, mask, is_right, apart, sample, champion, places, keys) for way, mask in ways)
    moved = sum(turn.n for turn in turns)
    is_binary = sample.task == "binary"
    return Flips(
        champion=champion.version,
        threshold=sample.threshold if is_binary else None,
        champion_threshold=champion.threshold if is_binary else None,
        n=len(sample.y),
        same=len(sample.y) - moved,
        better=share_of(sum(turn.right for turn in turns), moved, level),
        turns=turns,
    )


def _turn(
    way: str,
    mask: Mask,
    is_right: Mask,
    apart: Array,
    sample: Sample,
    champion: Champion,
    places: Sequence[int],
    keys: list[Any] | None,
) -> Turn:
    found = np.flatnonzero(mask)
    furthest = found[np.argsort(-apart[found], kind="stable")][:EXAMPLES_MAX].tolist()
    return Turn(
        way=way,
        n=len(found),
        right=int((mask & is_right).sum()),
        rows=tuple(
            TurnedRow(
                row=int(places[index]),
                key="" if keys is None or pd.isna(keys[index]) else str(keys[index])[:KEY_MAX],
                label=float(sample.y[index]),
                champion=float(champion.score[index]),
                score=float(sample.score[index]),
            )
            for index in furthest
        ),
    )
