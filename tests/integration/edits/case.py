"""One edit: a small project, and what is done to it. Whether its result changes is found by running it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Case", "Change", "Scene", "program", "step"]

HEAD = "import noria as nr\n"
TAIL = "\n@nr.pipeline\ndef flow():\n    work()\n"


@dataclass(slots=True)
class Scene:
    """Where a case is played: the project, a folder outside of it, and the environment it may change."""

    root: Path
    outside: Path
    setenv: Callable[[str, str], None]
    forget: Callable[[str], None]


Change = Callable[[Scene], None]


@dataclass(frozen=True, slots=True)
class Case:
    """`before` are the files, `edits` replace text in them (file -> (old, new)), `change` does anything else.

    `prepare` runs before the first run. `is_notebook` makes the module of `pipeline.py` by exec, as
    IPython does.
    """

    before: Mapping[str, str]
    edits: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    change: Change | None = None
    prepare: Change | None = None
    is_notebook: bool = False


def program(text: str, **modules: str) -> dict[str, str]:
    """A project whose pipeline.py ends in the pipeline of the one step `work`; `pack__mod` is pack/mod.py."""
    files = {"pipeline.py": HEAD + textwrap.dedent(text) + TAIL}
    files.update({_path(name): textwrap.dedent(code) for name, code in modules.items()})
    return files


def _path(name: str) -> str:
    if name.endswith("____init__"):
        return name.removesuffix("____init__").replace("__", "/") + "/__init__.py"
    return name.replace("__", "/") + ".py"


def step(value: str, options: str = "") -> str:
    """A step that returns an expression."""
    return f"\n@nr.step{options}\ndef work() -> object:\n    return {value}\n"
