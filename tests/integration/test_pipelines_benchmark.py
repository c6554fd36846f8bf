"""The benchmark of pipelines: all that a command starts is counted, and what failed is told."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks/pipelines"


@pytest.fixture
def launched(tmp_path: Path) -> Callable[..., list[Any]]:
    """Runs Python code under the launcher: exit code, wall s, CPU s, peak MB, processes left."""

    def run(code: str, limit_s: float = 120) -> list[Any]:
        cost = tmp_path / "cost.json"
        launcher = [sys.executable, "-I", "-S", str(BENCHMARK / "launcher.py"), str(cost), str(limit_s)]
        subprocess.run([*launcher, sys.executable, "-c", code], check=True, timeout=200)
        told: list[Any] = json.loads(cost.read_text())
        return told

    return run


def test_the_exit_code_is_the_commands(launched: Callable[..., list[Any]]) -> None:
    assert launched("raise SystemExit(3)")[0] == 3


def test_memory_is_that_of_all_processes_together(launched: Callable[..., list[Any]]) -> None:
    hold = "held = bytearray(60_000_000); print('held', flush=True); input()"
    start = f"subprocess.Popen([sys.executable, '-c', {hold!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)"
    code = f"""
import subprocess, sys, time
held = [{start} for _ in range(COUNT)]
for each in held:
    each.stdout.readline()
time.sleep(1)  # for the launcher to look
for each in held:
    each.communicate(b"go")
"""
    one = launched(code.replace("COUNT", "1"))[3]
    three = launched(code.replace("COUNT", "3"))[3]
    assert three >= one + 110, "two more processes of 60 MB each are held at the same time"


def test_the_seconds_of_an_orphan_count_and_it_is_gone_afterwards(
    launched: Callable[..., list[Any]], tmp_path: Path
) -> None:
    told = tmp_path / "pid"
    burn = f"""
import os, pathlib, time
while time.process_time() < 1: pass
pathlib.Path({str(told)!r} + ".new").write_text(str(os.getpid()))
os.rename({str(told)!r} + ".new", {str(told)!r})
time.sleep(600)
"""
    code = f"""
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {burn!r}], start_new_session=True)
while not pathlib.Path({str(told)!r}).exists(): time.sleep(0.05)
"""
    exit_code, _, cpu_s, _, left = launched(code)
    assert (exit_code, left) == (0, 1)
    assert cpu_s >= 1
    assert not _lives(int(told.read_text()))


def test_an_orphan_that_has_ended_already_was_not_left_behind(launched: Callable[..., list[Any]]) -> None:
    code = """
import os, time
middle = os.fork()
if middle == 0:
    if os.fork() == 0:
        os._exit(0)  # nobody waits for it: whoever adopts it must
    time.sleep(0.5)
    os._exit(0)
os.waitpid(middle, 0)
"""
    exit_code, _, _, _, left = launched(code)
    assert (exit_code, left) == (0, 0)


def test_what_takes_too_long_is_ended(launched: Callable[..., list[Any]]) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    assert launched(code, 1.0)[0] == -9


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_run_measures_noria_and_the_loop_and_names_what_failed(tmp_path: Path) -> None:
    """A peer's environment is broken on purpose: it is in the table, with its reason."""
    broken = tmp_path / "environments/kedro"
    (broken / "bin").mkdir(parents=True)
    (broken / "bin/python").write_text("#!/bin/sh\necho 'ImportError: planted' >&2\nexit 1\n")
    (broken / "bin/python").chmod(0o755)
    lock = BENCHMARK / "requirements/kedro.txt"
    (broken / ".done").write_text(_digest(lock))
    words = ["--only", "loop", "noria", "kedro", "--steps", "3", "--environments", str(broken.parent)]
    kept = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *words, "--json", str(kept)],
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    cells = json.loads(kept.read_text())["cells"]
    assert set(cells["kedro"].values()) == {"failed"}
    assert "ImportError: planted" in done.stdout
    works = {"import", "first ever", "1 step", "chain of 3", "fan-out of 3", "3 cached"}
    assert set(cells["noria"]) == works
    assert all(cell["cpu_s"] > 0 and cell["peak_mb"] > 1 for cell in cells["noria"].values())
    assert cells["loop"]["3 cached"] == "none"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
