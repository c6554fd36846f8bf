"""A project in a real git repository, and the commands that the git tests run in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import warm

CONFIG = """[project]
name = "shop"

[remote.origin]
url = "{remote}"
"""
PIPELINE = '''"""Counts the rows of the prices."""
import pandas as pd

import noria as nr

prices = nr.dataset("prices", key="id")


@nr.step
def count(rows: pd.DataFrame) -> int:
    print("counting", len(rows), "rows")
    return len(rows)


@nr.pipeline
def shop():
    count(prices)
'''


def run(folder: Path, *words: str | Path, code: int | None = 0, env: Mapping[str, str] | None = None) -> str:
    """Run a command and give what it printed, standard error behind standard output."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**clean(), **(env or {})},
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return _told(done, words, code)


def _told(done: subprocess.CompletedProcess[str], words: tuple[str | Path, ...], code: int | None) -> str:
    told = done.stdout + done.stderr
    assert code is None or done.returncode == code, f"{words} ended with {done.returncode}:\n{told}"
    return told


def noria(folder: Path, *words: str | Path, code: int | None = 0, env: Mapping[str, str] | None = None) -> str:
    """Run the noria command."""
    done = warm.noria(*map(str, words), cwd=folder, env={**clean(), **(env or {})}, timeout=240)
    return _told(done, words, code)


def git(folder: Path, *words: str | Path, code: int | None = 0, env: Mapping[str, str] | None = None) -> str:
    """Run git with an author."""
    who = ["-c", "user.name=ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
    return run(folder, "git", *who, *words, code=code, env=env)


def clean() -> dict[str, str]:
    """The environment without git's own and without Noria's."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "NORIA_"))}


def new_project(folder: Path, remote: Path, pipeline: str = PIPELINE) -> Path:
    """A project whose data git does not see, with the merge driver, and its first commit."""
    folder.mkdir(parents=True)
    remote.parent.mkdir(parents=True, exist_ok=True)
    (folder / "noria.toml").write_text(CONFIG.format(remote=remote), encoding="utf-8")
    (folder / "pipeline.py").write_text(pipeline, encoding="utf-8")
    (folder / ".gitignore").write_text(".noria/\ndata/\n__pycache__/\n", encoding="utf-8")
    (folder / "data").mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    noria(folder, "data", "link")
    commit(folder, "start")
    return folder


def commit(folder: Path, message: str) -> None:
    """Commit everything that git sees."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def add(folder: Path, name: str, files: Mapping[str, str], *options: str) -> None:
    """Make the folder of a data set hold exactly these files, and add it."""
    place = folder / "data" / name
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    for file, text in files.items():
        (place / file).write_text(text, encoding="utf-8")
    noria(folder, "data", "add", place, "--name", name, *options)
