"""`quality`: what labels say of the scores that were served, and of what never changing would have served.

Labels come late and are corrected, so a window is measured again when more of them are there, and
every figure says how many of its rows are labelled. `live` is of the scores as they were answered,
whichever release gave them; `frozen` is the first release that was ever in production, asked the
same logged rows now.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from noria.core.clock import utc_text
from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.verb import verb
from noria.monitoring import labels as label_log
from noria.monitoring import records
from noria.monitoring.facts import Estimate, QualityMeasured
from noria.monitoring.live import OTHER, as_of, first_release, the_model, window_with_requests
from noria.monitoring.records import QualityRecord
from noria.monitoring.window import Window
from noria.packaging.bundle import Opened, loader
from noria.packaging.predictor import Predictor
from noria.registry.metrics import METRICS, measure
from noria.registry.scored import numbers_of
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Floats: TypeAlias = npt.NDArray[np.float64]
else:
    np, pa = lazy("numpy"), lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["BY_TASK", "entropy", "measured", "quality", "skill"]

BY_TASK: Mapping[str, tuple[str, ...]] = {"binary": ("auc", "log_loss"), "regression": ("rmse", "mae")}
"""What is measured of each window."""
BATCH_ROWS = 8192


@frozen(eq=False)
class _Scored:
    """The labelled rows of a window: labels, served scores, scores of the first release."""

    y: Floats
    live: Floats
    frozen: Floats


@verb(permission="monitoring.measure")
def quality(ws: Workspace, model: str = "", window: str = "") -> QualityRecord:
    """Measure the labelled quality of a window: live against the first release, with 95 % intervals.

    Args:
        model: the one that answers, where there is only one.
        window: such as 2013-02; by default the newest that has ended, or the one under way while that had no request.
    Raises: NotFound if the window has no answered request.
    Example: noria monitoring quality flights 2013-02
    """
    model = the_model(ws, model)
    bounds, table = window_with_requests(ws, model, window)
    return measured(ws, model, bounds, table, loader(ws))


def measured(ws: Workspace, model: str, window: Window, table: pa.Table, opened: Opened) -> QualityRecord:
    """The quality of a window whose requests are at hand; appends one fact unless nothing has changed.

    Args:
        opened: gives the predictor of a bundle.
    """
    if not table.num_rows:
        raise NotFound(f"{window.name} has no answered request", hint=f"noria monitoring quality {model} {OTHER}")
    first = first_release(ws, model)
    predictor = opened(first.bundle)
    found = _scored(ws, model, window, table, predictor, first.release)
    base = {"base_rate": _share(found.y)} if predictor.task == "binary" else {}
    moment = as_of(ws, model)
    payload = QualityMeasured(
        model=model,
        window=window.name,
        start=window.start_text,
        end=window.end_text,
        as_of=utc_text(moment) if moment else window.end_text,
        rows=table.num_rows,
        labelled=len(found.y),
        live={**_estimates(predictor.task, found.y, found.live), **base},
        frozen=_estimates(predictor.task, found.y, found.frozen),
    )
    with ws.ledger.transaction() as tx:
        known = records.quality(tx, model, window.name)
        is_new = known is None or (known.rows, known.labelled, dict(known.live), dict(known.frozen)) != (
            payload.rows,
            payload.labelled,
            dict(payload.live),
            dict(payload.frozen),
        )
        if is_new:
            tx.append(
                payload,
                inputs=[("frozen", first.bundle)],
                outputs=[("quality", f"quality/{model}/{window.name}")],
            )
        made = records.quality(tx, model, window.name)
    assert made is not None, "the projection writes what was appended"
    return made


def entropy(rate: float) -> float:
    """The log loss of always saying the base rate, in nats; 0 at rates 0 and 1."""
    if not 0 < rate < 1:
        return 0.0
    return -rate * math.log(rate) - (1 - rate) * math.log1p(-rate)


def skill(loss: float, rate: float) -> float:
    """The share of the base rate's log loss that a model saves: 1 perfect, 0 no better; NaN at one class."""
    whole = entropy(rate)
    return 1 - loss / whole if whole > 0 else math.nan


def _scored(ws: Workspace, model: str, window: Window, table: pa.Table, predictor: Predictor, first: int) -> _Scored:
    known = label_log.read(ws, model, since=window.start_text)
    places = label_log.joined(known, table["rid"], table["id"])
    rows = np.flatnonzero(places >= 0)
    found = label_log.values(known, places[rows])
    has_value = np.array([value is not None for value in found], dtype=bool)
    rows = rows[has_value]
    y = numbers_of([value for value in found if value is not None], predictor.labels)
    labelled = pc.take(table, rows)
    live = labelled["y"].to_numpy().astype(np.float64)
    return _Scored(y, live, _frozen(labelled, predictor, first, live))


def _frozen(labelled: pa.Table, predictor: Predictor, first: int, live: Floats) -> Floats:
    """The first release's scores: what it served where it answered, else what it says of the logged row now."""
    scores = live.copy()
    others = np.flatnonzero(labelled["rel"].to_numpy() != first)
    names = predictor.signature.input_names()
    for start in range(0, len(others), BATCH_ROWS):
        chosen = others[start : start + BATCH_ROWS]
        part = pc.take(labelled, chosen)
        columns = {name: part["x_" + name].to_pylist() for name in names if "x_" + name in part.column_names}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        scores[chosen] = predictor.predict(rows)
    return scores


def _estimates(task: str, y: Floats, scores: Floats) -> dict[str, Estimate]:
    found = {}
    for name in BY_TASK[task]:
        item = measure(METRICS[name], y, scores)
        found[name] = Estimate(value=item.value, low=item.low, high=item.high, n=item.n)
    return found


def _share(y: Floats) -> Estimate:
    """The share of positive labels, with its normal interval."""
    if not len(y):
        return Estimate(value=None, low=None, high=None, n=0)
    rate = float(y.mean())
    half = 1.96 * math.sqrt(rate * (1 - rate) / len(y))
    return Estimate(value=rate, low=max(0.0, rate - half), high=min(1.0, rate + half), n=len(y))
