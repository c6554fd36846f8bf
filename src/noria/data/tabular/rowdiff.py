"""Which rows two versions differ in: by key, or counted as a multiset; bounded in memory, whatever their size.

A file that both versions have in the same state is not read. Of one that both have with other
deltas only the rows that a delta touches are compared. The rest is joined by DuckDB over narrow
tables of key and hash, on disk where it does not fit; only rows that changed are looked at whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.data.forms import logical, parquet
from noria.data.records import DatasetVersion
from noria.data.rows import layout, read
from noria.data.rows.parts import Part
from noria.data.tabular import duck, tables
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")

__all__ = ["RowChanges", "Sides", "compare", "sides"]

_KEYS = 5
_COLUMNS = 8
"""So many of the columns that changed are looked at for the values of a row."""
_TEXT = 80


@frozen(kw_only=True)
class RowChanges:
    """How many rows are new, gone, or changed (only with a key), with a few keys of each.

    `changed_columns` says in how many of the changed rows a column differs, most first; `changed_values` are
    (key, column, old, new) of the first changed rows, as texts, with None for a null.
    """

    before: int
    after: int
    added: int
    removed: int
    changed: int = 0
    key: str = ""
    changed_columns: tuple[tuple[str, int], ...] = ()
    added_keys: tuple[str, ...] = ()
    removed_keys: tuple[str, ...] = ()
    changed_keys: tuple[str, ...] = ()
    changed_values: tuple[tuple[str, str, str | None, str | None], ...] = ()


@frozen(eq=False)
class Sides:
    """The files of two versions: those of one side only, and pairs that differ in their deltas alone.

    `fresh` names files that only the new version has, if nothing else differs: pure growth.
    """

    old: tuple[Part, ...]
    new: tuple[Part, ...]
    pairs: tuple[tuple[Part, Part], ...]
    fresh: tuple[str, ...]


def sides(ws: Workspace, old: DatasetVersion, new: DatasetVersion) -> Sides:
    """What of two versions must be compared."""
    before = {(part.file, part.digest): part for part in (read.parts(ws, old) if old.columns else [])}
    after = {(part.file, part.digest): part for part in (read.parts(ws, new) if new.columns else [])}
    pairs = tuple((before[key], after[key]) for key in before.keys() & after.keys())
    unlike = tuple((one, other) for one, other in pairs if not _same_state(one, other))
    gone = tuple(part for key, part in before.items() if key not in after)
    came = tuple(part for key, part in after.items() if key not in before)
    is_growth = bool(came) and not gone and not unlike
    return Sides(gone, came, unlike, tuple(part.file for part in came) if is_growth else ())


def compare(ws: Workspace, old: DatasetVersion, new: DatasetVersion, found: Sides, key: Sequence[str]) -> RowChanges:
    """The rows that differ. Without a key that names one row on each side, rows are counted as a multiset."""
    shown = ", ".join(key)
    none = RowChanges(before=old.rows, after=new.rows, added=0, removed=0, key=shown)
    if not found.old and not found.new and not found.pairs:
        return none
    schemas = read.schema_of(ws, old), read.schema_of(ws, new)
    with ExitStack() as stack:
        folder = stack.enter_context(tables.scratch(ws))
        paths = _paths(found, folder, *schemas)
        connection = stack.enter_context(duck.connected(ws))
        question = _Question(connection, paths, schemas, key)
        counted = question.by_key() if key and question.is_unique() else question.as_multiset()
    return RowChanges(before=old.rows, after=new.rows, key=shown if counted.pop("is_keyed") else "", **counted)


class _Question:
    """Asks DuckDB about two relations, `o` and `n`, of Parquet files."""

    def __init__(
        self,
        connection: Any,
        paths: tuple[list[Path], list[Path]],
        schemas: tuple[pa.Schema, pa.Schema],
        key: Sequence[str],
    ) -> None:
        self._ask = connection.execute
        self._key = list(key)
        self._names = [name for name in schemas[1].names if name in schemas[0].names]
        self._kinds = {name: (schemas[0].field(name).type, schemas[1].field(name).type) for name in self._names}
        for side, files, schema in (("o", paths[0], schemas[0]), ("n", paths[1], schemas[1])):
            self._ask(f"CREATE TEMP VIEW {side}_all AS SELECT {self._columns()} FROM {_relation(files, schema)}")

    def is_unique(self) -> bool:
        """Whether the key names one row on each side. Makes the narrow tables that the comparison joins."""
        if any(name not in self._names for name in self._key):
            return False
        keys = ", ".join(map(duck.name, self._key))
        for side in "on":
            self._ask(f"CREATE TEMP TABLE {side} AS SELECT {keys}, {self._hash()} AS __h FROM {side}_all")
            rows, distinct = self._one(
                f"SELECT (SELECT count(*) FROM {side}), (SELECT count(*) FROM (SELECT DISTINCT {keys} FROM {side}))"
            )
            if rows != distinct:
                return False
        return True

    def by_key(self) -> dict[str, Any]:
        """Rows that are new, gone and changed, by key."""
        keys = ", ".join(map(duck.name, self._key))
        same = self._same("o", "n")
        self._ask(f"CREATE TEMP TABLE c AS SELECT n.* EXCLUDE (__h) FROM n JOIN o ON {same} WHERE n.__h <> o.__h")
        self._ask(f"CREATE TEMP TABLE a AS SELECT {keys} FROM n ANTI JOIN o ON {same}")
        self._ask(f"CREATE TEMP TABLE r AS SELECT {keys} FROM o ANTI JOIN n ON {same}")
        added, removed, changed = (self._one(f"SELECT count(*) FROM {name}")[0] for name in "arc")
        columns = self._changed_columns() if changed else ()
        return {
            "is_keyed": True,
            "added": added,
            "removed": removed,
            "changed": changed,
            "changed_columns": columns,
            "changed_values": self._changed_values([name for name, _ in columns[:_COLUMNS]]) if columns else (),
            "added_keys": self._some("a"),
            "removed_keys": self._some("r"),
            "changed_keys": self._some("c"),
        }

    def as_multiset(self) -> dict[str, Any]:
        """Rows that are new or gone, each counted as often as it is there."""
        sums = []
        for side in "on":
            rows = f"SELECT {self._hash()} AS h, {self._hash('42, ')} AS g FROM {side}_all"
            self._ask(f"CREATE TEMP TABLE m{side} AS SELECT h, g, count(*) AS k FROM ({rows}) GROUP BY h, g")
        for one, other in ("no", "on"):
            sums.append(
                self._one(
                    f"SELECT coalesce(sum(greatest(x.k - coalesce(y.k, 0), 0)), 0) FROM m{one} x LEFT JOIN m{other} y"
                    " ON x.h = y.h AND x.g = y.g"
                )[0]
            )
        return {"is_keyed": False, "added": int(sums[0]), "removed": int(sums[1])}

    def _changed_columns(self) -> tuple[tuple[str, int], ...]:
        rest = [name for name in self._names if name not in self._key]
        if not rest:
            return ()
        counts = ", ".join(f"count(*) FILTER ({self._unlike(name)})" for name in rest)
        found = self._one(
            f"SELECT {counts} FROM c JOIN n_all ON {self._same('c', 'n_all')} JOIN o_all ON {self._same('c', 'o_all')}"
        )
        pairs = [(name, int(count)) for name, count in zip(rest, found, strict=True) if count]
        return tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))

    def _changed_values(self, columns: Sequence[str]) -> tuple[tuple[str, str, str | None, str | None], ...]:
        """What these columns were and are in the first changed rows, where they differ."""
        keys = ", ".join(f"c.{duck.name(name)}" for name in self._key)
        values = ", ".join(
            f"({self._unlike(name)}), left(CAST(o_all.{duck.name(name)} AS VARCHAR), {_TEXT}),"
            f" left(CAST(n_all.{duck.name(name)} AS VARCHAR), {_TEXT})"
            for name in columns
        )
        rows = self._ask(
            f"SELECT {keys}, {values} FROM (SELECT * FROM c ORDER BY ALL LIMIT {_KEYS}) AS c"
            f" JOIN n_all ON {self._same('c', 'n_all')} JOIN o_all ON {self._same('c', 'o_all')} ORDER BY {keys}"
        ).fetchall()
        width = len(self._key)
        return tuple(
            (", ".join(map(str, row[:width])), name, row[at + 1], row[at + 2])
            for row in rows
            for at, name in zip(range(width, len(row), 3), columns, strict=True)
            if row[at]
        )

    def _some(self, table: str) -> tuple[str, ...]:
        rows = self._ask(f"SELECT * FROM {table} ORDER BY ALL LIMIT {_KEYS}").fetchall()
        return tuple(", ".join(map(str, row)) for row in rows)

    def _columns(self) -> str:
        return ", ".join(f"{self._typed(name)} AS {duck.name(name)}" for name in self._names) or "1 AS __none"

    def _typed(self, name: str) -> str:
        """A column in the type that both sides have in common."""
        one, other = (_value_type(kind) for kind in self._kinds[name])
        if logical.type_name(one) == logical.type_name(other):
            return duck.name(name)
        return f"CAST({duck.name(name)} AS {_common(one, other)})"

    def _is_float(self, name: str) -> bool:
        one, other = self._kinds[name]
        return bool(pa.types.is_floating(one) and pa.types.is_floating(other))

    def _hash(self, salt: str = "") -> str:
        parts = []
        for name in self._names:
            parts.append(duck.name(name))
            if self._is_float(name):
                parts.append(f"signbit({duck.name(name)})")
        return f"hash({salt}{', '.join(parts)})" if parts else "0"

    def _unlike(self, name: str) -> str:
        old, new = f"o_all.{duck.name(name)}", f"n_all.{duck.name(name)}"
        unlike = f"{old} IS DISTINCT FROM {new}"
        if self._is_float(name):
            unlike += f" OR (NOT isnan({old}) AND signbit({old}) <> signbit({new}))"
        return unlike

    def _same(self, one: str, other: str) -> str:
        return " AND ".join(f"{one}.{duck.name(k)} IS NOT DISTINCT FROM {other}.{duck.name(k)}" for k in self._key)

    def _one(self, statement: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._ask(statement).fetchone()
        return row


def _same_state(one: Part, other: Part) -> bool:
    return one.state == other.state


def _paths(found: Sides, folder: Path, old: pa.Schema, new: pa.Schema) -> tuple[list[Path], list[Path]]:
    """The Parquet files to compare; of a pair, only rows that one of the two has otherwise."""
    paths: tuple[list[Path], list[Path]] = [part.path for part in found.old], [part.path for part in found.new]
    for number, (before, after) in enumerate(found.pairs):
        touched = np.union1d(before.touched, after.touched)
        for side, part, schema in ((0, before, old), (1, after, new)):
            part.target = schema
            rows = part.take(np.setdiff1d(touched, part.gone))
            place = folder / f"{number}-{side}.parquet"
            parquet.write(rows, place)
            paths[side].append(place)
    return paths


def _relation(files: Sequence[Path], schema: pa.Schema) -> str:
    if files:
        return f"read_parquet({duck.paths(files)}, union_by_name=true)"
    nulls = ", ".join(f"NULL AS {duck.name(name)}" for name in schema.names)
    return f"(SELECT {nulls} WHERE false)"


def _common(one: Any, other: Any) -> str:
    kinds = (one, other)
    types = pa.types
    if all(types.is_integer(kind) for kind in kinds):
        return "HUGEINT"
    if all(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) for kind in kinds):
        if any(types.is_floating(kind) for kind in kinds):
            return "DOUBLE"
        return f"DECIMAL(38, {max(kind.scale for kind in kinds if types.is_decimal(kind))})"
    if all(types.is_timestamp(kind) or types.is_date(kind) for kind in kinds):
        return "TIMESTAMPTZ" if any(types.is_timestamp(kind) and kind.tz for kind in kinds) else "TIMESTAMP"
    return "VARCHAR"


def _value_type(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def key_of(ws: Workspace, old: DatasetVersion, new: DatasetVersion) -> tuple[str, ...]:
    """The columns that name a row on both sides; empty for none."""
    key = (new.key,) if new.key else layout.layout_of(ws.objects, new).key if new.columns else ()
    return key if all(name in old.column_names() and name in new.column_names() for name in key) else ()
