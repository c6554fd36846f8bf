"""What stands on each side of a comparison: a run, the model version that it made, and what its gates measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.errors import NotFound, WorldError
from noria.core.frozen import frozen
from noria.registry import records as registry
from noria.registry.export import document_of
from noria.registry.kept import VersionRecord
from noria.store.ledger import Reader
from noria.store.workspace import Workspace
from noria.tracking import records as tracking
from noria.tracking.records import RunRecord

__all__ = ["Side", "of_runs", "of_version"]


@frozen(kw_only=True)
class Side:
    """One of two: its run (None if it is unknown here), and its version with the newest evaluation (empty without one).

    `why` says why there is no version. `is_gone` says that an evaluation is on record whose object is not there.
    """

    ref: str
    run: RunRecord | None
    version: VersionRecord | None = None
    document: Mapping[str, Any] | None = None
    why: str = ""
    is_gone: bool = False

    @property
    def name(self) -> str:
        """What a sentence calls it: the version if there is one."""
        return self.ref if self.version is None else self.version.ref

    @property
    def measured_on(self) -> str:
        """What its gates measured it on: the digest of an object, a data set version, or words; "" if nothing."""
        told = {} if self.document is None else self.document["data"]
        return str(told.get("object") or told.get("holdout") or "")


def of_version(ws: Workspace, ref: str, version: VersionRecord) -> Side:
    """The side of a version, with the run that made it."""
    with ws.ledger.read() as tx:
        run = tracking.run(tx, version.run) if version.run else None
        judged = [each for each in registry.judgements(tx, version.model, version.version) if each.report]
    document, is_gone = None, False
    try:
        if judged:
            document = ws.objects.get_json(document_of(ws, version, max(each.seq for each in judged)))
    except (NotFound, WorldError):
        is_gone = True  # told as a note: what was measured then cannot be shown
    return Side(ref=ref, run=run, version=version, document=document, is_gone=is_gone)


def of_runs(ws: Workspace, a: RunRecord, b: RunRecord) -> tuple[Side, Side]:
    """The sides of two runs: with the versions of a model that both made, or of the one that each made."""
    with ws.ledger.read() as tx:
        made = [_made(tx, run) for run in (a, b)]
    shared = [name for name in made[0] if name in made[1]]
    if shared:
        chosen: Sequence[str] = (shared[0], shared[0])
    elif all(len(each) == 1 for each in made):
        chosen = (next(iter(made[0])), next(iter(made[1])))
    else:
        return (_bare(a, made[0], made[1]), _bare(b, made[1], made[0]))
    first, second = (of_version(ws, run.run, each[name]) for run, each, name in zip((a, b), made, chosen, strict=True))
    return _as_run(first, a), _as_run(second, b)


def _as_run(side: Side, run: RunRecord) -> Side:
    """The side of the run that was asked for: of equal bytes there is one version, which another run may have made."""
    return Side(ref=run.run, run=run, version=side.version, document=side.document, is_gone=side.is_gone)


def _bare(run: RunRecord, own: Mapping[str, VersionRecord], others: Mapping[str, VersionRecord]) -> Side:
    if not own:
        why = f"{run.run} made no model version that is on record"
    elif not others:
        why = ""  # the other side says it
    else:
        why = f"{run.run} made {', '.join(sorted(own))}, and the other run made {', '.join(sorted(others))}"
    return Side(ref=run.run, run=run, why=why)


def _made(tx: Reader, run: RunRecord) -> dict[str, VersionRecord]:
    """The newest version of each model that a run made, or made again to the byte."""
    bundles = [each.digest for each in tracking.artifacts(tx, run.run) if each.type == "bundle"]
    found: dict[str, VersionRecord] = {}
    for model in registry.models(tx):
        own = registry.versions(tx, model, run=run.run)
        same = [each for digest in bundles if (each := registry.version_of_bundle(tx, model, digest)) is not None]
        for each in (*own, *same):
            if model not in found or each.version > found[model].version:
                found[model] = each
    return found
