"""What changed between two versions: columns, rows, and how the values moved.

Files with the same digest on both sides are not read to find changed rows, nor are nodes of the trees
that are equal. With a key, rows are added, removed or changed by key; without one they are counted as
a multiset. Memory is bounded: rows are joined on disk, columns looked at one by one. When files were only
added, the columns of the new rows are compared with all rows before, which is what a reader of a
growing data set wants to know; otherwise all rows are compared with all rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.verb import verb
from noria.core.words import counted
from noria.data import records
from noria.data.records import DatasetVersion
from noria.data.rows import read
from noria.data.rows.layout import MANIFEST
from noria.data.select import resolve
from noria.data.tabular import rowdiff
from noria.data.tabular.rowdiff import RowChanges
from noria.store.tree import diff_trees
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["ColumnChange", "ColumnShift", "FileChanges", "RowChanges", "TableDiff", "diff"]

SHOWN_SHIFT = 0.1
"""A shift from which on a column counts as moved: a tenth of its rows stand elsewhere."""
FILES_MAX = 1000
SAMPLE_ROWS = 1_000_000
"""Of a longer column of numbers or times this many values, evenly taken, say how it moved: the error of a
share is below 0.2 %. Levels of text are counted in full, since a rare new one is news."""
_LEVELS = 5
_ID_SHARE = 0.5
_ID_MIN = 100


@frozen(kw_only=True)
class ColumnChange:
    """A column that is new, gone, or of another type; `before` or `after` is empty where it is not there."""

    column: str
    before: str
    after: str


@frozen(kw_only=True)
class FileChanges:
    """Paths that are new, gone, or have other content, the first thousand of each; `same` counts the rest.

    `counts` says how many there are of each: added, removed, changed.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    same: int
    counts: tuple[int, int, int] = (0, 0, 0)


@frozen(kw_only=True)
class ColumnShift:
    """How the values of a column moved.

    `kind` is number, text, time or id. `size` is the share of rows that stand elsewhere, 0..1:
    Kolmogorov-Smirnov's D for numbers and times, total variation for text and booleans. `before`
    and `after` are the medians, or the commonest text; nulls are shares. `new_levels` and
    `gone_levels` are the commonest of theirs. A text that is another in most rows is an id: it has
    no distribution to move, and time moves by itself.
    """

    column: str
    kind: str
    size: float
    before: str
    after: str
    nulls_before: float
    nulls_after: float
    new_levels: tuple[str, ...] = ()
    gone_levels: tuple[str, ...] = ()

    @property
    def is_moved(self) -> bool:
        """Whether the values or the share of nulls moved by a tenth or more."""
        is_elsewhere = self.kind in ("number", "text") and self.size >= SHOWN_SHIFT
        return is_elsewhere or abs(self.nulls_after - self.nulls_before) >= SHOWN_SHIFT


@frozen(kw_only=True)
class TableDiff:
    """Everything that differs between `before` and `after` (refs such as `flights@3`).

    `compared` says which rows the shifts compare; `shifts` has every common column, most moved first.
    """

    before: str
    after: str
    summary: str
    is_same: bool
    files: FileChanges
    schema: tuple[ColumnChange, ...]
    rows: RowChanges
    compared: str
    shifts: tuple[ColumnShift, ...]


@verb(permission="data.read", changes=False)
def diff(ws: Workspace, a: str, b: str = "") -> TableDiff:
    """Compare two versions; one alone is compared with the version before it.

    A name alone is the version that noria.lock/ pins, so that it follows the branch, else the newest.

    Args:
        a: such as flights@2 or flights@2013-03; flights alone is what noria.lock/ pins, else the newest.
        b: likewise.
    Raises: NotFound; UsageError if there is nothing to compare with.
    Example:
        noria data diff flights@2 flights@3
    """
    if not b:
        new = resolve(ws, a)
        old = _before(ws, new)
    else:
        old, new = resolve(ws, a), resolve(ws, b)
    files = _files(ws, old, new)
    schema = _schema(old, new)
    is_same = old.content == new.content
    key = rowdiff.key_of(ws, old, new)
    rows = RowChanges(before=old.rows, after=new.rows, added=0, removed=0, key=", ".join(key))
    compared: str = ""
    shifts: tuple[ColumnShift, ...] = ()
    if not is_same and (old.columns or new.columns):
        found = rowdiff.sides(ws, old, new)
        rows = rowdiff.compare(ws, old, new, found, key)
        compared, shifts = _shifts(ws, old, new, found.fresh)
    return TableDiff(
        before=old.ref,
        after=new.ref,
        summary=_summary(files, schema, rows if old.columns or new.columns else None, shifts, is_same=is_same),
        is_same=is_same,
        files=files,
        schema=schema,
        rows=rows,
        compared=compared,
        shifts=shifts,
    )


