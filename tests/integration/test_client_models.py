"""Models that another tool's client logged, promoted: judged on rows that training did not see, loaded with care."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from client_models import CLIENTS, MODEL, fitted, log, log_folder, made, make_project

import warm
from noria.bootstrap import open_workspace
from noria.catalog import filing as runs
from noria.catalog.facts import SourceData
from noria.catalog.filing import Begin
from noria.core.errors import Conflict, Denied, GateClosed, ModelFailed, NotFound, UsageError
from noria.data import versions as datasets
from noria.governance.approvals import approve
from noria.loop.judging import content_ids, rows_for
from noria.loop.promoting import Promotion, promote_model
from noria.project.diff import diff
from noria.registry import filing
from noria.registry.facts import Verdict
from noria.registry.versions import show
from noria.serving.deployment import deploy
from noria.store.replay import difference
from noria.store.workspace import Workspace, acting

KILLS_OF_A_PROMOTION = ("version.bundled", "gate.judged", "release.made", "release.moved", "model.promoted")


def trusting(level: str, more: str = "") -> str:
    return f'{CLIENTS}trust = "{level}"\n{more}'


def verdict(found: Promotion, gate: str) -> Verdict:
    return next(each for each in found.gates if each.gate == gate)


def facts(ws: Workspace) -> int:
    return len(ws.ledger.facts(limit=100_000))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strong version and a weak one, logged and not judged yet."""
    ws = make_project(tmp_path_factory.mktemp("clients") / "project")
    log(ws, fitted(1.0))
    log(ws, fitted(1e-4))
    ws.ledger.database.close()
    return ws.project.root


@pytest.fixture
def ws(template: Path, tmp_path: Path) -> Workspace:
    root = tmp_path / "project"
    shutil.copytree(template, root)
    return open_workspace(root, actor="user:ann")


def test_the_first_is_judged_alone_and_the_worse_is_refused_with_numbers(ws: Workspace) -> None:
    before = facts(ws)
    tried = promote_model(ws, "models:/churn/1", dry_run=True)
    assert tried.ok
    assert tried.is_dry_run
    assert facts(ws) == before
    first = promote_model(ws, "models:/churn/1")
    assert (first.ok, first.alias, first.state, first.champion) == (True, "champion", "validated", 0)
    assert [each.gate for each in first.gates] == [each.gate for each in tried.gates]
    assert "from skops" in first.loaded
    worse = promote_model(ws, "churn:2")
    assert (worse.ok, worse.alias, worse.state, worse.champion) == (False, "", "rejected", 1)
    against = verdict(worse, "champion log_loss")
    assert not against.passed
    assert against.high is not None
    assert against.high < 0
    assert show(ws, "churn@champion").version.version == 1
    better = log(ws, fitted(1.0))
    assert not promote_model(ws, f"models:/churn/{better}").ok, "the same model again is not better"
    again = promote_model(ws, "models:/churn@champion")
    assert again.ok
    assert "nothing to do" in again.note
    assert difference(ws.ledger) == []


def test_the_better_takes_the_alias_and_what_is_live_begins_a_rollout(ws: Workspace) -> None:
    assert promote_model(ws, "models:/churn/2").ok
    with pytest.raises(NotFound) as unjudged:
        deploy(ws, "models:/churn/1")
    assert "noria promote models:/churn/1" in unjudged.value.hint
    assert deploy(ws, "models:/churn@champion").action == "deployed"
    better = promote_model(ws, "models:/churn/1")
    assert (better.ok, better.champion, better.alias) == (True, 2, "champion")
    assert better.rollout
    assert show(ws, "churn@champion").version.version == 1
    with pytest.raises(Conflict, match="is a bundle, which stays"):
        filing.remove_version(ws, MODEL, 1)
    with pytest.raises(Conflict):
        filing.remove_model(ws, MODEL)


