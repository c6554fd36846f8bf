"""The code of a run: the commit and what differs from it; outside git, the source files themselves.

Three calls of git at most. Dirty means: a file that is part of the code or its configuration differs
from the commit, or is not in it. What a run records on its own is not: `noria.lock/` (pins) and
`checks/*.toml` (suites); nor are data, reports and Markdown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.config import CONFIG_NAME
from noria.core.errors import WorldError
from noria.core.identity import canonical, digest
from noria.core.lazy import lazy
from noria.store.objects import Objects
from noria.store.tree import Entry, Tree, iter_tree, write_tree
from noria.tracking.facts import Code

if TYPE_CHECKING:
    import subprocess
    import tomllib
else:
    subprocess = lazy("subprocess")
    tomllib = lazy("tomllib")

__all__ = ["difference", "snapshot", "source_files"]

FILE_LIMIT_BYTES = 1 << 20
PATCH_LIMIT_BYTES = 16 << 20
GIT_TIMEOUT_S = 30
_SUFFIXES = frozenset(
    {".py", ".pyi", ".toml", ".cfg", ".ini", ".md", ".txt", ".sql", ".yaml", ".yml", ".json", ".ipynb", ".sh"}
)
_ENDINGS = tuple(sorted(_SUFFIXES))
_EXECUTED = frozenset({".py", ".pyi", ".toml", ".cfg", ".ini", ".sql", ".sh", ".ipynb"})
_NAMES = frozenset({"Makefile", "Dockerfile", "requirements.txt"})
_SKIPPED = frozenset({"__pycache__", "node_modules", "venv", "noria.lock", "site-packages", "build", "dist"})
_DECIDING = ("project", "data", "model")
"""The tables of `noria.toml` that say what a run computes; the others, how and where."""
SHOWN = 3
SHORT = 7


def snapshot(root: Path, objects: Objects, *, entry: str = "pipeline.py") -> Code:
    """What the project's code is now; patch and source files are stored as objects.

    `source` is stored when the commit and the patch do not say it all: outside git, for a project
    that git ignores, or with untracked files. Raises: WorldError if git is there and fails.
    """
    settings = _settings(root)
    top = _repository(root)
    if top is None:
        return Code(source=_source(root, objects), entry=entry, settings=settings)
    try:
        status = _git(root, "status", "--porcelain=v2", "--branch", "--ignored=traditional", "-z", *_PATHS)
    except FileNotFoundError:  # a checkout, on a machine without git
        return Code(source=_source(root, objects), entry=entry, settings=settings)
    commit, branch, changed, others, ignored = _parsed(status.decode("utf-8", "surrogateescape"))
    here = root.resolve().relative_to(top).as_posix()
    foreign = [path.rstrip("/") for path in (*others, *ignored)]
    outside = any(here == path or here.startswith(path + "/") for path in foreign)
    if outside or not commit:
        return Code(source=_source(root, objects), entry=entry, settings=settings)
    untracked = any(_is_code(top / path) for path in others)
    remote = _git(root, "config", "--get", "remote.origin.url", allowed=(0, 1)).decode().strip()
    patch = ""
    if changed:
        content = _git(root, "diff", "HEAD", "--binary", *_PATHS)
        patch = objects.put_bytes(content) if len(content) <= PATCH_LIMIT_BYTES else ""
    return Code(
        commit=commit,
        branch=branch,
        remote=_without_secret(remote),
        dirty=changed or untracked,
        patch=patch,
        source=_source(root, objects) if untracked or (changed and not patch) else "",
        entry=entry,
        settings=settings,
    )


def difference(objects: Objects, before: Code, now: Code) -> str:
    """Why the code that runs is not the same; "" if it is.

    Texts and tables that a run may itself have written do not count, nor what `noria.toml` says of where
    and how runs are executed.
    """
    if before.commit != now.commit:
        return f"the commit is {now.commit[:SHORT] or 'gone'}, and was {before.commit[:SHORT] or 'none'}"
    files = {
        path
        for one, other in _both(objects, before, now)
        for path in one.keys() | other.keys()
        if one.get(path) != other.get(path)
    }
    if before.settings:  # it was recorded what that file meant
        files = {path for path in files if Path(path).name != CONFIG_NAME}
        if before.settings != now.settings:
            return f"what {CONFIG_NAME} says of the project, its data or models has changed since"
    if not files:
        return ""
    told = ", ".join(sorted(files)[:SHOWN]) + (f" and {len(files) - SHOWN} more" if len(files) > SHOWN else "")
    return f"{told} {'has' if len(files) == 1 else 'have'} changed since"


def _both(objects: Objects, before: Code, now: Code) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What differs from the commit, then and now, and the stored sources where both have one."""
    yield _patched(objects, before), _patched(objects, now)
    if (before.source and now.source) or not now.commit:
        yield _executed(objects, before), _executed(objects, now)


