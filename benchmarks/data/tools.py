"""The tools that are compared: the same work as commands of each, run as whole processes and measured.

Each tool works in a project of its own below one folder. DVC has an environment of its own, made from
hash-pinned requirements; git-lfs is taken from the system, and installed where root may. The last of them
is no tool but the machine's floor.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DVC = ROOT / ".venv-peers/dvc/bin/dvc"
LIMIT_S = 1800


@dataclass(frozen=True)
class Cost:
    """Seconds by the wall, seconds of CPU (user and system), and the most memory of one process in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, max(self.peak_mb, other.peak_mb))


_LAUNCHER = """
import json, os, sys, time
begun = time.perf_counter()
child = os.fork()
if child == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(child, 0)
wall_s = time.perf_counter() - begun
with open(os.environ["BENCHMARK_COST"], "w") as sink:
    json.dump([os.waitstatus_to_exitcode(status), wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000], sink)
"""
"""Starts the command from a small process: on Linux a child's peak memory begins with that of its parent."""


def measured(words: list[str], folder: Path, environment: Mapping[str, str]) -> Cost:
    """Run a command to its end; what it prints is shown only if it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        log, cost = Path(scratch) / "log", Path(scratch) / "cost"
        with log.open("wb") as sink:
            launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *words]
            told = {**environment, "BENCHMARK_COST": str(cost)}
            subprocess.run(launcher, cwd=folder, env=told, stdout=sink, stderr=sink, timeout=LIMIT_S, check=True)
        code, *used = json.loads(cost.read_text())
        if code != 0:
            raise RuntimeError(f"{' '.join(words)} ended with {code}:\n{log.read_text(errors='replace')[-3000:]}")
    return Cost(*used)


class Tool:
    """One tool in one project: `start`, then the work. What a tool cannot do is None."""

    name = ""
    store = ""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = {**os.environ, **environment}

    def run(self, *words: str) -> Cost:
        """A command in the project."""
        return measured(list(words), self.folder, self.environment)

    def stored(self) -> int:
        """How many bytes are stored."""
        files = (self.folder / self.store).rglob("*")
        return sum(path.stat().st_size for path in files if path.is_file())


class Noria(Tool):
    """This tree's own."""

    name = "noria"
    store = ".noria/objects"

    def start(self, remote: str, endpoint: str) -> None:
        """A project with a remote."""
        text = f'[project]\nname = "bench"\n\n[remote.origin]\nurl = "{remote}"\n'
        text += f'endpoint = "{endpoint}"\n' if endpoint else ""
        (self.folder / "noria.toml").write_text(text)
        self.noria("data", "list")

    def noria(self, *words: str) -> Cost:
        """The command of the environment that runs this."""
        return self.run(str(BIN / "noria"), *words)

    def add(self, path: str) -> Cost:
        """A file or folder of the project."""
        return self.noria("data", "add", path)

    def status(self) -> Cost:
        """Whether anything has changed."""
        return self.noria("data", "status")

    def checkout(self, path: str) -> Cost:
        """Write what is gone from the project."""
        return self.noria("data", "checkout", Path(path).stem)

    def push(self) -> Cost:
        """To the remote."""
        return self.noria("data", "push")

    def pull(self, other: Noria, path: str) -> Cost:
        """From the remote into another clone, files and all."""
        shutil.copytree(self.folder / "noria.lock", other.folder / "noria.lock")
        return other.noria("data", "pull") + other.noria("data", "checkout", Path(path).stem)


