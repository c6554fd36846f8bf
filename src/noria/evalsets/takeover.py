"""Taking evaluation data sets over from a tracking store of MLflow's, and giving them back.

A data set keeps its id, its records theirs, each with its times and who made and changed it. What is here already
is compared and left, so doing it again adds nothing, and one that was broken off is gone on with. This is the part
of a takeover that `catalog` does not know of (`plugins.py`, `takeover_part`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from noria.catalog import records as catalog
from noria.catalog.takeover.compare import Tally
from noria.catalog.takeover.documents import EvalRecordDoc, EvalsetDoc, Evalsets, EvalsetWriter, Store
from noria.catalog.takeover.facts import OriginNoted
from noria.catalog.takeover.intake import Intake, note_origin
from noria.catalog.takeover.sound import require_sound, telling, told
from noria.catalog.takeover.taking import batches
from noria.evalsets import keeping, merging, records
from noria.evalsets.facts import (
    EvalsetAssigned,
    EvalsetCreated,
    EvalsetTagged,
    EvalsetUntagged,
    RecordBody,
    RecordsMerged,
)
from noria.evalsets.records import USER
from noria.store.failpoint import failpoint
from noria.store.ledger import Reader, Transaction
from noria.store.workspace import Workspace

__all__ = ["compare", "take", "write"]

SET, RECORD = "evaluation data set", "evaluation record"
PAGE = 1000


def take(intake: Intake) -> None:
    """Bring the evaluation data sets of a store in, and say where they differ."""
    found = intake.store.evalsets
    if found is None:
        return
    with telling("its evaluation data sets"):
        docs = found.evalsets()
    for doc in docs:
        require_sound(doc, f"the evaluation data set {doc.id}")
        here = _here(intake.ws, doc.id)
        if here is None or _lacks(doc, here):
            _add(intake, doc, here)
        has_more = _add_records(intake, found, doc)
        _date(intake, doc, is_anew=has_more)
        _told(intake.tally, doc, _here(intake.ws, doc.id))
        for part in batches(told(found.records(doc.id), f"the records of {doc.id}"), PAGE):
            known = merging.told(intake.ws, doc.id, [each.id for each in part])
            for each in part:
                own = _record(known[each.id]) if each.id in known else None
                intake.tally.seen[RECORD] += 1
                intake.tally.compare(RECORD, f"{doc.id}/{each.id}", each, own)


def write(ws: Workspace, writer: EvalsetWriter, tally: Tally) -> None:
    """Write every evaluation data set into a store."""
    for doc in _every(ws):
        tally.new[SET] += writer.evalset(doc, _records(ws, doc.id))


def compare(ws: Workspace, store: Store, tally: Tally) -> None:
    """What is here is what is asked for there."""
    there = {each.id: each for each in store.evalsets.evalsets()} if store.evalsets is not None else {}
    for doc in _every(ws):
        _told(tally, doc, there.get(doc.id))
        if doc.id not in there or store.evalsets is None:
            continue
        others = store.evalsets.records(doc.id)
        other = next(others, None)
        for each in _records(ws, doc.id):
            while other is not None and _order(other) < _order(each):
                other = next(others, None)
            tally.seen[RECORD] += 1
            is_there = other is not None and other.id == each.id
            tally.compare(RECORD, f"{doc.id}/{each.id}", each, other if is_there else None)


def _order(each: EvalRecordDoc) -> tuple[int, str]:
    """Both stores tell records so."""
    return each.created_ms or 0, each.id


def _told(tally: Tally, doc: EvalsetDoc, other: EvalsetDoc | None) -> None:
    tally.seen[SET] += 1
    tally.compare(SET, f"{doc.name} {doc.id}", doc, other)


def _lacks(doc: EvalsetDoc, here: EvalsetDoc) -> bool:
    return bool(doc.tags.keys() - here.tags.keys() or set(doc.experiments) - set(here.experiments))


def _add(intake: Intake, doc: EvalsetDoc, here: EvalsetDoc | None) -> None:
    """The data set itself, or what of its tags and experiments is lacking."""
    intake.begin()
    at_ms = doc.created_ms or 0
    with intake.ws.ledger.transaction() as tx:
        known = () if here is None else here.experiments
        numbers = [catalog.by_name(tx, name) for name in doc.experiments if name not in known]
        chosen = tuple(str(each.experiment) for each in numbers if each is not None)
        edges = [("experiment", f"experiment/{each}") for each in chosen]
        tags = {key: value for key, value in doc.tags.items() if here is None or key not in here.tags}
        if here is None:
            # who made it is what that tag said then
            first = {USER: doc.created_by} if doc.created_by else {}
            tx.append(
                EvalsetCreated(evalset=doc.id, name=doc.name, at_ms=at_ms, experiments=chosen, tags=first),
                inputs=[("import", intake.ref), *edges],
            )
            if first and USER not in tags:
                tx.append(EvalsetUntagged(evalset=doc.id, key=USER))
            intake.tally.new[SET] += 1
        elif chosen:
            tx.append(EvalsetAssigned(evalset=doc.id, experiments=chosen, at_ms=at_ms), inputs=edges)
        if tags:
            tx.append(EvalsetTagged(evalset=doc.id, tags=tags))
    failpoint("import.evalset")


def _add_records(intake: Intake, found: Evalsets, doc: EvalsetDoc) -> bool:
    """The records that are not here, by when they came, and then what changed later by when it did; whether any."""
    has_more = False
    later: list[tuple[int, RecordBody]] = []
    for part in batches(told(found.records(doc.id), f"the records of {doc.id}"), merging.A_FACT):
        with intake.ws.ledger.read() as tx:
            known = records.by_ids(tx, doc.id, [each.id for each in part])
        new = [each for each in part if each.id not in known]
        # one that came here before its takeover was broken off, and not yet as it was changed
        undated = [each for each in part if each.id in known and known[each.id].updated_ms != each.updated_ms]
        bodies = _stored(intake.ws, [*new, *undated])
        if new:
            intake.begin()
            with intake.ws.ledger.transaction() as tx:
                pairs = list(zip(new, bodies[: len(new)], strict=True))
                for at_ms, group in groupby(pairs, key=lambda pair: pair[0].created_ms or 0):
                    _merge(tx, doc, at_ms, [body for _, body in group])
            has_more = True
            intake.tally.new[RECORD] += len(new)
            failpoint("import.records")
        for each, body in zip([*new, *undated], bodies, strict=True):
            is_same = each.id not in known or known[each.id].details == body.details
            if is_same and each.updated_ms is not None and each.updated_ms != each.created_ms:
                later.append((each.updated_ms, body))
    later.sort(key=lambda pair: (pair[0], pair[1].record))
    for at_ms, changed in groupby(later, key=lambda pair: pair[0]):
        intake.begin()
        for some in batches((body for _, body in changed), merging.A_FACT):
            with intake.ws.ledger.transaction() as tx:
                _merge(tx, doc, at_ms, some)
    return has_more or bool(later)


def _merge(tx: Transaction, doc: EvalsetDoc, at_ms: int, bodies: Sequence[RecordBody]) -> None:
    tx.append(RecordsMerged(evalset=doc.id, at_ms=at_ms, records=tuple(bodies), by=doc.updated_by or None))


def _stored(ws: Workspace, given: Sequence[EvalRecordDoc]) -> list[RecordBody]:
    contents = [json.dumps({**_said(each), "record": each.id}).encode() for each in given]
    digests = ws.objects.put_many(contents)
    return [
        RecordBody(record=each.id, key=merging.key_of(each.inputs), details=str(digest), size=len(content))
        for each, digest, content in zip(given, digests, contents, strict=True)
    ]


def _said(each: EvalRecordDoc) -> dict[str, Any]:
    return {
        "inputs": each.inputs,
        "outputs": each.outputs,
        "expectations": each.expectations,
        "tags": each.tags,
        "source": each.source,
        "by": each.created_by or None,
        "updated_by": each.updated_by or None,
    }


def _date(intake: Intake, doc: EvalsetDoc, *, is_anew: bool) -> None:
    """What the store says of it as a whole, which its records do not add up to: times, names, digest, schema.

    What was changed here since stays, unless the store says something else than before, or `is_anew`: records came.
    """
    here = _here(intake.ws, doc.id)
    if here is None or (_whole(here) == _whole(doc)):
        return
    intake.begin()
    schema = ""
    if doc.schema:
        schema = str(
            intake.ws.objects.put_bytes(json.dumps({"evalset": doc.id, "schema": json.loads(doc.schema)}).encode())
        )
    details = {
        "digest": doc.digest,
        "profile": doc.profile,
        "schema": schema,
        "created_by": doc.created_by,
        "updated_by": doc.updated_by,
    }
    with intake.ws.ledger.transaction() as tx:
        said = OriginNoted(
            of=f"evalset/{doc.id}",
            place="",
            created_ms=doc.created_ms,
            updated_ms=doc.updated_ms,
            details={key: value for key, value in details.items() if value},
        )
        if is_anew:
            tx.append(said, inputs=[("import", intake.ref)])
        else:
            note_origin(tx, said, intake.ref)


def _whole(doc: EvalsetDoc) -> tuple[object, ...]:
    schema = json.loads(doc.schema or "null")
    return doc.created_ms, doc.updated_ms, doc.created_by, doc.updated_by, doc.digest, doc.profile, schema


def _every(ws: Workspace) -> Iterator[EvalsetDoc]:
    """The evaluation data sets that are here, by when they were made."""
    skip = 0
    while True:
        with ws.ledger.read() as tx:
            page = records.search(tx, (), (), [("created_ms", False)], skip=skip, limit=PAGE)
            docs = [_doc(ws, tx, each) for each in page]
        yield from docs
        if len(page) < PAGE:
            return
        skip += PAGE


def _here(ws: Workspace, evalset: str) -> EvalsetDoc | None:
    with ws.ledger.read() as tx:
        found = records.evalset(tx, evalset)
        return None if found is None else _doc(ws, tx, found)


def _doc(ws: Workspace, tx: Reader, found: records.EvalsetRecord) -> EvalsetDoc:
    schema = keeping.schemas(ws, [found.schema]).get(found.schema)
    numbers = records.experiments(tx, found.evalset)
    named = [catalog.experiment(tx, int(each)) for each in numbers if each.isascii() and each.isdigit()]
    return EvalsetDoc(
        id=found.evalset,
        name=found.name,
        created_ms=found.created_ms,
        updated_ms=found.updated_ms,
        created_by=found.created_by or "",
        updated_by=found.updated_by or "",
        digest=found.digest,
        schema="" if schema is None else json.dumps(schema),
        profile=found.profile or "",
        tags=dict(found.tags),
        experiments=tuple(each.name for each in named if each is not None),
    )


def _records(ws: Workspace, evalset: str) -> Iterator[EvalRecordDoc]:
    """The records of one that is here, by when they came, page by page."""
    behind: tuple[int, str] | None = None
    while True:
        found, has_more = merging.page(ws, evalset, behind=behind, limit=PAGE)
        for each in found:
            yield _record(each)
        if not has_more:
            return
        behind = (found[-1].row.created_ms, found[-1].row.record)


def _record(told: merging.Told) -> EvalRecordDoc:
    row, said = told.row, told.said
    return EvalRecordDoc(
        id=row.record,
        inputs=said["inputs"],
        outputs=said["outputs"],
        expectations=said["expectations"],
        tags=said["tags"],
        source=said["source"],
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        created_by=said["by"] or "",
        updated_by=said["updated_by"] or "",
    )
