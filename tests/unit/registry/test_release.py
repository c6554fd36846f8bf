"""Releases move only along the legal ways, one mover wins, one is in production, the way back is open."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from noria.bootstrap import open_workspace
from noria.core.errors import Conflict, GateClosed, NotFound
from noria.governance import approvals
from noria.registry import filing, records, release, versions
from noria.registry.gates import Judgement
from noria.registry.records import VersionRecord
from noria.registry.release import TRANSITIONS
from noria.store.workspace import Workspace

Register = Callable[..., VersionRecord]
Judge = Callable[..., Judgement]


@pytest.fixture
def validated(ws: Workspace, register: Register, judge: Judge) -> Callable[..., release.Release]:
    """A validated release of a model by name, judged against a version."""

    def act(model: str, champion: int | None = None) -> release.Release:
        version = register(model)
        judge(version.version, champion)
        return release.make(ws, "m", version.version)

    return act


def drive(ws: Workspace, number: int, *states: str) -> None:
    for state in states:
        release.move(ws, "m", number, state)


def test_a_release_names_everything_that_answers(ws: Workspace, validated: Any) -> None:
    made = validated("weak")
    assert (made.release, made.state, made.ref) == (1, "validated", "m r1")
    content = ws.objects.get_json(made.content)
    assert set(content) == {
        "format", "model", "version", "bundle", "run", "pins", "schema", "threshold", "labels",
        "environment", "baseline", "policy",
    }  # fmt: skip
    assert release.find(ws, "m", 1) == made == release.find(ws, "m")
    [fact] = ws.ledger.facts(kind="release.made")
    assert ("bundle", made.bundle) in fact.fact.inputs
    assert ("content", made.content) in fact.fact.outputs


def test_the_same_content_is_the_same_release(ws: Workspace, validated: Any) -> None:
    made = validated("weak")
    assert release.make(ws, "m", made.version).release == made.release
    assert release.make(ws, "m", made.version, baseline=made.schema).release == made.release + 1


def test_a_refused_version_is_a_rejected_release(ws: Workspace, validated: Any) -> None:
    made = validated("backward")
    assert made.state == "rejected"
    with ws.ledger.read() as tx:
        kept = records.release(tx, "m", made.release)
    assert kept is not None
    assert "metric auc" in kept.reason
    with pytest.raises(Conflict, match="from rejected it may become: nothing"):
        drive(ws, made.release, "staging")


def test_a_version_that_nobody_judged_is_a_candidate_and_cannot_be_validated(
    ws: Workspace, register: Register, judge: Judge
) -> None:
    made = release.make(ws, "m", register("strong").version)
    assert made.state == "candidate"
    with pytest.raises(GateClosed, match="never judged"):
        drive(ws, made.release, "validated")
    judge(made.version)
    drive(ws, made.release, "validated")


def test_only_legal_ways_are_open(ws: Workspace, validated: Any) -> None:
    number = validated("weak").release
    for state, ways in (
        ("validated", "staging"),
        ("staging", "shadow"),
        ("shadow", "canary"),
        ("canary", "production"),
    ):
        for wrong in set(TRANSITIONS) - TRANSITIONS[state]:
            before = ws.ledger.head()
            with pytest.raises(Conflict, match="cannot become"):
                release.move(ws, "m", number, wrong)
            assert ws.ledger.head() == before
        release.move(ws, "m", number, ways)
    with pytest.raises(Conflict, match="no longer canary"):
        release.move(ws, "m", number, "retired", before="canary")
    with pytest.raises(Conflict):
        release.move(ws, "m", number, "nonsense")
    with pytest.raises(NotFound, match="r9"):
        release.move(ws, "m", 9, "staging")


def test_production_retires_the_one_before_in_the_same_transaction(ws: Workspace, validated: Any) -> None:
    first = validated("weak").release
    drive(ws, first, "staging", "production")
    second = validated("strong", 1).release
    drive(ws, second, "staging", "shadow", "canary", "production")
    with ws.ledger.read() as tx:
        live = records.production(tx, "m")
        assert live is not None
        assert live.release == second
        assert [r.state for r in records.releases(tx, "m")] == ["production", "retired"]
        assert records.production(tx, "m", "prod") is None


def test_back_and_forward_again_while_the_verdict_holds(ws: Workspace, validated: Any, policy: Any) -> None:
    drive(ws, validated("weak").release, "staging", "production")
    drive(ws, validated("strong", 1).release, "staging", "canary", "production")
    with ws.ledger.transaction() as tx:
        release.transition(ws, tx, "m", 2, "rolled back", reason="drill")
        release.transition(ws, tx, "m", 1, "production", reason="drill")
    with pytest.raises(GateClosed, match="rolled back"):
        release.move(policy({"auc": {"min": 0.56}}), "m", 2, "production")
    release.move(ws, "m", 2, "production", reason="forward")
    with ws.ledger.read() as tx:
        live = records.production(tx, "m")
        assert live is not None
        assert live.release == 2


def test_one_release_at_a_time_is_on_its_way(ws: Workspace, validated: Any) -> None:
    first, second = validated("weak").release, validated("strong").release
    drive(ws, first, "staging", "shadow")
    drive(ws, second, "staging")
    for state in ("shadow", "canary"):
        with pytest.raises(Conflict, match="m r1 is in shadow"):
            drive(ws, second, state)
    drive(ws, first, "canary", "rolled back")
    drive(ws, second, "shadow")


def test_an_environment_has_its_own_states(ws: Workspace, validated: Any) -> None:
    number = validated("weak").release
    drive(ws, number, "staging", "production")
    release.move(ws, "m", number, "staging", environment="prod")
    release.move(ws, "m", number, "production", environment="prod")
    with ws.ledger.read() as tx:
        for name in ("local", "prod"):
            live = records.production(tx, "m", name)
            assert live is not None
            assert live.release == number


def test_approval_by_somebody_else_is_needed_where_the_policy_asks(ws: Workspace, validated: Any, policy: Any) -> None:
    made = validated("weak")
    strict = policy({"auc": {"min": 0.55, "champion": "not worse", "margin": 0.01}}, {"approve": ["ml-lead"]})
    release.move(strict, "m", made.release, "staging")
    with pytest.raises(GateClosed, match="waits for approval as ml-lead"):
        release.move(strict, "m", made.release, "production")
    other = open_workspace(project=ws.project, actor="user:lead", clock=ws.clock)
    approvals.approve(other, f"m:{made.release}", role="ml-lead", comment="fine")
    assert release.move(strict, "m", made.release, "production").state == "production"


def test_of_many_threads_exactly_one_promotes(ws: Workspace, validated: Any) -> None:
    number = validated("weak").release
    barrier, won, lost = threading.Barrier(8), [], []

    def act() -> None:
        barrier.wait()
        try:
            won.append(release.move(ws, "m", number, "staging"))
        except Conflict as error:
            lost.append(error)

    threads = [threading.Thread(target=act) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(won), len(lost)) == (1, 7)
    assert len(ws.ledger.facts(kind="release.moved")) == 2


RACER = """
import sys
from pathlib import Path
from noria.bootstrap import open_workspace
from noria.config import Project
from noria.core.errors import Conflict
from noria.registry import release
ws = open_workspace(project=Project(name="test", root=Path(sys.argv[1])), actor="user:racer")
print("ready", flush=True)
sys.stdin.readline()
try:
    release.move(ws, "m", int(sys.argv[2]), "canary")
    print("won")
