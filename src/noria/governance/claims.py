"""What follows from the claims of an identity token: whether it counts, for which role, and under which name.

Pure: the signature was verified before (by the seam `issuer`), the clock is brought along. Everything that is
not let in by a rule is refused, and a refusal names the claim that did not fit, never what would have.

Source: OpenID Connect Core 1.0 §3.1.3.7 (ID token validation); RFC 7519 §4.1; RFC 8725 (JWT best practices).
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from noria.core.errors import Denied, StoreUnavailable
from noria.core.frozen import frozen
from noria.governance.access import ROLES
from noria.identities import AllowRule, LoginConfig, WorkloadConfig

__all__ = [
    "LEEWAY_S",
    "TOKEN_MAX",
    "Grant",
    "IdentityRefused",
    "Issuer",
    "ProviderUnavailable",
    "claim_at",
    "fits",
    "granted",
    "issuer_said",
    "login_of",
    "names_for",
    "require_current",
    "require_login",
    "subject_digest",
    "text_of",
]

TOKEN_MAX = 16 << 10
"""Characters of an identity token: more is not looked at."""
LEEWAY_S = 60.0
"""How far the provider's clock may be from ours."""
SUBJECT_MAX = 255
GROUPS_MAX = 1000
TIME_MAX = float(1 << 53)
"""Seconds beyond which no time is one; NaN is within no limits."""
CLAIMS = frozenset({"exp", "iat", "iss", "aud", "sub"})
"""What every token must say."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
NAME_MAX = 28


class IdentityRefused(Denied):
    """What a provider said of somebody does not let them in. `reason` is one short word for the record."""

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class ProviderUnavailable(StoreUnavailable):
    """A provider of identities does not answer, or not with what a provider answers."""

    code = "provider-unavailable"


class Issuer(Protocol):
    """A provider of identities, as the seam `issuer` makes one of its address. Thread safe."""

    def verify(self, token: str, audience: str) -> Mapping[str, Any]:
        """The claims of a token that this issuer signed for an audience; says nothing of its times.

        Raises: IdentityRefused; ProviderUnavailable.
        """
        ...

    def authorization_url(self, parameters: Mapping[str, str]) -> str:
        """Where a browser goes to log in. Raises: ProviderUnavailable."""
        ...

    def redeem(self, parameters: Mapping[str, str], client_id: str, client_secret: str) -> str:
        """The identity token for an authorization code. Raises: IdentityRefused; ProviderUnavailable."""
        ...


@frozen(kw_only=True)
class Grant:
    """What somebody is given: a role, what it is narrowed to, the named roles to approve in, how long, and why.

    `because` are the claims that it rests on, as "name=value".
    """

    role: str
    life: str
    scopes: tuple[str, ...] = ()
    approves: tuple[str, ...] = ()
    because: tuple[str, ...] = ()


def issuer_said(token: str) -> str:
    """The issuer that a token names, unverified: it only says whose keys to look for.

    Raises: IdentityRefused for what is no signed token.
    """
    if len(token) > TOKEN_MAX:
        raise IdentityRefused("size", f"the identity token is longer than {TOKEN_MAX} characters")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise IdentityRefused("form", "this is no signed identity token")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise IdentityRefused("form", "this is no signed identity token") from error
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    if not isinstance(issuer, str):
        raise IdentityRefused("form", "the identity token names no issuer")
    return issuer


def require_current(claims: Mapping[str, Any], now_s: float) -> None:
    """The times and the subject of a token whose signature, issuer and audience were verified.

    Args: now_s: seconds since 1970, UTC.
    Raises: IdentityRefused.
    """
    try:
        json.dumps(claims, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:  # half a surrogate pair is no text that can be kept
        raise IdentityRefused("form", "the identity token holds what is no text") from error
    expires, issued = _moment(claims, "exp"), _moment(claims, "iat")
    if now_s >= expires + LEEWAY_S:
        raise IdentityRefused("expired", "the identity token has expired")
    if issued > now_s + LEEWAY_S or ("nbf" in claims and _moment(claims, "nbf") > now_s + LEEWAY_S):
        raise IdentityRefused(
            "not-yet", "the identity token is not good yet", hint="compare the clocks of both machines"
        )
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_MAX:
        raise IdentityRefused("subject", f"the identity token has no subject of at most {SUBJECT_MAX} characters")


def require_login(claims: Mapping[str, Any], client_id: str, nonce: str) -> None:
    """What an identity token of a login must say beside: that it is for us, and for this very login.

    Raises: IdentityRefused.
    """
    audience, party = claims.get("aud"), claims.get("azp")
    if (isinstance(audience, list) and len(audience) > 1 and party is None) or party not in (None, client_id):
        raise IdentityRefused("party", "the identity token was made for another application")
    said = claims.get("nonce")
    if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
        raise IdentityRefused("nonce", "the identity token is of another login")


def claim_at(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by names with points between, one in the other; None where there is none."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def text_of(value: Any) -> str | None:
    """A claim's value as the text that patterns are held against; None for what is no plain value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None


