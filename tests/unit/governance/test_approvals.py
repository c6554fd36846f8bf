from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import DeployConfig, ModelConfig
from noria.core.errors import Conflict, Denied, NotFound, UsageError
from noria.governance import approvals, records, tokens
from noria.governance.approvals import approve, authors, missing, reject, reviews
from noria.governance.facts import ApprovalGiven
from noria.governance.lineage import ancestors, descendants
from noria.registry.facts import ReleaseMade, VersionRegistered
from noria.store.replay import difference
from noria.store.workspace import Workspace, acting
from noria.testing import open_memory
from noria.testing.workspace import TestClock
from noria.tracking.facts import Code, RunStarted

TREE, BUNDLE, CONTENT = ("sha256:" + letter * 64 for letter in "abc")


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    """A run by Ann on a tree, registered by the platform, and made a release by the trainer."""
    made = open_memory(root=tmp_path)
    with acting(made, "user:ann").ledger.transaction() as tx:
        tx.append(
            RunStarted(
                run="run_1",
                pipeline="p",
                cause="user",
                code=Code(),
                config="",
                environment="",
                seed=0,
                pins=(),
                owner="o",
            ),
            inputs=[("data", TREE)],
        )
    with acting(made, "service:trainer").ledger.transaction() as tx:
        tx.append(
            VersionRegistered(model="m", version=1, bundle=BUNDLE, run="run_1", metrics={}, pins=()),
            inputs=[("run", "run/run_1")],
            outputs=[("version", "model/m:1")],
        )
        tx.append(
            ReleaseMade(model="m", release=1, version=1, content=CONTENT),
            inputs=[("version", "model/m:1"), ("bundle", BUNDLE)],
            outputs=[("release", "release/m/1"), ("content", CONTENT)],
        )
    yield made
    made.ledger.database.close()


@pytest.mark.parametrize("about", ["m:1", "m@r1", "release/m/1"])
def test_a_person_approves_the_content_of_a_release(ws: Workspace, about: str) -> None:
    given = approve(acting(ws, "user:bob"), about, role="ml-lead", comment="looks right")
    assert (given.about, given.digest, given.actor, given.role) == ("release/m/1", CONTENT, "user:bob", "ml-lead")
    with ws.ledger.read() as reader:
        assert missing(reader, "release/m/1", CONTENT, ["ml-lead"]) == []
        assert missing(reader, "release/m/1", CONTENT, ["ml-lead", "risk"]) == ["risk"]
        assert missing(reader, "release/m/1", "sha256:" + "d" * 64, ["ml-lead"]) == ["ml-lead"]


def test_approving_twice_is_one_approval(ws: Workspace) -> None:
    bob = acting(ws, "user:bob")
    assert approve(bob, "m:1", comment="fine") == approve(bob, "m:1", comment="again")
    assert len(ws.ledger.facts(kind="approval.given")) == 1
    approve(bob, "m:1", role="risk", comment="fine")
    assert len(ws.ledger.facts(kind="approval.given")) == 2


def test_who_ran_the_training_may_not_approve_its_release(ws: Workspace) -> None:
    with ws.ledger.read() as reader:
        assert authors(reader, "release/m/1") == {"user:ann", "service:trainer"}
    with pytest.raises(Denied, match="the author of a thing never counts"):
        approve(acting(ws, "user:ann"), "m:1", comment="fine")
    assert ws.ledger.facts(kind="approval.given") == []


def test_an_approval_by_an_author_never_counts_even_if_it_is_there(ws: Workspace) -> None:
    with acting(ws, "user:ann").ledger.transaction() as tx:
        tx.append(ApprovalGiven(about="release/m/1", digest=CONTENT, role="ml-lead"))
        assert missing(tx, "release/m/1", CONTENT, ["ml-lead"]) == ["ml-lead"]


@pytest.mark.parametrize("actor", ["service:controller", "service:trainer", "token:ci"])
def test_only_people_approve(ws: Workspace, actor: str) -> None:
    with pytest.raises(Denied, match="only people do"):
        approve(acting(ws, actor), "m:1", comment="fine")


def test_what_was_never_made_cannot_be_approved(ws: Workspace) -> None:
    bob = acting(ws, "user:bob")
    for about in ("m:2", "nothing", "model/m", ""):
        with pytest.raises(NotFound):
            approve(bob, about, comment="fine")
    with pytest.raises(UsageError, match="over the limit"):
        approve(bob, "m:1", comment="x" * 3000)


def test_a_digest_is_approved_as_it_is_and_a_thing_without_content_is_not(ws: Workspace) -> None:
    bob = acting(ws, "user:bob")
    assert approve(bob, CONTENT, comment="fine").digest == CONTENT
    with pytest.raises(NotFound, match="names no content"):
        approve(bob, "model/m:1", comment="fine")


