"""From a version to files: into a new folder whole or not at all, or into a folder that is there.

Every byte is verified before its name appears. A folder that is there is brought to the version as
Git does it: what differs between the version that lies there and the wanted one is written,
replaced or taken away; what the user has changed is never touched. If a changed file is in the way,
the error names it and nothing was done. A killed checkout leaves whole files only, and the next one
goes on. A missing or altered object is asked of the remotes.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from itertools import groupby
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from noria.core.errors import (
    Conflict,
    Corrupt,
    NoriaError,
    NotFound,
    ObjectGone,
    StoreFull,
    StoreUnavailable,
    UsageError,
)
from noria.core.frozen import frozen, slotted
from noria.core.identity import is_digest
from noria.core.printable import printable
from noria.core.progress import task
from noria.core.verb import verb
from noria.data import lock, records
from noria.data.folders import staging
from noria.data.folders.statcache import NEVER, StatCache, cache_path
from noria.data.folders.walk import File
from noria.data.folders.worktree import source_of
from noria.data.forms import formats
from noria.data.pins import read_pin, sorted_pins
from noria.data.records import DatasetVersion
from noria.data.remote import remotes
from noria.data.rows import read
from noria.data.select import Chosen, choose
from noria.data.tabular import segments
from noria.store.failpoint import failpoint
from noria.store.objects import disk_faults, hash_file
from noria.store.tree import Entry, find_entry, iter_tree, tree_nodes
from noria.store.workspace import Workspace

__all__ = ["CheckedOut", "checkout", "part_of"]

SHOWN = 3
_FOLDER = "folder"
_OTHER = "link"


@frozen(kw_only=True)
class CheckedOut:
    """What a checkout wrote, and where.

    `files` and `size_bytes` are those of the version (or of the part that was asked for); of these
    `written` had to be written. `removed` files of the version that lay there before were taken
    away, `kept` were changed by the user and left. `choice` says why a date meant this version.

    Of all data sets at once `dataset` is empty, `to` is the project, the numbers are sums, `each` are the
    data sets, and `skipped` says of those that do not lie in the project as files why not.
    """

    dataset: str
    version: int
    to: str
    files: int
    size_bytes: int
    written: int = 0
    removed: int = 0
    kept: int = 0
    choice: str = ""
    each: tuple[CheckedOut, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)


@frozen
class _Place:
    """Where files go: a folder, or in it one file, under the name that it has there whatever the version calls it."""

    folder: Path
    file: str = ""

    @property
    def root(self) -> str:
        """What the stat cache calls it."""
        return str(self.folder.resolve() / self.file) if self.file else str(self.folder)

    def entries(self, ws: Workspace, version: DatasetVersion, path: str) -> Iterator[Entry]:
        """The files of a version below a path, by the names that they have here."""
        found = part_of(ws, version, path)
        return (replace(entry, path=self.file) for entry in found) if self.file else found


@slotted
class _Plan:
    """What is to be done in a folder that is there; `known` is what was remembered of its files."""

    write: list[Entry] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    files: int = 0
    size_bytes: int = 0
    known: dict[str, tuple[File, str]] = field(default_factory=dict)


@verb(permission="data.checkout", changes=False, where="project")
def checkout(ws: Workspace, ref: str = "", to: str = "", *, path: str = "", into: bool = False) -> CheckedOut:
    """Write the files of a version into a folder, every byte verified; without a name, of all that noria.lock/ pins.

    A new folder appears whole or not at all. With --into a folder that is there is brought to the
    version; so is, without TO, the place that the data set was added from. Files that you changed are
    never overwritten or removed: where one is in the way, nothing is done and it is named.

    A name alone is the version that noria.lock/ pins, so that it follows the branch, else the newest.

    Args:
        ref: such as flights, flights@3, flights@gold or flights@2013-03; flights alone is what
            noria.lock/ pins, so that it follows the branch. Without it every pinned data set is brought to its
            pin where it lies in the project; one that cannot be does not hold up the others, and is told at the end.
        to: the folder; by default where the data set lies in the project.
        path: only this file, or the files of this folder; in the version, not on disk.
        into: write into a folder that is there.
    Raises: NotFound; Conflict if something is in the way; Corrupt if a stored file was altered and no
        remote has it; ConfigError for a broken pin; UsageError; StoreFull; StoreUnavailable.
    Example:
        noria data checkout flights@2 /tmp/flights
    """
    if not ref:
        if to or path or into:
            raise UsageError("a folder or a path is for one data set", hint="noria data checkout NAME FOLDER")
        return _every(ws)
    chosen = choose(ws, ref)
    try:
        return _one(ws, chosen, to, path, into=into)
    except (Corrupt, ObjectGone):
        if not _heal_nodes(ws, chosen.version.tree):
            raise
        return _one(ws, chosen, to, path, into=into)


def _one(ws: Workspace, chosen: Chosen, to: str, path: str, *, into: bool) -> CheckedOut:
    """The checkout of one version."""
    version = chosen.version
    place = _Place(Path(to).absolute()) if to else _home(ws, version)
    target = place.folder
    is_new = not into and bool(to)
    if is_new and (target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir())))):
        raise Conflict(f"{to} exists and is not an empty folder", hint="name a new folder, or say --into")
    if path and next(part_of(ws, version, path), None) is None:
        raise NotFound(f"{version.ref} has no {path!r}", hint=f"noria data show {version.ref}")
    if version.columns and read.is_segmented(ws, version):
        return _merged(ws, version, target, path, is_new=is_new, choice=chosen.choice)
    if is_new or not target.exists():
        done = _new(ws, version, place, path)
    else:
        guard = ws.project.state / "locks" / f"checkout-{version.name}.lock"
        with lock.file_lock(guard, f"the place of {version.name}"):
            done = _into(ws, version, place, path)
    return CheckedOut(
        dataset=version.name,
        version=version.version,
        to=os.path.normpath(target),
        files=done.files,
        size_bytes=done.size_bytes,
        written=len(done.write),
        removed=len(done.remove),
        kept=len(done.kept),
        choice=chosen.choice,
    )


def _every(ws: Workspace) -> CheckedOut:
    """Every pinned data set that lies in the project, brought to its pin. Raises: what was in the way first, last."""
    good, broken = sorted_pins(ws.project.root)
    done: list[CheckedOut] = []
    skipped: dict[str, str] = {}
    failed: list[tuple[str, NoriaError]] = [(each.name, each.error) for each in broken]
    for pin in good:
        try:
            version = choose(ws, pin.name).version
            why = _not_as_files(ws, version)
            if why:
                skipped[pin.name] = why
            else:
                done.append(checkout(ws, pin.name))
        except (StoreFull, StoreUnavailable):
            raise  # of the disk, not of this data set
        except NoriaError as error:
            failed.append((pin.name, error))
    if failed:
        raise _unfinished(failed, done)
    return CheckedOut(
        dataset="",
        version=0,
        to=str(ws.project.root),
        files=sum(each.files for each in done),
        size_bytes=sum(each.size_bytes for each in done),
        written=sum(each.written for each in done),
        removed=sum(each.removed for each in done),
        kept=sum(each.kept for each in done),
        each=tuple(done),
        skipped=skipped,
    )


def _not_as_files(ws: Workspace, version: DatasetVersion) -> str:
    """Why a version does not lie in the project as files, or "" if it does."""
    if version.columns and read.is_segmented(ws, version):
        return f"a table that grew, kept by Noria: noria data checkout {version.ref} NEW-FOLDER"
    cache = StatCache(cache_path(ws.project.state, version.name))
    try:
        place = _source(ws, version, cache)
    finally:
        cache.close()
    return "" if place is not None else f"it has no place in the project: noria data checkout {version.ref} NEW-FOLDER"


def _unfinished(failed: Sequence[tuple[str, NoriaError]], done: Sequence[CheckedOut]) -> NoriaError:
    """The first failure, named with the others, and how many data sets are as they should be."""
    first = failed[0][1]
    told = "; ".join(f"{name}: {error.message}" for name, error in failed[:SHOWN])
    told += f"; {len(failed) - SHOWN} more" if failed[SHOWN:] else ""
    others = (
        f"{len(done)} other{'s are' if len(done) != 1 else ' is'} checked out" if done else "no other is checked out"
    )
    return type(first)(f"{told} ({others})", where=first.where, hint=first.hint)


def part_of(ws: Workspace, version: DatasetVersion, path: str) -> Iterator[Entry]:
    """The files of a version that are a path or lie below it; all for ""."""
    return iter_tree(ws.objects, version.tree, path.strip("/"))


def _home(ws: Workspace, version: DatasetVersion) -> _Place:
    """Where the files of a data set lie. Raises: UsageError if it is not in the project."""
    cache = StatCache(cache_path(ws.project.state, version.name))
    try:
        place = _source(ws, version, cache)
    finally:
        cache.close()
    if place is None:
        hint = f"noria data checkout {version.ref} FOLDER"
        raise UsageError(f"{version.name} has no place in the project", hint=hint)
    return _Place(place.parent, place.name) if _is_at_file(ws, version, place) else _Place(place)


def _source(ws: Workspace, version: DatasetVersion, cache: StatCache) -> Path | None:
    pin = read_pin(ws.project.root, version.name)
    place = source_of(ws.project, pin, cache) if pin is not None else None
    if place is None and version.source and "://" not in version.source and not version.operation:
        place = ws.project.root / version.source
    return place.absolute() if place is not None else None


def _is_at_file(ws: Workspace, version: DatasetVersion, place: Path) -> bool:
    """Whether a version is one file that lies at a place itself, rather than in the folder there.

    Raises: UsageError if a file of another kind is there: Parquet is no .csv, whatever it says.
    """
    if place.is_dir():
        return False
    if version.files != 1 and not place.exists() and not formats.format_of(place.name):
        return False  # many files, and nothing that says otherwise: their kinds need not be looked at
    kinds = {PurePosixPath(entry.path).suffix.lower() for entry in part_of(ws, version, "")}
    if version.files == 1 and kinds == {place.suffix.lower()}:
        return version.is_one_file or find_entry(ws.objects, version.tree, place.name) is not None
    if place.exists() or formats.format_of(place.name):
        raise UsageError(
            f"{version.ref} is kept as {', '.join(sorted(kinds))}, which does not fit its place {place.name}",
            hint=f"noria data checkout {version.ref} NEW-FOLDER",
        )
    return False


def _new(ws: Workspace, version: DatasetVersion, place: _Place, path: str) -> _Plan:
    """Stage beside the target, then rename: the folder appears whole."""
    target = place.folder
    plan = _Plan(write=list(place.entries(ws, version, path)))
    plan.files, plan.size_bytes = len(plan.write), sum(entry.size_bytes for entry in plan.write)
    with disk_faults(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.sweep(target.parent)
        part = staging.part(target.parent, target.name)
        part.mkdir()
    try:
        _write(ws, plan.write, part)
        failpoint("checkout.staged")
        with disk_faults(target):
            part.rename(target)
        failpoint("checkout.placed")
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if not path:
        _remember(ws, version, place, plan.write)
    return plan


def _into(ws: Workspace, version: DatasetVersion, place: _Place, path: str) -> _Plan:
    target = place.folder
    if not target.is_dir() or target.is_symlink():
        raise Conflict(f"{target} is no folder", hint="name a folder")
    plan = _planned(ws, version, place, path)
    if plan.blocked:
        more = f" and {len(plan.blocked) - SHOWN} more" if len(plan.blocked) > SHOWN else ""
        named = ", ".join(map(printable, plan.blocked[:SHOWN]))
        raise Conflict(
            f"{named}{more} would be lost: here is something else; nothing was done",
            where=str(target),
            hint="noria data add them, move them away, or check out into a new folder",
        )
    if plan.write or plan.remove:
        with disk_faults(target):
            staging.sweep(target)
            part = staging.part(target, "checkout")
            part.mkdir()
        try:
            _write(ws, plan.write, part)
            failpoint("checkout.staged")
            _place(target, part, plan)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    if not path and not plan.kept:
        _remember(ws, version, place, place.entries(ws, version, ""), plan.known)
    return plan


def _planned(ws: Workspace, version: DatasetVersion, place: _Place, path: str) -> _Plan:
    """Compare what lies there with what lay there last and with what shall lie there."""
    target = place.folder
    cache = StatCache(cache_path(ws.project.state, version.name))
    try:
        root = cache.root(place.root)
        known = cache.all_known(root)
        tree = cache.tree(root)
        if not tree and target / place.file == _source(ws, version, cache):
            tree = lock.pinned(ws.project.root, version.name)
        before = _before(ws, tree, path) if not place.file else _before_file(ws, tree, place.file, known)
    finally:
        cache.close()
    plan = _Plan(known=known)
    others = _Versions(ws, version.name)
    for entry in place.entries(ws, version, path):
        plan.files += 1
        plan.size_bytes += entry.size_bytes
        old = before.pop(entry.path, "")
        here = _content(target, entry.path, known)
        if here == entry.digest:
            continue
        if not here or here in (old, _FOLDER) or others.hold(entry.path, here):
            plan.write.append(entry)
        elif old == entry.digest:
            plan.kept.append(entry.path)
        else:
            plan.blocked.append(entry.path)
    for name, old in before.items():
        here = _content(target, name, known)
        if here == old or (here and others.hold(name, here)):
            plan.remove.append(name)
        elif here:
            plan.kept.append(name)
    removed = set(plan.remove)
    for entry in plan.write:
        way = _in_the_way(target, entry.path, removed)
        if way:
            plan.blocked.append(way)
    return plan


class _Versions:
    """The versions of a data set: what one of them holds at a path is nobody's unsaved change."""

    def __init__(self, ws: Workspace, name: str) -> None:
        self._ws = ws
        self._name = name
        self._trees: list[str] | None = None

    def hold(self, path: str, digest: str) -> bool:
        """Whether some version that is here has exactly these bytes at this path."""
        if not is_digest(digest):
            return False
        if self._trees is None:
            with self._ws.ledger.read() as tx:
                known = records.versions(tx, self._name)
            self._trees = [each.tree for each in reversed(known) if self._ws.objects.has(each.tree)]
        found = (find_entry(self._ws.objects, tree, path) for tree in self._trees)
        return any(entry is not None and entry.digest == digest for entry in found) or digest in self._single()

    def _single(self) -> set[str]:
        """The digests of versions that are one file: its name is not content."""
        with self._ws.ledger.read() as tx:
            known = [each for each in records.versions(tx, self._name) if each.is_one_file]
        return {e.digest for each in known if self._ws.objects.has(each.tree) for e in part_of(self._ws, each, "")}


