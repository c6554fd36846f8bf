from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.core.errors import Denied, NotFound, UsageError
from noria.governance import records
from noria.governance.approvals import approve, authors, missing
from noria.governance.facts import ApprovalGiven
from noria.governance.lineage import ancestors, descendants
from noria.registry.facts import ReleaseMade, VersionRegistered
from noria.store.workspace import Workspace, acting
from noria.testing import open_memory
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
    assert approve(bob, "m:1") == approve(bob, "m:1", comment="again")
    assert len(ws.ledger.facts(kind="approval.given")) == 1
    approve(bob, "m:1", role="risk")
    assert len(ws.ledger.facts(kind="approval.given")) == 2


def test_who_ran_the_training_may_not_approve_its_release(ws: Workspace) -> None:
    with ws.ledger.read() as reader:
        assert authors(reader, "release/m/1") == {"user:ann", "service:trainer"}
    with pytest.raises(Denied, match="the author of a thing never counts"):
        approve(acting(ws, "user:ann"), "m:1")
    assert ws.ledger.facts(kind="approval.given") == []


def test_an_approval_by_an_author_never_counts_even_if_it_is_there(ws: Workspace) -> None:
    with acting(ws, "user:ann").ledger.transaction() as tx:
        tx.append(ApprovalGiven(about="release/m/1", digest=CONTENT, role="ml-lead"))
        assert missing(tx, "release/m/1", CONTENT, ["ml-lead"]) == ["ml-lead"]


@pytest.mark.parametrize("actor", ["service:controller", "service:trainer", "token:ci"])
def test_only_people_approve(ws: Workspace, actor: str) -> None:
    with pytest.raises(Denied, match="only people do"):
        approve(acting(ws, actor), "m:1")


def test_what_was_never_made_cannot_be_approved(ws: Workspace) -> None:
    bob = acting(ws, "user:bob")
    for about in ("m:2", "nothing", "model/m", ""):
        with pytest.raises(NotFound):
            approve(bob, about)
    with pytest.raises(UsageError, match="over the limit"):
        approve(bob, "m:1", comment="x" * 3000)


def test_a_digest_is_approved_as_it_is_and_a_thing_without_content_is_not(ws: Workspace) -> None:
    bob = acting(ws, "user:bob")
    assert approve(bob, CONTENT).digest == CONTENT
    with pytest.raises(NotFound, match="names no content"):
        approve(bob, "model/m:1")


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
