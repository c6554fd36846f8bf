"""Steps that wait for their next attempt: told in the journal to whoever looks on, and to whoever runs the pipeline."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime

from noria.core.progress import task
from noria.pipeline.attempt.journal import Journal, Waits

__all__ = ["Pauses"]

ERROR_MAX = 200


class Pauses:
    """What is shown of each step, or item, that failed and begins again after a pause."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._shown: dict[str, ExitStack] = {}

    def begin(self, name: str, attempt: int, of: int, pause_s: float, error: str) -> None:
        """Attempt number `attempt` of at most `of` (0: of any number) begins in so many seconds, after that error."""
        if not pause_s:
            return
        waits = Waits(name, attempt, of, time.time() + pause_s, error.partition("\n")[0][:ERROR_MAX])
        self._journal.wait(waits)
        at = datetime.fromtimestamp(waits.at, UTC)
        limit = f" of {of}" if of else ""
        shown = ExitStack()
        shown.enter_context(task(f"{waits.error}: attempt {attempt}{limit} at {at:%H:%M:%S} UTC", unit=""))
        self._shown[name] = shown

    def end(self, name: str) -> None:
        """The pause is over; nothing for a step that had none."""
        shown = self._shown.pop(name, None)
        if shown is not None:
            shown.close()

    def close(self) -> None:
        """None of them goes on."""
        for name in list(self._shown):
            self.end(name)
