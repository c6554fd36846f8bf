"""A pipeline that is killed goes on from what is done: each step ends once, and none runs in two places."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from steps_project import begin, journal_lines, make, marks, noria, report, runs, seen, steps, stop, until

from noria.bootstrap import open_workspace
from noria.core.errors import Conflict
from noria.loop.run import Challenge, perform
from noria.pipeline import records
from noria.pipeline.driving.execute import manner_of
from noria.pipeline.outputs import values
from noria.pipeline.outputs.values import Value
from noria.registry import records as registry
from noria.store.replay import difference

HUNDRED = """
def step(row, place):
    def made(before: int = 0, other: int = 0) -> int:
        mark(f"s{row}-{place}", pause=0.05, keep=0.35)
        return before + other + 1
    made.__name__ = f"s{row}_{place}"
    return nr.step(cache=bool((row + place) % 2), retries=50, retry_wait="0s")(made)

@nr.pipeline
def flow():
    row = [step(0, place)() for place in range(10)]
    for number in range(1, 10):
        row = [step(number, place)(row[place], row[(place + 1) % 10]) for place in range(10)]
"""
TIMES = 50
KILLS_OF_AN_ATTEMPT = ("attempt.begun", "attempt.ended:2", "step.stored:2", "step.settled", "step.finished")
KILLS_OF_A_RESUMPTION = ("run.resumed", "attempt.begun", "step.finished")
STEPS = ("first", "second", "third")
CHAIN = """
@nr.step(cache=False)
def first(n: int = 1) -> int:
    mark("first")
    return n + 1

@nr.step
def second(n: int) -> int:
    mark("second")
    return n * 10

@nr.step(cache=False)
def third(n: int) -> int:
    mark("third")
    return n + 1

@nr.pipeline
def flow():
    third(second(first()))
