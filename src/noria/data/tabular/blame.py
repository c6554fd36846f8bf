"""The history of a row: every version, and whoever made it, that brought, changed or removed it.

A file of rows that several versions share is searched once; a delta is asked only for the places
that the row has. So a long history costs about as much as its distinct files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.errors import NotFound, UsageError
from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.verb import verb
from noria.data import records
from noria.data.facts import DatasetCommitted
from noria.data.forms import where
from noria.data.records import DatasetVersion
from noria.data.rows import layout
from noria.data.rows.parts import Part, parts_of
from noria.data.rows.rowmerge import equal
from noria.data.select import no_dataset
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["RowChange", "RowHistory", "ValueChange", "blame"]

_MADE = ("run", "step", "segment", "labels", "release", "merged")
"""Roles of edges that say what a version was made from, besides its parent."""
_PAGE = 1000


@frozen(kw_only=True)
class ValueChange:
    """A column of a row before and after, as text; None is null, or that there was no row."""

    column: str
    before: str | None
    after: str | None


@frozen(kw_only=True)
class RowChange:
    """One version that did something to a row: `change` is added, changed or removed.

    `operation` is how the version came to be, `source` from where, `made_by` the runs, steps and
    segments that the ledger names as its origin, `code` the Git commit. `values` has the columns
    that differ; of a row that came or went, all of them. `rows` counts rows with the key then.
    """

    version: int
    change: str
    at: str
    actor: str
    operation: str
    source: str
    note: str
    code: str
    made_by: tuple[str, ...]
    rows: int
    values: tuple[ValueChange, ...]


@frozen(kw_only=True)
class RowHistory:
    """What happened to the row with a key, oldest first. `is_there` says whether the newest version has it.

    `more` are the histories of further keys, where several were asked for.
    """

    name: str
    column: str
    key: str
    is_there: bool
    versions: int
    changes: tuple[RowChange, ...]
    more: tuple[RowHistory, ...] = ()


@verb(permission="data.read", changes=False)
def blame(ws: Workspace, name: str, *, key: str = "", column: str = "", key_values: Sequence[str] = ()) -> RowHistory:
    """Every version that made, changed or removed the row with a key: who, when, from what, old and new values.

    Args:
        key: the row's key, as text; of a key of several columns, the values with commas.
        column: the column that holds it, or several with commas; by default the data set's key.
        key_values: keys of several rows, as `noria data delete` takes them.
    Raises: NotFound if no version ever had the row; UsageError without a key column.
    Example:
        noria data blame customers --key 17
    """
    if not key and not key_values:
        raise UsageError("say which row", hint=f"noria data blame {name} --key VALUE")
    with ws.ledger.read() as tx:
        versions = records.versions(tx, name)
        if not versions:
            raise no_dataset(tx, name, ws.project.root)
    columns = _columns(ws, versions, column)
    asked = list(dict.fromkeys([*([key] if key else []), *_split(versions[-1], columns, key_values)]))
    facts = dict(_facts(ws, name))
    first, *rest = [_history(ws, versions, facts, columns, each) for each in asked]
    return dataclasses.replace(first, more=tuple(rest))


def _split(newest: DatasetVersion, columns: Sequence[str], key_values: Sequence[str]) -> list[str]:
    """Keys with commas between them; where the key is text, or of several columns, a comma divides nothing."""
    kinds = {name: kind for name, kind, _ in newest.columns}
    if len(columns) > 1 or "string" in kinds.get(columns[0], "string"):
        return list(key_values)
    return [part.strip() for text in key_values for part in text.split(",")]


def _history(
    ws: Workspace,
    versions: Sequence[DatasetVersion],
    facts: Mapping[int, Stored[DatasetCommitted]],
    columns: Sequence[str],
    key: str,
) -> RowHistory:
    name = versions[-1].name
    wanted = [part.strip() for part in key.split(",")] if len(columns) > 1 else [key]
    if len(wanted) != len(columns):
        raise UsageError(f"{key!r} has {len(wanted)} values for the key {', '.join(columns)}")
    finder = _Finder(ws, columns, wanted)
    changes: list[RowChange] = []
    for number, version in enumerate(versions):
        after = finder.rows(version)
        fact = facts.get(version.version)
        sides = [finder.rows(each) for each in _made_from(version, versions[:number], fact)] or [[]]
        if not any(_same(before, after) for before in sides):
            changes.append(_change(version, sides[0], after, fact))
    if not changes:
        raise NotFound(
            f"no version of {name} has a row with {', '.join(columns)} = {key}", hint=f"noria data log {name}"
        )
    return RowHistory(
        name=name,
        column=", ".join(columns),
        key=key,
        is_there=bool(finder.rows(versions[-1])),
        versions=len(versions),
        changes=tuple(changes),
    )


def _made_from(
    version: DatasetVersion, older: Sequence[DatasetVersion], fact: Stored[DatasetCommitted] | None
) -> list[DatasetVersion]:
    """What a version was made from: both sides of a merge, else its parent; else the one before it, if any."""
    edges = fact.fact.inputs if fact is not None else ()
    trees = [ref for role, ref in edges if role == "merged"] or [version.parent]
    found = [next((each for each in reversed(older) if each.tree == tree), None) for tree in trees]
    return [each for each in found if each is not None] or list(older[-1:])


class _Finder:
    """Finds the rows with a key in versions, each distinct file once."""

    def __init__(self, ws: Workspace, columns: Sequence[str], values: Sequence[str]) -> None:
        self._ws = ws
        self._columns = list(columns)
        self._values = list(values)
        self._raw: dict[tuple[str, str], Any] = {}
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def rows(self, version: DatasetVersion) -> list[dict[str, Any]]:
        """The rows of a version that have the key, values by column."""
        if not version.columns:
            return []
        placed = layout.layout_of(self._ws.objects, version)
        kinds = {name: kind for name, kind, _ in version.columns}
        found: list[dict[str, Any]] = []
        for number, part in enumerate(parts_of(self._ws, placed, kinds, version.column_names())):
            if any(name not in part.schema.names for name in self._columns):
                continue
            known = (part.file, part.state)
            if known not in self._rows:
                self._rows[known] = self._of_part(placed, number, part, kinds)
            found += self._rows[known]
        return found

    def _of_part(
        self, placed: layout.Layout, number: int, part: Part, kinds: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        is_kept_by_key = set(self._columns) <= set(placed.key)
        if part.is_changed and not is_kept_by_key:
            places = self._places(part)  # a delta may have changed the column itself
        else:
            raw = (part.file, part.digest)
            if raw not in self._raw:
                plain = layout.Layout((placed.rows[number],))
                self._raw[raw] = self._places(parts_of(self._ws, plain, kinds, part.schema.names)[0])
            places = np.setdiff1d(self._raw[raw], part.gone)
        return part.take(places).to_pylist() if len(places) else []

    def _places(self, part: Part) -> Any:
        """The places in the file whose rows have the key."""
        expression: Any = None
        for name, value in zip(self._columns, self._values, strict=True):
            kind: Any = part.schema.field(name).type
            plain = kind.value_type if pa.types.is_dictionary(kind) else kind
            try:
                fits = pc.field(name) == where.value_as(value, plain)
            except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
                return np.zeros(0, dtype=np.int64)  # this version's column cannot hold the value
            expression = fits if expression is None else expression & fits
        condition = where.Condition(expression, tuple(self._columns))
        found = [
            np.asarray(batch.column(layout.AT_ROW))
            for _, batch in part.batches(self._columns, where=condition, places=True)
        ]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _columns(ws: Workspace, versions: Sequence[DatasetVersion], column: str) -> list[str]:
    names = [name.strip() for name in column.split(",") if name.strip()]
    if not names and versions[-1].key:
        names = [versions[-1].key]
    if not names and versions[-1].columns:
        names = list(layout.layout_of(ws.objects, versions[-1]).key)
    if not names:
        name = versions[-1].name
        raise UsageError(f"{name} has no key", hint=f"--column NAME, or noria data describe {name} --key NAME")
    for name in names:
        if not any(name in version.column_names() for version in versions):
            raise UsageError(f"no version of {versions[-1].name} has a column {name!r}")
    return names


def _facts(ws: Workspace, name: str) -> Iterator[tuple[int, Stored[DatasetCommitted]]]:
    after = 0
    while page := ws.ledger.facts(after=after, kind="dataset.committed", subject=f"dataset/{name}", limit=_PAGE):
        for fact in page:
            yield fact.payload.version, fact
        after = page[-1].seq


def _change(
    version: DatasetVersion,
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    fact: Stored[DatasetCommitted] | None,
) -> RowChange:
    change = "added" if not before else "removed" if not after else "changed"
    edges = fact.fact.inputs if fact is not None else ()
    return RowChange(
        version=version.version,
        change=change,
        at=version.at,
        actor=fact.actor if fact is not None else "",
        operation="add" if version.operation in ("", "frame") else version.operation,
        source=version.source,
        note=version.note,
        code=version.code,
        made_by=tuple(f"{role} {ref}" for role, ref in edges if role in _MADE),
        rows=len(after),
        values=_values(before, after),
    )


def _values(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> tuple[ValueChange, ...]:
    """Column by column; of several rows with one key, all their values together."""
    names = list(dict.fromkeys([*(name for row in before for name in row), *(name for row in after for name in row)]))
    found = []
    for name in names:
        one, other = [row.get(name) for row in before], [row.get(name) for row in after]
        if not before or not after or not equal(one, other):
            found.append(ValueChange(column=name, before=_text(one), after=_text(other)))
    return tuple(found)


def _text(values: Sequence[Any]) -> str | None:
    told = [None if value is None else str(value) for value in values]
    return told[0] if len(told) == 1 else None if not told else ", ".join("null" if v is None else v for v in told)


def _same(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> bool:
    return len(before) == len(after) and all(
        equal(dict(one), dict(other)) for one, other in zip(before, after, strict=True)
    )
