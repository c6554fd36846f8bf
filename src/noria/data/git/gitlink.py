"""Git and data sets: the merge driver for pins, and the hooks of a working clone.

Pins are one file a data set with one line a field, so plain git merges branches that change different
data sets. Where the driver is installed, two branches may change the same data set as well. It is
installed in the clone's own configuration, because git takes no program from a repository. What it is
for stands in the clone's own `info/attributes`, so that it holds on every branch, and in
`.gitattributes`, a file of the project that says it to other clones. Nothing of the user's is
overwritten: a hook that somebody else wrote is named, not replaced.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from noria.core.errors import Conflict, NotFound, WorldError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.data.pins import FOLDER
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

__all__ = ["ATTRIBUTES", "Linked", "git", "is_bare", "link", "link_folder", "write_hook"]

ATTRIBUTES = f"{FOLDER}/*.toml merge=noria"
"""The line of `.gitattributes` that hands pins to the driver."""
MARK = "# Installed by `noria data"
_TIMEOUT_S = 120.0
_TO_COMMIT = (
    "commit .gitattributes before you merge (git add .gitattributes && git commit): "
    "git stops a merge that would overwrite it"
)


@frozen(kw_only=True)
class Linked:
    """What was set up: the repository, the driver's command, the files that were written, notes on what was not."""

    repository: str
    driver: str
    written: tuple[str, ...]
    notes: tuple[str, ...]


@verb(permission="data.add", where="project")
def link(ws: Workspace, *, hooks: bool = False) -> Linked:
    """Let this clone merge pins: two branches that change the same data set are merged by path and by row.

    Git takes no program from a repository, so every clone that wants it asks once.

    Args:
        hooks: also let `git push` send the data of the pins first, and `git merge` and `git pull` say what is not here.
    Raises: NotFound outside of a git repository; Conflict for a hook that is there already.
    Example:
        noria data link --hooks
    """
    return link_folder(ws.project.root, hooks=hooks)


def link_folder(root: Path, *, hooks: bool = False) -> Linked:
    """The same for a project's folder, without a workspace. Idempotent."""
    top = git(root, "rev-parse", "--show-toplevel")
    if top.returncode != 0:
        raise NotFound(f"{root} is in no git repository", hint="git init, then noria data link")
    driver = f"{_program()} data merge-driver %O %A %B %P"
    for key, value in (("merge.noria.name", "Noria merges data sets"), ("merge.noria.driver", driver)):
        _require(git(root, "config", "--local", key, value), "git config")
    written = [".git/config"]
    if _said(_git_path(root, "info/attributes"), f"**/{ATTRIBUTES}"):
        written.append(".git/info/attributes")
    if _said(root / ".gitattributes", ATTRIBUTES):
        written.append(".gitattributes")
    notes = [_TO_COMMIT] if _is_uncommitted(root) else []
    if hooks:
        folder = _git_path(root, "hooks")
        for name, body in _clone_hooks(root, Path(top.stdout.strip())).items():
            written.append(str(write_hook(folder / name, body)))
    return Linked(repository=top.stdout.strip(), driver=driver, written=tuple(written), notes=tuple(notes))


def _is_uncommitted(root: Path) -> bool:
    """Whether `.gitattributes` is as no commit has it: a merge with a branch that has one would stop at it."""
    return bool(_require(git(root, "status", "--porcelain", "--", ".gitattributes"), "git status"))


def _git_path(root: Path, name: str) -> Path:
    """A file or folder of the repository itself, also from a worktree."""
    place = Path(_require(git(root, "rev-parse", "--git-path", name), "git rev-parse"))
    return place if place.is_absolute() else root / place


def _said(attributes: Path, line: str) -> bool:
    """Add a line to a file of attributes, if it is not there."""
    with disk_faults(attributes):
        text = attributes.read_text(encoding="utf-8") if attributes.is_file() else ""
        if line in text.splitlines():
            return False
        gap = "" if not text or text.endswith("\n") else "\n"
        attributes.parent.mkdir(exist_ok=True)
        attributes.write_text(f"{text}{gap}{line}\n", encoding="utf-8")
    return True


def write_hook(path: Path, body: str) -> Path:
    """Write a hook, or write our own again. Raises: Conflict for one that somebody else wrote."""
    with disk_faults(path):
        if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
            raise Conflict(
                f"there is a hook {path.name} already", where=str(path), hint=f"add to it: {body.splitlines()[-1]}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_text(body, encoding="utf-8")
        part.chmod(0o755)
        part.replace(path)
    return path


def is_bare(repository: Path) -> bool:
    """Whether a folder is a bare repository. Raises: NotFound if it is in none."""
    found = git(repository, "rev-parse", "--is-bare-repository")
    if found.returncode != 0:
        raise NotFound(f"{repository} is no git repository", hint="git init --bare makes one")
    return found.stdout.strip() == "true"


def git(folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run git in a folder, whatever the environment says of another one. Raises: WorldError without git."""
    if shutil.which("git") is None:
        raise WorldError("git is not installed", hint="install git")
    return subprocess.run(
        ["git", "-C", str(folder), *words],
        check=False,
        capture_output=True,
        text=True,
        env={**clean_environment(), **(environment or {})},
        timeout=_TIMEOUT_S,
    )


def clean_environment() -> dict[str, str]:
    """The environment without what git sets for its hooks: they may work on another repository."""
    kept = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM")
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key in kept}


def hook_text(what: str, words: Sequence[str]) -> str:
    """The text of a hook that runs a noria command with the hook's own arguments."""
    return f'#!/bin/sh\n{MARK} {what}`. Run that again to write it anew.\nexec {_program()} {shlex.join(words)} "$@"\n'


def _clone_hooks(root: Path, top: Path) -> dict[str, str]:
    inside = root.resolve().relative_to(top.resolve())
    place = [] if inside == Path() else ["--project", inside.as_posix()]
    return {
        "pre-push": hook_text("link --hooks", ["data", "before-push", *place]),
        "post-merge": hook_text("link --hooks", ["data", "after-merge", *place]),
    }


def _program() -> str:
    """How to call this very Noria from a shell."""
    return f"{shlex.quote(sys.executable)} -m noria"


def _require(done: subprocess.CompletedProcess[str], what: str) -> str:
    if done.returncode != 0:
        raise WorldError(f"{what} failed: {done.stderr.strip()[:200]}")
    return done.stdout.strip()
