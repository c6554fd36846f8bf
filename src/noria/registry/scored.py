"""A holdout with its labels as numbers and a model's scores: what every judgement starts from."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.packaging.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Array: TypeAlias = npt.NDArray[np.float64]
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = [
    "HasRoles",
    "Labelled",
    "Sample",
    "hours_of",
    "labelled",
    "numbers_of",
    "read_scores",
    "score",
    "write_scores",
]


class HasRoles(Protocol):
    """What the columns of a data set are; empty where there is none."""

    @property
    def key(self) -> str:
        """The row key."""
        ...

    @property
    def time(self) -> str:
        """The event time."""
        ...

    @property
    def label(self) -> str:
        """The outcome."""
        ...


@frozen
class Labelled:
    """The rows of a holdout that have a label, `y` as float64 (n_rows,), and how many had none."""

    rows: pd.DataFrame
    y: Array
    unlabelled: int


@frozen
class Sample:
    """Rows, labels and one model's scores and threshold; all of the same length."""

    rows: pd.DataFrame
    y: Array
    score: Array
    threshold: float
    task: str
    unlabelled: int = 0


def labelled(frame: pd.DataFrame, label: str, labels: Sequence[Any]) -> Labelled:
    """The rows with a label; binary labels as 0 and 1.

    Args:
        labels: (negative, positive) as the model names them; empty for a regression.
    Raises: UsageError if there is no such column, or a label is neither of the two.
    """
    if not label:
        raise UsageError("no label column is known for the holdout", hint='nr.dataset(…, label="COLUMN") names it')
    if label not in frame.columns:
        raise UsageError(f"the holdout has no label column {label}")
    known = frame[label].notna().to_numpy()
    rows = frame if known.all() else frame[known]
    return Labelled(rows, numbers_of(rows[label].tolist(), labels), int((~known).sum()))


def numbers_of(values: Sequence[Any], labels: Sequence[Any]) -> Array:
    """Labels as float64: 0 and 1 for (negative, positive), else the numbers themselves.

    True, 1 and 1.0 are the same label. Raises: UsageError for a value that is none.
    """
    if not labels:
        try:
            return np.array(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError("the label of a regression must be a number in every row") from error
    table = {labels[0]: 0.0, labels[1]: 1.0}
    found = np.array([table.get(value, math.nan) for value in values], dtype=np.float64)
    if np.isnan(found).any():
        count = int(np.isnan(found).sum())
        raise UsageError(
            f"{count} of {len(values)} labels are neither {labels[0]!r} nor {labels[1]!r}, as the model knows them"
        )
    return found


def hours_of(rows: pd.DataFrame, time: str) -> npt.NDArray[np.int64] | None:
    """The hour of each row as a code, for tests that take rows of one hour as dependent; None without a time.

    Raises: UsageError if the time column does not hold times.
    """
    if not time or time not in rows.columns:
        return None
    try:
        moments = pd.to_datetime(rows[time], utc=True)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the time column {time} of the holdout does not hold times") from error
    codes, _ = pd.factorize(moments.dt.floor("h"))
    return np.asarray(codes, dtype=np.int64)


def score(predictor: Predictor, frame: pd.DataFrame, label: str) -> Sample:
    """The model's scores of the labelled rows of a frame. Raises: UsageError, ModelFailed."""
    found = labelled(frame, label, predictor.labels)
    return Sample(
        rows=found.rows,
        y=found.y,
        score=predictor.predict(found.rows),
        threshold=predictor.threshold,
        task=predictor.task,
        unlabelled=found.unlabelled,
    )


def write_scores(scores: Array) -> bytes:
    """Scores as an object: what a version gave on each labelled row of its holdout, in the order of the rows."""
    target = io.BytesIO()
    np.save(target, np.asarray(scores, dtype="<f8"), allow_pickle=False)
    return target.getvalue()


def read_scores(content: bytes) -> Array:
    """The scores of `write_scores`, shape (n_rows,)."""
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False), dtype=np.float64)
