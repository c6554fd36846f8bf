"""What differs between a folder on disk and a version: the question of `noria data status`.

If the stat cache says that the folder's rows are those of the version, the walk is compared with
the rows and neither the tree nor any file is read; memory is one folder at a time. Otherwise the
walk and the tree are read side by side in the order of their paths. A file whose stamp has changed
but not its size is hashed, and its new stamp is remembered, so that this is paid once. No ledger
is opened here: which number a version has in this clone the caller says.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from pathlib import Path

from noria.config import Project
from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.frozen import frozen, slotted
from noria.core.identity import short
from noria.core.printable import printable
from noria.core.progress import Advance, task
from noria.data.folders import elsewhere
from noria.data.folders.statcache import DIGEST_BYTES, Row, StatCache, Step, cache_path, digest_at, without_racy
from noria.data.folders.walk import File, Folder, located, walk
from noria.data.pins import FOLDER, BrokenPin, Pin, read_pin, sorted_pins
from noria.store.objects import Objects, hash_file
from noria.store.tree import Entry, iter_tree

__all__ = ["Change", "DatasetStatus", "Differing", "compare", "source_of", "statuses"]

SHOWN = 20
_ID_DIGITS = 8
_PULL = "its version is not here: noria data pull {0}"


@frozen(kw_only=True)
class DatasetStatus:
    """How a folder differs from the version that the project stands on.

    `version` is the number that it has in this clone, 0 where it has none; `content` is its id.
    `state` is same, changed, absent (there is no such folder or file here), unpulled (the version that is
    pinned is not here), elsewhere (the source is no folder: a database, an object store, a DataFrame) or
    unread (the pin cannot be read, as when Git left a conflict in it; `version` is then 0, and `is_read` false).
    `note` says what else is known. `paths` are the first that differ, each with a sign: + new, - gone,
    ~ other content. `files` counts what lies there.
    """

    dataset: str
    version: int
    tree: str
    place: str
    state: str
    files: int = 0
    size_bytes: int = 0
    added: int = 0
    removed: int = 0
    changed: int = 0
    paths: tuple[str, ...] = ()
    note: str = ""
    is_read: bool = True
    content: str = ""

    @property
    def ref(self) -> str:
        """How to name the version here: by its number, or by its id where it has none."""
        return _ref(self.dataset, self.version, self.content)


@frozen
class Change:
    """A path that is new ("+"), gone ("-"), or has other content ("~")."""

    sign: str
    path: str


@slotted
class Differing:
    """The changes, and how much lies there. `on_change` is called with each, `advance` with the files looked at."""

    on_change: Callable[[Change], None]
    advance: Advance = lambda _files: None
    files: int = 0
    size_bytes: int = 0
    refreshed: list[tuple[Row, list[File], bytes]] = field(default_factory=list)


def statuses(
    project: Project,
    objects: Callable[[], Objects],
    number: Callable[[Pin], int],
    names: Sequence[str] = (),
    *,
    path: str = "",
) -> list[DatasetStatus]:
    """The status of every pinned data set, or of those that are named. Of all, a broken pin is told as one of them.

    Args:
        objects: gives the object store; called only where a tree must be read.
        number: gives the number that the version of a pin has in this clone, 0 for none.
        path: where the files of the one named data set lie; by default where they were added from.
    Raises: NotFound for a data set without a pin; ConfigError for a broken pin that is named; UsageError; Conflict.
    """
    if path and len(names) != 1:
        raise UsageError("--path is for one data set", hint="noria data status NAME --path FOLDER")
    if names:
        return [_status(project, objects, _here(_pin(project, name), number), path) for name in names]
    good, broken = sorted_pins(project.root)
    found = [*(_status(project, objects, _here(pin, number), path) for pin in good), *map(_unread, broken)]
    return sorted(found, key=lambda each: each.dataset)


def source_of(project: Project, pin: Pin, cache: StatCache | None = None) -> Path | None:
    """Where the files of a data set lie: as noria.toml says, else where they were added from; None for no place."""
    config = project.data.get(pin.name)
    text = config.source if config is not None and config.source else ""
    if not text and cache is not None and "://" not in pin.source:
        text = cache.newest_source()
    text = text or (pin.source if pin.is_placed else "")
    return None if not text or "://" in text else project.root / text


def compare(
    objects: Callable[[], Objects],
    cache: StatCache,
    place: Path,
    tree: str,
    differing: Differing,
    *,
    is_one_file: bool = False,
) -> None:
    """Tell every change between a tree and what lies at a place (as `located` gives it).

    With `is_one_file` the tree is of one file, whose name is not content: a file at the place may have another.
    Raises: UsageError for what cannot be part of a data set; Conflict if something goes away meanwhile.
    """
    root = cache.root(str(place))
    if cache.tree(root) == tree:
        _with_rows(cache, root, place, differing)
    else:
        entries = iter_tree(objects(), tree)
        if is_one_file and place.is_file():
            (folder,) = walk(place)
            entries = (dataclasses.replace(entry, path=folder.files[0][0]) for entry in entries)
        _with_tree(cache, root, place, entries, differing)
    if differing.refreshed:
        cache.refresh(root, cache.tree(root), differing.refreshed)


def _status(project: Project, objects: Callable[[], Objects], pin: Pin, path: str) -> DatasetStatus:
    cache = StatCache(cache_path(project.state, pin.name))
    try:
        source = Path(path) if path else source_of(project, pin, cache)
        told = str(source.relative_to(project.root)) if source and source.is_relative_to(project.root) else source
        if source is None:
            return _elsewhere(project, pin, pin.source)
        try:
            place = located(source)
        except NotFound:
            if not pin.version:
                note = f"{_PULL.format(pin.name)}, then noria data checkout {pin.name}"
                return _without(pin, str(told), "unpulled", note)
            return _without(pin, str(told), "absent")
        tree, note = _compared(cache, place, pin)
        if not tree:
            return _elsewhere(project, pin, str(told), note)
        paths: list[str] = []
        counts = {"+": 0, "-": 0, "~": 0}

        def on_change(change: Change) -> None:
            counts[change.sign] += 1
            if len(paths) < SHOWN:
                paths.append(f"{change.sign} {printable(change.path)}")

        with task(f"comparing {pin.name}", total=pin.files or None, unit="files") as advance:
            differing = Differing(on_change, advance)
            try:
                compare(objects, cache, place, tree, differing, is_one_file=pin.is_one_file)
            except NotFound:
                if objects().has(tree):
                    raise  # a part of it is gone, and not only not here yet
                return _without(pin, str(told), "unpulled", _PULL.format(pin.name))
    finally:
        cache.close()
    return DatasetStatus(
        dataset=pin.name,
        version=pin.version,
        tree=pin.tree,
        place=str(told),
        state="changed" if any(counts.values()) else "same",
        files=differing.files,
        size_bytes=differing.size_bytes,
        added=counts["+"],
        removed=counts["-"],
        changed=counts["~"],
        paths=tuple(paths),
        note=note,
        content=pin.content,
    )


def _here(pin: Pin, number: Callable[[Pin], int]) -> Pin:
    """The pin with the number that its version has in this clone, where the one it was written with may be another."""
    return dataclasses.replace(pin, version=number(pin))


def _ref(name: str, version: int, content: str) -> str:
    return f"{name}@{version or short(content, _ID_DIGITS)}"


def _elsewhere(project: Project, pin: Pin, place: str, note: str = "") -> DatasetStatus:
    """The status of a data set of which no files lie here that could be compared."""
    if not pin.version and not elsewhere.address_of(project, pin):
        return _without(pin, place, "unpulled", _PULL.format(pin.name))
    rest = note if pin.version else _PULL.format(pin.name)
    return _without(pin, place, "elsewhere", "; ".join(filter(None, [elsewhere.about(project, pin), rest])))


def _without(pin: Pin, place: str, state: str, note: str = "") -> DatasetStatus:
    """The status of a data set whose files are not compared."""
    return DatasetStatus(
        dataset=pin.name,
        version=pin.version,
        tree=pin.tree,
        place=place,
        state=state,
        note=note,
        content=pin.content,
    )


def _compared(cache: StatCache, place: Path, pin: Pin) -> tuple[str, str]:
    """The tree that what lies at a place is compared with, and what to say of it; "" for none.

    A version that grew from the one that lies there has its rows in the store, not in these files.
    """
    mark = cache.tree(cache.root(str(place)))
    if pin.is_placed or mark == pin.tree:
        return pin.tree, ""
    ref = _ref(pin.name, pin.version, pin.content)
    hint = f"noria data checkout {ref} FOLDER writes them"
    if mark and not pin.version:
        pull = f"noria data pull {pin.name}"
        return mark, f"the rows of {ref} come from a later {pin.operation}, and are not here: {pull}"
    if not mark:
        return "", f"what lies here was never compared with it: {hint}"
    return mark, f"the rows of {ref} come from a later {pin.operation}, and are kept by Noria: {hint}"


def _pin(project: Project, name: str) -> Pin:
    found = read_pin(project.root, name)
    if found is None:
        known = ", ".join(pin.name for pin in sorted_pins(project.root)[0]) or "none"
        raise NotFound(f"the project has no pin of {name!r}", hint=f"pins: {known}; noria data add PATH --name {name}")
    return found


def _unread(pin: BrokenPin) -> DatasetStatus:
    place = f"{FOLDER}/{pin.name}.toml"
    return DatasetStatus(
        dataset=pin.name, version=0, tree="", place=place, state="unread", note=pin.told, is_read=False
    )


def _with_rows(cache: StatCache, root: int, place: Path, differing: Differing) -> None:
    """The walk against the rows, which are those of the tree."""
    for step in cache.steps(root, walk(place)):
        if step.folder is None:
            assert step.row is not None, "a step has a folder or a row"
            _gone(differing, [step.row.prefix + name for name in cache.known(step.row)])
            continue
        differing.files += len(step.folder.files)
        differing.size_bytes += sum(file[1] for file in step.folder.files)
        differing.advance(len(step.folder.files))
        if not step.is_same:
            _folder(cache, step, differing)


def _folder(cache: StatCache, step: Step, differing: Differing) -> None:
    """One folder whose stamps are not all as they were."""
    folder, row = step.folder, step.row
    assert folder is not None, "the caller has looked"
    before = cache.known(row) if row is not None else {}
    now_ns = cache.now_ns()
    kept: list[File] = []
    body = bytearray()
    is_refreshed = False
    for file in folder.files:
        name = file[0]
        known = before.pop(name, None)
        if known is None:
            differing.on_change(Change("+", folder.prefix + name))
            continue
        old, digest = known
        body += bytes.fromhex(digest[7:])
        if old == file:
            kept.append(old)
        elif old[1] == file[1] and _hash(folder, file) == digest:
            kept += without_racy([file], now_ns)
            is_refreshed = True
        else:
            kept.append(old)
            differing.on_change(Change("~", folder.prefix + name))
    _gone(differing, [folder.prefix + name for name in before])
    for old, digest in before.values():
        kept.append(old)
        body += bytes.fromhex(digest[7:])
    if row is not None and is_refreshed:
        differing.refreshed.append((row, *_sorted(kept, bytes(body))))


def _sorted(files: list[File], body: bytes) -> tuple[list[File], bytes]:
    order = sorted(range(len(files)), key=lambda place: files[place][0])
    parts = [body[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES] for place in order]
    return [files[place] for place in order], b"".join(parts)


def _with_tree(cache: StatCache, root: int, place: Path, entries: Iterator[Entry], differing: Differing) -> None:
    """The walk against the tree, both in the order of paths."""
    entry = next(entries, None)
    for path, file, digest, folder in _in_order(cache.steps(root, walk(place)), cache):
        differing.files += 1
        differing.advance(1)
        differing.size_bytes += file[1]
        while entry is not None and entry.path < path:
            differing.on_change(Change("-", entry.path))
            entry = next(entries, None)
        if entry is None or entry.path > path:
            differing.on_change(Change("+", path))
            continue
        if entry.size_bytes != file[1] or (digest or _hash(folder, file)) != entry.digest:
            differing.on_change(Change("~", path))
        entry = next(entries, None)
    _gone(differing, [entry.path] if entry is not None else [])
    for rest in entries:
        differing.on_change(Change("-", rest.path))


def _in_order(steps: Iterator[Step], cache: StatCache) -> Iterator[tuple[str, File, str, Folder]]:
    """Every file with its known digest or "", sorted by path: the folders that are open are merged."""
    waiting: list[tuple[str, int, Iterator[tuple[str, File, str, Folder]]]] = []
    heads: dict[int, tuple[str, File, str, Folder]] = {}
    number = 0
    for step in steps:
        if step.folder is None:
            continue
        # whatever comes before this folder's first possible path is ready
        while waiting and waiting[0][0] < step.folder.prefix:
            yield from _next(waiting, heads)
        number += 1
        _push(waiting, heads, number, _files(step, cache))
    while waiting:
        yield from _next(waiting, heads)


def _next(
    waiting: list[tuple[str, int, Iterator[tuple[str, File, str, Folder]]]],
    heads: dict[int, tuple[str, File, str, Folder]],
) -> Iterator[tuple[str, File, str, Folder]]:
    _, number, rest = heapq.heappop(waiting)
    yield heads.pop(number)
    _push(waiting, heads, number, rest)


def _push(
    waiting: list[tuple[str, int, Iterator[tuple[str, File, str, Folder]]]],
    heads: dict[int, tuple[str, File, str, Folder]],
    number: int,
    rest: Iterator[tuple[str, File, str, Folder]],
) -> None:
    head = next(rest, None)
    if head is not None:
        heads[number] = head
        heapq.heappush(waiting, (head[0], number, rest))


def _files(step: Step, cache: StatCache) -> Iterator[tuple[str, File, str, Folder]]:
    folder, row = step.folder, step.row
    assert folder is not None, "the caller has looked"
    if step.is_same and row is not None and (body := cache.digests(row)) is not None:
        for place, file in enumerate(folder.files):
            yield folder.prefix + file[0], file, digest_at(body, place), folder
        return
    before = cache.known(row) if row is not None else {}
    for file in folder.files:
        known = before.get(file[0])
        yield folder.prefix + file[0], file, known[1] if known is not None and known[0] == file else "", folder


def _hash(folder: Folder, file: File) -> str:
    path = Path(folder.path(file[0]))
    try:
        return hash_file(path)
    except FileNotFoundError as error:
        name = printable(folder.prefix + file[0])
        raise Conflict(f"{name} went away while it was looked at", hint="try again") from error
    except OSError as error:
        hint = "check its permissions"
        raise UsageError(f"{printable(folder.prefix + file[0])} cannot be read: {error.strerror}", hint=hint) from error


def _gone(differing: Differing, paths: Sequence[str]) -> None:
    for path in sorted(paths):
        differing.on_change(Change("-", path))
