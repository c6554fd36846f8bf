"""A bundle ready to answer: rows in, scores out, checked and fast.

The model of a bundle is asked in one of two ways that give the same numbers. *Plain*: the rows
become a frame with the dtypes of training, and the library's own predict runs on it. *Direct*:
the flavor skips what the library would only re-check and re-encode per call. Direct is used only
after it gave the plain scores (to 1e-12) on the bundle's own golden rows, with nulls and unseen
levels put in; `engine` says which one answers.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.errors import ModelFailed, NoriaError
from noria.core.lazy import lazy
from noria.core.schema import Signature
from noria.packaging.flavor import Bundle, Direct, Flavor
from noria.packaging.requires import Difference
from noria.packaging.rows import Columns, Field, RowRefused, Rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
else:
    np = lazy("numpy")
threadpoolctl = lazy("threadpoolctl")

__all__ = ["PARITY", "Predictor", "trials"]

PARITY = 1e-12
"""How far a direct score may be from the plain one."""
UNSEEN = "unseen in training"


class Predictor:
    """A loaded model behind its signature. Thread safe if the model's predict is (scikit-learn's are).

    Args:
        threads: limit of the numeric libraries' threads in each thread that asks; 0 leaves them alone.
        differences: what of the environment is not as it was when the model was made.
    """

    def __init__(
        self,
        bundle: Bundle,
        flavor: Flavor,
        model: object,
        *,
        threads: int = 0,
        differences: tuple[Difference, ...] = (),
    ) -> None:
        self.bundle = bundle
        self.differences = differences
        self.task = bundle.task
        self.labels = bundle.labels
        self.threshold = bundle.threshold
        self.rows = Rows(bundle.fields)
        self.signature: Signature = self.rows.signature
        self._flavor = flavor
        self._model = model
        self._threads = threads
        self._local = threading.local()
        self._direct: Direct | None = self._proved(flavor.direct(model, bundle.fields))

    @property
    def engine(self) -> str:
        """ "direct" or "plain": who answers `predict` of rows."""
        return "plain" if self._direct is None else "direct"

    @property
    def confinement(self) -> str:
        """What holds for the process that answers, if it is one of its own; "" if it is this one."""
        return str(getattr(self._model, "confinement", "")) if self._flavor.runs_code else ""

    @property
    def model(self) -> object:
        """The library's own model object, as it was loaded; a stand-in if it is in a process of its own."""
        return self._model

    def check(self, row: Mapping[str, Any]) -> None:
        """Refuse a row that does not fit the signature. Raises: RowRefused with its `column`."""
        self.rows.check(row)

    def frame(self, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """Checked rows as a frame with the exact dtypes of training. Raises: RowRefused."""
        return self.rows.frame(self.rows.columns(rows))

    def predict(
        self, data: pd.DataFrame | Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]
    ) -> npt.NDArray[np.float64]:
        """The scores, shape (n_rows,): the positive class's probability, or the value of a regression.

        `data` is a frame (its other columns are ignored), rows, or columns by name. The scores are
        what the model gave, even if not finite: who asks decides. Rows are the fastest form.
        Raises: RowRefused for data that does not fit; ModelFailed if the model raises.
        """
        self._limit()
        if isinstance(data, Mapping):
            data = _rows_of(data)
        if isinstance(data, Sequence):
            columns = self.rows.columns(data)
            if self._direct is not None and len(data):
                return self._shaped(self._call(self._direct, columns), len(data))
            return self._plain(self.rows.frame(columns))
        return self._plain(self.rows.conformed(data))

    def label(self, score: float) -> object:
        """The label that a score stands for: the positive one at or above the threshold; a regression's own value."""
        if self.task != "binary":
            return score
        return self.labels[1] if score >= self.threshold else self.labels[0]

    def _plain(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        if not len(frame):
            return np.empty(0, dtype=np.float64)
        return self._shaped(self._call(lambda data: self._flavor.predict(self._model, data), frame), len(frame))

    def _call(self, function: Any, data: pd.DataFrame | Columns) -> Any:
        try:
            return function(data)
        except NoriaError:
            raise
        except Exception as error:
            raise ModelFailed(
                f"the model raised {type(error).__name__} on rows that fit its signature", where=self._flavor.name
            ) from error

    def _shaped(self, scores: Any, count: int) -> npt.NDArray[np.float64]:
        found = np.asarray(scores, dtype=np.float64)
        if found.shape != (count,):
            raise ModelFailed(f"the model gave scores of shape {found.shape} for {count} rows")
        return found

    def _limit(self) -> None:
        """OpenMP keeps its limit per thread, so each thread that asks sets it once."""
        if self._threads and not getattr(self._local, "is_limited", False):
            if importlib.util.find_spec("threadpoolctl") is not None:
                threadpoolctl.threadpool_limits(limits=self._threads)
            self._local.is_limited = True

    def _proved(self, direct: Direct | None) -> Direct | None:
        """The direct way, if it gives the plain scores on every trial row; else None."""
        if direct is None:
            return None
        self._limit()
        rows = trials(self.bundle.fields, self.bundle.golden_rows)
        columns = self.rows.columns(rows)
        try:
            plain = self._plain(self.rows.frame(columns))
            quick = self._shaped(self._call(direct, columns), len(rows))
        except ModelFailed:
            return None  # nothing is proved of rows that the model fails on; the plain way says so when asked
        is_same = bool(np.allclose(plain, quick, rtol=0.0, atol=PARITY, equal_nan=True))
        return direct if is_same else None


def trials(fields: Sequence[Field], golden: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The golden rows, and for each column that may be null or unseen a row that makes it so."""
    rows = [dict(row) for row in golden]
    for index, field in enumerate(fields):
        template = golden[index % len(golden)]
        if field.column.nullable:
            rows.append({**template, field.name: None})
        if field.column.type in ("text", "category") and not field.strict and _takes_text(field):
            rows.append({**template, field.name: UNSEEN})
    return rows


def _takes_text(field: Field) -> bool:
    return all(isinstance(level, str) for level in field.levels)


def _rows_of(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise RowRefused(f"the columns have different lengths: {', '.join(map(str, sorted(lengths)))}")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
