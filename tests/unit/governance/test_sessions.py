"""Sessions: names that are bound for ever, one session for what was sent once, ends, secrets, refusals as facts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.core.errors import ConfigError, Denied, UsageError
from noria.governance import records, sessions, tokens
from noria.governance.access import authorize
from noria.governance.approvals import approve
from noria.governance.claims import Grant, IdentityRefused
from noria.governance.facts import LoginRefused
from noria.governance.sessions import Refusals, Subject, open_session
from noria.identities import AccessConfig, AllowRule, LoginConfig, WorkloadConfig
from noria.registry.facts import ReleaseMade
from noria.store.replay import difference, rebuild
from noria.store.workspace import Workspace, acting
from noria.testing.workspace import TestClock

EDITOR = Grant(role="editor", life="15m", because=("ref=main",))


@pytest.fixture
def clock() -> TestClock:
    return TestClock(datetime(2026, 3, 1, tzinfo=UTC))


@pytest.fixture
def ws(tmp_path: Path, clock: TestClock) -> Iterator[Workspace]:
    """An empty workspace of the project `test`."""
    made = open_workspace(project=Project(name="test", root=tmp_path), actor="service:server", clock=clock)
    yield made
    made.ledger.database.close()


def person(
    subject: str = "4711", *, issuer: str = "https://a.test", provider: str = "corp", name: str = "ann"
) -> Subject:
    return Subject(kind="user", provider=provider, issuer=issuer, subject=subject, wanted=name)


def job(subject: str = "repo:acme/churn", *, provider: str = "github") -> Subject:
    return Subject(kind="service", provider=provider, issuer="https://ci.test", subject=subject, wanted=subject)


def test_a_session_is_a_token_that_ends_and_says_where_it_came_from(ws: Workspace, clock: TestClock) -> None:
    made = open_session(ws, person(), EDITOR, way="command line")
    assert (made.holder, made.role, made.project) == ("user:ann@corp", "editor", "test")
    created = ws.ledger.facts(kind="token.created")[0]
    assert created.actor == "user:ann@corp"
    said = created.payload
    assert (said.origin, said.way, said.issuer, said.because) == (
        "login/corp",
        "command line",
        "https://a.test",
        ("ref=main",),
    )
    (listed,) = tokens.tokens(ws)
    assert (listed.origin, listed.state) == ("login/corp", "live")
    clock.forward(minutes=16)
    assert tokens.tokens(ws) == []
    assert [each.state for each in tokens.tokens(ws, every=True)] == ["expired"]
    assert difference(ws.ledger) == []
    rebuild(ws.ledger)
    assert difference(ws.ledger) == []


def test_no_secret_and_no_subject_of_a_person_is_written_anywhere(ws: Workspace) -> None:
    made = open_session(ws, person("ann's-own-secret-number"), EDITOR, way="browser")
    open_session(ws, job(), EDITOR, way="exchange")
    (bound, theirs) = ws.ledger.facts(kind="identity.bound")
    assert (bound.payload.subject, theirs.payload.subject) == ("", "repo:acme/churn")
    for path in ws.project.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert made.secret.encode() not in content
            assert b"ann's-own-secret-number" not in content


def test_two_issuers_never_share_a_name_whatever_they_call_somebody(ws: Workspace) -> None:
    ann = open_session(ws, person(), EDITOR, way="browser").holder
    other = open_session(ws, person(issuer="https://b.test"), EDITOR, way="browser").holder
    there = open_session(ws, person(issuer="https://b.test", provider="other"), EDITOR, way="browser").holder
    assert ann == "user:ann@corp"
    assert other.startswith("user:ann-")
    assert len({ann, other}) == 2
    assert there == other, "a subject keeps its name, also when its provider is called otherwise"
    again = open_session(ws, person(name="renamed"), EDITOR, way="browser").holder
    assert again == ann, "nor does being called otherwise change who somebody is"
    second = open_session(ws, person("4712"), EDITOR, way="browser").holder
    assert second not in (ann, other), "a name that was given away again is not the first one's"


def test_a_person_and_a_machine_of_one_issuer_are_two(ws: Workspace) -> None:
    both = [
        open_session(
            ws, Subject(kind=kind, provider="x", issuer="https://a.test", subject="s", wanted="s"), EDITOR, way="w"
        )
        for kind in ("user", "service")
    ]
    assert [each.holder for each in both] == ["user:s@x", "service:s@x"]


def test_many_at_once_get_one_name_each(ws: Workspace) -> None:
    found: list[str] = []

    def come(number: int) -> None:
        found.append(open_session(ws, person(str(number % 4)), EDITOR, way="browser").holder)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 12
    assert len(set(found)) == 4
    assert len(ws.ledger.facts(kind="identity.bound")) == 4


def test_what_was_sent_once_opens_one_session_also_in_a_race(ws: Workspace) -> None:
    used, ends = sessions.once("issuer", "jti", "1"), []

    def come() -> None:
        try:
            ends.append(open_session(ws, job(), EDITOR, way="exchange", used=used).token)
        except IdentityRefused as error:
            ends.append(error.reason)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(ends)[-7:] == ["replayed"] * 7
    assert len(ws.ledger.facts(kind="token.created")) == 1
    rebuild(ws.ledger)
    with pytest.raises(IdentityRefused):
        open_session(ws, job(), EDITOR, way="exchange", used=used)
    open_session(ws, job(), EDITOR, way="exchange", used=sessions.once("issuer", "jti", "2"))


def test_a_machine_never_approves(ws: Workspace) -> None:
    made = open_session(ws, job(), Grant(role="editor", life="1h"), way="exchange")
    assert made.holder.startswith("service:repo-acme-churn-")
    assert made.holder.endswith("@github")
    with ws.ledger.read() as tx:
        record = records.token(tx, made.token)
    assert record is not None
    with pytest.raises(Denied):
        authorize(tokens.actor_of(record), "governance.approve", "test")
    thing = "sha256:" + "a" * 64
    with acting(ws, "user:eve").ledger.transaction() as tx:
        release = ReleaseMade(model="m", release=1, version=1, content=thing)
        tx.append(release, outputs=[("release", "release/m/1"), ("content", thing)])
    with pytest.raises(Denied, match="only people do"):
        approve(acting(ws, made.holder), "m@r1", role="lead", comment="yes")


def test_leaving_ends_a_session_once_and_never_a_token_that_an_admin_made(ws: Workspace) -> None:
    made = open_session(ws, person(), EDITOR, way="browser")
    assert sessions.close(ws, made.token)
    assert not sessions.close(ws, made.token)
    (fact,) = ws.ledger.facts(kind="token.revoked")
    assert (fact.actor, fact.payload.reason) == ("user:ann@corp", "logged out")
    plain = tokens.create(ws, "bob")
    assert not sessions.close(ws, plain.token)
    assert not sessions.close(ws, "")
    assert [each.token for each in tokens.tokens(ws)] == [plain.token]


def test_scopes_only_narrow() -> None:
    rule = Grant(role="editor", life="1h", scopes=("data.*", "registry.read"))
    assert sessions.narrowed(rule, []) == rule.scopes
    assert tuple(sessions.narrowed(rule, ["data.read"])) == ("data.read",)
    with pytest.raises(IdentityRefused):
        sessions.narrowed(rule, ["registry.write"])
    with pytest.raises(IdentityRefused):
        sessions.narrowed(rule, ["registry.*"])
    with pytest.raises(UsageError):
        sessions.narrowed(rule, ["governance.admin"])
    assert tuple(sessions.narrowed(EDITOR, ["registry.write"])) == ("registry.write",)


def test_a_secret_is_where_its_reference_says(tmp_path: Path) -> None:
    project = Project(name="x", root=tmp_path)
    file = tmp_path / "secret"
    file.write_text("from the file\n", encoding="utf-8")
    file.chmod(0o600)
    assert sessions.secret_of(project, "", "p") == ""
    assert sessions.secret_of(project, "env:A", "p", {"A": "from the variable"}) == "from the variable"
    assert sessions.secret_of(project, "file:secret", "p") == "from the file"
    file.chmod(0o644)
    for reference, said in (
        ("env:B", "the variable B is not set"),
        ("file:gone", "cannot be read"),
        ("file:secret", "everybody may read"),
    ):
        with pytest.raises(ConfigError, match=said) as error:
            sessions.secret_of(project, reference, "p", {"A": "x"})
        assert "from the" not in str(error.value)


def test_a_configuration_that_no_server_could_go_by_is_refused_at_the_start(tmp_path: Path) -> None:
    login = LoginConfig(
        issuer="https://a.test", client_id="n", client_secret="env:NOWHERE_AT_ALL", roles={"viewer": ("x",)}
    )
    with pytest.raises(ConfigError, match="NOWHERE_AT_ALL"):
        sessions.require_usable(Project(name="x", root=tmp_path, access=AccessConfig(login={"corp": login})))
    rule = AllowRule(match={"sub": ("x",)}, scopes=("governance.admin",))
    workload = WorkloadConfig(issuer="https://a.test", audience="x", allow=(rule,))
    with pytest.raises(ConfigError, match="rule 1"):
        sessions.require_usable(Project(name="x", root=tmp_path, access=AccessConfig(workload={"ci": workload})))


def test_the_same_refusal_is_a_fact_once_an_hour_and_a_flood_is_none(ws: Workspace) -> None:
    now = [0.0]
    refusals = Refusals(lambda: now[0])

    def refuse(reason: str = "signature", identity: str = "") -> None:
        told = LoginRefused(origin="workload/ci", way="exchange", reason=reason, told="no", identity=identity)
        refusals.tell(ws, told)

    for _ in range(5):
        refuse()
    refuse("expired")
    refuse(identity="a" * 64)
    assert len(ws.ledger.facts(kind="login.refused")) == 3
    now[0] = sessions.REFUSED_S
    refuse()
    assert len(ws.ledger.facts(kind="login.refused")) == 4
    limit = Refusals(lambda: 0.0)
    for number in range(sessions.REFUSED_MAX + 20):
        limit._told[(str(number),)] = 0.0
        if len(limit._told) >= sessions.REFUSED_MAX:
            break
    limit.tell(ws, LoginRefused(origin="workload/ci", way="exchange", reason="new", told="no"))
    assert len(ws.ledger.facts(kind="login.refused")) == 4
