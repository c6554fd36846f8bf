"""The last checkpoint that this client saw, kept outside of the database: trust on first use.

A ledger that was cut, emptied, replaced or rewritten behind its owner's back no longer holds the
tree that the note states, and the first use says so. The check reads a handful of subtree hashes,
not the facts; `audit verify` does the whole work.

The file is one block that is overwritten in place after each commit: replacing it by a rename cost
more than the commit itself (1.8 against 1.1 ms on ext4, 2026-11). A block is torn neither by a kill
nor, below a sector, by a power cut; a reader that looks in the very moment looks again.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from noria.core.errors import Tampered
from noria.store.checkpoint import Checkpoint, parse_checkpoint
from noria.store.failpoint import failpoint
from noria.store.log import frontier_of
from noria.store.objects import disk_faults
from noria.store.sql.words import Connection

__all__ = ["Seen"]

BLOCK_BYTES = 2048
LOOKS = 3


class Seen:
    """A file with the newest checkpoint that was seen; None keeps it in memory only. Thread safe."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._size = 0
        self._is_checked = False
        self._looked: str | None = None

    def note(self) -> str:
        """The note as it stands in the file; empty when none was seen. A file cut to nothing counts as none."""
        if self._path is None or not self._path.exists():
            return ""
        with disk_faults(self._path):
            return self._path.read_bytes().decode("utf-8", errors="replace").strip("\0")

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that was seen. Raises: Tampered if the file holds something else."""
        note = self.note()
        return parse_checkpoint(note) if note else None

    def look(self) -> None:
        """Read the file, once. To be called before the snapshot that is checked is taken: another
        process may commit in between, and its note would then be newer than the snapshot.
        """
        with self._lock:
            if self._looked is None:
                self._looked = self.note()

    def check(self, connection: Connection, head: int) -> None:
        """Whether the ledger still holds the tree that was seen; the roots are compared once a process.

        Raises: Tampered if it is shorter, or another one.
        """
        self.look()
        with self._lock:
            if not self._is_checked:
                self._is_checked = self._compare(connection, head)
            if head < self._size:
                raise self._tampered(f"the ledger was cut: it has {head} facts, and this client saw {self._size}")

    def store(self, size: int, note: str) -> None:
        """Keep a newer checkpoint; an older one than the file's is left out."""
        with self._lock:
            if size <= self._size:
                return
            self._size = size
            if self._path is None:
                return
            block = note.encode()
            assert len(block) <= BLOCK_BYTES, "a note fits its block"
            with disk_faults(self._path):
                handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
                try:
                    os.pwrite(handle, block.ljust(BLOCK_BYTES, b"\0"), 0)
                finally:
                    os.close(handle)
            failpoint("seen.written")

    def _compare(self, connection: Connection, head: int) -> bool:
        """Whether the comparison could be made; a note that was being written is looked at once more."""
        for _ in range(LOOKS):
            assert self._looked is not None, "look() was called"
            problem = self._problem(connection, head)
            if not problem:
                return True
            again = self.note()
            if again == self._looked:
                raise self._tampered(problem)
            self._looked = again
        self._size = 0
        return False

    def _problem(self, connection: Connection, head: int) -> str:
        """What is wrong between the ledger and the note; empty if nothing is."""
        if not self._looked:
            return ""
        try:
            seen = parse_checkpoint(self._looked)
        except Tampered as error:
            return error.message
        self._size = seen.size
        if head < seen.size:
            return f"the ledger was cut: it has {head} facts, and this client saw {seen.size}"
        if frontier_of(connection, seen.size).root() != seen.root:
            return f"the ledger's first {seen.size} facts are not those that this client saw"
        return ""

    def _tampered(self, problem: str) -> Tampered:
        hint = "noria audit verify says more; restore the ledger from a backup"
        return Tampered(problem, where=str(self._path or ""), hint=hint)
