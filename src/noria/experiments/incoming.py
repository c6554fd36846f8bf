"""What clients log over the network: a line on disk before the answer, and the ledger soon after.

It is the recorder's way for runs whose process is elsewhere: each server process has a folder
`.noria/incoming/<name>` with one log for each run that somebody logs to, and sends the logs in batches.
A line that was answered survives the server's death; whoever comes next sends what it left, once. A read
that must see what was logged before it sends first.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path

from noria.core.errors import NoriaError
from noria.core.frozen import slotted
from noria.experiments import journal, records, sending
from noria.store.linelog import LineWriter
from noria.store.workspace import Workspace, acting
from noria.tracking.run import is_dead, owner_id

__all__ = ["FOLDER", "Inbox", "send_all_left", "send_left"]

log = logging.getLogger("noria.incoming")
FOLDER = "incoming"
SEND_S = 1.0
"""How long a line waits at most, while the ledger is in reach."""
OPEN_MAX = 200
"""Logs that are kept open; those that are sent and longest without a line go first."""


@slotted
class _Log:
    """A log. `sending` is held by who sends it, so that no two do the same work; `writing` by who writes or closes."""

    writer: LineWriter
    sent_bytes: int = 0
    is_closed: bool = False
    sending: threading.RLock = field(default_factory=threading.RLock)
    writing: threading.Lock = field(default_factory=threading.Lock)


class Inbox:
    """The logs of one server process. Thread safe; its thread ends with the process.

    Args:
        send_s: how long a line waits at most.
    """

    def __init__(self, ws: Workspace, *, send_s: float = SEND_S) -> None:
        self._ws = ws
        self._send_s = send_s
        self._folder = ws.project.state.resolve() / FOLDER / uuid.uuid4().hex
        self._logs: dict[str, _Log] = {}
        self._lock = threading.Lock()
        self._spent: list[Path] = []
        self._folders = threading.Lock()
        journal.keep(self._folder, "begin", {"owner": owner_id()})
        send_left(ws)
        threading.Thread(target=self._work, name="noria-incoming", daemon=True).start()

    @property
    def folder(self) -> Path:
        """Where this process keeps what is on its way; it goes with what a dead process left."""
        return self._folder

    def append(self, run: str, lines: Sequence[bytes]) -> None:
        """Write lines of the journal to a run's log; they survive this process when this returns.

        Raises: StoreFull, with none of the lines kept.
        """
        while True:
            found = self._opened(run)
            with found.writing:
                if not found.is_closed:
                    found.writer.append(lines)
                    return

    def is_open(self, run: str) -> bool:
        """Whether a line to a run's log is one write, to a file that is open."""
        return run in self._logs

    def _opened(self, run: str) -> _Log:
        """The log of a run; a new one is made while nobody waits for that."""
        found = self._newest(run)
        if found is None:
            with self._folders:
                made = _Log(LineWriter(self._folder / run / f"in-{uuid.uuid4().hex}.log"))
            found = self._newest(run, made)
            assert found is not None, "it was just given"
            if found is not made:
                made.writer.close()
                made.writer.path.unlink()
        return found

    def _newest(self, run: str, made: _Log | None = None) -> _Log | None:
        """The log that is there, else the one that was made; now the last in the order of use."""
        with self._lock:
            found = self._logs.pop(run, None) or made
            if found is not None:
                self._logs[run] = found
            return found

    def send(self, run: str = "") -> None:
        """Bring what was logged so far, to one run or to all, into the ledger. Raises: WorldError; Corrupt."""
        with self._lock:
            chosen = [(run, self._logs[run])] if run in self._logs else [] if run else list(self._logs.items())
            waiting = [(name, each) for name, each in chosen if each.writer.size_bytes > each.sent_bytes]
        if not waiting:
            return
        for name, each in waiting:
            with each.sending:
                size = each.writer.size_bytes
                if size <= each.sent_bytes:
                    continue
                own = _as_its_actor(self._ws, name)
                while sending.send_batch(own, name, each.writer.path, size):
                    pass
                each.sent_bytes = size

    @contextmanager
    def closing(self, run: str) -> Iterator[tuple[Path, int] | None]:
        """The log of a run, and how much is written in it, for who sends it inside; None if nothing waits.

        After that it is taken away, unless more was written meanwhile; a later line begins a new one.
        """
        with self._lock:
            found = self._logs.get(run)
        if found is None:
            yield None
            return
        with found.sending:
            size = found.writer.size_bytes
            yield (found.writer.path, size) if size > found.sent_bytes else None
            found.sent_bytes = max(found.sent_bytes, size)
            self._take_away(run, found)

    def _take_away(self, run: str, found: _Log) -> None:
        """Forget a log that is wholly sent; its file goes when nobody waits for that."""
        with self._lock, found.writing:
            if self._logs.get(run) is found and found.writer.size_bytes <= found.sent_bytes:
                del self._logs[run]
                found.is_closed = True
                found.writer.close()
                self._spent.append(found.writer.path)

    def _clear(self) -> None:
        with self._lock:
            spent, self._spent = self._spent, []
        for path in spent:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in spent}:
            with self._folders, suppress(OSError):  # it stays where the run has logged again
                folder.rmdir()

    def _work(self) -> None:
        while True:
            time.sleep(self._send_s)
            try:
                self._sync()
                self.send()
                with self._lock:
                    spare = list(self._logs)[: max(0, len(self._logs) - OPEN_MAX)]
                for run in spare:
                    with self.closing(run):
                        self.send(run)
                self._clear()
            except NoriaError as error:
                log.warning("what was logged waits: %s", error)
            except Exception:
                log.exception("what was logged could not be sent")

    def _sync(self) -> None:
        with self._lock:
            waiting = [each for each in self._logs.values() if each.writer.size_bytes > each.sent_bytes]
        for each in waiting:
            if each.sending.acquire(blocking=False):  # who sends it puts it on disk
                try:
                    if not each.is_closed:
                        each.writer.sync()
                finally:
                    each.sending.release()


def send_left(ws: Workspace) -> int:
    """Send what dead server processes left; gives how many folders are wholly sent now and gone.

    One that cannot be sent is told in the log and stays for the next time.
    """
    done = 0
    root = ws.project.state.resolve() / FOLDER
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        try:
            with journal.holding(folder) as is_ours:
                begin = journal.document(folder, "begin") if is_ours else None
                if begin is None or not is_dead(str(begin["owner"])):
                    continue
                for path in sorted(folder.glob("*/*.log")):
                    _send_whole(ws, path)
                shutil.rmtree(folder)
                done += 1
        except NoriaError as error:
            log.warning("what was logged before waits: %s", error)
    return done


def send_all_left(ws: Workspace) -> int:
    """Send what dead processes left, recordings and servers; gives how many are wholly sent now."""
    return sending.send_left(ws) + send_left(ws)


def _send_whole(ws: Workspace, path: Path) -> None:
    run, size = path.parent.name, path.stat().st_size
    own = _as_its_actor(ws, run)
    while sending.send_batch(own, run, path, size):
        pass


def _as_its_actor(ws: Workspace, run: str) -> Workspace:
    """What is logged to a run is logged by who began it."""
    with ws.ledger.read() as tx:
        found = records.run(tx, run)
    return ws if found is None else acting(ws, found.actor)
