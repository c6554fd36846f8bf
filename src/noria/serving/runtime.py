"""The answering machine of one process: a table of routes, and lanes, each a queue and a thread that predicts.

Requests queue on the event loop; the predicting thread of their lane takes whatever has gathered (no timer),
groups it by release, writes one log record a row with one system call, and only then lets the
answers go. While it predicts, the loop goes on parsing. Each request belongs to the table of
routes that was in force when it arrived, so no answer mixes two releases. Shadows answer later,
on a thread and a bounded queue of their own. Nothing here knows HTTP; the table comes from follow.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from noria.core.errors import NotFound, UsageError, WorldError
from noria.core.frozen import frozen
from noria.serving import router, segment
from noria.serving.answers import Answer, Ask, Render, Waiter, answer_batch, error_body, shadow_lines
from noria.serving.facts import Arm
from noria.serving.lane import Lane
from noria.serving.meters import Meters
from noria.serving.routes import Route, Routes, Served

__all__ = ["Busy", "Limits", "Runtime", "TooManyRows"]

log = logging.getLogger("noria.serving")
PROBE_BYTES = 64 * 1024
"""What must find room on the disk before a server that could not record is ready again."""


class Busy(WorldError):
    """The queue is full; the caller should come back after a moment."""

    code, status, is_retry_safe = "busy", 503, True


class TooManyRows(UsageError):
    """A request has more rows than may ever wait."""

    code, status = "too-many-rows", 413


@frozen
class Limits:
    """What one process holds at most, in rows."""

    queue_rows: int = 4096
    batch_rows: int = 256
    shadow_rows: int = 2048


LIMITS = Limits()


class Runtime:
    """Answers requests with the releases of its routes.

    `ask` belongs to the event loop's thread; `swap` may be called from any thread.

    Args:
        state: the project's folder of state, for the prediction log.
        now_us: the wall clock in microseconds.
    """

    def __init__(self, state: Path, *, now_us: Callable[[], int], limits: Limits = LIMITS) -> None:
        self.routes = Routes()
        self.limits = limits
        self.meters = Meters()
        self._state = state
        self._now_us = now_us
        self._random = random.Random()
        self._writers: dict[str, segment.SegmentWriter] = {}
        self._writers_guard = threading.Lock()
        self._lane: Lane | None = None
        self._apart: dict[str, Lane] = {}
        self._batches = itertools.count(1)
        self._unrecorded_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shadows: queue.Queue[tuple[Route, list[Ask], list[Answer]]] = queue.Queue()
        self._shadow_rows = 0
        self._shadow_guard = threading.Lock()
        self.scheduling = ""
        """How the threads that answer are scheduled, as their process says; "" until it does."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the threads; answers are delivered on `loop`."""
        self._loop = loop
        self._lane = self._new_lane("noria-predict")
        threading.Thread(target=self._shadowing, name="noria-shadow", daemon=True).start()

    def stop(self) -> None:
        """Let the predicting threads finish what is queued, then close the logs."""
        lanes = self._lanes()
        for lane in lanes:
            lane.end()
        for lane in lanes:
            lane.join()
        with self._writers_guard:
            for writer in self._writers.values():
                writer.close()

    def swap(self, routes: Routes) -> None:
        """Put a new table in force: requests from now on, by one assignment."""
        self.routes = routes

    @property
    def predicting(self) -> int:
        """The system's id of the thread that predicts for all models that answer in this process."""
        assert self._lane is not None, "the runtime was not started"
        return self._lane.native_id

    @property
    def queued_rows(self) -> int:
        """Rows that wait for an answer."""
        return sum(lane.queued_rows for lane in self._lanes())

    def stalled_s(self) -> float:
        """How long the batch that is being predicted in this process has taken so far; 0 when idle.

        A model in a process of its own does not count: it has a limit, and only its own callers wait for it.
        """
        return self._lane.stalled_s() if self._lane is not None else 0.0

    def _lanes(self) -> list[Lane]:
        return [*([self._lane] if self._lane is not None else []), *self._apart.values()]

    def _new_lane(self, name: str) -> Lane:
        return Lane(name, self._predict, batch_rows=self.limits.batch_rows)

    def _lane_of(self, route: Route) -> Lane:
        assert self._lane is not None, "the runtime was not started"
        if not route.is_apart:
            return self._lane
        if route.model not in self._apart:
            self._apart[route.model] = self._new_lane(f"noria-predict-{route.model}")
        return self._apart[route.model]

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
        lane = self._lane_of(route)
        if lane.queued_rows + count > self.limits.queue_rows:
            self.meters.refused += 1
            raise Busy(f"the queue is full: {lane.queued_rows} rows wait", hint="try again in a second")
        if release:
            arm, served = _pinned(route, release)
        else:
            arm = router.arm(route.seed, key, route.arms)
            served = route.served[arm.release]
        lane.put(Ask(route, served, arm, rows, rid, key, at, arrived_ns, waiter, render), loop)

    def rest(self) -> None:
        """Close log files that are old though no request came; called now and then."""
        with self._writers_guard:
            writers = list(self._writers.values())
        for writer in writers:
            writer.rest()

    def _predict(self, batch: list[Ask], lane: Lane) -> None:
        """Answer a batch, model by model, on the lane's thread."""
        number = next(self._batches)
        routes: dict[int, list[Ask]] = {}
        for ask in batch:
            routes.setdefault(id(ask.route), []).append(ask)
        for asks in routes.values():
            self._answer(asks, lane, number)

    def _answer(self, asks: list[Ask], lane: Lane, number: int) -> None:
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
                answers, found = answer_batch(group, lane.ids, now_us=now_us, batch=number)
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
        self._deliver(lane, [pair for group, answers in done for pair in zip(group, answers, strict=True)])
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

    def _deliver(self, lane: Lane, pairs: list[tuple[Ask, Answer]]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._resolve, lane, pairs)

    def _resolve(self, lane: Lane, pairs: list[tuple[Ask, Answer]]) -> None:
        for ask, answer in pairs:
            lane.queued_rows -= len(ask.rows)
            if not ask.future.done():
                ask.future.set_result(answer)

    def _offer(self, route: Route, group: list[Ask], answers: list[Answer]) -> None:
        rows = sum(len(ask.rows) for ask in group)
        with self._shadow_guard:
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
            with self._shadow_guard:
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
