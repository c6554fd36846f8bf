"""A push starts the pipeline: the hook of a bare repository, and those of a working clone.

The `post-receive` hook looks at what a push changed on one branch. A pin, a setting, a rule or code
starts the pipeline in a work folder of the repository's own: the commit is checked out there, the
data that its pins name are pulled, and `noria run` does the rest; steps that did not change are not
run again, because the work folder stays. The pusher sees the output and how it ended, and it is kept
in a log. Documents start nothing. Pushes that come while it works wait for their turn.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from noria.config import CONFIG_NAME
from noria.core.errors import UsageError, WorldError
from noria.core.frozen import frozen
from noria.data.git.gitlink import clean_environment, git, hook_text, is_bare, write_hook
from noria.data.pins import FOLDER
from noria.store.objects import disk_faults

__all__ = ["Installed", "Received", "install", "receive", "what_starts"]

PLACE = "noria"
"""The folder in the bare repository that holds the work folder and the logs."""
LOGS_KEPT = 200
_DOCUMENTS = (
    "*.md", "*.rst", "*.adoc", "LICENSE*", "COPYING*", "NOTICE*", "AUTHORS*", "CODEOWNERS",
    ".gitignore", ".gitattributes", ".editorconfig", "*.png", "*.jpg", "*.jpeg", "*.svg", "*.gif", "*.pdf",
)  # fmt: skip
_FOLDERS = ("docs/", "doc/", ".github/", ".gitlab/", ".vscode/", ".idea/")
Say = Callable[[str], None]


@frozen(kw_only=True)
class Installed:
    """The hook that was written, the branch that starts the pipeline, and where logs are kept."""

    repository: str
    hook: str
    branch: str
    logs: str


@frozen(kw_only=True)
class Received:
    """What a push led to: the paths that started the pipeline (none: nothing did), its exit code, its log."""

    commit: str
    started_by: tuple[str, ...]
    exit_code: int
    log: str


def install(repository: Path, branch: str = "") -> Installed:
    """Let pushes to a branch of a bare repository start the pipeline. Idempotent.

    Args:
        branch: that starts it; else the one that HEAD names.
    Raises: NotFound if there is no repository; UsageError if it is not bare; Conflict for another's hook.
    """
    if not is_bare(repository):
        raise UsageError(
            f"{repository} is a working clone: pushes go to a bare repository", hint="noria data link --hooks"
        )
    place = Path(git(repository, "rev-parse", "--absolute-git-dir").stdout.strip())
    chosen = branch or git(place, "symbolic-ref", "--short", "HEAD").stdout.strip()
    hook = place / "hooks" / "post-receive"
    write_hook(hook, hook_text("hook", ["data", "received", "--repository", str(place), "--branch", chosen]))
    return Installed(repository=str(place), hook=str(hook), branch=chosen, logs=str(place / PLACE / "logs"))


def receive(repository: Path, branch: str, updates: Iterable[str], say: Say) -> Received:
    """Act on what a push changed: git's lines `OLD NEW REF`. The pipeline's exit code is in the result.

    Raises: WorldError if the work folder cannot be made.
    """
    new, changed = _changed(repository, branch, updates)
    started = what_starts(changed)
    if not started:
        if new:
            say(f"noria: nothing that the pipeline stands on changed ({_some(changed)})")
        return Received(commit=new, started_by=(), exit_code=0, log="")
    say(f"noria: {_some(started)} changed: the pipeline starts on {new[:12]}")
    place = repository / PLACE
    with disk_faults(place):
        (place / "logs").mkdir(parents=True, exist_ok=True)
    log = place / "logs" / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{new[:12]}.log"
    with _turn(place, say), log.open("w", encoding="utf-8") as kept:

        def tell(line: str) -> None:
            say(line)
            kept.write(f"{line}\n")
            kept.flush()

        tell(f"noria: commit {new} of {branch}")
        code = _pipeline(repository, place / "work", new, tell)
        tell(f"noria: {'the pipeline is done' if code == 0 else 'the pipeline failed'}, exit code {code}")
    say(f"noria: log {log}")
    for old in sorted((place / "logs").glob("*.log"))[:-LOGS_KEPT]:
        old.unlink(missing_ok=True)
    return Received(commit=new, started_by=tuple(started), exit_code=code, log=str(log))


def what_starts(changed: Iterable[str]) -> list[str]:
    """The paths that a pipeline may depend on: everything but documents. Pins come first."""
    found = [path for path in changed if not _is_document(path)]
    return sorted(found, key=lambda path: (f"{FOLDER}/" not in f"/{path}", path))


def _is_document(path: str) -> bool:
    name = PurePosixPath(path).name
    return path.startswith(_FOLDERS) or any(fnmatch(name, pattern) for pattern in _DOCUMENTS)


def _changed(repository: Path, branch: str, updates: Iterable[str]) -> tuple[str, list[str]]:
    """The branch's new commit and the paths that differ from the old one; "" if the branch was not pushed."""
    for line in updates:
        words = line.split()
        if len(words) != 3 or words[2] != f"refs/heads/{branch}" or set(words[1]) == {"0"}:
            continue
        old, new, _ = words
        if set(old) == {"0"}:
            found = git(repository, "ls-tree", "-r", "-z", "--name-only", new)
        else:
            found = git(repository, "diff", "-z", "--name-only", "--no-renames", old, new)
        if found.returncode != 0:
            raise WorldError(f"git cannot say what changed: {found.stderr.strip()[:200]}", where=str(repository))
        return new, [path for path in found.stdout.split("\0") if path]
    return "", []


