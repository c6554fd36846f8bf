"""Where rows come from: table files, a folder of them, a database, an object-store prefix.

An address with `://` is a source that an engine reads, chosen by its scheme in `plugins.py`:
`sqlite:///file.db?table=T`, `postgresql://host/name`, `s3://bucket/prefix`. What is under a prefix
is kept file by file with the digests of its bytes, as a folder would be; a table of a database is
kept as Parquet of its columns. Passwords never reach a fact, a message or a pin.
"""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import msgspec

from noria import plugins
from noria.core import identity
from noria.core.errors import NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.identity import Digest
from noria.core.lazy import lazy
from noria.core.printable import printable
from noria.core.progress import task
from noria.core.words import counted
from noria.data import columns, lock
from noria.data.commit import Content, commit
from noria.data.content import content_of_one
from noria.data.folders import elsewhere
from noria.data.folders.files import LEFT_OUT_SHOWN, DataFile
from noria.data.folders.walk import is_state, located, walk
from noria.data.forms import formats
from noria.data.forms import text as text_forms
from noria.data.records import DatasetVersion
from noria.data.tabular import tables
from noria.data.tabular.segments import conformed
from noria.store.bucket import Bucket, Item
from noria.store.objects import disk_faults
from noria.store.tree import Entry, Tree, write_tree
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")

__all__ = [
    "add_source",
    "default_name",
    "is_bucket",
    "is_source",
    "known_tags",
    "left_out",
    "listed",
    "named_source",
    "open_rows",
    "shown",
]

_THREADS = 8
_SHOWN = 12
_DOTS = (".", "..")
_BLOCK_BYTES = 1 << 20


class _Kept(msgspec.Struct, frozen=True):
    """What is known of a key of a bucket while its tag stays."""

    tag: str
    size: int
    digest: str
    inspected: formats.Inspected | None


def is_source(text: str) -> bool:
    """Whether a text is the address of a source rather than a path."""
    return "://" in text


def shown(text: str) -> str:
    """An address without user, password and settings, for facts and messages."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    place = rest.partition("?")[0]
    host, slash, path = place.partition("/")
    return f"{scheme.partition('+')[0]}://{host.rpartition('@')[2]}{slash}{path}"


def named_source(ws: Workspace, source: str, query: str = "", table: str = "") -> str:
    """Where rows came from, for facts and people: without secrets, and without the machine's folders."""
    if not is_source(source):
        place = Path(source).expanduser()
        place = (place if place.is_absolute() or place.exists() else ws.project.root / place).resolve()
        root = ws.project.root.resolve()
        return printable(place.relative_to(root).as_posix() if place.is_relative_to(root) else place.name)
    table = table or _table_of(source)
    return shown(source) + (f" {' '.join(query.split())}" if query else f" table {table}" if table else "")


def default_name(text: str, table: str = "") -> str:
    """The name of a data set from such a source: that of the table, or the last part of the address."""
    named = _table_of(text)
    chosen = table or named or shown(text).rstrip("/").rpartition("/")[2]
    return PurePosixPath(chosen.rpartition(".")[2] if table or named else chosen).stem


def _table_of(text: str) -> str:
    """The table that an address names itself, or ""."""
    query = text.partition("?")[2]
    return next((unquote_plus(part[6:]) for part in query.split("&") if part.startswith("table=")), "")


def is_bucket(text: str) -> bool:
    """Whether an address is a prefix of an object store."""
    return is_source(text) and _scheme(text) in plugins.names("bucket")


def listed(ws: Workspace, text: str) -> list[Item]:
    """Every key that is a file of the data set, sorted. Raises: StoreUnavailable."""
    return _found(ws, text).items


def known_tags(ws: Workspace, text: str, time: str) -> Mapping[str, _Kept]:
    """What the last `add` of a prefix has seen, by key."""
    return _remembered(_note(ws, text, time))


