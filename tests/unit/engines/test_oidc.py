"""OpenID Connect against a provider that others wrote: what verifies, and everything that must not."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import RSAKey

from noria.engines.identity import fetch, oidc
from noria.engines.identity.fetch import Fetch
from noria.engines.identity.oidc import OidcIssuer
from noria.governance.claims import IdentityRefused, ProviderUnavailable
from oidc_provider import CLIENT, Provider, by_hand, key_of, provider, sign

AUDIENCE = "https://noria.test"


@pytest.fixture(scope="module")
def served() -> Iterator[Provider]:
    """One provider for the tests that change nothing of it, with a key of each kind."""
    keys = {name: key_of(name, name) for name in ("RSA", "EC", "EC384", "OKP")}
    with provider(keys=keys, signer="RSA") as found:
        yield found


@pytest.fixture
def issuer(served: Provider) -> OidcIssuer:
    """What asks it."""
    return OidcIssuer(served.issuer)


def refused(issuer: OidcIssuer, token: str, audience: str = AUDIENCE) -> str:
    """The reason why a token is not taken."""
    with pytest.raises(IdentityRefused) as error:
        issuer.verify(token, audience)
    assert token not in str(error.value)
    return error.value.reason


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [("RSA", "RS256"), ("RSA", "RS512"), ("RSA", "PS256"), ("EC", "ES256"), ("EC384", "ES384"), ("OKP", "EdDSA")],
)
def test_a_token_that_another_library_signed_verifies(
    served: Provider, issuer: OidcIssuer, key: str, algorithm: str
) -> None:
    claims = served.claims()
    assert issuer.verify(sign(served.keys[key], claims, algorithm=algorithm, kid=key), AUDIENCE) == claims
    assert issuer.verify(
        sign(served.keys[key], {**claims, "aud": ["x", AUDIENCE]}, algorithm=algorithm, kid=key), AUDIENCE
    )


def test_a_token_that_openssl_signed_verifies(tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    with provider(keys={"o": RSAKey.import_key(public.read_text(), {"kid": "o"})}) as found:
        text = ".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
            for part in ({"alg": "RS256", "kid": "o"}, found.claims())
        )
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", private], input=text.encode(), check=True, capture_output=True
        ).stdout
        whole = f"{text}.{base64.urlsafe_b64encode(signed).decode().rstrip('=')}"
        assert OidcIssuer(found.issuer).verify(whole, AUDIENCE)["repository"] == "acme/churn"
        assert refused(OidcIssuer(found.issuer), whole[:-8] + "AAAAAAAA") == "signature"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iss": "http://127.0.0.1:1"}, "issuer"),
        ({"iss": None}, "form"),
        ({"iss": ["x"]}, "issuer"),
        ({"aud": "https://other.test"}, "audience"),
        ({"aud": None}, "form"),
        ({"aud": f"{AUDIENCE}/"}, "audience"),
        ({"aud": [f"x{AUDIENCE}"]}, "audience"),
        ({"aud": {AUDIENCE: 1}}, "audience"),
        ({"exp": None}, "form"),
        ({"iat": None}, "form"),
        ({"sub": None}, "form"),
    ],
)
def test_claims_that_are_wrong_or_missing(
    served: Provider, issuer: OidcIssuer, changed: dict[str, Any], reason: str
) -> None:
    assert refused(issuer, served.token(**changed)) == reason


def test_the_issuer_is_the_same_to_the_last_slash(served: Provider, issuer: OidcIssuer) -> None:
    assert refused(issuer, served.token(iss=served.issuer + "/")) == "issuer"
    with pytest.raises(ProviderUnavailable, match="calls itself"):
        OidcIssuer(served.issuer + "/").verify(served.token(), AUDIENCE)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "HS512", "ES256K", 7, None])
def test_an_algorithm_that_is_not_of_two_keys_is_not_taken(
    served: Provider, issuer: OidcIssuer, algorithm: Any
) -> None:
    token = by_hand({"alg": algorithm, "kid": "RSA", "typ": "JWT"}, served.claims())
    assert refused(issuer, token) in ("algorithm", "form")
    assert refused(issuer, token + "AAAA") in ("algorithm", "form")


def test_the_public_key_is_no_shared_secret(served: Provider, issuer: OidcIssuer) -> None:
    public = served.keys["RSA"]
    forms = [
        public.as_pem(private=False),
        public.as_der(private=False),
        json.dumps(public.as_dict(private=False)).encode(),
    ]
    for form in forms:
        token = by_hand({"alg": "HS256", "kid": "RSA", "typ": "JWT"}, served.claims(), form)
        assert refused(issuer, token) == "algorithm"
        relabelled = by_hand({"alg": "RS256", "kid": "RSA", "typ": "JWT"}, served.claims(), form)
        assert refused(issuer, relabelled) == "signature"


def test_a_key_is_used_for_its_own_kind_only(served: Provider, issuer: OidcIssuer) -> None:
    assert refused(issuer, sign(served.keys["EC"], served.claims(), algorithm="ES256", kid="RSA")) == "key"
    assert refused(issuer, sign(served.keys["RSA"], served.claims(), kid="EC")) == "key"
    assert refused(issuer, sign(served.keys["EC"], served.claims(), algorithm="ES256", kid="EC384")) == "key"


def test_a_payload_that_was_changed_does_not_verify(served: Provider, issuer: OidcIssuer) -> None:
    head, _, signature = served.token().split(".")
    changed = by_hand({}, served.claims(repository="evil/churn")).split(".")[1]
    assert refused(issuer, f"{head}.{changed}.{signature}") == "signature"
    assert refused(issuer, f"{head}.{changed}.") in ("signature", "form")


def test_another_key_under_the_same_id_does_not_verify(served: Provider, issuer: OidcIssuer) -> None:
    assert refused(issuer, sign(key_of("RSA", "RSA"), served.claims(), kid="RSA")) == "signature"


def test_what_a_token_says_of_keys_is_never_asked_for(served: Provider, issuer: OidcIssuer) -> None:
    own = key_of("RSA", "mine")
    with provider(keys={"mine": own}) as evil:
        for head in (
            {"jku": f"{evil.issuer}/jwks"},
            {"x5u": f"{evil.issuer}/cert"},
            {"jwk": own.as_dict(private=False)},
            {"jku": f"{evil.issuer}/jwks", "kid": "mine"},
        ):
            assert refused(issuer, sign(own, served.claims(), **{"kid": "RSA", **head})) in ("signature", "key", "form")
        assert not evil.asked


@pytest.mark.parametrize("head", [{"typ": "at+jwt"}, {"typ": "logout+jwt"}, {"crit": ["exp"], "exp": 1}, {"crit": []}])
def test_a_token_of_another_kind_is_not_taken(served: Provider, issuer: OidcIssuer, head: dict[str, Any]) -> None:
    encoded = by_hand({"alg": "RS256", "kid": "RSA", **head}, served.claims())
    assert refused(issuer, encoded + "AAAA") == "form"


def test_a_token_without_a_type_is_taken(served: Provider, issuer: OidcIssuer) -> None:
    assert issuer.verify(sign(served.keys["RSA"], served.claims(), kid="RSA", typ=None), AUDIENCE)


def test_without_a_key_id_only_a_single_key_will_do(served: Provider) -> None:
    one, two = key_of("RSA", "one"), key_of("RSA", "two")
    with provider(keys={"one": one}, signer="one") as found:
        assert OidcIssuer(found.issuer).verify(sign(one, found.claims(), kid=None), AUDIENCE)
    with provider(keys={"one": one, "two": two}, signer="one") as found:
        assert refused(OidcIssuer(found.issuer), sign(one, found.claims(), kid=None)) == "key"


def test_a_short_key_and_one_for_encryption_are_not_taken() -> None:
    made = rsa.generate_private_key(65537, 1024)  # joserfc and PyJWT would refuse to sign with it
    modulus = made.public_key().public_numbers().n.to_bytes(128)
    told = {"kty": "RSA", "kid": "short", "e": "AQAB", "n": base64.urlsafe_b64encode(modulus).decode().rstrip("=")}
    assert not oidc._suitable([told], "short", "RS256")
    with provider() as found:
        plain = found.keys["k1"].as_dict(private=False)
        assert oidc._suitable([plain], "k1", "RS256")
        assert not oidc._suitable([{**plain, "use": "enc"}], "k1", "RS256")
        assert not oidc._suitable([{**plain, "alg": "RS512"}], "k1", "RS256")


def test_a_token_over_the_limit_costs_nothing(served: Provider, issuer: OidcIssuer) -> None:
    assert refused(issuer, served.token(padding="x" * 20_000)) == "size"


class Seconds:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_new_key_is_asked_for_and_not_more_often_than_it_should() -> None:
    seconds = Seconds()
    with provider() as found:
        issuer = OidcIssuer(found.issuer, seconds=seconds)
        assert issuer.verify(found.token(), AUDIENCE)
        for _ in range(20):
            assert issuer.verify(found.token(), AUDIENCE)
        assert found.asked["/jwks"] == 1, "keys are kept"

        old = found.keys.pop("k1")
        found.keys["k2"], found.signer = key_of("RSA", "k2"), "k2"
        assert refused(issuer, found.token()) == "key", "asked a moment ago"
        assert found.asked["/jwks"] == 1
        seconds.now += oidc.AGAIN_S
        assert issuer.verify(found.token(), AUDIENCE)
        assert found.asked["/jwks"] == 2
        assert refused(issuer, sign(old, found.claims(), kid="k1")) == "key", "what the provider took back is over"

        for number in range(50):
            assert refused(issuer, sign(old, found.claims(), kid=f"made-up-{number}")) == "key"
        assert found.asked["/jwks"] == 2, "made-up keys do not make it ask"
        seconds.now += oidc.AGAIN_S
        for number in range(50):
            assert refused(issuer, sign(old, found.claims(), kid=f"made-up-{number}")) == "key"
        assert found.asked["/jwks"] == 3


def test_a_provider_that_is_away_says_so_and_known_keys_go_on_for_a_day() -> None:
    seconds = Seconds()
    with provider() as found:
        issuer = OidcIssuer(found.issuer, seconds=seconds)
        found.status = 503
        with pytest.raises(ProviderUnavailable, match="answers 503"):
            issuer.verify(found.token(), AUDIENCE)
        with pytest.raises(ProviderUnavailable, match="a moment ago"):
            issuer.verify(found.token(), AUDIENCE)
        found.status = 200
        seconds.now += oidc.AGAIN_S
        assert issuer.verify(found.token(), AUDIENCE)
        found.status = 503
        seconds.now += oidc.STALE_S - 1
        assert issuer.verify(found.token(), AUDIENCE)
        seconds.now += 2
        with pytest.raises(ProviderUnavailable):
            issuer.verify(found.token(), AUDIENCE)
        assert ProviderUnavailable.status == 503
        assert ProviderUnavailable("").is_retry_safe
    with pytest.raises(ProviderUnavailable, match="does not answer"):
        OidcIssuer(found.issuer).verify(found.token(), AUDIENCE)


def test_many_threads_ask_once() -> None:
    with provider() as found:
        issuer, token, done = OidcIssuer(found.issuer), found.token(), []
        threads = [threading.Thread(target=lambda: done.append(issuer.verify(token, AUDIENCE))) for _ in range(16)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(done) == 16
        assert found.asked["/jwks"] == 1


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"issuer": "https://other.test"}, "calls itself"),
        ({"jwks_uri": "http://169.254.169.254/latest/meta-data"}, "which noria.toml does not"),
        ({"jwks_uri": "http://localhost:1/jwks"}, "which noria.toml does not"),
        ({"jwks_uri": "file:///etc/passwd"}, "which noria.toml does not"),
        ({"jwks_uri": "https://user@127.0.0.1/jwks"}, "which noria.toml does not"),
        ({"jwks_uri": "http://[::1"}, "an address that is none"),
        ({"jwks_uri": None}, "names no jwks_uri"),
        ({"jwks_uri": ["x"]}, "names no jwks_uri"),
    ],
)
def test_a_document_that_leads_elsewhere_is_not_followed(document: dict[str, Any], said: str) -> None:
    with provider() as found:
        found.document = document
        with pytest.raises(ProviderUnavailable, match=said):
            OidcIssuer(found.issuer).verify(found.token(), AUDIENCE)


def test_endpoints_of_other_hosts_are_not_asked_and_listed_ones_are() -> None:
    with provider() as found:
        found.document = {"authorization_endpoint": "https://elsewhere.test/authorize", "token_endpoint": "ftp://x/"}
        with pytest.raises(ProviderUnavailable, match="elsewhere"):
            OidcIssuer(found.issuer).authorization_url({"a": "b"})
        url = OidcIssuer(found.issuer, ["elsewhere.test"]).authorization_url({"a": "b c"})
        assert url == "https://elsewhere.test/authorize?a=b+c"
        with pytest.raises(ProviderUnavailable):
            OidcIssuer(found.issuer).redeem({"code": "x"}, CLIENT, "s")


def test_plain_http_goes_to_this_machine_only() -> None:
    for url in ("http://sso.test/x", "http://10.0.0.1/x", "http://127.0.0.1.evil.test/x"):
        host = url.split("/")[2]
        with pytest.raises(ProviderUnavailable, match="without https"):
            Fetch(frozenset({host})).get(url)


@contextmanager
def answering(handler: Any) -> Iterator[str]:
    """A server of one answer; gives its address."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            handler(self)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_no_redirect_is_followed() -> None:
    with provider() as other:

        def redirect(request: Any) -> None:
            request.send_response(302)
            request.send_header("location", f"{other.issuer}/jwks")
            request.send_header("content-length", "0")
            request.end_headers()

        with answering(redirect) as url, pytest.raises(ProviderUnavailable, match="answers 302"):
            OidcIssuer(url).verify(other.token(iss=url), AUDIENCE)
        assert not other.asked


