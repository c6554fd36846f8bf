"""Tables that grow: append beyond a watermark, upsert and delete by key, compact.

Each makes a version whose tree holds what was there and a segment of what is new. What was there is
the version that the pin names; `orders@latest` is another. Two writers in one clone at once: the second
waits for the data set's lock, and looks again at what the first made, so none is lost. Clones of a
shared ledger each build on their pin, as branches do; where it is the newest version that was asked
for, its tree is compared under the ledger's lock, and the work repeated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any

from noria.core.errors import Conflict, UsageError
from noria.core.lazy import lazy
from noria.core.verb import verb
from noria.core.words import counted
from noria.data import lock, standing
from noria.data.columns import check_roles
from noria.data.commit import commit
from noria.data.forms import formats, text, where
from noria.data.records import DatasetVersion
from noria.data.rows import layout, read
from noria.data.rows.layout import AT_FILE, AT_ROW, Layout
from noria.data.rows.rowmerge import key_codes
from noria.data.select import checked_name, no_dataset
from noria.data.standing import Ground
from noria.data.tabular import segments, sources, tables
from noria.data.tabular.deleted import deleted_rows
from noria.data.tabular.grown import Appended, Compacted, Deleted, Grown, Upserted
from noria.data.tabular.late import LateRows, ordered
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = [
    "Appended",
    "Compacted",
    "Deleted",
    "Upserted",
    "append",
    "append_rows",
    "compact",
    "delete",
    "upsert",
    "upsert_rows",
]

ATTEMPTS = 5
_EXAMPLES = 5
_NUMBERS = ("is_integer", "is_floating", "is_decimal")
_ORDERED = (*_NUMBERS, "is_timestamp", "is_date", "is_time", "is_string", "is_large_string")
_ISO = "write them as 2020-12-31, or take another column that only grows"


@verb(permission="data.add", where="project")
def append(
    ws: Workspace,
    name: str,
    source: str,
    *,
    watermark: str = "",
    note: str = "",
    query: str = "",
    table: str = "",
    late: bool = False,
) -> Appended:
    """Append the rows of a source that lie beyond the last watermark; a data set that is not there begins with them.

    It is built on the version that the project stands on, as an upsert and a deletion are: `orders@latest` instead
    of `orders` names the newest.

    Rows at or before the watermark that the data set does not hold came late: they are counted and
    left out, or appended with `late`. Where the data set has a key, they are told by it. Rows that were
    deleted stay out; `upsert` puts one back.

    Args:
        source: a file, a folder, or an address such as postgresql://host/name or s3://bucket/prefix.
        watermark: the column that only grows, such as an id or a time of writing; by default that of the last append.
        query: of a database, the SELECT; table: or the table's name.
        late: append late rows too.
        note: a remark that the version keeps.
    Raises: UsageError for a column that is not there or rows that do not fit; Conflict.
    Example:
        noria data append orders postgresql://db/shop --table orders --watermark id
    """
    with sources.open_rows(ws, source, query=query, table=table, kinds=_kinds(ws, name)) as rows:
        told = sources.named_source(ws, source, query, table)
        return append_rows(ws, name, rows, watermark, source=told, note=note, late=late)


@verb(permission="data.add", where="project")
def upsert(
    ws: Workspace, name: str, source: str, key: str = "", *, note: str = "", query: str = "", table: str = ""
) -> Upserted:
    """Insert the rows of a source whose key is new, and replace those whose key is there.

    Replaced rows stay where they are, new ones come at the end; rows that are the same change
    nothing. Written as segments beside the table: `noria data compact` folds them in.

    Args:
        source: a file, a folder, or an address such as sqlite:///shop.db.
        key: the column that names a row, or several with commas; by default the data set's.
        query: of a database, the SELECT; table: or the table's name.
        note: a remark that the version keeps.
    Raises: NotFound; UsageError for a key that is null or names two rows, or rows that do not fit; Conflict.
    Example:
        noria data upsert customers changed.csv --key id
    """
    with sources.open_rows(ws, source, query=query, table=table, kinds=_kinds(ws, name)) as rows:
        told = sources.named_source(ws, source, query, table)
        return upsert_rows(ws, name, rows, key, source=told, note=note)


@verb(permission="data.add", where="project")
def delete(
    ws: Workspace, name: str, *, key_values: Sequence[str] = (), condition: str = "", key: str = "", note: str = ""
) -> Deleted:
    """Remove rows from a table: those with these keys, or those that fit a condition.

    The version before keeps them; to erase them for good is another matter.

    Args:
        key_values: keys of rows, as text; may be given many times, and keys that are no text also with commas.
        condition: such as "country = 'DE' and amount < 0".
        key: the column that names a row; by default the data set's.
        note: a remark that the version keeps.
    Raises: NotFound; UsageError for a condition that cannot be read; Conflict.
    Example:
        noria data delete customers --key-values 17,18 --note "asked to be forgotten"
    """
    if bool(key_values) == bool(condition):
        raise UsageError("say which rows: by key or by condition", hint='--key-values 17, or --where "age < 0"')
    return _changed(ws, name, lambda on, before: _deleted(ws, on, before, key_values, condition, key, note))


@verb(permission="data.add", where="project")
def compact(ws: Workspace, name: str, *, note: str = "") -> Compacted:
    """Write a table that grew by segments as one file again; its rows, and so its content's id, stay.

    Raises: NotFound; Conflict.
    Example:
        noria data compact orders
    """
    return _changed(ws, name, lambda on, before: _compacted(ws, on, before, note))


def append_rows(
    ws: Workspace,
    name: str,
    rows: pa.RecordBatchReader,
    watermark: str,
    *,
    source: str = "",
    note: str = "",
    late: bool = False,
) -> Appended:
    """`append` of a stream of batches, which is read once. Raises: as `append`."""
    told = standing.ground(ws, name)
    watermark = watermark or _noted_column(told)
    if watermark not in rows.schema.names:
        known = ", ".join(rows.schema.names[:12])
        raise UsageError(f"the rows have no column {watermark!r} to be the watermark", hint=f"columns: {known}")
    _check_ordered(watermark, rows.schema.field(watermark).type, may_be_null=True)
    with ExitStack() as stack:
        stack.enter_context(lock.dataset_lock(ws, told.name))
        stack.enter_context(lock.leased(ws, f"data append {told.name}"))()
        held = stack.enter_context(LateRows(ws, rows, watermark))
        for _ in range(ATTEMPTS):
            on = standing.ground(ws, name)
            if on.base is None:
                done = _begun(ws, on.name, held, watermark, source, note)
            else:
                done = _appended(ws, on, held, watermark, source, note, late=late)
            if done is not None:
                return done if on.base is None else _stood(ws, on, done)
    raise Conflict(f"{name} changes faster than rows can be appended", hint="try again")


def upsert_rows(
    ws: Workspace, name: str, rows: pa.RecordBatchReader, key: str = "", *, source: str = "", note: str = ""
) -> Upserted:
    """`upsert` of a stream of batches; memory holds all of them. Raises: as `upsert`."""
    given = rows.read_all()
    return _changed(ws, name, lambda on, before: _upserted(ws, on, before, given, key, source, note))


def _compacted(ws: Workspace, on: Ground, before: Layout, note: str) -> Compacted | None:
    version = on.version
    told = Compacted(dataset=version, files_before=version.files, size_before=version.size_bytes)
    if not before.is_segmented:
        return told
    content = tables.store(ws, read.stream(ws, version), version.name, time=version.time, allow_empty=True)
    if version.content != version.tree and content.content != version.content:
        raise AssertionError(f"compacting {version.ref} changed what it says")
    made = _commit(ws, on, content, operation="compact", source=version.ref, note=note)
    return None if made is None else dataclasses.replace(told, dataset=made)


def _begun(ws: Workspace, name: str, held: LateRows, watermark: str, source: str, note: str) -> Appended | None:
    content = tables.store(ws, held.rows(), name)
    mark = _mark(watermark, held.newest())
    made = _committed(
        lambda: commit(
            ws,
            name,
            content,
            roles={"key": "", "time": "", "label": ""},
            source=source,
            note=note,
            operation="append",
            watermark=mark,
            parent="",
        )
    )
    if made is None:
        return None
    return Appended(dataset=made, appended=content.rows, known=0, late=0, unordered=held.unordered, watermark=mark)


def _appended(
    ws: Workspace, on: Ground, held: LateRows, watermark: str, source: str, note: str, *, late: bool
) -> Appended | None:
    version = on.version
    before = layout.layout_of(ws.objects, version)
    schema = read.schema_of(ws, version)
    if watermark not in schema.names:
        raise UsageError(f"{version.ref} has no column {watermark!r} to be the watermark")
    gone = deleted_rows(ws, version, schema)
    last = _last_mark(ws, version, watermark, schema, gone.rows)
    found = held.split(version, schema, last, gone.rows)
    if late and found.late and gone.lacking:
        raise UsageError(
            f"the version before {gone.lacking} is not here, so late rows cannot be told from deleted ones",
            hint=f"noria data pull {version.name} --history, or noria data upsert what shall be there",
        )
    mark = _mark(watermark, found.newest if found.newest is not None else last)
    told = Appended(
        dataset=version,
        appended=0,
        known=found.known,
        late=found.late,
        unordered=found.unordered,
        watermark=mark,
        late_examples=found.examples,
        deleted=found.deleted,
    )
    fresh = found.rows(with_late=late)
    if not found.beyond and not (late and found.late):
        return told
    count = found.beyond + (found.late if late else 0)
    target = _widened(schema, held.schema, version.name)
    is_same = target.equals(schema)
    if before.key:
        done = _upserted(ws, on, before, fresh.read_all(), ",".join(before.key), source, note, mark=mark)
        return None if done is None else dataclasses.replace(told, dataset=done.dataset, appended=count)
    made, written, is_whole = segments.with_rows(
        ws, version, before, segments.conformed(fresh, target), is_same_schema=is_same
    )
    grown = segments.grown(ws, version, made, written) if is_whole else segments.described(ws, version, made)
    commit_of = _commit(ws, on, grown, operation="append", source=source, note=note, watermark=mark)
    return None if commit_of is None else dataclasses.replace(told, dataset=commit_of, appended=count)


def _upserted(
    ws: Workspace, on: Ground, before: Layout, given: pa.Table, key: str, source: str, note: str, *, mark: str = ""
) -> Upserted | None:
    version = on.version
    names = _key(version, before, key)
    known = read.schema_of(ws, version)
    lacking = [column for column in known.names if column not in given.column_names]
    if lacking:
        more = f" and {len(lacking) - 6} more" if len(lacking) > 6 else ""
        does = "an append by key adds" if mark else "an upsert replaces"
        raise UsageError(
            f"the rows have no column {', '.join(lacking[:6])}{more}: {does} whole rows of {version.ref}",
            hint="give every column; what should become empty, as an empty value",
        )
    schema = _widened(known, given.schema, version.name)
    rows = pa.Table.from_batches(list(segments.conformed(given.to_batches(), schema)), schema)
    key_codes([("the rows", rows)], names)
    parts = read.parts(ws, version)
    for part in parts:
        part.target = schema
    found = segments.look_up(parts, rows.select(names))
    there = np.flatnonzero(found.is_there)
    old = segments.current_rows(parts, found, there, schema)
    new = rows.take(pa.array(there, pa.int64()))
    changed = there[~segments.same_rows(old, new)]
    fresh = np.flatnonzero(~found.is_there)
    told = Upserted(
        dataset=version,
        inserted=len(fresh),
        updated=len(changed),
        unchanged=len(there) - len(changed),
        new_columns=tuple(name for name in schema.names if name not in known.names),
    )
    if not len(changed) and not len(fresh):
        return told
    updates = segments.placed(rows.take(pa.array(changed, pa.int64())), found, changed)
    made = segments.with_deltas(ws, before, updates=updates, deletes=None, key=names)
    if len(fresh):
        inserted = rows.take(pa.array(fresh, pa.int64())).to_reader()
        made, _, _ = segments.with_rows(ws, version, made, inserted, is_same_schema=False)
    content = segments.described(ws, version, made)
    is_append = bool(mark)
    committed = _commit(
        ws,
        on,
        content,
        operation="append" if is_append else "upsert",
        source=source,
        note=note,
        watermark=mark or version.watermark,
        key=names[0] if len(names) == 1 and not version.key else "",
    )
    return None if committed is None else dataclasses.replace(told, dataset=committed)


def _deleted(
    ws: Workspace, on: Ground, before: Layout, key_values: Sequence[str], condition: str, key: str, note: str
) -> Deleted | None:
    version = on.version
    schema = read.schema_of(ws, version)
    parts = read.parts(ws, version)
    for part in parts:
        part.target = schema
    missing = 0
    names: list[str] = []
    if key_values:
        names = _key(version, before, key)
        if len(names) > 1:
            raise UsageError(f"the key has {len(names)} columns", hint=f'--where "{names[0]} = … and {names[1]} = …"')
        keys = _typed_keys(key_values, names[0], schema)
        found = segments.look_up(parts, keys)
        there = np.flatnonzero(found.is_there)
        missing = len(keys) - len(there)
        gone = segments.placed(keys.take(pa.array(there, pa.int64())), found, there)
    else:
        names = [name for name in (before.key or (version.key,)) if name in schema.names]
        gone = _fitting(parts, names, where.parse(condition, read.decoded(schema)), schema)
    if not gone.num_rows:
        return Deleted(dataset=version, deleted=0, missing=missing)
    made = segments.with_deltas(ws, before, updates=None, deletes=gone, key=names)
    content = segments.described(ws, version, made)
    told = f"where {condition}" if condition else counted(gone.num_rows + missing, "key")
    committed = _commit(ws, on, content, operation="delete", source=told, note=note, watermark=version.watermark)
    return None if committed is None else Deleted(dataset=committed, deleted=gone.num_rows, missing=missing)


def _fitting(
    parts: Sequence[read.Part], names: Sequence[str], condition: where.Condition, schema: pa.Schema
) -> pa.Table:
    """The keys and places of all rows that fit."""
    found = []
    kinds = [pa.field(AT_FILE, pa.int32()), pa.field(AT_ROW, pa.int64())]
    target = pa.schema([*(schema.field(name) for name in names), *kinds])
    for part in parts:
        for _, batch in part.batches(list(names), where=condition, places=True):
            if batch.num_rows:
                file = pa.array(np.full(batch.num_rows, part.number, dtype=np.int32))
                arrays = [*(batch.column(name) for name in names), file, batch.column(AT_ROW)]
                found.append(pa.Table.from_arrays(arrays, schema=target))
    return pa.concat_tables(found) if found else target.empty_table()


def _split_keys(text: str, kind: pa.DataType) -> list[str]:
    """Keys that were given with commas between them. A text may hold a comma itself, and so is one key."""
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
    return [text] if is_text else [part.strip() for part in text.split(",")]


def _typed_keys(values: Sequence[str], name: str, schema: pa.Schema) -> pa.Table:
    kind: Any = schema.field(name).type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    typed = []
    for value in dict.fromkeys(each for given in values for each in _split_keys(given, plain)):
        try:
            typed.append(where.value_as(value, plain).as_py())
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise UsageError(f"{value[:40]!r} cannot be a key: column {name!r} is {plain}") from error
    found: pa.Table = pa.table({name: pa.array(typed, plain)})
    return found


def _changed(ws: Workspace, name: str, change: Callable[[Ground, Layout], Grown | None]) -> Grown:
    """What a change does to a version; done again each time that somebody else was first; under the lock."""
    bare = checked_name(name.partition("@")[0])
    with lock.dataset_lock(ws, bare), lock.leased(ws, f"data {bare}") as claim:
        claim()
        for _ in range(ATTEMPTS):
            on = _table(ws, name)
            done = change(on, layout.layout_of(ws.objects, on.version))
            if done is not None:
                return _stood(ws, on, done)
    raise Conflict(f"{bare} changes faster than this can be done", hint="try again")


def _table(ws: Workspace, name: str) -> Ground:
    on = standing.ground(ws, name)
    if on.base is None:
        with ws.ledger.read() as tx:
            raise no_dataset(tx, on.name, ws.project.root)
    if not on.base.columns:
        raise UsageError(f"{on.base.ref} holds no table", hint="only the rows of tables can be changed")
    return on


def _stood(ws: Workspace, on: Ground, done: Grown) -> Grown:
    """The result, and what is in it or not beside what the project stood on. It is pinned, if nothing changed too."""
    if on.pin is not None and done.dataset.tree == on.version.tree != on.pin.tree:
        lock.pin(ws, on.version)
    return dataclasses.replace(done, brings_in=standing.brought_in(on), leaves_out=standing.left_out(on, done.dataset))


def _commit(
    ws: Workspace,
    on: Ground,
    content: Any,
    *,
    operation: str,
    source: str,
    note: str,
    watermark: str = "",
    key: str = "",
) -> DatasetVersion | None:
    """The next version, or None if another one came between."""
    version = on.version
    roles = {**segments.roles(version), **({"key": key} if key else {})}
    check_roles(content.columns, roles)
    return _committed(
        lambda: commit(
            ws,
            version.name,
            content,
            roles=roles,
            source=source,
            note=note,
            operation=operation,
            watermark=watermark or version.watermark,
            parent=version.tree,
            is_newest=on.is_newest,
            anew=True,
        )
    )


def _committed(make: Callable[[], DatasetVersion]) -> DatasetVersion | None:
    try:
        return make()
    except Conflict:
        return None  # the newest version is another one now: the caller looks again


def _key(version: DatasetVersion, before: Layout, key: str) -> list[str]:
    is_one = any(key == column for column, _, _ in version.columns)  # a name may hold a comma
    split = [key] if is_one else [name.strip() for name in key.split(",") if name.strip()]
    names = split or list(before.key) or [version.key]
    if not names[0]:
        raise UsageError(f"{version.name} has no key yet", hint="--key COLUMN")
    if before.key and tuple(names) != before.key:
        raise UsageError(
            f"{version.name} is kept by the key {', '.join(before.key)}, not {', '.join(names)}",
            hint=f"noria data compact {version.name}, then give another key",
        )
    return names


def _widened(schema: pa.Schema, new: pa.Schema, name: str) -> pa.Schema:
    """The version's columns and types, wider or more where the new rows need it."""
    if all(column in schema.names and schema.field(column).type == new.field(column).type for column in new.names):
        return schema
    kept = [pa.field(each.name, schema.field(each.name).type if _takes(schema, each) else each.type) for each in new]
    return formats.unify({name: schema, "the rows": pa.schema(kept)})


