"""A push starts the pipeline: the hook of a bare repository, and those of a working clone.

The `post-receive` hook looks at what a push changed on one branch. A pin, a setting, a rule or code
starts the pipeline in a work folder of the repository's own: the commit is checked out there, the
data that its pins name are pulled, and `noria run` does the rest; steps that did not change are not
run again, because the work folder stays. The pusher sees the output and how it ended, and it is kept
in a log. Documents start nothing. Pushes that come while it works wait for their turn.

What changed is told from the commit that the pipeline last came to an answer on, not from the push
alone: where data were not there yet, a disk was full, or the pusher's connection broke, the next push
starts it again, whatever it changes. `refs/noria/done/BRANCH` of the repository names that commit.
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
ANSWERS = (0, 1, 4)
"""Exit codes that answer for a commit: done, a gate said no, its own code failed. Others say it could not be asked."""
_USUAL = ("main", "master")
_DOCUMENTS = (
    "*.md", "*.rst", "*.adoc", "LICENSE*", "COPYING*", "NOTICE*", "AUTHORS*", "CODEOWNERS",
    ".gitignore", ".gitattributes", ".editorconfig", "*.png", "*.jpg", "*.jpeg", "*.svg", "*.gif", "*.pdf",
)  # fmt: skip
_FOLDERS = ("docs/", "doc/", ".github/", ".gitlab/", ".vscode/", ".idea/")
Say = Callable[[str], None]


@frozen(kw_only=True)
class Installed:
    """The hook that was written, the branch that starts the pipeline, and where logs are kept.

    `branch` is "" in an empty repository, where the first push tells; `note` says so.
    """

    repository: str
    hook: str
    branch: str
    logs: str
    note: str = ""


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
        branch: that starts it; else the one that HEAD names, or where that one is not there, main or the only one.
    Raises: NotFound if there is no repository; UsageError if it is not bare, or for a branch that nobody named;
        Conflict for another's hook.
    """
    if not is_bare(repository):
        raise UsageError(
            f"{repository} is a working clone: pushes go to a bare repository", hint="noria data link --hooks"
        )
    place = Path(git(repository, "rev-parse", "--absolute-git-dir").stdout.strip())
    chosen = branch or _branch_of(place)
    hook = place / "hooks" / "post-receive"
    words = ["--branch", chosen] if chosen else []
    write_hook(hook, hook_text("hook", ["data", "received", "--repository", str(place), *words]))
    note = (
        "" if chosen else "there is no branch yet: the first push of the default one, main or master says which it is"
    )
    logs = str(place / PLACE / "logs")
    return Installed(repository=str(place), hook=str(hook), branch=chosen, logs=logs, note=note)


def receive(repository: Path, branch: str, updates: Iterable[str], say: Say) -> Received:
    """Act on what a push changed: git's lines `OLD NEW REF`. The pipeline's exit code is in the result.

    Args:
        branch: that starts the pipeline; "" if the first push is to tell, after which it is the one for good.
    Raises: WorldError if the work folder cannot be made.
    """
    pushed = list(updates)
    branch = branch or _first(repository, pushed, say)
    old, new = _pushed(branch, pushed)
    if not new:
        return Received(commit="", started_by=(), exit_code=0, log="")
    place = repository / PLACE
    with disk_faults(place):
        (place / "logs").mkdir(parents=True, exist_ok=True)
    own = _differing(repository, old or _nothing(repository), new)
    with _turn(place, say, waits=bool(what_starts(own))) as is_ours:
        if not is_ours:
            say(f"noria: nothing that the pipeline stands on changed ({_some(own)})")
        started = _reasons(repository, branch, old, new, say) if is_ours else []
        if not started:
            return Received(commit=new, started_by=(), exit_code=0, log="")
        log = place / "logs" / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{new[:12]}.log"
        with log.open("w", encoding="utf-8") as kept:

            def tell(line: str) -> None:
                say(line)
                kept.write(f"{line}\n")
                kept.flush()

            tell(f"noria: commit {new} of {branch}")
            code = _pipeline(repository, place / "work", new, tell)
            tell(f"noria: {'the pipeline is done' if code == 0 else 'the pipeline failed'}, exit code {code}")
        if code in ANSWERS:
            _set_done(repository, branch, new)
        else:
            say(f"noria: the next push to {branch} starts it again: git commit --allow-empty -m again && git push")
    say(f"noria: log {log}")
    for each in sorted((place / "logs").glob("*.log"))[:-LOGS_KEPT]:
        each.unlink(missing_ok=True)
    return Received(commit=new, started_by=tuple(started), exit_code=code, log=str(log))


def what_starts(changed: Iterable[str]) -> list[str]:
    """The paths that a pipeline may depend on: everything but documents. Pins come first."""
    found = [path for path in changed if not _is_document(path)]
    return sorted(found, key=lambda path: (f"{FOLDER}/" not in f"/{path}", path))


