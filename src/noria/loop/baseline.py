"""The monitor's reference of a new release: profiles of the rows it learned from, and of its scores on the holdout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from noria.core.identity import Digest
from noria.core.lazy import lazy
from noria.data.records import DatasetVersion
from noria.data.rows import read
from noria.monitoring import reference
from noria.monitoring.window import days_of
from noria.packaging.predictor import Predictor
from noria.registry.scored import HasRoles
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
else:
    np, pd, pa = lazy("numpy"), lazy("pandas"), lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["make", "training"]


def make(
    ws: Workspace,
    predictor: Predictor,
    pins: Mapping[str, DatasetVersion],
    holdout: pd.DataFrame,
    *,
    roles: HasRoles,
    model: str,
) -> Digest:
    """Store the reference of a model: its training data as pinned, and its scores on rows it had not seen.

    The pinned data set that holds most of the model's inputs is the reference; if a step made the
    inputs and no data set holds them, the holdout stands for it.
    """
    days = days_of(ws.project.model(model).monitor.window)
    made = training(ws, predictor, pins, holdout, roles=roles, days=days)
    scores = predictor.predict(holdout)
    prediction = reference.prediction_column(scores, _times(holdout, roles.time))
    whole = reference.Reference(made.source, made.rows, made.windows, made.columns, prediction)
    return reference.write(ws.objects, whole)


def training(
    ws: Workspace,
    predictor: Predictor,
    pins: Mapping[str, DatasetVersion],
    holdout: pd.DataFrame,
    *,
    roles: HasRoles,
    days: float,
) -> reference.Reference:
    """What a model learned from, in windows of so many days: the data set with its inputs, or the holdout."""
    inputs = predictor.signature.inputs
    wanted = {column.name for column in inputs}
    best = max(pins.values(), key=lambda version: len(wanted & set(version.column_names())), default=None)
    if best is not None and wanted <= set(best.column_names()):
        names = [*wanted, *([best.time] if best.time and best.time not in wanted else [])]
        table = read.table(ws, best, columns=names)
        time = _micros(table[best.time]) if best.time else None
        return reference.build(table, inputs, source=best.ref, time=time, days=days)
    table = pa.Table.from_pandas(holdout[[name for name in holdout.columns if name in wanted]], preserve_index=False)
    return reference.build(table, inputs, source="the holdout", time=_times(holdout, roles.time), days=days)


def _times(frame: pd.DataFrame, column: str) -> Any:
    if not column or column not in frame.columns:
        return None
    return _micros(pa.chunked_array([pa.Array.from_pandas(frame[column])]))


def _micros(values: Any) -> Any:
    """Times as µs; rows without one count with the first. None for what is no time."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = pc.cast(values, pa.timestamp("us", tz="UTC"))
    elif pa.types.is_date(kind):
        values = pc.cast(values, pa.timestamp("us"))
    elif not pa.types.is_timestamp(kind):
        return None
    micros = pc.cast(pc.cast(values, pa.timestamp("us", tz=values.type.tz), safe=False), pa.int64())
    first = pc.min(micros).as_py()
    return None if first is None else np.asarray(pc.fill_null(micros, first).to_numpy(), dtype=np.int64)