def test_lineage_goes_from_a_release_to_the_data_and_back(ws: Workspace) -> None:
    found = ancestors(ws, "release/m/1")
    assert [(link.ref, link.depth) for link in found] == [
        ("model/m:1", 1),
        (BUNDLE, 1),
        ("run/run_1", 2),
        (TREE, 3),
    ]
    assert [link.ref for link in ancestors(ws, CONTENT)] == [link.ref for link in found]
    assert [link.ref for link in ancestors(ws, "release/m/1", depth=1)] == ["model/m:1", BUNDLE]
    for short in ("m@r1", "release/m/1"):
        assert [link.ref for link in ancestors(ws, short)] == [link.ref for link in found]
    assert ancestors(ws, "m:1") == ancestors(ws, "model/m:1")
    with pytest.raises(NotFound, match="no fact names 'nothing'"):
        ancestors(ws, "nothing")
    assert {link.ref for link in descendants(ws, "run/run_1")} == {"model/m:1", "release/m/1", CONTENT}
    assert [link.kind for link in found] == ["release.made", "release.made", "version.registered", "run.started"]


def test_a_walk_over_many_refs_is_cut_into_queries(ws: Workspace) -> None:
    with ws.ledger.read() as reader:
        many = [f"ref/{number}" for number in range(1201)]
        assert records.producers(reader, [*many, "release/m/1"])[0].role == "release"
        assert records.subjects(reader, [*many, "run/run_1"])[0].role == "subject"
        assert records.inputs_of(reader, list(range(1, 1300)))


def released(ws: Workspace, approve_of: tuple[str, ...], within: str = "30d") -> Workspace:
    """The same workspace under a policy that asks for approvals of the model `m`."""
    deploy = DeployConfig(approve=approve_of, approve_within=within)
    return replace(ws, project=replace(ws.project, models={"m": ModelConfig(deploy=deploy)}))


def waits(ws: Workspace) -> str:
    """What the release still waits for; empty for nothing."""
    with ws.ledger.read() as tx:
        found = approvals.waiting(ws, tx, "release/m/1", CONTENT)
    return found.text if found else ""


def test_a_decision_says_why(ws: Workspace) -> None:
    for comment in ("", "  \n"):
        with pytest.raises(UsageError, match="needs a comment"):
            approve(acting(ws, "user:bob"), "m:1", comment=comment)
        with pytest.raises(UsageError, match="needs a comment"):
            reject(acting(ws, "user:bob"), "m:1", comment=comment)


def test_so_many_different_people_must_approve_in_a_role(ws: Workspace) -> None:
    asked = released(ws, ("lead 2", "risk"))
    assert waits(asked) == "waits for approval as lead 2, risk"
    approve(acting(ws, "user:bob"), "m:1", role="lead", comment="fine")
    approve(acting(ws, "user:bob"), "m:1", role="lead", comment="fine again")
    assert waits(asked).startswith("waits for approval as lead, risk (")
    assert "user:bob as lead" in waits(asked)
    approve(acting(ws, "user:eve"), "m:1", role="lead", comment="fine")
    approve(acting(ws, "user:eve"), "m:1", role="risk", comment="fine")
    assert waits(asked) == ""


def test_an_approval_that_is_over_does_not_count_and_may_be_given_anew(ws: Workspace) -> None:
    asked = released(ws, ("lead",), within="2d")
    assert isinstance(ws.clock, TestClock)
    first = approve(acting(asked, "user:bob"), "m:1", role="lead", comment="fine")
    assert waits(asked) == ""
    ws.clock.forward(days=2)
    assert "waits for approval as lead" in waits(asked)
    again = approve(acting(asked, "user:bob"), "m:1", role="lead", comment="fine")
    assert again.seq > first.seq
    assert waits(asked) == ""
    approve(acting(asked, "user:bob"), "m:1", role="lead", comment="for a while", expires="1h")
    assert waits(asked) == ""
    ws.clock.forward(hours=1)
    assert "waits for approval as lead" in waits(asked)
    with pytest.raises(UsageError):
        approve(acting(asked, "user:bob"), "m:1", role="lead", comment="fine", expires="0s")


