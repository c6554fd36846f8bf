"""What a module does to others when it is imported: `sklearn.set_config(…)`, `string.digits = …`.

Such statements belong to every step that runs with the module imported, though no name leads to them.
Told by their text and by what their names are bound to: a call that is a statement of its own, or whose
result is kept while its name says that it sets something; an assignment to an attribute or an item.
Both count where the thing that is called or changed comes from outside of the project. Logging does not:
no result depends on it.
"""

from __future__ import annotations

import ast
import builtins
import functools
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from noria.pipeline.code.seeding import Effect, Seeding, resolved
from noria.pipeline.sources import SourceFile, Sources

__all__ = ["effects_of", "imports_of", "modules_run"]

_SETS = ("set", "use", "enable", "disable", "configure", "simplefilter", "filterwarnings", "register", "option")
_QUIET = frozenset({"logging", "typing", "noria"})


def effects_of(
    file: SourceFile, scope: Mapping[str, Any], sources: Sources, is_own: Callable[[Any], bool]
) -> list[Effect]:
    """The statements of a module, run when it is imported, that change something outside of the project.

    Where one calls a helper that seeds and does nothing else but set something plain, what the helper sets.
    """
    foreign = _Foreign(scope, is_own)
    seeding = Seeding(sources, is_own)
    found = []
    for node in _statements(file.tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            foreign.bind(node)
        if seeding.is_seed(node, scope) or not foreign.is_changed_by(node):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else []
        call = node.value if isinstance(node, ast.Assign | ast.Expr) else None
        is_plain = isinstance(call, ast.Call) and all(isinstance(each, ast.Name) for each in targets)
        rest = seeding.rest_of(call, scope) if is_plain and isinstance(call, ast.Call) else None
        found += [Effect(node, scope, file)] if rest is None else rest
    return found


def modules_run(
    first: Iterable[str], sources: Sources, is_own: Callable[[Any], bool]
) -> Iterator[tuple[types.ModuleType, SourceFile]]:
    """The project's modules that were run to have some, and what these import, with their texts."""
    names = dict.fromkeys(first)
    queue = list(names)
    for name in queue:
        module = sys.modules.get(name)
        file = sources.of_module(module) if module is not None and is_own(module) else None
        if module is None or file is None:
            continue
        package = name if "__path__" in vars(module) else name.rpartition(".")[0]
        fresh = [other for other in imports_of(file.tree, package) if other not in names and other in sys.modules]
        names |= dict.fromkeys(fresh)
        queue += dict.fromkeys(fresh)
        yield module, file


def imports_of(tree: ast.Module, package: str) -> Iterator[str]:
    """The full names of the modules that a module imports when it is imported, and of their packages."""
    for node in _statements(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{each.name}" for each in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


@functools.lru_cache(maxsize=128)
def _statements(tree: ast.Module) -> tuple[ast.stmt, ...]:
    """What runs when a module does; asked once a step of each module, and the same until it is parsed again."""
    return tuple(_run_at_import(tree.body))


def _run_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The simple statements that run when the module does, in blocks too; not those of functions and classes."""
    for node in body:
        if isinstance(node, ast.If | ast.For | ast.While | ast.With | ast.Try):
            for name in ("body", "orelse", "finalbody"):
                yield from _run_at_import(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from _run_at_import(handler.body)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


class _Foreign:
    """Tells which names of a module are bound to things of others."""

    def __init__(self, scope: Mapping[str, Any], is_own: Callable[[Any], bool]) -> None:
        self._scope, self._is_own = scope, is_own
        self._aliases: set[str] = set()

    def bind(self, node: ast.Assign | ast.AnnAssign) -> None:
        """`ctx = decimal.getcontext()`, `options = pd.options`: another name for a thing of others."""
        value = node.value
        called = value.func if isinstance(value, ast.Call) else value
        name = _last(called)
        is_alias = isinstance(called, ast.Attribute) and (not isinstance(value, ast.Call) or name.startswith("get"))
        if is_alias and value is not None and self._is_foreign(value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            self._aliases |= {target.id for target in targets if isinstance(target, ast.Name)}

    def is_changed_by(self, node: ast.stmt) -> bool:
        """Whether a statement changes a thing of others."""
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete):
            one = isinstance(node, ast.AugAssign | ast.AnnAssign)
            targets = [node.target] if one else node.targets  # type: ignore[union-attr]  # told by `one`
            if any(isinstance(each, ast.Attribute | ast.Subscript) and self._is_foreign(each) for each in targets):
                return True
            value = getattr(node, "value", None)
            return isinstance(value, ast.Call) and _last(value.func).startswith(_SETS) and self._is_called(value)
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
            return False
        return self._is_called(node.value)

    def _is_called(self, node: ast.Call) -> bool:
        """Whether a call acts on a thing of others: by its root, by `setattr`, or inside a function of the project."""
        if isinstance(node.func, ast.Name) and node.func.id not in self._scope:
            acts = node.func.id in ("setattr", "delattr") and hasattr(builtins, node.func.id)
            return acts and bool(node.args) and self._is_foreign(node.args[0])
        called = resolved(node.func, self._scope)
        if isinstance(called, types.FunctionType) and self._is_own(called):
            return True
        return self._is_foreign(node.func)

    def _is_foreign(self, node: ast.AST) -> bool:
        while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
            node = node.func if isinstance(node, ast.Call) else node.value
        if not isinstance(node, ast.Name):
            return False
        if node.id in self._aliases:
            return True
        thing = self._scope.get(node.id)
        owner = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
        if not isinstance(owner, str) or owner.partition(".")[0] in _QUIET or self._is_own(thing):
            return False
        is_named = isinstance(thing, types.ModuleType | type | types.FunctionType | types.BuiltinFunctionType)
        return is_named or not self._is_made_here(node.id)

    def _is_made_here(self, name: str) -> bool:
        """Whether an object is the module's own: no module of others has it under that name."""
        thing = self._scope[name]
        module = sys.modules.get(getattr(type(thing), "__module__", ""))
        return getattr(module, name, None) is not thing and thing is not getattr(sys.modules.get("os"), name, None)


def _last(node: ast.AST | None) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
