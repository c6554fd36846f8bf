"""Who may speak to the server: a token when one is set, and never a foreign page through a browser.

A server without a token listens on loopback only. There any page in a browser could still reach it
by DNS rebinding or by a form, so the Host header must name this machine and a request that carries
an Origin must come from the server's own pages. Health answers are open. Decides from the request's
head alone; reads no body and no clock.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hmac
import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from noria.config import ServerConfig

__all__ = ["Refusal", "is_loopback", "refuse"]

OPEN_PATHS = frozenset({"/healthz", "/v2/health/live", "/v2/health/ready"})
READS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is ready to send: JSON body `{"error": {code, message, where, hint}}`."""

    status: int
    code: str
    message: str
    hint: str = ""

    @property
    def body(self) -> bytes:
        """The JSON body."""
        error = {"code": self.code, "message": self.message, "where": "", "hint": self.hint}
        return json.dumps({"error": error}).encode()

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers, with the challenge of a 401."""
        found = [(b"content-type", b"application/json"), (b"content-length", str(len(self.body)).encode())]
        if self.status == 401:
            found.append((b"www-authenticate", b'Bearer realm="noria"'))
            found.append((b"www-authenticate", b'Basic realm="noria", charset="UTF-8"'))
        return found


def is_loopback(host: str) -> bool:
    """Whether an address or name can be reached from this machine only."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def refuse(scope: Mapping[str, Any], server: ServerConfig) -> Refusal | None:
    """Why this request may not come in, or None when it may.

    `scope` is an ASGI http scope. The token may come as `Authorization: Bearer TOKEN`, or as the
    password of Basic (any user), so that a browser can open the status page.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, value)
    stranger = _stranger(headers.get(b"host", b""), server.host)
    if stranger is not None:
        return Refusal(
            403, "denied", f"the Host header names {stranger[:80]!r}, not this machine", "use localhost or 127.0.0.1"
        )
    if scope["method"] not in READS and _is_foreign(headers):
        return Refusal(403, "denied", "the request comes from a page of another site", "call from a script or a shell")
    if server.token and scope["path"] not in OPEN_PATHS and not _has_token(headers, server.token):
        return Refusal(401, "denied", "the token is missing or wrong", "send Authorization: Bearer TOKEN")
    return None


@functools.lru_cache(maxsize=256)  # asked for every request, and there are few
def _stranger(host: bytes, own: str) -> str | None:
    """The name in a Host header that a server on loopback does not answer to; None if it does."""
    name = _host_name(host.decode("latin-1"))
    if not is_loopback(own) or is_loopback(name) or name == own.lower():
        return None
    return name


def _host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    text = host.strip().lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0]


def _is_foreign(headers: Mapping[bytes, bytes]) -> bool:
    if headers.get(b"sec-fetch-site") == b"cross-site":
        return True
    origin = headers.get(b"origin")
    if origin is None:
        return False
    return origin.partition(b"://")[2].lower() != headers.get(b"host", b"").lower()


def _has_token(headers: Mapping[bytes, bytes], token: str) -> bool:
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    return any(hmac.compare_digest(sent, token.encode()) for sent in _sent(scheme.lower(), value.strip()))


def _sent(scheme: bytes, value: bytes) -> Iterable[bytes]:
    if scheme == b"bearer":
        yield value
    elif scheme == b"basic":
        try:
            yield base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return
