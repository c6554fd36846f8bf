"""Which run a name means: a run by its id, or the run behind a model, a version or a release."""

from __future__ import annotations

import re

from noria.core.errors import NotFound
from noria.registry import records as registry
from noria.registry import versions
from noria.registry.records import VersionRecord
from noria.store.workspace import Workspace
from noria.tracking import run as tracking
from noria.tracking.records import RunRecord

__all__ = ["named_run"]

_RELEASE = re.compile(r"(?:release/)?(?P<model>[^/@:\s]+)(?:/|@r)(?P<number>\d{1,18})")


def named_run(ws: Workspace, ref: str) -> tuple[RunRecord, VersionRecord | None]:
    """The run that a ref means, and the model version if it named one.

    Args:
        ref: a run (whole, or the first or last characters of its id; "" or "last" for the newest), a
            model (`churn`: what is live, else the newest version), `churn:14`, `churn@champion`,
            `churn@r3` or `release/churn/3`.
    Raises: NotFound; UsageError if it fits several runs.
    """
    version = _version(ws, ref.removeprefix("model/"))
    run = tracking.resolve(ws, version.run if version is not None else ref)
    return run, version


def _version(ws: Workspace, ref: str) -> VersionRecord | None:
    """The model version that a ref names; None if it names no model."""
    with ws.ledger.read() as tx:
        if match := _RELEASE.fullmatch(ref):
            found = registry.release(tx, match["model"], int(match["number"]))
            if found is None:
                raise NotFound(f"there is no release {ref}", hint=f"noria registry releases {match['model']}")
            return registry.version(tx, match["model"], found.version)
        if ":" in ref or "@" in ref:
            return versions.resolve(tx, ref)
        if ref not in registry.models(tx):
            return None
        live = registry.production(tx, ref)
        return registry.version(tx, ref, live.version if live is not None else 0)
