"""Alerts: something needs eyes. One stands per name until what raised it is over; nothing is raised twice."""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.fact import Edge
from noria.core.verb import verb
from noria.monitoring import records
from noria.monitoring.facts import AlertRaised, AlertResolved
from noria.monitoring.records import AlertRecord
from noria.store.ledger import Transaction
from noria.store.workspace import Workspace

__all__ = ["list_alerts", "raise_alert", "resolve"]


def raise_alert(
    tx: Transaction,
    model: str,
    name: str,
    *,
    kind: str,
    message: str,
    severity: str = "warning",
    window: str = "",
    inputs: Sequence[Edge] = (),
) -> bool:
    """Raise an alert unless it stands already with the same message; gives whether a fact was appended."""
    standing = records.alert(tx, model, name)
    if standing is not None and standing.is_open and standing.message == message:
        return False
    payload = AlertRaised(model=model, alert=name, kind=kind, severity=severity, message=message, window=window)
    tx.append(payload, inputs=inputs)
    return True


def resolve(tx: Transaction, model: str, name: str, reason: str) -> bool:
    """Resolve an alert if it stands; gives whether a fact was appended."""
    standing = records.alert(tx, model, name)
    if standing is None or not standing.is_open:
        return False
    tx.append(AlertResolved(model=model, alert=name, reason=reason))
    return True


@verb(permission="monitoring.read", changes=False, name="alerts")
def list_alerts(ws: Workspace, model: str = "", *, every: bool = False) -> list[AlertRecord]:
    """Alerts that stand, newest first; with `every` also those that are over.

    Example: noria monitoring alerts
    """
    with ws.ledger.read() as tx:
        return records.alerts(tx, model, every=every)


@verb(permission="monitoring.acknowledge", name="resolve")
def acknowledge(ws: Workspace, model: str, alert: str, reason: str) -> bool:
    """Say that an alert is over, and why.

    Example: noria monitoring resolve flights drift "the new terminal opened"
    """
    with ws.ledger.transaction() as tx:
        return resolve(tx, model, alert, reason)