def test_an_approval_is_of_the_digest_that_was_reviewed(ws: Workspace) -> None:
    bob = acting(ws, "user:bob")
    other = "sha256:" + "d" * 64
    for digest in (other, "d" * 12, CONTENT[:-1] + "0"):
        with pytest.raises(Conflict, match="that was reviewed"):
            approve(bob, "m:1", comment="fine", digest=digest)
        with pytest.raises(Conflict, match="that was reviewed"):
            reject(bob, "m:1", comment="no", digest=digest)
    with pytest.raises(UsageError, match="too short"):
        approve(bob, "m:1", comment="fine", digest="cc")
    assert ws.ledger.facts(kind="approval.given") == []
    assert approve(bob, "m:1", role="lead", comment="fine", digest=CONTENT[7:19]).digest == CONTENT
    with ws.ledger.transaction() as tx:
        tx.append(
            ReleaseMade(model="m", release=2, version=1, content=other),
            inputs=[("version", "model/m:1")],
            outputs=[("release", "release/m/2"), ("content", other)],
        )
        asked = released(ws, ("lead",))
        assert approvals.waiting(asked, tx, "release/m/1", CONTENT) is None
        assert approvals.waiting(asked, tx, "release/m/2", other) is not None
        assert approvals.waiting(asked, tx, "release/m/1", other) is not None


def test_a_rejection_stands_until_the_same_person_approves(ws: Workspace) -> None:
    asked = released(ws, ("lead",))
    bob, eve = acting(asked, "user:bob"), acting(asked, "user:eve")
    approve(bob, "m:1", role="lead", comment="fine")
    approve(eve, "m:1", role="lead", comment="fine")
    assert reject(eve, "m:1", comment="PT is worse").comment == "PT is worse"
    assert reject(eve, "m:1", comment="again") == reject(eve, "m:1", comment="and again")
    assert waits(asked) == "was rejected by user:eve: PT is worse"
    found = reviews(asked, "m@r1")
    assert [each.actor for each in found.approvals] == ["user:bob"], "and what eve had approved is taken back"
    assert [each.actor for each in found.rejections] == ["user:eve"]
    assert found.waiting == waits(asked)
    assert found.authors == ("service:trainer", "user:ann")
    approve(bob, "m:1", role="lead", comment="still fine")
    assert waits(asked).startswith("was rejected by user:eve")
    approve(eve, "m:1", role="lead", comment="mended")
    assert waits(asked) == ""
    assert difference(ws.ledger) == []
    with pytest.raises(Denied, match="only people do"):
        reject(acting(asked, "service:ci"), "m:1", comment="no")


def test_where_there_are_tokens_they_say_who_may_approve_as_what(ws: Workspace) -> None:
    tokens.create(ws, "vic", role="viewer")
    tokens.create(ws, "eva", role="editor")
    tokens.create(ws, "bob", role="approver", approves=["lead"])
    tokens.create(ws, "far", role="approver", approves=["lead"], project="elsewhere")
    over = tokens.create(ws, "old", role="approver", approves=["lead"], expires="1h")
    gone = tokens.create(ws, "out", role="approver", approves=["lead"])
    tokens.create(ws, "ann", role="admin", approves=["lead"])
    tokens.revoke(ws, gone.token)
    assert isinstance(ws.clock, TestClock)
    ws.clock.forward(hours=1)
    assert over.expires
    for name in ("vic", "eva", "far", "old", "out", "nobody"):
        for role in ("lead", "approver"):
            with pytest.raises(Denied, match="no token of theirs has the role approver"):
                approve(acting(ws, f"user:{name}"), "m:1", role=role, comment="fine")
        with pytest.raises(Denied, match="no token of theirs"):
            reject(acting(ws, f"user:{name}"), "m:1", comment="no")
    with pytest.raises(Denied, match="may not approve as risk"):
        approve(acting(ws, "user:bob"), "m:1", role="risk", comment="fine")
    with pytest.raises(Denied, match="the author of a thing never counts"):
        approve(acting(ws, "user:ann"), "m:1", role="lead", comment="fine")
    assert ws.ledger.facts(kind="approval.given") == []
    assert approve(acting(ws, "user:bob"), "m:1", role="lead", comment="fine").role == "lead"
    assert approve(acting(ws, "user:bob"), "m:1", comment="fine").role == "approver"


def test_a_services_approval_never_counts_even_if_it_is_there(ws: Workspace) -> None:
    with acting(ws, "service:ci").ledger.transaction() as tx:
        tx.append(ApprovalGiven(about="release/m/1", digest=CONTENT, role="lead"))
        assert missing(tx, "release/m/1", CONTENT, ["lead"]) == ["lead"]


ACTS = st.tuples(st.sampled_from(["approve", "reject"]), st.sampled_from("abc"), st.sampled_from("xy"))


