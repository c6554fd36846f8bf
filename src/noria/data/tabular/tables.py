"""Tables that Noria keeps: written once as Parquet, named by their columns and values.

Equal tables have equal `content`, whatever the bytes of their files are, so that a table that was
only written again is no new version.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from noria.core.errors import UsageError
from noria.core.fact import Edge
from noria.core.frozen import frozen
from noria.core.identity import Digest
from noria.core.lazy import lazy
from noria.data import lock, records
from noria.data.columns import roles_of
from noria.data.commit import Content, commit
from noria.data.forms import logical, parquet
from noria.data.forms.parquet import Written
from noria.data.records import DatasetVersion
from noria.data.select import checked_name
from noria.store.objects import disk_faults
from noria.store.tree import Entry, Tree, write_tree
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")

__all__ = ["Stored", "add_table", "logical_digest", "scratch", "store", "store_file"]


@frozen(kw_only=True)
class Stored:
    """A written table in the object store, with its place in a tree."""

    entry: Entry
    written: Written


def logical_digest(rows: pa.Table | pa.RecordBatchReader) -> Digest:
    """The identity of a table: its columns and values, whatever the batches, dictionaries or files they came in.

    Reads a stream to its end. Raises: UsageError for a column type that no table can hold.
    """
    return logical.digest(rows)


def store(
    ws: Workspace, rows: pa.Table | pa.RecordBatchReader, name: str, *, time: str = "", allow_empty: bool = False
) -> Content:
    """Write a table into the object store and give the tree that holds it as `NAME.parquet`.

    Memory holds one row group, not the table. Raises: UsageError for no rows, two columns of one
    name, or a type that Parquet cannot keep.
    """
    made = store_file(ws, rows, f"{name}.parquet", time=time)
    written = made.written
    if not written.rows and not allow_empty:
        raise UsageError(
            f"{name} has no rows", hint="a version is made of at least one: ask for more, or come back later"
        )
    tree = write_tree(ws.objects, Tree((made.entry,)))
    return Content(
        tree=tree,
        files=1,
        size_bytes=made.entry.size_bytes,
        rows=written.rows,
        columns=written.columns,
        time_min=written.time_min,
        time_max=written.time_max,
        content=written.logical,
    )


def add_table(
    ws: Workspace,
    rows: pa.Table | pa.RecordBatchReader,
    name: str,
    *,
    roles: Mapping[str, str],
    source: str,
    note: str = "",
    inputs: Sequence[Edge] = (),
    operation: str = "",
) -> DatasetVersion:
    """Add a table as a version of a data set; equal columns and values give the same version.

    Raises: UsageError for no rows or a type that cannot be kept; NoSuchColumn for a role.
    """
    with lock.dataset_lock(ws, checked_name(name)), lock.leased(ws, f"data add {name}") as claim:
        claim()
        with ws.ledger.read() as tx:
            before = records.newest(tx, name)
        named = roles_of(before, **roles)
        content = store(ws, rows, name, time=named["time"])
        return commit(ws, name, content, roles=named, source=source, note=note, inputs=inputs, operation=operation)


def store_file(
    ws: Workspace,
    rows: pa.Table | pa.RecordBatchReader,
    path: str,
    *,
    time: str = "",
    hasher: logical.Hasher | None = None,
) -> Stored:
    """Write a table into the object store as the file `path` of a tree to be. `hasher` as in `parquet.write`."""
    with scratch(ws) as folder:
        place = folder / "table.parquet"
        with disk_faults(place):
            written = parquet.write(rows, place, time=time, hasher=hasher)
        size = place.stat().st_size
        digest = ws.objects.put_file(place)
    return Stored(entry=Entry(path, digest, size, written.rows), written=written)


@contextmanager
def scratch(ws: Workspace) -> Iterator[Path]:
    """A folder of this process, on the disk of the store, gone when the block ends."""
    folder = ws.project.state / "cache" / "scratch" / f"{uuid.uuid4().hex}.{lock.mark()}"
    with disk_faults(folder):
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
