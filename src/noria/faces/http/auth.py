"""Who may speak to the server, and as whom: Host and Origin, tokens, and the open door of a laptop.

A server on loopback of a project that never had a token asks for none; there any page in a browser could
still reach it by DNS rebinding or by a form, so the Host header must name this machine. Wherever a server listens, a
request that carries an Origin must come from the server's own pages, whatever token is with it. Everywhere else each
request proves who asks, but for health. What somebody may do is not decided here but in `governance/access.py`.

Who came by a login has a session in a cookie. A cookie opens what only reads, and never says who sends a
prediction or a change: a page of another site can send one along. The few paths by which somebody comes in
(`DOORS`) are open while `[access]` names a provider.

Who is let in is looked up in a copy of the tokens in memory. It is at most `KNOWN_S` old, and newer
for whoever can wait; while the ledger is out of reach the last copy stands, and ends of tokens still count.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import hmac
import ipaddress
import json
import logging
import re
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from dataclasses import field
from typing import Any

from noria.config import ServerConfig
from noria.core.clock import utc_text
from noria.core.errors import Denied, NoriaError, WorldError
from noria.core.frozen import frozen, slotted
from noria.governance import records, tokens
from noria.governance.access import LEAST, Actor, authorize, is_allowed
from noria.governance.facts import AccessRefused
from noria.governance.records import TokenRecord
from noria.store.workspace import Workspace, acting

__all__ = [
    "ACTOR",
    "DOORS",
    "Guard",
    "Refusal",
    "actor_in",
    "cookie_name",
    "cookies_in",
    "guard_in",
    "headers_of",
    "is_loopback",
    "permit",
    "stranger",
]

log = logging.getLogger("noria.auth")
OPEN_PATHS = frozenset({"/healthz", "/health", "/v2/health/live", "/v2/health/ready"})
DOORS = frozenset({"/login", "/callback", "/logout", "/oauth/token"})
"""Where somebody comes in who is not known yet, or leaves."""
READS = frozenset({"GET", "HEAD", "OPTIONS"})
MLFLOW = re.compile(r"/(?:ajax-)?api/\d\.0/mlflow")
ACTOR = "noria.actor"
GUARD = "noria.guard"
KNOWN_S = 1.0
"""How old the copy of the tokens may be: as long as a token that was taken back may still open something."""
NEW_S = 0.05
"""How old a copy is before another is made for a token that is not in it: who sends one waits for that. So a token
is good at once, and made-up ones cost their sender more than the ledger."""
WAIT_S = 0.5
"""How long a request waits for a newer copy: a prediction is answered also while a database does not."""
NEW_WAIT_S = 5.0
"""How long one with a token that is not in the copy waits for a look that began after it came: else it is wrong."""
NOTED_S = 60.0
"""How often the last use of one token is written down."""
REFUSED_S = 3600.0
"""How often a refusal of one actor and permission becomes a fact."""
FAILURES_MAX = 20
FAILURES_S = 60.0
"""After so many wrong tokens from an address within this time, no more than random tokens are looked at."""
ADDRESSES_MAX = 10_000
SHARED = "service:shared-token"
"""Who asks with the one token of the settings: nobody in particular, so it never approves."""
COOKIES_MAX = 16 << 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@frozen
class Refusal:
    """An answer that is ready to send: `{"error": {code, message, where, hint}}`, or MLflow's form on its routes."""

    status: int
    code: str
    message: str
    hint: str = ""
    is_mlflow: bool = False
    location: str = ""

    @property
    def body(self) -> bytes:
        """The JSON body."""
        if self.is_mlflow:
            code = {401: "UNAUTHENTICATED", 429: "REQUEST_LIMIT_EXCEEDED"}.get(self.status, "PERMISSION_DENIED")
            return json.dumps({"error_code": code, "message": f"{self.message}; {self.hint}"}).encode()
        error = {"code": self.code, "message": self.message, "where": "", "hint": self.hint}
        return json.dumps({"error": error}).encode()

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers, with the challenge of a 401."""
        found = [(b"content-type", b"application/json"), (b"content-length", str(len(self.body)).encode())]
        if self.location:
            found += [(b"location", self.location.encode("ascii")), (b"cache-control", b"no-store")]
        if self.status == 401:
            found.append((b"www-authenticate", b'Bearer realm="noria"'))
            found.append((b"www-authenticate", b'Basic realm="noria", charset="UTF-8"'))
        if self.status == 429:
            found.append((b"retry-after", str(int(FAILURES_S)).encode()))
        return found


@slotted
class _Known:
    """The tokens as they were last seen. `is_guarded`: the project has, or had, one."""

    by_id: Mapping[str, TokenRecord] = field(default_factory=dict)
    seq: int = -1
    looked: float = float("-inf")

    @property
    def is_guarded(self) -> bool:
        return self.seq > 0


class Guard:
    """The door of one server process. Thread safe; what it keeps is bounded."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._rules = ws.project.server
        self._access = ws.project.access
        self._origins = self._access.origins
        self._public = (urllib.parse.urlsplit(self._access.url).hostname or "").lower()
        self._is_beyond = bool(self._rules.token) or self._access.has_providers or not is_loopback(self._rules.host)
        self._known = _Known()
        self._lock = threading.Lock()
        self._used: dict[str, str] = {}
        self._noted: dict[str, float] = {}
        self._refused: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._to_tell: list[tuple[Actor, AccessRefused]] = []
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._looking: asyncio.Task[None] | None = None
        self._read_at = float("-inf")
        """When the last look began that came to its end."""

    async def enter(self, scope: MutableMapping[str, Any]) -> Refusal | None:
        """Let an ASGI request in as somebody (`actor_in`), or give the answer that it gets instead.

        Raises: StoreUnavailable if the tokens were never read, and cannot be.
        """
        headers = headers_of(scope)
        if self._is_new(headers):
            await self._look_since(time.monotonic())
        elif self._is_old(KNOWN_S):
            await self._look_soon()
        refusal = stranger(scope, headers, self._rules, self._public)
        if refusal is not None:
            return refusal
        found = self._who(scope, headers)
        if isinstance(found, Refusal):
            return found
        scope[ACTOR], scope[GUARD] = found, self
        return None

    def admits(self, scope: Mapping[str, Any], permission: str) -> bool:
        """Whether a request may come in and do this, told at once; False also where that takes longer to say."""
        if self._is_old(KNOWN_S):
            return False
        headers = headers_of(scope)
        if stranger(scope, headers, self._rules, self._public) is not None:
            return False
        if not self._is_required():
            return permission in LEAST
        found = self._who(scope, headers) if b"authorization" in headers else None
        return isinstance(found, Actor) and is_allowed(found, permission, self._ws.project.name)

    def permit(self, actor: Actor, permission: str) -> None:
        """Let somebody do something, or keep in mind that they may not. Raises: Denied."""
        try:
            authorize(actor, permission, self._ws.project.name)
        except Denied as error:
            self._keep(actor, permission, error.message)
            raise

    def is_barred(self, scope: Mapping[str, Any]) -> bool:
        """Whether so much that was wrong came from a request's address that no more of it is looked at."""
        return self._is_barred(_address(scope))

    def failed(self, scope: Mapping[str, Any]) -> None:
        """Count something wrong that came from a request's address."""
        self._failed(_address(scope))

    def forget(self) -> None:
        """Look again before the next request: a token was taken back just now, in this process."""
        self._known.looked = float("-inf")

    def look(self) -> None:
        """Read the tokens anew if there is anything new of them; and write down last uses. Takes the disk's time."""
        with self._lock:
            if not self._is_old(NEW_S):
                return
            began = time.monotonic()
            try:
                with self._ws.ledger.read() as tx:
                    seq = records.tokens_seq(tx)
                    if seq != self._known.seq:
                        now = utc_text(self._ws.clock.now())
                        by_id = {each.token: each for each in records.tokens(tx, live_at=now)}
                        self._known = _Known(by_id, seq, time.monotonic())
                self._known.looked, self._read_at = time.monotonic(), began
                self._note()
            except WorldError as error:
                if self._known.seq < 0:
                    raise
                self._known.looked, self._read_at = time.monotonic(), began
                log.error("the tokens cannot be read; those of before are believed: %s", error.message)

    def tell(self) -> None:
        """Write down what was refused, as facts. Takes the disk's time; what cannot be written is in the log only."""
        with self._lock:
            waiting, self._to_tell = self._to_tell, []
        for actor, refused in waiting:
            try:
                with acting(self._ws, actor.name).ledger.transaction() as tx:
                    tx.append(refused)
            except NoriaError as error:
                log.error("a refusal could not be written down: %s", error.message)

    @property
    def has_to_tell(self) -> bool:
        """Whether `tell` has something to write."""
        return bool(self._to_tell)

    async def _look_since(self, moment: float) -> None:
        """Look, begun at or after a moment: a look that was under way then may have missed a token made just before."""
        while self._read_at < moment and time.monotonic() < moment + NEW_WAIT_S:
            await asyncio.sleep(NEW_S - (time.monotonic() - self._known.looked))
            await self._look_soon()

    async def _look_soon(self) -> None:
        """Look, for all requests that wait at once; where it takes long, the copy of before is good once more."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(asyncio.to_thread(self.look))
        looking = self._looking
        if self._known.seq < 0:
            await asyncio.shield(looking)
            return
        await asyncio.wait({looking}, timeout=WAIT_S)
        if looking.done():
            looking.result()
        else:
            self._known.looked = time.monotonic()

    def _is_old(self, limit_s: float) -> bool:
        return time.monotonic() - self._known.looked > limit_s

    def _is_new(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a token is sent that the copy does not have: it may have been made a moment ago."""
        name, _ = tokens.parse(_sent(headers.get(b"authorization", b""))[1] or self._in_cookie(headers))
        return bool(name) and name not in self._known.by_id

    def _is_required(self) -> bool:
        return self._is_beyond or self._known.is_guarded

    def _who(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> Actor | Refusal:
        if not self._is_required():
            name = _claimed(headers) or ("mlflow" if MLFLOW.match(scope["path"]) else "http")
            return Actor(name=f"user:{name}", role="admin", project=self._ws.project.name)
        user, sent = _sent(headers.get(b"authorization", b""))
        found = self._of_token(user, sent)
        if found is None and not sent and (scope["method"] in READS or scope["path"] == "/logout"):
            found = self._of_token("", self._in_cookie(headers), is_cookie=True)
        if found is not None:
            return found
        if self._access.has_providers and scope["path"] in DOORS:
            return Actor(name="user:anybody")
        address = _address(scope)
        is_mlflow = MLFLOW.match(scope["path"]) is not None
        if self._rules.token and sent and not self._is_barred(address) and _is_same(sent, self._rules.token):
            return Actor(name=SHARED, role="editor", project=self._ws.project.name)
        if scope["path"] in OPEN_PATHS:
            return Actor(name="user:anybody")
        if sent and self._is_barred(address):
            return Refusal(429, "denied", "too many wrong tokens came from this address", "wait a minute", is_mlflow)
        if sent:
            self._failed(address)
        elif self._access.login and scope["method"] in ("GET", "HEAD") and b"text/html" in headers.get(b"accept", b""):
            where = urllib.parse.quote(scope["path"], safe="/")
            return Refusal(303, "denied", "log in", "/login", location=f"/login?next={where}")
        hint = "send Authorization: Bearer TOKEN, or set NORIA_TOKEN; an admin makes one: noria token create"
        return Refusal(401, "denied", "the token is missing or wrong", hint, is_mlflow)

    def _in_cookie(self, headers: Mapping[bytes, bytes]) -> str:
        return cookies_in(headers).get(cookie_name(self._access.url), "") if self._access.login else ""

    def _of_token(self, user: str, sent: str, *, is_cookie: bool = False) -> Actor | None:
        """The holder of a token that is good now; with a user name, of that name only.

        The session of a browser is good in its cookie only, and nothing else is good there. What a provider
        brought about ends when noria.toml names it no more.
        """
        name, whole = tokens.parse(sent)
        if not name:
            return None
        record = self._known.by_id.get(name)
        if not tokens.matches(record, whole) or record is None:
            return None
        now = utc_text(self._ws.clock.now())
        if not record.is_live(now) or (user and user not in (record.holder, record.holder.partition(":")[2])):
            return None
        if is_cookie != (record.way == "browser") or (record.origin and record.origin not in self._origins):
            return None
        if not record.origin:  # a session is over within the day: when it was used last is not worth a row
            self._used[name] = now
        return tokens.actor_of(record)

    def _note(self) -> None:
        moment = time.monotonic()
        for name, at in list(self._used.items()):
            if moment - self._noted.get(name, float("-inf")) >= NOTED_S:
                self._ws.jobs.acquire(f"{tokens.LAST_USE}{name}", owner="seen", ttl_s=1, data={"at": at})
                self._noted[name] = moment
                self._used.pop(name, None)

    def _keep(self, actor: Actor, permission: str, reason: str) -> None:
        key, moment = (actor.name, permission), time.monotonic()
        with self._lock:
            if moment - self._refused.get(key, float("-inf")) < REFUSED_S:
                return
            self._refused[key] = moment
            if len(self._refused) > ADDRESSES_MAX:
                self._refused.popitem(last=False)
            log.warning("%s was refused %s (token %s)", actor.name, permission, actor.token or "none")
            fact = AccessRefused(permission=permission, token=actor.token, reason=reason[:500])
            self._to_tell.append((actor, fact))

    def _is_barred(self, address: str) -> bool:
        count, since = self._failures.get(address, (0, 0.0))
        return count >= FAILURES_MAX and time.monotonic() - since < FAILURES_S

    def _failed(self, address: str) -> None:
        """Count a wrong token. Only the log tells of it: anybody can send one, and a ledger is for ever."""
        count, since = self._failures.pop(address, (0, 0.0))
        moment = time.monotonic()
        if moment - since >= FAILURES_S:
            count, since = 0, moment
        self._failures[address] = (count + 1, since)
        if len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)
        if count + 1 in (1, FAILURES_MAX):
            log.warning("a wrong token came from %s (%d within %.0f s)", address, count + 1, FAILURES_S)


