"""Taking over a registry: models, versions under the numbers that they have, stages, tags and aliases.

What a model here is bound to by rules stays bound: an alias or a stage that its gates would refuse is left out
and told. A version that is another one here is left as it is.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence

from noria.catalog import records as catalog
from noria.catalog.takeover.documents import RegisteredDoc, VersionDoc, made
from noria.catalog.takeover.facts import OriginNoted
from noria.catalog.takeover.intake import Intake, note_origin
from noria.core.errors import GateClosed
from noria.experiments import records as runs
from noria.registry import champions
from noria.registry import records as registry
from noria.registry.facts import AliasMoved, ModelFiled, ModelTagged, VersionFiled, VersionStaged
from noria.registry.kept import NO_STAGE
from noria.store.ledger import Reader, Transaction

__all__ = ["take_registered"]


def take_registered(intake: Intake, doc: RegisteredDoc, versions: Sequence[VersionDoc]) -> None:
    """Bring a registered model with its versions in, and say where it differs."""
    tally = intake.tally
    refused: list[tuple[str, str, str]] = []
    with intake.ws.ledger.read() as tx:
        is_whole = not _lacks(intake, tx, doc, versions)
    if not is_whole:
        intake.begin()
        with intake.ws.ledger.transaction() as tx:
            refused = _add(intake, tx, doc, versions)
    tally.seen["registered model"] += 1
    tally.seen["version"] += len(versions)
    tally.seen["alias"] += len(doc.aliases)
    with intake.ws.ledger.read() as tx:
        here = intake.ours.named(tx, doc.name)
    if here is None:
        tally.differ("registered model", doc.name, "is not here")
        return
    why = {(kind, name): reason for kind, name, reason in refused}
    tally.compare("registered model", doc.name, doc, here[0], but=["aliases"])
    for alias in sorted({*doc.aliases, *here[0].aliases}):
        before, now = doc.aliases.get(alias), here[0].aliases.get(alias)
        if before != now:
            what = why.get(("alias", alias), f"version {before} there, {now} here")
            tally.differ("alias", f"{doc.name}@{alias}", what)
    own = {each.number: each for each in here[1]}
    for each in versions:
        name = f"{doc.name}:{each.number}"
        reason = why.get(("version", name), "")
        if reason:
            tally.differ("version", name, reason)
        tally.compare("version", name, each, own.get(each.number), but=["storage", "stage"] if reason else ["storage"])
        if not _is_held(intake, own.get(each.number, each)):
            tally.notes.setdefault(f"the files of {name} are kept elsewhere: {(each.storage or each.source)[:200]}")
    for number in sorted(own.keys() - {each.number for each in versions}):
        tally.differ("version", f"{doc.name}:{number}", "is not there")


def _lacks(intake: Intake, tx: Reader, doc: RegisteredDoc, versions: Sequence[VersionDoc]) -> bool:
    """Whether something of it is not here yet that could be."""
    here = intake.ours.named(tx, doc.name)
    if here is None:
        return True
    own = {each.number: each for each in here[1]}
    is_newer = (doc.created_ms, doc.updated_ms) != (here[0].created_ms, here[0].updated_ms)
    if is_newer or doc.tags.keys() - here[0].tags.keys() or doc.aliases.keys() - here[0].aliases.keys():
        return True
    return any(each.number not in own or _said(each) != _said(own[each.number]) for each in versions)


def _said(doc: VersionDoc) -> tuple[object, ...]:
    return doc.created_ms, doc.updated_ms, doc.user, doc.status, doc.message, frozenset(doc.tags)


def _add(
    intake: Intake, tx: Transaction, doc: RegisteredDoc, versions: Sequence[VersionDoc]
) -> list[tuple[str, str, str]]:
    here = intake.ours.named(tx, doc.name)
    known = {each.number: each for each in here[1]} if here else {}
    if here is None:
        tx.append(ModelFiled(model=doc.name, description=doc.description), inputs=[("import", intake.ref)])
        intake.tally.new["registered model"] += 1
    for key, value in doc.tags.items():
        if here is None or key not in here[0].tags:
            tx.append(ModelTagged(model=doc.name, key=key, value=value))
    refused: list[tuple[str, str, str]] = []
    taken: set[int] = set()
    for each in versions:
        if each.number not in known:
            _file(intake, tx, each)
        elif not _is_same(each, known[each.number]):
            refused.append(("version", f"{doc.name}:{each.number}", "is another version here: it is left as it is"))
            continue
        taken.add(each.number)
        refused += _stage_and_tag(intake, tx, each, known.get(each.number))
    for alias, number in doc.aliases.items():
        if (here is None or alias not in here[0].aliases) and number in taken:
            refused += _point(intake, tx, doc.name, alias, number)
    origin = OriginNoted(of=f"model/{doc.name}", place=made(doc), created_ms=doc.created_ms, updated_ms=doc.updated_ms)
    note_origin(tx, origin, intake.ref)  # last: it says when the model was changed
    return refused


def _is_same(there: VersionDoc, here: VersionDoc) -> bool:
    return (there.source, there.run) == (here.source, here.run)


def _file(intake: Intake, tx: Transaction, each: VersionDoc) -> None:
    edges = [("import", intake.ref), *([("run", f"run/{each.run}")] if each.run else [])]
    logged = each.source.removeprefix("models:/") if each.source.startswith("models:/m-") else ""
    if logged:
        edges.append(("model", f"logged-model/{logged}"))
    tx.append(
        VersionFiled(
            model=each.model,
            version=each.number,
            source=each.source,
            storage=_place(tx, each.storage or each.source),
            run=each.run,
            run_link=each.run_link,
            description=each.description,
        ),
        inputs=edges,
        outputs=[("version", f"model/{each.model}:{each.number}")],
    )
    intake.tally.new["version"] += 1


def _stage_and_tag(
    intake: Intake, tx: Transaction, each: VersionDoc, here: VersionDoc | None
) -> list[tuple[str, str, str]]:
    name = f"{each.model}:{each.number}"
    refused = []
    for key, value in each.tags.items():
        if here is None or key not in here.tags:
            tx.append(ModelTagged(model=each.model, key=key, value=value, version=each.number))
    if here is None and each.stage != NO_STAGE:
        found = registry.version(tx, each.model, each.number)
        assert found is not None, "it was filed in this transaction"
        try:
            champions.require_allowed(intake.ws, tx, found, each.stage)
            tx.append(
                VersionStaged(model=each.model, version=each.number, stage=each.stage, before=NO_STAGE),
                inputs=[("version", f"model/{name}")],
            )
        except GateClosed as error:
            refused.append(("version", name, f"stage {each.stage} is left out: {error.message}"))
    details = {
        key: value
        for key, value in (
            ("user", each.user),
            ("storage", each.storage),
            ("status", each.status),
            ("message", each.message),
        )
        if value
    }
    said = OriginNoted(
        of=f"model/{name}", place=made(each), created_ms=each.created_ms, updated_ms=each.updated_ms, details=details
    )
    note_origin(tx, said, intake.ref)
    return refused


def _point(intake: Intake, tx: Transaction, model: str, alias: str, number: int) -> list[tuple[str, str, str]]:
    found = registry.version(tx, model, number)
    assert found is not None, "it is here, or was filed in this transaction"
    try:
        champions.require_allowed(intake.ws, tx, found, alias)
    except GateClosed as error:
        return [("alias", alias, f"is left out: {error.message}")]
    tx.append(
        AliasMoved(model=model, alias=alias, version=number, reason=f"taken over from {intake.store.address}"),
        inputs=[("version", f"model/{found.ref}"), ("import", intake.ref)],
    )
    intake.tally.new["alias"] += 1
    return []


def _place(tx: Reader, storage: str) -> str:
    """Where the files are here, if they are those of a run or a logged model that is; else where they were."""
    path = urllib.parse.unquote(urllib.parse.urlparse(storage).path)
    parts = path.strip("/").split("/")
    if storage.startswith(("models:/", "runs:/")):
        return storage
    for index, part in enumerate(parts):
        if part != "artifacts" or not index:
            continue
        owner, inside = parts[index - 1], parts[index + 1 :]
        logged = catalog.logged_head(tx, owner) if owner.startswith("m-") else None
        if logged is not None:
            return "/".join([f"mlflow-artifacts:/{logged.experiment}/models/{owner}/artifacts", *inside])
        run = runs.run(tx, owner)
        experiment = catalog.by_name(tx, run.experiment) if run is not None else None
        if experiment is not None:
            return "/".join([f"mlflow-artifacts:/{experiment.experiment}/{owner}/artifacts", *inside])
    return storage


def _is_held(intake: Intake, here: VersionDoc) -> bool:
    """Whether the files of a version are kept here."""
    with intake.ws.ledger.read() as tx:
        found = registry.version(tx, here.model, here.number)
        if found is None:
            return False
        place = found.storage or found.source
        if place.startswith("models:/m-"):
            return catalog.logged_head(tx, place.removeprefix("models:/").partition("/")[0]) is not None
        if place.startswith("runs:/"):
            return runs.run(tx, place.removeprefix("runs:/").partition("/")[0]) is not None
        return place.startswith("mlflow-artifacts:/")
