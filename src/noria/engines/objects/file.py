"""Objects as read-only files: `<root>/ab/cdef…`, one file an object.

An object is written to `<root>/tmp`, synced, renamed to its name, and its folder synced: after a
crash it is there whole or not at all. What a killed process leaves in `tmp` is taken away when it
is a day old. A put of an object that is already there checks the bytes on disk and puts altered
ones right. Files are read-only against accidents, not against an enemy: readers verify.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from noria.core.errors import NotFound
from noria.core.identity import Digest, short
from noria.store.failpoint import failpoint
from noria.store.objects import BLOCK_BYTES, disk_faults, hash_file, sync_folder

__all__ = ["FileObjects"]

STALE_TEMPORARY_S = 24 * 3600.0
_FOLDER = re.compile(r"[0-9a-f]{2}")
_FILE = re.compile(r"[0-9a-f]{62}")


class FileObjects:
    """An object store in a folder of a local file system."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / "tmp"
        self._is_swept = False
        self._verified: dict[str, tuple[int, int, int]] = {}

    def put(self, source: BinaryIO) -> Digest:
        """Store the bytes of a stream; see the protocol. Raises: StoreFull; StoreUnavailable."""
        with disk_faults(self._root):
            self._prepare()
            temporary = self._temporary / uuid.uuid4().hex
            try:
                name, handle = self._write(source, temporary)
                try:
                    target = self.path_of(name)
                    if self._is_there(name, target):
                        return name
                    os.fsync(handle)
                finally:
                    os.close(handle)
                failpoint("object.synced")
                target.parent.mkdir(exist_ok=True)
                temporary.replace(target)
                failpoint("object.renamed")
                sync_folder(target.parent)
                return name
            finally:
                temporary.unlink(missing_ok=True)

    def get(self, digest: Digest) -> BinaryIO:
        """The raw bytes of an object. Raises: NotFound."""
        try:
            return self.path_of(digest).open("rb")
        except FileNotFoundError as error:
            raise NotFound(f"there is no object {short(digest)}", where=str(self._root)) from error

    def has(self, digest: Digest) -> bool:
        """Whether the object is there."""
        return self.path_of(digest).exists()

    def list(self) -> Iterator[tuple[Digest, int]]:
        """Every object with its size in bytes."""
        if not self._root.is_dir():
            return
        for folder in self._root.iterdir():
            if _FOLDER.fullmatch(folder.name):
                for file in folder.iterdir():
                    if _FILE.fullmatch(file.name):
                        yield Digest(f"sha256:{folder.name}{file.name}"), file.stat().st_size

    def delete(self, digest: Digest) -> None:
        """Take an object away. Raises: NotFound."""
        with disk_faults(self._root):
            try:
                self.path_of(digest).unlink()
            except FileNotFoundError as error:
                raise NotFound(f"there is no object {short(digest)}", where=str(self._root)) from error

    def path_of(self, digest: Digest) -> Path:
        """Where the object's file is, or would be."""
        return self._root / digest[7:9] / digest[9:]

    def _prepare(self) -> None:
        if self._is_swept:
            return
        self._temporary.mkdir(parents=True, exist_ok=True)
        oldest = time.time() - STALE_TEMPORARY_S
        for file in self._temporary.iterdir():
            try:
                if file.stat().st_mtime < oldest:
                    file.unlink()
            except FileNotFoundError:
                continue  # another process swept it, or renamed it to its object
        self._is_swept = True

    def _write(self, source: BinaryIO, temporary: Path) -> tuple[Digest, int]:
        """Copy and hash at once; gives the digest and the open descriptor."""
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        hasher = hashlib.sha256()
        try:
            while block := source.read(BLOCK_BYTES):
                hasher.update(block)
                view = memoryview(block)
                while view:
                    view = view[os.write(handle, view) :]
            failpoint("object.temp")
        except BaseException:
            os.close(handle)
            raise
        return Digest("sha256:" + hasher.hexdigest()), handle

    def _is_there(self, name: Digest, target: Path) -> bool:
        """Whether the object is on disk unaltered; hashed once per process and file stamp."""
        try:
            status = target.stat()
        except FileNotFoundError:
            return False
        stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
        if self._verified.get(name) != stamp:
            if hash_file(target) != name:
                return False
            self._verified[name] = stamp
        return True
