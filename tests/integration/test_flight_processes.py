"""Equal steps of several processes: run once; and again only if the one that ran it died."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

PIPELINE = '''"""One slow step, whose effect can be counted."""

import time
from pathlib import Path

import noria as nr


@nr.step
def slow(seconds: float = 2.0) -> int:
    with Path(__file__).with_name("effects.txt").open("a") as file:
        file.write("x")
    time.sleep(seconds)
    return 7


@nr.pipeline
def flow():
    slow()
'''
LIMIT_S = 60.0


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.py").write_text(PIPELINE, encoding="utf-8")
    (tmp_path / "noria.toml").write_text('[project]\nname = "flight"\n', encoding="utf-8")
    return tmp_path


def start(project: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "noria", "run", "--json"], cwd=project, stdout=subprocess.PIPE, text=True
    )


def effects(project: Path) -> int:
    place = project / "effects.txt"
    return len(place.read_text()) if place.is_file() else 0


def until_begun(project: Path) -> None:
    began = time.monotonic()
    while not effects(project):
        assert time.monotonic() - began < LIMIT_S
        time.sleep(0.02)


def test_equal_steps_of_four_processes_run_once(project: Path) -> None:
    running = [start(project) for _ in range(4)]
    told = [json.loads(process.communicate(timeout=LIMIT_S)[0]) for process in running]
    assert sorted(report["steps"][0]["status"] for report in told) == ["cached", "cached", "cached", "done"]
    assert effects(project) == 1


def test_the_step_of_a_killed_process_is_taken_over(project: Path) -> None:
    first = start(project)
    until_begun(project)
    second = start(project)
    time.sleep(0.5)  # it may wait by now, or come later: either way it must not wait for the dead
    first.kill()
    first.communicate()
    report = json.loads(second.communicate(timeout=LIMIT_S)[0])
    assert report["steps"][0]["status"] == "done"
    assert effects(project) == 2
