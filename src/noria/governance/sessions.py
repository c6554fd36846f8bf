"""Sessions: short tokens that a provider of identities brings about, for people who log in and for machines.

A session is a token like any other: it is listed, ends by itself within a day at most, and is taken back at any
time. What is new is how it comes to be: a subject of an issuer gets a name that is nobody else's for ever, and what
it was given for (an identity token, a login) is good for one session. Both are decided in the transaction that
writes the fact, so neither a race nor a kill gets around them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from noria.config import Project
from noria.core.clock import duration, utc_text
from noria.core.errors import ConfigError, Conflict, NoriaError
from noria.core.frozen import frozen
from noria.governance import records, tokens
from noria.governance.access import require_scopes
from noria.governance.claims import Grant, IdentityRefused, names_for, subject_digest
from noria.governance.facts import IdentityBound, LoginRefused, TokenCreated, TokenRevoked
from noria.governance.tokens import NewToken
from noria.store.fold import Reader
from noria.store.ledger import Transaction
from noria.store.workspace import Workspace, acting

__all__ = ["Refusals", "Subject", "close", "narrowed", "once", "open_session", "require_usable", "secret_of"]

log = logging.getLogger("noria.sessions")
TRIES = 5
REFUSED_S = 3600.0
REFUSED_MAX = 1000
SECRET_MAX = 4096


@frozen(kw_only=True)
class Subject:
    """Somebody or something that an issuer vouches for. `wanted` is what it is called, `provider` where.

    `kind` is "user" or "service", and says in which table of `[access]` the provider is.
    """

    kind: str
    provider: str
    issuer: str
    subject: str
    wanted: str

    @property
    def digest(self) -> str:
        """What it is known by."""
        return subject_digest(self.kind, self.issuer, self.subject)

    @property
    def origin(self) -> str:
        """The provider as tokens and refusals name it."""
        return f"{'login' if self.kind == 'user' else 'workload'}/{self.provider}"


def open_session(ws: Workspace, who: Subject, grant: Grant, *, way: str, used: str = "") -> NewToken:
    """Give a subject a token. The facts are by the subject itself.

    Args:
        way: how it came: "browser", "command line" or "exchange".
        used: what it is given for (`once`), good for one token; empty if that does not matter.
    Raises: IdentityRefused if it was given for that already; StoreUnavailable.
    """
    for _ in range(TRIES):
        with ws.ledger.read() as tx:
            holder = _holder(tx, who)
        wanted = TokenCreated(
            token="",
            holder=holder,
            role=grant.role,
            project=ws.project.name,
            scopes=grant.scopes,
            approves=grant.approves,
            verifier="",
            expires=utc_text(ws.clock.now() + duration(grant.life)),
            origin=who.origin,
            way=way,
            issuer=who.issuer,
            because=grant.because,
            once=used,
        )
        made, whole = tokens.fresh(wanted)
        with acting(ws, holder).ledger.transaction() as tx:
            if used and records.is_used(tx, used):
                raise IdentityRefused("replayed", "this was used for a token already", hint="ask for a new one")
            if _is_still(tx, who, holder):
                tx.append(made)
                return tokens.shown(made, whole)
    raise Conflict(f"no name was found for a subject of {who.provider}", hint="try again")


def close(ws: Workspace, token: str) -> bool:
    """End a session by the id of its token, as its holder; False if it is none, or over already."""
    with ws.ledger.read() as tx:
        found = records.token(tx, token)
    if found is None or not found.origin or found.revoked_at:
        return False
    with acting(ws, found.holder).ledger.transaction() as tx:
        found = records.token(tx, token)
        if found is None or found.revoked_at:
            return False
        tx.append(TokenRevoked(token=token, reason="logged out"))
    return True


def once(*parts: str) -> str:
    """What texts are known by that are good for one session."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def narrowed(grant: Grant, asked: Sequence[str]) -> Sequence[str]:
    """The scopes of a token that asks for less than its rule gives.

    Raises: UsageError for what the role does not hold; IdentityRefused for what the rule does not give.
    """
    if not asked:
        return grant.scopes
    found = require_scopes(asked, grant.role)
    for each in found if grant.scopes else ():
        if each not in grant.scopes and f"{each.partition('.')[0]}.*" not in grant.scopes:
            raise IdentityRefused("scope", f"the scope {each[:60]!r} is more than the rule gives")
    return found


def require_usable(project: Project) -> None:
    """Raises: ConfigError for what `[access]` says and no server could go by: scopes, secrets that are not there."""
    where = str(project.root / "noria.toml")
    for name, workload in project.access.workload.items():
        for number, rule in enumerate(workload.allow, 1):
            try:
                require_scopes(rule.scopes, rule.role)
            except NoriaError as error:
                told = f"access.workload.{name}.allow, rule {number}: {error.message}"
                raise ConfigError(told, where=where, hint=error.hint) from error
    for name, login in project.access.login.items():
        secret_of(project, login.client_secret, f"access.login.{name}.client_secret")


def secret_of(project: Project, reference: str, path: str, environment: Mapping[str, str] | None = None) -> str:
    """The secret that "env:NAME" or "file:PATH" names; empty for no reference. Raises: ConfigError, without it."""
    way, _, name = reference.partition(":")
    if not reference:
        return ""
    where = str(project.root / "noria.toml")
    if way == "env":
        found = (os.environ if environment is None else environment).get(name, "")
        if not found:
            raise ConfigError(f"{path}: the variable {name} is not set", where=where)
        return found
    file = project.root / name
    try:
        if file.stat().st_mode & 0o007:
            raise ConfigError(f"{path}: everybody may read {name}", where=where, hint=f"chmod 600 {name}")
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {name} cannot be read: {type(error).__name__}", where=where) from error
    if not found or len(found) > SECRET_MAX:
        raise ConfigError(f"{path}: {name} holds no secret", where=where)
    return found


class Refusals:
    """Writes down who was not let in, the same at most once an hour: a ledger is for ever. Thread safe."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._told: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._lock = threading.Lock()

    def tell(self, ws: Workspace, refused: LoginRefused) -> None:
        """Append the fact, unless it was told, or so much was told that more would be a flood; the log has each."""
        log.warning("%s was refused: %s (%s)", refused.origin, refused.reason, refused.identity[:12] or "nobody known")
        key, now = (refused.origin, refused.way, refused.reason, refused.identity), self._seconds()
        with self._lock:
            while self._told and now - next(iter(self._told.values())) >= REFUSED_S:
                self._told.popitem(last=False)
            if key in self._told or len(self._told) >= REFUSED_MAX:
                return
            self._told[key] = now
        try:
            with ws.ledger.transaction() as tx:
                tx.append(refused)
        except NoriaError as error:
            log.error("a refusal could not be written down: %s", error.message)


def _holder(tx: Reader, who: Subject) -> str:
    """The name that a subject has, or would get."""
    known = records.identity(tx, who.digest)
    if known is not None:
        return known.holder
    for name in names_for(who.provider, who.wanted, who.digest):
        holder = f"{who.kind}:{name}"
        if not records.holder_taken(tx, holder):
            return holder
    raise Conflict("every name of a subject is taken")


def _is_still(tx: Transaction, who: Subject, holder: str) -> bool:
    """Whether the name is the subject's, bound now if it never came before; False if another took it meanwhile."""
    known = records.identity(tx, who.digest)
    if known is not None:
        return known.holder == holder
    if records.holder_taken(tx, holder):
        return False
    said = who.subject if who.kind == "service" else ""
    tx.append(IdentityBound(identity=who.digest, holder=holder, issuer=who.issuer, subject=said))
    return True