def fits(pattern: str, text: str) -> bool:
    """Whether a whole text is as a pattern says: `**` is anything, `*` and `?` stop at "/" and ":"."""
    return _compiled(pattern).fullmatch(text) is not None


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    words = {"**": r".*", "*": r"[^/:]*", "?": r"[^/:]"}
    parts = re.split(r"(\*\*|\*|\?)", re.sub(r"\*{3,}", "**", pattern))
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts), re.DOTALL)


def granted(claims: Mapping[str, Any], config: WorkloadConfig) -> Grant:
    """What the first rule gives that all of the claims fit.

    Raises: IdentityRefused with the claims that kept the nearest rule from fitting.
    """
    nearest: Sequence[str] | None = None
    for rule in config.allow:
        lacking = [name for name, patterns in rule.match.items() if not _fits_any(claim_at(claims, name), patterns)]
        if not lacking:
            return Grant(role=rule.role, life=rule.ttl, scopes=rule.scopes, because=tuple(_told(claims, rule)))
        if nearest is None or len(lacking) < len(nearest):
            nearest = lacking
    told = f"what it says as {', '.join(nearest)} is in none of them" if nearest else "there are none"
    raise IdentityRefused("no-rule", f"no rule lets this workload in: {told}", hint="docs/access.md: access.workload")


def login_of(claims: Mapping[str, Any], config: LoginConfig) -> Grant:
    """What the groups of a person give: the highest role, and named roles where that is one that approves.

    Raises: IdentityRefused for who is in no group that has a role.
    """
    said = claim_at(claims, config.claim)
    given = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    groups = {each for each in given[:GROUPS_MAX] if isinstance(each, str)}
    held = [role for role in ROLES if groups & set(config.roles.get(role, ()))]
    if not held:
        hint = f"the provider says groups in {config.claim!r}, and an admin gives them roles in noria.toml"
        raise IdentityRefused("no-role", "no group of yours has a role here", hint=hint)
    role = held[-1]
    may_approve = ROLES.index(role) >= ROLES.index("approver")
    named = tuple(sorted(name for name, of in config.approves.items() if may_approve and groups & set(of)))
    because = tuple(f"{config.claim}={group}"[:200] for group in sorted(groups & set(config.roles[role])))
    return Grant(role=role, life=config.session, approves=named, because=because)


def subject_digest(kind: str, issuer: str, subject: str) -> str:
    """What a subject is known by: its kind ("user" or "service") and both texts, so that no two are ever one.

    SHA-256, hex, of the three with line ends between, which neither a kind nor an issuer has.
    """
    return hashlib.sha256(f"{kind}\n{issuer}\n{subject}".encode()).hexdigest()


def names_for(provider: str, wanted: str, digest: str) -> Iterator[str]:
    """Names for a subject, the best first: what it is called, then with more and more of its digest.

    Each is letters, digits and . _ -, then "@" and the provider; the last has enough digits to be nobody else's.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-._")[:NAME_MAX].rstrip("-._")
    if plain and plain == wanted and _NAME.fullmatch(plain):
        yield f"{plain}@{provider}"
    for digits in (8, 12, 14):
        stem = f"{plain[: NAME_MAX - 1]}-" if plain else ""
        yield f"{stem}{digest[:digits]}@{provider}"
    yield f"{digest[:43]}@{provider}"


def _fits_any(value: Any, patterns: Sequence[str]) -> bool:
    values = value if isinstance(value, list) else [value]
    texts = [text for text in map(text_of, values) if text is not None]
    return any(fits(pattern, text) for pattern in patterns for text in texts)


def _told(claims: Mapping[str, Any], rule: AllowRule) -> Iterator[str]:
    for name in rule.match:
        value = claim_at(claims, name)
        values = value if isinstance(value, list) else [value]
        yield from (f"{name}={text}"[:200] for text in map(text_of, values[:5]) if text is not None)


def _moment(claims: Mapping[str, Any], name: str) -> float:
    """Seconds since 1970 as a claim says them. Raises: IdentityRefused."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -TIME_MAX < value < TIME_MAX:
        raise IdentityRefused("form", f"the identity token has no time as {name}")
    return value
