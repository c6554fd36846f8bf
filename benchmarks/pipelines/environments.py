"""Makes the environment of a peer from its lock: hash-pinned, kept until the lock changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cost import Failure

HERE = Path(__file__).parent.resolve()
ROOT = HERE.parents[1]
INSTALL_S = 1800


def lock(name: str, locked: str = "") -> Path:
    """The lock of a peer: the one of its name, or another of this repository."""
    return ROOT / locked if locked else HERE / "requirements" / f"{name}.txt"


def python_of(name: str, folder: Path, locked: str = "") -> Path:
    """The interpreter of a peer's environment, which is made where needed. Raises: Failure with what was said."""
    place = folder.resolve() / name
    python, done = place / "bin/python", place / ".done"
    wanted = hashlib.sha256(lock(name, locked).read_bytes()).hexdigest()
    if done.exists() and done.read_text() == wanted:
        return python
    print(f"installing {name} into {place}", file=sys.stderr)
    shutil.rmtree(place, ignore_errors=True)
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise Failure("uv is not installed: make .venv/.uv")
    _run([uv, "venv", "--quiet", "--python", sys.executable, str(place)])
    words = ["pip", "install", "--quiet", "--require-hashes", "--compile-bytecode", "--python", str(python)]
    _run([uv, *words, "-r", str(lock(name, locked))])
    done.write_text(wanted)
    return python


def _run(words: list[str]) -> None:
    # As the Makefile has it: uv trusts its own certificates unless told, and does not read pip's settings.
    told = {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true", **os.environ}
    if "PIP_INDEX_URL" in told:
        told.setdefault("UV_DEFAULT_INDEX", told["PIP_INDEX_URL"])
    try:
        done = subprocess.run(words, env=told, check=False, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        raise Failure(f"could not be installed within {INSTALL_S} s") from None
    if done.returncode != 0:
        raise Failure(f"could not be installed: {' | '.join(done.stderr.split(chr(10)))[-400:]}")