def add_source(
    ws: Workspace,
    text: str,
    name: str,
    *,
    query: str = "",
    table: str = "",
    note: str = "",
    roles: Mapping[str, str],
) -> tuple[DatasetVersion, str]:
    """Add what a source holds as a version of a data set. The same content gives the same version.

    Gives also what of a prefix was left out, in words; "" for nothing.

    Args:
        query, table: of a database; one of them, or `?table=` in the address.
    Raises: UsageError for an unknown source, a query that is refused, no rows; NotFound; StoreUnavailable.
    """
    with lock.dataset_lock(ws, name), lock.leased(ws, f"data add {name}") as claim:
        claim()
        left_out = ""
        if _scheme(text) in plugins.names("bucket"):
            if query or table:
                raise UsageError("a prefix of an object store has no query or table", where=shown(text))
            listing = _found(ws, text)
            left_out = listing.left_out
            content = _of_bucket(ws, text, roles.get("time", ""), listing)
        else:
            with open_rows(ws, text, query=query, table=table) as rows:
                content = tables.store(ws, rows, name, time=roles.get("time", ""))
        told = named_source(ws, text, query, table)
        made = commit(ws, name, content, roles=roles, source=told, note=note)
        elsewhere.remember(ws.project, name, text, made.content)
        return made, left_out


@contextmanager
def open_rows(
    ws: Workspace, source: str, *, query: str = "", table: str = "", kinds: Mapping[str, str] | None = None
) -> Iterator[pa.RecordBatchReader]:
    """The rows of a file, a folder of tables, a database or a prefix, as one stream.

    Args:
        kinds: types that columns of text files (CSV) have, where they are known; else they are inferred.
    Raises: NotFound; UsageError; StoreUnavailable.
    """
    if not is_source(source):
        if query or table:
            raise UsageError(f"{source} is a file: it has no query or table", hint="sqlite:///FILE names a database")
        path = Path(source).expanduser()
        yield _of_files(path if path.is_absolute() or path.exists() else ws.project.root / path, kinds or {})
        return
    scheme = _scheme(source)
    if scheme in plugins.names("bucket"):
        with tables.scratch(ws) as folder:
            _download(ws, source, folder)
            yield _of_files(folder, kinds or {})
        return
    if scheme not in plugins.names("source"):
        known = sorted({*plugins.names("source"), *plugins.names("bucket")})
        raise UsageError(f"{scheme!r} is not a source that is known", hint=f"one of: {', '.join(known)}")
    reader = plugins.load("source", scheme)
    with reader(source, query, table, folder=ws.project.root) as rows:
        yield rows


def _scheme(text: str) -> str:
    return text.partition("://")[0].partition("+")[0].lower()


def _of_files(path: Path, kinds: Mapping[str, str]) -> pa.RecordBatchReader:
    places = {
        f"{folder.prefix}{name}": Path(folder.path(name))
        for folder in walk(located(path))
        for name, *_ in folder.files
        if formats.holds_rows(f"{folder.prefix}{name}", is_one=path.is_file())
    }
    if not places:
        raise UsageError(f"{path.name} holds no table", hint="Noria reads .csv, .tsv, .parquet and .jsonl files")
    inspected = {name: formats.inspect(places[name], name) for name in sorted(places)}
    found = columns.text_kinds(inspected, {name: functools.partial(Path, place) for name, place in places.items()})
    texts = {name: places[name] for name in inspected if formats.format_of(name) != "parquet"}
    own = {column: kind for name in texts for column, kind, _ in inspected[name].columns}
    rounded = [
        column
        for column, kind in {**own, **found}.items()
        if kinds.get(column) == "double"
        and (text_forms.is_decimal(kind) or (kind == "string" and _are_wide_numbers(texts, column)))
    ]
    if rounded:
        raise UsageError(
            f"column {rounded[0]!r} of {path.name} holds numbers that a double would round",
            hint="the data set's column is double: round the numbers, or add the table as another data set",
        )
    known = {"csv": {**found, **kinds}, "jsonl": {**found, **_numeric(kinds)}}
    streams = {name: formats.stream(places[name], name, known.get(formats.format_of(name), {})) for name in inspected}
    if len(streams) == 1:
        return next(iter(streams.values()))
    schema = formats.unify({name: stream.schema for name, stream in streams.items()})
    return conformed((batch for stream in streams.values() for batch in stream), schema)


