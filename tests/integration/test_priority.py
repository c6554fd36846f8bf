"""What trains under `noria up` stands back for what answers: every process of it, whoever started it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from steps_project import environment, make, noria, seen, until

from noria.config import RunConfig

NICE = RunConfig().nice
PIPELINE = """
import json, subprocess, sys
from concurrent.futures import ProcessPoolExecutor

def standing():
    group = Path("/proc/self/autogroup")
    return [os.getpriority(os.PRIO_PROCESS, 0), group.read_text() if group.exists() else ""]

ASK = "import sys; sys.path.insert(0, '.'); import json, pipeline; print(json.dumps(pipeline.standing()))"

def tell(name):
    told = subprocess.run([sys.executable, "-c", ASK], check=True, capture_output=True, text=True).stdout
    place = Path(os.environ["MARKS"], f"standing {name}")
    part = place.with_name(f"part {name}")
    part.write_text(json.dumps([standing(), json.loads(told)]))
    part.replace(place)

@nr.step(cache=False)
def first() -> int:
    tell("first")
    return 1

@nr.step(cache=False)
def score(number: int, before: int) -> int:
    tell(f"score {number}")
    return number

@nr.step(cache=False, isolated=True)
def last(scores: list) -> int:
    tell("last")
    return len(scores)

@nr.pipeline
def flow():
    last(score.map([0, 1, 2], before=first()))
"""
SETTINGS = '[server]\nport = 0\n[schedule.training]\nevery = "52w"\ndo = "run"\n'
NAMES = ("first", "score 0", "score 1", "score 2", "last")


def told(folder: Path) -> dict[str, list[Any]]:
    """Nice value and group of each step's process, and of a process that it started."""
    found = {name: seen(folder) / f"standing {name}" for name in NAMES}
    return {name: json.loads(place.read_text()) for name, place in found.items() if place.is_file()}


def is_low(standing: list[Any]) -> bool:
    nice, group = standing
    return nice == NICE and (not group or group.split()[-1] == str(NICE))


@pytest.mark.parametrize("executor", ["auto", "inline", "pool"])
def test_training_under_noria_up_runs_at_the_low_priority(tmp_path: Path, executor: str) -> None:
    folder = make(tmp_path / "p", PIPELINE, SETTINGS + f'[run]\nexecutor = "{executor}"\n')
    if executor == "inline":
        text = (folder / "pipeline.py").read_text()
        (folder / "pipeline.py").write_text(text.replace(", isolated=True", ""))
    with (tmp_path / "up.log").open("wb") as output:
        command = [sys.executable, "-m", "noria", "up"]
        up = subprocess.Popen(
            command, cwd=folder, env=environment(MARKS=str(seen(folder))), stdout=output, stderr=output
        )
    try:
        note = folder / ".noria" / "up.json"
        until(note.is_file)
        trigger = noria(folder, "schedule", "trigger", "training")
        assert trigger.returncode == 0, trigger.stdout + trigger.stderr
        until(lambda: len(told(folder)) == len(NAMES), (tmp_path / "up.log").read_text())
        children = json.loads(note.read_text())["children"]
        assert psutil.Process(children["server"]).nice() == psutil.Process().nice()
        assert psutil.Process(children["trainer"]).nice() == NICE
        groups = [Path(f"/proc/{children[name]}/autogroup") for name in ("server", "trainer")]
        if groups[0].exists():
            assert [group.read_text().split()[-1] for group in groups] == ["0", str(NICE)]
    finally:
        up.terminate()
        up.wait(timeout=60)
    assert all(is_low(each) for both in told(folder).values() for each in both), told(folder)


def test_a_run_from_a_shell_is_as_it_was_started(tmp_path: Path) -> None:
    """`noria run` is as nice as its caller says, workers too: only what works in the background stands back."""
    folder = make(tmp_path / "p", PIPELINE)
    assert noria(folder, "run", "--executor", "pool").returncode == 0
    before = psutil.Process().nice()
    assert {each[0] for both in told(folder).values() for each in both} == {before}
    done = subprocess.run(
        ["nice", "-n", "7", sys.executable, "-m", "noria", "run", "--executor", "pool"],
        cwd=folder, env=environment(MARKS=str(seen(folder))), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = [each for both in told(folder).values() for each in both]
    assert {nice for nice, _ in found} == {before + 7}
    assert {group.split()[-1] for _, group in found if group} <= {str(before + 7)}
