"""A new project from a template: files, git, nothing of the user's data.

A template is a folder under `noria/templates`. Its files are copied with `dot-x` named `.x` and a few
`{{ words }}` filled in. The tabular template looks at the table that it is given, only to check the
named columns and to say what is predicted; the data stays where it is.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from noria.core.errors import Conflict, NotFound, UsageError, WorldError
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import duckdb
else:
    duckdb = lazy("duckdb")

__all__ = ["Created", "Table", "init", "look", "templates"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_SLOT = re.compile(r"\{\{ (name|source|dataset|label|time|key|positive|task|metrics|gate) \}\}")
_SKIPPED = ("__pycache__", "__init__.py")
_LEVELS_SHOWN = 6
_CLASSES_MAX = 20
"""A number with more values than this is predicted as a number; with fewer it is one class against the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What was made: the folder, its files, and the first commit (empty if git did not make one)."""

    name: str
    folder: str
    template: str
    files: tuple[str, ...]
    commit: str
    task: str
    note: str
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a table is about: the column to predict, when each row happened, and what names it.

    `positive` is the label's value that is predicted; empty when the label is a number (`task`
    "regression"). `key` may be empty.
    """

    source: str
    label: str
    time: str
    key: str = ""
    positive: str = ""
    task: str = "binary"


def templates() -> list[str]:
    """The names of the templates."""
    root = resources.files("noria") / "templates"
    return sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith("_"))


def init(folder: Path, template: str = "tabular", table: Table | None = None) -> Created:
    """Write a project into a new or empty folder, and commit it if git is there.

    Without a table, the tabular project says where to put one. Atomic: the files are written beside
    the folder and moved into place.
    Raises: UsageError for a bad name; Conflict for a folder with files; NotFound for a template.
    """
    name = folder.name
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a project", hint="a letter, then letters, digits, - or _ (64 at most)"
        )
    if template not in templates():
        raise NotFound(f"there is no template {template!r}", hint=f"one of: {', '.join(templates())}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is not empty; nothing was written", hint="choose another name, or an empty folder")
    words = _words(name, folder, table)
    files = dict(sorted(_rendered(template, words).items()))
    _write(folder, files)
    commit, note = _commit(folder)
    return Created(
        name=name,
        folder=str(folder),
        template=template,
        files=tuple(files),
        commit=commit,
        task=words["task"] if template == "tabular" else "",
        note=note
        if table or template != "tabular"
        else "put your table at data.csv and set its columns in pipeline.py",
        next=f"cd {folder if folder.is_absolute() else os.fspath(folder)}" + _following(template, table),
    )


def look(path: Path, *, label: str, time: str, key: str = "", positive: str = "") -> Table:
    """Check the columns of a table and say what is predicted; reads the file, copies nothing.

    Raises: NotFound for the file or a column, with the nearest; UsageError for a column that cannot
    play its role (a time that holds no times, a label of one value).
    """
    if not path.exists():
        raise NotFound(f"there is no file {path}")
    with duckdb.connect() as connection:
        relation = _relation(connection, path)
        kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
        for role, column in (("label", label), ("time", time), ("key", key)):
            if column or role != "key":
                _require_column(column, role, kinds, path)
        _require_times(connection, relation, time, kinds[time], path)
        task, chosen = _task(connection, relation, label, kinds[label], positive, path)
    return Table(source=str(path.resolve()), label=label, time=time, key=key, positive=chosen, task=task)


def _relation(connection: Any, path: Path) -> Any:
    try:
        if path.suffix.lower() == ".parquet":
            found = connection.read_parquet(str(path))
        elif path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
            found = connection.read_json(str(path))
        else:
            found = connection.read_csv(str(path), sample_size=200_000)
        return found.create("given") or connection.table("given")
    except duckdb.Error as error:
        raise UsageError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error


