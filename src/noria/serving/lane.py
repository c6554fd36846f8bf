"""A queue of requests and the one thread that answers them, batch by batch.

Models that answer in this process share a lane. One whose code runs in a process of its own has a lane to itself: it
may keep its thread waiting as long as it is allowed to, and nobody else waits with it.
"""

from __future__ import annotations

import asyncio
import collections
import queue
import random
import threading
import time
from collections.abc import Callable

from noria.serving.answers import Ask, Ids

__all__ = ["Lane"]

GATHER_S = 0.004
"""How long requests may gather after a batch of several, at most; and no longer than that batch took.

A batch costs a pipeline of scikit-learn milliseconds however few its rows are, so what gathers while requests
keep coming saves more of the processor than it costs in time.
"""
GATHER_STEP_S = 0.001
"""Gathering ends as soon as nothing came for so long: who all wait for their answers must not wait for others."""
END_S = 10.0
"""How long a thread may take at the end for what is queued."""


class Lane:
    """Takes whatever has gathered (no timer) and hands it on. `put` and `queued_rows` belong to the loop's thread.

    Args:
        answer: answers one batch, on this lane's thread; it raises nothing.
        batch_rows: the most rows of a batch, unless a single request has more.
    """

    def __init__(self, name: str, answer: Callable[[list[Ask], Lane], None], *, batch_rows: int) -> None:
        self.queued_rows = 0
        self.ids = Ids(random.SystemRandom().getrandbits(50))
        self._answer = answer
        self._batch_rows = batch_rows
        self._queue: collections.deque[Ask] = collections.deque()
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._is_awake = False
        self._batch_since = 0.0
        self._thread = threading.Thread(target=self._predicting, name=name, daemon=True)
        self._thread.start()

    @property
    def native_id(self) -> int:
        """The system's id of the thread."""
        found = self._thread.native_id
        assert found is not None
        return found

    def stalled_s(self) -> float:
        """How long the batch that is being predicted has taken so far; 0 when idle."""
        since = self._batch_since
        return time.monotonic() - since if since else 0.0

    def put(self, ask: Ask, loop: asyncio.AbstractEventLoop) -> None:
        """Queue a request."""
        self.queued_rows += len(ask.rows)
        self._queue.append(ask)
        if not self._is_awake:
            self._is_awake = True
            # At the end of this turn of the loop, so that what arrived together is predicted together.
            loop.call_soon(self._wake.put, True)

    def end(self) -> None:
        """Let the thread finish what is queued, and no more; does not wait for it."""
        self._wake.put(False)

    def join(self) -> None:
        """Wait until what was queued is finished, at most END_S."""
        self._thread.join(timeout=END_S)

    def _predicting(self) -> None:
        while self._wake.get():
            while True:
                while batch := self._drain():
                    began = time.monotonic()
                    self._predict(batch)
                    if len(batch) > 1:
                        self._gather(min(time.monotonic() - began, GATHER_S))
                # First say that nobody is awake, then look again: else a request between could wait for ever.
                self._is_awake = False
                if not self._queue:
                    break
                self._is_awake = True
        while batch := self._drain():
            self._predict(batch)

    def _predict(self, batch: list[Ask]) -> None:
        self._batch_since = time.monotonic()
        self._answer(batch, self)
        self._batch_since = 0.0

    def _gather(self, limit_s: float) -> None:
        """Let requests come, for so long at most, while they do."""
        before = -1
        while limit_s > 0 and len(self._queue) > before:
            before = len(self._queue)
            time.sleep(min(GATHER_STEP_S, limit_s))
            limit_s -= GATHER_STEP_S

    def _drain(self) -> list[Ask]:
        waiting, rows = self._queue, 0
        taken: list[Ask] = []
        while waiting:
            if taken and rows + len(waiting[0].rows) > self._batch_rows:
                break
            ask = waiting.popleft()
            rows += len(ask.rows)
            taken.append(ask)
        return taken