def _is_document(path: str) -> bool:
    name = PurePosixPath(path).name
    return path.startswith(_FOLDERS) or any(fnmatch(name, pattern) for pattern in _DOCUMENTS)


def _branch_of(repository: Path) -> str:
    """The branch that HEAD names; where that one is not there, main or the only one; "" if there is none yet."""
    named = git(repository, "symbolic-ref", "--short", "HEAD").stdout.strip()
    there = git(repository, "for-each-ref", "--format=%(refname:short)", "refs/heads").stdout.split()
    usual = [each for each in (named, *_USUAL) if each in there]
    if len(there) > 1 and not usual:
        raise UsageError(f"{repository} has no branch {named!r}, which its HEAD names", hint="--branch NAME")
    return usual[0] if usual else there[0] if there else ""


def _first(repository: Path, updates: Sequence[str], say: Say) -> str:
    """The branch of HEAD, main or master, if the push has it: the hook is written anew for it; else ""."""
    named = git(repository, "symbolic-ref", "--short", "HEAD").stdout.strip()
    refs = [line.split()[2] for line in updates if len(line.split()) == 3]
    pushed = [ref.removeprefix("refs/heads/") for ref in refs if ref.startswith("refs/heads/")]
    chosen = next((each for each in (named, *_USUAL) if each in pushed), "")
    if chosen:
        install(repository, chosen)
        say(f"noria: from now on, pushes to {chosen} start the pipeline (noria data hook --branch NAME changes that)")
    elif pushed:
        say(f"noria: {_some(pushed)} starts nothing: noria data hook --branch NAME {repository} says which branch does")
    return chosen


def _pushed(branch: str, updates: Iterable[str]) -> tuple[str, str]:
    """The branch's old and new commit, "" for an old one that there was not; both "" if it was not pushed."""
    for line in updates:
        words = line.split()
        if len(words) == 3 and branch and words[2] == f"refs/heads/{branch}" and set(words[1]) != {"0"}:
            return "" if set(words[0]) == {"0"} else words[0], words[1]
    return "", ""


def _reasons(repository: Path, branch: str, old: str, new: str, say: Say) -> list[str]:
    """The paths that start the pipeline on a commit; says so, or why nothing does."""
    done = _done(repository, branch)
    if not done:
        done = old or _nothing(repository)
        _set_done(repository, branch, done)
    tip = git(repository, "rev-parse", f"refs/heads/{branch}").stdout.strip()
    if tip != new and git(repository, "merge-base", "--is-ancestor", new, done).returncode == 0:
        say(f"noria: a later push was first: the pipeline has been run on {done[:12]}, which has this one")
        return []
    changed = _differing(repository, done, new)
    started = what_starts(changed)
    if not started:
        say(f"noria: nothing that the pipeline stands on changed ({_some(changed)})")
        _set_done(repository, branch, new)
        return []
    is_again = bool(old) and not what_starts(_differing(repository, old, new))
    since = ", and the pipeline has not come to an end since" if is_again else ""
    say(f"noria: {_some(started)} changed{since}: the pipeline starts on {new[:12]}")
    return started


def _nothing(repository: Path) -> str:
    """The empty tree."""
    return git(repository, "hash-object", "-t", "tree", "-w", "/dev/null").stdout.strip()


def _differing(repository: Path, old: str, new: str) -> list[str]:
    """The paths that differ between two commits or trees."""
    found = git(repository, "diff", "-z", "--name-only", "--no-renames", old, new)
    if found.returncode != 0:
        raise WorldError(f"git cannot say what changed: {found.stderr.strip()[:200]}", where=str(repository))
    return [path for path in found.stdout.split("\0") if path]


def _done(repository: Path, branch: str) -> str:
    """The commit that the pipeline last came to an answer on, or the empty tree before the first; "" if unknown."""
    found = git(repository, "rev-parse", "--verify", "--quiet", f"refs/noria/done/{branch}")
    return found.stdout.strip() if found.returncode == 0 else ""


def _set_done(repository: Path, branch: str, name: str) -> None:
    done = git(repository, "update-ref", f"refs/noria/done/{branch}", name)
    if done.returncode != 0:
        raise WorldError(f"git cannot note what is done: {done.stderr.strip()[:200]}", where=str(repository))


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
def _turn(place: Path, say: Say, *, waits: bool) -> Iterator[bool]:
    """One pipeline at a time in a repository. Gives whether it is ours: False only for who does not wait."""
    with disk_faults(place), (place / "lock").open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waits:
                yield False
                return
            say("noria: another push is at it; waiting")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield True


def _some(paths: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
    return ", ".join(paths[:shown]) + more
