"""The package as a user has it: built, and installed into a fresh environment with the locked dependencies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a fresh environment that holds the built package."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".venv", ".git", ".noria", "noria-demo", "*cache*", "tests", "dist")
    )
    run = {"check": True, "cwd": source, "stdout": subprocess.DEVNULL}
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")], **run)  # type: ignore[call-overload]  # the options are shared
    uv = Path(sys.executable).with_name("uv")
    environment = folder / "environment"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(environment)], **run)  # type: ignore[call-overload]  # the options are shared
    into = [str(uv), "pip", "install", "--quiet", "--python", str(environment / "bin" / "python"), "--compile-bytecode"]
    subprocess.run([*into, "--require-hashes", "-r", str(ROOT / "requirements" / "demo.txt")], **run)  # type: ignore[call-overload]  # the options are shared
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run([*into, "--no-deps", str(wheel)], **run)  # type: ignore[call-overload]  # the options are shared
    return environment / "bin"


@pytest.fixture(scope="session")
def noria_env(installed: Path) -> dict[str, str]:
    """An environment in which `noria` and `python` are the installed ones, and nothing of this checkout is seen."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NORIA_", "PYTHON"))}
    return {**kept, "PATH": f"{installed}{os.pathsep}{kept['PATH']}", "VIRTUAL_ENV": str(installed.parent)}
