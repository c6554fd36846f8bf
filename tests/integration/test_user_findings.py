"""What a demanding user ran into, each as the sentence that must be true now."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from serving_client import serving, wait_for
from serving_project import MODEL, make_project, make_release, rows
from steps_project import make, noria, seen

from noria.bootstrap import open_workspace
from noria.core.errors import Conflict, GateClosed, NotFound, UsageError
from noria.faces import verbs
from noria.faces.cli import show
from noria.loop.react import review_now
from noria.project.explain import explain
from noria.project.status import status
from noria.project.watch import watch
from noria.registry import records as registry
from noria.registry.facts import GateJudged, Verdict
from noria.serving import advance, follow, records
from noria.serving.deployment import deploy, promote, rollback
from noria.serving.facts import SmokeFinished
from noria.serving.plan import Plan
from noria.store.workspace import Workspace, acting
from noria.tracking import run as tracking

POLICY = """
[model.late.deploy]
path = ["shadow 100 requests", "canary 20% 60 requests", "100%"]
"""
ROW = rows(1)[0]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two validated releases, the first live."""
    ws = make_project(tmp_path_factory.mktemp("findings") / "project", POLICY)
    make_release(ws, 0)
    deploy(ws, MODEL)
    make_release(ws, 1)
    ws.ledger.database.close()
    return ws.project.root


@pytest.fixture
def ws(template: Path, tmp_path: Path) -> Workspace:
    root = tmp_path / "project"
    shutil.copytree(template, root)
    return open_workspace(root, actor="user:ann")


def state(ws: Workspace, release: int) -> str:
    with ws.ledger.read() as tx:
        found = registry.release(tx, MODEL, release)
    assert found is not None
    return found.state


def test_a_rollout_that_a_person_stopped_may_go_again(ws: Workspace) -> None:
    promote(ws, f"{MODEL}:2")
    back = rollback(ws, MODEL)
    assert (back.ended, back.before, back.release) == (2, 1, 1)
    said = show.render("rolled_back", verbs.builtins(back))
    assert "the rollout of r2 ended" in said
    assert "r1" in said
    assert "stays live" in said
    assert "--to" not in back.next, "r2 was never in production"
    with pytest.raises(Conflict, match="never in production"):
        rollback(ws, MODEL, to=2)
    assert state(ws, 2) == "rolled back"
    assert promote(ws, f"{MODEL}:2", dry_run=True).action == "rollout started"
    assert state(ws, 2) == "rolled back", "a dry run changes nothing"
    assert promote(ws, f"{MODEL}:2").action == "rollout started"
    assert state(ws, 2) == "shadow"


@pytest.mark.parametrize("alarm", ["errors", ""])
def test_what_a_rollout_found_against_a_release_stays(alarm: str, ws: Workspace) -> None:
    promote(ws, f"{MODEL}:2")
    judge = acting(ws, "service:controller")
    with judge.ledger.transaction() as tx:
        found = records.open_rollout(tx, MODEL)
        assert found is not None
        advance.finish(judge, tx, found, outcome="rolled back", reason="errors: 9 of 20", evidence={"alarm": alarm})
    for ref in (f"{MODEL}:2", f"{MODEL}@r2"):
        with pytest.raises(GateClosed, match="rolled back by its rollout: errors: 9 of 20") as refused:
            promote(ws, ref)
        assert "noria explain late@r2" in refused.value.hint
    assert state(ws, 2) == "rolled back"


def test_a_stopped_release_whose_gates_no_longer_hold_is_judged_again_first(ws: Workspace) -> None:
    promote(ws, f"{MODEL}:2")
    rollback(ws, MODEL)
    ws.ledger.database.close()
    with (ws.project.root / "noria.toml").open("a", encoding="utf-8") as stream:
        stream.write("[model.late.gate]\nauc = { min = 0.7 }\n")
    with pytest.raises(GateClosed) as refused:
        promote(open_workspace(ws.project.root), f"{MODEL}:2")
    assert "noria run judges it again, then noria promote late:2" in refused.value.hint


