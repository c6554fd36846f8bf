"""The answering machine of one process: a table of routes, a queue, and one thread that predicts.

Requests queue on the event loop; the predicting thread takes whatever has gathered (no timer),
groups it by release, writes one log record a row with one system call, and only then lets the
answers go. While it predicts, the loop goes on parsing. Each request belongs to the table of
routes that was in force when it arrived, so no answer mixes two releases. Shadows answer later,
on a thread and a bounded queue of their own. Nothing here knows HTTP; the table comes from follow.py.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from noria.core.errors import NotFound, UsageError, WorldError
from noria.serving import router, segment
from noria.serving.answers import Answer, Ask, Ids, Render, Waiter, answer_batch, error_body, shadow_lines
from noria.serving.facts import Arm
from noria.serving.meters import Meters
from noria.serving.routes import Route, Routes, Served

__all__ = ["Busy", "Limits", "Runtime", "TooManyRows"]

log = logging.getLogger("noria.serving")
PROBE_BYTES = 64 * 1024
"""What must find room on the disk before a server that could not record is ready again."""


GATHER_S = 0.004
"""How long requests may gather after a batch of several, at most; and no longer than that batch took.

A batch costs a pipeline of scikit-learn milliseconds however few its rows are, so what gathers while requests
keep coming saves more of the processor than it costs in time.
"""
GATHER_STEP_S = 0.001
"""Gathering ends as soon as nothing came for so long: who all wait for their answers must not wait for others."""


class Busy(WorldError):
    """The queue is full; the caller should come back after a moment."""

    code, status, is_retry_safe = "busy", 503, True


class TooManyRows(UsageError):
    """A request has more rows than may ever wait."""

    code, status = "too-many-rows", 413


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process holds at most, in rows."""

    queue_rows: int = 4096
    batch_rows: int = 256
    shadow_rows: int = 2048


