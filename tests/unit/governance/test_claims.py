"""Claims of identity tokens: what fits, what is refused, who has which role, and under which name."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.governance import claims
from noria.governance.claims import Grant, IdentityRefused
from noria.identities import AllowRule, LoginConfig, WorkloadConfig

NOW = 1_800_000_000
HOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def token(**changed: Any) -> dict[str, Any]:
    """Claims of a job, with changes."""
    plain = {
        "sub": "repo:acme/churn:ref:refs/heads/main", "repository": "acme/churn", "ref": "refs/heads/main",
        "iat": NOW, "exp": NOW + 300, "run_attempt": 2, "protected": True, "kubernetes.io": {"namespace": "ml"},
    }  # fmt: skip
    return {name: value for name, value in {**plain, **changed}.items() if value is not None}


def workload(*rules: dict[str, Any], role: str = "editor") -> WorkloadConfig:
    """A workload with a rule for each mapping of claims to patterns."""
    made = tuple(AllowRule(match={name: (pattern,) for name, pattern in each.items()}, role=role) for each in rules)
    return WorkloadConfig(issuer="https://ci.test", audience="a", allow=made)


@pytest.mark.parametrize(
    ("pattern", "text", "fitting"),
    [
        ("acme/churn", "acme/churn", True),
        ("acme/churn", "acme/churn2", False),
        ("acme/churn", "xacme/churn", False),
        ("acme/*", "acme/churn", True),
        ("acme/*", "acme/churn/deep", False),
        ("acme/**", "acme/churn/deep", True),
        ("acme/*", "evil/acme/churn", False),
        ("repo:acme/*:ref:refs/heads/main", "repo:acme/churn:ref:refs/heads/main", True),
        ("repo:acme/*:ref:refs/heads/main", "repo:acme/x:environment:y:ref:refs/heads/main", False),
        ("v?", "v1", True),
        ("v?", "v/", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("main", "main\n", False),
        ("**", "a\nb", True),
    ],
)
def test_a_pattern_is_of_the_whole_text_and_a_star_stops_at_a_separator(pattern: str, text: str, fitting: bool) -> None:
    assert claims.fits(pattern, text) is fitting


@given(st.text(), st.text())
def test_a_pattern_without_wildcards_is_equality(pattern: str, text: str) -> None:
    plain = pattern.replace("*", "+").replace("?", "!")
    assert claims.fits(plain, text) == (plain == text)
    assert claims.fits(plain, plain)


@given(st.lists(st.text(alphabet="ab/:*?.\n", max_size=6), max_size=4), st.text(alphabet="ab/:.\n", max_size=12))
def test_patterns_mean_what_a_slow_matcher_says(parts: list[str], text: str) -> None:
    pattern = "".join(parts)
    assert claims.fits(pattern, text) == slow(re.sub(r"\*{3,}", "**", pattern), text)


def slow(pattern: str, text: str) -> bool:
    """Patterns by trying everything."""
    if not pattern:
        return not text
    if pattern.startswith("**"):
        return slow(pattern[2:], text) or (bool(text) and slow(pattern, text[1:]))
    if pattern[0] == "*":
        return slow(pattern[1:], text) or (bool(text) and text[0] not in "/:" and slow(pattern, text[1:]))
    if not text or (pattern[0] == "?" and text[0] in "/:"):
        return False
    return (pattern[0] in ("?", text[0])) and slow(pattern[1:], text[1:])


def test_without_a_rule_nobody_comes_in() -> None:
    with pytest.raises(IdentityRefused, match="there are none"):
        claims.granted(token(), workload())


def test_every_claim_of_a_rule_has_to_fit_and_the_refusal_names_the_claims_and_no_value() -> None:
    config = workload({"repository": "acme/churn", "ref": "refs/heads/release"}, {"repository": "acme/s3cret-project"})
    with pytest.raises(IdentityRefused) as error:
        claims.granted(token(), config)
    assert error.value.reason == "no-rule"
    assert "ref" in error.value.message
    for secret in ("release", "s3cret", "acme", "main"):
        assert secret not in str(error.value)


def test_the_first_rule_that_fits_counts() -> None:
    config = WorkloadConfig(
        allow=(
            AllowRule(match={"ref": ("refs/heads/main",), "repository": ("acme/churn",)}, role="editor", ttl="5m"),
            AllowRule(match={"repository": ("acme/*",)}, role="viewer"),
        )
    )
    first = claims.granted(token(), config)
    assert (first.role, first.life) == ("editor", "5m")
    assert first.because == ("ref=refs/heads/main", "repository=acme/churn")
    assert claims.granted(token(ref="refs/pull/7/merge"), config).role == "viewer"


@pytest.mark.parametrize(
    ("match", "fitting"),
    [
        ({"protected": "true"}, True),
        ({"protected": "True"}, False),
        ({"run_attempt": "2"}, True),
        ({"kubernetes.io.namespace": "ml"}, False),
        ({"missing": "**"}, False),
        ({"kubernetes.io": "**"}, False),
    ],
)
def test_values_are_held_against_patterns_as_plain_text(match: dict[str, str], fitting: bool) -> None:
    try:
        found: Grant | None = claims.granted(token(), workload(match))
    except IdentityRefused:
        found = None
    assert (found is not None) is fitting


def test_a_claim_is_found_by_its_whole_name_before_it_is_looked_for_inside() -> None:
    said = {"a.b": 1, "a": {"b": 2, "c": {"d": ["x"]}}, "https://acme.test/groups": ["g"]}
    assert claims.claim_at(said, "a.b") == 1
    assert claims.claim_at(said, "a.c.d") == ["x"]
    assert claims.claim_at(said, "https://acme.test/groups") == ["g"]
    assert claims.claim_at(said, "a.x.y") is None


@given(st.dictionaries(st.sampled_from(["repository", "ref", "sub"]), st.text(max_size=5)))
def test_what_no_rule_lets_in_is_refused_whatever_it_says(said: dict[str, str]) -> None:
    config = workload({"repository": "acme/churn", "ref": "main"})
    if said.get("repository") == "acme/churn" and said.get("ref") == "main":
        return
    with pytest.raises(IdentityRefused):
        claims.granted(said, config)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": NOW - 61}, "expired"),
        ({"exp": NOW - 60}, "expired"),
        ({"iat": NOW + 61}, "not-yet"),
        ({"nbf": NOW + 61}, "not-yet"),
        ({"exp": None}, "form"),
        ({"iat": None}, "form"),
        ({"exp": "9999999999"}, "form"),
        ({"exp": True}, "form"),
        ({"exp": float("inf")}, "form"),
        ({"exp": 10**400}, "form"),
        ({"iat": -(10**400)}, "form"),
        ({"exp": float("nan")}, "form"),
        ({"nbf": "x"}, "form"),
        ({"sub": None}, "subject"),
        ({"sub": ""}, "subject"),
        ({"sub": 17}, "subject"),
        ({"sub": "x" * 256}, "subject"),
        ({"sub": "\ud800"}, "form"),
        ({"groups": [{"a": "\udfff"}]}, "form"),
    ],
)
def test_times_and_subject_have_to_be_there_and_right(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(IdentityRefused) as error:
        claims.require_current(token(**changed), NOW)
    assert error.value.reason == reason


@pytest.mark.parametrize("changed", [{}, {"exp": NOW - 59}, {"iat": NOW + 60}, {"nbf": NOW + 60}, {"exp": NOW + 0.5}])
def test_clocks_may_be_a_minute_apart(changed: dict[str, Any]) -> None:
    claims.require_current(token(**changed), NOW)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"nonce": "other"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"nonce": 7}, "nonce"),
        ({"nonce": "ä"}, "nonce"),
        ({"azp": "other"}, "party"),
        ({"aud": ["noria", "other"]}, "party"),
        ({"aud": ["noria", "other"], "azp": "other"}, "party"),
    ],
)
def test_a_login_is_for_this_client_and_this_very_login(changed: dict[str, Any], reason: str) -> None:
    said = token(aud="noria", nonce="n1", **{})
    claims.require_login(said, "noria", "n1")
    claims.require_login({**said, "aud": ["noria", "x"], "azp": "noria"}, "noria", "n1")
    with pytest.raises(IdentityRefused) as error:
        claims.require_login(
            {key: value for key, value in {**said, **changed}.items() if value is not None}, "noria", "n1"
        )
    assert error.value.reason == reason


LOGIN = LoginConfig(
    issuer="https://sso.test",
    client_id="noria",
    roles={"viewer": ("all",), "approver": ("leads",), "admin": ("platform",)},
    approves={"ml-lead": ("leads", "all"), "risk": ("risk",)},
)


@pytest.mark.parametrize(
    ("groups", "role", "approves"),
    [
        (["all"], "viewer", ()),
        (["all", "leads"], "approver", ("ml-lead",)),
        (["platform"], "admin", ()),
        (["platform", "all", "risk"], "admin", ("ml-lead", "risk")),
        ("leads", "approver", ("ml-lead",)),
    ],
)
def test_the_highest_role_of_ones_groups_counts(groups: Any, role: str, approves: tuple[str, ...]) -> None:
    found = claims.login_of({"groups": groups}, LOGIN)
    assert (found.role, found.approves) == (role, approves)


@pytest.mark.parametrize("groups", [None, [], ["ALL"], ["al"], "al", [["all"]], {"all": 1}, 7, ["x"] * 1000 + ["all"]])
def test_who_is_in_no_group_with_a_role_is_not_let_in(groups: Any) -> None:
    with pytest.raises(IdentityRefused) as error:
        claims.login_of({"groups": groups}, LOGIN)
    assert error.value.reason == "no-role"


texts = st.text(max_size=40)


@given(texts, texts, st.sampled_from(["user", "service"]), texts)
def test_names_are_valid_and_the_last_is_the_subjects_own(wanted: str, subject: str, kind: str, other: str) -> None:
    digest = claims.subject_digest(kind, "https://a.test", subject)
    names = list(claims.names_for("corp", wanted, digest))
    assert all(HOLDER.fullmatch(name) and name.endswith("@corp") for name in names)
    assert list(claims.names_for("a" * 20, wanted, digest))[-1] != names[-1]
    assert all(len(name) <= 64 for name in claims.names_for("a" * 20, wanted, digest))
    theirs = claims.subject_digest(kind, "https://a.test", other)
    if other != subject:
        assert theirs != digest
        assert list(claims.names_for("corp", wanted, theirs))[-1] != names[-1]


@given(texts, texts)
def test_no_two_issuers_and_no_two_kinds_have_a_subject_in_common(subject: str, other: str) -> None:
    pairs = [(kind, issuer, each) for kind in ("user", "service") for issuer in ("https://a", "https://b")
             for each in {subject, other}]  # fmt: skip
    assert len({claims.subject_digest(*each) for each in pairs}) == len(pairs)


def test_a_name_that_is_called_as_it_is_stays_and_another_is_told_apart_by_its_digest() -> None:
    digest = "ab" * 32
    assert next(claims.names_for("corp", "ann", digest)) == "ann@corp"
    assert next(claims.names_for("corp", "ann@x.test", digest)) == "ann-x.test-abababab@corp"
    assert next(claims.names_for("corp", "", digest)) == "abababab@corp"


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "a.b.c.d", "..", "a..c", "a.!!!.c", "a.bnVsbA.c", "a.e30.c", "a.eyJpc3MiOjd9.c", "é.é.é", "nor_x_y"],
)
def test_what_is_no_token_names_no_issuer(text: str) -> None:
    with pytest.raises(IdentityRefused):
        claims.issuer_said(text)


def test_a_token_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(IdentityRefused) as error:
        claims.issuer_said("a." + "A" * claims.TOKEN_MAX + ".c")
    assert error.value.reason == "size"
    deep = __import__("base64").urlsafe_b64encode(b"[" * 9000).decode()
    with pytest.raises(IdentityRefused):
        claims.issuer_said(f"a.{deep}.c")