def _before(ws: Workspace, new: DatasetVersion) -> DatasetVersion:
    """The version with the next lower number; numbers may have gaps where versions came from elsewhere."""
    with ws.ledger.read() as tx:
        found = [each for each in records.versions(tx, new.name) if each.version < new.version]
    if not found:
        raise UsageError(
            f"{new.ref} is the first version here: there is nothing before it",
            hint="name two versions, or noria data pull --history",
        )
    return found[-1]


def _files(ws: Workspace, old: DatasetVersion, new: DatasetVersion) -> FileChanges:
    """By path, reading only the nodes of the two trees that differ."""
    paths: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}
    counts = dict.fromkeys(paths, 0)
    for before, after in diff_trees(ws.objects, old.tree, new.tree):
        entry = after or before
        assert entry is not None, "a difference has a side"
        if entry.path == MANIFEST and (old.columns or new.columns):
            continue  # says where the rows are, and is no file of the user's
        kind = "added" if before is None else "removed" if after is None else "changed"
        counts[kind] += 1
        if len(paths[kind]) < FILES_MAX:
            paths[kind].append(entry.path)
    return FileChanges(
        added=tuple(paths["added"]),
        removed=tuple(paths["removed"]),
        changed=tuple(paths["changed"]),
        same=new.files - counts["added"] - counts["changed"],
        counts=(counts["added"], counts["removed"], counts["changed"]),
    )


def _schema(old: DatasetVersion, new: DatasetVersion) -> tuple[ColumnChange, ...]:
    before = {name: kind for name, kind, _ in old.columns}
    after = {name: kind for name, kind, _ in new.columns}
    return tuple(
        ColumnChange(column=name, before=before.get(name, ""), after=after.get(name, ""))
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    )


def _shifts(
    ws: Workspace, old: DatasetVersion, new: DatasetVersion, fresh: Sequence[str]
) -> tuple[str, tuple[ColumnShift, ...]]:
    """Which rows are compared, and every common column, most moved first. Memory holds one column at a time."""
    files = list(fresh) or None
    count = sum(part.rows for part in read.parts(ws, new, files))
    if not old.rows or not count:
        return "", ()
    compared = f"{counted(count, 'new row')} with {old.rows:,} before" if fresh else "all rows with all rows"
    skipped = {old.key, new.key, old.time, new.time}
    names = [name for name in new.column_names() if name in old.column_names() and name not in skipped]
    found = []
    for name in names:
        before, after = _values(ws, old, name, None), _values(ws, new, name, files)
        found.append(_shift(name, before, after))
    return compared, tuple(sorted(sorted(found, key=lambda shift: shift.column), key=_moved, reverse=True))