def _are_wide_numbers(places: Mapping[str, Path], column: str) -> bool:
    """Whether a column of text is of numbers that no decimal holds together, and a double would round."""
    try:
        return formats.exact_kinds(places, [column])[column] != "double"
    except pa.ArrowInvalid:
        return False  # it is text: reading it as a number names the file


def _numeric(kinds: Mapping[str, str]) -> dict[str, str]:
    """The columns of numbers: those of JSON lines are read as these, while texts there are texts already."""
    return {column: kind for column, kind in kinds.items() if kind == "double" or text_forms.is_decimal(kind)}


def _bucket(ws: Workspace, text: str) -> Bucket:
    """The bucket of an address, at the endpoint of the remote that has the same bucket, if there is one."""
    place = shown(text)
    host = place.partition("://")[2].partition("/")[0]
    endpoint = region = ""
    for remote in ws.project.remotes.values():
        if _scheme(remote.url) == _scheme(text) and remote.url.partition("://")[2].partition("/")[0] == host:
            endpoint, region = remote.endpoint, remote.region
            break
    made: Bucket = plugins.load("bucket", _scheme(text))(place, endpoint=endpoint, region=region)
    return made


@frozen
class _Found:
    """What an address of an object store names: the keys below a prefix, or with `is_one` the one key that it is.

    `left_out` says which keys are no content.
    """

    bucket: Bucket
    items: list[Item]
    is_one: bool = False
    left_out: str = ""


def _found(ws: Workspace, text: str) -> _Found:
    bucket = _bucket(ws, text)
    items, left_out = _items(bucket)
    folder, _, name = shown(text).rstrip("/").rpartition("/")
    if items or not name or folder.endswith(":/") or text.endswith("/"):
        return _Found(bucket, items, left_out=left_out)
    above = _bucket(ws, folder)
    item = above.stat(name)
    return _Found(above, [item], is_one=True) if item is not None else _Found(bucket, [])


def _note(ws: Workspace, text: str, time: str) -> Path:
    key = identity.digest(json.dumps([shown(text), time]).encode())
    return ws.project.state / "cache" / "sources" / f"{key[7:]}.json"


def _items(bucket: Bucket) -> tuple[list[Item], str]:
    """Every key below the prefix that is a file of the data set, sorted; and in words what is none.

    Left out are what tools keep for themselves, and the keys without bytes that mark a folder.

    Raises: UsageError naming every key that cannot be the path of a file.
    """
    found, own, markers = [], set[str](), []
    for item in bucket.list(""):
        parts = item.key.split("/")
        state = next((depth for depth, part in enumerate(parts) if part and is_state(part)), None)
        if state is not None:
            own.add("/".join(parts[: state + 1]))
        elif not item.size_bytes and (item.key.endswith("/") or not item.key):
            markers += [item.key] if item.key else []  # that of the prefix itself says nothing
        else:
            found.append(item)
    keys = {item.key for item in found}
    odd = [key for key in keys if any(part in ("", *_DOTS) for part in key.split("/")) or "\0" in key]
    odd += [key for key in keys if any(folder in keys for folder in _folders(key))]
    if odd:
        shown = ", ".join(repr(printable(key)[:80] or "/") for key in sorted(odd)[:_SHOWN])
        more = f" and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else ""
        raise UsageError(
            f"{counted(len(odd), 'key')} cannot be the path of a file: {shown}{more}",
            where=bucket.url,
            hint="no part may be empty, . or .., nor a file be called as a folder; a key that ends with / has no bytes",
        )
    told = (left_out(sorted(own)), _named(sorted(markers), "mark of an empty folder", "marks of empty folders"))
    return sorted(found, key=lambda item: item.key), "; ".join(filter(None, told))


def left_out(paths: Sequence[str], more: int = 0) -> str:
    """What a tool keeps for itself in a folder or below a prefix, and `more` of it, in words; "" for nothing."""
    return _named(paths, "path", "paths", "kept there by a tool for itself", more)