@pytest.mark.parametrize("body", [b"[]", b"x", b"{", b"\xff", b"[" * 50_000, b'{"a":"' + b"x" * 300_000 + b'"}', b""])
def test_an_answer_that_is_no_providers_is_refused(body: bytes) -> None:
    def answer(request: Any) -> None:
        request.send_response(200)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        try:
            request.wfile.write(body)
        except OSError:
            request.close_connection = True  # who asked has read enough

    with answering(answer) as url, pytest.raises(ProviderUnavailable):
        Fetch(frozenset({"127.0.0.1"})).get(f"{url}/x")


def test_a_provider_that_drips_is_cut_off() -> None:
    stop = threading.Event()

    def drip(request: Any) -> None:
        request.send_response(200)
        request.end_headers()
        while not stop.wait(0.02):
            try:
                request.wfile.write(b" ")
            except OSError:
                return

    with answering(drip) as url:
        try:
            with pytest.raises(ProviderUnavailable):
                Fetch(frozenset({"127.0.0.1"}), timeout_s=0.3).get(f"{url}/x")
        finally:
            stop.set()


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days",
         "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def once() -> None:
            plain, _ = listening.accept()
            with plain:
                try:
                    context.wrap_socket(plain, server_side=True).close()
                except (ssl.SSLError, OSError):
                    return

        thread = threading.Thread(target=once)
        thread.start()
        with pytest.raises(ProviderUnavailable, match="SSLCertVerificationError"):
            Fetch(frozenset({"127.0.0.1"})).get(f"https://127.0.0.1:{listening.getsockname()[1]}/x")
        thread.join()


def test_the_secret_goes_where_the_provider_wants_it(served: Provider) -> None:
    assert fetch.hosts_of([served.issuer], ["A.test"]) == {"127.0.0.1", "a.test"}
    for ways in (["client_secret_basic"], ["client_secret_post"], None):
        with provider() as found:
            found.document = {"token_endpoint_auth_methods_supported": ways} if ways else {}
            with pytest.raises(IdentityRefused) as error:
                OidcIssuer(found.issuer).redeem(
                    {"grant_type": "authorization_code", "code": "x"}, CLIENT, "the-s3cret.of~the_client"
                )
            assert error.value.reason == "code"
            with pytest.raises(ProviderUnavailable, match="does not know this server"):
                OidcIssuer(found.issuer).redeem({"grant_type": "authorization_code", "code": "x"}, CLIENT, "wrong")
