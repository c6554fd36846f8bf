"""A locked environment as a new virtual environment: installed by pip, then compared file by file.

A lock knows of each distribution its version and the digest of its files. So nothing of what pip
downloads is believed: after the installation every file is hashed and compared with its RECORD, and
the RECORD with the lock. What an index no longer has, what is not the same, and what no index can
give (an editable install) is said by name.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from noria.core.errors import UsageError, WorldError
from noria.core.frozen import frozen
from noria.core.identity import canonical, digest
from noria.store.scratch import Scratch
from noria.tracking.environment import Environment
from noria.tracking.installed import installed, recorded_files

__all__ = ["Rebuilt", "Trouble", "rebuild"]

TIMEOUT_S = 3600
EDITABLE = "+editable"
MISSING_MAX = 20
"""So many that cannot be had mean that the index cannot be reached, or is another one."""


@frozen(kw_only=True)
class Trouble:
    """A distribution that is not as it was: `why` in words."""

    name: str
    version: str
    why: str


@frozen(kw_only=True)
class Rebuilt:
    """An environment that was made anew. `ok` if Python is of the same version and nothing is missing or altered.

    `verified` counts distributions whose every file is what it was; `missing` could not be had, `altered`
    were had and are not the same, `unpinned` are editable installs, taken as they are on this machine now,
    and distributions of which the lock keeps no content. `python` is the interpreter to use.
    """

    ref: str
    folder: str
    python: str
    ok: bool
    python_wanted: str
    python_found: str
    packages: int
    verified: int
    missing: tuple[Trouble, ...]
    altered: tuple[Trouble, ...]
    unpinned: tuple[Trouble, ...]
    next: str


def rebuild(lock: Environment, folder: Path, *, ref: str) -> Rebuilt:
    """Make the environment in a folder that is empty or not there, and say what of it is as it was.

    Raises: UsageError if the folder holds something; WorldError if no Python of that minor version is
        here, or the environment cannot be made at all.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there and not empty", hint="name a new folder")
    interpreter, found = _interpreter(lock.python)
    folder = folder.absolute()
    _run([interpreter, "-m", "venv", "--without-pip", str(folder)], f"the environment in {folder}")
    python = folder / "bin" / "python"
    site = _site(python)
    missing = _install(lock, interpreter, python)
    unpinned = _link_editables(lock, site)
    verified, altered, unknown = _compare(lock, site, {each.name for each in (*missing, *unpinned)})
    return Rebuilt(
        ref=ref,
        folder=str(folder),
        python=str(python),
        ok=not missing and not altered and found == lock.python,
        python_wanted=lock.python,
        python_found=found,
        packages=len(lock.packages),
        verified=verified,
        missing=tuple(missing),
        altered=tuple(altered),
        unpinned=(*unpinned, *unknown),
        next=f"noria reproduce {ref}",
    )


