"""Data sets for a script, a notebook or a step: `nr.add_data`, `nr.read_data`, and tables that grow.

Frames go in and come out as they are: pandas, polars, Arrow. Each function works on the project of
the current folder, or of `root`. Those that write give the version that the data set has now, a
`DatasetVersion`; what an append or an upsert did is told by further fields of it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.bootstrap import open_workspace
from noria.core.errors import UsageError
from noria.core.fact import Edge
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.data import select, versions
from noria.data.forms import frames
from noria.data.records import DatasetVersion
from noria.data.rows import read
from noria.data.tabular import incremental
from noria.pipeline.ambient import made_in
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")

__all__ = ["AppendedVersion", "UpsertedVersion", "add_data", "append_data", "read_data", "upsert_data"]


@frozen(kw_only=True)
class AppendedVersion(DatasetVersion):
    """The version that an append left, and how many rows it took, knew, and left out; as in `Appended`.

    `brings_in` says what else is in it, where another version was asked for than the project stood on,
    `leaves_out` that a newer one is not.
    """

    appended: int
    known: int
    late: int
    unordered: int
    deleted: int
    late_examples: tuple[str, ...] = ()
    brings_in: str = ""
    leaves_out: str = ""


@frozen(kw_only=True)
class UpsertedVersion(DatasetVersion):
    """The version that an upsert left, and how many rows are new, changed, and as they were.

    `brings_in` says what else is in it, where another version was asked for than the project stood on,
    `leaves_out` that a newer one is not.
    """

    inserted: int
    updated: int
    unchanged: int
    brings_in: str = ""
    leaves_out: str = ""


def add_data(
    frame: Any,
    *,
    name: str = "",
    note: str = "",
    key: str = "",
    time: str = "",
    label: str = "",
    root: str = "",
) -> DatasetVersion:
    """Add a frame, or a path or address as `noria data add` takes it, as a version of a data set.

    Columns keep their exact types: text such as "02139" stays text, categories keep their levels
    and order, whole numbers with gaps stay whole, times their zones, decimals their digits. The same
    columns and values give the same version, whatever library they came from.

    Args:
        frame: pandas, polars or Arrow (a table or a stream of batches), a list of rows, or a path.
        name: of the data set; a frame needs one.
        key, time, label: columns with these roles; by default as in the version before.
        root: the project's folder, if it is not the current one or above it.
    Raises: UsageError for a column that cannot be kept as it is, naming it.
    Example:
        version = nr.add_data(frame, name="customers", key="id")
    """
    ws = _workspace(root)
    if not frames.is_frame(frame):
        return versions.add(ws, os.fspath(frame), name, note, key=key, time=time, label=label)
    if not name:
        raise UsageError("a frame has no name of its own", hint='nr.add_data(frame, name="NAME")')
    roles = {"key": key, "time": time, "label": label}
    rows = frames.arrow_of(frame)
    return versions.add_rows(
        ws, rows, name, roles=roles, source=_source(), note=note, inputs=_edges(), operation="frame"
    )


def append_data(
    frame: Any, *, name: str, watermark: str = "", note: str = "", late: bool = False, root: str = ""
) -> AppendedVersion:
    """Append the rows of a frame that lie beyond the last watermark, as `noria data append` does.

    Args:
        watermark: the column that only grows; by default that of the last append.
        late: append rows that came late too.
    Raises: UsageError for a column that is not there or rows that do not fit; Conflict.
    Example:
        version = nr.append_data(frame, name="orders", watermark="id")
        print(version.ref, version.appended, version.late)
    """
    rows = _stream(frame)
    done = incremental.append_rows(_workspace(root), name, rows, watermark, source=_source(), note=note, late=late)
    return AppendedVersion(
        **_fields(done.dataset),
        appended=done.appended,
        known=done.known,
        late=done.late,
        unordered=done.unordered,
        deleted=done.deleted,
        late_examples=done.late_examples,
        brings_in=done.brings_in,
        leaves_out=done.leaves_out,
    )


def upsert_data(frame: Any, *, name: str, key: str = "", note: str = "", root: str = "") -> UpsertedVersion:
    """Insert rows whose key is new and replace those whose key is there, as `noria data upsert` does.

    Args:
        key: the column that names a row, or several with commas; by default the data set's.
    Raises: NotFound; UsageError for a key that is null or there twice, or rows that do not fit; Conflict.
    Example:
        version = nr.upsert_data(frame, name="customers", key="id")
        print(version.ref, version.inserted, version.updated)
    """
    done = incremental.upsert_rows(_workspace(root), name, _stream(frame), key, source=_source(), note=note)
    return UpsertedVersion(
        **_fields(done.dataset),
        inserted=done.inserted,
        updated=done.updated,
        unchanged=done.unchanged,
        brings_in=done.brings_in,
        leaves_out=done.leaves_out,
    )


def read_data(
    ref: str,
    *,
    columns: Sequence[str] | None = None,
    rows: tuple[int, int] | None = None,
    where: str = "",
    root: str = "",
) -> pa.Table:
    """The rows of a version as an Arrow table; `.to_pandas()` and `polars.from_arrow` give frames.

    What is not asked for is not fetched: other columns, and row groups outside of the rows or the
    condition. pandas' own dtypes come back where the whole table is read.

    Args:
        ref: `flights`, `flights@3`, a tag, a date, an id.
        columns: only these, in this order.
        rows: only rows [first, last), counted from 0.
        where: only rows that fit, such as "amount > 100 and zip = '02139'".
    Raises: NotFound; UsageError for an unknown column or a condition that cannot be read; Corrupt.
    Example:
        nr.read_data("flights@latest", columns=["dest"], where="dep_delay > 60").to_pandas()
    """
    ws = _workspace(root)
    return read.table(ws, select.resolve(ws, ref), columns=columns, rows=rows, condition=where)


def _fields(version: DatasetVersion) -> dict[str, Any]:
    return {each.name: getattr(version, each.name) for each in dataclasses.fields(DatasetVersion)}


def _workspace(root: str) -> Workspace:
    return open_workspace(Path(root) if root else None)


def _stream(frame: Any) -> pa.RecordBatchReader:
    found = frames.arrow_of(frame)
    return found.to_reader() if isinstance(found, pa.Table) else found


def _source() -> str:
    """Where a frame comes from, as far as is known."""
    place = made_in()
    return f"step {place.partition('/')[2]}" if place else "a frame"


def _edges() -> list[Edge]:
    place = made_in()
    return [("run", f"run/{place.partition('/')[0]}")] if place else []
