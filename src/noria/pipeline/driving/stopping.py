"""What ends a run from outside, and what keeps its leases while a step takes long.

SIGTERM is a preemption, Ctrl-C and `noria pipeline cancel` end the run. A thread looks twice a second
whether somebody asked, whatever the main thread does, and keeps alive what this driver holds.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import field

from noria.core.errors import NoriaError, RunPreempted, WorldError
from noria.core.frozen import slotted
from noria.pipeline.attempt.leave import on_sigterm
from noria.pipeline.caching.flight import Flights
from noria.pipeline.driving.recorder import Recorder
from noria.store.workspace import Workspace
from noria.tracking import records

__all__ = ["CANCELLED", "GOES_ON", "PREEMPTED", "Stop", "watched"]

CANCELLED, PREEMPTED = "cancelled", "preempted"
GOES_ON = "noria run --resume goes on from the steps that are done"
"""What is told of a run that a person ended."""
LOOK_S = 0.5


@slotted
class Stop:
    """Whether to go on. `wake` is called when that changes.

    `takes_signals`: the execution is on the main thread, where a step's code can be interrupted. On
    another one a step that runs in this process is gone through to its end.
    """

    wake: Callable[[], None]
    how: str = ""
    error: NoriaError | None = None
    is_running_here: bool = False
    takes_signals: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, how: str, error: NoriaError | None = None) -> None:
        """End the run; the first who asks is heard. A step that runs in this process is interrupted."""
        with self._lock:
            if self.how:
                return
            self.how, self.error = how, error
        self.wake()
        is_elsewhere = threading.current_thread() is not threading.main_thread()
        if self.is_running_here and self.takes_signals and is_elsewhere:
            # The handler of `on_sigterm` runs on the main thread, and interrupts the step's own code only.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


@contextlib.contextmanager
def watched(ws: Workspace, run: str, stop: Stop, recorder: Recorder, flights: Flights) -> Iterator[None]:
    """Look after an execution for the block."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_S):
            try:
                flights.renew()
                recorder.flush_late()
                if _is_cancelled(ws, run):
                    stop.ask(CANCELLED)
            except RunPreempted as error:
                stop.ask(PREEMPTED, error)
            except WorldError:
                continue  # the database is out of reach for now; whoever writes next says so

    thread = threading.Thread(target=look, name=f"noria-watch-{run}", daemon=True)
    thread.start()
    try:
        stop.takes_signals = threading.current_thread() is threading.main_thread()
        with on_sigterm(lambda: stop.ask(PREEMPTED)):
            yield
    finally:
        over.set()
        thread.join()


def _is_cancelled(ws: Workspace, run: str) -> bool:
    with ws.ledger.read() as tx:
        found = records.run(tx, run)
    return found is not None and bool(found.cancel)