class Runtime:
    """Answers requests with the releases of its routes.

    `ask` belongs to the event loop's thread; `swap` may be called from any thread.

    Args:
        state: the project's folder of state, for the prediction log.
        now_us: the wall clock in microseconds.
    """

    def __init__(self, state: Path, *, now_us: Callable[[], int], limits: Limits = Limits()) -> None:
        self.routes = Routes()
        self.limits = limits
        self.meters = Meters()
        self._state = state
        self._now_us = now_us
        self._ids = Ids(random.SystemRandom().getrandbits(50))
        self._random = random.Random()
        self._writers: dict[str, segment.SegmentWriter] = {}
        self._writers_guard = threading.Lock()
        self._queue: collections.deque[Ask] = collections.deque()
        self._queued_rows = 0
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._is_awake = False
        self._batch = 0
        self._batch_since = 0.0
        self._unrecorded_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shadows: queue.Queue[tuple[Route, list[Ask], list[Answer]]] = queue.Queue()
        self._shadow_rows = 0
        self._threads: list[threading.Thread] = []
        self.scheduling = ""
        """How the threads that answer are scheduled, as their process says; "" until it does."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the threads; answers are delivered on `loop`."""
        self._loop = loop
        for name, run in (("predict", self._predicting), ("shadow", self._shadowing)):
            thread = threading.Thread(target=run, name=f"noria-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let the predicting thread finish what is queued, then close the logs."""
        if self._threads:
            self._wake.put(False)
            self._threads[0].join(timeout=10)
        with self._writers_guard:
            for writer in self._writers.values():
                writer.close()

    def swap(self, routes: Routes) -> None:
        """Put a new table in force: requests from now on, by one assignment."""
        self.routes = routes

    @property
    def predicting(self) -> int:
        """The system's id of the predicting thread, once it was started."""
        found = self._threads[0].native_id
        assert found is not None
        return found

    @property
    def queued_rows(self) -> int:
        """Rows that wait for an answer."""
        return self._queued_rows

    def stalled_s(self) -> float:
        """How long the batch that is being predicted has taken so far; 0 when idle."""
        since = self._batch_since
        return time.monotonic() - since if since else 0.0

    def ask(
        self,
        route: Route,
        rows: Sequence[tuple[bytes, dict[str, Any]]],
        *,
        rid: str,
        key: str,
        at: str,
        release: int = 0,
        arrived_ns: int,
        waiter: Waiter,
        render: Render | None = None,
    ) -> None:
        """Queue rows of one request, (as received, decoded); the waiter is given the answer, on the loop.

        Args:
            release: answer with this loaded release instead of the routed one; for tests by hand.
        Raises: TooManyRows for more than the queue could ever hold; Busy when it is full; NotFound if the
            release is not loaded.
        """
        loop = self._loop
        assert loop is not None, "the runtime was not started"
        count = len(rows)
        if count > self.limits.queue_rows:
            raise TooManyRows(
                f"{count} rows in one request; at most {self.limits.queue_rows}",
                hint="send them in several requests, or raise [server] max_queue_rows",
            )
        if self._queued_rows + count > self.limits.queue_rows:
            self.meters.refused += 1
            raise Busy(f"the queue is full: {self._queued_rows} rows wait", hint="try again in a second")
        if release:
            arm, served = _pinned(route, release)
        else:
            arm = router.arm(route.seed, key, route.arms)
            served = route.served[arm.release]
        self._queued_rows += count
        self._queue.append(Ask(route, served, arm, rows, rid, key, at, arrived_ns, waiter, render))
        if not self._is_awake:
            self._is_awake = True
            # At the end of this turn of the loop, so that what arrived together is predicted together.
            loop.call_soon(self._wake.put, True)

    def rest(self) -> None:
        """Close log files that are old though no request came; called now and then."""
        with self._writers_guard:
            writers = list(self._writers.values())
        for writer in writers:
            writer.rest()

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
            if taken and rows + len(waiting[0].rows) > self.limits.batch_rows:
                break
            ask = waiting.popleft()
            rows += len(ask.rows)
            taken.append(ask)
        return taken

    def _predict(self, batch: list[Ask]) -> None:
        """Answer a batch, model by model."""
        self._batch += 1
        self._batch_since = time.monotonic()
        routes: dict[int, list[Ask]] = {}
        for ask in batch:
            routes.setdefault(id(ask.route), []).append(ask)
        for asks in routes.values():
            self._answer(asks)
        self._batch_since = 0.0

    def _answer(self, asks: list[Ask]) -> None:
        """Answer requests of one route: predict each release's group, log all, then let all answers go.

        The groups run in random order, so that neither arm is systematically the later one, and no
        answer goes before the last group is predicted: writing the many answers of one arm would
        hold up the loop, and with it the other arm's group, and look like slowness of that arm.

        The lines are in the order in which the requests came. One arm's before the other's would let who reads
        in between see one arm alone, and make alarms of chance more often than their level says.
        """
        groups: dict[int, list[Ask]] = {}
        for ask in asks:
            groups.setdefault(ask.served.release, []).append(ask)
        order = list(groups.values())
        if len(order) > 1:
            self._random.shuffle(order)
        route, now_us = asks[0].route, self._now_us()
        written: dict[int, list[bytes]] = {}
        done: list[tuple[list[Ask], list[Answer]]] = []
        for group in order:
            try:
                answers, found = answer_batch(group, self._ids, now_us=now_us, batch=self._batch)
                written.update(zip(map(id, group), found, strict=True))
            except Exception as error:  # the process lives, whatever a batch does
                log.exception("a batch of %d requests failed", len(group))
                answers = [Answer.failed(ask, error) for ask in group]
            done.append((group, answers))
        lines = [line for ask in asks for line in written.get(id(ask), ())]
        refusal = self._write(route.model, lines)
        if refusal is not None:
            done = [
                (group, [_unrecorded(ask, it, refusal) for ask, it in zip(group, made, strict=True)])
                for group, made in done
            ]
        self._deliver([pair for group, answers in done for pair in zip(group, answers, strict=True)])
        for group, answers in done:
            self.meters.batch(route.model, group, answers)
            if refusal is None and route.shadow is not None and group[0].served.release != route.shadow.release:
                self._offer(route, group, answers)

    def _write(self, model: str, lines: list[bytes]) -> WorldError | None:
        """Log before answering. What cannot be put on record is not answered: gives why, and counts it."""
        if not lines:
            return None
        writer = self._writers.get(model)
        if writer is None:
            with self._writers_guard:
                place = segment.folder(self._state, model)
                writer = self._writers.setdefault(model, segment.SegmentWriter(place, self._now_us))
        try:
            writer.append(lines)
        except WorldError as error:
            self._unrecorded_at = time.monotonic()
            self.meters.unlogged += len(lines)
            if self.meters.should_say("unlogged"):
                log.error("%d predictions so far could not be put on record: %s", self.meters.unlogged, error)
            return error
        self._unrecorded_at = 0.0
        return None

    def is_recording(self) -> bool:
        """Whether predictions can be put on record: the last one was, or the disk takes a file again."""
        if not self._unrecorded_at:
            return True
        place = self._state / "predictions" / f".probe-{os.getpid()}"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(bytes(PROBE_BYTES))
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                place.unlink(missing_ok=True)
        self._unrecorded_at = 0.0
        return True

    def _deliver(self, pairs: list[tuple[Ask, Answer]]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._resolve, pairs)

    def _resolve(self, pairs: list[tuple[Ask, Answer]]) -> None:
        for ask, answer in pairs:
            self._queued_rows -= len(ask.rows)
            if not ask.future.done():
                ask.future.set_result(answer)

    def _offer(self, route: Route, group: list[Ask], answers: list[Answer]) -> None:
        rows = sum(len(ask.rows) for ask in group)
        if self._shadow_rows + rows > self.limits.shadow_rows:
            self.meters.shadows_dropped += rows
            return
        self._shadow_rows += rows
        self._shadows.put((route, group, answers))

    def _shadowing(self) -> None:
        while True:
            route, group, answers = self._shadows.get()
            rows = sum(len(ask.rows) for ask in group)
            try:
                lines = shadow_lines(route, group, answers, now_us=self._now_us())
                if self._write(route.model, lines) is None:
                    self.meters.shadows += len(lines)
                else:
                    self.meters.shadows_dropped += rows
            except Exception:  # a shadow never harms: it is logged and the next one comes
                log.exception("a shadow batch of %d rows failed", rows)
                self.meters.shadows_dropped += rows
            self._shadow_rows -= rows


def _unrecorded(ask: Ask, answer: Answer, error: WorldError) -> Answer:
    """What goes back instead of a score that nobody could ever trace; a refusal of the row itself stays."""
    if answer.status != 200:
        return answer
    text = f"the prediction cannot be put on record, so it is not given: {error.message}"
    return replace(
        answer, status=error.status, body=error_body(text, code=error.code, hint=error.hint, rid=ask.rid), details=()
    )


def _pinned(route: Route, release: int) -> tuple[Arm, Served]:
    served = route.served.get(release) or next((s for s in route.kept if s.release == release), None)
    if served is None:
        loaded = sorted({*route.served, *(s.release for s in route.kept)})
        raise NotFound(f"release {release} of {route.model} is not loaded", hint=f"loaded: {loaded}")
    return Arm(name=router.PINNED, release=release, content=served.content, weight=1.0), served