def _takes(schema: pa.Schema, field: pa.Field[Any]) -> bool:
    """Whether a column of the version takes another's values without loss, its own type staying."""
    if field.name not in schema.names:
        return False
    here: Any = schema.field(field.name).type
    there: Any = field.type
    plain = here.value_type if pa.types.is_dictionary(here) else here
    is_text = pa.types.is_string(plain) or pa.types.is_large_string(plain)
    if pa.types.is_null(there) or (pa.types.is_dictionary(there) and not pa.types.is_dictionary(here)):
        return True
    if pa.types.is_integer(plain) and pa.types.is_integer(there):
        return bool(
            plain.bit_width >= there.bit_width
            and pa.types.is_signed_integer(plain) == pa.types.is_signed_integer(there)
        )
    return is_text and (pa.types.is_string(there) or pa.types.is_large_string(there))


def _kinds(ws: Workspace, name: str) -> Mapping[str, str]:
    """The types that columns of text files have in a data set; those that text has no form for come as text."""
    version = standing.ground(ws, name).base
    if version is None:
        return {}
    return {column: kind if text.is_one_of_kinds(kind) else "string" for column, kind, _ in version.columns}


def _noted_column(on: Ground) -> str:
    column = on.base.watermark.partition("=")[0] if on.base else ""
    if not column:
        raise UsageError("say which column only grows", hint="--watermark COLUMN")
    return column


