"""What is true of all the tables of a version together: its columns, and which of them have a role."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from noria.core.errors import UsageError
from noria.data.folders.files import DataFile
from noria.data.forms import formats, text
from noria.data.records import DatasetVersion
from noria.data.rows import read
from noria.store.tree import Entry
from noria.store.workspace import Workspace

__all__ = ["NoSuchColumn", "check_roles", "csv_kinds", "roles_of", "union"]

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


def roles_of(before: DatasetVersion | None, *, key: str = "", time: str = "", label: str = "") -> dict[str, str]:
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
        raise UsageError(f"{which} has no rows" if len(tables) == 1 else f"{which} have no rows")
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
    schema = read.unified(ws, [Entry(file.name, file.digest, file.size_bytes) for file in tables], csv_kinds(by_file))
    null = {c for columns in by_file.values() for c, _, nullable in columns if nullable}
    partial = {c for c in schema.names if any(c not in {x for x, _, _ in columns} for columns in by_file.values())}
    return tuple((field.name, str(field.type), field.name in null | partial) for field in schema)


def csv_kinds(by_file: Mapping[str, formats.Columns]) -> dict[str, str]:
    """The one type of each column over all CSV files."""
    kinds: dict[str, list[str]] = {}
    for name, columns in by_file.items():
        if formats.format_of(name) == "csv":
            for column, kind, _ in columns:
                kinds.setdefault(column, []).append(kind)
    return {column: text.join(found) for column, found in kinds.items()}
