"""The short way of a prediction: from the parsed request to the queue and back, on its connection.

uvicorn makes a task and half a dozen messages of every request, more work than a small prediction is.
A plain `POST /predict` that says its length and may come in goes without them; everything else (other
paths, chunks, pipelined requests, callers that do not read their answers) goes the way of ASGI and gets
the same answers. Parsing, keep-alive and shutdown stay uvicorn's.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from noria.core.errors import NoriaError, UsageError
from noria.faces.http.auth import Guard
from noria.faces.http.body import HeadTooLarge, RequestTimeout
from noria.faces.http.infer import Infer
from noria.faces.http.replies import RETRY, body_of
from noria.serving.answers import Answer, error_body

__all__ = ["Direct"]

log = logging.getLogger("noria.serving")
_PATH = re.compile(rb"/predict(?:/([A-Za-z0-9_.-]+))?")
_HEAD = b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n"
_RETRY = b"%b: %b\r\n" % RETRY
_CLOSE = b"connection: close\r\n"
HEAD_MAX = 64 * 1024
"""Bytes of a head, with the address: what proxies and other servers take is 8 to 64 KiB."""


class Direct(HttpToolsProtocol):
    """A connection of uvicorn's that knows the short way.

    Args:
        infer: what takes predictions.
        guard: who may come in.
        given: as uvicorn gives it.
    """

    def __init__(self, *, infer: Infer, guard: Guard, **given: Any) -> None:
        super().__init__(**given)
        self.infer = infer
        self._guard = guard
        self._open: list[RequestResponseCycle] = []
        self._asked: Any = None
        self._heard = 0.0
        self._is_partial = True
        self._head_bytes = -1
        self._refused: NoriaError | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller is there."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._heard = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """A part of a request, of several, or of one and the next."""
        self._heard = time.monotonic()
        super().data_received(data)
        if self._head_bytes >= 0:  # a head that is not whole yet
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX and not self.transport.is_closing():
                self._refused = HeadTooLarge(HEAD_MAX)
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._is_partial = True
        self._head_bytes = 0
        super().on_message_begin()

    def end_if_silent(self, limit_s: float) -> None:
        """Close the connection if a request on it has begun, or none ever has, and nothing came for so long.

        Who waits for us is left alone: while an earlier request is answered, or while we do not read.
        """
        if not self._is_partial or time.monotonic() - self._heard <= limit_s or self.flow.read_paused:
            return
        before = [cycle for cycle in self._open if cycle is not self.cycle and not cycle.response_complete]
        if before or self.transport.is_closing():
            return
        if self.parser is not None and (self.cycle is None or not getattr(self.cycle, "response_started", False)):
            self._say(RequestTimeout(f"nothing came of the request for {limit_s:.0f} s"))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP: say so as we say everything, and end; whole requests before it are answered first."""
        asked = self._asked
        if asked is None or asked.response_complete:
            self._say(self._refused or UsageError("this is no HTTP request that can be read"))
            self.transport.close()
            return
        if self.cycle is not asked:
            self.pipeline = deque(item for item in self.pipeline if item[0] is not self.cycle)
        asked.keep_alive = False
        self.flow.pause_reading()

    def _say(self, error: NoriaError) -> None:
        body = body_of(error)
        self.transport.write(_HEAD % (STATUS_LINE[error.status], len(body), _CLOSE) + body)

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has left: nobody waits for any of its requests, also not for those before the last one.

        uvicorn tells this to the newest request alone; of pipelined ones an older is the one that runs, and
        would write to a connection that is closed.
        """
        self.pipeline.clear()
        for cycle in self._open:
            cycle.disconnected = True
            cycle.message_event.set()
        self._open.clear()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """The head is there: decide which way."""
        self._head_bytes = -1
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_MAX:
            self._refused = HeadTooLarge(HEAD_MAX)
            raise self._refused
        model = self._is_direct()
        if model is None:
            super().on_headers_complete()
            self._open = [cycle for cycle in self._open if not cycle.response_complete]
            if self.cycle is not None and not self.cycle.response_complete:
                self._open.append(self.cycle)
        else:
            self.cycle = cast(Any, _Prediction(self, model))

    def on_body(self, body: bytes) -> None:
        """A part of the body, whose length the head has said."""
        cycle: Any = self.cycle
        if type(cycle) is _Prediction:
            cycle.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._is_partial = False
        cycle: Any = self.cycle
        self._asked = cycle
        if type(cycle) is _Prediction:
            cycle.ask()
        else:
            super().on_message_complete()

    def _is_direct(self) -> str | None:
        """The model that a request asks, empty for the only one; None if it goes the other way."""
        found = _PATH.fullmatch(self.url)
        if found is None or self.expect_100_continue or self.flow.write_paused or self.pipeline:
            return None
        if self.cycle is not None and not self.cycle.response_complete:
            return None
        parser, length = self.parser, -1
        for name, value in self.headers:
            if name == b"content-length" and value.isdigit() and len(value) < 16:
                length = int(value)
            elif name in (b"transfer-encoding", b"upgrade"):
                return None
        if not 0 <= length <= self.infer.limit_bytes or parser.get_method() != b"POST":
            return None
        if parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return None
        model = (found[1] or b"").decode("ascii")
        if not self.infer.has(model):
            return None  # what it is told depends on who asks, which is found out the other way
        self.scope["method"], self.scope["path"] = "POST", self.url.decode("ascii")
        return model if self._guard.admits(cast(Any, self.scope), "serving.predict") else None


class _Unheard:
    """Stands where uvicorn would wake a task."""

    def set(self) -> None:
        """Wake nobody."""


class _Prediction:
    """One request on the short way. For uvicorn it is a cycle, for the queue a future."""

    __slots__ = ("_arrived_ns", "_connection", "_model", "body", "disconnected", "keep_alive", "response_complete")

    message_event = _Unheard()

    def __init__(self, connection: Direct, model: str) -> None:
        self._connection = connection
        self._model = model
        self._arrived_ns = time.perf_counter_ns()
        self.body = b""
        self.disconnected = self.response_complete = False
        self.keep_alive = True

    def ask(self) -> None:
        """Queue the request, or answer why not."""
        connection = self._connection
        try:
            refusal = connection.infer.queue(
                connection.scope, self.body, self._model, arrived_ns=self._arrived_ns, waiter=self
            )
        except Exception:
            log.exception("a request to /predict failed")
            self._send(500, error_body("the server failed; its log says why"))
            return
        if refusal is not None:
            self._send(refusal.status, refusal.body, _RETRY if refusal.status == 503 else b"")

    def done(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.response_complete or self.disconnected

    def set_result(self, answer: Answer) -> None:
        """Send the answer."""
        self._send(answer.status, answer.body)

    def _send(self, status: int, body: bytes, more: bytes = b"") -> None:
        connection = self._connection
        self.response_complete = True
        if self.disconnected or connection.transport.is_closing():
            return
        head = _HEAD % (STATUS_LINE[status], len(body), more if self.keep_alive else more + _CLOSE)
        connection.transport.write(head + body)
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()
