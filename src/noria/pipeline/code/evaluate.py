"""What an expression of constants stands for, told without running it.

Enough to name the file that `(DATA / "x.parquet")` means, the module of
`import_module(f"plugins.{KIND}")` and the attribute of `getattr(module, NAME)`: constants, names of
the enclosing scopes, parameters of the step, local names that are assigned once, paths and texts
made of these. Nothing of the project is called; what is not known stays unknown.
"""

from __future__ import annotations

import ast
import functools
import os
import types
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from noria.pipeline.syntax import walk

__all__ = ["UNKNOWN", "Evaluator"]

UNKNOWN: Any = object()
_DEPTH = 20
_SCALARS = (str, int, float, bool, type(None), PurePath)
_PATH_PARTS = ("parent", "name", "stem", "suffix")
_PATH_CALLS = ("with_name", "with_suffix", "joinpath", "resolve", "absolute", "as_posix")
_TEXT_CALLS = ("lower", "upper", "strip", "format", "removeprefix", "removesuffix", "replace", "title")


class Evaluator:
    """Tells values inside one definition; `scope` is what its free names and parameters stand for."""

    def __init__(self, definition: ast.AST, scope: Mapping[str, Any]) -> None:
        self._definition, self._scope = definition, scope

    @functools.cached_property
    def _local(self) -> dict[str, ast.expr | None]:
        return _assigned_once(self._definition)

    def text(self, node: ast.AST) -> str:
        """The text or path that an expression stands for; "" if it is unknown or another thing."""
        try:
            found = self.value(node)
            return str(found) if isinstance(found, str | os.PathLike) else ""
        except Exception:  # noqa: BLE001  # the boundary to the project's code: an object may refuse to be looked at
            return ""

    def value(self, node: ast.AST, depth: int = 0) -> Any:
        """The value of an expression, or UNKNOWN."""
        if depth > _DEPTH:
            return UNKNOWN
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self._name(node.id, depth)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, depth)
        if isinstance(node, ast.BinOp):
            return self._operation(node, depth)
        if isinstance(node, ast.JoinedStr):
            return self._joined(node, depth)
        if isinstance(node, ast.Subscript):
            return self._item(node, depth)
        return self._call(node, depth) if isinstance(node, ast.Call) else UNKNOWN

    def _name(self, name: str, depth: int) -> Any:
        if name in self._local:
            made = self._local[name]
            return UNKNOWN if made is None else self.value(made, depth + 1)
        return self._scope.get(name, UNKNOWN)

    def _attribute(self, node: ast.Attribute, depth: int) -> Any:
        owner = self.value(node.value, depth + 1)
        if isinstance(owner, types.ModuleType | type):
            return vars(owner).get(node.attr, UNKNOWN)
        if isinstance(owner, PurePath) and node.attr in _PATH_PARTS:
            return getattr(owner, node.attr)
        return getattr(owner, "__dict__", {}).get(node.attr, UNKNOWN) if owner is not UNKNOWN else UNKNOWN

    def _item(self, node: ast.Subscript, depth: int) -> Any:
        owner, key = self.value(node.value, depth + 1), self.value(node.slice, depth + 1)
        if type(owner) is dict and isinstance(key, _SCALARS):
            return owner.get(key, UNKNOWN)
        if type(owner) in (list, tuple) and type(key) is int and -len(owner) <= key < len(owner):
            return owner[key]
        return UNKNOWN

    def _operation(self, node: ast.BinOp, depth: int) -> Any:
        left, right = self.value(node.left, depth + 1), self.value(node.right, depth + 1)
        if isinstance(node.op, ast.Add) and isinstance(left, str) and isinstance(right, str):
            return left + right
        if isinstance(node.op, ast.Div) and isinstance(left, PurePath) and isinstance(right, str | PurePath):
            return left / right
        if isinstance(node.op, ast.Mod) and isinstance(left, str) and isinstance(right, str):
            return left.replace("%s", right) if left.count("%") == 1 and "%s" in left else UNKNOWN
        return UNKNOWN

    def _joined(self, node: ast.JoinedStr, depth: int) -> Any:
        parts: list[str] = []
        for item in node.values:
            inner = item.value if isinstance(item, ast.FormattedValue) else item
            if isinstance(item, ast.FormattedValue) and (item.format_spec is not None or item.conversion != -1):
                return UNKNOWN
            found = self.value(inner, depth + 1)
            if not isinstance(found, _SCALARS):
                return UNKNOWN
            parts.append(str(found))
        return "".join(parts)

    def _call(self, node: ast.Call, depth: int) -> Any:
        given = [self.value(item, depth + 1) for item in node.args]
        if node.keywords or any(not isinstance(item, _SCALARS) for item in given):
            return UNKNOWN
        if isinstance(node.func, ast.Attribute):
            owner = self.value(node.func.value, depth + 1)
            if isinstance(owner, PurePath) and node.func.attr in _PATH_CALLS:
                return getattr(owner, node.func.attr)(*given)
            if isinstance(owner, str) and node.func.attr in _TEXT_CALLS:
                return getattr(owner, node.func.attr)(*given)
        called = self.value(node.func, depth + 1)
        if isinstance(called, type) and issubclass(called, PurePath):
            return Path(*given)
        if called is os.path.join or called is os.fspath:
            return called(*given)
        is_str = isinstance(node.func, ast.Name) and node.func.id == "str" and called in (UNKNOWN, str)
        return str(given[0]) if is_str and len(given) == 1 else UNKNOWN


def _assigned_once(definition: ast.AST) -> dict[str, ast.expr | None]:
    """Local names with the one expression that is assigned to them; None where there are several or none."""
    found: dict[str, ast.expr | None] = {}
    if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
        return found
    simple: dict[str, ast.expr] = {}
    count: dict[str, int] = {}
    nodes = walk(definition)
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            simple[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            simple[node.target.id] = node.value
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            count[node.id] = count.get(node.id, 0) + 1
    arguments = {item.arg for item in nodes if isinstance(item, ast.arg)}
    for name, times in count.items():
        found[name] = simple.get(name) if times == 1 and name not in arguments else None
    return found
