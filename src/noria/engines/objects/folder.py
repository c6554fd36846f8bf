"""Named bytes in a folder: what a bucket is on a disk that several people or machines mount.

A new key is linked to its name, which fails if the name exists, so that of two writers one succeeds
on any file system with hard links. A key that changes is replaced under a lock on the folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from noria.core.errors import Conflict, NotFound, UsageError
from noria.store.bucket import Item
from noria.store.objects import disk_faults, sync_folder

__all__ = ["FolderBucket"]

_PART = ".part"


class FolderBucket:
    """A bucket in a folder; the folder is made at the first write."""

    def __init__(self, url: str, endpoint: str = "", region: str = "") -> None:
        self._root = Path(url.removeprefix("file://"))
        self.url = str(self._root)

    def open(self, key: str, start: int = 0, length: int = -1) -> BinaryIO:
        """The bytes of a key; see the protocol. Raises: NotFound; StoreUnavailable."""
        path = self._place(key)
        try:
            stream = path.open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFound(f"there is no {key}", where=self.url) from error
        except OSError:
            with disk_faults(path):
                raise
        stream.seek(start)
        if length < 0:
            return stream
        with stream:
            return io.BytesIO(stream.read(length))

    def stat(self, key: str) -> Item | None:
        """Size and tag of a key; see the protocol."""
        path = self._place(key)
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Item(key, status.st_size, _tag(status), status.st_mtime)

    def create(self, key: str, content: bytes, *, instead_of: str = "") -> str:
        """Write a key; see the protocol. Raises: Conflict; StoreFull; StoreUnavailable."""
        path = self._place(key)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_PART}")
        with disk_faults(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("xb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                if instead_of:
                    self._swap(part, path, instead_of)
                else:
                    self._link(part, path)
                sync_folder(path.parent)
                return _tag(path.stat())
            finally:
                part.unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[Item]:
        """Every key that begins with `prefix`, in the order of the keys."""
        start = self._place(prefix.rpartition("/")[0]) if "/" in prefix else self._root
        if not start.is_dir():
            return
        found = (path for path in start.rglob("*") if path.is_file() and not path.name.endswith(_PART))
        for path in sorted(found):
            key = path.relative_to(self._root).as_posix()
            if key.startswith(prefix):
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue  # deleted since it was listed
                yield Item(key, status.st_size, _tag(status), status.st_mtime)

    def delete(self, key: str) -> None:
        """Take a key away, if it is there."""
        with disk_faults(self._root):
            self._place(key).unlink(missing_ok=True)

    def _place(self, key: str) -> Path:
        if key.startswith("/") or ".." in key.split("/") or "\0" in key:
            raise UsageError(f"{key!r} cannot be a key")
        return self._root / key

    def _link(self, part: Path, path: Path) -> None:
        try:
            os.link(part, path)
        except FileExistsError as error:
            raise Conflict(f"{path.name} was written by somebody else", where=self.url) from error

    def _swap(self, part: Path, path: Path, instead_of: str) -> None:
        with self._locked():
            found = self.stat(path.relative_to(self._root).as_posix())
            if found is None or found.tag != instead_of:
                raise Conflict(f"{path.name} was written by somebody else", where=self.url)
            part.replace(path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._root / f".swap{_PART}").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield


def _tag(status: os.stat_result) -> str:
    text = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