def test_two_of_a_client_are_compared_on_the_rows_that_they_were_judged_on(ws: Workspace) -> None:
    before = diff(ws, "churn:1", "churn:2")
    assert before.scored is None
    assert "files that a client keeps" in before.notes[0]
    judged = promote_model(ws, "models:/churn/1")
    promote_model(ws, "models:/churn/2")
    found = diff(ws, "churn:1", "churn:2")
    assert found.scored is not None
    assert (found.scored.told, found.scored.rows) == (judged.holdout, judged.rows)
    loss = next(each for each in found.scored.metrics if each.metric == "log_loss")
    assert (loss.is_beyond_chance, (loss.difference or 0) > 0) == (True, True)
    assert found.notes == tuple(f"churn:{number}: {verdict(judged, 'unseen rows').text}" for number in (1, 2)), (
        "what the gates could not prove is said again"
    )


def test_a_dry_run_shows_every_verdict_of_a_worse_one(ws: Workspace) -> None:
    promote_model(ws, "models:/churn/1")
    before = facts(ws)
    tried = promote_model(ws, "models:/churn/2", dry_run=True)
    assert not tried.ok
    assert {each.gate for each in tried.gates} >= {"files", "unseen rows", "holdout", "champion log_loss", "inputs"}
    assert facts(ws) == before
    filing.remove_version(ws, MODEL, 2)


def test_rules_of_noria_toml_decide_where_there_are_any(template: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(template, root)
    (root / "noria.toml").write_text(f"{CLIENTS}\n[model.churn.gate]\nauc = {{ min = 0.99 }}\n", encoding="utf-8")
    ws = open_workspace(root, actor="user:ann")
    refused = promote_model(ws, "models:/churn/1")
    assert not refused.ok
    assert not verdict(refused, "metric auc").passed
    with pytest.raises(GateClosed):
        filing.point_alias(ws, MODEL, "champion", 1)


def test_an_approval_that_is_asked_for_is_waited_for(template: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(template, root)
    (root / "noria.toml").write_text(f'{CLIENTS}\n[model.churn.deploy]\napprove = ["lead"]\n', encoding="utf-8")
    ws = open_workspace(root, actor="user:ann")
    with pytest.raises(GateClosed, match="waits for approval as lead"):
        promote_model(ws, "models:/churn/1")
    with pytest.raises(NotFound):
        show(ws, "churn@champion")
    approve(acting(ws, "user:bob"), "churn:1", role="lead", comment="seen")
    assert promote_model(ws, "models:/churn/1").alias == "champion"


def test_a_pickle_is_loaded_by_permission_only_and_a_foreign_one_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    ws = make_project(tmp_path / "safe")
    plain = log(ws, fitted(1.0), form="cloudpickle")
    with pytest.raises(Denied, match="a program that runs when it is loaded") as refused:
        promote_model(ws, f"models:/churn/{plain}")
    assert 'trust = "listed"' in refused.value.hint
    ws = make_project(tmp_path / "listed", trusting("listed"))
    assert promote_model(ws, f"models:/churn/{log(ws, fitted(1.0), form='cloudpickle')}").ok
    foreign = log(ws, b"cposix\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.", form="pickle")
    with pytest.raises(Denied, match=r"posix\.system"):
        promote_model(ws, f"models:/churn/{foreign}")
    assert not mark.exists()


def test_what_runs_by_permission_has_no_network_and_none_of_our_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said.json"
    monkeypatch.setenv("NORIA_TOKEN", "secret")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        code = (
            "import json, os, socket\n"
            "try:\n"
            f"    socket.create_connection(('127.0.0.1', {port}), 5).close()\n"
            "    reached = True\n"
            "except OSError:\n"
            "    reached = False\n"
            f"open({str(said)!r}, 'w').write(json.dumps([reached, sorted(os.environ)]))\n"
        )
        ws = make_project(tmp_path / "any", trusting("any"))
        number = log(ws, b"cbuiltins\nexec\n(" + pickled_text(code) + b"tR.", form="pickle")
        with pytest.raises(ModelFailed, match="its file holds a NoneType"):
            promote_model(ws, f"models:/churn/{number}")
    reached, names = json.loads(said.read_text())
    assert "NORIA_TOKEN" not in names
    if os.geteuid() == 0:
        assert not reached, "root can always leave the network"


def pickled_text(text: str) -> bytes:
    """The instruction of a pickle that pushes a text."""
    return b"V" + text.encode("raw_unicode_escape").replace(b"\n", b"\\u000a") + b"\n"


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ("flavors:\n  sklearn:\n    pickled_model: ../../secret\n", "which is no file of it"),
        ("flavors:\n  sklearn:\n    pickled_model: /etc/passwd\n", "which is no file of it"),
        ("flavors:\n  sklearn:\n    pickled_model: other.pkl\n", "not among its files"),
        ("flavors:\n  catboost:\n    data: model.cb\n", "no flavor that can be asked"),
        ("flavors:\n  xgboost:\n    data: model.ubj\n    xgb_version: 3.2.0\n", "xgboost, which is not installed here"),
        ("flavors: [1, 2]\n", "names no flavors"),
        ("a: [\n", "is no YAML"),
        ("!!python/object/apply:os.system ['true']\n", "is no YAML"),
    ],
)
def test_a_description_that_does_not_hold_is_told(tmp_path: Path, described: str, told: str) -> None:
    ws = make_project(tmp_path / "project")
    number = log(ws, fitted(1.0), described=described)
    with pytest.raises(UsageError, match=told):
        promote_model(ws, f"models:/churn/{number}")