def _pipeline(repository: Path, work: Path, commit: str, tell: Say) -> int:
    """Check the commit out, bring its data, run. Gives the first exit code that is not 0."""
    _check_out(repository, work, commit)
    projects = _projects(work, commit)
    if not projects:
        tell(f"noria: there is no {CONFIG_NAME} in this commit")
        return 2
    for project in projects:
        commands = [["run"]]
        if any((project / FOLDER).glob("*.toml")):
            commands.insert(0, ["data", "pull"])
        for words in commands:
            tell(f"$ noria {' '.join(words)}")
            code = _streamed([sys.executable, "-m", "noria", *words], project, tell)
            if code != 0:
                return code
    return 0


def _check_out(repository: Path, work: Path, commit: str) -> None:
    steps: list[tuple[Path, Sequence[str]]] = []
    if not (work / ".git").exists():
        steps.append((work.parent, ["clone", "--quiet", "--shared", "--no-checkout", str(repository), str(work)]))
    steps += [
        (work, ["fetch", "--quiet", "--prune", "origin"]),
        (work, ["checkout", "--quiet", "--force", "--detach", commit]),
        (work, ["clean", "--quiet", "-d", "--force", "--exclude", ".noria"]),
    ]
    for folder, words in steps:
        done = git(folder, *words)
        if done.returncode != 0:
            raise WorldError(f"git {words[0]} failed: {done.stderr.strip()[:300]}", where=str(work))


def _projects(work: Path, commit: str) -> list[Path]:
    """The folders of the commit that are projects: the root, else every one below it."""
    names = git(work, "ls-tree", "-r", "-z", "--name-only", commit).stdout.split("\0")
    found = sorted(work / PurePosixPath(name).parent for name in names if PurePosixPath(name).name == CONFIG_NAME)
    return [work] if work in found else found


def _streamed(command: Sequence[str], folder: Path, tell: Say) -> int:
    """Run a command and pass its lines on as they come; gives its exit code (128 + signal if one ended it)."""
    environment = {**clean_environment(), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None, "it was asked for"
        for line in process.stdout:
            tell(line.rstrip("\n"))
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


@contextmanager
def _turn(place: Path, say: Say) -> Iterator[None]:
    """One pipeline at a time in a repository."""
    with disk_faults(place), (place / "lock").open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("noria: another push is at it; waiting")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _some(paths: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
    return ", ".join(paths[:shown]) + more
