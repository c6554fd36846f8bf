"""Versions of data sets: add, describe, list, show, tag.

A version is a tree of files, named by its digest; its number is its place in the data set's
history. `add` never moves or changes the user's files: it stores objects first, then appends one
fact, so a crash leaves either the whole version or none. Adding the content of an existing version
gives that version and appends nothing, in one process or many.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.errors import ConfigError, NotFound, UsageError
from noria.core.fact import Edge
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.data import columns, lock, records, standing
from noria.data.checkout import CheckedOut, checkout, part_of
from noria.data.columns import NoSuchColumn, roles_of
from noria.data.commit import commit
from noria.data.commit import describe as describe_version
from noria.data.content import content_of_files
from noria.data.facts import DatasetTagged, DatasetUntagged
from noria.data.folders.files import Gathered, gather
from noria.data.folders.statcache import StatCache, cache_path
from noria.data.folders.walk import located
from noria.data.forms import formats
from noria.data.pins import Pin, read_pin, sorted_pins
from noria.data.records import DatasetVersion
from noria.data.rows import read
from noria.data.select import checked_name, choose, is_date, no_dataset, resolve
from noria.data.tabular import sources, tables
from noria.store.tree import Entry
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Added",
    "CheckedOut",
    "DatasetFiles",
    "DatasetVersion",
    "NoSuchColumn",
    "Tagged",
    "add",
    "add_rows",
    "checked_name",
    "checkout",
    "describe",
    "list_datasets",
    "log",
    "remove_tag",
    "resolve",
    "show",
    "tag",
]

ENTRIES = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@frozen(kw_only=True)
class Added(DatasetVersion):
    """The version that an add made or found, and what else there is to say of it, each "" for nothing.

    `left_out` is what is no content. `settles` says between which versions the pin was in conflict, and how to see
    the other side; `takes_back` which changes of a table that grew are not in this version, and which one has them.
    """

    left_out: str = ""
    settles: str = ""
    takes_back: str = ""


@frozen(kw_only=True)
class DatasetFiles:
    """A version with its files and the tags that name it.

    `entries` are the first files below the path that was asked for; `more` says whether there are
    others. `choice` says why a date meant this version.
    """

    dataset: DatasetVersion
    entries: tuple[Entry, ...]
    tags: tuple[str, ...]
    more: bool = False
    choice: str = ""


@frozen(kw_only=True)
class Tagged(DatasetVersion):
    """A version whose tag was set or taken away; `before` is the version that the tag named until then, 0 for none.

    `did` says what happened between the two: names, moved to, stays at, was taken from.
    """

    tag: str
    did: str
    before: int = 0


@verb(permission="data.add", where="project")
def add(
    ws: Workspace,
    path: str,
    name: str = "",
    note: str = "",
    *,
    key: str = "",
    time: str = "",
    label: str = "",
    query: str = "",
    table: str = "",
    as_files: bool = False,
    anew: bool = False,
) -> DatasetVersion | Added:
    """Add a file, a folder of any size, or a table elsewhere as a version of a data set; the source is not touched.

    Tables are CSV, TSV, Parquet and JSON lines files; any other file is kept as it is. A source with
    :// is a table of a database or a prefix of an object store. The same content gives the same
    version, and no new fact. Pins it in `noria.lock/NAME.toml`: what the pin said before is replaced, and
    where that was a conflict of two branches, or a table that grew since, the result says what is not in it.

    Names that start with a dot are content too, though tables among them are no rows. What Git, DVC and
    Noria keep in a folder for themselves is left out, and told; so are the marks of folders below a prefix.

    Args:
        path: relative to the working directory, else to the project; or sqlite:///FILE, postgresql://…, s3://….
        name: of the data set; by default that of `[data.NAME]` with this source, else of the file.
        note: a remark that the version keeps.
        key: the column that names a row; by default as in the version before. Likewise `time`
            and `label`.
        query: for a database: the SELECT whose rows are the table; table: or the table's name.
        as_files: take tables for plain files: neither columns nor rows are looked into.
        anew: read every file again, whatever is known of it, and put right what is stored of it.
    Raises: NotFound; UsageError for a broken, empty or unfitting file; NoSuchColumn; Conflict if a file changes
        meanwhile; StoreFull; StoreUnavailable.
    Example:
        noria data add data/flights --name flights
    """
    if sources.is_source(path):
        name = checked_name(name or _name_of_source(ws, path, table))
        before = _standing(ws, name)
        roles = roles_of(before.absent or _newest(ws, name), key=key, time=time, label=label)
        made, left_out = sources.add_source(ws, path, name, query=query, table=table, note=note, roles=roles)
        return _told(ws, before, made, left_out)
    if query or table:
        raise UsageError("a query or a table needs a database", hint="such as sqlite:///sales.db or postgresql://…")
    place = _locate(ws, path)
    name = checked_name(name or _default_name(ws, place))
    place = located(place)
    with lock.dataset_lock(ws, name):
        before = _standing(ws, name)
        last = _newest(ws, name)
        as_files = as_files or (last is not None and last.as_files)
        roles = roles_of(before.absent or last, key=key, time=time, label=label)
        made, left_out = _add_files(
            ws,
            place,
            name,
            note,
            roles=roles,
            as_files=as_files,
            anew=anew,
            source=sources.named_source(ws, str(place)),
        )
        return _told(ws, before, made, left_out)


def add_rows(
    ws: Workspace,
    rows: pa.Table | pa.RecordBatchReader,
    name: str,
    *,
    roles: dict[str, str],
    source: str,
    note: str = "",
    inputs: Sequence[Edge] = (),
    operation: str = "",
) -> DatasetVersion:
    """Rows of this process as a version of a data set; what they replace is told as `add` tells it.

    Raises: as `tables.add_table`.
    """
    before = _standing(ws, checked_name(name))
    made = tables.add_table(ws, rows, name, roles=roles, source=source, note=note, inputs=inputs, operation=operation)
    return _told(ws, before, made, "")


def _add_files(
    ws: Workspace,
    place: Path,
    name: str,
    note: str,
    *,
    roles: dict[str, str],
    as_files: bool,
    anew: bool,
    source: str,
) -> tuple[DatasetVersion, str]:
    """The version, and in words what was left out."""
    cache = StatCache(cache_path(ws.project.state, name))
    try:
        base = _base(ws, cache, place, name, roles, as_files=as_files)
        with lock.leased(ws, f"data add {name}") as claim:
            found = gather(
                ws.objects,
                cache,
                place,
                time=roles["time"],
                as_files=as_files,
                anew=anew,
                base=base.tree if base else "",
                has_tables=bool(base and base.columns),
                claim=claim,
            )
            if base is not None and found.tree == base.tree and not anew:
                lock.pin(ws, base)
                return base, _left_out(found)
            content = dataclasses.replace(
                content_of_files(ws, found.tables or (), tree=found.tree),
                files=found.files,
                size_bytes=found.size_bytes,
                as_files=as_files,
                content=found.content,
            )
            made = commit(ws, name, content, roles=roles, source=source, note=note)
            if made.tree != found.tree:  # it says the same under another name, or written otherwise
                cache.stands_for(cache.root(str(place)), made.tree)
            return made, _left_out(found)
    finally:
        cache.close()


def _left_out(found: Gathered) -> str:
    return sources.left_out(found.left_out, found.left_out_count - len(found.left_out)) if found.left_out_count else ""


def _standing(ws: Workspace, name: str) -> standing.Standing:
    """What a data set stands on before an add, which may replace a pin that cannot be read."""
    try:
        pin = read_pin(ws.project.root, name)
    except ConfigError:
        pin = None
    return standing.standing(ws, name, pin)


def _told(ws: Workspace, before: standing.Standing, made: DatasetVersion, left_out: str) -> DatasetVersion | Added:
    """The version itself, or where there is more to say, the version that says so."""
    settles, takes_back = standing.settled(ws, before, made), standing.taken_back(ws, before, made)
    if not (left_out or settles or takes_back):
        return made
    return Added(**_fields(made), left_out=left_out, settles=settles, takes_back=takes_back)


def _base(
    ws: Workspace, cache: StatCache, place: Path, name: str, roles: dict[str, str], *, as_files: bool
) -> DatasetVersion | None:
    """The version that the cache says is what lies there, if a version like the one before would be made of it."""
    mark = cache.tree(cache.root(str(place)))
    if not mark or not ws.objects.has(mark):
        return None
    with ws.ledger.read() as tx:
        found = records.by_tree(tx, name, mark)
    is_alike = found is not None and roles_of(found) == roles and found.as_files == as_files
    return found if is_alike else None


@verb(permission="data.add")
def describe(ws: Workspace, ref: str, key: str = "", time: str = "", label: str = "") -> DatasetVersion:
    """Say which columns of a version are its key, time and label; an empty one stays as it is.

    A name alone is the version that noria.lock/ pins, so that it follows the branch, else the newest.

    Raises: NotFound; NoSuchColumn; UsageError for a column that holds no times.
    """
    version = resolve(ws, ref)
    roles = roles_of(version, key=key, time=time, label=label)
    if roles == roles_of(version):
        return version
    columns.check_roles(version.columns, roles)
    low, high = version.time_min, version.time_max
    if roles["time"] != version.time:
        low, high = read.time_range(ws, version, roles["time"])
    with ws.ledger.transaction() as tx:
        return describe_version(tx, version, roles, low, high)


@verb(permission="data.read", changes=False, name="list")
def list_datasets(ws: Workspace) -> list[DatasetVersion]:
    """The newest version of every data set, by name.

    A data set of noria.lock/ that is not here yet, as in a fresh clone, is listed by what its pin says: `at` is
    empty, and `note` tells how to get it. The `note` of one whose pin cannot be read says so, and what to do.
    """
    with ws.ledger.read() as tx:
        found = {name: version for name in records.names(tx) if (version := records.newest(tx, name)) is not None}
    good, broken = sorted_pins(ws.project.root)
    for pin in good:
        if pin.name not in found:
            found[pin.name] = _unpulled(pin)
    for each in broken:
        version = found.get(each.name) or _unpulled(Pin(name=each.name, version=0, tree=""))
        found[each.name] = dataclasses.replace(version, note=each.told)
    return [found[name] for name in sorted(found)]


def _unpulled(pin: Pin) -> DatasetVersion:
    return DatasetVersion(
        name=pin.name,
        version=pin.version,
        tree=pin.tree,
        content=pin.content,
        rows=pin.rows,
        size_bytes=pin.size_bytes,
        files=pin.files,
        columns=(),
        source=pin.source,
        note=f"not here yet: noria data pull {pin.name}",
        key=pin.key,
        time=pin.time,
        label=pin.label,
    )


@verb(permission="data.read", changes=False)
def log(ws: Workspace, name: str, limit: int = 0) -> list[DatasetVersion]:
    """Every version of a data set, newest first by when it was added, where it comes from; dropped ones too.

    Args:
        name: of the data set, without a version.
        limit: at most so many; 0 gives all.
    Raises: NotFound.
    """
    with ws.ledger.read() as tx:
        found = records.history(tx, name)
        if not found:
            raise no_dataset(tx, name, ws.project.root)
    return sorted(found, key=lambda each: (each.at, each.version), reverse=True)[: limit or None]


@verb(permission="data.read", changes=False)
def show(ws: Workspace, ref: str, path: str = "", limit: int = ENTRIES) -> DatasetFiles:
    """A version, its files and its tags.

    A name alone is the version that noria.lock/ pins, so that it follows the branch, else the newest.

    Args:
        ref: such as flights@3; flights alone is what noria.lock/ pins, else the newest.
        path: only this file, or the files of this folder; in the version, not on disk.
        limit: at most so many files.
    Raises: NotFound.
    """
    chosen = choose(ws, ref)
    version = chosen.version
    with ws.ledger.read() as tx:
        names = [name for name, number in records.tags(tx, version.name).items() if number == version.version]
    most = min(max(limit, 0), sys.maxsize - 1)
    entries = tuple(islice(part_of(ws, version, path), most + 1))
    if path and not entries:
        raise NotFound(f"{version.ref} has no {path!r}", hint=f"noria data show {version.ref}")
    return DatasetFiles(
        dataset=version,
        entries=entries[:most],
        tags=tuple(names),
        more=len(entries) > most,
        choice=chosen.choice,
    )


@verb(permission="data.add")
def tag(ws: Workspace, ref: str, tag: str) -> Tagged:
    """Name a version with a tag; a tag that exists moves.

    A tag is of this workspace: push and pull do not carry it, so that no clone moves another's. What all clones
    shall know stands in Git: the pins in noria.lock/, and a tag of Git's on their commit. A name alone is the version
    that noria.lock/ pins, so that it follows the branch, else the newest.

    Args:
        ref: such as flights@3; flights alone is what noria.lock/ pins, else the newest.
        tag: letters, digits, dot, dash, underscore; not a number or a date.
    Raises: NotFound; UsageError for a tag that could be taken for a number or a date.
    """
    if not _NAME.fullmatch(tag) or tag == "latest" or tag.isdigit() or is_date(tag):
        raise UsageError(
            f"{tag!r} cannot be a tag", hint="letters, digits, dot, dash; not a number, a date, or 'latest'"
        )
    version = resolve(ws, ref)
    with ws.ledger.transaction() as tx:
        before = records.tags(tx, version.name).get(tag, 0)
        if before != version.version:
            tx.append(
                DatasetTagged(name=version.name, tag=tag, version=version.version), inputs=[("tree", version.tree)]
            )
    done = "stays at" if before == version.version else "moved to" if before else "names"
    return Tagged(tag=tag, did=done, before=before, **_fields(version))


@verb(permission="data.add")
def remove_tag(ws: Workspace, name: str, tag: str) -> Tagged:
    """Take a tag away; the version that it named stays, and is the result. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        if records.newest(tx, name) is None:
            raise no_dataset(tx, name, ws.project.root)
        version = records.tagged(tx, name, tag)
        if version is None:
            known = ", ".join(sorted(records.tags(tx, name))) or "none"
            raise NotFound(f"{name} has no tag {tag!r}", hint=f"tags: {known}")
        tx.append(DatasetUntagged(name=name, tag=tag, version=version.version), inputs=[("tree", version.tree)])
    return Tagged(tag=tag, did="was taken from", before=version.version, **_fields(version))


def _fields(version: DatasetVersion) -> dict[str, Any]:
    return {each.name: getattr(version, each.name) for each in dataclasses.fields(DatasetVersion)}


def _newest(ws: Workspace, name: str) -> DatasetVersion | None:
    with ws.ledger.read() as tx:
        return records.newest(tx, name)


def _locate(ws: Workspace, path: str) -> Path:
    here = Path(path).expanduser()
    return here if here.is_absolute() or here.exists() else ws.project.root / here


def _default_name(ws: Workspace, place: Path) -> str:
    for name, config in ws.project.data.items():
        is_folder = config.source and "://" not in config.source
        if is_folder and (ws.project.root / config.source).resolve() == place.resolve():
            return name
    stem = place.resolve().name
    if place.is_file() and not formats.format_of(stem) and not stem.lower().endswith(".gz"):
        stem = Path(stem).stem
    while formats.format_of(stem) or stem.lower().endswith(".gz"):
        stem = Path(stem).stem
    return stem


def _name_of_source(ws: Workspace, source: str, table: str) -> str:
    found = [name for name, config in ws.project.data.items() if config.source == source]
    return found[0] if found else sources.default_name(source, table)
