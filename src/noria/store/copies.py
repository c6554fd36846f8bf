"""Verified bytes into files: nothing has the name of a file before its bytes are known to be right.

One copy is written beside its name, synced and renamed. Many copies are made in two threads and synced
once at the end; a name that is not there is then made in place, because a rename for each file
costs as much as writing it, so that a checkout goes into a new folder that gets its name at the end.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from noria.core.errors import Corrupt
from noria.core.identity import Digest, digest, short
from noria.store.disk import BLOCK_BYTES, disk_faults, sync_files

__all__ = ["altered", "copy_stream", "write_copy"]


def write_copy(name: Digest, content: bytes, target: Path) -> None:
    """Write small verified content to a file that is there or not; durable once it is synced. Raises: Corrupt."""
    found = digest(content)
    if found != name:
        raise altered(name, found)
    try:
        _write(target, content, os.O_EXCL)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, content, os.O_EXCL)
    except FileExistsError:
        temporary = target.with_name(f".{target.name[:200]}.{uuid.uuid4().hex}")
        try:
            _write(temporary, content, os.O_EXCL)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _write(path: Path, content: bytes, flags: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o666)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
    except BaseException:
        path.unlink()
        raise
    finally:
        os.close(handle)


def copy_stream(
    name: Digest, source: BinaryIO, target: Path, *, is_synced: bool, progress: Callable[[int], None]
) -> None:
    """Copy a stream to a file beside the target, and rename it when its bytes are right. Raises: Corrupt."""
    hasher = hashlib.sha256()
    with disk_faults(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name[:200]}.{uuid.uuid4().hex}")
        try:
            with temporary.open("xb") as sink:
                for block in _blocks(source):
                    hasher.update(block)
                    sink.write(block)
                    progress(len(block))
                sink.flush()
                if is_synced:
                    os.fsync(sink.fileno())
            found = "sha256:" + hasher.hexdigest()
            if found != name:
                raise altered(name, found)
            temporary.replace(target)
            if is_synced:
                sync_files([target])
        finally:
            temporary.unlink(missing_ok=True)


def altered(name: str, found: str) -> Corrupt:
    """What to raise when bytes are not those of their name."""
    return Corrupt(
        f"object {short(name)} was altered: its bytes are now {short(found)}",
        hint="it was not handed out; noria audit verify says what it is; restore it from a backup",
    )


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    while block := source.read(BLOCK_BYTES):
        yield block
