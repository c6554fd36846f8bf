"""Two habits of a column that its shares and quantiles do not show, learned from the rows of a reference.

- How long it is silent: the longest run of rows without a value. A column that is null in most rows
  may be null in all of a tenth of them and keep its share; but then it is silent for longer than it
  ever was, and most visibly among the rows where it usually speaks.
- What it usually says: the values that come back all the time. A change of unit that is rounded to
  the old resolution moves no quantile far enough, but leaves values out: no 0.01 is left in a column
  of hundredths that was multiplied by 1.6.

Values come in clumps (sixty flights share the weather of their hour), so chance is reckoned with the
effective number of rows: their number by the clump, the design effect of blocks in order of time.

Source: Kish (1965), Survey Sampling, for the design effect.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from noria.checks.scanning.arrays import Floats, Mask, Whole
from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

__all__ = ["Silence", "Usual", "is_gone", "silence", "usual"]

SILENT_SHARE = 0.3
"""Columns that are null less often are judged by their share alone."""
SLACK = 3.0
"""A run may be so many times as long as the longest of the reference."""
RUN_MIN, RUN_SHARE = 100, 0.01
"""Runs of fewer rows, or of a smaller share of them, are nothing."""
SPEAKS = 0.75
"""A condition counts if nulls are so much rarer where it holds: there a column usually speaks."""
GONE = 0.001
"""Usual values are gone by chance less often than this, whichever of the possible sets of them."""
_PARTS, _BLOCKS = 4, 30
_SHOWN = 10
_ROWS_MIN = 1_000
_MOST = 8
_USUAL, _USUAL_SPARSE = 0.02, 0.1
_RESTLESS = 0.1
"""If the parts of the reference differ by more (total variation), what is usual changes with the season."""


def _longest(flags: Mask) -> int:
    """The length of the longest run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0


class Silence:
    """The longest run of silent rows of a file, batch by batch: how long, which rows, and of how many counted."""

    def __init__(self, *, is_keeping: bool = False) -> None:
        self._is_keeping = is_keeping
        self._open: list[Whole] = []
        self._open_length = 0
        self._kept: list[Whole] = []
        self.length = 0
        self.counted = 0

    def add(self, silent: Mask, numbers: Whole) -> None:
        """Take in the rows that count, in order: whether each is silent, and its number in the file."""
        self.counted += len(silent)
        if not len(silent):
            return
        if not silent[0]:
            self._close()
        edges = np.flatnonzero(np.diff(np.concatenate(([0], silent.astype(np.int8), [0]))))
        starts, ends = edges[::2], edges[1::2]
        if len(starts) > 2:  # of the runs that neither begin nor end with the batch only the longest matters
            at = 1 + int(np.argmax(ends[1:-1] - starts[1:-1]))
            starts, ends = starts[[0, at, -1]], ends[[0, at, -1]]
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            self._extend(numbers[start:end])
            if end < len(silent):
                self._close()

    def rows(self) -> Whole:
        """The rows of the longest run, all of them with `is_keeping`, else at least its first ten."""
        self._close()
        return np.concatenate(self._kept) if self._kept else np.zeros(0, np.int64)

    def _extend(self, numbers: Whole) -> None:
        if self._is_keeping or not self._open:
            self._open.append((numbers if self._is_keeping else numbers[:_SHOWN]).copy())
        self._open_length += len(numbers)

    def _close(self) -> None:
        if self._open_length > self.length:
            self.length, self._kept = self._open_length, self._open
        self._open, self._open_length = [], 0