def _interpreter(wanted: str) -> tuple[str, str]:
    """A Python of the wanted version, else of the same minor version: its path and version. Raises: WorldError."""
    minor = wanted.rpartition(".")[0]
    names = [getattr(sys, "_base_executable", "") or sys.executable]
    names += [found for name in (f"python{minor}", "python3", "python") if (found := shutil.which(name))]
    names += sorted(str(path) for path in _pyenv().glob(f"{minor}.*/bin/python"))
    versions: dict[str, str] = {}
    for name in dict.fromkeys(names):
        said = subprocess.run(
            [name, "-I", "-c", "import platform; print(platform.python_version())"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        ).stdout.strip()
        versions.setdefault(said, name)
    if wanted in versions:
        return versions[wanted], wanted
    for version, name in versions.items():
        if version.rpartition(".")[0] == minor:
            return name, version
    known = ", ".join(sorted(version for version in versions if version)) or "none"
    raise WorldError(f"Python {wanted} is not on this machine", where=f"here: {known}", hint=f"install Python {wanted}")


def _pyenv() -> Path:
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"


def _site(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    return Path(_run([str(python), "-I", "-c", code], "the new environment").stdout.strip())


def _install(lock: Environment, interpreter: str, python: Path) -> list[Trouble]:
    """Let pip install what an index or an address has; gives what could not be had.

    What pip says that it cannot find is left out, and the rest is asked for again.
    """
    wanted = {name: _requirement(lock, name) for name in lock.packages if _requirement(lock, name)}
    absent = [
        Trouble(name=name, version=version, why="it was installed from a local file, which the lock does not keep")
        for name, version in sorted(lock.packages.items())
        if not version.endswith(EDITABLE) and name not in wanted
    ]
    if not wanted:
        return absent
    with _pip(interpreter) as pip:
        command = [*pip, "--python", str(python), "install", "--no-deps", "--no-input", "--quiet", "--no-compile"]
        absent += _had(command, wanted, lock)
    return sorted(absent, key=lambda each: each.name)


def _had(command: list[str], wanted: dict[str, str], lock: Environment) -> list[Trouble]:
    """Install what can be had of `wanted`; gives the rest with pip's own reason."""
    absent: list[Trouble] = []
    waiting = [wanted]
    while waiting:
        asked = waiting.pop()
        if len(absent) >= MISSING_MAX:
            text = f"not asked for, since {len(absent)} others could not be had"
            absent += [Trouble(name=name, version=lock.packages[name], why=text) for name in asked]
            continue
        done = _tried([*command, *asked.values()]) if asked else None
        if done is None or done.returncode == 0:
            continue
        blamed = _blamed(done, asked)
        if blamed or len(asked) == 1:
            for name in blamed or asked:
                absent.append(Trouble(name=name, version=lock.packages[name], why=_reason(done)))
            waiting.append({name: text for name, text in asked.items() if name not in (blamed or asked)})
        else:  # pip names nobody, such as when one cannot be built: look in halves
            names = sorted(asked)
            halves = names[: len(names) // 2], names[len(names) // 2 :]
            waiting += [{name: asked[name] for name in half} for half in halves]
    return absent


def _blamed(done: subprocess.CompletedProcess[str], asked: Mapping[str, str]) -> list[str]:
    """The package that pip says it cannot find; none if it names none."""
    for line in reversed((done.stdout + done.stderr).splitlines()):
        found = [name for name, text in asked.items() if re.search(rf"(?<![\w.-]){re.escape(text)}(?![\w.])", line)]
        if line.startswith("ERROR") and len(found) == 1:
            return found
    return []


def _requirement(lock: Environment, name: str) -> str:
    """What pip is asked for; "" for what only this machine could have."""
    version = lock.packages[name]
    if name in lock.origins:
        return f"{name} @ {lock.origins[name]}"
    return "" if "+" in version and _is_local(version) else f"{name}=={version}"


def _is_local(version: str) -> bool:
    """Whether what stands after the plus is ours (how it was installed), not a local version of an index (`+cu121`)."""
    tail = version.rpartition("+")[2]
    return tail == EDITABLE[1:] or (len(tail) == 16 and set(tail) <= set("0123456789abcdef"))


@contextlib.contextmanager
def _pip(interpreter: str) -> Iterator[list[str]]:
    """A pip in an environment of its own, so that the new one holds nothing but what is locked."""
    with Scratch("pip") as place:
        _run([interpreter, "-m", "venv", str(place)], "an environment for pip")
        yield [str(place / "bin" / "python"), "-m", "pip"]


def _link_editables(lock: Environment, site: Path) -> list[Trouble]:
    """Let the new environment see the editable installs of this one: their notes and links, not their code."""
    here = dict(installed())
    found = []
    for name, version in sorted(lock.packages.items()):
        if not version.endswith(EDITABLE):
            continue
        mine = here.get(name)
        if mine is None or f"{mine.version}{EDITABLE}" != version:
            found.append(Trouble(name=name, version=version, why="it was editable, and is not installed so here"))
            continue
        for file in mine.files or ():
            source = Path(str(mine.locate_file(file)))
            if ".." not in file.parts and source.is_file():
                target = site / str(file)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        found.append(Trouble(name=name, version=version, why="editable: this machine's folder as it is now"))
    return found


def _compare(lock: Environment, site: Path, known: set[str]) -> tuple[int, list[Trouble], list[Trouble]]:
    """How many distributions are what they were; those that are not; those of which the lock says too little."""
    there = dict(installed([str(site)]))
    verified, altered, unknown = 0, [], []
    for name, version in sorted(lock.packages.items()):
        if name in known:
            continue
        found = there.get(name)
        if found is None:
            altered.append(Trouble(name=name, version=version, why="pip said that it was installed, and it is not"))
            continue
        files = recorded_files(found)
        bad = _first_bad(files, site)
        record = digest(canonical([list(row) for row in files]))
        if bad:
            altered.append(Trouble(name=name, version=version, why=f"{bad} is not what its RECORD says"))
        elif name not in lock.records:
            unknown.append(Trouble(name=name, version=version, why="the lock knows its version only"))
        elif record != lock.records[name]:
            altered.append(Trouble(name=name, version=version, why=_other_build(found)))
        else:
            verified += 1
    extra = sorted(set(there) - set(lock.packages))
    altered += [Trouble(name=name, version=there[name].version, why="it is not in the lock") for name in extra]
    return verified, altered, unknown


def _other_build(found: importlib.metadata.Distribution) -> str:
    wheel = found.read_text("WHEEL") or ""
    tag = next((line.partition(":")[2].strip() for line in wheel.splitlines() if line.startswith("Tag:")), "")
    return f"another build of the same version{f' ({tag})' if tag else ''}"


def _first_bad(files: Sequence[tuple[str, str]], site: Path) -> str:
    """The first file whose bytes are not those of its RECORD; "" if all are.

    Source: PEP 376 and PEP 427: `sha256=` and the urlsafe base64 digest without padding.
    """
    for name, recorded in files:
        kind, _, wanted = recorded.partition("=")
        path = site / name
        if kind not in hashlib.algorithms_guaranteed or not path.is_file():
            return name
        found = hashlib.new(kind, path.read_bytes()).digest()
        if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != wanted:
            return name
    return ""


def _run(command: Sequence[str], what: str) -> subprocess.CompletedProcess[str]:
    done = _tried(command)
    if done.returncode != 0:
        raise WorldError(f"{what} could not be made: {_reason(done)}", where=command[0])
    return done


def _tried(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    kept: Mapping[str, str] = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    try:
        return subprocess.run(
            list(command), capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=dict(kept)
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(list(command), 124, "", f"no end within {TIMEOUT_S} s")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The line of a failed command that says most: pip's last error, else its last line."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or [f"exit code {done.returncode}"])[-1][:200]