def _executed(objects: Objects, code: Code) -> dict[str, Any]:
    """The files of a stored source that run, or say how, with their digests."""
    if not code.source:
        return {}
    return {
        entry.path: entry.digest for entry in iter_tree(objects, code.source) if Path(entry.path).suffix in _EXECUTED
    }


def _patched(objects: Objects, code: Code) -> dict[str, Any]:
    """The parts of a patch that are about such files, by their paths in the repository."""
    if not code.patch:
        return {}
    parts = objects.get_bytes(code.patch).split(b"diff --git ")[1:]
    heads = [part.split(b"\n", 1)[0].decode("utf-8", "surrogateescape").strip('"') for part in parts]
    names = [head.rpartition(" b/")[2] or head for head in heads]
    return {name: part for name, part in zip(names, parts, strict=True) if Path(name).suffix in _EXECUTED}


def _settings(root: Path) -> str:
    """The digest of what the project's file says of what a run computes."""
    try:
        content = (root / CONFIG_NAME).read_bytes()
    except FileNotFoundError:  # gone since it was read
        return ""
    try:
        told = tomllib.loads(content.decode("utf-8"))
    except ValueError:  # somebody is writing it: as good as another file
        return digest(content)
    return digest(canonical({name: repr(told.get(name)) for name in _DECIDING}))


def source_files(root: Path) -> Iterator[Path]:
    """The project's text files that say what it does, by path; no data, no hidden folders."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))
        # A folder of data may lie in the project: a path for each of its files takes longer than the walk.
        for name in sorted(name for name in files if name in _NAMES or name.endswith(_ENDINGS)):
            path = Path(folder, name)
            if (path.suffix in _SUFFIXES or name in _NAMES) and not name.startswith(".") and not path.is_symlink():
                yield path


_PATHS = (
    "--",
    ".",
    ":(exclude)noria.lock",
    ":(exclude)checks/*.toml",
    *(f":(exclude,glob)**/*{suffix}" for suffix in (".md", ".csv", ".tsv", ".parquet", ".jsonl", ".html")),
)


def _is_code(path: Path) -> bool:
    """Whether an untracked file, or a folder of which git tracks nothing, is part of the code."""
    if path.is_dir():
        return path.name not in _SKIPPED and any(source_files(path))
    return path.suffix in _SUFFIXES or path.name in _NAMES


def _repository(root: Path) -> Path | None:
    folder = root.resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists():
            return candidate
    return None


def _git(root: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> bytes:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            env=environment,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WorldError(f"git {arguments[0]} took more than {GIT_TIMEOUT_S} s", where=str(root)) from error
    if done.returncode not in allowed:
        text = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise WorldError(
            f"git {arguments[0]} failed: {text[0] if text else done.returncode}",
            where=str(root),
            hint=f"mend the repository until `git -C {root} status` works; `git init` completes one that was cut short",
        )
    return done.stdout


def _parsed(status: str) -> tuple[str, str, bool, list[str], list[str]]:
    """Commit, branch, whether a file changed, untracked and ignored paths of `git status --porcelain=v2 -z`."""
    commit = branch = ""
    is_changed = False
    lists: dict[str, list[str]] = {"?": [], "!": []}
    fields = iter(status.split("\0"))
    for line in fields:
        if line.startswith("# branch.oid "):
            commit = line[13:].replace("(initial)", "")
        elif line.startswith("# branch.head "):
            branch = line[14:].replace("(detached)", "")
        elif line[:2] in ("? ", "! "):
            lists[line[0]].append(line[2:])
        elif line[:2] in ("1 ", "u "):
            is_changed = True
        elif line[:2] == "2 ":  # a rename is followed by the old path in a field of its own
            is_changed = True
            next(fields, "")
    return commit, branch, is_changed, lists["?"], lists["!"]


def _without_secret(url: str) -> str:
    """A remote's URL without user and password."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    head, slash, tail = rest.partition("/")
    return f"{scheme}://{head.rpartition('@')[2]}{slash}{tail}"


def _source(root: Path, objects: Objects) -> str:
    entries = []
    for path in source_files(root):
        size = path.stat().st_size
        if size <= FILE_LIMIT_BYTES:
            name = path.relative_to(root).as_posix()
            entries.append(Entry(path=name, digest=objects.put_file(path), size_bytes=size))
    return write_tree(objects, Tree(tuple(sorted(entries, key=lambda entry: entry.path))))
