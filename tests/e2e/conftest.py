"""The package as a user has it: built, and installed into a fresh environment with the locked dependencies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a fresh environment that holds the built package."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    environment = folder / "environment"
    python = str(environment / "bin" / "python")
    into = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run(source, sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist"))
    _run(source, sys.executable, "-m", "venv", str(environment))
    _run(source, *into, "--require-hashes", "-r", str(ROOT / "requirements" / "demo.txt"))
    (wheel,) = (folder / "dist").glob("*.whl")
    _run(source, *into, "--no-deps", str(wheel))
    return environment / "bin"


def _run(folder: Path, *words: str) -> None:
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def noria_env(installed: Path) -> dict[str, str]:
    """An environment in which `noria` and `python` are the installed ones, and nothing of this checkout is seen."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NORIA_", "PYTHON"))}
    return {**kept, "PATH": f"{installed}{os.pathsep}{kept['PATH']}", "VIRTUAL_ENV": str(installed.parent)}
