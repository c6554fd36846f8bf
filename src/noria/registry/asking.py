"""A model asked about rows that are put together from others: what importance, dependence and attributions rest on.

No value is made up: each column of a row that is asked about is the column of some row that was there, with its dtype
of training, so categories, times and nulls are as the model knows them. What a model gives for combinations that do
not occur is what it gives; who reads the numbers must know that columns were moved apart from one another.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from noria.core.errors import UsageError
from noria.core.lazy import lazy
from noria.packaging.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Array: TypeAlias = npt.NDArray[np.float64]
    Places: TypeAlias = npt.NDArray[np.int64]
    PlaceOf: TypeAlias = Callable[[str, int, int], Places]
else:
    np, pd = lazy("numpy"), lazy("pandas")
threadpoolctl = lazy("threadpoolctl")

__all__ = ["Asked"]

CELLS_MAX = 2_000_000
"""Values of one call of the model, 16 MB of numbers: the rows are asked in as many calls as that takes."""


class Asked:
    """A predictor with the rows whose values it is asked about, as `frame` with the dtypes of training.

    Raises: RowRefused if the rows do not fit its signature.
    """

    def __init__(self, predictor: Predictor, rows: pd.DataFrame) -> None:
        self.frame = predictor.rows.conformed(rows)
        self.names = tuple(str(name) for name in self.frame.columns)
        self._predictor = predictor

    def scores(self, count: int, place_of: PlaceOf) -> Array:
        """The scores of `count` rows, shape (count,).

        Args:
            place_of: from which row of `frame` the rows asked about take a column, for (column, start, stop) of them.
        Raises: ModelFailed; UsageError if a score is not finite.
        """
        step = max(1, CELLS_MAX // max(len(self.names), 1))
        parts = []
        for start in range(0, count, step):
            stop = min(start + step, count)
            made = {name: self._taken(name, place_of(name, start, stop)) for name in self.names}
            with _one_thread():
                parts.append(self._predictor.predict(pd.DataFrame(made, copy=False)))
        found: Array = np.concatenate(parts) if parts else np.empty(0)
        broken = int((~np.isfinite(found)).sum())
        if broken:
            raise UsageError(f"{broken} of {count} scores of rows put together from others are not finite")
        return found

    def _taken(self, name: str, places: Places) -> object:
        values = self.frame[name]
        if isinstance(values.dtype, np.dtype):
            return values.to_numpy()[places]
        return values.array.take(places)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of OpenMP's, in this thread only, if that can be said.

    Each of 50 trees waits for all threads; where other work has the second core they spin, and 0.4 s of processor
    time became 1.2 s (2 busy cores, November 2026).
    """
    if importlib.util.find_spec("threadpoolctl") is None:
        yield
        return
    with threadpoolctl.threadpool_limits(limits=1, user_api="openmp"):
        yield
