"""`noria run --search` with real worker processes: trials as runs, the same again, kills, budgets, failures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from search_project import make_project
from serving_client import wait_for

import warm
from noria.bootstrap import open_workspace
from noria.core.errors import Conflict, UsageError
from noria.governance.audit import verify
from noria.loop.run import run
from noria.pipeline import records as steps
from noria.project.explain import explain
from noria.search import records
from noria.search.control import list_studies, show
from noria.search.facts import StudyEnded, StudyResumed, StudyStarted
from noria.search.records import TrialRecord
from noria.search.study import Request, reap, resolve, resume
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.testing.processes import is_running
from noria.tracking import records as tracking

KILLS_OF_A_SEARCH = (
    "study.started:1",
    "trial.started:1",
    "trial.started:3",
    "trial.ended:1",
    "trial.ended:4",
    "study.ended:1",
)


def noria(root: Path, *words: str, kill_at: str = "") -> subprocess.CompletedProcess[str]:
    return warm.noria(*words, cwd=root, env={**os.environ, "NORIA_FAILPOINT": kill_at}, timeout=240)


def found(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def trials_of(ws: Workspace, study: str = "") -> list[TrialRecord]:
    with ws.ledger.read() as tx:
        return records.trials(tx, study or resolve(ws, "").study)


def told(trials: list[TrialRecord]) -> list[tuple[int, Any, str, float | None]]:
    return [(trial.trial, dict(trial.params), trial.state, trial.value) for trial in trials]


def notes(root: Path) -> list[str]:
    return (root.parent / "effects").read_text().splitlines()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A project after a search of six trials, two at a time."""
    root = make_project(tmp_path_factory.mktemp("searched") / "p", "plain", "raise")
    return root, found(noria(root, "run", "--search", "6", "--parallel", "2", "--seed", "4", "--json"))


def test_the_best_trial_goes_through_gates_and_registration(searched: tuple[Path, dict[str, Any]]) -> None:
    root, report = searched
    ws = open_workspace(root)
    study = report["search"]
    assert [trial["trial"] for trial in study["trials"]] == list(range(6))
    assert study["trials"][0]["origin"] == "default"
    states = Counter(trial["state"] for trial in study["trials"])
    assert states["done"] >= 1
    assert states["failed"] >= 1, "the seed was chosen so that one fails"
    values = [trial["value"] for trial in study["trials"] if trial["state"] == "done"]
    assert study["value"] == max(values)
    assert (report["version"], report["release"], report["state"]) == (1, 1, "validated")
    with ws.ledger.read() as tx:
        final = tracking.run(tx, report["run"])
        assert final is not None
        assert final.cause == f"study/{study['study']}"
        assert {name: ws.objects.get_json(final.config)["params"][name] for name in study["params"]} == study["params"]
    assert Path(study["page"]).read_text().count('class="dot') >= states["done"]
    assert verify(ws).ok
    assert difference(ws.ledger) == []


def test_trials_are_runs_with_lineage_and_share_the_steps_before_training(
    searched: tuple[Path, dict[str, Any]],
) -> None:
    root, report = searched
    ws = open_workspace(root)
    study = report["search"]
    assert notes(root).count("wash") == 1
    for trial in study["trials"]:
        with ws.ledger.read() as tx:
            made = tracking.run(tx, trial["run"])
            ran = {step.step: step.status for step in steps.steps(tx, trial["run"])}
        assert made is not None
        assert made.cause == f"trial/{study['study']}/{trial['trial']}"
        assert made.status == ("finished" if trial["state"] == "done" else "failed")
        if trial["trial"] > 1:
            assert {ran[name] for name in ("wash", "split", "keep_back")} == {"cached"}
    chain = explain(ws, report["run"])
    refs = {link.what: link.ref for link in chain.links}
    assert refs["search"] == f"study/{study['study']}"
    assert refs["trial"] == f"trial/{study['study']}/{study['best']}"
    below = explain(ws, study["study"])
    assert sum(link.what == "trial" for link in below.touched) == 6
    assert f"run/{report['run']}" in {link.ref for link in below.touched}