def _before(ws: Workspace, tree: str, path: str) -> dict[str, str]:
    """The digests by path of the version that lay there last; empty if none did."""
    if not tree or not ws.objects.has(tree):
        return {}
    return {entry.path: entry.digest for entry in iter_tree(ws.objects, tree, path.strip("/"))}


def _before_file(ws: Workspace, tree: str, name: str, known: dict[str, tuple[File, str]]) -> dict[str, str]:
    """The same of one file. An `add` may have found that it says what a version says in other bytes."""
    if tree and name in known:
        return {name: known[name][1]}
    digests = list(_before(ws, tree, "").values())
    return {name: digests[0]} if digests else {}


def _content(target: Path, path: str, known: dict[str, tuple[File, str]]) -> str:
    """The digest of the file that lies at a path; "" if nothing does, else what lies there instead."""
    place = f"{target}/{path}"
    try:
        found = os.lstat(place)  # a Path costs three times the call
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISLNK(found.st_mode):
        return _linked(target, path)
    if not stat.S_ISREG(found.st_mode):
        return _FOLDER if stat.S_ISDIR(found.st_mode) else _OTHER
    held = known.get(path)
    stamp = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    if held is not None and held[0][1:] == stamp:
        return held[1]
    with disk_faults(Path(place)):
        return hash_file(Path(place))


