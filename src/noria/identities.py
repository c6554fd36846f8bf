"""`[access]`: whose word a server takes for who somebody is, and what role follows from it.

A provider is trusted by the exact text of its issuer. What no rule lets in is not let in. Values here are what
noria.toml says, parsed; whether it makes sense is said by `require_sound`, and what follows from it is decided in
`governance/claims.py`. No secret stands here: `client_secret` names where one is.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from noria.core.clock import duration
from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import difflib
else:
    difflib = lazy("difflib")

__all__ = [
    "MACHINE_ROLES",
    "ROLES_BY_LOGIN",
    "AccessConfig",
    "AllowRule",
    "LoginConfig",
    "WorkloadConfig",
    "is_loopback_host",
    "require_sound",
]

MACHINE_ROLES = ("viewer", "editor")
"""What a machine can be by its platform's word alone: it never approves, and never gives roles to others."""
ROLES_BY_LOGIN = ("viewer", "editor", "approver", "admin")
TTL_MAX = "1h"
SESSION_MAX = "24h"
_PROVIDER = re.compile(r"[a-z][a-z0-9-]{0,19}")
_SECRET = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)")
_NAMED_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@frozen(kw_only=True)
class AllowRule:
    """`[[access.workload.NAME.allow]]`: what the claims of a machine's token must be, and what it then gets.

    `match` maps a claim to patterns of which one has to fit: `*` stands for anything but "/" and ":", `**` for
    anything. `ttl` is how long the token is good that the machine is given.
    """

    match: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    role: str = "viewer"
    scopes: tuple[str, ...] = ()
    ttl: str = "15m"


@frozen(kw_only=True)
class WorkloadConfig:
    """`[access.workload.NAME]`: a platform whose jobs change their identity token for one of Noria's.

    `audience` is what their tokens must be made for. `hosts` are further hosts of the provider, beside the
    issuer's own, that may be asked for its keys. With `once` each token is taken once. Of the rules of `allow` the
    first that fits counts.
    """

    issuer: str = ""
    audience: str = ""
    hosts: tuple[str, ...] = ()
    once: bool = True
    allow: tuple[AllowRule, ...] = ()


@frozen(kw_only=True)
class LoginConfig:
    """`[access.login.NAME]`: a provider that people log in with.

    `client_secret` is "env:NAME" or "file:PATH", or empty for a client without one. `claim` is where the identity
    token says groups ("groups", "realm_access.roles"), and `roles` which of them have which role; the highest
    counts. `approves` maps a named role of a policy to the groups whose approvers may approve in it. `name` is the
    claim that people are called by, `session` how long a login lasts.
    """

    issuer: str = ""
    client_id: str = ""
    client_secret: str = ""
    hosts: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ("openid", "profile")
    claim: str = "groups"
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    approves: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = "preferred_username"
    session: str = "8h"


@frozen(kw_only=True)
class AccessConfig:
    """`[access]`: `url` is the address that people reach the server by; `login` and `workload` are providers."""

    url: str = ""
    login: Mapping[str, LoginConfig] = field(default_factory=dict)
    workload: Mapping[str, WorkloadConfig] = field(default_factory=dict)

    @property
    def has_providers(self) -> bool:
        """Whether anybody else is believed who somebody is: then a server asks everybody."""
        return bool(self.login or self.workload)

    @property
    def origins(self) -> frozenset[str]:
        """What the tokens are called that these providers may bring about."""
        return frozenset((*(f"login/{each}" for each in self.login), *(f"workload/{each}" for each in self.workload)))