def _mark(column: str, value: Any) -> str:
    """A watermark as text that its type reads back. Raises: UsageError for one that is no order of time."""
    is_text = value is not None and (pa.types.is_string(value.type) or pa.types.is_large_string(value.type))
    if is_text and text.is_day_or_month_first(pa.array([value.as_py()])):
        raise UsageError(f"dates of {column!r} begin with a day or a month: as text 02/01 is before 31/12", hint=_ISO)
    return f"{column}={'' if value is None else value.cast(pa.string()).as_py()}"


def _check_ordered(column: str, kind: Any, *, may_be_null: bool = False) -> None:
    """Raises: UsageError for a type that has no order in which rows come; the same for the first append as later."""
    plain_kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    asked = (*_ORDERED, *(("is_null",) if may_be_null else ()))
    if not any(getattr(pa.types, each)(plain_kind) for each in asked):
        raise UsageError(f"column {column!r} is {kind} and cannot be a watermark", hint="a number, a time or a text")


def _last_mark(ws: Workspace, version: DatasetVersion, column: str, schema: pa.Schema, gone: pa.Table) -> Any:
    """The greatest value that an append has seen, or that the version holds or held, as a scalar; None for none."""
    kind: Any = schema.field(column).type
    _check_ordered(column, kind)
    greatest = None
    removed = gone.select([column]).to_batches()
    for batch in chain(read.stream(ws, version, columns=[column]), removed):
        found = pc.max(ordered(batch.column(0)))
        if found.is_valid and (greatest is None or pc.greater(found, greatest).as_py()):
            greatest = found
    name, _, noted = version.watermark.partition("=")
    if name == column and noted:
        mark = where.value_as(noted, kind)
        is_one = ordered(pa.array([mark.as_py()], mark.type)).null_count == 0
        greatest = mark if is_one and (greatest is None or pc.greater(mark, greatest).as_py()) else greatest
    return greatest
