"""Where somebody comes in who is not known yet: the providers of `[access]`, and what follows from their word.

The one place of a server process that asks providers; the routes (`login.py`) hand it what was sent, and it gives a
session or a refusal. What it decides by is `governance/claims.py`, what it writes `governance/sessions.py`.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from noria import plugins
from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.governance import sessions
from noria.governance.claims import (
    Grant,
    IdentityRefused,
    Issuer,
    claim_at,
    granted,
    issuer_said,
    login_of,
    require_current,
    require_login,
)
from noria.governance.facts import LoginRefused
from noria.governance.sessions import Refusals, Subject
from noria.governance.tokens import NewToken
from noria.identities import LoginConfig
from noria.store.workspace import Workspace

__all__ = ["LOGIN_S", "Begun", "CommandLine", "Desk", "Entered"]

LOGIN_S = 600
"""How long a login may take, from the button to the way back."""
CODE_S = 120
"""How long the code is good that a command line is handed."""
CODES = "login-code/"
"""What the leases are called that hold what a code of a command line stands for."""
_TOKEN43 = re.compile(r"[A-Za-z0-9_-]{43}")
_STATE = re.compile(r"[A-Za-z0-9_-]{16,128}")
_CODE = re.compile(r"[\x20-\x7e]{1,2048}")


@frozen(kw_only=True)
class CommandLine:
    """A command line that waits on this port of its own machine: its state, and the SHA-256 of its secret (PKCE)."""

    port: int
    state: str
    challenge: str


@frozen(kw_only=True)
class Begun:
    """A login that began in a browser, as its cookie holds it. `secret` is 32 random bytes, in base64url.

    State, nonce and verifier follow from all of it, so nothing in the cookie can be exchanged, and the server
    keeps nothing of logins that nobody finishes.
    """

    provider: str
    at: int
    secret: str
    next: str
    command_line: CommandLine | None = None

    def cookie(self) -> str:
        """The value of the cookie."""
        return _encoded(json.dumps(dataclasses.asdict(self), separators=(",", ":")).encode())

    def derived(self, what: str) -> str:
        """The "state", "nonce" or "verifier" of this login: 43 characters of base64url."""
        return _encoded(hashlib.sha256(f"{what}\n{self.cookie()}".encode()).digest())


@frozen(kw_only=True)
class Entered:
    """A login that went well: the session of a browser, or the code that its command line is handed."""

    begun: Begun
    holder: str
    session: NewToken | None = None
    code: str = ""


class Desk:
    """The providers of one server process. Thread safe; a provider is first asked when it is needed."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._access = ws.project.access
        make = plugins.load("issuer", "oidc")
        self._people: Mapping[str, Issuer] = {
            name: make(each.issuer, each.hosts) for name, each in self._access.login.items()
        }
        self._machines: Mapping[str, Issuer] = {
            name: make(each.issuer, each.hosts) for name, each in self._access.workload.items()
        }
        self._refusals = Refusals()

    @property
    def providers(self) -> Sequence[str]:
        """The names of those that people log in with."""
        return sorted(self._people)

    def address(self, begun: Begun) -> str:
        """Where the browser goes to log in. Raises: NotFound; ProviderUnavailable."""
        config = self._login(begun.provider)
        verifier = hashlib.sha256(begun.derived("verifier").encode("ascii")).digest()
        return self._people[begun.provider].authorization_url(
            {
                "response_type": "code",
                "client_id": config.client_id,
                "redirect_uri": self._callback,
                "scope": " ".join(config.scopes),
                "state": begun.derived("state"),
                "nonce": begun.derived("nonce"),
                "code_challenge": _encoded(verifier),
                "code_challenge_method": "S256",
            }
        )

    def enter(self, cookie: str, answer: Mapping[str, str]) -> Entered:
        """Finish a login with what the provider sent the browser back with.

        Raises: IdentityRefused; ProviderUnavailable; StoreUnavailable.
        """
        begun: Begun | None = None
        who: Subject | None = None
        way = "browser"
        try:
            begun = self._begun(cookie, answer.get("state", ""))
            way = "command line" if begun.command_line else "browser"
            claims = self._claims(begun, answer)
            config = self._login(begun.provider)
            who = _person(begun.provider, config, claims)
            grant = login_of(claims, config)
            used = sessions.once("login", begun.derived("state"))
            if begun.command_line is None:
                made = sessions.open_session(self._ws, who, grant, way=way, used=used)
                return Entered(begun=begun, holder=made.holder, session=made)
            return Entered(begun=begun, holder=who.wanted or "you", code=self._code(begun, who, grant, used))
        except IdentityRefused as error:
            self._refused(f"login/{begun.provider}" if begun else "login", way, error, who)
            raise

    def redeem(self, code: str, verifier: str) -> NewToken:
        """The session of a command line, for the code that its browser brought it. Raises: IdentityRefused."""
        digest = sessions.once("code", code)
        held = {each.name: each for each in self._ws.jobs.leases(CODES + digest)}.get(CODES + digest)
        data: Mapping[str, Any] = held.data if held is not None and held.is_live else {}
        challenge = _encoded(hashlib.sha256(verifier.encode()).digest())
        try:
            if not data or not hmac.compare_digest(challenge, str(data["challenge"])):
                raise IdentityRefused("code", "the code is wrong or over", hint="noria login again")
            who, grant = Subject(**data["who"]), _grant(data["grant"])
            return sessions.open_session(self._ws, who, grant, way="command line", used=str(data["used"]))
        except IdentityRefused as error:
            self._refused("login", "command line", error, None)
            raise

    def exchange(self, token: str, asked: Sequence[str]) -> NewToken:
        """A session for a machine, for the identity token of its platform.

        Args: asked: scopes that it wants no more than; none for all that its rule gives.
        Raises: IdentityRefused; UsageError for scopes; ProviderUnavailable.
        """
        origin, who = "workload", None
        try:
            issuer = issuer_said(token)
            name = next((name for name, each in self._access.workload.items() if each.issuer == issuer), "")
            if not name:
                raise IdentityRefused("issuer", "no workload is trusted that has this issuer")
            origin, config = f"workload/{name}", self._access.workload[name]
            claims = self._machines[name].verify(token, config.audience)
            require_current(claims, self._ws.clock.now().timestamp())
            subject = str(claims["sub"])
            who = Subject(kind="service", provider=name, issuer=issuer, subject=subject, wanted=subject)
            grant = granted(claims, config)
            grant = dataclasses.replace(grant, scopes=tuple(sessions.narrowed(grant, asked)))
            identity = claims.get("jti")
            used = sessions.once(issuer, "jti", identity) if isinstance(identity, str) and identity else ""
            used = used or sessions.once(issuer, "token", token.rpartition(".")[0])
            return sessions.open_session(self._ws, who, grant, way="exchange", used=used if config.once else "")
        except IdentityRefused as error:
            self._refused(origin, "exchange", error, who)
            raise

    def leave(self, token: str) -> bool:
        """End a session by the id of its token; False if it is none."""
        return sessions.close(self._ws, token)

    @property
    def _callback(self) -> str:
        return f"{self._access.url.rstrip('/')}/callback"

    def _login(self, provider: str) -> LoginConfig:
        found = self._access.login.get(provider)
        if found is None:
            raise NotFound(f"nobody logs in with {provider[:40]!r}", hint=f"one of: {', '.join(self.providers)}")
        return found

    def _begun(self, cookie: str, state: str) -> Begun:
        """The login that a browser began, if it is the one that comes back. Raises: IdentityRefused."""
        begun = _decoded(cookie)
        if begun is None or not hmac.compare_digest(begun.derived("state").encode(), state.encode()):
            raise IdentityRefused("state", "this browser did not begin this login", hint="begin again at /login")
        age = self._ws.clock.now().timestamp() - begun.at
        if not -1 <= age <= LOGIN_S or begun.provider not in self._access.login:
            raise IdentityRefused("late", "this login took too long", hint="begin again at /login")
        return begun

    def _claims(self, begun: Begun, answer: Mapping[str, str]) -> Mapping[str, Any]:
        """What the provider says of who logs in, verified. Raises: IdentityRefused; ProviderUnavailable."""
        config = self._login(begun.provider)
        if answer.get("iss", config.issuer) != config.issuer:  # RFC 9207: an answer of another provider
            raise IdentityRefused("issuer", "the answer is of another provider")
        said = answer.get("error", "")
        if said:
            word = said if re.fullmatch(r"[a-z_]{1,40}", said) else "an error"
            raise IdentityRefused("provider", f"the provider did not let you in: {word}")
        if _CODE.fullmatch(answer.get("code", "")) is None:
            raise IdentityRefused("code", "the provider sent no code")
        secret = sessions.secret_of(
            self._ws.project, config.client_secret, f"access.login.{begun.provider}.client_secret"
        )
        fields = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": self._callback,
            "code_verifier": begun.derived("verifier"),
        }
        issuer = self._people[begun.provider]
        claims = issuer.verify(issuer.redeem(fields, config.client_id, secret), config.client_id)
        require_current(claims, self._ws.clock.now().timestamp())
        require_login(claims, config.client_id, begun.derived("nonce"))
        return claims

    def _code(self, begun: Begun, who: Subject, grant: Grant, used: str) -> str:
        """A code that stands for the login, for the command line that began it. It is kept as its digest."""
        assert begun.command_line is not None, "a code is for a command line"
        code = begun.derived("code")
        held = {"who": dataclasses.asdict(who), "grant": dataclasses.asdict(grant)}
        data = {**json.loads(json.dumps(held)), "challenge": begun.command_line.challenge, "used": used}
        self._ws.jobs.forget(CODES)
        self._ws.jobs.acquire(CODES + sessions.once("code", code), owner="login", ttl_s=CODE_S, data=data)
        return code

    def _refused(self, origin: str, way: str, error: IdentityRefused, who: Subject | None) -> None:
        told = LoginRefused(
            origin=origin,
            way=way,
            reason=error.reason,
            told=error.message[:300],
            identity=who.digest if who is not None else "",
        )
        self._refusals.tell(self._ws, told)