def _require_column(column: str, role: str, kinds: Mapping[str, str], path: Path) -> None:
    if column in kinds:
        return
    columns = ", ".join(list(kinds)[:12]) + (" …" if len(kinds) > 12 else "")
    if not column:
        raise UsageError(f"which column is the {role}?", where=str(path), hint=f"--{role} COLUMN, one of: {columns}")
    near = difflib.get_close_matches(column, kinds, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"columns: {columns}"
    raise NotFound(f"there is no column {column!r} for --{role}", where=str(path), hint=hint)


def _require_times(connection: Any, relation: Any, time: str, kind: str, path: Path) -> None:
    """A column of dates or times, or of text that reads as such throughout."""
    if kind.startswith(("TIMESTAMP", "DATE")):
        return
    quoted = _quoted(time)
    if kind == "VARCHAR":
        bad = connection.sql(
            f"select count(*) from given where {quoted} is not null and try_cast({quoted} as timestamptz) is null"
        ).fetchone()[0]
        if bad == 0:
            return
    raise UsageError(
        f"the column {time!r} holds no times but {kind}",
        where=str(path),
        hint="times must read like 2013-01-31 or 2013-01-31T14:00:00Z",
    )


def _task(connection: Any, relation: Any, label: str, kind: str, positive: str, path: Path) -> tuple[str, str]:
    """("binary", the value that is predicted), or ("regression", "")."""
    quoted = _quoted(label)
    rows = connection.sql(
        f"select cast({quoted} as varchar), count(*) from given where {quoted} is not null "
        f"group by all order by 2 desc, 1 limit {_CLASSES_MAX + 1}"
    ).fetchall()
    levels = [str(row[0]) for row in rows]
    is_number = kind not in ("VARCHAR", "BOOLEAN") and not kind.startswith(("ENUM", "TIMESTAMP", "DATE"))
    if len(levels) < 2:
        raise UsageError(
            f"the label {label!r} has {'one value' if levels else 'no value'}: nothing to learn", where=str(path)
        )
    if positive:
        if positive not in levels and len(levels) <= _CLASSES_MAX:
            near = ", ".join(levels[:_LEVELS_SHOWN])
            raise NotFound(f"the label {label!r} never is {positive!r}", where=str(path), hint=f"it is: {near}")
        return "binary", positive
    if len(levels) == 2:
        return "binary", _positive(levels)
    if is_number and len(levels) > _CLASSES_MAX:
        return "regression", ""
    shown = ", ".join(levels[:_LEVELS_SHOWN]) + (" …" if len(levels) > _LEVELS_SHOWN else "")
    raise UsageError(
        f"the label {label!r} has {len(levels)}{'+' if len(levels) > _CLASSES_MAX else ''} values: {shown}",
        where=str(path),
        hint=f"say which one to predict: --positive {levels[0]}",
    )


def _positive(levels: Sequence[str]) -> str:
    """Of two values the one that says yes; else the rarer one (levels come by falling count)."""
    yes = {"1", "1.0", "true", "yes", "y", "t", "positive", "pos"}
    return next((level for level in levels if level.lower() in yes), levels[1])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _words(name: str, folder: Path, table: Table | None) -> dict[str, str]:
    given = table or Table(source="data.csv", label="label", time="time", key="", positive="1")
    source = given.source
    if table is not None:
        relative = os.path.relpath(source, folder.resolve())
        source = relative if not relative.startswith("../../..") else source
    is_binary = given.task == "binary"
    return {
        "name": name,
        "dataset": re.sub(r"[^A-Za-z0-9_]", "_", name),
        "source": _toml_text(Path(source).as_posix()),
        "label": given.label,
        "time": given.time,
        "key": given.key,
        "positive": given.positive,
        "task": given.task,
        "metrics": '["auc", "log_loss"]' if is_binary else '["rmse", "mae"]',
        "gate": _GATES[given.task],
    }


_GATES = {
    "binary": 'auc = { min = 0.55, champion = "not worse", margin = 0.02 }',
    "regression": 'rmse = { champion = "not worse", margin = 0.05 }',
}


def _toml_text(text: str) -> str:
    """The inside of a TOML basic string."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _rendered(template: str, words: Mapping[str, str]) -> dict[str, bytes]:
    root = resources.files("noria") / "templates" / template
    found: dict[str, bytes] = {}
    for path, content in _walk(root, PurePosixPath()):
        name = "/".join(f".{part[4:]}" if part.startswith("dot-") else part for part in path.parts)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            found[name] = content
            continue
        is_python = name.endswith(".py")
        found[name] = _SLOT.sub(lambda slot, p=is_python: _fill(slot[1], words, p), text).encode("utf-8")  # type: ignore[misc]  # mypy cannot type a lambda's default
    return found


def _fill(slot: str, words: Mapping[str, str], is_python: bool) -> str:
    """A word, escaped for the inside of a Python text when it is a column or a value."""
    text = words[slot]
    if is_python and slot in ("label", "time", "key", "positive"):
        return text.replace("\\", "\\\\").replace('"', '\\"')
    return text


def _walk(folder: Any, place: PurePosixPath) -> list[tuple[PurePosixPath, bytes]]:
    found: list[tuple[PurePosixPath, bytes]] = []
    for each in folder.iterdir():
        if each.name in _SKIPPED or each.name.endswith(".pyc"):
            continue
        if each.is_dir():
            found += _walk(each, place / each.name)
        else:
            found.append((place / each.name, each.read_bytes()))
    return found


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """All files or none: written beside the folder, then moved to it in one rename."""
    tomllib.loads(files["noria.toml"].decode("utf-8"))  # a template that cannot be read is a bug: raise before writing
    making = folder.with_name(f".{folder.name}.making-{os.getpid()}")
    try:
        for name, content in files.items():
            path = making / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (making / "noria.lock").mkdir(exist_ok=True)
        making.replace(folder)  # an empty folder in the way is replaced
    except OSError as error:
        raise WorldError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _commit(folder: Path) -> tuple[str, str]:
    """(first commit, note). A folder that a repository already tracks stays in that repository."""
    if shutil.which("git") is None:
        return "", "git is not installed: the code of runs is then kept as a tree of files"
    inside = _git(folder, "rev-parse", "--is-inside-work-tree").returncode == 0
    if inside and _git(folder.parent, "check-ignore", "--quiet", "--", folder.name).returncode != 0:
        return "", "the folder belongs to a git repository already: commit it there"
    author: list[str] = []
    for key, value in (("user.name", "noria"), ("user.email", "noria@localhost")):
        if _git(folder.parent, "config", "--get", key).returncode != 0:
            author += ["-c", f"{key}={value}"]
    for words in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "--all"],
        [
            *author,
            "-c",
            "commit.gpgsign=false",
            "commit",
            "--quiet",
            "--no-verify",
            "--message",
            "Start from a template",
        ],
    ):
        done = _git(folder, *words)
        if done.returncode != 0:
            return "", f"git {words[-1] if len(words) < 3 else words[0]} failed: {done.stderr.strip()[:200]}"
    return _git(folder, "rev-parse", "--short", "HEAD").stdout.strip(), ""


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", str(folder), *words], check=False, capture_output=True, text=True, env=environment, timeout=60
    )


def _following(template: str, table: Table | None) -> str:
    if template == "flights":
        return " && noria up --clock events"
    return " && noria run" if table else ""
