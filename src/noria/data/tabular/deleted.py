"""Rows that `noria data delete` removed, as the versions before still have them.

An append must tell a row that came late from one that somebody took out: only the history knows. A
compaction folds deltas away, so the versions that deleted are asked, not the newest layout. Rows
that another version put back are in it, and so are found there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.data import records
from noria.data.records import DatasetVersion
from noria.data.rows import layout, read
from noria.data.rows.layout import AT_FILE, AT_ROW, Delta
from noria.data.rows.parts import conform_table
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pq = lazy("pyarrow.parquet")

__all__ = ["DeletedRows", "deleted_rows"]


@frozen(eq=False)
class DeletedRows:
    """The removed rows; `lacking` is a version whose parent is not here, so that more may have been removed, or ""."""

    rows: pa.Table
    lacking: str


def deleted_rows(ws: Workspace, version: DatasetVersion, schema: pa.Schema) -> DeletedRows:
    """Every row that a deletion removed on the way to a version, typed as `schema`. Memory holds all of them.

    Those of merged branches are among them; what another branch removed, and was not merged, was not removed here.

    Raises: NotFound if the objects of a version that deleted are nowhere; Corrupt.
    """
    with ws.ledger.read() as tx:
        known = {each.tree: each for each in records.versions(tx, version.name) if each.version <= version.version}
    found = [schema.empty_table()]
    lacking = ""
    for each in _way_to(version, list(known.values())):
        if each.parent and each.parent not in known:
            lacking = lacking or each.ref
        elif each.operation == "delete":
            found += _removed(ws, known[each.parent], each, schema)
    return DeletedRows(pa.concat_tables(found).unify_dictionaries(), lacking)


def _way_to(version: DatasetVersion, older: Sequence[DatasetVersion]) -> list[DatasetVersion]:
    """A version and what it was made from, oldest first; behind a merge everything that is older than that."""
    found: list[DatasetVersion] = []
    at: DatasetVersion | None = version
    while at is not None:
        found.append(at)
        number, parent = at.version, at.parent
        before = [each for each in older if each.version < number]
        if at.operation == "merge":
            return [*before, *reversed(found)]
        at = next((each for each in reversed(before) if each.tree == parent), None)
    return found[::-1]


def _removed(ws: Workspace, before: DatasetVersion, after: DatasetVersion, schema: pa.Schema) -> list[pa.Table]:
    """What one deletion took out, read from the version before it."""
    old = {delta.entry.digest for delta in layout.layout_of(ws.objects, before).deltas}
    fresh = [each for each in layout.layout_of(ws.objects, after).deltas if each.entry.digest not in old]
    places = [_places(ws, delta) for delta in fresh if delta.kind == "delete"]
    own = read.schema_of(ws, before)
    found = []
    for part in read.parts(ws, before):
        at = [rows[files == part.number] for files, rows in places]
        mine = np.unique(np.concatenate(at)) if at else np.zeros(0, dtype=np.int64)
        if len(mine):
            part.target = own
            try:
                found.append(conform_table(part.take(mine), schema))
            except (UsageError, pa.ArrowTypeError, pa.ArrowNotImplementedError):
                continue  # a column is of another kind since the table was added anew: no row of now is one of these
    return found


def _places(ws: Workspace, delta: Delta) -> tuple[Any, Any]:
    table = pq.ParquetFile(ws.objects.path(delta.entry.digest)).read(columns=[AT_FILE, AT_ROW])
    return table[AT_FILE].to_numpy().astype(np.int64), table[AT_ROW].to_numpy().astype(np.int64)