def _linked(target: Path, path: str) -> str:
    """The digest of the file of the folder that a link in it leads to: `add` kept that under the link's name."""
    try:
        place = (target / path).resolve(strict=True)
    except (OSError, RuntimeError):
        return _OTHER
    if not place.is_file() or not place.is_relative_to(target.resolve()):
        return _OTHER
    with disk_faults(place):
        return hash_file(place)


def _in_the_way(target: Path, path: str, removed: set[str]) -> str:
    """The part of a path that is no folder but should be one, or is a link that may lead anywhere."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        name = "/".join(parts[:depth])
        place = target / name
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            return "" if name in removed else name
    return _left_in(target, path, removed) if (target / path).is_dir() else ""


def _left_in(target: Path, path: str, removed: set[str]) -> str:
    """What of a folder stays when the removed files are gone, if it should give way to a file."""
    for place in (target / path).rglob("*"):
        name = place.relative_to(target).as_posix()
        if (place.is_symlink() or not place.is_dir()) and name not in removed:
            return name
    return ""


def _write(ws: Workspace, entries: Sequence[Entry], part: Path) -> None:
    """Every file of the entries below a folder, verified. What is missing or altered is asked of the remotes."""
    with disk_faults(part):
        for folder in sorted({entry.path.rpartition("/")[0] for entry in entries}):
            (part / folder).mkdir(parents=True, exist_ok=True)
    below = str(part)
    pairs = [(entry.digest, f"{below}/{entry.path}") for entry in entries]  # a Path costs as much as a system call
    with task("writing", total=sum(entry.size_bytes for entry in entries)) as advance:
        try:
            ws.objects.copy_many(pairs, advance)
        except (NotFound, Corrupt):
            _heal(ws, {entry.digest for entry in entries})
            ws.objects.copy_many(pairs)


def _heal(ws: Workspace, digests: Iterable[str]) -> int:
    """Put right every one that is missing or altered; gives how many those were.

    Raises: Corrupt; NotFound naming the remotes that were asked.
    """
    count = 0
    for digest in digests:
        try:
            ws.objects.verify(digest)
        except (NotFound, Corrupt):
            remotes.heal(ws, digest)
            count += 1
    return count


def _heal_nodes(ws: Workspace, tree: str) -> int:
    """The same for the lists of files that a tree consists of, each before what it lists is asked for."""
    return _heal(ws, [tree]) + _heal(ws, tree_nodes(ws.objects, tree))


def _place(target: Path, part: Path, plan: _Plan) -> None:
    """Take away what goes, then put each staged file to its name: a killed process leaves whole files only."""
    with disk_faults(target):
        for name in plan.remove:
            (target / name).unlink(missing_ok=True)
        for folder in sorted({name.rpartition("/")[0] for name in plan.remove}, reverse=True):
            _remove_empty(target, folder)
        failpoint("checkout.removed")
        for folder in sorted({entry.path.rpartition("/")[0] for entry in plan.write}):
            (target / folder).mkdir(parents=True, exist_ok=True)
        for entry in plan.write:
            (part / entry.path).replace(target / entry.path)
            failpoint("checkout.placed")


def _remove_empty(target: Path, folder: str) -> None:
    while folder:
        try:
            (target / folder).rmdir()
        except OSError:
            return  # something is still in it: the user's, or of the version
        folder = folder.rpartition("/")[0]


def _merged(
    ws: Workspace, version: DatasetVersion, target: Path, path: str, *, is_new: bool, choice: str
) -> CheckedOut:
    """A table that is stored with later changes apart is written as the plain table that it is."""
    if path or not (is_new or not target.exists()):
        raise UsageError(f"{version.ref} is one table", hint=f"noria data checkout {version.ref} NEW-FOLDER")
    with disk_faults(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.sweep(target.parent)
        part = staging.part(target.parent, target.name)
        part.mkdir()
    try:
        segments.write_merged(ws, version, part)
        sizes = [file.stat().st_size for file in part.rglob("*") if file.is_file()]
        with disk_faults(target):
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _remember(ws, version, _Place(target), _written(target))
    return CheckedOut(
        dataset=version.name,
        version=version.version,
        to=os.path.normpath(target),
        files=len(sizes),
        size_bytes=sum(sizes),
        written=len(sizes),
        choice=choice,
    )


def _written(target: Path) -> list[Entry]:
    """The files of a folder that was just written, sorted by path."""
    files = [place for place in target.rglob("*") if place.is_file()]
    entries = [Entry(place.relative_to(target).as_posix(), hash_file(place), place.stat().st_size) for place in files]
    return sorted(entries, key=lambda entry: entry.path)


def _remember(
    ws: Workspace,
    version: DatasetVersion,
    place: _Place,
    entries: Iterable[Entry],
    known: Mapping[str, tuple[File, str]] = MappingProxyType({}),
) -> None:
    """Note which version lies at a place.

    Files that were just written are too young for their stamps to be trusted: see `statcache`. `known` is what was
    remembered before: the stamp of a content stays true, and one of a file that was written since fits no more.
    """
    cache = StatCache(cache_path(ws.project.state, version.name))
    by_folder: dict[str, list[tuple[File, str]]] = {}
    for prefix, group in groupby(entries, key=lambda entry: entry.path.rpartition("/")[0]):
        rows = by_folder.setdefault(f"{prefix}/" if prefix else "", [])
        for entry in group:
            held = known.get(entry.path)
            file = (entry.path.rpartition("/")[2], entry.size_bytes, NEVER, NEVER, 0)
            rows.append((held[0] if held and held[1] == entry.digest else file, entry.digest))
    changed = []
    for prefix, rows in by_folder.items():
        rows.sort()
        body = b"".join(bytes.fromhex(digest[7:]) for _, digest in rows)
        changed.append((prefix, [file for file, _ in rows], body))
    try:
        cache.save(cache.root(place.root), version.tree, changed, removed=None, is_source=False)
    finally:
        cache.close()