def test_files_that_are_no_model_or_elsewhere_are_told(tmp_path: Path) -> None:
    ws = make_project(tmp_path / "project")
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "notes.txt").write_text("no model")
    with pytest.raises(UsageError, match="no MLmodel"):
        promote_model(ws, f"models:/churn/{log_folder(ws, folder)}")
    number = filing.file_version(ws, MODEL, filing.Filed(source="s3://bucket/model", storage="s3://bucket/model"))
    with pytest.raises(UsageError, match="which Noria does not keep"):
        promote_model(ws, f"models:/churn/{number}")


def test_without_a_holdout_nothing_is_judged(tmp_path: Path) -> None:
    ws = make_project(tmp_path / "project", '[project]\nname = "bare"\n')
    with pytest.raises(UsageError, match="nothing says which rows churn is judged on") as refused:
        promote_model(ws, f"models:/churn/{log(ws, fitted(1.0))}")
    assert "holdout" in refused.value.hint


def test_a_champion_that_cannot_be_loaded_closes_the_gate(ws: Workspace) -> None:
    broken = log(ws, b"not a pickle", form="pickle")
    filing.point_alias(ws, MODEL, "champion", broken)
    found = promote_model(ws, "models:/churn/1")
    assert not found.ok
    assert f"the champion, version {broken}, cannot be compared with" in verdict(found, "champion").text


def told_run(ws: Workspace, content: str, source: dict[str, Any]) -> str:
    """A run that told of a data set as MLflow's client does."""
    runs.ensure_default(ws)
    run = runs.begin_run(ws, Begin(experiment="Default", name="r", started_at="2026-01-01T00:00:00.000000Z")).run
    details = ws.objects.put_json({"source": json.dumps(source), "schema": "{}", "profile": "{}"})
    data = SourceData(name="rows", content_id=content, source_type="local", details=details)
    runs.log_inputs(ws, run, [data], [])
    return run


def outcome(ws: Workspace, content: str, source: Sequence[tuple[str, str]] = ()) -> Verdict:
    run = told_run(ws, content, dict(source))
    return verdict(promote_model(ws, f"models:/churn/{log(ws, fitted(1.0), run=run)}", dry_run=True), "unseen rows")


def test_a_run_that_took_the_holdout_does_not_pass(ws: Workspace) -> None:
    rows = rows_for(ws, MODEL)
    own = sorted(content_ids(rows))
    assert len(own) == 3
    seen = outcome(ws, own[0])
    assert not seen.passed
    assert "by content" in seen.text
    place = str(ws.project.root / "held.csv")
    by_source = outcome(ws, "00000000", [("uri", place)])
    assert not by_source.passed
    assert "by its source" in by_source.text