"""


def ends(folder: Path) -> Counter[str]:
    """How often each attempt's name has a good end in the newest run's journal."""
    (place,) = (folder / ".noria" / "runs").glob("*/journal.jsonl")
    lines = journal_lines(place)
    return Counter(line["ended"] for line in lines if "ended" in line and "outputs" in line["done"])


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_hundred_steps_survive_fifty_kills_with_every_effect_once(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", HUNDRED)
    chance = random.Random(4)
    kills = drivers = 0
    while kills < TIMES:
        words = ("run", "--executor", "pool", *(("--resume",) if runs(folder) else ()))
        before = len(marks(folder))
        with begin(folder, *words) as driver:
            until(lambda before=before, process=driver: len(marks(folder)) > before or process.poll() is not None)
            if driver.poll() is not None:
                break
            time.sleep(chance.uniform(0.0, 0.5))
            if chance.random() < 0.3:
                inner = psutil.Process(driver.pid).children(recursive=True)
                if inner:
                    os.kill(chance.choice(inner).pid, signal.SIGKILL)
                    kills += 1
                    time.sleep(chance.uniform(0.0, 0.3))
            driver.kill()
            kills += 1
            drivers += 1
            driver.communicate()
    assert kills >= TIMES, "the pipeline was over too soon to be killed so often"
    done = report(noria(folder, "run", "--resume", "--executor", "pool", "--json"))
    assert Counter(step["status"] for step in done["steps"])["done"] == 100
    names = {f"s{row}-{place}" for row in range(10) for place in range(10)}
    assert {path.name.removesuffix(".effect") for path in (seen(folder) / "marks").glob("*.effect")} == names
    said = marks(folder)
    assert [line for line in said if line.startswith("overlap")] == []
    assert ends(folder) == Counter(dict.fromkeys((name.replace("-", "_") for name in names), 1))
    begun = Counter(line.split()[1] for line in said if line.startswith("begin"))
    assert begun.total() <= 100 + 2 * kills, "a kill costs no more than what was under way"
    assert len(runs(folder)) == 1
    values = {row["step"]: row["status"] for row in json.loads(noria(folder, "why", "--json").stdout)["steps"]}
    assert set(values.values()) == {"done"}


@pytest.mark.parametrize("executor", ["inline", "pool"])
@pytest.mark.parametrize("point", KILLS_OF_AN_ATTEMPT)
def test_a_run_killed_at_any_point_of_an_attempt_is_resumed(tmp_path: Path, point: str, executor: str) -> None:
    folder = make(tmp_path / "p", CHAIN.replace("cache=False", "cache=False, retries=3, retry_wait='0s'"))
    killed = noria(folder, "run", "--executor", executor, NORIA_FAILPOINT=point)
    is_in_worker = executor == "pool" and point.startswith("attempt")
    if is_in_worker and point.startswith("attempt.ended"):  # the result was in the journal before the worker died
        assert killed.returncode == 0, killed.stdout + killed.stderr
        assert Counter(marks(folder)).total() == 6
        return
    assert killed.returncode == (4 if is_in_worker else -9), killed.stdout + killed.stderr
    before = Counter(marks(folder))
    done = report(noria(folder, "run", "--resume", "--executor", executor, "--json"))
    assert {step["status"] for step in done["steps"]} == {"done"}
    assert len(runs(folder)) == 1
    after = Counter(marks(folder))
    for name in STEPS:
        assert after[f"end {name}"] >= 1
    if point != "attempt.begun" and not is_in_worker:
        for name in STEPS:
            assert after[f"begin {name}"] == 1, "what has an end is not begun again"
    assert before <= after
    audit = json.loads(noria(folder, "audit", "verify", "--json").stdout)
    assert audit["ok"], audit


def test_results_that_only_the_journal_has_are_taken_up_by_other_processes(tmp_path: Path) -> None:
    """Killed in one process before anything was stored, and resumed by workers, who read from the store."""
    folder = make(tmp_path / "p", CHAIN)
    assert noria(folder, "run", "--executor", "inline", NORIA_FAILPOINT="attempt.ended:2").returncode == -9
    (place,) = (folder / ".noria" / "runs").glob("*/journal.jsonl")
    assert [sorted(line["done"]["held"]) for line in journal_lines(place) if "ended" in line] == [
        [value[0] for value in line["done"]["outputs"]] for line in journal_lines(place) if "ended" in line
    ]
    done = report(noria(folder, "run", "--resume", "--executor", "pool", "--json"))
    assert {step["status"] for step in done["steps"]} == {"done"}
    assert Counter(marks(folder)) == Counter(f"{what} {name}" for what in ("begin", "end") for name in STEPS)
    ws = open_workspace(folder)
    (run,) = runs(folder)
    with ws.ledger.read() as tx:
        found = {step.step: values.load(ws, Value(*_stored(step))) for step in records.steps(tx, run["run"])}
    assert found == {"first": 2, "second": 20, "third": 21}


def _stored(step: records.StepRecord) -> tuple[str, str]:
    return step.outputs[0].digest, step.outputs[0].type


@pytest.mark.parametrize("point", KILLS_OF_A_RESUMPTION)
def test_a_resumption_that_is_killed_is_resumed(tmp_path: Path, point: str) -> None:
    folder = make(tmp_path / "p", CHAIN)
    assert noria(folder, "run", NORIA_FAILPOINT="attempt.begun:2").returncode == -9
    assert noria(folder, "run", "--resume", NORIA_FAILPOINT=point).returncode == -9
    done = report(noria(folder, "run", "--resume", "--json"))
    assert {step["status"] for step in done["steps"]} == {"done"}
    assert Counter(marks(folder))["end first"] == 1
    (run,) = runs(folder)
    assert (run["status"], run["resumed"]) == ("finished", 2)


def test_a_run_is_resumed_as_it_was_begun_or_not_at_all(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", CHAIN)
    assert noria(folder, "run", "-p", "first.n=5", NORIA_FAILPOINT="attempt.begun:3").returncode == -9
    refused = noria(folder, "run", "--resume", "-p", "first.n=6")
    assert refused.returncode == 2
    text = (folder / "pipeline.py").read_text()
    (folder / "pipeline.py").write_text(text.replace("n * 10", "n * 11"))
    refused = noria(folder, "run", "--resume")
    assert refused.returncode == 2
    assert "pipeline.py has changed since" in refused.stderr
    (folder / "pipeline.py").write_text(text)
    with (folder / "noria.toml").open("a") as settings:
        settings.write('\n[run]\non_failure = "finish"  # how, and not what\n')
    assert report(noria(folder, "run", "--resume", "--json"))["ok"]
    assert Counter(marks(folder))["begin first"] == 1
    finished = noria(folder, "run", "--resume")
    assert finished.returncode == 2
    assert "it is finished" in finished.stderr


def test_a_driver_that_was_taken_over_writes_nothing_more(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", CHAIN.replace('mark("third")', 'mark("third", pause=3)'))
    with begin(folder, "run", "--executor", "pool") as first:
        until(lambda: "begin third" in marks(folder))
        stop(first, folder)
        for child in psutil.Process(first.pid).children(recursive=True):
            child.kill()  # else the one who takes over waits for them, as it must
        until(lambda: runs(folder)[0]["status"] == "lost", "its lease runs out", every_s=0.5)
        with begin(folder, "run", "--resume", "--json") as second:
            until(lambda: runs(folder)[0]["resumed"] == 1, "it is taken over", every_s=0.1)
            time.sleep(1)
            assert second.poll() is None, "who is stopped may be in a step: it is waited for"
            first.send_signal(signal.SIGCONT)
            said, _ = first.communicate(timeout=60)
            report_of_second, _ = second.communicate(timeout=60)
    assert first.returncode == 3, said
    assert "taken" in said or "away for longer" in said
    assert second.returncode == 0, report_of_second
    assert {status for status, _ in steps(folder).values()} == {"done"}
    (run,) = runs(folder)
    assert (run["status"], run["resumed"]) == ("finished", 1)


def test_a_driver_that_is_stopped_in_a_step_is_not_waited_for_without_end(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", CHAIN.replace('mark("second")', 'mark("second", pause=3)'))
    with begin(folder, "run", "--executor", "inline") as first:
        until(lambda: "begin second" in marks(folder))
        stop(first, folder)
        ws = open_workspace(folder)
        os.environ["MARKS"] = str(seen(folder))
        try:
            with pytest.raises(Conflict, match=f"second is under way in process {first.pid}, which is stopped") as told:
                perform(ws, Challenge(cause="user"), manner=manner_of(ws, executor="inline", stopped_s=1.0))
        finally:
            del os.environ["MARKS"]
        assert f"kill -CONT {first.pid}" in told.value.hint
        first.send_signal(signal.SIGCONT)
        said, _ = first.communicate(timeout=60)
    assert first.returncode == 0, said
    assert report(noria(folder, "run", "--resume", "--json"))["ok"], "the one that gave up goes on from here"
    told_of = Counter(marks(folder))
    assert (told_of["begin first"], told_of["begin second"], told_of["begin third"]) == (2, 1, 2)
    assert {run["status"] for run in runs(folder)} == {"finished"}


JUDGED = """
import pandas as pd
from sklearn.linear_model import LogisticRegression

