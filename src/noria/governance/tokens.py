"""Tokens: made once, shown once, kept as a hash, and taken back at any time.

A token is `nor_ID_SECRET`. The secret is 32 bytes of the system's randomness, so what is kept of it is its plain
SHA-256: a slow hash (argon2, scrypt) makes *guessing* dear, and 256 random bits cannot be guessed at any
price, while a check that every request passes has to be cheap. Whoever reads the ledger, or an export of
it, learns nothing that opens anything.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import os
import re
from collections.abc import Sequence

from noria.core.clock import duration, utc_text
from noria.core.errors import NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.governance import records
from noria.governance.access import Actor, require_role, require_scopes
from noria.governance.facts import TokenCreated, TokenRevoked
from noria.governance.records import TokenRecord
from noria.store.workspace import Workspace

__all__ = [
    "LAST_USE",
    "NewToken",
    "Token",
    "actor_of",
    "create",
    "fresh",
    "is_guarded",
    "matches",
    "parse",
    "revoke",
    "shown",
    "tokens",
]

PREFIX = "nor"
SECRET_BYTES = 32
DEFAULT_LIFE = "90d"
LONGEST_LIFE = "1830d"
"""Five years."""
LAST_USE = "token/"
"""What the leases are called that say when a token was last used."""
TEXT_LIMIT = 500
LIST_LIMIT = 20
_HOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_NAMED_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_TOKEN = re.compile(r"nor_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOTHING = "0" * 64
"""Compared with where there is no such token, so that the time says nothing."""


@frozen
class NewToken:
    """A token as it is shown, this once. `secret` is the whole of it: what a client sends."""

    token: str
    holder: str
    role: str
    project: str
    scopes: tuple[str, ...]
    approves: tuple[str, ...]
    expires: str
    secret: str


@frozen
class Token:
    """A token as it is listed. `state` is "live", "expired" or "revoked"; `last_used` is empty if it never was.

    `origin` is the provider that it came by, such as "login/corp"; empty for one that an admin made.
    """

    token: str
    holder: str
    role: str
    state: str
    project: str
    scopes: tuple[str, ...]
    approves: tuple[str, ...]
    expires: str
    last_used: str
    created_at: str
    created_by: str
    revoked_by: str
    origin: str = ""


@verb(permission="governance.admin", name="token-create")
def create(
    ws: Workspace,
    name: str,
    *,
    role: str = "viewer",
    expires: str = DEFAULT_LIFE,
    project: str = "",
    scopes: Sequence[str] = (),
    approves: Sequence[str] = (),
    service: bool = False,
) -> NewToken:
    """Make a token for somebody, or with --service for a machine. It is shown once and never again.

    Once a project has had a token its server asks everybody for one.

    Args:
        name: who holds it; facts are then by user:NAME, or by service:NAME, which can never approve.
        role: viewer, editor, approver or admin.
        expires: how long it is good for, such as 30d, or "never".
        project: the project that it is for; else this one.
        scopes: permissions that it is narrowed to, such as serving.predict or data.*; none narrows nothing.
        approves: named roles of a policy that its holder may approve in, such as ml-lead.
        service: whether it is a machine's.
    Raises: UsageError.

    Example: noria token create --name ci --role editor --expires 30d --service
    """
    if _HOLDER.fullmatch(name) is None:
        raise UsageError(
            f"{name[:80]!r} is no name of a holder", hint="letters, digits and . _ @ -, at most 64, such as ann or ci"
        )
    narrowed = require_scopes(scopes, require_role(role))
    if narrowed and role == "admin":
        raise UsageError("an admin's token is not narrowed: it could make one that is not", hint="--role editor")
    roles = _named_roles(approves, role, service=service)
    if len(narrowed) > LIST_LIMIT:
        raise UsageError(f"{len(narrowed)} scopes are more than {LIST_LIMIT}")
    made, whole = fresh(
        TokenCreated(
            token="",
            holder=f"{'service' if service else 'user'}:{name}",
            role=role,
            project=project or ws.project.name,
            scopes=narrowed,
            approves=roles,
            verifier="",
            expires=_end_of(ws, expires),
        )
    )
    with ws.ledger.transaction() as tx:
        tx.append(made)
    return shown(made, whole)


def fresh(wanted: TokenCreated) -> tuple[TokenCreated, str]:
    """The fact of a new token with an id and a verifier, and the whole token, which is kept nowhere."""
    name = os.urandom(6).hex()
    secret = base64.urlsafe_b64encode(os.urandom(SECRET_BYTES)).decode().rstrip("=")
    whole = f"{PREFIX}_{name}_{secret}"
    return dataclasses.replace(wanted, token=name, verifier=verifier_of(whole)), whole


def shown(made: TokenCreated, whole: str) -> NewToken:
    """A new token as it is shown, once."""
    return NewToken(
        token=made.token,
        holder=made.holder,
        role=made.role,
        project=made.project,
        scopes=made.scopes,
        approves=made.approves,
        expires=made.expires,
        secret=whole,
    )


@verb(permission="governance.admin", changes=False, name="token-list")
def tokens(ws: Workspace, every: bool = False) -> list[Token]:
    """The tokens that open something, oldest first, with when each was last used; --every: the others too.

    A use is noted within a minute.

    Example: noria token list --every
    """
    used = {lease.name.removeprefix(LAST_USE): str(lease.data.get("at", "")) for lease in ws.jobs.leases(LAST_USE)}
    now = utc_text(ws.clock.now())
    with ws.ledger.read() as tx:
        found = records.tokens(tx, live_at="" if every else now)
    return [_told(each, now, used.get(each.token, "")) for each in found]


@verb(permission="governance.admin", name="token-revoke")
def revoke(ws: Workspace, token: str, reason: str = "") -> Token:
    """Take a token back. Servers refuse it within a second. Doing it again changes nothing.

    Args:
        token: its id, as `noria token list` shows it; never the secret.
        reason: why, for the record.
    Raises: NotFound.

    Example: noria token revoke 3f9a01c2d4e5 --reason "laptop lost"
    """
    if len(reason) > TEXT_LIMIT:
        raise UsageError(f"a reason of {len(reason)} characters is over the limit of {TEXT_LIMIT}")
    name = token.split("_")[1] if _TOKEN.fullmatch(token) else token
    with ws.ledger.transaction() as tx:
        found = records.token(tx, name)
        if found is None:
            raise NotFound(f"there is no token {name[:20]!r}", hint="noria token list --every")
        if not found.revoked_at:
            tx.append(TokenRevoked(token=name, reason=reason))
        found = records.token(tx, name)
    assert found is not None, "it was there in the same transaction"
    return _told(found, utc_text(ws.clock.now()), "")


def parse(text: str) -> tuple[str, str]:
    """(the id of a token, the whole of it), or two empty texts for what is no token."""
    match = _TOKEN.fullmatch(text)
    return (match[1], text) if match else ("", "")


def verifier_of(whole: str) -> str:
    """What is kept of a token: the SHA-256 of all of it, in hex."""
    return hashlib.sha256(whole.encode("ascii")).hexdigest()


def matches(record: TokenRecord | None, whole: str) -> bool:
    """Whether a token is the one that was made; takes as long where there is none. Says nothing of its end."""
    kept = _NOTHING if record is None else record.verifier
    return hmac.compare_digest(kept, verifier_of(whole)) and record is not None


def actor_of(record: TokenRecord) -> Actor:
    """Who asks with a token."""
    return Actor(
        name=record.holder,
        role=record.role,
        project=record.project,
        scopes=record.scopes,
        token=record.token,
        is_session=record.way == "browser",
    )


def is_guarded(ws: Workspace) -> bool:
    """Whether the project has, or ever had, a token: from then on a server asks for one.

    Also when all are over: that the last one ran out must not open the door.
    """
    with ws.ledger.read() as tx:
        return records.tokens_seq(tx) > 0


def has_live(ws: Workspace) -> bool:
    """Whether there is a token that opens something now."""
    now = utc_text(ws.clock.now())
    with ws.ledger.read() as tx:
        return bool(records.tokens(tx, live_at=now))


def _named_roles(approves: Sequence[str], role: str, *, service: bool) -> tuple[str, ...]:
    found = tuple(sorted(set(approves)))
    if found and (service or role not in ("approver", "admin")):
        raise UsageError("only a person with the role approver or admin approves", hint="--role approver")
    for each in found:
        if _NAMED_ROLE.fullmatch(each) is None:
            raise UsageError(f"{each[:60]!r} is no name of a role", hint="such as ml-lead")
    if len(found) > LIST_LIMIT:
        raise UsageError(f"{len(found)} named roles are more than {LIST_LIMIT}")
    return found


def _end_of(ws: Workspace, expires: str) -> str:
    if expires == "never":
        return ""
    try:
        length = duration(expires)
    except ValueError as error:
        raise UsageError(f"expires: {error}", hint='such as 30d, or "never"') from error
    if not 0 < length.total_seconds() <= duration(LONGEST_LIFE).total_seconds():
        raise UsageError(f"expires: {expires} is not more than nothing and at most {LONGEST_LIFE}")
    return utc_text(ws.clock.now() + length)


def _told(record: TokenRecord, now: str, last_used: str) -> Token:
    state = "revoked" if record.revoked_at else "live" if record.is_live(now) else "expired"
    return Token(
        token=record.token,
        holder=record.holder,
        role=record.role,
        state=state,
        project=record.project,
        scopes=record.scopes,
        approves=record.approves,
        expires=record.expires,
        last_used=last_used,
        created_at=record.created_at,
        created_by=record.created_by,
        revoked_by=record.revoked_by,
        origin=record.origin,
    )