def test_no_trial_trains_on_the_holdout_or_on_its_validation_rows(searched: tuple[Path, dict[str, Any]]) -> None:
    root, report = searched
    ws = open_workspace(root)

    def outputs(run_id: str, name: str) -> tuple[str, ...]:
        with ws.ledger.read() as tx:
            return next(tuple(o.digest for o in step.outputs) for step in steps.steps(tx, run_id) if step.step == name)

    final = outputs(report["run"], "split")
    for trial in report["search"]["trials"]:
        assert outputs(trial["run"], "split") == final, "the same rows are divided"
        for stored in ws.ledger.facts(kind="step.finished", subject=f"run/{trial['run']}"):
            if stored.payload.step == "train":
                given = [ref for _, ref in stored.fact.inputs]
                assert given == [outputs(trial["run"], "keep_back")[0]]
                assert final[1] not in given


def test_the_same_seed_gives_the_same_trials_and_random_ones_for_any_number_at_once(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", "plain", "report")
    words = ("run", "--search", "7", "--seed", "2", "--json")
    ws = open_workspace(root)
    by_tpe, by_chance = [], []
    for _ in range(2):
        found(noria(root, *words, "--parallel", "2", "--pruner", "asha"))
        by_tpe.append(told(trials_of(ws)))
    assert by_tpe[0] == by_tpe[1]
    for number in ("1", "3"):
        found(noria(root, *words, "--sampler", "random", "--parallel", number))
        by_chance.append(told(trials_of(ws)))
    assert by_chance[0] == by_chance[1]
    found(noria(root, "run", "--search", "3", "--seed", "3", "--json"))
    assert [each[1] for each in told(trials_of(ws))][1:] != [each[1] for each in by_tpe[0]][1:3]


def test_a_search_whose_trials_come_from_the_cache_prunes_the_same_ones(tmp_path: Path) -> None:
    """Each cached trial reports what it reported when it ran: not what others did that made a step before."""
    root = make_project(tmp_path / "p", "report")
    (root / "pipeline.py").write_text((root / "pipeline.py").read_text().replace('= "plain"', '= "report"'))
    words = ("run", "--search", "8", "--sampler", "random", "--pruner", "asha", "--parallel", "2", "--json")
    ws = open_workspace(root)
    seen = []
    for _ in range(2):
        found(noria(root, *words))
        trials = trials_of(ws)
        seen.append([(each.state, each.params, ws.objects.get_json(each.reports)) for each in trials])
    assert {state for state, _, _ in seen[0]} == {"done", "pruned"}
    assert seen[0] == seen[1]


def test_poor_trials_are_pruned_and_recorded_as_such(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", "report")
    (root / "pipeline.py").write_text((root / "pipeline.py").read_text().replace('= "plain"', '= "report"'))
    report = found(noria(root, "run", "--search", "10", "--sampler", "random", "--pruner", "asha", "--json"))
    ws = open_workspace(root)
    trials = trials_of(ws)
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned
    assert all("pruned at step" in trial.reason and trial.value is None for trial in pruned)
    with ws.ledger.read() as tx:
        runs = [tracking.run(tx, trial.run) for trial in pruned]
    assert {made.status for made in runs if made is not None} == {"stopped"}, "nothing has failed"
    assert all(ws.objects.get_json(trial.reports) for trial in pruned)
    assert all(dict(trial.params)["train.c"] != 1.0 for trial in pruned)
    assert report["search"]["best"] == next(trial.trial for trial in trials if trial.value == report["search"]["value"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A project before its search, and the trials of that search when nothing is killed."""
    place = tmp_path_factory.mktemp("whole")
    root = make_project(place / "p", "plain", "raise")
    other = place / "other"
    shutil.copytree(root, other)
    found(noria(other, "run", "--search", "5", "--parallel", "2", "--seed", "4", "--json"))
    return root, told(trials_of(open_workspace(other)))


@pytest.mark.parametrize("point", KILLS_OF_A_SEARCH)
def test_a_killed_search_goes_on_without_losing_or_repeating_a_trial(
    tmp_path: Path, whole: tuple[Path, list[Any]], point: str
) -> None:
    root = tmp_path / "p"
    shutil.copytree(whole[0], root)
    killed = noria(root, "run", "--search", "5", "--parallel", "2", "--seed", "4", kill_at=point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ws = open_workspace(root)
    study = resolve(ws, "").study
    is_over = point.startswith("study.ended")
    status, following = ("finished", f"noria explain {study}") if is_over else ("lost", f"noria run --resume {study}")
    assert [each.status for each in list_studies(ws)] == [status], "nobody is at it any more"
    assert (show(ws).status, show(ws).next) == (status, following)
    assert reap(ws) == []
    assert [each.payload.status for each in ws.ledger.facts(kind="study.ended")] == [status], "on record, once"
    before = {trial.trial: trial for trial in trials_of(ws) if trial.state in ("done", "failed")}
    report = found(noria(root, "run", "--resume", study, "--json"))
    assert report["search"]["study"] == study
    assert told(trials_of(ws)) == whole[1], "as if nothing had happened"
    for number, trial in before.items():
        assert trials_of(ws)[number].run == trial.run, "a trial that was over is not done again"
    started = Counter(each.payload.trial for each in ws.ledger.facts(kind="trial.started"))
    ended = Counter(each.payload.trial for each in ws.ledger.facts(kind="trial.ended"))
    assert set(started.values()) == set(ended.values()) == {1}
    with ws.ledger.read() as tx:
        assert not tracking.running(tx)
    assert verify(ws).ok


def test_a_study_that_is_resumed_without_a_look_is_lost_on_record_first(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    assert noria(root, "run", "--search", "2", "--seed", "4", kill_at="trial.ended:1").returncode == -signal.SIGKILL
    ws = open_workspace(root)
    found(noria(root, "run", "--resume", resolve(ws, "").study, "--json"))
    said = [type(each.payload) for each in ws.ledger.facts(subject=f"study/{resolve(ws, '').study}")]
    assert [each for each in said if issubclass(each, StudyStarted | StudyEnded | StudyResumed)] == [
        *(StudyStarted, StudyEnded, StudyResumed, StudyEnded)
    ]
    assert [each.payload.status for each in ws.ledger.facts(kind="study.ended")] == ["lost", "finished"]


def test_a_study_is_found_lost_by_many_at_once_and_ended_by_one_of_them(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    assert noria(root, "run", "--search", "2", "--seed", "4", kill_at="trial.ended:1").returncode == -signal.SIGKILL
    finders = [warm.begin("search", "list", "--json", cwd=root, env=os.environ) for _ in range(3)]
    for finder in finders:
        with finder as each:
            out, err = each.communicate(timeout=120)
        assert (each.returncode, json.loads(out)[0]["status"]) == (0, "lost"), err
    ws = open_workspace(root)
    assert [each.payload.status for each in ws.ledger.facts(kind="study.ended")] == ["lost"]


def test_a_run_that_had_ended_when_its_study_died_counts_as_the_trial(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    # The driver's own failpoint is passed after the worker's run has ended, and before the trial's end is told.
    killed = noria(root, "run", "--search", "2", "--seed", "4", kill_at="commit.before:4")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ws = open_workspace(root)
    found(noria(root, "run", "--resume", resolve(ws, "").study, "--json"))
    assert [trial.state for trial in trials_of(ws)] == ["done", "done"]
    with ws.ledger.read() as tx:
        causes = Counter(each.cause for each in tracking.runs(tx, status="finished"))
    assert set(causes.values()) == {1}


def test_a_trial_whose_process_dies_is_recorded_and_the_study_goes_on(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", "plain", "die")
    report = found(noria(root, "run", "--search", "6", "--sampler", "random", "--seed", "1", "--json"))
    died = [trial for trial in report["search"]["trials"] if trial["params"]["train.mode"] == "die"]
    assert died
    assert {trial["state"] for trial in died} == {"failed"}
    assert all("signal 9" in trial["reason"] for trial in died)
    ws = open_workspace(root)
    with ws.ledger.read() as tx:
        for trial in died:
            lost = tracking.run(tx, trial["run"])
            assert lost is not None
            assert lost.status == "lost"


def test_a_search_without_a_trial_that_succeeds_fails_the_run(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", "raise")
    (root / "pipeline.py").write_text((root / "pipeline.py").read_text().replace('= "plain"', '= "raise"'))
    done = noria(root, "run", "--search", "3")
    assert done.returncode == 4, done.stdout
    assert "none of 3 trials succeeded" in done.stderr
    assert "this mode fails" in done.stderr
    assert "noria search show study_" in done.stderr
    ws = open_workspace(root)
    assert resolve(ws, "").status == "failed"
    assert "failed" in noria(root, "search", "show").stdout
    with ws.ledger.read() as tx:
        assert tracking.runs(tx, status="finished") == []


def test_a_budget_of_time_ends_what_runs_and_a_resumed_study_goes_on(tmp_path: Path) -> None:
    words = ("--sampler", "random", "--seed", "1", "--parallel", "2")
    for budget in ("15s", "75s"):  # on a busy machine no trial may end within the first
        root = make_project(tmp_path / budget / "p", "plain", "slow")
        done = noria(root, "run", "--search", "8", "--budget", budget, *words, "--json")
        if done.returncode == 0:
            break
    report = found(done)
    states = Counter(trial["state"] for trial in report["search"]["trials"])
    assert states["stopped"] >= 1
    assert states["done"] >= 1
    assert f"the budget of {budget} was spent" in report["search"]["reason"]
    assert report["version"] == 1, "the best so far goes on"
    ws = open_workspace(root)
    with ws.ledger.read() as tx:
        assert not tracking.running(tx)
    assert _workers_of(root) == []


def test_a_budget_of_money_needs_a_price(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p")
    refused = noria(root, "run", "--search", "3", "--budget", "5eur")
    assert refused.returncode == 2
    assert "per_core_hour" in refused.stderr
    with (root / "noria.toml").open("a") as toml:
        toml.write("[run.cost]\nper_core_hour = 36000.0\n")
    report = found(noria(root, "run", "--search", "300", "--budget", "100eur", "--json"))
    assert "the budget of 100eur was spent" in report["search"]["reason"]
    assert len(report["search"]["trials"]) < 300


def test_a_study_goes_on_only_as_it_began(searched: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    root = tmp_path / "p"
    shutil.copytree(searched[0], root)
    ws = open_workspace(root)
    study = resolve(ws, searched[1]["search"]["study"])
    for asked in (Request(seed=9), Request(parallel=4), Request(sampler="random"), Request(metric="log_loss")):
        with pytest.raises(UsageError):
            resume(ws, study, asked)
    assert resume(ws, study, Request(trials=9, parallel=2, seed=4)).trials == 9
    with (root / "pipeline.py").open("a") as file:
        file.write("\nnothing = 1\n")
    with pytest.raises(Conflict, match="not that of"):
        resume(ws, study, Request())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"search": 0, "parallel": 2}, "a search of 0 trials"),
        ({"parallel": 2}, "no search asked for"),
        ({"search": 5, "metric": "rmse"}, "not measured by"),
        ({"search": 5, "sampler": "grid"}, "no sampler named"),
        ({"search": 5, "pruner": "median"}, "no pruner named"),
        ({"search": 5, "budget": "soon"}, "no budget"),
        ({"search": 5, "parallel": 1000}, "--parallel"),
        ({"search": -1}, "--search"),
        ({"resume": "study_nowhere"}, "no study"),
        ({"resume": "run_1"}, "no run"),
        ({"search": 5, "params": {"train.c": 1.0, "train.mode": "plain"}}, "declares no parameter"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_runs(
    searched: tuple[Path, dict[str, Any]], options: dict[str, Any], says: str
) -> None:
    ws = open_workspace(searched[0])
    before = len(ws.ledger.facts(kind="run.started"))
    with pytest.raises(UsageError, match=says):
        run(ws, **options)
    assert len(ws.ledger.facts(kind="run.started")) == before


def test_workers_end_with_a_search_that_is_killed(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", "slow")
    (root / "pipeline.py").write_text((root / "pipeline.py").read_text().replace('= "plain"', '= "slow"'))
    with (root / "out").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "noria", "run", "--search", "2"], cwd=root, stdout=output, stderr=output
        )
    try:
        wait_for(
            lambda: (tmp_path / "effects").exists() and "train slow" in (tmp_path / "effects").read_text(), limit_s=90
        )
        workers = _workers_of(root)
        assert workers
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not any(map(is_running, workers)), limit_s=30, what="the workers' end")


def _workers_of(root: Path) -> list[int]:
    found_pids = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = place.read_bytes()
        except OSError:
            continue
        if b"noria.faces.search_worker" in text and str(root).encode() in text:
            found_pids.append(int(place.parent.name))
    return found_pids


def at_work(root: Path) -> dict[float, int]:
    """The process that trains now with each value of c, as the steps have noted it."""
    place = root.parent / "effects"
    lines = [line.split() for line in (place.read_text().splitlines() if place.exists() else ())]
    return {float(c): int(pid) for word, pid, c in (line for line in lines if line[0] == "at") if word}


def test_a_trial_asked_to_leave_is_begun_again_and_one_that_is_killed_has_failed(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", "plain")
    text = (root / "pipeline.py").read_text()
    gate = tmp_path / "go"
    waiting = f"""    note(f"at {{os.getpid()}} {{c}}")
    while not Path({str(gate)!r}).exists():
        time.sleep(0.01)
"""
    told_train = '    note(f"train {mode} {c}")\n'
    assert text.count(told_train) == 1
    (root / "pipeline.py").write_text(text.replace(told_train, waiting))
    words = ("run", "--search", "4", "--parallel", "2", "--seed", "4", "--json")
    with warm.begin(*words, cwd=root, env={**os.environ, "NORIA_FAILPOINT": ""}) as search:
        wait_for(lambda: len(at_work(root)) == 2, limit_s=120)
        ws = open_workspace(root)
        number_of = {trial.params["train.c"]: trial.trial for trial in trials_of(ws)}
        (left, first), (killed, second) = sorted(at_work(root).items())
        assert search.pid in [above.pid for above in psutil.Process(first).parents()], "it is a worker's"
        assert first != search.pid
        os.kill(first, signal.SIGTERM)
        wait_for(lambda: at_work(root)[left] != first, limit_s=120)
        third = at_work(root)[left]
        os.kill(second, signal.SIGKILL)
        wait_for(lambda: len(at_work(root)) == 3, limit_s=120)
        os.kill(third, signal.SIGTERM)  # as often as it is asked
        wait_for(lambda: at_work(root)[left] != third, limit_s=120)
        gate.touch()
        said, _ = search.communicate(timeout=240)
        assert search.returncode == 0, said
    trials = {trial.trial: trial for trial in trials_of(ws)}
    assert sorted(trials) == [0, 1, 2, 3]
    assert trials[number_of[killed]].state == "failed"
    assert "signal 9" in trials[number_of[killed]].reason
    assert {trial.state for number, trial in trials.items() if number != number_of[killed]} == {"done"}
    ended = Counter(each.payload.trial for each in ws.ledger.facts(kind="trial.ended"))
    started = Counter(each.payload.trial for each in ws.ledger.facts(kind="trial.started"))
    assert set(ended.values()) == set(started.values()) == {1}, "nobody is told that it was begun more than once"
    ref = f"trial/{resolve(ws, '').study}/{number_of[left]}"
    with ws.ledger.read() as tx:
        runs = [tracking.run(tx, each.payload.run) for each in ws.ledger.facts(kind="run.started", ref=ref)]
        assert not tracking.running(tx)
    assert [made.status for made in runs if made is not None] == ["preempted", "preempted", "finished"]
    assert trials[number_of[left]].params["train.c"] == left, "with the parameters that it was given"
    assert difference(ws.ledger) == []


def test_the_first_trial_is_what_the_pipeline_says_also_where_no_range_holds_it(tmp_path: Path) -> None:
    root = make_project(tmp_path / "p", "report")
    text = (root / "pipeline.py").read_text()
    (root / "pipeline.py").write_text(text.replace("nr.Range(0.001, 100.0, log=True)", "nr.Range(2.0, 3.0)"))
    study = found(noria(root, "run", "--search", "2", "--seed", "4", "--json"))["search"]
    first, second = study["trials"]
    assert (first["origin"], first["state"], first["params"]) == (
        "default",
        "done",
        {"train.c": 1.0, "train.mode": "plain"},
    )
    assert 2.0 <= second["params"]["train.c"] <= 3.0
    assert study["value"] >= first["value"]
    assert found(noria(root, "search", "show", "last", "--json"))["study"] == study["study"], "the newest"
