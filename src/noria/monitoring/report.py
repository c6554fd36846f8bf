"""`drift`: one window of requests against what the release in production was trained on.

An alert needs the same column to count in two windows running: one flag in one window is noted and
nothing more. With the false discovery rate that the budget of false alarms allows, the expected
number of false alerts is bounded, and the report says by how much.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.schema import Column
from noria.core.verb import verb
from noria.monitoring import records
from noria.monitoring.alerts import raise_alert, resolve
from noria.monitoring.compare import MIN_ROWS, ColumnDrift, alert_rate, compare, profiles_of, rate_for
from noria.monitoring.facts import DriftMeasured
from noria.monitoring.live import OTHER, live_release, the_model, window_of, window_with_requests
from noria.monitoring.profile import Profile, measured, values_of
from noria.monitoring.records import DriftRecord
from noria.monitoring.reference import PREDICTION, Reference, read
from noria.monitoring.window import Window, days_of, previous
from noria.registry.release import Release
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["ALERT", "DriftReport", "drift", "measure", "show"]

ALERT = "drift"


@frozen(kw_only=True)
class DriftReport:
    """The drift of one window. `drifted` names the columns that count, the prediction first.

    `persistent` counted in the window before, too: those raise the alert. `false_alerts_per_year`
    bounds the false ones; `note` says what could not be compared. `seq` is the fact's number.
    """

    model: str
    window: str
    start: str
    end: str
    rows: int
    reference: str
    source: str
    q: float
    false_alerts_per_year: float
    drifted: tuple[str, ...]
    persistent: tuple[str, ...]
    columns: tuple[ColumnDrift, ...]
    note: str
    report: str
    seq: int


@verb(permission="monitoring.measure")
def drift(ws: Workspace, model: str = "", window: str = "") -> DriftReport:
    """Compare a window of requests with the data that the live release was trained on.

    Args:
        model: the one that answers, where there is only one.
        window: such as 2013-02 or 2013-W05; by default the newest that has ended, or the one under way while that
            had no request.
    Raises: NotFound if nothing is live or the window has no request.
    Example: noria monitoring drift flights 2013-02
    """
    model = the_model(ws, model)
    bounds, table = window_with_requests(ws, model, window)
    return measure(ws, model, bounds, table)


def measure(ws: Workspace, model: str, window: Window, table: pa.Table) -> DriftReport:
    """The drift of a window whose requests are at hand; appends one fact unless it would say the same again."""
    release = live_release(ws, model)
    if not release.baseline:
        raise NotFound(f"{release.ref} has no reference to compare with", hint="noria run makes one with each release")
    if table.num_rows < MIN_ROWS:
        raise NotFound(
            f"{window.name} has {table.num_rows} answered requests, and {MIN_ROWS} are the least to compare",
            hint=f"noria monitoring drift {model} {OTHER}",
        )
    reference = read(ws.objects, release.baseline)
    monitor = ws.project.model(model).monitor
    days = days_of(monitor.window)
    q = rate_for(monitor.false_alarms, days)
    prediction, note = _prediction(reference, release, table)
    columns = compare(reference, profiles_of(reference, table), prediction, q=q)
    drifted = tuple(column.column for column in columns if column.drifted)
    document: dict[str, Any] = {
        "source": reference.source,
        "q": q,
        "false_alerts_per_year": alert_rate(q, days),
        "note": note,
        "columns": [dataclasses.asdict(column) for column in columns],
    }
    payload = DriftMeasured(
        model=model,
        window=window.name,
        start=window.start_text,
        end=window.end_text,
        rows=table.num_rows,
        reference=release.baseline,
        drifted=drifted,
        report=ws.objects.put_json(document),
    )
    _record(ws, payload, release)
    return show(ws, model, window.name)


def show(ws: Workspace, model: str, window: str) -> DriftReport:
    """The drift of a window as it was last measured. Raises: NotFound."""
    with ws.ledger.read() as tx:
        found = records.drift(tx, model, window)
        before = records.drift(tx, model, previous(window_of(ws, model, window)).name)
    if found is None:
        raise NotFound(f"the drift of {window} was not measured", hint=f"noria monitoring drift {model} {window}")
    document = ws.objects.get_json(found.report)
    return DriftReport(
        model=model,
        window=window,
        start=found.start,
        end=found.end,
        rows=found.rows,
        reference=found.reference,
        source=document["source"],
        q=document["q"],
        false_alerts_per_year=document["false_alerts_per_year"],
        drifted=found.drifted,
        persistent=_persistent(found, before),
        columns=tuple(ColumnDrift(**column) for column in document["columns"]),
        note=document["note"],
        report=found.report,
        seq=found.seq,
    )


def _prediction(reference: Reference, release: Release, table: pa.Table) -> tuple[Profile | None, str]:
    """The scores that the live release gave, as a profile; another release's scores are not comparable."""
    if reference.prediction is None:
        return None, "the release has no scores on unseen rows to compare predictions with"
    own = table.filter(pc.equal(table["rel"], release.release))
    if own.num_rows < MIN_ROWS:
        return None, f"{release.ref} gave {own.num_rows} of the {table.num_rows} answers: predictions are not compared"
    values = values_of(own["y"], Column(PREDICTION, "float64"))
    return measured(values, reference.prediction.profile.shape), ""


def _record(ws: Workspace, payload: DriftMeasured, release: Release) -> None:
    window = window_of(ws, payload.model, payload.window)
    with ws.ledger.transaction() as tx:
        known = records.drift(tx, payload.model, payload.window)
        if known is None or (known.report, known.rows) != (payload.report, payload.rows):
            tx.append(
                payload,
                inputs=[("reference", payload.reference), ("release", f"release/{payload.model}/{release.release}")],
                outputs=[("report", payload.report), ("drift", f"drift/{payload.model}/{payload.window}")],
            )
        measured_now = records.drift(tx, payload.model, payload.window)
        assert measured_now is not None, "the projection writes what was appended"
        persistent = _persistent(measured_now, records.drift(tx, payload.model, previous(window).name))
        if persistent:
            columns = ", ".join(persistent)
            raise_alert(
                tx,
                payload.model,
                ALERT,
                kind="drift",
                message=f"{columns} drifted in {payload.window} and in the window before",
                window=payload.window,
                inputs=[("drift", f"drift/{payload.model}/{payload.window}")],
            )
        else:
            resolve(tx, payload.model, ALERT, f"no column drifted in two windows running up to {payload.window}")


def _persistent(found: DriftRecord, before: DriftRecord | None) -> tuple[str, ...]:
    return () if before is None else tuple(column for column in found.drifted if column in before.drifted)
