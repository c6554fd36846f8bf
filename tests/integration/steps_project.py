"""Projects whose steps leave marks that tests can count, and the processes that run them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

import warm

LIMIT_S = 120.0
STORE_LOCKS = {"ledger.db.lock", "index.lock", "collect.lock"}

MARKS = '''
import fcntl, os, time
from pathlib import Path

HERE = Path(os.environ["MARKS"])


def mark(name, pause=0.0, keep=0.0):
    """Be seen to begin, to be alone, to have an effect, and to come to the end."""
    (HERE / "marks").mkdir(exist_ok=True)
    note(f"begin {name}")
    lock = os.open(HERE / "marks" / f"{name}.lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note(f"overlap {name}")
    time.sleep(pause)
    (HERE / "marks" / f"{name}.effect").mkdir(exist_ok=True)
    time.sleep(keep)
    note(f"end {name}")
    os.close(lock)


def note(text, name="marks.txt"):
    """Add a line. The file is named by an argument, since one that code names is part of the step's key."""
    handle = os.open(HERE / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(handle, f"{text}\\n".encode())
    os.close(handle)
'''


def make(folder: Path, pipeline: str, settings: str = "") -> Path:
    """A project with that pipeline; `from marks import mark, note` works in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "noria.toml").write_text(f'[project]\nname = "steps"\n{settings}', encoding="utf-8")
    (folder / "marks.py").write_text(MARKS, encoding="utf-8")
    head = "import os, time\nfrom pathlib import Path\nimport noria as nr\nfrom marks import mark, note\n"
    (folder / "pipeline.py").write_text(head + pipeline, encoding="utf-8")
    return folder


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would steer Noria."""
    return {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")} | more


def seen(folder: Path) -> Path:
    """Where the steps of a project leave their marks."""
    place = folder.with_name(f"{folder.name}-seen")
    place.mkdir(exist_ok=True)
    return place


def noria(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    return warm.noria(*words, cwd=folder, env=environment(MARKS=str(seen(folder)), **more), timeout=LIMIT_S)


def begin(folder: Path, *words: str, **more: str) -> subprocess.Popen[str] | warm.Begun:
    """One command, going on."""
    return warm.begin(*words, cwd=folder, env=environment(MARKS=str(seen(folder)), **more))


def stop(process: subprocess.Popen[str] | warm.Begun, folder: Path) -> None:
    """Stop a process where it holds no lock of the stores that the next one needs, or that one would wait for it."""

    def is_stopped_without_locks() -> bool:
        process.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, "it stops")
        if not any(_is_locked(path) for path in (folder / ".noria").rglob("*.lock") if path.name in STORE_LOCKS):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    until(is_stopped_without_locks, "it is stopped without a lock")


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON that a command printed."""
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def journal_lines(place: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's journal; a writer that was killed may have left a part of one."""
    found = []
    for line in place.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def marks(folder: Path) -> list[str]:
    """What steps noted, in order."""
    place = seen(folder) / "marks.txt"
    return place.read_text().splitlines() if place.is_file() else []


def until(is_true: Callable[[], object], what: str = "", *, every_s: float = 0.02) -> None:
    """Wait for it, with a limit. What asks by a command is asked less often, else asking keeps a processor busy."""
    give_up = time.monotonic() + LIMIT_S
    while not is_true():
        assert time.monotonic() < give_up, f"it did not come true within {LIMIT_S:.0f} s {what}"
        time.sleep(every_s)


def steps(folder: Path) -> dict[str, tuple[str, str]]:
    """Status and reason of each step of the newest run, from the ledger."""
    why = report(noria(folder, "why", "--json"))
    return {step["step"]: (step["status"], step["because"]) for step in why["steps"]}


def runs(folder: Path) -> list[dict[str, Any]]:
    """The runs, newest first."""
    done = noria(folder, "tracking", "list", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
