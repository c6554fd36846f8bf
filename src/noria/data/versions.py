"""Versions of data sets: add, resolve, list, tag, check out.

A version is a tree of files, named by its digest; its number is its place in the data set's
history. `add` never moves or changes the user's files: it stores objects first, then appends one
fact, so a crash leaves either the whole version or none. Adding the content of an existing version
gives that version and appends nothing, in one process or many.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.identity import Digest, is_digest, short
from noria.core.verb import verb
from noria.data import files, formats, lock, read, records, text
from noria.data.facts import DatasetCommitted, DatasetDescribed, DatasetTagged
from noria.data.files import DataFile
from noria.data.records import DatasetVersion
from noria.store.failpoint import failpoint
from noria.store.ledger import Reader, Transaction
from noria.store.objects import disk_faults
from noria.store.tree import Entry, Tree, read_tree, write_tree
from noria.store.workspace import Workspace

__all__ = [
    "CheckedOut",
    "DatasetFiles",
    "DatasetVersion",
    "NoSuchColumn",
    "add",
    "checkout",
    "describe",
    "list_datasets",
    "log",
    "resolve",
    "show",
    "tag",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HEX = re.compile(r"[0-9a-f]{4,64}")
_MIN_COMMON_COLUMNS = 0.5
"""Files of one data set share at least this part of their columns (Jaccard) with the first file."""


class NoSuchColumn(UsageError):
    """A role names a column that the data set does not have."""

    code = "no-such-column"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFiles:
    """A version with its files and the tags that name it."""

    dataset: DatasetVersion
    entries: tuple[Entry, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedOut:
    """What a checkout wrote, and where."""

    dataset: str
    version: int
    to: str
    files: int
    size_bytes: int


@verb(permission="data.add", where="project")
def add(
    ws: Workspace, path: str, name: str = "", note: str = "", *, key: str = "", time: str = "", label: str = ""
) -> DatasetVersion:
    """Add a file, or a folder of files, as a version of a data set; the files are not touched.

    Tables are CSV, TSV, Parquet and JSON lines files; other files of a folder are kept as they are.
    The same content gives the same version, and no new fact. Pins it in `noria.lock/NAME.toml`.

    Args:
        path: relative to the working directory, else to the project.
        name: of the data set; by default that of `[data.NAME]` with this source, else of the file.
        key: the column that names a row; by default as in the version before. Likewise `time`
            and `label`.
    Raises: NotFound; UsageError for a broken, empty or unfitting file; Conflict if one changes meanwhile.
    Example:
        noria data add data/flights --name flights
    """
    place = _locate(ws, path)
    name = _checked_name(name or _default_name(ws, place))
    with ws.ledger.read() as tx:
        before = records.newest(tx, name)
    roles = _roles(before, key=key, time=time, label=label)
    cache = files.StatCache(ws.project.state / "cache" / "stat" / f"{name}.json")
    found = files.gather(files.scan(place), ws.objects, cache, roles["time"])
    content = _content(ws, found, roles)
    cache.save()
    failpoint("data.copied")
    with ws.ledger.transaction() as tx:
        version, is_new = _commit(tx, name, content, roles, source=_source_text(ws, place), note=note)
    failpoint("data.committed")
    lock.pin(ws, version, is_new=is_new)
    return version


@verb(permission="data.add")
def describe(ws: Workspace, ref: str, key: str = "", time: str = "", label: str = "") -> DatasetVersion:
    """Say which columns of a version are its key, time and label; an empty one stays as it is.

    Raises: NotFound; UsageError for a column that does not exist or holds no times.
    """
    version = resolve(ws, ref)
    roles = _roles(version, key=key, time=time, label=label)
    if roles == _roles(version):
        return version
    _check_roles(version.columns, roles)
    low, high = version.time_min, version.time_max
    if roles["time"] != version.time:
        low, high = read.time_range(ws, version, roles["time"])
    with ws.ledger.transaction() as tx:
        return _describe(tx, version, roles, low, high)


@verb(permission="data.read", changes=False, name="list")
def list_datasets(ws: Workspace) -> list[DatasetVersion]:
    """The newest version of every data set, by name."""
    with ws.ledger.read() as tx:
        found = [records.newest(tx, name) for name in records.names(tx)]
    return [version for version in found if version is not None]


@verb(permission="data.read", changes=False)
def log(ws: Workspace, name: str) -> list[DatasetVersion]:
    """Every version of a data set, newest first. Raises: NotFound."""
    with ws.ledger.read() as tx:
        found = records.versions(tx, name)
        if not found:
            raise _no_dataset(tx, name)
    return found[::-1]


@verb(permission="data.read", changes=False)
def show(ws: Workspace, ref: str) -> DatasetFiles:
    """A version, its files and its tags. Raises: NotFound."""
    version = resolve(ws, ref)
    with ws.ledger.read() as tx:
        names = [name for name, number in records.tags(tx, version.name).items() if number == version.version]
    return DatasetFiles(dataset=version, entries=read_tree(ws.objects, version.tree).entries, tags=tuple(names))


@verb(permission="data.add")
def tag(ws: Workspace, ref: str, tag: str) -> DatasetVersion:
    """Name a version with a tag; a tag that exists moves. Raises: NotFound; UsageError for a bad tag."""
    if not _NAME.fullmatch(tag) or tag == "latest" or tag.isdigit():
        raise UsageError(f"{tag!r} cannot be a tag", hint="letters, digits, dot, dash; not a number, not 'latest'")
    version = resolve(ws, ref)
    with ws.ledger.transaction() as tx:
        if records.tags(tx, version.name).get(tag) != version.version:
            tx.append(
                DatasetTagged(name=version.name, tag=tag, version=version.version), inputs=[("tree", version.tree)]
            )
    return version


@verb(permission="data.read", changes=False, where="project")
def checkout(ws: Workspace, ref: str, to: str) -> CheckedOut:
    """Write the files of a version into a new folder: whole or not at all, every byte verified.

    Raises: NotFound; Conflict if the folder exists and is not empty; Corrupt if a stored file was altered.
    """
    version = resolve(ws, ref)
    target = Path(to).absolute()
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise Conflict(f"{to} exists and is not an empty folder", hint="name a new folder")
    tree = read_tree(ws.objects, version.tree)
    with disk_faults(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.parent / f".{target.name}.{uuid.uuid4().hex}.part"
        part.mkdir()
    try:
        for entry in tree.entries:
            place = part / entry.path
            with disk_faults(target):
                place.parent.mkdir(parents=True, exist_ok=True)
            ws.objects.copy_to(entry.digest, place)
        with disk_faults(target):
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return CheckedOut(
        dataset=version.name,
        version=version.version,
        to=str(target),
        files=len(tree.entries),
        size_bytes=tree.size_bytes,
    )


def resolve(ws: Workspace, ref: str) -> DatasetVersion:
    """The version that a text names.

    `flights` and `flights@latest` are the newest, `flights@latest~1` the one before; `flights@3` is
    by number, `flights@7c1e` by the first hex digits (four or more) of its tree, `flights@TAG` by tag.
    Raises: NotFound, naming what there is; UsageError if a prefix fits several contents.
    """
    name, _, selector = ref.partition("@")
    with ws.ledger.read() as tx:
        last = records.newest(tx, name)
        if last is None:
            raise _no_dataset(tx, name)
        found = last if selector in ("", "latest") else _selected(tx, last, selector)
        if found is None:
            names = ", ".join(sorted(records.tags(tx, name))) or "none"
            raise NotFound(
                f"{name} has no version {selector!r}", hint=f"versions 1 to {last.version}, latest~N; tags: {names}"
            )
    return found


def _selected(tx: Reader, last: DatasetVersion, selector: str) -> DatasetVersion | None:
    back = re.fullmatch(r"latest~(\d{1,9})", selector)
    if back:
        return records.by_number(tx, last.name, last.version - int(back[1]))
    if selector.isdigit() and len(selector) < 10:
        found = records.by_number(tx, last.name, int(selector))
        if found is not None:
            return found
    found = records.tagged(tx, last.name, selector)
    if found is not None:
        return found
    if is_digest(selector):
        return records.by_tree(tx, last.name, selector)
    if not _HEX.fullmatch(selector):
        return None
    fitting = records.by_tree_prefix(tx, last.name, selector)
    if len({version.tree for version in fitting}) > 1:
        trees = ", ".join(sorted({short(version.tree) for version in fitting}))
        raise UsageError(f"{last.name}@{selector} fits several contents: {trees}", hint="give more digits")
    return fitting[0] if fitting else None


@dataclass(frozen=True, slots=True)
class _Content:
    tree: Digest
    files: tuple[DataFile, ...]
    columns: formats.Columns
    time_min: str
    time_max: str


def _content(ws: Workspace, found: list[DataFile], roles: Mapping[str, str]) -> _Content:
    """The tree of the files, and what is true of all their tables together."""
    tables = [file for file in found if file.inspected is not None]
    columns: formats.Columns = ()
    if tables:
        if not any(file.inspected.rows for file in tables if file.inspected):
            which = tables[0].name if len(tables) == 1 else f"its {len(tables)} tables"
            raise UsageError(f"{which} has no rows" if len(tables) == 1 else f"{which} have no rows")
        columns = _union(ws, tables)
    _check_roles(columns, roles)
    lows = [file.inspected.time_min for file in tables if file.inspected and file.inspected.time_min]
    highs = [file.inspected.time_max for file in tables if file.inspected and file.inspected.time_max]
    entries = [
        Entry(file.name, file.digest, file.size_bytes, file.inspected.rows if file.inspected else 0) for file in found
    ]
    tree = write_tree(ws.objects, Tree(tuple(entries)))
    return _Content(tree, tuple(found), columns, min(lows, default=""), max(highs, default=""))


def _union(ws: Workspace, tables: list[DataFile]) -> formats.Columns:
    """The columns of all files: by name, the wider type where two differ.

    Raises: UsageError if types have nothing in common, or a file is quite another table.
    """
    by_file = files.columns_of(tables)
    if len(set(by_file.values())) == 1:
        return next(iter(by_file.values()))
    first_name, first = next(iter(by_file.items()))
    known = {column for column, _, _ in first}
    for name, columns in by_file.items():
        here = {column for column, _, _ in columns}
        if len(known & here) < _MIN_COMMON_COLUMNS * len(known | here):
            raise UsageError(
                f"{name} is another table than {first_name}: {len(known & here)} of {len(known | here)} columns agree",
                hint="add them as two data sets",
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


def _commit(
    tx: Transaction, name: str, content: _Content, roles: Mapping[str, str], *, source: str, note: str
) -> tuple[DatasetVersion, bool]:
    """Decide under the ledger's lock: the version that has this content, or the next one."""
    same = records.by_tree(tx, name, content.tree)
    if same is not None:
        if _roles(same) == roles:
            return same, False
        return _describe(tx, same, roles, content.time_min, content.time_max), False
    last = records.newest(tx, name)
    number = last.version + 1 if last else 1
    payload = DatasetCommitted(
        name=name,
        version=number,
        tree=content.tree,
        parent=last.tree if last else "",
        rows=sum(file.inspected.rows for file in content.files if file.inspected),
        size_bytes=sum(file.size_bytes for file in content.files),
        files=len(content.files),
        columns=content.columns,
        time_min=content.time_min,
        time_max=content.time_max,
        source=source,
        note=note,
        **roles,
    )
    inputs = [("parent", last.tree)] if last else []
    tx.append(payload, inputs=inputs, outputs=[("tree", content.tree), ("version", f"dataset/{name}@{number}")])
    made = records.by_number(tx, name, number)
    assert made is not None, "the projection wrote the version"
    return made, True


