"""Raw ASGI answers: a few bytes, a status and headers that are made once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from noria.core.errors import NoriaError
from noria.serving.answers import error_body

__all__ = ["RETRY", "Receive", "Scope", "Send", "body_of", "drain", "reply", "reply_error"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON_TYPE = (b"content-type", b"application/json")
RETRY = (b"retry-after", b"1")
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_S = 5.0


async def reply(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: tuple[bytes, bytes] = JSON_TYPE,
    more: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Send one whole answer."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": (content_type, length, *more)})
    await send({"type": "http.response.body", "body": body})


async def drain(receive: Receive) -> None:
    """Read away the rest of a body that was refused, within limits.

    A connection closed on unread bytes is reset, and the caller would never see why it was refused.
    """
    left = DRAIN_BYTES
    try:
        async with asyncio.timeout(DRAIN_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def reply_error(send: Send, error: NoriaError, *, rid: str = "") -> None:
    """Send a failure as `{"error": {code, message, where, hint}}`; a 503 says when to come back."""
    more = (RETRY,) if error.status == 503 else ()
    await reply(send, error.status, body_of(error, rid=rid), more=more)


def body_of(error: NoriaError, *, rid: str = "") -> bytes:
    """A failure as JSON, with the id of the request if it has one."""
    return error_body(
        error.message,
        code=error.code,
        where=error.where,
        hint=error.hint,
        column=getattr(error, "column", ""),
        rid=rid,
    )