@pytest.mark.parametrize("is_again", [False, True])
def test_of_two_promotions_at_once_one_wins_and_the_other_stays_where_it_was(is_again: bool, ws: Workspace) -> None:
    if is_again:
        promote(ws, f"{MODEL}:2")
        rollback(ws, MODEL)
    make_release(ws, 2)
    before = {2: state(ws, 2), 3: state(ws, 3)}
    assert before == {2: "rolled back" if is_again else "validated", 3: "validated"}
    racers = [
        subprocess.Popen(
            [sys.executable, "-m", "noria", "promote", f"{MODEL}:{version}", "--json"],
            cwd=ws.project.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for version in before
    ]
    said = [racer.communicate(timeout=120) for racer in racers]
    codes = [racer.returncode for racer in racers]
    assert sorted(codes) == [0, 2], said
    winner, loser = (2, 3) if codes[0] == 0 else (3, 2)
    assert state(ws, winner) == "shadow"
    assert state(ws, loser) == before[loser]
    assert b"is on its way to production" in b"".join(said[loser - 2])


def test_what_was_validated_under_other_rules_or_against_another_champion_is_not_shipped(ws: Workspace) -> None:
    make_release(ws, 2)
    promote(ws, f"{MODEL}:2", dry_run=True)
    rules = ws.project.root / "noria.toml"
    before = rules.read_text(encoding="utf-8")
    rules.write_text(before + "[model.late.gate]\nauc = { min = 0.99 }\n", encoding="utf-8")
    for verb in (deploy, promote):
        with pytest.raises(GateClosed, match="late r2 cannot be shipped: its gates were judged under other rules"):
            verb(open_workspace(ws.project.root), f"{MODEL}:2")
    rules.write_text(
        before.replace('path = ["shadow 100 requests", "canary 20% 60 requests", "100%"]', 'path = ["100%"]')
    )
    again = open_workspace(ws.project.root)
    promote(again, f"{MODEL}:2")
    assert state(again, 2) == "production"
    with pytest.raises(GateClosed, match="judged against version 1, and version 2 is live now") as refused:
        promote(again, f"{MODEL}:3")
    assert refused.value.hint.startswith("noria run")
    assert state(again, 3) == "validated"


def test_a_newer_verdict_counts(ws: Workspace) -> None:
    with ws.ledger.transaction() as tx:
        judged = registry.judgement(tx, MODEL, 2)
        assert judged is not None
        no = Verdict(gate="auc", passed=False, text="auc 0.51, at least 0.6")
        tx.append(
            GateJudged(
                model=MODEL, version=2, champion=1, passed=False, verdicts=(no,), policy=judged.policy, report=""
            )
        )
    with pytest.raises(GateClosed, match=r"its newest verdict is no: auc: auc 0\.51"):
        deploy(ws, f"{MODEL}:2")
    assert state(ws, 2) == "validated"


def test_a_rollout_says_its_step_and_what_happened(ws: Workspace) -> None:
    promote(ws, MODEL)
    [model] = status(ws).models
    assert model.rollout is not None
    assert model.rollout.step == "shadow 100 requests"
    with ws.ledger.transaction() as tx:
        found = records.open_rollout(tx, MODEL)
        assert found is not None
        advance._append_step(ws, tx, found, Plan.from_json(found.plan), 1, "", {"requests": {"0": 100}})
    told = {event.kind: event.text for event in watch(ws, MODEL).events}
    assert told["rollout.started"] == "r1 → r2: shadow 100 requests → canary 20% 60 requests → 100%"
    advanced = "r1 → r2, step 2 of 3: canary 20% 60 requests; no alarm in 100 requests before"
    assert told["rollout.advanced"] == advanced
    assert told["gate.judged"].startswith("late:2 PASS 0/0 against version 1")
    assert status(ws).models[0].rollout.step == "canary 20% 60 requests"  # type: ignore[union-attr]  # it is open


def test_every_printed_id_can_be_explained(ws: Workspace) -> None:
    started = promote(ws, MODEL)
    for name in (started.rollout, f"rollout/{started.rollout}", started.rollout[:24]):
        chain = explain(ws, name)
        assert (chain.id, chain.kind) == (started.rollout, "rollout")
        assert {"rollout", "release", "model"} <= {link.what for link in chain.links}
    fact = explain(ws, "fact/1")
    assert (fact.id, fact.kind, fact.links[0].ref) == ("fact/1", "fact", "fact/1")
    with pytest.raises(NotFound, match="there is no fact 999"):
        explain(ws, "fact/999")
    with ws.ledger.read() as tx:
        version = registry.version(tx, MODEL, 1)
    assert version is not None
    digits = version.bundle.removeprefix("sha256:")
    for name in (version.bundle, digits[:8], f"sha256:{digits[:12]}"):
        assert explain(ws, name).id == version.bundle
    stored = [str(name) for name in ws.objects.names()]
    assert all(explain(ws, name).id == name for name in stored), "every object that can be printed"
    with pytest.raises(NotFound, match="nothing is known of"):
        explain(ws, "deadbeefdeadbeef")
    with tracking.start(ws, "flow") as newest:
        pass
    assert (explain(ws, "last").kind, explain(ws, "last").id) == ("run", newest.run)


def test_a_short_digest_that_fits_two_things_says_so(ws: Workspace) -> None:
    with ws.ledger.transaction() as tx:
        given = [("a", "sha256:" + "00001111" + "a" * 56), ("b", "sha256:" + "00001111" + "b" * 56)]
        record = registry.release(tx, MODEL, 1)
        assert record is not None
        tx.append(
            SmokeFinished(model=MODEL, release=1, environment="local", passed=True, rows=1, seconds=0.1),
            inputs=given,
        )
    with pytest.raises(UsageError, match="fits 2 things"):
        explain(ws, "00001111")


def test_a_window_without_requests_is_not_reviewed(ws: Workspace) -> None:
    head = ws.ledger.head()
    with pytest.raises(NotFound, match="answered no request in 2020-W05"):
        review_now(ws, MODEL, "2020-W05")
    with pytest.raises(UsageError, match="has not begun"):
        review_now(ws, MODEL, "2999-W05")
    assert (ws.ledger.head(), ws.jobs.waiting()) == (head, [])


def test_a_server_gives_one_shape_of_error_and_the_answer_behind_an_id(ws: Workspace) -> None:
    def told(answer: tuple[int, Any], status: int, code: str) -> dict[str, Any]:
        assert answer[0] == status
        error: dict[str, Any] = answer[1]["error"]
        assert set(error) == {"code", "message", "where", "hint"}
        assert error["code"] == code
        return error

    def body(row: dict[str, Any]) -> bytes:
        return json.dumps({"id": "c1", "row": row}).encode()

    with serving(ws.project.root) as server:
        wait_for(lambda: follow.servers(ws), what="the server's lease")
        lacking = {name: value for name, value in ROW.items() if name != "n0"}
        answer = server.post("/predict", body(lacking))
        assert "n0" in told(answer, 400, "row-refused")["message"]
        assert (answer[1]["column"], answer[1]["id"]) == ("n0", "c1")
        assert server.post("/predict", body(ROW))[0] == 200
        told(server.post("/predict", body(lacking)), 400, "row-refused")
        told(server.post("/predict/none", body(ROW)), 404, "not-found")
        told(server.post("/v2/models/late/infer", b"{}"), 400, "usage")
        told(server.post("/v2/models/late/nothing", b"{}"), 404, "not-found")
        told(server.post("/nothing", b"{}"), 404, "not-found")
        for path in ("/predict", "/api/v1/data/list"):
            status, content = server.get(path)
            assert "POST" in told((status, json.loads(content)), 405, "usage")["message"]
        form = "content-type: application/x-www-form-urlencoded"
        wrong = told(server.post("/api/v1/data/list", b"{}", form), 400, "usage")
        assert "-H 'content-type: application/json'" in wrong["hint"]
    chain = explain(ws, "c1")
    assert chain.links[0].text.startswith("score ")
    others = [link for link in chain.links if link.what == "other attempt"]
    assert len(others) == 2
    assert all(link.ref.startswith("pred_") and "refused with 400" in link.text for link in others)
    assert explain(ws, others[0].ref).links[0].text.startswith("c1 got no score but status 400")


@pytest.mark.parametrize("more", [(), ("--search", "2")])
def test_a_parameter_that_is_not_what_it_is_annotated_as_is_refused_before_anything_runs(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    folder = make(
        tmp_path / "p",
        """
@nr.step
def before() -> int:
    mark("before")
    return 1

@nr.step
def train(rows: int, leaves: int = 31, name: str = "a") -> int:
    return rows + leaves

@nr.pipeline
def flow():
    train(before())
""",
    )
    for given, said in (
        ("train.leaves=abc", 'train.leaves is "abc", which is not int'),
        ("train.name=7", "train.name is 7, which is not str"),
        ("train.leafs=7", "there is no parameter 'train.leafs'"),
    ):
        done = noria(folder, "run", "-p", given, *more)
        assert done.returncode == 2, done.stdout + done.stderr
        assert said in done.stderr
        assert "next:" in done.stderr
        assert len(done.stderr.strip().splitlines()) <= 6
    assert json.loads(noria(folder, "runs", "--json").stdout) == []
    assert not (seen(folder) / "marks").exists()
    assert noria(folder, "run", "-p", "train.leaves=3", "-p", 'train.name="7"').returncode == 0
