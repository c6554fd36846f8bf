"""What work that has ended left in the local state: found, and taken away, without touching what a process uses.

A folder of a process has its owner in its name (`lock.mark`) and goes when the owner is gone. A download that was
broken off goes on with the next pull, so it stays until it is old, and while a pull holds it. Half-written objects
go by the store's own rule, and never while anybody who began before them is at work. Notes about contents that
are kept nowhere any more can be made again, and go when they are old; so do notes about sources that were not
added from for long, and what is above `NOTES_MAX_BYTES` in a folder of them, the oldest first.

It never looks at the objects themselves: that is `store.collect`.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from noria.core.frozen import frozen
from noria.core.identity import is_digest
from noria.data import lock, records
from noria.data.folders.statcache import StatCache, cache_path
from noria.data.pins import sorted_pins
from noria.store.disk import disk_faults
from noria.store.objects import HasUnfinished
from noria.store.transfer import broken_off
from noria.store.workspace import Workspace

__all__ = ["LocalFolder", "clear"]

NOTES_MAX_BYTES = 256 << 20
"""What each of the folders of notes about sources and about nulls may hold; about a million of the smaller ones."""
SOURCE_UNUSED_S = 90 * 86_400.0
"""A source that was not added from for so long is read whole when it is added from again."""
_MARK = re.compile(r"\.(\d+-\d+-[0-9a-f]{8})(?=\.|$)")
_SQLITE = re.compile(r"\.db(-wal|-shm)?$")


@frozen
class LocalFolder:
    """What of a folder of the local state goes, or went, because nothing needs it; and what stays there."""

    folder: str
    left: int
    left_bytes: int
    kept_bytes: int


def clear(ws: Workspace, *, min_age_s: float, is_dry_run: bool) -> tuple[LocalFolder, ...]:
    """Take away what nobody needs in the local state, or with `is_dry_run` only say how much; folders with nothing
    in them are not named.

    Args:
        min_age_s: what has no owner that could be asked goes when it was not touched for so long.
    Raises: StoreUnavailable.
    """
    cache = ws.project.state / "cache"
    now = ws.clock.now().timestamp()
    oldest = min((lease.since for lease in lock.leases(ws).active()), default=now)
    old = now - min_age_s
    found: list[LocalFolder] = []
    with disk_faults(cache):
        for folder in (cache / "scratch", ws.project.state / "quarantine"):
            left = [path for path in _entries(folder) if _is_left(path, now, now - lock.DAY_S)]
            found.append(_cleared(ws, folder, left, is_dry_run=is_dry_run))
        broken = broken_off(cache / "partial", unused_since=old, is_dry_run=is_dry_run)
        found.append(LocalFolder("cache/partial", *broken, _size(cache / "partial") - broken[1] * is_dry_run))
        notes = [
            path for path in _entries(cache / "parquet") if _is_left(path, now, old) or _is_dangling(ws, path, old)
        ]
        found.append(_cleared(ws, cache / "parquet", notes, is_dry_run=is_dry_run))
        parts = [path for path in _entries(cache / "packs") if path.name.startswith(".") and _changed(path) < old]
        found.append(_cleared(ws, cache / "packs", parts, is_dry_run=is_dry_run))
        found += [_notes(ws, name, now, old, is_dry_run=is_dry_run) for name in ("nulls", "seen", "sources")]
        found.append(_stat(ws, old, is_dry_run=is_dry_run))
        if isinstance(ws.objects.store, HasUnfinished):
            sizes = ws.objects.store.unfinished(unused_since=min(old, oldest), is_dry_run=is_dry_run)
            found.append(LocalFolder("objects/tmp", len(sizes), sum(sizes), 0))
    return tuple(each for each in found if each.left or each.kept_bytes)


def _cleared(ws: Workspace, folder: Path, left: list[Path], *, is_dry_run: bool) -> LocalFolder:
    all_bytes = _size(folder)
    left_bytes = sum(map(_size, left))
    for path in () if is_dry_run else left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)  # somebody else may be clearing too; what stays is seen again
        else:
            path.unlink(missing_ok=True)
    name = folder.relative_to(ws.project.state).as_posix()
    return LocalFolder(name, len(left), left_bytes, max(all_bytes - left_bytes, 0))


def _notes(ws: Workspace, name: str, now: float, old: float, *, is_dry_run: bool) -> LocalFolder:
    """Notes that cost time to make again and nothing else: those of what is gone or forgotten, and what is too much."""
    folder = ws.project.state / "cache" / name
    ages = {path: _changed(path) for path in _entries(folder)}
    parts = [path for path in ages if path.suffix == ".part"]
    whole = sorted(ages.keys() - set(parts), key=lambda path: ages[path], reverse=True)
    if name == "sources":
        kept = [path for path in whole if ages[path] >= min(now - SOURCE_UNUSED_S, old)]
    elif name == "seen":
        known = _known_names(ws)
        kept = [path for path in whole if path.stem in known or ages[path] >= old]
    else:
        here = ws.objects.has_many([f"sha256:{path.stem}" for path in whole if is_digest(f"sha256:{path.stem}")])
        kept = [path for path in whole if f"sha256:{path.stem}" in here or ages[path] >= old]
    room = NOTES_MAX_BYTES
    fitting = set()
    for path in kept:
        room -= _size(path)
        if room < 0:
            break
        fitting.add(path)
    left = [path for path in parts if ages[path] < now - lock.DAY_S] + [path for path in whole if path not in fitting]
    return _cleared(ws, folder, left, is_dry_run=is_dry_run)


def _known_names(ws: Workspace) -> set[str]:
    with ws.ledger.read() as tx:
        good, broken = sorted_pins(ws.project.root)
        return {*records.names(tx), *(pin.name for pin in good), *(pin.name for pin in broken)}


def _stat(ws: Workspace, old: float, *, is_dry_run: bool) -> LocalFolder:
    """What is remembered of files: of data sets that there are not, of places that are gone, of lost contents."""
    folder = cache_path(ws.project.state, "x").parent
    known = _known_names(ws)
    by_name: dict[str, list[Path]] = {}
    for path in _entries(folder):
        by_name.setdefault(_SQLITE.sub("", path.name), []).append(path)
    left: list[Path] = []
    forgotten = forgotten_bytes = 0
    for name, paths in by_name.items():
        if name in known:
            count, size_bytes = _forgotten(cache_path(ws.project.state, name), is_dry_run=is_dry_run)
            forgotten, forgotten_bytes = forgotten + count, forgotten_bytes + size_bytes
        elif max(map(_changed, paths)) < old:
            left += paths
    cleared = _cleared(ws, folder, left, is_dry_run=is_dry_run)
    return LocalFolder(
        cleared.folder,
        cleared.left + forgotten,
        cleared.left_bytes + forgotten_bytes,
        max(cleared.kept_bytes - forgotten_bytes, 0),
    )


def _forgotten(path: Path, *, is_dry_run: bool) -> tuple[int, int]:
    cache = StatCache(path)
    try:
        return cache.forget_unused(is_dry_run=is_dry_run)
    finally:
        cache.close()


def _is_left(path: Path, now: float, unowned_since: float) -> bool:
    """Whether the process that a name tells of is gone; without one, whether it was not touched since then."""
    found = _MARK.search(path.name)
    if found is None:
        return (path.is_dir() or path.suffix == ".part") and _changed(path) < unowned_since
    return lock.is_left(found[1], now - _changed(path))


def _is_dangling(ws: Workspace, note: Path, old: float) -> bool:
    """Whether a note names a file that is kept no more."""
    if note.suffix == ".part" or not _changed(note) < old:
        return False
    try:
        named = note.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    return not (is_digest(named) and ws.objects.has_many([named]))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _changed(path: Path) -> float:
    """When anything in it was written last, in seconds since the epoch; what is gone was just now."""
    return max((status.st_mtime for status in _statuses(path)), default=float("inf"))


def _size(path: Path) -> int:
    return sum(status.st_size for status in _statuses(path) if not stat.S_ISDIR(status.st_mode))


def _statuses(path: Path) -> Iterator[os.stat_result]:
    """Of a file, or of all files and folders below and with a folder; those that go meanwhile are left out."""
    try:
        yield path.lstat()
    except FileNotFoundError:
        return
    if path.is_dir() and not path.is_symlink():
        for child in _entries(path):
            yield from _statuses(child)