def command_line(port: str, state: str, challenge: str) -> CommandLine:
    """What a command line says of itself. Raises: IdentityRefused."""
    is_port = port.isascii() and port.isdigit() and len(port) < 6 and 1024 <= int(port) <= 65535
    if not is_port or _STATE.fullmatch(state) is None or _TOKEN43.fullmatch(challenge) is None:
        raise IdentityRefused("form", "this is no login of a command line", hint="noria login URL")
    return CommandLine(port=int(port), state=state, challenge=challenge)


def _person(provider: str, config: LoginConfig, claims: Mapping[str, Any]) -> Subject:
    wanted = claim_at(claims, config.name)
    if not isinstance(wanted, str) or (config.name == "email" and claims.get("email_verified") is not True):
        wanted = ""
    return Subject(
        kind="user", provider=provider, issuer=config.issuer, subject=str(claims["sub"]), wanted=wanted[:200]
    )


def _grant(data: Mapping[str, Any]) -> Grant:
    lists = {name: tuple(data[name]) for name in ("scopes", "approves", "because")}
    return Grant(role=str(data["role"]), life=str(data["life"]), **lists)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _decoded(cookie: str) -> Begun | None:
    """The login that a cookie holds; None for what this server never wrote."""
    try:
        data = json.loads(base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4)))
        asked = data.pop("command_line")
        again = command_line(str(asked["port"]), asked["state"], asked["challenge"]) if asked else None
        found = Begun(**data, command_line=again)
        sound = isinstance(found.at, int) and all(isinstance(each, str) for each in (found.provider, found.next))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, IdentityRefused):
        return None
    return found if sound and found.cookie() == cookie else None
