"""Records of evaluation data sets: taken in, told, and taken away.

A record is known by its inputs: the same inputs again say more about the same record. What it says is an object of
its own, stored before the fact that names it, and named by nothing else: when the record goes, it can.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from noria.core.errors import UsageError
from noria.core.fact import Edge
from noria.core.frozen import frozen
from noria.evalsets import keeping, records
from noria.evalsets.facts import RecordBody, RecordsMerged, RecordsRemoved
from noria.evalsets.records import USER, RowRecord
from noria.store.ledger import Reader, Transaction
from noria.store.workspace import Workspace
from noria.traces import records as traces

__all__ = ["A_FACT", "Given", "Told", "key_of", "merge", "page", "remove", "told"]

GIVEN_MAX = 50_000
"""So many records come at once."""
A_FACT = 1000
"""So many records are told by one fact."""
PAGE_BYTES = 32 << 20
TRIES = 3


@frozen(kw_only=True)
class Given:
    """A record as a client gives it. None is what it does not say; `outputs` counts where `says_outputs`."""

    inputs: Mapping[str, Any]
    outputs: Any = None
    says_outputs: bool = False
    expectations: Mapping[str, Any] | None = None
    tags: Mapping[str, Any] | None = None
    source: Mapping[str, Any] | None = None


@frozen
class Told:
    """A record, and what it says: inputs, outputs, expectations, tags, source, by and updated_by."""

    row: RowRecord
    said: Mapping[str, Any]


@frozen
class _Plan:
    """What a merge stands on (the records that are there, the schema), and what it makes of them."""

    known: Mapping[str, RowRecord]
    schema_before: str
    bodies: Sequence[RecordBody]
    schema: str
    inserted: int


def merge(ws: Workspace, evalset: str, given: Sequence[Given]) -> tuple[int, int]:
    """Take records in, all or none; gives how many were new, and how often one that was there was told more of.

    Raises: UsageError; NotFound.
    """
    if len(given) > GIVEN_MAX:
        raise UsageError(f"at most {GIVEN_MAX} records are taken at once, not {len(given)}")
    keys = [key_of(each.inputs) for each in given]
    by = next((str(each.tags[USER]) for each in reversed(given) if each.tags and USER in each.tags), None)
    for _ in range(TRIES):
        with ws.ledger.read() as reader:
            plan = _planned(ws, reader, evalset, given, keys)
        with ws.ledger.transaction() as tx:
            if _stands(tx, evalset, keys, plan):
                _append(ws, tx, evalset, given, plan, by)
                return plan.inserted, len(given) - plan.inserted
    with ws.ledger.transaction() as tx:  # others are faster again and again: nobody else writes meanwhile
        plan = _planned(ws, tx, evalset, given, keys)
        _append(ws, tx, evalset, given, plan, by)
    return plan.inserted, len(given) - plan.inserted


def page(
    ws: Workspace, evalset: str, *, behind: tuple[int, str] | None = None, skip: int = 0, limit: int
) -> tuple[list[Told], bool]:
    """Records as they came, at most `limit` and not much over 32 MiB of them; and whether there are more."""
    with ws.ledger.read() as tx:
        rows = records.page(tx, evalset, behind=behind, skip=skip, limit=limit + 1)
    chosen: list[RowRecord] = []
    total = 0
    for row in rows[:limit]:
        total += row.size
        if chosen and total > PAGE_BYTES:
            break
        chosen.append(row)
    said = _said(ws, chosen)
    return [Told(row, said[row.record]) for row in chosen], len(chosen) < len(rows)


def told(ws: Workspace, evalset: str, ids: Sequence[str]) -> dict[str, Told]:
    """The records with these ids, those that are there."""
    with ws.ledger.read() as tx:
        rows = records.by_ids(tx, evalset, ids)
    said = _said(ws, list(rows.values()))
    return {name: Told(row, said[name]) for name, row in rows.items()}


def remove(ws: Workspace, evalset: str, ids: Sequence[str]) -> int:
    """Take records away; gives how many were there."""
    with ws.ledger.transaction() as tx:
        gone = records.present(tx, evalset, ids)
        for part in _parts(gone):
            tx.append(RecordsRemoved(evalset=evalset, records=tuple(part)))
    return len(gone)


def _planned(ws: Workspace, tx: Reader, evalset: str, given: Sequence[Given], keys: Sequence[str]) -> _Plan:
    """Stores what the records say afterwards. Raises: NotFound."""
    before = keeping.found(tx, evalset)
    known = records.by_keys(tx, evalset, keys)
    old = _said(ws, list(known.values()))
    said: dict[str, dict[str, Any]] = {}
    ids = {key: row.record for key, row in known.items()}
    for place, (key, each) in enumerate(zip(keys, given, strict=True)):
        if key not in ids:
            ids[key] = f"dr-{place:06x}{uuid.uuid4().hex[:26]}"  # records of one request stay in its order
            said[key] = _first(each)
        else:
            said[key] = _more(said.get(key) or old[ids[key]], each)
    contents = [json.dumps({**content, "record": ids[key]}).encode() for key, content in said.items()]
    digests = ws.objects.put_many(contents)
    bodies = [
        RecordBody(record=ids[key], key=key, details=str(digest), size=len(content))
        for key, digest, content in zip(said, digests, contents, strict=True)
    ]
    schema_before = keeping.schemas(ws, [before.schema]).get(before.schema)
    schema = _schema(schema_before, given)
    named = before.schema
    if schema is not None and schema != schema_before:
        named = str(ws.objects.put_bytes(json.dumps({"evalset": evalset, "schema": schema}).encode()))
    return _Plan(known, before.schema, bodies, named, len(ids) - len(known))


def _stands(tx: Transaction, evalset: str, keys: Sequence[str], plan: _Plan) -> bool:
    """Whether what a plan stands on is still so. Raises: NotFound."""
    return keeping.found(tx, evalset).schema == plan.schema_before and records.by_keys(tx, evalset, keys) == plan.known


def _append(ws: Workspace, tx: Transaction, evalset: str, given: Sequence[Given], plan: _Plan, by: str | None) -> None:
    at_ms = keeping.now_ms(ws)
    sources = _sources(tx, given)
    for part in _parts(plan.bodies) if plan.bodies else [[]]:
        tx.append(
            RecordsMerged(evalset=evalset, at_ms=at_ms, records=tuple(part), schema=plan.schema, by=by),
            inputs=sources[:A_FACT],
        )
        sources = sources[A_FACT:]


def _sources(tx: Transaction, given: Sequence[Given]) -> list[Edge]:
    """The traces that records were made of, as far as they are here."""
    named = [each.source["source_data"].get("trace_id") for each in given if each.source is not None]
    ids = [each for each in dict.fromkeys(named) if isinstance(each, str) and each.isascii() and "\x00" not in each]
    return [("trace", f"trace/{each.trace}") for each in traces.traces(tx, ids)]


def _said(ws: Workspace, rows: Sequence[RowRecord]) -> dict[str, dict[str, Any]]:
    """What records say, by their ids."""
    contents = dict(ws.objects.get_many(sorted({row.details for row in rows})))
    return {row.record: json.loads(contents[row.details]) for row in rows}  # type: ignore[index]  # a digest is a text


def _first(each: Given) -> dict[str, Any]:
    by = str(each.tags[USER]) if each.tags and USER in each.tags else None
    return {
        "inputs": each.inputs,
        "outputs": each.outputs if each.says_outputs else {},
        "expectations": each.expectations,
        "tags": each.tags or {},
        "source": each.source,
        "by": by,
        "updated_by": by,
    }


def _more(before: Mapping[str, Any], each: Given) -> dict[str, Any]:
    """What a record says once it is told more of: the source and the inputs stay."""
    said = dict(before)
    if each.says_outputs:
        said["outputs"] = each.outputs
    if each.expectations:
        said["expectations"] = {**(said["expectations"] or {}), **each.expectations}
    if each.tags:
        said["tags"] = {**said["tags"], **each.tags}
        said["updated_by"] = str(each.tags[USER]) if USER in each.tags else said["updated_by"]
    return said


def _schema(before: Mapping[str, Any] | None, given: Sequence[Given]) -> dict[str, Any] | None:
    """The names and types of all fields: of each the type that it had first. None where nothing was ever given."""
    if before is None and not given:
        return None
    schema: dict[str, Any] = {"inputs": {}, "outputs": {}, "expectations": {}, "version": "1.0"}
    schema |= {name: dict(part) if isinstance(part, Mapping) else part for name, part in (before or {}).items()}
    for each in given:
        _fields(schema["inputs"], each.inputs)
        _fields(schema["expectations"], each.expectations or {})
        if isinstance(each.outputs, dict) and isinstance(schema["outputs"], dict):
            _fields(schema["outputs"], each.outputs)
        elif each.outputs is not None and not schema["outputs"]:
            schema["outputs"] = _kind(each.outputs)
    return schema


def _fields(schema: dict[str, str], found: Mapping[str, Any]) -> None:
    for key, value in found.items():
        schema.setdefault(key, _kind(value))


def _kind(value: Any) -> str:
    kinds = ((bool, "boolean"), (int, "integer"), (float, "float"), (str, "string"), (list, "array"), (dict, "object"))
    return next((word for kind, word in kinds if isinstance(value, kind)), "null")


def key_of(inputs: Mapping[str, Any]) -> str:
    """What tells records by their inputs: a digest, as MLflow has it."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _parts(found: Sequence[Any]) -> Iterator[list[Any]]:
    each = iter(found)
    while part := list(islice(each, A_FACT)):
        yield part
