"""Asking a provider: over https to hosts that noria.toml names, and to nobody else.

No redirect is followed, no proxy is asked, an answer is read up to a limit, and a provider that sends one byte
now and then is cut off. Plain http goes to this machine only, for tests and for what is tried out.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from noria.core.frozen import frozen
from noria.governance.claims import ProviderUnavailable
from noria.identities import is_loopback_host

__all__ = ["ANSWER_MAX", "TIMEOUT_S", "Fetch"]

ANSWER_MAX = 256 << 10
"""Bytes of an answer; more is no answer of a provider."""
TIMEOUT_S = 5.0
"""For connecting, for each silence, and for all of it together."""


@frozen
class Fetch:
    """Asks the hosts in `hosts` (small letters), in JSON. Thread safe."""

    hosts: frozenset[str]
    timeout_s: float = TIMEOUT_S
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def require_allowed(self, url: str) -> str:
        """The address, if it is one that may be asked. Raises: ProviderUnavailable."""
        try:
            parts = urllib.parse.urlsplit(url)
            host, _ = (parts.hostname or "").lower(), parts.port
        except ValueError as error:
            raise ProviderUnavailable("the provider names an address that is none") from error
        if host not in self.hosts or parts.username is not None or any(ord(each) <= 32 for each in url):
            hint = "hosts of its table under [access] lists further hosts of a provider"
            raise ProviderUnavailable(
                f"the provider names the host {host[:80]!r}, which noria.toml does not", hint=hint
            )
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback_host(host)):
            raise ProviderUnavailable("the provider names an address without https", where=host)
        return url

    def get(self, url: str) -> Mapping[str, Any]:
        """The JSON object at an address. Raises: ProviderUnavailable."""
        status, document = self._ask("GET", url, b"", {})
        if status != 200:
            raise ProviderUnavailable(f"the provider answers {status}", where=urllib.parse.urlsplit(url).netloc)
        return document

    def post(self, url: str, fields: Mapping[str, str], basic: tuple[str, str] | None) -> tuple[int, Mapping[str, Any]]:
        """(status, JSON object) of a form that is sent; `basic` is a user and a password.

        Raises: ProviderUnavailable, also for a status that is neither 200 nor of the caller's fault.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if basic is not None:  # RFC 6749 §2.3.1: both are encoded as in a form first
            pair = ":".join(urllib.parse.quote_plus(each) for each in basic)
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        status, document = self._ask("POST", url, urllib.parse.urlencode(fields).encode(), headers)
        if status not in (200, 400, 401, 403):
            raise ProviderUnavailable(f"the provider answers {status}", where=urllib.parse.urlsplit(url).netloc)
        return status, document

    def _ask(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        parts = urllib.parse.urlsplit(self.require_allowed(url))
        assert parts.hostname is not None, "an allowed address has a host"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        made: http.client.HTTPConnection
        if parts.scheme == "https":
            made = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=self.timeout_s, context=self.context)
        else:
            made = http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout_s)
        held: list[socket.socket] = []  # a connection forgets its socket when the head of the last answer is there
        whole = threading.Timer(self.timeout_s, _cut, [made, held])
        whole.daemon = True
        whole.start()
        try:
            made.connect()
            held.append(made.sock)
            made.request(method, path, body or None, {"Accept": "application/json", "Connection": "close", **headers})
            answer = made.getresponse()
            content = answer.read(ANSWER_MAX + 1)
            status = answer.status
        except (OSError, http.client.HTTPException) as error:
            told = f"the provider does not answer: {type(error).__name__}"
            raise ProviderUnavailable(told, where=parts.netloc, hint="try again in a minute") from error
        finally:
            whole.cancel()
            made.close()
        return status, _document(content, status, parts.netloc)


def _document(content: bytes, status: int, where: str) -> Mapping[str, Any]:
    if len(content) > ANSWER_MAX:
        raise ProviderUnavailable(f"the provider's answer is larger than {ANSWER_MAX} bytes", where=where)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        if status != 200:
            return {}
        raise ProviderUnavailable("the provider's answer is not JSON", where=where) from error
    if not isinstance(found, dict):
        raise ProviderUnavailable("the provider's answer is no JSON object", where=where)
    return found


def hosts_of(addresses: Iterable[str], more: Iterable[str]) -> frozenset[str]:
    """The hosts of addresses, and more hosts, in small letters."""
    return frozenset(filter(None, ((urllib.parse.urlsplit(each).hostname or "").lower() for each in addresses))) | {
        each.lower() for each in more
    }


def _cut(made: http.client.HTTPConnection, held: Sequence[socket.socket]) -> None:
    """End a connection that another thread reads from."""
    for each in held or filter(None, [made.sock]):
        with contextlib.suppress(OSError):  # it may have ended by itself just now
            each.shutdown(socket.SHUT_RDWR)
