"""Digests of files that steps read: each is hashed once, and again only when its stamp changes.

A file whose time is within two seconds of the look may change again under the same stamp, so its
digest is used but not kept.
"""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

from noria.store.objects import hash_file

__all__ = ["FileDigests", "Stamp", "absolute", "stamp_of"]

MISSING = "missing"
KEPT_BYTES = 1 << 16
"""Smaller files are hashed anew by each process: that is as quick as looking them up."""
RACY_NS = 2_000_000_000
ENTRIES = 5000

Stamp = tuple[int, int, int, int]
"""Size, modification and change time in nanoseconds, inode."""


def absolute(path: str | bytes | os.PathLike[Any]) -> str:
    """The path from the root, as it is written: links in it are kept."""
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # Path.resolve would follow the links


def stamp_of(path: str | Path) -> Stamp | None:
    """The stamp of a regular file; None if there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


class FileDigests:
    """The digests (hex) of files by path; kept between processes in `file`, if one is given."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known: dict[str, tuple[Stamp, str]] = {}
        self._kept: dict[str, tuple[Stamp, str]] | None = None
        self._has_news = False

    def of(self, path: Path) -> str:
        """The sha-256 of a file's bytes, or "missing"."""
        name = absolute(path)
        stamp = stamp_of(name)
        if stamp is None:
            return MISSING
        found = self._known.get(name) or (self._stored().get(name) if stamp[0] >= KEPT_BYTES else None)
        if found is not None and found[0] == stamp:
            return found[1]
        try:
            value = hash_file(Path(name)).removeprefix("sha256:")
        except OSError:
            return MISSING
        if stamp_of(name) == stamp and time.time_ns() - max(stamp[1], stamp[2]) > RACY_NS:
            self._known[name] = (stamp, value)
            self._has_news = self._has_news or stamp[0] >= KEPT_BYTES
        return value

    def save(self) -> None:
        """Keep what was learnt of large files."""
        if self._file is None or not self._has_news:
            return
        large = {name: found for name, found in self._known.items() if found[0][0] >= KEPT_BYTES}
        entries = list({**self._stored(), **large}.items())[-ENTRIES:]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        part.write_text(json.dumps({name: [list(map(str, stamp)), value] for name, (stamp, value) in entries}))
        part.replace(self._file)
        self._has_news = False

    def _stored(self) -> dict[str, tuple[Stamp, str]]:
        if self._kept is None:
            self._kept = {}
            try:
                document = json.loads(self._file.read_bytes()) if self._file is not None else {}
                for name, (stamp, value) in document.items():
                    size, modified, changed, inode = (int(part) for part in stamp)
                    self._kept[name] = ((size, modified, changed, inode), value)
            except (FileNotFoundError, ValueError, AttributeError, TypeError):
                self._kept = {}  # nothing kept yet, or not by this version: each file is hashed anew
        return self._kept
