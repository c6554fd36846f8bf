"""What the gates ask of a version beside its scores: whether production still looks as its training data, and what
it took to make it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from noria.core.clock import duration, utc_text
from noria.data.records import DatasetVersion
from noria.governance.policy import of as policy_of
from noria.loop import baseline
from noria.monitoring.compare import ColumnDrift, compare, profiles_of, rate_for
from noria.monitoring.live import as_of
from noria.monitoring.reference import Reference
from noria.monitoring.window import days_of
from noria.packaging.predictor import Predictor
from noria.pipeline import records as steps
from noria.registry import records as registry
from noria.registry.evidence import Differs, Known, Recent
from noria.registry.scored import HasRoles
from noria.serving import capture
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["known_of"]


def known_of(
    ws: Workspace, model: str, run: str, pins: Mapping[str, DatasetVersion], holdout: pd.DataFrame, roles: HasRoles
) -> Known:
    """What the gates may ask of a version that a run made from some data sets; without them the holdout stands in."""
    return Known(
        recent=functools.partial(_recent, ws, model, pins, holdout, roles),
        spent_s=functools.partial(_spent, ws, run),
    )


def _recent(
    ws: Workspace,
    model: str,
    pins: Mapping[str, DatasetVersion],
    holdout: pd.DataFrame,
    roles: HasRoles,
    predictor: Predictor,
) -> Recent:
    """The training data beside the requests of the rule's window, as monitoring would compare them."""
    with ws.ledger.read() as tx:
        live = registry.production(tx, model)
    if live is None:
        return Recent(is_live=False)
    config = policy_of(ws, model).config
    rule, monitor = config.gate.drift, config.monitor
    assert rule is not None, "the gate asks where there is a rule"
    length = duration(rule.window) if rule.window else timedelta(days=days_of(monitor.window))
    end = as_of(ws, model)
    if end is None:
        return Recent(is_live=True)
    end += timedelta(microseconds=1)  # a window is half open, and the newest request is of it
    start = end - length
    days = length / timedelta(days=1)
    reference = baseline.training(ws, predictor, pins, holdout, roles=roles, days=days)
    table = capture.predictions(ws, model, utc_text(start), utc_text(end))
    found = Recent(is_live=True, rows=table.num_rows, start=utc_text(start), end=utc_text(end), source=reference.source)
    if table.num_rows < rule.min_rows:
        return found
    columns = compare(reference, profiles_of(reference, table), None, q=rate_for(monitor.false_alarms, days))
    return Recent(
        is_live=True,
        rows=found.rows,
        start=found.start,
        end=found.end,
        source=found.source,
        compared=len(columns),
        differing=(*_differing(columns), *_left_out(reference, predictor)),
    )


def _differing(columns: list[ColumnDrift]) -> list[Differs]:
    """Those that drifted, and those of which nothing can be said: a gate may not take silence for a yes."""
    found = []
    for each in columns:
        if each.drifted:
            effect, floor = each.effect, each.floor
            if "values" not in each.reason:
                effect, floor = abs(each.nulls - each.nulls_before), each.null_floor
            found.append(Differs(column=each.column, effect=effect, floor=floor, reason=each.reason))
        elif each.effect is None and not _is_empty(each):
            found.append(Differs(column=each.column, effect=None, floor=None, reason=each.reason or "too few values"))
    return found


def _is_empty(each: ColumnDrift) -> bool:
    """Nothing but nulls, then and now."""
    return each.nulls == 1.0 and each.nulls_before == 1.0


def _left_out(reference: Reference, predictor: Predictor) -> list[Differs]:
    """Inputs that have no profile, such as bytes."""
    known = {each.column.name for each in reference.columns}
    return [
        Differs(column=each.name, effect=None, floor=None, reason=f"{each.type} cannot be compared")
        for each in predictor.signature.inputs
        if each.name not in known
    ]


def _spent(ws: Workspace, run: str) -> float:
    """Processor seconds of the steps of a run, of a cached one those of its entry; NaN if any is not on record."""
    with ws.ledger.read() as tx:
        taken = steps.steps(tx, run) if run else []
        entries = steps.entries(tx, [each.key for each in taken if each.status == "cached" and each.key])
    total = 0.0
    for each in taken:
        if each.status == "cached":
            made = [entry.cpu_seconds for entry in entries.get(each.key, ())]
            total += max(made, default=math.nan)
        elif each.status == "done":
            total += each.cpu_seconds
    return total if taken else math.nan