points = nr.dataset("points", key="name", time="at", label="is_high")

@nr.step
def split(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return nr.split_by_time(rows, "10d")

@nr.step
def train(rows: pd.DataFrame) -> LogisticRegression:
    mark("train")
    x, y = nr.xy(rows)
    return LogisticRegression().fit(x, y)

@nr.metric(better="higher")
def patience(y, score) -> float:
    note(f"judging {os.getpid()}")
    while not Path(os.environ["MARKS"], "go").exists():
        time.sleep(0.01)
    return 1.0

@nr.pipeline
def flow():
    learn, newest = split(points)
    return nr.model("small", train(learn), holdout=newest, metrics=["auc", patience])
"""


def test_a_driver_taken_over_while_it_judges_a_model_makes_no_release_of_it(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", JUDGED, '[data.points]\nsource = "points.csv"\n')
    lines = [f"p{n},2026-01-{1 + n // 20:02d}T00:00:00Z,{n * 37 % 100},{int(n * 37 % 100 > 50)}" for n in range(600)]
    (folder / "points.csv").write_text("\n".join(["name,at,x,is_high", *lines]) + "\n")
    with begin(folder, "run") as first:
        until(lambda: f"judging {first.pid}" in marks(folder) or first.poll() is not None)
        assert first.poll() is None, first.communicate()
        stop(first, folder)
        until(lambda: runs(folder)[0]["status"] == "lost", "its lease runs out", every_s=0.5)
        with begin(folder, "run", "--resume", "--json") as second:
            until(lambda: f"judging {second.pid}" in marks(folder) or second.poll() is not None)
            (seen(folder) / "go").touch()
            said, _ = second.communicate(timeout=60)
            assert second.returncode == 0, said
        ws = open_workspace(folder)
        before = ws.ledger.head()
        first.send_signal(signal.SIGCONT)
        said, _ = first.communicate(timeout=60)
    assert first.returncode == 3, said
    assert "away for longer" in said
    assert [fact.fact.kind for fact in ws.ledger.facts(after=before)] == [], "it has written nothing more"
    (run,) = runs(folder)
    assert (run["status"], run["resumed"]) == ("finished", 1)
    with ws.ledger.read() as tx:
        assert [each.state for each in registry.releases(tx, "small")] == ["validated"]
    assert Counter(marks(folder))["begin train"] == 1
    assert difference(ws.ledger) == []
    assert json.loads(noria(folder, "audit", "verify", "--json").stdout)["ok"]


def test_a_failed_run_tells_machines_its_steps(tmp_path: Path) -> None:
    text = "@nr.step\ndef first() -> int:\n    return 1\n\n@nr.step\ndef second(n: int) -> int:\n"
    folder = make(
        tmp_path / "p", text + "    raise ValueError('no')\n\n@nr.pipeline\ndef flow():\n    second(first())\n"
    )
    done = noria(folder, "run", "--json")
    assert done.returncode == 4
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["error"]["code"] == "step-failed"
    assert [(each["step"], each["status"]) for each in told["steps"]] == [("first", "done"), ("second", "failed")]
    assert "ValueError: no" in told["steps"][1]["error"]
    assert told["run"] == json.loads(noria(folder, "runs", "--json").stdout)[0]["run"]


@pytest.mark.parametrize("words", [("--workers", "0"), ("--workers=-1",), ("--search", "2", "--parallel", "0")])
def test_a_count_of_none_is_refused_before_anything_begins(tmp_path: Path, words: tuple[str, ...]) -> None:
    folder = make(tmp_path / "p", "@nr.step\ndef one() -> int:\n    return 1\n\n@nr.pipeline\ndef flow():\n    one()\n")
    done = noria(folder, "run", *words)
    assert done.returncode == 2
    assert "less than 1" in done.stderr
    assert json.loads(noria(folder, "runs", "--json").stdout) == []
