"""Objects, and the recipes of chunked ones, as read-only files: `<root>/ab/cdef…`, one file each.

A file is written to `<root>/tmp`, synced, renamed to its name, and its folder synced: after a crash
it is there whole or not at all. What a killed process leaves in `tmp` is taken away when it is a day
old. The trash is `<root>/trash/<second>/`: a rename brings a file there, and back.
"""

from __future__ import annotations

import errno
import os
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from noria.core.identity import Digest
from noria.store.failpoint import failpoint
from noria.store.objects import FRESH_S, hash_file, sync_folder

__all__ = ["RECIPE", "Loose"]

RECIPE = ".chunks"
STALE_TEMPORARY_S = 24 * 3600.0
_FOLDER = re.compile(r"[0-9a-f]{2}")
_FILE = re.compile(r"[0-9a-f]{62}")
_TRASHED = re.compile(r"[0-9a-f]{64}(\.chunks)?")


class Loose:
    """The files of a folder of objects. Thread safe; processes share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._temporary = root / "tmp"
        self._trash = root / "trash"
        self._is_swept = False

    def path_of(self, digest: str, kind: str = "") -> Path:
        """Where a file is, or would be."""
        return self.root / digest[7:9] / (digest[9:] + kind)

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """A name for a new file; what still has it at the end is taken away."""
        self._prepare()
        path = self._temporary / uuid.uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def place(self, temporary: Path, digest: str) -> None:
        """Give a written and synced object its name, durably."""
        target = self.path_of(digest)
        target.parent.mkdir(exist_ok=True)
        if target.is_dir():
            self.set_aside(digest)  # a folder in a file's place is damage, and no rename replaces it
        temporary.replace(target)
        failpoint("object.renamed")
        sync_folder(target.parent)

    def place_recipe(self, digest: str, content: bytes) -> None:
        """Write the recipe of an object, durably."""
        target = self.path_of(digest, RECIPE)
        with self.temporary() as temporary:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
            with os.fdopen(handle, "wb") as sink:
                sink.write(content)
                sink.flush()
                os.fsync(sink.fileno())
            failpoint("recipe.synced")
            target.parent.mkdir(exist_ok=True)
            temporary.replace(target)
            failpoint("recipe.renamed")
            sync_folder(target.parent)

    def files(self, kind: str = "") -> Iterator[tuple[Digest, os.stat_result]]:
        """Every object, or every recipe, with what the disk says of its file."""
        if not self.root.is_dir():
            return
        for folder in sorted(each.name for each in os.scandir(self.root) if _FOLDER.fullmatch(each.name)):
            for file in os.scandir(self.root / folder):
                name, dot, ending = file.name.partition(".")
                if dot + ending == kind and _FILE.fullmatch(name):
                    try:
                        status = file.stat()
                    except FileNotFoundError:
                        continue  # taken away meanwhile
                    yield Digest(f"sha256:{folder}{name}"), status

    def folders(self) -> set[str]:
        """The two first digits of the objects that there may be."""
        try:
            return {each.name for each in os.scandir(self.root) if _FOLDER.fullmatch(each.name)}
        except FileNotFoundError:
            return set()

    def touch(self, path: Path) -> None:
        """An object is asked for again: as if stored now. Cheap: at most once in a while for each file."""
        if path.stat().st_mtime < time.time() - FRESH_S / 2:
            os.utime(path)

    def trashed(self) -> Iterator[tuple[Digest, str, int, Path]]:
        """Every file in the trash: of which object, which kind, since when (seconds), and where it is."""
        if not self._trash.is_dir():
            return
        for folder in sorted(self._trash.iterdir()):
            for file in sorted(folder.iterdir()):
                if folder.name.isdigit() and _TRASHED.fullmatch(file.name):
                    yield Digest(f"sha256:{file.name[:64]}"), file.name[64:], int(folder.name), file

    def find_trashed(self, digest: str, kind: str = "") -> Path | None:
        """The newest file of that name in the trash."""
        if not self._trash.is_dir():
            return None
        for folder in sorted(self._trash.iterdir(), reverse=True):
            path = folder / (digest[7:] + kind)
            if path.exists():
                return path
        return None

    def trash(self, digests: Sequence[Digest], *, at: int, unseen_since: float) -> list[Digest]:
        """Move to the trash what nobody stored or asked for since; gives those that were moved."""
        done = []
        folder = self._trash / str(at)
        for digest in digests:
            for kind in ("", RECIPE):
                path = self.path_of(digest, kind)
                try:
                    if path.stat().st_mtime < unseen_since:
                        folder.mkdir(parents=True, exist_ok=True)
                        path.rename(folder / (digest[7:] + kind))
                        done.append(digest)
                except FileNotFoundError:
                    continue
        return list(dict.fromkeys(done))

    def restore(self, digest: str) -> None:
        """Bring an object back from the trash, with the time of now. A rename: it is in one place at any moment.

        Where it was stored anew meanwhile, the copy in the trash goes.
        """
        for kind in ("", RECIPE):
            target = self.path_of(digest, kind)
            while (trashed := self.find_trashed(digest, kind)) is not None:
                try:
                    if target.exists() and (kind or hash_file(target) == digest):
                        trashed.unlink()
                        self._leave(trashed.parent)
                    else:
                        target.parent.mkdir(exist_ok=True)
                        os.utime(trashed)
                        trashed.replace(target)
                        sync_folder(target.parent)
                        self._leave(trashed.parent)
                except FileNotFoundError:
                    continue  # another process was quicker

    def purge(self, digest: Digest, since: int) -> int:
        """Take away what is in the trash since then; gives how many files that were."""
        count = 0
        for kind in ("", RECIPE):
            try:
                (self._trash / str(since) / (digest[7:] + kind)).unlink()
                count += 1
            except FileNotFoundError:
                continue  # it came back, or another collection was quicker
        self._leave(self._trash / str(since))
        return count

    def delete(self, digest: str) -> bool:
        """Take an object away in every form, from the trash too; whether there was one."""
        is_there = False
        for kind in ("", RECIPE):
            paths = [self.path_of(digest, kind), *self._all_trashed(digest, kind)]
            for path in paths:
                try:
                    path.unlink()
                    is_there = True
                except FileNotFoundError:
                    continue
        return is_there

    def set_aside(self, digest: str, kind: str = "") -> None:
        """Move an altered file where nobody takes it for the object."""
        folder = self.root / "quarantine"
        folder.mkdir(exist_ok=True)
        path = self.path_of(digest, kind)
        path.rename(folder / f"{digest[7:]}{kind}.{uuid.uuid4().hex[:8]}")
        sync_folder(path.parent)

    def unfinished(self, unused_since: float, *, is_dry_run: bool = False) -> list[int]:
        """Take away what was being written, and not since then nor for a day; gives the sizes of what goes."""
        oldest = min(unused_since, time.time() - STALE_TEMPORARY_S)
        sizes = []
        for file in self._temporary.iterdir() if self._temporary.is_dir() else ():
            try:
                status = file.stat()
                if status.st_mtime < oldest:
                    sizes.append(status.st_size)
                    if not is_dry_run:
                        file.unlink()
            except FileNotFoundError:
                continue  # another process swept it, or renamed it to its object
        return sizes

    def _leave(self, folder: Path) -> None:
        """Take a folder of the trash away when nothing is left in it."""
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise

    def _all_trashed(self, digest: str, kind: str) -> list[Path]:
        if not self._trash.is_dir():
            return []
        return [folder / (digest[7:] + kind) for folder in self._trash.iterdir()]

    def _prepare(self) -> None:
        if self._is_swept:
            return
        self._temporary.mkdir(parents=True, exist_ok=True)
        self.unfinished(time.time())
        self._is_swept = True
