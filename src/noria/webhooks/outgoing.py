"""Calling a URL that somebody wrote down, without becoming their way into this network.

The host is resolved once, every address of it has to be a public one (or named in noria.toml), and the
connection goes to the address that was looked at: a name that answers otherwise a moment later gains nothing.
No redirect is followed, no proxy is asked, and no more of an answer is read than is needed.

Source: OWASP SSRF prevention cheat sheet; words of refusals as in mlflow/utils/validation.py of MLflow 3.17.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Mapping, Sequence

from noria.config import WebhooksConfig
from noria.core.errors import StoreUnavailable, UsageError
from noria.core.frozen import frozen

__all__ = ["ANSWER_MAX", "Answer", "Target", "Unreachable", "Unresolved", "post", "resolved", "target"]

ANSWER_MAX = 64 << 10
"""So many bytes of an answer are read."""
TIMEOUT_S = 10.0
"""For connecting, for each silence, and for what follows the connection as a whole."""
URL_MAX = 2048
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str], Sequence[str]]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Unreachable(StoreUnavailable):
    """The other side of a webhook did not answer."""

    code = "webhook-unreachable"


class Unresolved(UsageError):
    """The name of a host leads nowhere now; it may later."""

    is_retry_safe = True


@frozen(kw_only=True)
class Target:
    """Where a request goes: the name that the certificate has to carry, and the address that was looked at."""

    is_tls: bool
    host: str
    port: int
    address: str
    path: str

    @property
    def host_header(self) -> str:
        """The host with its port, if that is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


@frozen(kw_only=True)
class Answer:
    """What the other side said. `body` is at most `ANSWER_MAX` bytes of it."""

    status: int
    body: str


def resolved(host: str) -> Sequence[str]:
    """The addresses of a host, by this machine's resolver. Raises: OSError; UnicodeError."""
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})


def target(url: str, config: WebhooksConfig, resolve: Resolve = resolved) -> Target:
    """Where a URL leads, if it may be called. Raises: UsageError."""
    if not url.strip():
        raise UsageError(f"Webhook URL cannot be empty or just whitespace: {url!r}")
    if len(url) > URL_MAX or any(ord(each) <= 32 or ord(each) == 127 for each in url):
        raise UsageError(f"Invalid webhook URL: longer than {URL_MAX} characters, or with a blank in it")
    try:
        parsed = urllib.parse.urlsplit(url)
        port = parsed.port
    except ValueError as error:
        raise UsageError(f"Invalid webhook URL {url!r}: {error!r}") from error
    if parsed.scheme not in config.schemes:
        raise UsageError(
            f"Invalid webhook URL scheme: {parsed.scheme!r}. Allowed schemes are: {', '.join(config.schemes)}."
        )
    host = parsed.hostname
    if not host:
        raise UsageError(f"Webhook URL must include a hostname: {url!r}")
    if parsed.username is not None or parsed.password is not None:
        raise UsageError("Webhook URL must not hold a user or password: it is shown to whoever may list webhooks")
    if config.hosts and host not in config.hosts:
        raise UsageError(f"Webhook URL host {host!r} is not one of those that noria.toml lists under [webhooks] hosts")
    is_tls = parsed.scheme == "https"
    path = urllib.parse.quote(parsed.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = f"?{urllib.parse.quote(parsed.query, safe='/%:@!$&()*+,;=~-._?')}" if parsed.query else ""
    return Target(
        is_tls=is_tls,
        host=host,
        port=port or (443 if is_tls else 80),
        address=_address(host, config, resolve),
        path=path + query,
    )


def post(where: Target, headers: Mapping[str, str], body: bytes, *, timeout_s: float = TIMEOUT_S) -> Answer:
    """Send a request to the address that was looked at. Raises: Unreachable."""
    made = http.client.HTTPConnection(where.host, where.port, timeout=timeout_s)
    held: list[socket.socket] = []  # a connection forgets its socket when it has the head of its last answer
    whole = threading.Timer(timeout_s, _cut, [held])  # one byte now and then would last for ever else
    whole.daemon = True
    try:
        made.sock = socket.create_connection((where.address, where.port), timeout_s)
        held.append(made.sock)
        whole.start()
        if where.is_tls:
            made.sock = ssl.create_default_context().wrap_socket(
                made.sock, server_hostname=where.host, do_handshake_on_connect=False
            )
            held.append(made.sock)  # the one below it is no longer open
            made.sock.do_handshake()
        made.putrequest("POST", where.path, skip_host=True, skip_accept_encoding=True)
        sent = {"Host": where.host_header, "Content-Length": str(len(body)), "Connection": "close", **headers}
        for name, value in sent.items():
            made.putheader(name, value)
        made.endheaders(body)
        answer = made.getresponse()
        return Answer(status=answer.status, body=answer.read(ANSWER_MAX).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"no answer from {where.host_header}: {type(error).__name__}") from error
    finally:
        whole.cancel()
        made.close()


def _cut(held: Sequence[socket.socket]) -> None:
    """End a connection that another thread reads from, by the newest of its sockets."""
    for each in held[-1:]:
        with contextlib.suppress(OSError):  # it may have ended by itself just now
            socket.socket.shutdown(each, socket.SHUT_RDWR)  # not TLS's own, which would take the reader's state away


def _address(host: str, config: WebhooksConfig, resolve: Resolve) -> str:
    """The address to call. Raises: UsageError if one of them may not be called."""
    try:
        found = resolve(host)
    except (OSError, UnicodeError) as error:
        raise Unresolved(f"Cannot resolve Webhook URL hostname {host!r}: {error}") from error
    if not found:
        raise Unresolved(f"Cannot resolve Webhook URL hostname {host!r}: it has no address")
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not _is_public(address) and not _is_allowed(host, address, config.private):
            raise UsageError(
                f"Webhook URL must not resolve to a non-public IP address. {host!r} resolves to {address}."
            )
    return found[0]


def _is_public(given: Address) -> bool:
    """Whether anybody on the internet has that address; what wraps another one is looked into."""
    address: Address = given
    if isinstance(given, ipaddress.IPv6Address):
        inner = given.ipv4_mapped or given.sixtofour
        if inner is None and given in _NAT64:
            inner = ipaddress.IPv4Address(int(given) & 0xFFFFFFFF)
        address = inner or given
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _is_allowed(host: str, address: Address, allowed: Sequence[str]) -> bool:
    """Whether noria.toml names a private host or its network."""
    for each in allowed:
        try:
            network = ipaddress.ip_network(each)
        except ValueError:
            if each == host:
                return True
            continue
        if address in network:
            return True
    return False