def silence(
    missing: Mask, conditions: Iterable[tuple[str, Mask]], *, step: int, least: float
) -> tuple[int, str] | None:
    """The longest run of nulls to allow, and among which rows it shows a fault soonest; None if it is no matter.

    Args:
        missing: in order of time, shape (n,); conditions: names and masks of rows; `step`: of so many
            rows one was taken; least: the least share of rows that a condition must hold for.
    """
    share = float(missing.mean()) if len(missing) else 0.0
    if len(missing) < _ROWS_MIN or not SILENT_SHARE <= share < 1:
        return None
    shortest = max(RUN_MIN, math.ceil(RUN_SHARE * len(missing) * step))
    best: tuple[float, int, str] | None = None
    for name, where in [("", np.ones(len(missing), bool)), *conditions]:
        covered = float(where.mean())
        if covered < least or (name and float(missing[where].mean()) > SPEAKS * share):
            continue
        limit = max(shortest, math.ceil(SLACK * _longest(missing[where]) * step))
        if best is None or limit / covered < best[0]:
            best = limit / covered, limit, name
    return None if best is None else best[1:]


@frozen
class Usual:
    """Values that come back all the time, the share of rows of each, and how many rows a clump has."""

    values: tuple[float, ...]
    shares: tuple[float, ...]
    clump: float


def usual(values: Floats, *, is_sparse: bool, step: int) -> Usual | None:
    """What a number column usually says; None if that changes within the reference, or nothing comes back.

    Of a column that is mostly zero the other values are looked at, and of these the least ones in
    a row: seasons move the large ones.

    Args:
        values: in order of time, NaN for null, shape (n,); step: of so many rows one was taken.
    """
    is_told = np.isfinite(values) & ((values != 0) if is_sparse else True)
    told, places = values[is_told], np.flatnonzero(is_told)
    if len(told) < _ROWS_MIN:
        return None
    points, codes, counts = np.unique(told, return_inverse=True, return_counts=True)
    shares = counts / len(told)
    if is_sparse:
        kept = _first_in_a_row(shares)
    elif _restlessness(codes, places, shares, len(values)) <= _RESTLESS:
        kept = np.flatnonzero(shares >= _USUAL)
        kept = np.sort(kept[np.argsort(-shares[kept], kind="stable")][:_MOST])
    else:
        return None
    if len(points) < _PARTS - 1 or not len(kept):
        return None
    clump = _clump(codes, places, shares, kept, len(values))
    return Usual(
        values=tuple(float(points[at]) for at in kept),
        shares=tuple(round(float(shares[at]), 4) for at in kept),
        clump=round(1 + (clump - 1) * step, 1),
    )


def is_gone(shares: Sequence[float], known: int, rows: int, clump: float) -> bool:
    """Whether it is no chance that values of these shares are all absent, even were they half as usual as they were.

    Args:
        known: how many usual values there are, so that any set of them could have been the absent one.
    """
    chance = (1 - min(sum(shares), 1.0) / 2) ** (rows / max(clump, 1.0))
    return bool(shares) and chance < GONE / 2.0**known


def _first_in_a_row(shares: Floats) -> Whole:
    """The places of the least values up to the first one that is not usual."""
    few = np.flatnonzero(shares < _USUAL_SPARSE)
    return np.arange(min(int(few[0]) if len(few) else len(shares), _MOST))


def _restlessness(codes: Whole, places: Whole, shares: Floats, rows: int) -> float:
    """The greatest total variation between a part of the reference and the whole."""
    part = places * _PARTS // rows
    found = 0.0
    for number in range(_PARTS):
        mine = codes[part == number]
        if not len(mine):
            return 1.0
        found = max(found, float(np.abs(np.bincount(mine, minlength=len(shares)) / len(mine) - shares).sum()) / 2)
    return found


def _clump(codes: Whole, places: Whole, shares: Floats, kept: Whole, rows: int) -> float:
    """The design effect: the variance of counts between blocks by what independent rows would give."""
    block = places * _BLOCKS // rows
    sizes = np.bincount(block, minlength=_BLOCKS).astype(float)
    seen: Any = 0.0
    independent: Any = 0.0
    for at in kept:
        counts = np.bincount(block[codes == at], minlength=_BLOCKS)
        seen += np.square(counts - sizes * shares[at]).sum()
        independent += (sizes * shares[at] * (1 - shares[at])).sum()
    return max(float(seen / independent), 1.0) if independent > 0 else 1.0