def require_sound(found: AccessConfig) -> None:
    """Raises: ValueError with the key that is wrong; a second argument is a hint."""
    for table, names in (("login", found.login), ("workload", found.workload)):
        for name in names:
            if _PROVIDER.fullmatch(name) is None:
                raise ValueError(f"[access.{table}.{name}] is no name of a provider", "a-z, 0-9 and -, at most 20")
    issuers = [each.issuer for each in found.workload.values()]
    for name, workload in found.workload.items():
        path = f"access.workload.{name}"
        _require_issuer(workload.issuer, path)
        if not workload.audience:
            raise ValueError(f"[{path}] has no audience", "what tokens must be made for, such as the server's address")
        if issuers.count(workload.issuer) > 1:
            raise ValueError(f"[{path}] has the issuer of another workload", "put the rules into one table")
        for number, rule in enumerate(workload.allow, 1):
            _require_rule(rule, f"{path}.allow, rule {number}")
    for name, login in found.login.items():
        _require_login(login, f"access.login.{name}")
    if found.login or found.url:
        _require_url(found.url)


def is_loopback_host(host: str) -> bool:
    """Whether a host, as a URL has it, is this machine and nothing else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _require_issuer(issuer: str, path: str) -> None:
    parts = _split(issuer, f"{path}.issuer")
    if parts.query or parts.fragment or "?" in issuer or "#" in issuer:
        raise ValueError(f"{path}.issuer has a query or a fragment, which no issuer has")


def _require_url(url: str) -> None:
    parts = _split(url, "access.url")
    if parts.path.rstrip("/") or parts.query or parts.fragment:
        raise ValueError("access.url is more than scheme, host and port", 'such as "https://noria.example.org"')


def _split(url: str, path: str) -> urllib.parse.SplitResult:
    if not url:
        raise ValueError(f"{path} is missing", 'such as "https://host.example.org"')
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{path} is no address: {error}") from error
    if not host or parts.username is not None or any(ord(each) <= 32 or ord(each) > 126 for each in url):
        raise ValueError(f"{path} is no address with a host, and nothing secret in it")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback_host(host)):
        raise ValueError(f"{path} must begin with https://", "http:// is for this machine only, such as in a test")
    return parts


def _require_rule(rule: AllowRule, path: str) -> None:
    if rule.role not in MACHINE_ROLES:
        raise ValueError(f'{path}: role is "{rule.role}"', f"a machine is {' or '.join(MACHINE_ROLES)}")
    patterns = [pattern for each in rule.match.values() for pattern in each]
    if not patterns or not all(rule.match.values()):
        raise ValueError(f"{path} matches nothing", 'such as match = { repository = "acme/churn" }')
    if all(pattern[:1] in ("*", "?", "") for pattern in patterns):
        raise ValueError(f"{path} matches anybody at that provider", "one pattern must begin with letters")
    _require_length(rule.ttl, TTL_MAX, f"{path}: ttl")


def _require_login(login: LoginConfig, path: str) -> None:
    _require_issuer(login.issuer, path)
    if not login.client_id:
        raise ValueError(f"[{path}] has no client_id", "what the provider calls this server")
    if login.client_secret and _SECRET.fullmatch(login.client_secret) is None:
        raise ValueError(
            f"{path}.client_secret is no reference", '"env:NAME" or "file:PATH"; a secret never stands here'
        )
    if "openid" not in login.scopes:
        raise ValueError(f'{path}.scopes lack "openid"', "without it there is no identity token")
    if not any(login.roles.values()):
        raise ValueError(f"[{path}] gives nobody a role", 'such as roles = { viewer = ["everyone"] }')
    for role in login.roles:
        if role not in ROLES_BY_LOGIN:
            raise ValueError(f"[{path}.roles] has no key {role!r}", _nearest(role, ROLES_BY_LOGIN))
    for named in login.approves:
        if _NAMED_ROLE.fullmatch(named) is None:
            raise ValueError(f"{path}.approves: {named[:60]!r} is no name of a role", "such as ml-lead")
    _require_length(login.session, SESSION_MAX, f"{path}.session")


def _require_length(text: str, most: str, path: str) -> None:
    try:
        length = duration(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not 0 < length.total_seconds() <= duration(most).total_seconds():
        raise ValueError(f"{path} is {text}, not more than nothing and at most {most}")


def _nearest(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(known)}"
