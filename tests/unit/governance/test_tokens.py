"""Tokens: shown once, kept as a hash, narrowed, ended, taken back; all of it facts."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.core.errors import Denied, NotFound, UsageError
from noria.faces import verbs
from noria.faces.protocols.mlflow.permissions import FAMILIES
from noria.governance import records, tokens
from noria.governance.access import LEAST, ROLES, Actor, authorize, is_allowed
from noria.store.replay import difference, rebuild
from noria.store.workspace import Workspace, acting
from noria.testing.workspace import TestClock, open_memory


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    """An empty workspace of the project `test`."""
    made = open_memory(root=tmp_path)
    yield made
    made.ledger.database.close()


def test_a_token_is_shown_once_and_only_its_hash_is_kept(ws: Workspace) -> None:
    made = tokens.create(acting(ws, "user:root"), "ci", role="editor", expires="30d", service=True)
    assert re.fullmatch(r"nor_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", made.secret)
    (fact,) = ws.ledger.facts(kind="token.created")
    assert (fact.actor, fact.payload.holder, fact.payload.role) == ("user:root", "service:ci", "editor")
    assert fact.payload.verifier == hashlib.sha256(made.secret.encode()).hexdigest()
    secret = made.secret.split("_", 2)[2]
    for path in ws.project.root.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert made.expires.startswith("2026-01-31")
    (listed,) = tokens.tokens(ws)
    assert secret not in repr(listed)
    assert fact.payload.verifier not in repr(listed)
    assert (listed.state, listed.created_by, listed.last_used) == ("live", "user:root", "")


def test_no_two_tokens_are_alike(ws: Workspace) -> None:
    made = [tokens.create(ws, "ann") for _ in range(20)]
    assert len({each.token for each in made}) == len({each.secret.split("_", 2)[2] for each in made}) == 20


def test_a_secret_opens_its_own_token_only(ws: Workspace) -> None:
    one, other = tokens.create(ws, "ann"), tokens.create(ws, "bob")
    with ws.ledger.read() as tx:
        record = records.token(tx, one.token)
        assert record is not None
        assert tokens.matches(record, one.secret)
        assert not tokens.matches(record, other.secret)
        assert not tokens.matches(record, f"nor_{one.token}_{other.secret.split('_', 2)[2]}")
        assert not tokens.matches(None, one.secret)


@pytest.mark.parametrize("text", ["", "nor_", "nor_abc_def", "NOR_" + "a" * 12 + "_" + "a" * 43, "x" * 10_000, "nor_ü"])
def test_what_is_no_token_is_told_at_once(text: str) -> None:
    assert tokens.parse(text) == ("", "")


def test_a_token_is_revoked_once_and_stays_in_the_list(ws: Workspace) -> None:
    made = tokens.create(ws, "ann")
    told = tokens.revoke(acting(ws, "user:root"), made.token, "laptop lost")
    assert (told.state, told.revoked_by) == ("revoked", "user:root")
    assert tokens.revoke(acting(ws, "user:other"), made.token) == told
    assert len(ws.ledger.facts(kind="token.revoked")) == 1
    assert tokens.tokens(ws) == []
    assert [each.state for each in tokens.tokens(ws, every=True)] == ["revoked"]
    assert tokens.is_guarded(ws)
    assert not tokens.has_live(ws)
    with pytest.raises(NotFound) as found:
        tokens.revoke(ws, "nor_000000000000_" + "s" * 43)
    assert "sssss" not in str(found.value), "a secret that is given by mistake is not said again"


def test_a_token_ends(ws: Workspace) -> None:
    tokens.create(ws, "ann", expires="2h")
    tokens.create(ws, "bob", expires="never")
    assert isinstance(ws.clock, TestClock)
    ws.clock.forward(hours=2)
    assert [(each.holder, each.state) for each in tokens.tokens(ws, every=True)] == [
        ("user:ann", "expired"),
        ("user:bob", "live"),
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": ""}, "no name of a holder"),
        ({"name": "a b"}, "no name of a holder"),
        ({"name": "../x"}, "no name of a holder"),
        ({"name": "a", "role": "root"}, "no role 'root'"),
        ({"name": "a", "expires": "soon"}, "not a duration"),
        ({"name": "a", "expires": "0s"}, "not more than nothing"),
        ({"name": "a", "expires": "9999d"}, "at most 1830d"),
        ({"name": "a", "scopes": ["nothing.read"]}, "holds nothing"),
        ({"name": "a", "scopes": ["registry.promote"]}, "holds nothing that the role viewer"),
        ({"name": "a", "scopes": ["*"]}, "holds nothing"),
        ({"name": "a", "role": "admin", "scopes": ["data.*"]}, "is not narrowed"),
        ({"name": "a", "role": "editor", "approves": ["lead"]}, "only a person with the role approver"),
        ({"name": "a", "role": "approver", "approves": ["lead"], "service": True}, "only a person"),
        ({"name": "a", "role": "approver", "approves": ["a b"]}, "no name of a role"),
    ],
)
def test_what_cannot_be_a_token_makes_none(ws: Workspace, given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        tokens.create(ws, **given)  # type: ignore[arg-type]  # one of many shapes
    assert ws.ledger.facts() == []
    assert not tokens.is_guarded(ws)


def test_the_records_are_the_fold_of_the_facts(ws: Workspace) -> None:
    made = [tokens.create(ws, name, role=role) for name, role in (("ann", "admin"), ("bob", "viewer"))]
    tokens.revoke(ws, made[1].token)
    before = tokens.tokens(ws, every=True)
    assert difference(ws.ledger) == []
    rebuild(ws.ledger)
    assert tokens.tokens(ws, every=True) == before


def test_each_role_holds_what_the_roles_below_it_hold() -> None:
    held = [
        {name for name in LEAST if is_allowed(Actor(name="user:a", role=role, project="p"), name, "p")}
        for role in ROLES
    ]
    assert all(less < more for less, more in itertools.pairwise(held))
    assert held[-1] == set(LEAST)


def test_the_default_is_no() -> None:
    admin = Actor(name="user:a", role="admin", project="p")
    for actor, permission, project in (
        (admin, "registry.invented", "p"),
        (admin, "", "p"),
        (admin, "project.read", "other"),
        (Actor(name="user:a", role="", project="p"), "project.read", "p"),
        (Actor(name="user:a", role="root", project="p"), "project.read", "p"),
        (Actor(name="user:a", role="viewer", project=""), "project.read", "p"),
        (Actor(name="user:a", role="editor", project="p", scopes=("data.*",)), "registry.read", "p"),
        (Actor(name="user:a", role="editor", project="p", scopes=("data.rea",)), "data.read", "p"),
        (Actor(name="service:ci", role="admin", project="p"), "governance.approve", "p"),
    ):
        with pytest.raises(Denied):
            authorize(actor, permission, project)
    authorize(admin, "governance.approve", "p")
    authorize(Actor(name="user:a", role="editor", project="p", scopes=("data.*",)), "data.add", "p")


def test_every_permission_of_a_verb_has_a_role_and_no_permission_is_idle() -> None:
    of_verbs = {found.declaration.permission for found in verbs.collect().values()}
    of_routes = {"serving.predict", "monitoring.feedback", "registry.webhooks"}
    of_routes |= {
        f"{family}.{what}" for family in FAMILIES.values() for what in ("read", "write") if family != "webhooks"
    }
    assert of_verbs - set(LEAST) == set(), "decide who may: governance/access.py"
    assert set(LEAST) == of_verbs | of_routes


def test_what_a_viewer_may_do_changes_nothing_and_writes_no_file() -> None:
    for found in verbs.collect().values():
        if LEAST[found.declaration.permission] == "viewer":
            assert not found.declaration.is_change, found.target
            assert not {"to", "junit", "folder", "out"} & {each.name for each in found.parameters}, found.target
