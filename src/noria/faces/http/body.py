"""Request bodies within limits, before anything parses them.

A body is read up to a limit and no further, and its nesting is counted without building anything,
so that neither a large nor a deep body costs more than its refusal.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from noria.core.errors import UsageError

__all__ = ["DEPTH_MAX", "BodyCut", "BodyTooLarge", "HeadTooLarge", "RequestTimeout", "read_body", "require_shallow"]

DEPTH_MAX = 64
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
"""Brackets as steps of 1 and -1, in bytes, and what is no bracket."""


class BodyTooLarge(UsageError):
    """A request body is larger than the server takes."""

    code, status = "body-too-large", 413
    has_more = False
    """Whether a part of the body is still to come."""


class HeadTooLarge(UsageError):
    """The head of a request, its address and headers, is larger than the server takes."""

    code, status = "head-too-large", 431

    def __init__(self, limit: int) -> None:
        super().__init__(f"the head of the request is larger than {limit} bytes", hint="send what is long in the body")


class RequestTimeout(UsageError):
    """A request began, and nothing more of it came."""

    code, status = "request-timeout", 408


class BodyCut(UsageError):
    """The caller left in the middle of its request."""


async def read_body(scope: Mapping[str, Any], receive: Receive, *, limit: int) -> bytes:
    """The whole body of an ASGI request.

    Raises: BodyTooLarge when the head says so, or as soon as it passes `limit` bytes; BodyCut.
    """
    announced, is_held_back = _announced(scope["headers"])
    if announced > limit:
        raise _too_large(limit, has_more=not is_held_back)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyCut("the caller left before the body was whole")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit, has_more=bool(message.get("more_body", False)))
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, bool]:
    """The length that a head says, 0 for none; and whether the caller asks before it sends."""
    length, is_held_back = 0, False
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            length = int(value[:20])
        elif name == b"expect":
            is_held_back = value.lower() == b"100-continue"
    return length, is_held_back


def _too_large(limit: int, *, has_more: bool) -> BodyTooLarge:
    error = BodyTooLarge(
        f"the body is larger than {limit} bytes", hint="send fewer rows, or raise [server] max_body_bytes"
    )
    error.has_more = has_more
    return error


def require_shallow(body: bytes, limit: int = DEPTH_MAX) -> None:
    """Raises: UsageError if arrays and objects in the JSON text nest deeper than `limit`.

    Linear in the body; brackets inside texts do not count. Says nothing about validity.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return
    is_simple = b"\\" not in body and body.count(b'"') % 2 == 0  # then every second piece between quotes is a text
    outside = b"".join(body.split(b'"')[::2]) if is_simple else _TEXT.sub(b"", body)
    steps = memoryview(outside.translate(_STEPS, _OTHERS)).cast("b")
    if max(itertools.accumulate(steps), default=0) > limit:
        raise UsageError(f"the body nests deeper than {limit} levels")
