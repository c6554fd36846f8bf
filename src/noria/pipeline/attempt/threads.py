"""Threads that a step leaves running in the process of `noria run`: Python ends only after them, so that is said."""

from __future__ import annotations

import contextlib
import os
import threading
import time

__all__ = ["Leftover"]

STDERR = 2
PATIENCE_S = 0.5


class Leftover:
    """The threads that steps left in this process. At its end who is waited for is told, once."""

    def __init__(self) -> None:
        self._left: list[tuple[str, threading.Thread]] = []

    def add(self, step: str, before: set[threading.Thread]) -> list[threading.Thread]:
        """What is there after a step, and was not before; a daemon is not waited for."""
        found = [each for each in threading.enumerate() if each not in before and not each.name.startswith("noria-")]
        waited = [each for each in found if not each.daemon]
        if waited and not self._left:
            threading.Thread(target=self._tell, name="noria-leftover", daemon=True).start()
        self._left += [(step, each) for each in waited]
        return found

    def _tell(self) -> None:
        """Waits for the end of the main thread. Idle threads of pools end by themselves then, so a little longer."""
        threading.main_thread().join()
        time.sleep(PATIENCE_S)
        told = [f"{each.name} of step {step}" for step, each in self._left if each.is_alive()]
        if told:
            text = f"the command waits for {', '.join(told[:3])}: a thread that a step left running"
            text += "\nnext:  join it in the step, or start it with daemon=True; Ctrl-C ends it now\n"
            with contextlib.suppress(OSError):
                os.write(STDERR, text.encode("utf-8", "replace"))