class Dvc(Tool):
    """Data Version Control."""

    name = "dvc"
    store = ".dvc/cache"

    def start(self, remote: str, endpoint: str) -> None:
        """A repository with a remote."""
        self.run("git", "init", "-q")
        self.dvc("init", "-q")
        self.dvc("config", "core.analytics", "false")
        self.dvc("remote", "add", "-d", "origin", remote)
        if endpoint:
            self.dvc("remote", "modify", "origin", "endpointurl", endpoint)

    def dvc(self, *words: str) -> Cost:
        """The command of its own environment."""
        return self.run(str(DVC), *words)

    def add(self, path: str) -> Cost:
        """A file or folder of the project."""
        return self.dvc("add", "-q", path)

    def status(self) -> Cost:
        """Whether anything has changed."""
        return self.dvc("status", "-q")

    def checkout(self, path: str) -> Cost:
        """Write what is gone from the project."""
        return self.dvc("checkout", "-q")

    def push(self) -> Cost:
        """To the remote."""
        return self.dvc("push", "-q")

    def pull(self, other: Dvc, path: str) -> Cost:
        """From the remote into another clone."""
        shutil.copy(self.folder / f"{path}.dvc", other.folder)
        return other.dvc("pull", "-q")


class GitLfs(Tool):
    """git with large file storage. Without a server of its kind nothing can be pushed here."""

    name = "git-lfs"
    store = ".git/lfs"

    def start(self, remote: str, endpoint: str) -> None:
        """A repository that keeps everything in large file storage."""
        self.run("git", "init", "-q")
        self.run("git", "config", "user.email", "bench@example.org")
        self.run("git", "config", "user.name", "bench")
        self.run("git", "lfs", "install", "--local")
        self.run("git", "lfs", "track", "*.bin", "*.csv")

    def add(self, path: str) -> Cost:
        """A file or folder of the project, committed."""
        return self.run("git", "add", ".gitattributes", path) + self.run("git", "commit", "-qm", "data")

    def status(self) -> Cost:
        """Whether anything has changed."""
        return self.run("git", "status", "--porcelain")

    def checkout(self, path: str) -> Cost:
        """Write what is gone from the project."""
        return self.run("git", "checkout", "-q", "--", path)


class Floor(Tool):
    """No tool: what reading, hashing, writing and syncing the same bytes costs here. It has no remote."""

    name = "floor"
    store = ".floor"
    script = Path(__file__).with_name("floor.py")

    def start(self, remote: str, endpoint: str) -> None:
        """Nothing is needed."""

    def floor(self, *words: str) -> Cost:
        """One of its commands."""
        return self.run(sys.executable, "-I", "-S", str(self.script), *words)

    def add(self, path: str) -> Cost:
        """A file or folder of the project, or what changed of it."""
        self.path = path
        return self.floor("add", path)

    def status(self) -> Cost:
        """Whether anything has changed."""
        return self.floor("status", self.path)

    def checkout(self, path: str) -> Cost:
        """Write what is gone from the project."""
        return self.floor("checkout")


def tools() -> tuple[list[type[Tool]], list[str]]:
    """Those that can run here, and what to say of the others."""
    found: list[type[Tool]] = [Noria]
    missing = []
    said = ""
    if not DVC.exists():
        words = ["make", "-s", "-C", str(ROOT), ".venv-peers/dvc/.done"]
        said = subprocess.run(words, capture_output=True, text=True, check=False).stderr.strip()
    if DVC.exists():
        found.append(Dvc)
    else:
        missing.append(f"dvc: its environment could not be made: {said[-300:]}")
    if not has_lfs() and os.geteuid() == 0 and shutil.which("apt-get"):
        for words in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "git-lfs"]):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(words, capture_output=True, env=environment, check=False)
    if has_lfs():
        found.append(GitLfs)
    else:
        missing.append("git-lfs: not installed, and only root on Debian can install it from here")
    return [*found, Floor], missing


def has_lfs() -> bool:
    """Whether git knows large file storage."""
    return subprocess.run(["git", "lfs", "version"], capture_output=True, check=False).returncode == 0


def versions(found: list[type[Tool]]) -> dict[str, str]:
    """Which version of each tool was measured."""
    words = {
        "noria": [str(BIN / "noria"), "--version"],
        "dvc": [str(DVC), "--version"],
        "git-lfs": ["git", "lfs", "version"],
    }
    told = {}
    for tool in found:
        if tool is Floor:
            continue
        done = subprocess.run(words[tool.name], capture_output=True, text=True, timeout=LIMIT_S, check=True)
        told[tool.name] = done.stdout.strip().splitlines()[-1]
    return told
