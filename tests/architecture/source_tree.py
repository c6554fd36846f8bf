"""The source tree as the architecture tests see it: files, their syntax trees, and their dotted names."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "noria"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def sources(*, templates: bool = True) -> tuple[Path, ...]:
    """Every Python file of the package, sorted."""
    found = sorted(SOURCE.rglob("*.py"))
    return tuple(path for path in found if templates or not path.is_relative_to(SOURCE / "templates"))


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    """A file's path below the package, for messages."""
    return path.relative_to(SOURCE).as_posix()


@cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Everything in a tree; walked once, since most rules look at all of every file."""
    return tuple(ast.walk(tree))


@cache
def functions(tree: ast.AST) -> tuple[Function, ...]:
    """Every function and method of a tree, nested ones too."""
    return tuple(node for node in nodes(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
