"""The last checkpoint that this client saw, kept outside of the database: trust on first use.

A ledger that was cut, emptied, replaced or rewritten behind its owner's back no longer holds the
tree that the note states, and the first use says so. The check reads a handful of subtree hashes,
not the facts; `audit verify` does the whole work.
"""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

from sqlalchemy.engine import Connection

from noria.core.errors import Tampered
from noria.store.checkpoint import Checkpoint, parse_checkpoint
from noria.store.failpoint import failpoint
from noria.store.log import frontier_of
from noria.store.objects import disk_faults

__all__ = ["Seen"]


class Seen:
    """A file with the newest checkpoint that was seen; None keeps it in memory only. Thread safe."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._size = 0
        self._is_checked = False

    def note(self) -> str:
        """The note as it stands in the file; empty when none was seen. A file cut to nothing counts as none."""
        if self._path is None or not self._path.exists():
            return ""
        with disk_faults(self._path):
            return self._path.read_text(encoding="utf-8", errors="replace").strip("\0")

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that was seen. Raises: Tampered if the file holds something else."""
        note = self.note()
        return parse_checkpoint(note) if note else None

    def check(self, connection: Connection, head: int) -> None:
        """Whether the ledger still holds the tree that was seen; the roots are compared once a process.

        Raises: Tampered if it is shorter, or another one.
        """
        with self._lock:
            if self._is_checked:
                self._refuse_shorter(head)
                return
            seen = self.checkpoint()
            self._size = seen.size if seen else 0
            self._refuse_shorter(head)
            if seen and frontier_of(connection, seen.size).root() != seen.root:
                raise Tampered(
                    f"the ledger's first {seen.size} facts are not those that this client saw",
                    where=str(self._path),
                    hint="noria audit verify names the first bad fact; restore the ledger from a backup",
                )
            self._is_checked = True

    def store(self, size: int, note: str) -> None:
        """Keep a newer checkpoint; an older one than the file's is left out."""
        with self._lock:
            if size <= self._size:
                return
            self._size = size
            if self._path is None:
                return
            with disk_faults(self._path):
                temporary = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")
                try:
                    temporary.write_text(note, encoding="utf-8")
                    temporary.replace(self._path)
                finally:
                    temporary.unlink(missing_ok=True)
            failpoint("seen.written")

    def _refuse_shorter(self, head: int) -> None:
        if head < self._size:
            raise Tampered(
                f"the ledger was cut: it has {head} facts, and this client saw {self._size}",
                where=str(self._path or ""),
                hint="restore the ledger from a backup; noria audit verify says what is missing",
            )
