"""An OpenID provider on this machine: Authlib's authorization server, with tokens that joserfc signs.

Neither is what Noria verifies with. Authlib holds the code flow to its rules: the client's secret, the exact
redirect address, one use of a code, PKCE with S256. Whoever asks to log in is `user` at once. What it says can be
bent for tests: other claims, other keys, other answers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import flask
import werkzeug.serving
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from authlib.integrations.flask_oauth2 import AuthorizationServer
    from authlib.oauth2.rfc6749 import grants
    from authlib.oauth2.rfc7636 import CodeChallenge
    from authlib.oidc.core import OpenIDCode, UserInfo

__all__ = ["CLIENT", "SECRET", "Provider", "by_hand", "provider", "sign"]

CLIENT, SECRET = "noria", "the-s3cret.of~the_client"
_spare: list[Key] = []
ALGORITHMS = ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


@dataclass
class Provider:
    """What the provider says, and what it was asked. `user` are the claims of whoever logs in."""

    issuer: str = ""
    keys: dict[str, Key] = field(default_factory=dict)
    signer: str = "k1"
    user: dict[str, Any] = field(default_factory=lambda: {"sub": "4711", "preferred_username": "ann"})
    redirects: list[str] = field(default_factory=list)
    bent: dict[str, Any] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    codes: dict[str, Any] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    def claims(self, **changed: Any) -> dict[str, Any]:
        """What a token of a job says, with changes; None takes a claim away."""
        now = int(time.time())
        plain = {
            "iss": self.issuer, "aud": "https://noria.test", "sub": "repo:acme/churn:ref:refs/heads/main",
            "repository": "acme/churn", "ref": "refs/heads/main", "iat": now, "nbf": now, "exp": now + 300,
            "jti": base64.b64encode(hashlib.sha256(str(time.perf_counter_ns()).encode()).digest()).decode(),
        }  # fmt: skip
        return {name: value for name, value in {**plain, **changed}.items() if value is not None}

    def token(self, algorithm: str = "RS256", **changed: Any) -> str:
        """A signed token of a job."""
        return sign(self.keys[self.signer], self.claims(**changed), algorithm=algorithm, kid=self.signer)


def sign(key: Key, claims: Mapping[str, Any], *, algorithm: str = "RS256", **head: Any) -> str:
    """A token that joserfc signs; a head of None is left out."""
    header = {name: value for name, value in {"alg": algorithm, "typ": "JWT", **head}.items() if value is not None}
    registry = jwt.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joserfc would rather have EdDSA called Ed25519
        return jwt.encode(header, dict(claims), key, registry=registry)


def by_hand(head: Mapping[str, Any], claims: Mapping[str, Any], secret: bytes | None = None) -> str:
    """A token without a signature, or with HMAC-SHA-256 of a secret: what no library makes willingly."""
    text = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
    signature = b"" if secret is None else hmac.new(secret, text.encode(), "sha256").digest()
    return f"{text}.{_encoded(signature)}"


def key_of(kind: str, kid: str) -> Key:
    """A new key: "RSA", "EC", "EC384" or "OKP"."""
    options = {"kid": kid}
    if kind == "RSA":
        return RSAKey.generate_key(2048, options)
    if kind == "OKP":
        return OKPKey.generate_key("Ed25519", options)
    return ECKey.generate_key("P-384" if kind == "EC384" else "P-256", options)


@contextmanager
def provider(**named: Any) -> Iterator[Provider]:
    """A provider that answers on a port of its own for the length of the block, with a key k1 if none are named."""
    with _key() as key:
        yield from _served(Provider(**{"keys": {"k1": key}, **named}))


@contextmanager
def _key() -> Iterator[Key]:
    """A key that no other provider has meanwhile. They are used again: to make one takes a tenth of a second."""
    key = _spare.pop() if _spare else key_of("RSA", "k1")
    yield key
    _spare.append(key)


def _served(state: Provider) -> Iterator[Provider]:
    server = werkzeug.serving.make_server("127.0.0.1", 0, _application(state), threaded=True, request_handler=_Silent)
    state.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Silent(werkzeug.serving.WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""


class _Client:
    """The one application that is registered."""

    client_id = CLIENT

    def __init__(self, state: Provider) -> None:
        self._state = state

    def get_client_id(self) -> str:
        return CLIENT

    def get_default_redirect_uri(self) -> str:
        return ""

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self._state.redirects

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in ("client_secret_basic", "client_secret_post")

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class _Code:
    """An authorization code, until it is used."""

    code: str
    redirect_uri: str
    scope: str
    user: dict[str, Any]
    nonce: str
    code_challenge: str
    code_challenge_method: str

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str:
        return self.nonce

    def get_auth_time(self) -> None:
        return None

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


def _application(state: Provider) -> flask.Flask:
    app = flask.Flask("provider")
    server = AuthorizationServer(app, lambda _: _Client(state), lambda token, request: None)
    server.register_grant(_grant_type(state), [CodeChallenge(required=True), _id_tokens(state)])

    @app.before_request
    def count() -> Any:
        state.asked[flask.request.path] += 1
        return ("away", state.status) if state.status != 200 else None

    @app.get("/.well-known/openid-configuration")
    def document() -> Any:
        return {
            "issuer": state.issuer,
            "authorization_endpoint": f"{state.issuer}/authorize",
            "token_endpoint": f"{state.issuer}/token",
            "jwks_uri": f"{state.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            **state.document,
        }

    @app.get("/jwks")
    def jwks() -> Any:
        return KeySet(list(state.keys.values())).as_dict(private=False)

    @app.get("/authorize")
    def authorize() -> Any:
        if "challenge" in state.bent:  # as if the code came from a login that somebody else began
            arguments = {**flask.request.args, "code_challenge": state.bent["challenge"]}
            flask.request.args = type(flask.request.args)(arguments)
        grant = server.get_consent_grant(end_user=state.user)
        return server.create_authorization_response(grant_user=state.user, grant=grant)

    @app.post("/token")
    def token() -> Any:
        return server.create_token_response()

    return app


def _grant_type(state: Provider) -> Any:
    class CodeGrant(grants.AuthorizationCodeGrant):
        TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]

        def save_authorization_code(self, code: str, request: Any) -> None:
            asked = request.payload
            state.codes[code] = _Code(
                code,
                asked.redirect_uri,
                asked.scope,
                dict(request.user),
                state.bent.get("nonce", asked.data.get("nonce")),
                asked.data.get("code_challenge"),
                asked.data.get("code_challenge_method"),
            )

        def query_authorization_code(self, code: str, client: Any) -> _Code | None:
            return state.codes.get(code)

        def delete_authorization_code(self, authorization_code: _Code) -> None:
            del state.codes[authorization_code.code]

        def authenticate_user(self, authorization_code: _Code) -> dict[str, Any]:
            return authorization_code.user

    return CodeGrant


def _id_tokens(state: Provider) -> Any:
    class Tokens(OpenIDCode):
        def exists_nonce(self, nonce: str, request: Any) -> bool:
            return False

        def resolve_client_private_key(self, client: Any) -> Any:
            return state.keys[state.signer]

        def get_encode_header(self, client: Any) -> dict[str, Any]:
            return {"alg": "RS256", "kid": state.signer}

        def get_client_algorithm(self, client: Any) -> str:
            return "RS256"

        def get_client_claims(self, client: Any) -> dict[str, Any]:
            return {"iss": state.issuer, "exp": 3600}

        def get_compatible_claims(self, request: Any) -> dict[str, Any]:
            now = int(time.time())
            return {"iss": state.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, **state.bent.get("claims", {})}

        def generate_user_info(self, user: dict[str, Any], scope: str) -> Any:
            return UserInfo(**user)

    return Tokens(require_nonce=True)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
