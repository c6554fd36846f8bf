"""A new project from a template: files, git, nothing of the user's data.

A template is a folder under `noria/templates`. Its files are copied with `dot-x` named `.x` and a few
`{{ words }}` filled in. The tabular template looks at the table that it is given, only to check the
named columns and to say what is predicted; the data stays where it is.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

from noria.core.clock import instant
from noria.core.errors import Conflict, NotFound, UsageError, WorldError
from noria.core.frozen import frozen
from noria.data.forms import formats
from noria.data.git.gitlink import ATTRIBUTES, link_folder
from noria.store.disk import full, is_full

__all__ = ["Created", "Table", "init", "look", "templates"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_SLOT = re.compile(
    r"\{\{ (name|source|path|dataset|window|task|request|outcome) \}\}|\"\{\{ (label|time|key|positive|slices) \}\}\""
)
"""The second kind is a whole value: the quotes make a template valid Python, and go with it."""
_SKIPPED = ("__pycache__", "__init__.py")
_LEVELS_SHOWN = 6
_SLICE_LEVELS_MAX = 12
_YES = frozenset({"1", "1.0", "true", "yes", "y", "t", "positive", "pos"})
_CLASSES_MAX = 20
"""A number with more values than this is predicted as a number; with fewer it is one class against the rest."""


@frozen(kw_only=True)
class Created:
    """What was made: the folder, its files, and the first commit (empty if git did not make one)."""

    name: str
    folder: str
    template: str
    files: tuple[str, ...]
    commit: str
    task: str
    notes: tuple[str, ...]
    next: str


@frozen(kw_only=True)
class Table:
    """What a table is about: the column to predict, when each row happened, and what names it.

    `positive` is the label's value that is predicted, as Python writes it; empty when the label is
    a number (`task` "regression"). `key` may be empty. `window` is how long one of monitoring is.
    `example` is a row to ask with, as JSON: no row of the table, but typical values of its columns;
    `outcome` what may come true of it.
    """

    source: str
    label: str
    time: str
    key: str = ""
    positive: str = ""
    task: str = "binary"
    slices: tuple[str, ...] = ()
    window: str = "week"
    example: str = '{"COLUMN": 0}'
    outcome: str = "1"


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
    files = dict(sorted({**_rendered(template, words), ".gitattributes": f"{ATTRIBUTES}\n".encode()}.items()))
    _write(folder, files)
    commit, note = _commit(folder)
    is_waiting = template == "tabular" and table is None
    notes = ["put your table at data.csv and name its columns in pipeline.py"] if is_waiting else []
    return Created(
        name=name,
        folder=str(folder),
        template=template,
        files=tuple(files),
        commit=commit,
        task=words["task"] if template == "tabular" else "",
        notes=(*notes, *([note] if note else [])),
        next=_next(folder, template, table),
    )


def look(path: Path, *, label: str, time: str, key: str = "", positive: str = "") -> Table:
    """Check the columns of a table and say what is predicted; reads the file, copies nothing.

    A folder stands for its first table file. The file is read as `noria data add` will read it.
    Raises: NotFound for the file or a column, with the nearest; UsageError for a column that cannot
    play its role (a time that holds no times or one, a label of one value), or if no column is left to learn from.
    """
    file = _table_file(path)
    columns = {name: kind for name, kind, _ in formats.inspect(file, file.name).columns}
    for role, column in (("label", label), ("time", time), ("key", key)):
        if column or role != "key":
            _require_column(column, role, columns, path)
    span = formats.inspect(file, file.name, time)
    values = formats.read_file(file, file.name, {}, None)
    task, chosen = _task(values[label].combine_chunks(), label, positive, path)
    example = _example(values, (label, time, key))
    if example == "{}":
        others = ", ".join(filter(None, (label, time, key)))
        raise UsageError(f"no column is left to learn from beside {others}", where=str(path))
    if span.time_min and span.time_min == span.time_max:
        raise UsageError(f"the time {time!r} has one value: no newest rows to judge a model on", where=str(path))
    return Table(
        source=str(path.resolve()),
        label=label,
        time=time,
        key=key,
        positive=chosen,
        task=task,
        slices=_slices(values, (label, time, key)),
        window=_window(span.time_min, span.time_max),
        example=example,
        outcome="1" if task == "binary" else json.dumps(_typical(values[label].combine_chunks())),
    )


def _table_file(path: Path) -> Path:
    if path.is_dir():
        found = sorted(each for each in path.rglob("*") if each.is_file() and formats.format_of(each.name))
        if not found:
            raise NotFound(f"there is no table in the folder {path}", hint="CSV, TSV, Parquet or JSON lines")
        return found[0]
    if not path.exists():
        raise NotFound(f"there is no file {path}", hint=_files_near(path))
    if not formats.format_of(path.name):
        raise UsageError(f"{path} is no table", hint="CSV, TSV, Parquet or JSON lines, by the name's ending")
    return path


def _files_near(path: Path) -> str:
    """The table that was perhaps meant, or what a table may be."""
    folder = path.parent
    known = sorted(each.name for each in folder.iterdir() if formats.format_of(each.name)) if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {folder / near[0]}?"
    listed = f"in {folder} there are: {', '.join(known[:6])}" if known else f"there is no table in {folder}"
    return f"{listed}; a CSV, TSV, Parquet or JSON lines file" if folder.is_dir() else f"there is no folder {folder}"


def _require_column(column: str, role: str, kinds: Mapping[str, str], path: Path) -> None:
    if column in kinds:
        return
    columns = ", ".join(list(kinds)[:12]) + (" …" if len(kinds) > 12 else "")
    if not column:
        raise UsageError(f"which column is the {role}?", where=str(path), hint=f"--{role} COLUMN, one of: {columns}")
    near = difflib.get_close_matches(column, kinds, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"columns: {columns}"
    raise NotFound(f"there is no column {column!r} for --{role}", where=str(path), hint=hint)


def _task(values: Any, label: str, positive: str, path: Path) -> tuple[str, str]:
    """("binary", the predicted value as Python writes it), or ("regression", "")."""
    counted = sorted(values.drop_null().value_counts().to_pylist(), key=lambda each: -each["counts"])
    levels = [each["values"] for each in counted]
    if len(levels) < 2:
        seen = "one value" if levels else "no value"
        raise UsageError(f"the label {label!r} has {seen}: nothing to learn", where=str(path))
    shown = ", ".join(map(str, levels[:_LEVELS_SHOWN])) + (" …" if len(levels) > _LEVELS_SHOWN else "")
    if positive:
        chosen = next((level for level in levels if str(level).lower() == positive.lower()), None)
        if chosen is None:
            raise NotFound(f"the label {label!r} never is {positive!r}", where=str(path), hint=f"it is: {shown}")
        return "binary", _literal(chosen)
    if len(levels) == 2:
        return "binary", _literal(next((level for level in levels if str(level).lower() in _YES), levels[1]))
    if isinstance(levels[0], int | float) and len(levels) > _CLASSES_MAX:
        return "regression", ""
    raise UsageError(
        f"the label {label!r} has {len(levels)} values: {shown}",
        where=str(path),
        hint=f"say which one to predict: --positive {levels[0]}",
    )


def _slices(values: Any, others: Sequence[str]) -> tuple[str, ...]:
    """Up to two columns of text with few levels: where a model may be worse than on the whole."""
    found = []
    for name in values.column_names:
        column = values[name].combine_chunks()
        if name not in others and str(column.type) in ("string", "large_string", "bool"):
            levels = len(column.unique())
            if 2 <= levels <= _SLICE_LEVELS_MAX:
                found.append((levels, name))
    return tuple(name for _, name in sorted(found, reverse=True)[:2])


def _example(values: Any, others: Sequence[str]) -> str:
    """A row to ask with, as JSON: a typical value for each column that a model can use."""
    row = {}
    for name in values.column_names:
        column = values[name].combine_chunks()
        kind = str(column.type)
        is_time = kind.startswith(("date", "timestamp", "time", "duration"))
        if name not in others and not is_time and column.null_count < len(column):
            row[name] = _typical(column)
    return json.dumps(row, ensure_ascii=False)


def _typical(column: Any) -> Any:
    """The median of numbers, the commonest of a few values; of many texts none, since one could name somebody."""
    known = column.drop_null()
    if str(column.type).startswith(("int", "uint", "float", "double", "half", "decimal")):
        middle = sorted(known.to_pylist())[len(known) // 2]
        return middle if isinstance(middle, int) else round(float(middle), 6)
    counted = known.value_counts().to_pylist()
    if len(counted) > _SLICE_LEVELS_MAX:
        return "text"
    found = max(counted, key=lambda each: (each["counts"], str(each["values"])))["values"]
    return found if isinstance(found, bool) else str(found)


def _window(time_min: str, time_max: str) -> str:
    """How long a window of monitoring is, so that the table spans about ten of them."""
    if not time_min:
        return "week"
    span = instant(time_max) - instant(time_min)
    return "month" if span > timedelta(days=180) else "week" if span > timedelta(days=30) else "day"


def _words(name: str, folder: Path, table: Table | None) -> dict[str, str]:
    given = table or Table(source="data.csv", label="label", time="time", key="", positive="1")
    source = given.source
    if table is not None:
        relative = os.path.relpath(source, folder.resolve())
        source = source if relative.startswith("../../..") else relative
    return {
        "name": name,
        "dataset": name.replace("-", "_"),
        "source": _toml_text(Path(source).as_posix()),
        "path": shlex.quote(Path(source).as_posix()),
        "request": shlex.quote(f'{{"id": "first", "row": {given.example}}}'),
        "outcome": given.outcome,
        "label": _python_text(given.label),
        "time": _python_text(given.time),
        "key": _python_text(given.key),
        "positive": given.positive,
        "slices": "[" + ", ".join(map(_python_text, given.slices)) + "]",
        "window": given.window,
        "task": given.task,
    }


def _literal(value: Any) -> str:
    return _python_text(value) if isinstance(value, str) else repr(value)


def _python_text(text: str) -> str:
    """A text as Python source, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _toml_text(text: str) -> str:
    """The inside of a TOML basic string."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _rendered(template: str, words: Mapping[str, str]) -> dict[str, bytes]:
    """The files of a template by path. A part of a name after `--` is the task that it is for."""
    root = resources.files("noria") / "templates" / template
    found: dict[str, bytes] = {}
    for path, content in _walk(root, PurePosixPath()):
        stem, separator, task = path.stem.partition("--")
        if separator and task != words["task"]:
            continue
        path = path.with_name(f"{stem}{path.suffix}")
        name = "/".join(f".{part[4:]}" if part.startswith("dot-") else part for part in path.parts)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            found[name] = content
            continue
        found[name] = _SLOT.sub(lambda slot: words[slot[1] or slot[2]], text).encode("utf-8")
    return found


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
    """All files or none: written beside a new folder, then moved to it in one rename.

    In a folder that is there, which somebody may stand in, they are written to a folder in it and moved up one
    by one, `noria.toml` last: it is no project before that.
    """
    tomllib.loads(files["noria.toml"].decode("utf-8"))  # a template that cannot be read is a bug: raise before writing
    is_there = folder.is_dir()
    making = folder / f".making-{os.getpid()}" if is_there else folder.with_name(f".{folder.name}.making-{os.getpid()}")
    moved: list[Path] = []
    try:
        for name, content in files.items():
            path = making / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (making / "noria.lock").mkdir(exist_ok=True)
        if is_there:
            for path in sorted(making.iterdir(), key=lambda each: each.name == "noria.toml"):
                moved.append(path.rename(folder / path.name))
        else:
            making.replace(folder)
    except OSError as error:
        for path in moved:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if is_full(error):
            raise full(folder, error) from error
        hint = "choose a folder that you may write to"
        raise WorldError(f"{folder} cannot be written: {error.strerror or error}", hint=hint) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _commit(folder: Path) -> tuple[str, str]:
    """(first commit, note). A folder that a repository already tracks stays in that repository."""
    if shutil.which("git") is None:
        return "", "git is not installed: the code of runs is then kept as a tree of files"
    inside = _git(folder, "rev-parse", "--is-inside-work-tree").returncode == 0
    if inside and _git(folder.parent, "check-ignore", "--quiet", "--", folder.name).returncode != 0:
        link_folder(folder)
        return "", "the folder belongs to a git repository already: commit it there"
    try:
        return _first_commit(folder), ""
    except WorldError as error:
        # A repository by halves would stop every run; without one the code of runs is kept as a tree of files.
        shutil.rmtree(folder / ".git", ignore_errors=True)
        return (
            "",
            f"there is no git repository, since {error.message}; later: git init && noria data link",
        )


def _first_commit(folder: Path) -> str:
    """Make a repository that knows Noria's files, with all of the folder in it. Raises: WorldError."""
    author: list[str] = []
    for key, value in (("user.name", "noria"), ("user.email", "noria@localhost")):
        if _git(folder.parent, "config", "--get", key).returncode != 0:
            author += ["-c", f"{key}={value}"]
    quietly = ["--quiet", "--no-verify", "--message", "Start from a template"]
    for command, before, after in (
        ("init", [], ["--quiet", "--initial-branch=main"]),
        ("add", [], ["--all"]),
        ("commit", [*author, "-c", "commit.gpgsign=false"], quietly),
    ):
        done = _git(folder, *before, command, *after)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise WorldError(f"git {command} failed: {said[-1][:200]}")
    link_folder(folder)
    return _git(folder, "rev-parse", "--short", "HEAD").stdout.strip()


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", str(folder), *words], check=False, capture_output=True, text=True, env=environment, timeout=60
    )


def _next(folder: Path, template: str, table: Table | None) -> str:
    words = [] if folder.resolve() == Path.cwd() else [f"cd {folder}"]
    if template == "flights":
        words.append("noria up --clock events")
    elif table or not words:
        words.append("noria run")
    return " && ".join(words)
