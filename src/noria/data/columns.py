"""What is true of all the tables of a version together: its columns, and which of them have a role."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noria.core.errors import UsageError
from noria.core.lazy import lazy
from noria.data.folders.files import DataFile
from noria.data.forms import formats, text
from noria.data.pins import Pin
from noria.data.records import DatasetVersion
from noria.data.rows import read
from noria.store.tree import Entry
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
pq = lazy("pyarrow.parquet")

__all__ = ["NoSuchColumn", "check_roles", "roles_of", "text_kinds", "union"]

_NUMBERS = ("int64", "double")
_WHOLE = {"halffloat": 1 << 11, "float": 1 << 24, "double": 1 << 53}
"""Up to where each holds every whole number (IEEE 754)."""
MIN_COMMON_COLUMNS = 0.5
"""Files of one data set share at least this part of their columns (Jaccard) with the first file."""


class NoSuchColumn(UsageError):
    """A role names a column that the data set does not have."""

    code = "no-such-column"


def check_roles(columns: formats.Columns, roles: Mapping[str, str]) -> None:
    """Every role must name a column. Raises: NoSuchColumn with the nearest one."""
    names = [name for name, _, _ in columns]
    for role, column in roles.items():
        if column and column not in names:
            near = difflib.get_close_matches(column, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"columns: {', '.join(names[:12]) or 'none'}"
            raise NoSuchColumn(f"there is no column {column!r} to be the {role}", hint=hint)


def roles_of(before: DatasetVersion | Pin | None, *, key: str = "", time: str = "", label: str = "") -> dict[str, str]:
    """The columns that are key, time and label: as given, else as in the version before."""
    given = {"key": key, "time": time, "label": label}
    return {role: column or (getattr(before, role) if before else "") for role, column in given.items()}


def union(ws: Workspace, tables: Sequence[DataFile]) -> formats.Columns:
    """The columns of all table files: by name, the wider type where two differ; none without a table.

    Raises: UsageError if there are no rows, types have nothing in common, or a file is quite another table.
    """
    if not tables:
        return ()
    if not any(file.inspected.rows for file in tables if file.inspected):
        which = tables[0].name if len(tables) == 1 else f"its {len(tables)} tables"
        raise UsageError(
            f"{which} has no rows" if len(tables) == 1 else f"{which} have no rows",
            hint="add it when there is a row, or with --as-files, as the bytes that it is",
        )
    by_file = {file.name: file.inspected.columns for file in tables if file.inspected is not None}
    if len(set(by_file.values())) == 1:
        return next(iter(by_file.values()))
    first_name, first = next(iter(by_file.items()))
    known = {column for column, _, _ in first}
    for name, columns in by_file.items():
        here = {column for column, _, _ in columns}
        if len(known & here) < MIN_COMMON_COLUMNS * len(known | here):
            raise UsageError(
                f"{name} is another table than {first_name}: {len(known & here)} of {len(known | here)} columns agree",
                hint="add them as two data sets, or with --as-files as plain files",
            )
    kinds = text_kinds(
        {file.name: file.inspected for file in tables if file.inspected is not None},
        {file.name: functools.partial(ws.objects.path, file.digest) for file in tables},
    )
    schema = read.unified(ws, [Entry(file.name, file.digest, file.size_bytes) for file in tables], kinds)
    _check_nested(schema, by_file)
    _check_whole(schema, tables, ws.objects.path)
    null = {c for columns in by_file.values() for c, _, nullable in columns if nullable}
    partial = {c for c in schema.names if any(c not in {x for x, _, _ in columns} for columns in by_file.values())}
    return tuple((field.name, str(field.type), field.name in null | partial) for field in schema)


def text_kinds(inspected: Mapping[str, formats.Inspected], places: Mapping[str, Callable[[], Path]]) -> dict[str, str]:
    """The one type of each column over all CSV files, and of each column of numbers over those and JSON lines.

    Where some files have whole numbers that a double may round and others fractions, all numbers are looked at. Where
    the numbers of one file are text, because no decimal holds them together, they are text in all.
    Args: places: where each file is, asked only if it is read again. Raises: UsageError.
    """
    kinds: dict[str, set[str]] = {}
    holders: dict[str, list[str]] = {}
    worded: list[tuple[str, str]] = []
    for name, each in inspected.items():
        form = formats.format_of(name)
        for column, kind, _ in each.columns:
            if form == "csv" or (form == "jsonl" and _is_number(kind)):
                kinds.setdefault(column, set()).add(kind)
                holders.setdefault(column, []).append(name)
            elif form == "jsonl" and kind == "string":
                worded.append((column, name))
    for column, name in worded:
        seen = kinds.get(column, set())
        if any(map(_is_number, seen)) and "string" not in seen and formats.has_numbers(places[name](), name, column):
            seen.add("string")
    long = {column for each in inspected.values() for column in each.long}
    doubtful = [column for column, seen in kinds.items() if formats.is_doubtful(seen, is_long=column in long)]
    read_again = sorted({name for column in doubtful for name in holders[column]})
    exact = formats.exact_kinds({name: places[name]() for name in read_again}, doubtful)
    return {column: text.join(sorted(found)) for column, found in kinds.items()} | exact


def _is_number(kind: str) -> bool:
    return kind in _NUMBERS or text.is_decimal(kind)


def _check_nested(schema: pa.Schema, by_file: Mapping[str, formats.Columns]) -> None:
    """Exact numbers within lists and objects of JSON lines must not become doubles because another file has those."""
    merged = {field.name: str(field.type).count("decimal") for field in schema}
    for name, columns in by_file.items():
        for column, kind, _ in columns:
            if formats.format_of(name) == "jsonl" and "<" in kind and kind.count("decimal") > merged[column]:
                raise UsageError(
                    f"column {column!r} of {name} holds numbers that a double would round, and another file doubles",
                    hint="write both as one file, or add them as two data sets",
                )


def _check_whole(schema: pa.Schema, tables: Sequence[DataFile], place: Callable[[str], Path]) -> None:
    """Whole numbers must not be rounded because another file has doubles in their column."""
    floating = {field.name: _WHOLE[str(field.type)] for field in schema if str(field.type) in _WHOLE}
    for file in tables:
        assert file.inspected is not None, "it is a table"
        mine = {column for column, kind, _ in file.inspected.columns if column in floating and "int" in kind}
        if not mine:
            continue
        if formats.format_of(file.name) == "parquet":
            rounded = [column for column in sorted(mine) if _reach(place(file.digest), column) > floating[column]]
        else:
            found = formats.exact_kinds({file.name: place(file.digest)}, sorted(mine & set(file.inspected.long)))
            rounded = [column for column, kind in found.items() if kind != "double"]
        if rounded:
            raise UsageError(
                f"column {rounded[0]!r} of {file.name} holds whole numbers that a double would round,"
                " and another file doubles",
                hint="write both files with one type, or add them as two data sets",
            )


def _reach(path: Path, column: str) -> int:
    """How far from 0 the whole numbers of a Parquet column reach, as far as the file says it."""
    with pq.ParquetFile(path) as file:
        meta, place = file.metadata, file.schema_arrow.names.index(column)
        names = [file.schema.column(each).path for each in range(len(file.schema))]
        leaf = names.index(column) if column in names else place
        told = [meta.row_group(each).column(leaf).statistics for each in range(meta.num_row_groups)]
    ends = [abs(int(end)) for each in told if each is not None and each.has_min_max for end in (each.min, each.max)]
    return max(ends, default=0)