@given(
    acts=st.lists(ACTS, max_size=12),
    people=st.integers(1, 3),
)
@settings(max_examples=30, deadline=None)
def test_what_waits_is_what_the_history_says(acts: list[tuple[str, str, str]], people: int) -> None:
    made = open_memory()
    with acting(made, "user:ann").ledger.transaction() as tx:
        outputs = [("release", "release/m/1"), ("content", CONTENT)]
        tx.append(ReleaseMade(model="m", release=1, version=1, content=CONTENT), outputs=outputs)
    asked = released(made, (f"x {people}",))
    yes: dict[str, set[str]] = {}
    no: set[str] = set()
    for what, who, role in acts:
        if what == "approve" and role == "y" and who not in no:
            with pytest.raises(UsageError, match="not as y"):
                approve(acting(asked, f"user:{who}"), "m@r1", role=role, comment="c")
        elif what == "approve":
            approve(acting(asked, f"user:{who}"), "m@r1", role=role, comment="c")
            yes.setdefault(who, set()).add(role)
            no.discard(who)
        else:
            reject(acting(asked, f"user:{who}"), "m@r1", comment="c")
            yes.pop(who, None)
            no.add(who)
    enough = sum("x" in roles for roles in yes.values()) >= people
    assert (waits(asked) == "") == (enough and not no)
    assert difference(made.ledger) == []
    made.ledger.database.close()
    shutil.rmtree(made.project.root)


def test_a_version_is_approved_by_its_own_release_though_another_has_its_number(ws: Workspace) -> None:
    with acting(ws, "service:trainer").ledger.transaction() as tx:
        for version, release in ((2, 0), (3, 2), (3, 3)):
            if not release or release == 2:
                tx.append(
                    VersionRegistered(model="m", version=version, bundle=BUNDLE, run="run_1", metrics={}, pins=()),
                    outputs=[("version", f"model/m:{version}")],
                )
            if release:
                content = "sha256:" + str(release) * 64
                tx.append(
                    ReleaseMade(model="m", release=release, version=version, content=content),
                    inputs=[("version", f"model/m:{version}")],
                    outputs=[("release", f"release/m/{release}"), ("content", content)],
                )
    bob = acting(ws, "user:bob")
    assert approve(bob, "m:3", comment="fine").about == "release/m/3"
    assert approve(bob, "m@r2", comment="fine").about == "release/m/2"
    assert reviews(ws, "m:1").about == "release/m/1"
    for ask in (approve, reject):
        with pytest.raises(NotFound, match="m:2 has no release"):
            ask(bob, "m:2", comment="fine")


def test_an_author_takes_back_their_own_no_and_that_counts_for_nothing_else(ws: Workspace) -> None:
    ann = acting(ws, "user:ann")
    reject(ann, "m:1", comment="wait for the new rows")
    assert [each.actor for each in reviews(ws, "m:1").rejections] == ["user:ann"]
    approve(ann, "m:1", comment="they are there", role="lead")
    assert reviews(ws, "m:1").rejections == ()
    with ws.ledger.read() as reader:
        assert missing(reader, "release/m/1", CONTENT, ["lead"]) == ["lead"]
    with pytest.raises(Denied, match="the author of a thing never counts"):
        approve(ann, "m:1", comment="once more", role="lead")


def test_a_yes_in_a_role_that_nobody_asked_for_is_refused(ws: Workspace) -> None:
    rules = ModelConfig(deploy=DeployConfig(approve=("ml-lead 2", "risk")))
    asking = replace(ws, project=replace(ws.project, models={"m": rules}))
    bob = acting(asking, "user:bob")
    for role in ("approver", "ML-Lead", "owner", ""):
        with pytest.raises(UsageError, match="m asks for approval as ml-lead 2, risk, not as") as refused:
            approve(bob, "m:1", role=role, comment="fine")
        assert refused.value.hint == "--role ml-lead"
    assert approve(bob, "m:1", role="risk", comment="fine").role == "risk"
    reject(bob, "m:1", comment="no")
    approve(bob, "m:1", comment="yes after all")  # a no is taken back in any role
    assert reviews(asking, "m:1").rejections == ()


def test_a_digest_that_is_empty_is_not_whatever_is_there(ws: Workspace) -> None:
    bob = acting(ws, "user:bob")
    for ask in (approve, reject):
        with pytest.raises(UsageError, match="too short for a digest"):
            ask(bob, "m:1", comment="fine", digest="")
    assert approve(bob, "m:1", comment="fine", digest=CONTENT[7:19]).digest == CONTENT


@pytest.mark.parametrize("expires", ["99999999d", "9" * 400 + "d"])
def test_an_approval_ends_within_what_a_date_holds(ws: Workspace, expires: str) -> None:
    with pytest.raises(UsageError, match="longer than a hundred years"):
        approve(acting(ws, "user:bob"), "m:1", comment="fine", expires=expires)
