"""OpenID Connect: a provider's document, its keys, and whether it signed a token. Signatures are PyJWT's work.

Which keys there are is asked of the configured issuer alone: what a token's own head says of keys (`jku`, `x5u`,
`jwk`, `x5c`) is never looked at. Only asymmetric algorithms count, and each only with a key of its own kind, so
that a public key can never be taken for a shared secret.

Source: OpenID Connect Discovery 1.0 §4; Core 1.0 §3.1.3; RFC 7517 (JWK); RFC 8725 §3.1 (algorithms).
"""

from __future__ import annotations

import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.errors import ConfigError
from noria.core.frozen import slotted
from noria.core.lazy import lazy
from noria.engines.identity.fetch import Fetch, hosts_of
from noria.governance.claims import CLAIMS, TOKEN_MAX, IdentityRefused, ProviderUnavailable

if TYPE_CHECKING:
    import jwt
else:
    jwt = lazy("jwt")

__all__ = ["ALGORITHMS", "OidcIssuer"]

ALGORITHMS: Mapping[str, tuple[str, str]] = {
    **{f"{family}{bits}": ("RSA", "") for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""What a signature may be made with, and the kind and curve of key that each takes."""
RSA_BITS_MIN = 2048
KEYS_MAX = 100
TRIED_MAX = 4
FRESH_S = 3600.0
"""How long keys are taken as the provider's without asking again."""
STALE_S = 86_400.0
"""How long they are still taken while the provider does not answer."""
AGAIN_S = 30.0
"""How soon a provider is asked again for a key that it did not name, or after it did not answer."""


@slotted
class _Known:
    """What was last learnt of a provider. `at` and `tried` are monotonic seconds."""

    document: Mapping[str, Any]
    keys: Sequence[Mapping[str, Any]]
    at: float


class OidcIssuer:
    """One provider, known by its issuer. Thread safe; several threads wait for one question to it."""

    def __init__(
        self,
        issuer: str,
        hosts: Sequence[str] = (),
        *,
        seconds: Callable[[], float] = time.monotonic,
        fetch: Fetch | None = None,
    ) -> None:
        """Args: hosts: more hosts than the issuer's own that may be asked. Raises: ConfigError without PyJWT."""
        self.require_installed()
        self.issuer = issuer
        self._fetch = fetch or Fetch(hosts_of([issuer], hosts))
        self._seconds = seconds
        self._known: _Known | None = None
        self._tried = float("-inf")
        self._lock = threading.Lock()

    @staticmethod
    def require_installed() -> None:
        """Raises: ConfigError where PyJWT is missing."""
        try:
            _ = jwt.PyJWK
        except ImportError as error:
            raise ConfigError("[access] needs PyJWT, which is not here", hint="pip install 'noria[oidc]'") from error

    def verify(self, token: str, audience: str) -> Mapping[str, Any]:
        """The claims of a token that this issuer signed for an audience; says nothing of its times.

        Raises: IdentityRefused; ProviderUnavailable.
        """
        if len(token) > TOKEN_MAX:
            raise IdentityRefused("size", f"the identity token is longer than {TOKEN_MAX} characters")
        head = _head(token)
        candidates = self._keys(head.get("kid"), head["alg"])
        for key in candidates[:TRIED_MAX]:
            found = self._decoded(token, key, head["alg"], audience)
            if found is not None:
                return found
        if candidates:
            raise IdentityRefused("signature", "the identity token is not signed by its issuer")
        raise IdentityRefused("key", "the identity token is signed by a key that its issuer does not name")

    def authorization_url(self, parameters: Mapping[str, str]) -> str:
        """Where a browser goes to log in. Raises: ProviderUnavailable."""
        url = self._endpoint("authorization_endpoint")
        return f"{url}{'&' if '?' in url else '?'}{urllib.parse.urlencode(parameters)}"

    def redeem(self, parameters: Mapping[str, str], client_id: str, client_secret: str) -> str:
        """The identity token for an authorization code. Raises: IdentityRefused; ProviderUnavailable."""
        ways = self._learnt().document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        fields = {**parameters, "client_id": client_id}
        basic = None
        if client_secret and "client_secret_post" in ways:  # in a header providers disagree how it is encoded
            fields["client_secret"] = client_secret
        elif client_secret:
            basic = (client_id, client_secret)
        status, answer = self._fetch.post(self._endpoint("token_endpoint"), fields, basic)
        if status != 200:
            said = answer.get("error")
            word = said if isinstance(said, str) and said.isascii() and said.replace("_", "").isalpha() else str(status)
            if word == "invalid_client":
                raise ProviderUnavailable("the provider does not know this server", hint="see client_id, client_secret")
            raise IdentityRefused("code", f"the provider refuses the code of this login: {word[:40]}")
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderUnavailable("the provider gave no identity token", hint='scopes must hold "openid"')
        return token

    def _decoded(self, token: str, key: Mapping[str, Any], algorithm: str, audience: str) -> Mapping[str, Any] | None:
        """The claims; None if this key did not sign it. Times are looked at elsewhere, by the workspace's clock."""
        options = {"require": sorted(CLAIMS), "verify_exp": False, "verify_nbf": False, "verify_iat": False}
        try:
            public = jwt.PyJWK(dict(key), algorithm)
            decode: Any = jwt.decode
            found: Mapping[str, Any] = decode(
                token, public, algorithms=[algorithm], audience=audience, issuer=self.issuer, options=options
            )
        except (jwt.InvalidSignatureError, jwt.InvalidKeyError, jwt.PyJWKError):
            return None
        except jwt.InvalidIssuerError as error:
            raise IdentityRefused("issuer", "the identity token is of another issuer") from error
        except jwt.InvalidAudienceError as error:
            raise IdentityRefused("audience", "the identity token was made for another audience") from error
        except jwt.MissingRequiredClaimError as error:
            raise IdentityRefused("form", f"the identity token lacks {error.claim}") from error
        except jwt.PyJWTError as error:
            raise IdentityRefused("form", f"the identity token cannot be read: {type(error).__name__}") from error
        return found

    def _keys(self, kid: Any, algorithm: str) -> list[Mapping[str, Any]]:
        """The keys that may have signed; asks again, not too often, where none of those known can have."""
        known = self._learnt()
        found = _suitable(known.keys, kid, algorithm)
        if found or not isinstance(kid, str):
            return found
        return _suitable(self._learnt(newer_than=known.at).keys, kid, algorithm)

    def _endpoint(self, name: str) -> str:
        found = self._learnt().document.get(name)
        if not isinstance(found, str):
            raise ProviderUnavailable(f"the provider names no {name}", where=self.issuer)
        return self._fetch.require_allowed(found)

    def _learnt(self, newer_than: float = float("-inf")) -> _Known:
        """What the provider says, fresh enough; with `newer_than` asked for again if that is not too soon."""
        with self._lock:
            now, known = self._seconds(), self._known
            if known is not None and known.at > newer_than and now - known.at < FRESH_S:
                return known
            if now - self._tried < AGAIN_S:
                if known is None or now - known.at >= STALE_S:
                    raise ProviderUnavailable("the provider did not answer a moment ago", where=self.issuer)
                return known
            self._tried = now
            try:
                self._known = known = self._asked(now)
            except ProviderUnavailable:
                if known is None or now - known.at >= STALE_S:
                    raise
            return known

    def _asked(self, now: float) -> _Known:
        document = self._fetch.get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != self.issuer:
            said = str(document.get("issuer"))[:120]
            hint = "issuer must be the same text, to the last slash"
            raise ProviderUnavailable(f"the provider calls itself {said!r}, not {self.issuer!r}", hint=hint)
        address = document.get("jwks_uri")
        if not isinstance(address, str):
            raise ProviderUnavailable("the provider names no jwks_uri", where=self.issuer)
        keys = self._fetch.get(address).get("keys")
        if not isinstance(keys, list) or len(keys) > KEYS_MAX:
            raise ProviderUnavailable("the provider's keys are no list of keys", where=self.issuer)
        return _Known(document, [each for each in keys if isinstance(each, dict)], now)


def _head(token: str) -> Mapping[str, Any]:
    """The head of a token that may be verified at all. Raises: IdentityRefused."""
    try:
        head = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise IdentityRefused("form", "this is no signed identity token") from error
    algorithm = head.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise IdentityRefused("algorithm", "the identity token is signed in a way that is not taken")
    if "crit" in head or str(head.get("typ") or "JWT").lower() != "jwt":
        raise IdentityRefused("form", "this is a token of another kind than an identity token")
    return head


def _suitable(keys: Sequence[Mapping[str, Any]], kid: Any, algorithm: str) -> list[Mapping[str, Any]]:
    """The keys of that id that are for such signatures; without an id the only one, if it is one."""
    kind, curve = ALGORITHMS[algorithm]
    found = [
        each
        for each in keys
        if each.get("kty") == kind
        and each.get("use", "sig") == "sig"
        and each.get("alg", algorithm) == algorithm
        and (not curve or each.get("crv") == curve)
        and (kind != "RSA" or _bits(each.get("n")) >= RSA_BITS_MIN)
    ]
    if kid is None:
        return found if len(found) == 1 else []
    return [each for each in found if each.get("kid") == kid]


def _bits(modulus: Any) -> int:
    """About how many bits an RSA modulus in base64url has: at most seven too many."""
    return len(modulus.rstrip("=")) * 6 if isinstance(modulus, str) else 0