def test_rows_that_training_and_holdout_share_are_found(ws: Workspace, tmp_path: Path) -> None:
    shared = tmp_path / "train.csv"
    rows = made(1500, 99)
    rows.assign(age=rows["age"] + 1)[1400:].to_csv(shared, index=False)
    from_file = tmp_path / "fresh.csv"
    rows.assign(id=rows["id"] + 10_000).to_csv(from_file, index=False)
    datasets.add(ws, str(shared), "train")
    datasets.add(ws, str(from_file), "fresh")
    by_key = outcome(ws, "00000000", [("uri", str(shared))])
    assert not by_key.passed
    assert "train@1, where 7% of the rows of held@1 are too" in by_key.text
    apart = outcome(ws, "00000000", [("uri", str(from_file))])
    assert apart.passed
    assert "fresh@1: 0% of the rows of held@1 are in it); none is held@1" in apart.text


SOURCES: list[list[tuple[str, str]]] = [
    [("uri", "s3://elsewhere/rows.csv")],
    [("tags", "mlflow.source.name: train.py")],  # autolog: rows of the script's own, by their digest only
    [],
]


@pytest.mark.parametrize("source", SOURCES)
def test_rows_that_are_not_here_prove_nothing_whatever_their_digest(
    template: Path, tmp_path: Path, source: list[tuple[str, str]]
) -> None:
    root = tmp_path / "project"
    shutil.copytree(template, root)
    found = outcome(open_workspace(root), "00000000", source)
    assert found.passed
    assert found.text.startswith("not proven: the rows of rows that its run took are not here")
    assert "none is" not in found.text
    (root / "noria.toml").write_text(f"{CLIENTS}must_tell = true\n", encoding="utf-8")
    assert not outcome(open_workspace(root), "00000000", source).passed


def test_a_run_that_told_nothing_passes_with_a_word_or_not_at_all(template: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(template, root)
    silent = verdict(promote_model(open_workspace(root), "models:/churn/1", dry_run=True), "unseen rows")
    assert silent.passed
    assert silent.text.startswith("not proven")
    (root / "noria.toml").write_text(f"{CLIENTS}must_tell = true\n", encoding="utf-8")
    strict = promote_model(open_workspace(root), "models:/churn/1", dry_run=True)
    assert not strict.ok
    assert not verdict(strict, "unseen rows").passed


def noria(folder: Path, *words: str, kill_at: str = "") -> Any:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")}
    if kill_at:
        kept["NORIA_FAILPOINT"] = f"{kill_at}:1"
    return warm.noria(*words, cwd=folder, env=kept)


@pytest.mark.parametrize("name", KILLS_OF_A_PROMOTION)
def test_a_promotion_killed_anywhere_is_finished_by_the_next(template: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    assert noria(folder, "promote", "models:/churn/1", kill_at=name).returncode == -9
    done = noria(folder, "promote", "models:/churn/1", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["ok"]
    audit = json.loads(noria(folder, "audit", "verify", "--json").stdout)
    assert (audit["ok"], audit["message"]) == (True, audit["message"])
    ws = open_workspace(folder)
    assert show(ws, "churn@champion").version.version == 1
    assert len(ws.ledger.facts(kind="version.bundled")) == 1
    assert difference(ws.ledger) == []


def test_the_command_says_what_it_judged_and_its_exit_code_what_came_of_it(ws: Workspace) -> None:
    folder = ws.project.root
    ws.ledger.database.close()
    done = noria(folder, "promote", "models:/churn/1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "churn@champion is version 1 now" in done.stdout
    assert "next: noria deploy churn:1" in done.stdout
    refused = noria(folder, "promote", "models:/churn/2")
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "better: lower bound above 0; sees gains from 0." in refused.stdout
    unknown = noria(folder, "promote", "models:/churn/9")
    assert unknown.returncode == 2
    assert len(unknown.stderr.strip().splitlines()) <= 6
