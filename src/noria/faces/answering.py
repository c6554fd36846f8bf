"""Answering: what a serving process does once it is started, from what is deployed to the socket's last answer.

It imports only what answers need; the API, the pages and what speaks with other trackers' clients are imported beside
the first answers, on a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import uvicorn
import uvloop

from noria import plugins
from noria.config import ServerConfig
from noria.core.clock import duration
from noria.faces.http.app import App, Routes
from noria.faces.http.direct import Direct
from noria.faces.http.feedback import Feedback
from noria.faces.orphan import STDIN, watch_parent
from noria.faces.realtime import LOOK_S, Realtime
from noria.serving.follow import Follower
from noria.serving.runtime import Limits, Runtime
from noria.store.workspace import Workspace

__all__ = ["others", "serve"]

log = logging.getLogger("noria.server")
GRACE_S = 5
REST_S = 5.0
STANDBY_LOOK_S = 1.0


def serve(
    ws: Workspace,
    listening: socket.socket,
    *,
    environment: str = "local",
    is_standby: bool = False,
    ready: int = -1,
) -> None:
    """Answer until SIGTERM, SIGINT, or the end of the parent; a stand-by first waits until it is wanted.

    Args:
        ready: a descriptor that is closed after a byte is written to it when answers begin; -1 if nobody asks.
    """
    started = time.perf_counter()
    settings = ws.project.server
    limits = Limits(queue_rows=settings.max_queue_rows, batch_rows=settings.max_batch_rows)
    runtime = Runtime(ws.project.state, now_us=_now_us, limits=limits)
    host, port = listening.getsockname()[:2]
    follower = Follower(ws, runtime, environment=environment, url=f"http://{host}:{port}")
    if is_standby and not _wanted(follower):
        return
    follower.start()
    feedback = Feedback(runtime, ws.project.state, now_us=_now_us, max_body_bytes=settings.max_body_bytes)
    app = App(ws, runtime, feedback, others=others)
    # What is loaded stays; the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    # No thread must hold the interpreter for 5 ms while another has a request to parse or to answer: beside clients
    # that record 1,000 points a request, p50 of predictions was 4.8 ms, with 1 ms 6.4 (2 cores, 2026-11).
    sys.setswitchinterval(0.0003)
    log.info("ready on %s:%s after %.2f s", host, port, time.perf_counter() - started)
    try:
        uvloop.run(_serving(app, runtime, feedback, listening, settings, functools.partial(_begun, app, ready)))
    finally:
        follower.stop()
        runtime.stop()
        feedback.close()


def _wanted(follower: Follower) -> bool:
    """Keep everything loaded as the ledger wants it, until the supervisor writes a byte; False if it is gone."""
    while True:
        follower.prepare()
        readable, _, _ = select.select([STDIN], [], [], STANDBY_LOOK_S)
        if readable:
            return bool(os.read(STDIN, 1))


def _begun(app: App, ready: int) -> None:
    """Answers begin: say so to who waits, and load what was not needed for it."""
    if ready >= 0:
        with contextlib.suppress(BrokenPipeError):  # who waited is gone, which is seen elsewhere
            os.write(ready, b"r")
        os.close(ready)
    app.begin()


async def _serving(
    app: App,
    runtime: Runtime,
    feedback: Feedback,
    listening: socket.socket,
    rules: ServerConfig,
    begun: Callable[[], None],
) -> None:
    loop = asyncio.get_running_loop()
    runtime.start(loop)
    realtime = Realtime(rules.realtime)
    runtime.scheduling = realtime.begin(threading.get_native_id(), runtime.predicting)
    config = uvicorn.Config(
        app,
        http=cast(Any, functools.partial(Direct, infer=app.infer, guard=app.guard)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # who calls is who is connected: no header is believed about it
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config, begun)

    def leave() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    watch_parent(loop, leave)

    silent_s = duration(rules.read_timeout).total_seconds()

    async def resting() -> None:
        while True:
            await asyncio.sleep(min(REST_S, silent_s / 2))
            feedback.rest()
            for connection in list(server.server_state.connections):
                if isinstance(connection, Direct):
                    connection.end_if_silent(silent_s)

    async def looking() -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            realtime.look(runtime.stalled_s())

    tasks = [asyncio.ensure_future(resting()), asyncio.ensure_future(looking())]
    await server.serve(sockets=[listening])
    for task in tasks:
        task.cancel()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers, which would raise the signal again before the logs are closed.

    Args:
        begun: called on the loop once connections are accepted.
    """

    def __init__(self, config: uvicorn.Config, begun: Callable[[], None]) -> None:
        super().__init__(config)
        self._begun = begun

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, then tell that they are."""
        await super().startup(sockets)
        self._begun()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the caller."""
        yield


def others() -> Sequence[Routes]:
    """The builders of the API's and the pages' routes; imported when first asked for."""
    return [plugins.load("routes", name) for name in plugins.names("routes")]


def _now_us() -> int:
    return time.time_ns() // 1000