def _describe(
    tx: Transaction, version: DatasetVersion, roles: Mapping[str, str], low: str, high: str
) -> DatasetVersion:
    payload = DatasetDescribed(name=version.name, version=version.version, time_min=low, time_max=high, **roles)
    tx.append(payload, inputs=[("tree", version.tree)])
    return dataclasses.replace(
        version, time_min=low, time_max=high, key=roles["key"], time=roles["time"], label=roles["label"]
    )


def _roles(before: DatasetVersion | None, *, key: str = "", time: str = "", label: str = "") -> dict[str, str]:
    given = {"key": key, "time": time, "label": label}
    return {role: column or (getattr(before, role) if before else "") for role, column in given.items()}


def _check_roles(columns: formats.Columns, roles: Mapping[str, str]) -> None:
    names = [name for name, _, _ in columns]
    for role, column in roles.items():
        if column and column not in names:
            near = difflib.get_close_matches(column, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"columns: {', '.join(names[:12])}"
            raise NoSuchColumn(f"there is no column {column!r} to be the {role}", hint=hint)


def _locate(ws: Workspace, path: str) -> Path:
    here = Path(path).expanduser()
    return here if here.is_absolute() or here.exists() else ws.project.root / here


def _default_name(ws: Workspace, place: Path) -> str:
    for name, config in ws.project.data.items():
        if config.source and (ws.project.root / config.source).resolve() == place.resolve():
            return name
    stem = place.resolve().name
    while formats.format_of(stem) or stem.lower().endswith(".gz"):
        stem = Path(stem).stem
    return stem


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a data set", hint="give --name: letters, digits, dot, dash, underscore"
        )
    return name


def _source_text(ws: Workspace, place: Path) -> str:
    """Where it came from, without the machine's folders outside the project."""
    full = place.resolve()
    return full.relative_to(ws.project.root).as_posix() if full.is_relative_to(ws.project.root) else full.name


def _no_dataset(tx: Reader, name: str) -> NotFound:
    known: Sequence[str] = records.names(tx)
    near = difflib.get_close_matches(name, known, n=1)
    hint = (
        f"did you mean {near[0]!r}?" if near else f"data sets: {', '.join(known[:12]) or 'none; noria data add PATH'}"
    )
    return NotFound(f"there is no data set {name!r}", hint=hint)
