"""Noria for a script or a notebook: `nr.open()` has every verb, `nr.run()` and `nr.diff()` are shortcuts.

The verbs are those of the command line and of HTTP, found by their marks: `noria data log churn` is
`nr.open().data.log("churn")`, `noria status` is `nr.open().status()`. There is no interface here that
repeats them; names, arguments and help come from the functions themselves.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from noria.bootstrap import open_workspace
from noria.core.errors import UsageError
from noria.core.identity import JSON
from noria.faces import verbs
from noria.faces.cli.commands import COMMANDS
from noria.loop.run import Challenge, RunReport, perform
from noria.pipeline.define import Pipeline, define
from noria.project.diff import Difference
from noria.scripts.exporting import Exported, write
from noria.scripts.inner import tell_run
from noria.store.workspace import Workspace

__all__ = ["Group", "Opened", "diff", "export", "open", "run"]

Verbs = Mapping[str, Callable[..., Any]]


class Group:
    """The verbs of one capability, such as `.data`: `dir()` and tab completion list them."""

    def __init__(self, name: str, members: Verbs) -> None:
        self._name = name
        self._members = members

    def __getattr__(self, name: str) -> Any:
        return _member(self._members, name, f"{self._name} has no verb")

    def __dir__(self) -> list[str]:
        return sorted(self._members)

    def __repr__(self) -> str:
        return f"<{self._name}: {', '.join(sorted(self._members))}>"


class Opened:
    """A project that is open: `.status()`, `.run()`, `.data.log("churn")`, … as the command line has them.

    Each verb gives what its function gives: frozen dataclasses, or lists of them. `help(nr.open().data.log)`
    says what it takes. `.workspace` is what functions of `noria` itself take.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._members: dict[str, Any] = {}
        groups: dict[str, dict[str, Callable[..., Any]]] = {}
        for words, function in _named():
            group, _, name = words.rpartition(" ")
            held = groups.setdefault(group, {}) if group else self._members
            held.setdefault(name.replace("-", "_"), _bound(function, workspace))
        self._members |= {name: Group(name, members) for name, members in groups.items()}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _member(self._members, name, "Noria has no verb or capability")

    def __dir__(self) -> list[str]:
        return sorted([*self._members, "workspace"])

    def __repr__(self) -> str:
        return f"<noria project {self.workspace.project.name} in {self.workspace.project.root}>"


def open(path: str | Path | None = None, *, actor: str = "") -> Opened:
    """Open the project at `path`, or the one that the current folder is in: an object with every verb.

    Args:
        path: the project's folder, or one inside it.
        actor: who acts; else NORIA_ACTOR, else the login name.
    Raises: NotAProject; ConfigError.
    """
    return Opened(open_workspace(None if path is None else Path(path), actor=actor))


def run(pipeline: Pipeline | None = None, *, root: str | Path = "", **params: JSON) -> RunReport:
    """Run a pipeline as `noria run` does, in the project of the current folder; gives the same report.

    Args:
        pipeline: one that was defined here, in a script or a notebook cell; the project's by default.
        root: the project's folder, if it is not the current one or above it.
        params: values for parameters, with `__` for the dot: `train__learning_rate=0.05`.
    """
    ws = open_workspace(Path(root) if root else None)
    given = {name.replace("__", "."): value for name, value in params.items()}
    made = None if pipeline is None else define(pipeline, root=ws.project.root)
    report = perform(ws, Challenge(cause="user"), params=given, definition=made)
    tell_run(run=report.run, model=report.model, version=report.version, state=report.state, next=report.next)
    return report


def export(to: str | Path = "pipeline.py", *, force: bool = False) -> Exported:
    """Write the steps of this notebook, of the cells that have run, as a project file: `noria export notebook`.

    Raises: UsageError outside a notebook, or if no cell has defined a step; Conflict if the file is there.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None:
        raise UsageError("nr.export is for a notebook", hint="noria export notebook FILE writes that of a file")
    cells = [cell for cell in shell.user_ns["In"] if cell.strip()]
    return write(cells, Path(to), source="a notebook", force=force)


def diff(a: str, b: str, *, root: str | Path = "") -> Difference:
    """What differs between two runs, data versions, models or releases: `noria diff A B`.

    Args:
        root: the project's folder, if it is not the current one or above it.
    """
    found: Difference = open(root or None).diff(a, b)
    return found


def _named() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every verb by its words: as the command line calls it, and as (capability, name)."""
    known = {found.target: found.function for found in verbs.collect().values()}
    for words, command in COMMANDS.items():
        if command.target in known and not command.fixed:
            yield words, known[command.target]
    for (capability, name), found in verbs.collect().items():
        yield f"{capability} {name}", found.function


def _bound(function: Callable[..., Any], workspace: Workspace) -> Callable[..., Any]:
    """The verb of this workspace, with its own name, help and signature. Paths become text, as verbs take them."""

    def told(*given: Any, **named: Any) -> Any:
        plain = [str(value) if isinstance(value, PurePath) else value for value in given]
        return function(
            workspace,
            *plain,
            **{name: str(value) if isinstance(value, PurePath) else value for name, value in named.items()},
        )

    made = functools.update_wrapper(told, function)
    made.__signature__ = _without_workspace(function)  # type: ignore[attr-defined]  # inspect reads it
    del made.__wrapped__  # else help() would show the workspace as an argument
    return made


def _without_workspace(function: Callable[..., Any]) -> Any:
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _member(members: Mapping[str, Any], name: str, lacks: str) -> Any:
    if name in members:
        return members[name]
    near = difflib.get_close_matches(name, members, n=1, cutoff=0.5)
    raise AttributeError(f"{lacks} {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