def _values(ws: Workspace, version: DatasetVersion, name: str, files: Sequence[str] | None) -> pa.ChunkedArray[Any]:
    """A column of a version; of a very long one of numbers every nth value, evenly over its rows."""
    reader = read.stream(ws, version, columns=[name], files=files)
    kind = reader.schema.field(0).type
    is_counted = not (_is_number(kind) or pa.types.is_temporal(kind))
    stride = 1 if is_counted else max(version.rows // SAMPLE_ROWS, 1)
    if stride == 1:
        return reader.read_all()[name]
    chunks, offset = [], 0
    for batch in reader:
        places = np.arange(-offset % stride, batch.num_rows, stride)
        chunks.append(batch.column(0).take(pa.array(places, pa.int64())))
        offset += batch.num_rows
    return pa.chunked_array(chunks, reader.schema.field(0).type)


def _moved(shift: ColumnShift) -> tuple[bool, float]:
    return shift.is_moved, max(shift.size, abs(shift.nulls_after - shift.nulls_before))


def _shift(name: str, before: pa.ChunkedArray[Any], after: pa.ChunkedArray[Any]) -> ColumnShift:
    nulls = (_null_share(before), _null_share(after))
    one, other = _plain(before), _plain(after)
    if _is_number(one.type) and _is_number(other.type):
        x, y = _numbers(one), _numbers(other)
        return _measured(name, "number", _ks(x, y), (_median(x), _median(y)), nulls)
    if pa.types.is_timestamp(one.type) and one.type == other.type:
        x, y = _numbers(one.cast(pa.int64())), _numbers(other.cast(pa.int64()))
        middles = (_time(one), _time(other))
        return _measured(name, "time", _ks(x, y), middles, nulls)
    mine, theirs = _shares(one), _shares(other)
    if len(theirs) > _ID_SHARE * (len(other) - other.null_count) > 0 and len(theirs) > _ID_MIN:
        return _measured(name, "id", 0.0, ("", ""), nulls)
    return ColumnShift(
        column=name,
        kind="text",
        size=round(sum(abs(mine.get(k, 0.0) - theirs.get(k, 0.0)) for k in {*mine, *theirs}) / 2, 4),
        before=next(iter(mine), ""),
        after=next(iter(theirs), ""),
        nulls_before=nulls[0],
        nulls_after=nulls[1],
        new_levels=tuple(level for level in theirs if level not in mine)[:_LEVELS],
        gone_levels=tuple(level for level in mine if level not in theirs)[:_LEVELS],
    )


def _measured(name: str, kind: str, size: float, middles: tuple[str, str], nulls: tuple[float, float]) -> ColumnShift:
    return ColumnShift(
        column=name,
        kind=kind,
        size=round(size, 4),
        before=middles[0],
        after=middles[1],
        nulls_before=nulls[0],
        nulls_after=nulls[1],
    )


def _time(values: pa.ChunkedArray[Any]) -> str:
    ordered = values.drop_null().sort() if values.null_count < len(values) else values.slice(0, 0)
    return str(ordered[(len(ordered) - 1) // 2].cast(pa.string()))[:19] if len(ordered) else ""


def _plain(values: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _null_share(values: pa.ChunkedArray[Any]) -> float:
    return round(float(pc.mean(pc.is_null(values, nan_is_null=True)).as_py() or 0.0), 4)


def _numbers(values: pa.ChunkedArray[Any]) -> Any:
    found = values.cast(pa.float64(), safe=False).to_numpy()
    return np.sort(found[np.isfinite(found)])


def _median(ordered: Any) -> str:
    return f"{float(ordered[(len(ordered) - 1) // 2]):.6g}" if len(ordered) else ""


def _ks(x: Any, y: Any) -> float:
    """Kolmogorov-Smirnov's D of two sorted samples; 1 if only one has values, 0 if none has."""
    if not len(x) or not len(y):
        return float(len(x) != len(y))
    at = np.concatenate([x, y])
    gaps = np.searchsorted(x, at, "right") / len(x) - np.searchsorted(y, at, "right") / len(y)
    return float(np.max(np.abs(gaps)))


def _shares(values: pa.ChunkedArray[Any]) -> Mapping[str, float]:
    """The share of each level among the values, most first."""
    counts = pc.value_counts(_as_text(values)).to_pylist() if len(values) else []
    found = {str(row["values"]): int(row["counts"]) for row in counts if row["values"] is not None}
    total = sum(found.values())
    return {level: found[level] / total for level in sorted(found, key=lambda level: (-found[level], level))}


def _as_text(values: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Each value as text; what Arrow has no words for (nested values, bytes that are no text) in Python's."""
    try:
        return values.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        told = [None if value is None else str(value) for value in values.to_pylist()]
        return pa.chunked_array([pa.array(told, pa.string())])


def _summary(
    files: FileChanges,
    schema: Sequence[ColumnChange],
    rows: RowChanges | None,
    shifts: Sequence[ColumnShift],
    *,
    is_same: bool,
) -> str:
    """One sentence: `+24,951 rows in 1 new file; 3 columns moved: temp ↑ 37.9 → 53.1, …`; no rows without tables."""
    if is_same:
        return "the same content"
    parts = []
    if rows is not None:
        told = [f"+{counted(rows.added, 'row')}"] * (rows.added > 0)
        told += [f"−{counted(rows.removed, 'row')}"] * (rows.removed > 0)
        told += [f"{counted(rows.changed, 'row')} changed"] * (rows.changed > 0)
        parts.append(", ".join(told) or "the same rows")
    where = zip(files.counts, ("new", "gone", "changed"), strict=True)
    parts.append(", ".join(f"{count:,} {word} file{'s' * (count != 1)}" for count, word in where if count))
    if schema:
        parts.append(f"{len(schema)} column{'s' * (len(schema) != 1)} of another shape: {_list(schema)}")
    moved = [shift for shift in shifts if shift.is_moved]
    if moved:
        named = ", ".join(_moved_in_words(shift) for shift in moved[:3])
        parts.append(f"{len(moved)} column{'s' * (len(moved) != 1)} moved: {named}{', …' if len(moved) > 3 else ''}")
    return "; ".join(part for part in parts if part)


def _moved_in_words(shift: ColumnShift) -> str:
    if abs(shift.nulls_after - shift.nulls_before) >= SHOWN_SHIFT:
        return f"{shift.column} null {shift.nulls_before:.1%} → {shift.nulls_after:.1%}"
    if shift.kind == "number" and shift.before != shift.after:
        return f"{shift.column} {shift.before} → {shift.after}"
    return f"{shift.column} ({shift.size:.0%} elsewhere)"


def _list(schema: Sequence[ColumnChange]) -> str:
    words = []
    for change in schema[:3]:
        if not change.before:
            words.append(f"+{change.column}")
        elif not change.after:
            words.append(f"−{change.column}")
        else:
            words.append(f"{change.column} {change.before} → {change.after}")
    return ", ".join(words) + (", …" if len(schema) > 3 else "")