def _named(paths: Sequence[str], one: str, many: str, why: str = "", more: int = 0) -> str:
    count = len(paths) + more
    shown = ", ".join(map(printable, paths[:LEFT_OUT_SHOWN]))
    rest = f" and {count - LEFT_OUT_SHOWN} more" if count > LEFT_OUT_SHOWN else ""
    return f"{counted(count, one, many)} left out{', ' * bool(why)}{why}: {shown}{rest}" if count else ""


def _folders(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _download(ws: Workspace, text: str, folder: Path) -> None:
    found = _found(ws, text)
    bucket, items = found.bucket, found.items
    if not items:
        raise NotFound(f"there is nothing under {shown(text)}")
    with task(f"reading {shown(text)}", total=sum(item.size_bytes for item in items)) as advance:
        for item in items:
            _fetch(bucket, item, folder / item.key, advance)


def _of_bucket(ws: Workspace, text: str, time: str, listing: _Found) -> Content:
    items = listing.items
    if not items:
        raise NotFound(f"there is nothing under {shown(text)}", hint="is the prefix right?")
    note = _note(ws, text, time)
    known = _remembered(note)
    with (
        tables.scratch(ws) as folder,
        task(f"reading {shown(text)}", total=sum(i.size_bytes for i in items)) as advance,
    ):
        one = functools.partial(_kept, ws, listing, folder, known, time, advance)
        with ThreadPoolExecutor(_THREADS) as pool:
            kept = list(pool.map(one, items))
    _remember(note, {item.key: each for item, each in zip(items, kept, strict=True)})
    found = [DataFile(item.key, each.digest, each.size, each.inspected) for item, each in zip(items, kept, strict=True)]
    inspected = [each.inspected for each in kept if each.inspected is not None]
    return Content(
        tree=write_tree(ws.objects, Tree(tuple(_entry(file) for file in found))),
        files=len(found),
        size_bytes=sum(file.size_bytes for file in found),
        rows=sum(each.rows for each in inspected),
        columns=columns.union(ws, [file for file in found if file.inspected is not None]),
        time_min=min((each.time_min for each in inspected if each.time_min), default=""),
        time_max=max((each.time_max for each in inspected), default=""),
        content=content_of_one(found[0]) if listing.is_one else "",
    )


def _kept(
    ws: Workspace, found: _Found, folder: Path, known: Mapping[str, _Kept], time: str, advance: Any, item: Item
) -> _Kept:
    """A key's bytes in the object store: those that are known by the key's tag, else downloaded."""
    before = known.get(item.key)
    if before and (before.tag, before.size) == (item.tag, item.size_bytes) and ws.objects.has(Digest(before.digest)):
        advance(item.size_bytes)
        return before
    place = folder / item.key
    _fetch(found.bucket, item, place, advance)
    is_table = formats.holds_rows(item.key, is_one=found.is_one)
    inspected = formats.inspect(place, item.key, time, is_named=found.is_one) if is_table else None
    digest = ws.objects.put_file(place)
    place.unlink()
    return _Kept(item.tag, item.size_bytes, digest, inspected)


def _fetch(bucket: Bucket, item: Item, place: Path, advance: Any) -> None:
    with disk_faults(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with bucket.open(item.key) as source, place.open("wb") as sink:
            while block := source.read(_BLOCK_BYTES):
                sink.write(block)
                advance(len(block))


def _entry(file: DataFile) -> Entry:
    return Entry(file.name, file.digest, file.size_bytes, file.inspected.rows if file.inspected else 0)


def _remembered(note: Path) -> dict[str, _Kept]:
    try:
        return msgspec.json.decode(note.read_bytes(), type=dict[str, _Kept])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _remember(note: Path, known: Mapping[str, _Kept]) -> None:
    with disk_faults(note):
        note.parent.mkdir(parents=True, exist_ok=True)
        part = note.with_suffix(f".{uuid.uuid4().hex}.part")  # other data sets may have the same source
        part.write_bytes(msgspec.json.encode(known))
        part.replace(note)
