"""From a path to the files of a data set, each hashed and inspected once.

The walk refuses what has no one meaning on another machine: links that leave the folder, sockets
and devices, names that are not UTF-8 or hold control characters or backslashes, two names that
differ only in their Unicode form. Names starting with a dot are left out, as Git and shells do.

What was hashed is remembered in `.noria/cache/stat/NAME.json` by size, times and inode. An entry
younger than two seconds when it was hashed is not kept, because a second write within one tick of
the file system's clock would not show (Git calls it racy). The memory may be deleted at any time.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.identity import Digest
from noria.data import formats
from noria.data.formats import Inspected
from noria.store.objects import Objects

__all__ = ["DataFile", "SourceFile", "StatCache", "gather", "scan"]

_THREADS = 8
_RACY_NS = 2_000_000_000
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file on disk and its name in the data set. `stamp` is (size, mtime_ns, ctime_ns, inode)."""

    path: Path
    name: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class DataFile:
    """A stored file of a data set; `inspected` is None for a file that is no table."""

    name: str
    digest: str
    size_bytes: int
    inspected: Inspected | None


class _Remembered(msgspec.Struct, frozen=True):
    stamp: Stamp
    digest: str
    time: str
    inspected: Inspected | None


class StatCache:
    """Digests and schemas of files by their stamps; a broken or missing cache file is an empty one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, _Remembered] = {}
        self._is_changed = False
        try:
            self._entries = msgspec.json.decode(path.read_bytes(), type=dict[str, _Remembered])
        except (FileNotFoundError, msgspec.DecodeError):
            self._entries = {}

    def get(self, source: SourceFile, time: str) -> _Remembered | None:
        """What is known of exactly this file, with the range of this time column."""
        found = self._entries.get(str(source.path))
        return found if found and found.stamp == source.stamp and found.time == time else None

    def put(self, source: SourceFile, found: DataFile, time: str, now_ns: int) -> None:
        """Remember a file that was hashed when the file system's clock said `now_ns`, unless it is racy."""
        _, modified, changed, _ = source.stamp
        self._is_changed = True
        if max(modified, changed) < now_ns - _RACY_NS:
            self._entries[str(source.path)] = _Remembered(source.stamp, found.digest, time, found.inspected)
        else:
            self._entries.pop(str(source.path), None)

    def now_ns(self) -> int:
        """The present by the file system's own clock: the time that it gives a file just touched."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        mark = self._path.with_suffix(f".{os.getpid()}.now")
        mark.touch()
        now = mark.stat().st_mtime_ns
        mark.unlink()
        return now

    def save(self) -> None:
        """Write what changed: atomic, last writer wins (a lost entry costs one hash)."""
        if not self._is_changed:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(msgspec.json.encode(self._entries))
        part.replace(self._path)


def scan(path: Path) -> list[SourceFile]:
    """The files under a folder, or the one file, sorted by name in the data set.

    Raises: NotFound if there is nothing; UsageError for what cannot be part of a data set.
    """
    try:
        root = path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no file or folder {path}", hint="give a CSV, Parquet or JSON lines file") from error
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{path} cannot be followed: a loop of links?") from error
    if root.is_file():
        if not formats.format_of(root.name):
            raise UsageError(f"{root.name} is not a table", hint="Noria reads .csv, .tsv, .parquet and .jsonl files")
        return [_source(root, root.name)]
    if not root.is_dir():
        raise UsageError(f"{path} is neither a file nor a folder")
    found = [_source(place, name) for place, name in _walk(root)]
    if not found:
        raise UsageError(f"the folder {path} holds no files", hint="names that start with a dot are left out")
    by_name: dict[str, SourceFile] = {}
    by_path: dict[Path, str] = {}
    for source in found:
        first = by_path.setdefault(source.path, source.name)
        if first != source.name:
            raise UsageError(f"the link {source.name} is the file {first} once more", hint="remove the link")
        twin = by_name.setdefault(source.name, source)
        if twin is not source:
            raise UsageError(f"two files have the name {source.name!r} in different Unicode forms")
    return [by_name[name] for name in sorted(by_name)]


def gather(sources: list[SourceFile], objects: Objects, cache: StatCache, time: str) -> list[DataFile]:
    """Inspect every new file, then store every new file. A file that cannot be read stores nothing.

    Raises: UsageError for a broken file; Conflict if a file changes meanwhile.
    """
    found: dict[str, DataFile] = {}
    fresh: list[tuple[SourceFile, Inspected | None]] = []
    for source in sources:
        known = cache.get(source, time)
        if known is not None and objects.has(Digest(known.digest)):
            found[source.name] = DataFile(source.name, known.digest, source.stamp[0], known.inspected)
        else:
            fresh.append((source, _inspect(source, time)))
    if not fresh:
        return [found[source.name] for source in sources]
    now_ns = cache.now_ns()
    with ThreadPoolExecutor(_THREADS) as pool:  # most of storing is waiting for the disk
        digests = list(pool.map(lambda item: objects.put_file(item[0].path), fresh))
    for (source, inspected), digest in zip(fresh, digests, strict=True):
        if _stamp(source.path, source.name) != source.stamp:
            raise Conflict(f"{source.name} changed while it was added", hint="run the command again")
        found[source.name] = DataFile(source.name, digest, source.stamp[0], inspected)
        cache.put(source, found[source.name], time, now_ns)
    return [found[source.name] for source in sources]


def columns_of(files: list[DataFile]) -> Mapping[str, formats.Columns]:
    """The columns of each table file by name."""
    return {file.name: file.inspected.columns for file in files if file.inspected is not None}


def _inspect(source: SourceFile, time: str) -> Inspected | None:
    if not formats.format_of(source.name):
        return None
    try:
        return formats.inspect(source.path, source.name, time)
    except FileNotFoundError as error:
        raise Conflict(f"{source.name} went away while it was added", hint="run the command again") from error
    except PermissionError as error:
        raise UsageError(f"{source.name} may not be read", hint="check its permissions") from error


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file below a folder, through links that stay inside it."""
    folders = [(root, PurePosixPath())]
    seen = {root}
    while folders:
        folder, prefix = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except PermissionError as error:
            raise UsageError(f"the folder {prefix} may not be read", hint="check its permissions") from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = str(prefix / _name(entry.name))
            place = Path(entry.path)
            if entry.is_symlink():
                place = _inside(place, root, name)
            if place.is_dir():
                if place in seen:
                    raise UsageError(f"the link {name} leads to a folder that is already part of the data set")
                seen.add(place)
                folders.append((place, PurePosixPath(name)))
            else:
                yield place, name


def _inside(link: Path, root: Path, name: str) -> Path:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"the link {name} leads nowhere", hint="remove it, or mend its target") from error
    if not target.is_relative_to(root):
        raise UsageError(f"the link {name} leaves the folder", hint="copy the file in, or add the folder it is in")
    return target


def _name(name: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"the file name {os.fsencode(name)!r} is not UTF-8", hint="rename it") from error
    if "\\" in name or any(unicodedata.category(mark) == "Cc" for mark in name):
        raise UsageError(f"the file name {name!r} holds a backslash or a control character", hint="rename it")
    return unicodedata.normalize("NFC", name)


def _source(path: Path, name: str) -> SourceFile:
    return SourceFile(path, name, _stamp(path, name))


def _stamp(path: Path, name: str) -> Stamp:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise Conflict(f"{name} went away while it was added", hint="run the command again") from error
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{name} is not a regular file", hint="pipes, sockets and devices cannot be versioned")
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
