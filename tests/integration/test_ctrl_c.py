"""Ctrl-C as a terminal sends it, to the whole process group: one word, what is kept and what to type, nobody left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from script_project import environment, last, made_in, noria, notebook
from search_project import make_project

from noria.testing.processes import is_running

WAITS = "import os, time\nopen('ready', 'w').write(str(os.getpid()))\n"
DEAF = (
    "import time\nwhile True:\n    try:\n        open('ready', 'w').close(); time.sleep(600)\n"
    "    except KeyboardInterrupt:\n        open('heard', 'w').close()\n"
)
TAKES_IT = (
    "import time\ntry:\n    open('ready', 'w').close(); time.sleep(600)\nexcept KeyboardInterrupt:\n    print('enough')"
)
STOP = ["error: interrupted"]


def begun(folder: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "noria", *words], cwd=folder, env=environment(**more), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def until(process: subprocess.Popen[str], look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not look():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(process: subprocess.Popen[str], times: int = 1) -> list[str]:
    """Ctrl-C; what it says then. Nothing that it had started is there any more."""
    below = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in below):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return err.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_in(tmp_path)


def test_a_notebook_says_no_more_than_a_pipeline_does(folder: Path) -> None:
    notebook(folder / "slow.ipynb", ["open('data.csv').read(3)", WAITS + "time.sleep(600)", "print('never')"])
    process = begun(folder, "run", "slow.ipynb")
    until(process, (folder / "ready").exists)
    said = ended(process)
    _, run, document = last(folder)
    kept = f"what it did until now is kept: noria explain {run.run}"
    assert said == [*STOP, f"next:  noria run slow.ipynb begins anew; {kept}"]
    assert (run.status, run.reason.partition(":")[0]) == ("failed", "interrupted (SIGINT)")
    assert [f["path"] for f in document["read"]] == ["data.csv"]


def test_a_second_ctrl_c_ends_a_notebook_that_heeds_none(folder: Path) -> None:
    notebook(folder / "deaf.ipynb", [DEAF])
    process = begun(folder, "run", "deaf.ipynb")
    until(process, (folder / "ready").exists)
    process.send_signal(signal.SIGINT)  # it hands it on once; without a terminal a group's would come twice
    until(process, (folder / "heard").exists)
    assert ended(process)[0] == STOP[0]
    assert last(folder)[1].reason.startswith("interrupted (SIGINT)")


def test_a_cell_that_takes_the_interrupt_as_the_end_of_its_work_is_the_last(folder: Path) -> None:
    notebook(folder / "taken.ipynb", [TAKES_IT, "print('after it')"])
    process = begun(folder, "run", "taken.ipynb")
    until(process, (folder / "ready").exists)
    process.send_signal(signal.SIGINT)  # it hands it on once; without a terminal a group's would come twice
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "enough" in out
    assert "after it" not in out


def test_a_notebook_that_is_interrupted_before_its_kernel_is_ready_has_run_nothing(folder: Path) -> None:
    notebook(folder / "early.ipynb", ["open('ran', 'w').close()"])
    process = begun(folder, "run", "early.ipynb")
    until(process, lambda: bool(list((folder / ".noria" / "runs").glob("*/capture/*"))))
    assert ended(process)[0] == STOP[0]
    assert not (folder / "ran").exists()
    assert last_status(folder) == "failed"


def last_status(folder: Path) -> str:
    return noria(folder, "runs").stdout.splitlines()[1].split()[1]


@pytest.mark.parametrize("times", [1, 2])
def test_a_script_says_how_it_begins_anew(folder: Path, times: int) -> None:
    (folder / "train.py").write_text(WAITS + "time.sleep(600)\n")
    process = begun(folder, "run", "train.py", "--model", "m", "--", "--epochs", "a b")
    until(process, (folder / "ready").exists)
    said = ended(process, times)
    assert said[-2] == STOP[0]
    assert said[-1].startswith("next:  noria run train.py --model m -- --epochs 'a b' begins anew")
    assert "\n".join(said).count("Traceback") == 1, "the script's own"
    assert last_status(folder) in ("failed", "cancelled")


@pytest.mark.parametrize("times", [1, 2])
def test_a_search_tells_what_is_done_and_how_it_goes_on(tmp_path: Path, times: int) -> None:
    root = make_project(tmp_path / "p", "plain", "slow")
    process = begun(root, "run", "--search", "6", "--seed", "1")
    effects = tmp_path / "effects"
    until(process, lambda: effects.is_file() and "train slow" in effects.read_text())
    done = effects.read_text().count("train plain")
    said = ended(process, times)
    study = noria(root, "search", "list").stdout.split("study_")[1].split()[0]
    kept = f"{done} of 6 trials are done and stay so"
    assert said == [*STOP, f"next:  noria run --resume study_{study} goes on: {kept}"]
    assert done


@pytest.mark.parametrize("words", [("reproduce",), ("test",)])
def test_what_gives_a_verdict_says_that_there_is_none_yet(tmp_path: Path, words: tuple[str, ...]) -> None:
    root = make_project(tmp_path / "p")
    (root / "tests").mkdir()
    (root / "tests" / "test_it.py").write_text(f"def test_it():\n    {WAITS.splitlines()[0]}; time.sleep(600)\n")
    made = noria(root, "run")
    assert made.returncode == 0, made.stderr
    if words == ("reproduce",):
        run = made.stdout.split("run_")[1].split()[0]
        words, name = (*words, f"run_{run}"), f"noria reproduce run_{run}"
        (tmp_path / "effects").unlink()
        process = begun(root, *words)
        until(process, (tmp_path / "effects").exists)
    else:
        name = "noria test"
        process = begun(root, *words)
        until(process, lambda: len(psutil.Process(process.pid).children()) > 0)
    assert ended(process)[-2:] == [*STOP, f"next:  {name} begins anew: there is no verdict yet"]