except Conflict:
    print("lost")
"""


def test_of_two_processes_with_two_releases_exactly_one_gets_the_way(ws: Workspace, validated: Any) -> None:
    numbers = [validated("weak").release, validated("strong").release]
    for number in numbers:
        drive(ws, number, "staging")
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(ws.project.root), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in numbers
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    found = [racer.communicate("go\n", timeout=60)[0].strip() for racer in racers]
    assert sorted(found) == ["lost", "won"]
    with ws.ledger.read() as tx:
        assert len(records.in_flight(tx, "m")) == 1


def test_rejecting_is_final(ws: Workspace, validated: Any) -> None:
    number = validated("weak").release
    assert release.reject(ws, "m", number, "wrong year").state == "rejected"
    assert all("rejected" not in ways or state != "rejected" for state, ways in TRANSITIONS.items())


def test_versions_are_named_by_their_bundle(ws: Workspace, register: Register) -> None:
    first, again = register("weak"), register("weak", run="run_2")
    assert first == again
    assert len(ws.ledger.facts(kind="version.registered")) == 1
    assert register("strong").version == 2
    assert [v.version for v in versions.versions(ws, "m")] == [2, 1]


def test_refs_and_aliases(ws: Workspace, register: Register) -> None:
    register("weak"), register("strong")
    filing.move_alias(ws, "m", "best", 1)
    head = ws.ledger.head()
    filing.move_alias(ws, "m", "best", 1)
    assert ws.ledger.head() == head
    with ws.ledger.read() as tx:
        assert [versions.resolve(tx, ref).version for ref in ("m", "m:1", "m@best")] == [2, 1, 1]
        for ref, words in (("x", "no model 'x'"), ("m:7", "newest is m:2"), ("m@none", "newest is m:2")):
            with pytest.raises(NotFound) as caught:
                versions.resolve(tx, ref)
            assert words in str(caught.value)
    shown = versions.show(ws, "m@best")
    assert shown.aliases == ("best",)
    assert shown.inputs == (("wind", "float64", False),)
    assert versions.list_models(ws)[0].production == 0


def test_a_workspace_is_not_changed_by_a_move_that_fails_midway(ws: Workspace, validated: Any) -> None:
    number = validated("weak").release

    def cut() -> None:
        with ws.ledger.transaction() as tx:
            release.transition(ws, tx, "m", number, "staging")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power"):
        cut()
    assert release.find(ws, "m", number).state == "validated"
    assert replace(release.find(ws, "m", number), state="staging") != release.find(ws, "m", number)