def actor_in(scope: Mapping[str, Any]) -> Actor:
    """Who asks. What no guard let in is nobody, who may do nothing."""
    found = scope.get(ACTOR)
    return found if isinstance(found, Actor) else Actor(name="user:nobody")


def permit(scope: Mapping[str, Any], permission: str) -> Actor:
    """Let whoever asks do something, and say who it is. Raises: Denied."""
    guard, actor = scope.get(GUARD), actor_in(scope)
    if not isinstance(guard, Guard):
        raise Denied("nobody asked who this is", hint="a request comes in by the server's door")
    guard.permit(actor, permission)
    return actor


def guard_in(scope: Mapping[str, Any]) -> Guard:
    """The door that a request came in by."""
    guard = scope.get(GUARD)
    assert isinstance(guard, Guard), "a request comes in by the server's door"
    return guard


def cookie_name(url: str) -> str:
    """What the cookie of a session is called; over https such that no other host can set it (RFC 6265bis §4.1.3.2)."""
    return "__Host-noria" if url.startswith("https:") else "noria"


def cookies_in(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """The cookies of a request; of two of one name the first."""
    found: dict[str, str] = {}
    for part in headers.get(b"cookie", b"")[:COOKIES_MAX].decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        found.setdefault(name, value)
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


def headers_of(scope: Mapping[str, Any]) -> dict[bytes, bytes]:
    """The first of each header of an ASGI request."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, value)
    return headers


def stranger(
    scope: Mapping[str, Any], headers: Mapping[bytes, bytes], server: ServerConfig, public: str = ""
) -> Refusal | None:
    """Why a request may not come in whoever sends it: a foreign Host, or a page of another site.

    Args: public: the name that people reach the server by, through a proxy on this machine.
    """
    found = _stranger(headers.get(b"host", b""), server.host, public)
    if found is not None:
        is_mlflow = MLFLOW.match(scope["path"]) is not None
        told = f"the Host header names {found[:80]!r}, not this machine"
        return Refusal(403, "denied", told, "use localhost or 127.0.0.1", is_mlflow)
    if _is_foreign(headers, is_read=scope["method"] in READS):
        is_mlflow = MLFLOW.match(scope["path"]) is not None
        told = "the request comes from a page of another site"
        return Refusal(403, "denied", told, "call from a script or a shell", is_mlflow)
    return None


@functools.lru_cache(maxsize=256)  # asked for every request, and there are few
def _stranger(host: bytes, own: str, public: str) -> str | None:
    """The name in a Host header that a server on loopback does not answer to; None if it does."""
    name = _host_name(host.decode("latin-1"))
    if not is_loopback(own) or is_loopback(name) or name in (own.lower(), public or own.lower()):
        return None
    return name


def _host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    text = host.strip().lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0]


def _is_foreign(headers: Mapping[bytes, bytes], *, is_read: bool) -> bool:
    """Whether a page of another site sends it. Who follows a link from one reads, and a browser names no Origin then:
    that may be, and a login comes back that way. A script of such a page that reads does name one.
    """
    if not is_read and headers.get(b"sec-fetch-site") == b"cross-site":
        return True
    origin = headers.get(b"origin")
    if origin is None:
        return False
    return origin.partition(b"://")[2].lower() != headers.get(b"host", b"").lower()


def _address(scope: Mapping[str, Any]) -> str:
    return str((scope.get("client") or ("?",))[0])


def _claimed(headers: Mapping[bytes, bytes]) -> str:
    """Who asks, as they say: the header that Noria's own clients send, or the user of Basic. Never a service."""
    name = headers.get(b"x-noria-actor", b"").decode("latin-1").removeprefix("user:")
    if not name:
        name = _sent(headers.get(b"authorization", b""))[0]
    return name if _NAME.fullmatch(name) else ""


def _sent(authorization: bytes) -> tuple[str, str]:
    """(the user of Basic, the token of Bearer or the password of Basic); empty texts for what is neither."""
    scheme, _, value = authorization.partition(b" ")
    value = value.strip()
    if scheme.lower() == b"bearer":
        return "", value.decode("latin-1")
    if scheme.lower() == b"basic":
        try:
            user, _, password = base64.b64decode(value, validate=True).partition(b":")
        except binascii.Error:
            return "", ""
        return user.decode("latin-1"), password.decode("latin-1")
    return "", ""


def _is_same(sent: str, token: str) -> bool:
    return hmac.compare_digest(sent.encode("latin-1"), token.encode())
