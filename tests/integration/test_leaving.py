"""Runs that are ended from outside: Ctrl-C, cancel by verb, and SIGTERM, after which they go on elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from steps_project import begin, make, marks, noria, report, runs, steps, until

from noria.faces.cli import up
from noria.faces.cli.main import run

SLOW = """
@nr.step
def first() -> int:
    return 1

@nr.step
def slow(n: int) -> int:
    print("slow begins", flush=True)
    mark("slow", pause=120)
    return n

@nr.step
def last(n: int) -> int:
    return n

@nr.pipeline
def flow():
    last(slow(first()))
"""
TRAINING = """
import random
import numpy as np
from sklearn.linear_model import SGDClassifier

@nr.step
def rows(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(3)
    x = chance.normal(size=(n, 6))
    return x, (x @ np.arange(6) > 0).astype("int64")

@nr.step
def fit(x: np.ndarray, y: np.ndarray, passes: int = 16) -> SGDClassifier:
    model = SGDClassifier(random_state=1)
    order = np.random.default_rng(5)
    random.seed(4)
    np.random.seed(6)
    for number in nr.checkpointed(range(passes), model, order, every="0s"):
        places = order.permutation(len(y))[: np.random.randint(100, 300) + random.randrange(50)]
        model.partial_fit(x[places], y[places], classes=np.array([0, 1]))
        note(f"fit {number}")
        time.sleep(PAUSE)
    return model

@nr.step
def descend(x: np.ndarray, y: np.ndarray, passes: int = 16) -> np.ndarray:
    weights, memory, order = np.zeros(6), {"step": 0.1}, np.random.default_rng(7)
    for number in nr.checkpointed(range(passes), weights, memory, order, every="0s"):
        place = order.integers(len(y), size=50)
        chance = 1 / (1 + np.exp(-(x[place] @ weights)))
        weights -= memory["step"] * x[place].T @ (chance - y[place])
        memory["step"] *= 0.97
        note(f"descend {number}")
        time.sleep(PAUSE)
    return weights

@nr.pipeline
def flow():
    x, y = rows()
    fit(x, y)
    descend(x, y)
"""
KILLS_OF_A_CHECKPOINT = ("checkpoint.stored:5",)


def outputs(folder: Path) -> dict[str, list[str]]:
    """The digests of what the steps of the newest run gave."""
    from noria.bootstrap import open_workspace
    from noria.pipeline import records

    ws = open_workspace(folder)
    with ws.ledger.read() as tx:
        found = {
            step.step: [each.digest for each in step.outputs] for step in records.steps(tx, runs(folder)[0]["run"])
        }
    ws.ledger.database.close()
    return found


def slow_in(process: psutil.Process) -> list[int]:
    """The processes below a driver."""
    return [child.pid for child in process.children(recursive=True)]


@pytest.mark.parametrize("executor", ["auto", "inline", "pool"])
def test_ctrl_c_ends_a_run_and_all_that_it_started(tmp_path: Path, executor: str) -> None:
    folder = make(tmp_path / "p", SLOW)
    with begin(folder, "run", "--executor", executor) as driver:
        until(lambda: "begin slow" in marks(folder))
        children = slow_in(psutil.Process(driver.pid))
        driver.send_signal(signal.SIGINT)
        said, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, said
    assert said.splitlines()[-2:] == [
        "error: interrupted",
        "next:  noria run --resume goes on from the steps that are done",
    ]
    until(lambda: not any(psutil.pid_exists(pid) for pid in children))
    assert runs(folder)[0]["status"] == "cancelled"
    (folder / "pipeline.py").write_text((folder / "pipeline.py").read_text().replace("pause=120", "pause=0"))
    assert report(noria(folder, "run", "--json"))["steps"][0]["status"] == "cached"


@pytest.mark.parametrize("executor", ["inline", "pool"])
def test_a_run_is_cancelled_by_a_verb_while_its_step_runs(tmp_path: Path, executor: str) -> None:
    folder = make(tmp_path / "p", SLOW)
    with begin(folder, "run", "--executor", executor) as driver:
        until(lambda: "begin slow" in marks(folder))
        asked = noria(folder, "pipeline", "cancel", "--reason", "wrong data").stdout
        assert asked.count("noria status, until the run is cancelled; then noria run --resume") == 1, asked
        assert asked.count("next") == 1
        assert "running" in asked
        said, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, said
    assert "cancelled" in said
    (run,) = runs(folder)
    assert (run["status"], run["cancel"]) == ("cancelled", "wrong data")
    if executor == "pool":
        assert {name: status for name, (status, _) in steps(folder).items()} == {
            "first": "done",
            "slow": "cancelled",
            "last": "skipped",
        }
    again = noria(folder, "pipeline", "cancel")
    assert again.returncode == 2
    assert "cancelled already" in again.stderr


def test_logs_can_be_followed_while_a_step_runs(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", SLOW.replace("pause=120", "pause=2"))
    with begin(folder, "run", "--executor", "pool") as driver:
        until(lambda: "begin slow" in marks(folder))
        with begin(folder, "pipeline", "logs", "--follow", "--json") as reader:
            assert reader.stdout is not None
            found = json.loads(reader.stdout.readline())
            while not found["pieces"]:
                found = json.loads(reader.stdout.readline())
            assert driver.poll() is None, "it is told while the run goes on"
            assert found["pieces"] == [{"step": "slow", "text": "slow begins\n"}]
            rest = [json.loads(line) for line in reader.stdout]
        assert rest[-1]["is_over"]
        driver.communicate(timeout=60)
    assert "slow begins" in noria(folder, "pipeline", "logs").stdout


@pytest.mark.parametrize("executor", ["inline", "pool"])
def test_training_that_is_preempted_ends_with_the_same_bytes(tmp_path: Path, executor: str) -> None:
    whole = make(tmp_path / "whole", TRAINING.replace("PAUSE", "0.0"))
    report(noria(whole, "run", "--executor", "inline", "--json"))
    folder = make(tmp_path / "p", TRAINING.replace("PAUSE", "0.05"))
    times = 0
    words: tuple[str, ...] = ("run", "--executor", executor)
    while True:
        with begin(folder, *words) as driver:
            before = len(marks(folder))
            until(lambda before=before, process=driver: len(marks(folder)) > before + 6 or process.poll() is not None)
            driver.send_signal(signal.SIGTERM)
            said, _ = driver.communicate(timeout=90)
        if driver.returncode == 0:
            break
        assert driver.returncode == 3, said
        assert runs(folder)[0]["status"] == "preempted"
        words = ("run", "--executor", executor, "--resume")
        times += 1
    assert times >= 3, "it was over too soon"
    passes = sorted(marks(folder))
    assert passes == sorted(f"{name} {number}" for name in ("fit", "descend") for number in range(16)), "none twice"
    assert outputs(folder) == outputs(whole)
    (run,) = runs(folder)
    assert (run["status"], run["resumed"]) == ("finished", times)


def test_a_worker_that_is_preempted_hands_its_step_to_another_without_a_retry(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", TRAINING.replace("PAUSE", "0.0"))
    report(noria(whole, "run", "--executor", "inline", "--json"))
    folder = make(
        tmp_path / "p",
        TRAINING.replace("PAUSE", "0.05").replace("time.sleep(0.05)", 'note(f"pid {os.getpid()}") or time.sleep(0.05)'),
    )
    with begin(folder, "run", "--executor", "pool") as driver:
        until(lambda: sum(line.startswith("fit") for line in marks(folder)) > 5)
        pids = {int(line.split()[1]) for line in marks(folder) if line.startswith("pid")}
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        said, _ = driver.communicate(timeout=90)
    assert driver.returncode == 0, said
    assert len({line for line in marks(folder) if line.startswith("pid")}) > len(pids)
    assert sorted(line for line in marks(folder) if line.startswith("fit")) == sorted(
        f"fit {number}" for number in range(16)
    )
    assert outputs(folder) == outputs(whole)


@pytest.mark.parametrize("point", KILLS_OF_A_CHECKPOINT)
def test_a_kill_while_a_checkpoint_is_saved_costs_one_pass(tmp_path: Path, point: str) -> None:
    whole = make(tmp_path / "whole", TRAINING.replace("PAUSE", "0.0"))
    report(noria(whole, "run", "--executor", "inline", "--json"))
    folder = make(tmp_path / "p", TRAINING.replace("PAUSE", "0.0"))
    assert noria(folder, "run", "--executor", "inline", NORIA_FAILPOINT=point).returncode == -9
    report(noria(folder, "run", "--resume", "--executor", "inline", "--json"))
    assert len(marks(folder)) == 33
    assert outputs(folder) == outputs(whole)


def test_a_training_that_changes_a_file_it_names_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """Such a step has another key each time, as the file is part of it; in its run it is the same call."""
    kept = 'HISTORY = Path(__file__).with_name("history.txt")\n' + TRAINING.replace("PAUSE", "0.0").replace(
        '        note(f"fit {number}")\n',
        '        note(f"fit {number}")\n        HISTORY.write_text(HISTORY.read_text() + "x")\n',
    ).replace("@nr.step\ndef fit", "@nr.step(cache=False)\ndef fit")
    folder = make(tmp_path / "p", kept)
    (folder / "history.txt").write_text("")
    point = KILLS_OF_A_CHECKPOINT[0]
    assert noria(folder, "run", "--executor", "inline", NORIA_FAILPOINT=point).returncode == -9
    report(noria(folder, "run", "--resume", "--executor", "inline", "--json"))
    assert len((folder / "history.txt").read_text()) == 17, "one pass is made twice"


def test_an_interrupt_that_a_library_drops_still_ends_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised while an object is finalised goes no further: the demo must not go on as if nothing came."""
    folder = make(tmp_path / "noria-demo", SLOW)
    (folder / "year.py").write_text(f"open({str(tmp_path / 'played')!r}, 'w').close()\n")

    def answering(url: str) -> bool:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        return True

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(up, "_is_answering", answering)
    before = signal.getsignal(signal.SIGINT)
    assert run(["up", "--demo", "--exit", "--port", "0"]) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "played").exists()


ORPHANED = """
import ctypes, os, subprocess, sys
from pathlib import Path

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # orphans come to this process, which waits for none, as in many containers
done = subprocess.run([sys.executable, "-m", "noria", "run", "--executor", "pool", "--json"], cwd=sys.argv[1])
children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
print("left:", *children)
sys.exit(done.returncode)
"""


def test_a_run_on_the_pool_leaves_no_zombies_to_whoever_adopts_orphans(tmp_path: Path) -> None:
    wide = "\n@nr.step\ndef each(n: int) -> int:\n    return n\n\n@nr.pipeline\ndef flow():\n"
    folder = make(tmp_path / "p", wide + "    each.map(list(range(20)))\n")
    done = subprocess.run(
        [sys.executable, "-c", ORPHANED, str(folder)],
        env={**os.environ, "MARKS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "left:"
