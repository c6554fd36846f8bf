"""Three-way merge of keyed tables: what two sides changed since their common base, row by row.

A row that one side changed takes that side; one that both changed alike is no quarrel; one that both
changed differently, or one removed and the other changed, is a conflict named by its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.errors import UsageError
from noria.core.lazy import lazy
from noria.core.words import counted
from noria.data.forms import formats
from noria.data.rows.parts import conform_table

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["equal", "key_codes", "merge_appended", "merge_rows", "same_rows"]

_SHOWN_KEYS = 3
_SHOWN_ROWS = 4


def merge_rows(
    base: pa.Table, ours: pa.Table, theirs: pa.Table, key: str | Sequence[str]
) -> tuple[pa.Table, list[str]]:
    """The merged rows and the keys, as text, of those that cannot be merged.

    Rows keep our order; what they added comes behind, in theirs. In a conflict the merged table has
    our side. Columns are joined by name, the wider type where two differ; a column that only one
    side has is null in rows of the other.

    Raises: UsageError if the key is no column, is null, or names two rows of one table.
    """
    names = [key] if isinstance(key, str) else list(key)
    schema = formats.unify({"ours": _plain(ours), "theirs": _plain(theirs), "the base": _plain(base)})
    first, mine, other = (conform_table(_undictionary(each), schema) for each in (base, ours, theirs))
    codes = key_codes([("the base", first), ("ours", mine), ("theirs", other)], names)
    total = 1 + max((int(each.max()) for each in codes if len(each)), default=-1)
    at = [_positions(each, total) for each in codes]
    # for each key: does a side differ from the base (a row that is not there is a value of its own)
    ours_same = _alike(first, mine, at[0], at[1])
    theirs_same = _alike(first, other, at[0], at[2])
    both_same = _alike(mine, other, at[1], at[2])
    is_conflict = ~ours_same & ~theirs_same & ~both_same
    takes_theirs = ours_same & ~theirs_same
    keep_mine = ~takes_theirs[codes[1]] if len(codes[1]) else np.zeros(0, dtype=bool)
    in_place = takes_theirs[codes[1]] & (at[2][codes[1]] >= 0) if len(codes[1]) else np.zeros(0, dtype=bool)
    picks = np.where(in_place, mine.num_rows + at[2][codes[1]], np.arange(mine.num_rows))[keep_mine | in_place]
    fresh = np.flatnonzero(takes_theirs[codes[2]] & (at[1][codes[2]] < 0)) if len(codes[2]) else np.zeros(0, np.int64)
    whole = pa.concat_tables([mine, other])
    merged = whole.take(pa.array(np.concatenate([picks, mine.num_rows + fresh]), pa.int64()))
    return merged, _named(first, mine, other, at, np.flatnonzero(is_conflict), names)


def merge_appended(base_rows: int, ours: pa.Table, theirs: pa.Table) -> pa.Table | None:
    """Our rows, and behind them what theirs has behind the base's rows and ours has not; None for nested columns.

    Both begin with the base's rows. A row that both sides appended, as often as both did, is one row: the same
    source came twice. That is how an append tells rows that it knows.

    Raises: UsageError for columns that have no common type.
    """
    schema = formats.unify({"ours": _plain(ours), "theirs": _plain(theirs)})
    if any(pa.types.is_nested(field.type) for field in schema):
        return None
    mine, other = (conform_table(_undictionary(each), schema) for each in (ours, theirs))
    there, came = mine.slice(base_rows), other.slice(base_rows)
    codes = np.zeros(there.num_rows + came.num_rows, dtype=np.int64)
    for name in schema.names if len(codes) else ():
        values = pa.chunked_array([*there[name].chunks, *came[name].chunks], schema.field(name).type)
        found = _codes(pc.dictionary_encode(values, null_encoding="encode").combine_chunks())
        _, codes = np.unique(codes * (int(found.max()) + 1) + found, return_inverse=True)
    known = np.bincount(codes[: there.num_rows], minlength=int(codes.max(initial=-1)) + 1)
    theirs_codes = codes[there.num_rows :]
    order = np.argsort(theirs_codes, kind="stable")
    begins = np.searchsorted(theirs_codes[order], theirs_codes[order])
    turn = np.empty(len(order), dtype=np.int64)
    turn[order] = np.arange(len(order)) - begins  # the how manieth of its kind a row is
    return pa.concat_tables([mine, came.filter(pa.array(turn >= known[theirs_codes]))])


def key_codes(tables: Sequence[tuple[str, pa.Table]], key: Sequence[str]) -> list[Any]:
    """The rows' keys as numbers that are equal where the keys are, over all tables; shape (n_rows,) each.

    Raises: UsageError if a key column is missing, a key is null, or a key names two rows of one table.
    """
    lengths = [table.num_rows for _, table in tables]
    combined = np.zeros(sum(lengths), dtype=np.int64)
    for name in key:
        for where, table in tables:
            if name not in table.column_names:
                raise UsageError(f"there is no column {name!r} in {where}, and it is the key")
            if table[name].null_count:
                lacking = counted(table[name].null_count, "row")
                raise UsageError(f"{lacking} of {where} without a key: {name!r} is null")
        columns = [_undictionary(table)[name] for _, table in tables]
        kind: Any = columns[0].type
        if pa.types.is_nested(kind):
            raise UsageError(f"column {name!r} is {kind} and cannot be a key", hint="a number, a time or a text")
        values = pa.chunked_array([chunk for column in columns for chunk in column.chunks], kind)
        if not len(values):
            continue
        encoded = pc.dictionary_encode(values).combine_chunks()
        codes = _codes(encoded)
        if combined.any():
            combined = combined * (int(codes.max()) + 1) + codes
            _, combined = np.unique(combined, return_inverse=True)
        else:
            combined = codes
    found = np.split(combined, np.cumsum(lengths)[:-1])
    for number, ((where, _), codes) in enumerate(zip(tables, found, strict=True)):
        if len(np.unique(codes)) < len(codes):
            raise UsageError(
                f"a key is there twice in {where}: {_doubles(tables[number][1], codes, key)}",
                hint="keep one row of each key, or give a key that names one row",
            )
    return found


def _doubles(table: pa.Table, codes: Any, key: Sequence[str]) -> str:
    """The first keys that name several rows, with the numbers of these rows, from 0 as everywhere."""
    values, first, counts = np.unique(codes, return_index=True, return_counts=True)
    order = np.argsort(np.where(counts > 1, first, len(codes)), kind="stable")[: int((counts > 1).sum())]
    told = []
    for place in order[:_SHOWN_KEYS]:
        rows = np.flatnonzero(codes == values[place])
        named = ", ".join(f"{name} = {table[name][int(rows[0])].as_py()}" for name in key)
        numbers = ", ".join(f"{row:,}" for row in rows[:_SHOWN_ROWS])
        told.append(f"{named} (rows {numbers}{', …' if len(rows) > _SHOWN_ROWS else ''}, from 0)")
    more = f", and {counted(len(order) - len(told), 'more key')}" if len(order) > len(told) else ""
    return "; ".join(told) + more


def same_rows(left: pa.Table, right: pa.Table) -> Any:
    """Where two tables of one schema and length have equal rows: null equals null, NaN NaN, and 0.0 is not -0.0."""
    same = np.ones(left.num_rows, dtype=bool)
    for name in left.column_names:
        same &= ~_differ(left[name], right[name])
    return same


def _plain(table: pa.Table) -> pa.Schema:
    return _undictionary(table).schema.remove_metadata()


def _undictionary(table: pa.Table) -> pa.Table:
    """Categories by value: two sides may have written their levels in another order."""
    columns = []
    for values in table.columns:
        kind: Any = values.type
        columns.append(values.cast(kind.value_type) if pa.types.is_dictionary(kind) else values)
    return pa.Table.from_arrays(columns, names=table.column_names)


def _codes(encoded: Any) -> Any:
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries()
        return np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks]).astype(np.int64)
    return encoded.indices.to_numpy().astype(np.int64)


def _positions(codes: Any, total: int) -> Any:
    """The row of each key, -1 where it has none."""
    found = np.full(total, -1, dtype=np.int64)
    found[codes] = np.arange(len(codes))
    return found


def _alike(left: pa.Table, right: pa.Table, at_left: Any, at_right: Any) -> Any:
    """For each key: whether both tables say the same of it, which may be that there is no row."""
    same = (at_left < 0) & (at_right < 0)
    both = np.flatnonzero((at_left >= 0) & (at_right >= 0))
    rows = same_rows(left.take(pa.array(at_left[both], pa.int64())), right.take(pa.array(at_right[both], pa.int64())))
    same[both] = rows
    return same


def _differ(left: Any, right: Any) -> Any:
    kind = left.type
    if not len(left):
        return np.zeros(0, dtype=bool)
    if pa.types.is_nested(kind):
        pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
        return np.array([not equal(one, other) for one, other in pairs], dtype=bool)
    if pa.types.is_null(kind):
        return np.zeros(len(left), dtype=bool)
    if pa.types.is_floating(kind):
        left, right = _bits(left), _bits(right)
    unlike = np.asarray(pc.fill_null(pc.not_equal(left, right), False))
    return unlike | (np.asarray(pc.is_null(left)) != np.asarray(pc.is_null(right)))


def _bits(values: Any) -> Any:
    """Floats as whole numbers by their bits, all NaNs one."""
    wide = values.cast(pa.float64())
    found = np.array(pc.fill_null(wide, 0.0), dtype=np.float64)
    found = np.where(np.isnan(found), np.nan, found)
    return pa.array(found.view(np.int64), mask=np.asarray(pc.is_null(wide)))


def equal(one: Any, other: Any) -> bool:
    """Whether two plain values are the same: NaN is NaN, 0.0 is not -0.0, 1 is not 1.0."""
    if isinstance(one, float) and isinstance(other, float):
        return one.hex() == other.hex() or (one != one and other != other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other) and type(one) is type(other)


def _named(
    base: pa.Table, ours: pa.Table, theirs: pa.Table, at: Sequence[Any], keys: Any, names: Sequence[str]
) -> list[str]:
    found = []
    for code in keys.tolist():
        table, row = next(
            (table, int(rows[code])) for table, rows in zip((base, ours, theirs), at, strict=True) if rows[code] >= 0
        )
        found.append(", ".join(str(table[name][row].as_py()) for name in names))
    return found
