"""Why a row got its score: what each column adds to the mean score of a stated background, summing to the score.

Shapley values of the game in which a column that is out takes its value from a row of the background. They need only
answers of the model, so one method serves every flavor, and they are additive by construction: the parts sum to the
score minus the mean score of the background. Methods of trees or networks are faster and differ between libraries;
removing one column at a time is cheaper still, and does not add up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.packaging.predictor import Predictor
from noria.registry.asking import Asked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.float64]
    Places: TypeAlias = npt.NDArray[np.int64]
else:
    np = lazy("numpy")

__all__ = ["Attribution", "Part", "attribute"]

EXACT_COLUMNS = 8
"""Up to so many columns every subset of them is asked about: 256 times the background."""
ASKED_MAX = 20_000
"""Rows that the model is asked about for one attribution, if that gives at least two walks each way."""
PAIRS = (2, 8)
COLUMNS_MAX = 1_000


@frozen(kw_only=True)
class Part:
    """What one column adds to the score, and the standard error of sampling (0: exact)."""

    column: str
    value: Any
    adds: float
    error: float


@frozen(kw_only=True)
class Attribution:
    """A score taken apart: `base` is the mean score of `background` rows, and base plus every part is `score`.

    Parts are in the order of their weight. `asked` is how many rows the model was asked about.
    """

    score: float
    base: float
    background: int
    asked: int
    is_exact: bool
    parts: tuple[Part, ...]


def attribute(
    predictor: Predictor, row: Mapping[str, Any], background: Sequence[Mapping[str, Any]], *, seed: int = 0
) -> Attribution:
    """Shapley values of the score of a row against background rows; deterministic for the same arguments.

    Up to eight columns exactly, over all subsets. Beyond, by walks: from a background row to the row asked about, one
    column after the other in a random order and in its reverse; each walk telescopes, so their mean is additive.

    Args:
        row: as a request gives it.
        background: rows of the same kind; where there are many columns, an even selection of them is used.
    Raises: RowRefused if the row does not fit; ModelFailed; UsageError for too many columns or a score that is not
        finite.
    Source: Shapley (1953); Štrumbelj & Kononenko (2014), Knowledge and Information Systems 41; reversed walks:
        Mitchell, Cooper, Frank, Holmes (2022), JMLR 23(43). What is out is drawn from the background whatever the rest
        is (Janzing, Minorics, Blöbaum 2020, AISTATS): it explains the model, not the world.
    """
    columns = len(predictor.rows.fields)
    if not columns or not background:
        raise UsageError("an attribution needs a column and a row to compare with")
    if columns > COLUMNS_MAX:
        raise UsageError(f"the model takes {columns:,} columns; a score is taken apart for up to {COLUMNS_MAX:,}")
    rows, pairs = _size(columns, len(background))
    kept = [background[int(place)] for place in np.linspace(0, len(background) - 1, num=rows).round()]
    asked = Asked(predictor, predictor.frame([row, *kept]))
    plain = asked.scores(rows + 1, lambda name, low, high: np.arange(low, high))
    score, base = float(plain[0]), float(plain[1:].mean())
    is_exact = columns <= EXACT_COLUMNS
    adds, errors, count = _exact(asked, rows) if is_exact else _walked(asked, plain, rows, pairs, seed)
    parts = [
        Part(column=name, value=row[name], adds=float(adds[index]), error=float(errors[index]))
        for index, name in enumerate(asked.names)
    ]
    return Attribution(
        score=score,
        base=base,
        background=rows,
        asked=count + rows + 1,
        is_exact=is_exact,
        parts=tuple(sorted(parts, key=lambda part: -abs(part.adds))),
    )


def _size(columns: int, background: int) -> tuple[int, int]:
    """(rows of the background, pairs of walks for each of them) within `ASKED_MAX`, if that is enough for any."""
    if columns <= EXACT_COLUMNS:
        return min(background, ASKED_MAX // 2**columns), 0
    least, most = PAIRS
    rows = max(min(background, ASKED_MAX // (2 * columns * least)), min(background, 8))
    return rows, max(least, min(most, ASKED_MAX // (2 * columns * rows)))


def _exact(asked: Asked, rows: int) -> tuple[Array, Array, int]:
    """Over every subset of the columns: the weighted mean of what a column adds to each subset without it."""
    columns = len(asked.names)
    subsets, count = np.arange(2**columns), rows * 2**columns

    def place_of(name: str, low: int, high: int) -> Places:
        at = np.arange(low, high)
        is_in = (at // rows >> asked.names.index(name)) & 1
        return np.where(is_in == 1, 0, at % rows + 1)

    worth = asked.scores(count, place_of).reshape(len(subsets), rows).mean(axis=1)
    sizes = np.array([int(subset).bit_count() for subset in subsets])
    adds = np.empty(columns)
    for column in range(columns):
        without = subsets[(subsets >> column) & 1 == 0]
        weights = np.array([1 / (columns * math.comb(columns - 1, int(size))) for size in sizes[without]])
        adds[column] = np.sum(weights * (worth[without | (1 << column)] - worth[without]))
    return adds, np.zeros(columns), count


def _walked(asked: Asked, plain: Array, rows: int, pairs: int, seed: int) -> tuple[Array, Array, int]:
    """By walks from each background row, in `pairs` of an order and its reverse; the error is that between pairs."""
    columns = len(asked.names)
    generator = np.random.default_rng(seed)
    order = generator.permuted(np.tile(np.arange(columns), (rows * pairs, 1)), axis=1)
    both = np.stack([order, order[:, ::-1]], axis=1).reshape(-1, columns)
    start = np.repeat(np.arange(1, rows + 1), 2 * pairs)
    turn = np.empty_like(both)
    np.put_along_axis(turn, both, np.arange(columns)[None, :], axis=1)
    count = len(both) * (columns - 1)

    def place_of(name: str, low: int, high: int) -> Places:
        at = np.arange(low, high)
        walk, step = at // (columns - 1), at % (columns - 1) + 1
        return np.where(turn[walk, asked.names.index(name)] < step, 0, start[walk])

    between = asked.scores(count, place_of).reshape(len(both), columns - 1)
    way = np.column_stack([plain[start], between, np.full(len(both), plain[0])])
    moves = np.empty((len(both), columns))
    np.put_along_axis(moves, both, np.diff(way, axis=1), axis=1)
    each = moves.reshape(rows, pairs, 2, columns).mean(axis=2)
    errors = np.sqrt((each.var(axis=1, ddof=1) / pairs).sum(axis=0)) / rows
    return each.mean(axis=(0, 1)), errors, count
