"""Helpers that seed the generators of the process, and do nothing else: `seed_everything(42)`.

A call of one at import is to count for what its statements would: nothing where they seed, since a step that
draws has the generator as a condition, and as itself where one says how a library computes
(`torch.backends.cudnn.deterministic = True`). Told by the text, and on the safe side: a helper with any
statement that is not known to be of these kinds does more, and its call stays an effect, whole.
"""

from __future__ import annotations

import ast
import copy
import inspect
import os
import sys
import types
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from noria.core.frozen import frozen
from noria.pipeline import generators
from noria.pipeline.sources import SourceFile, Sources

__all__ = ["Effect", "Seeding", "resolved"]

_DEPTH = 8
_LOCAL = object()
"""What a name of the function itself stands for: nothing is known of it."""
_ABSENT = object()
"""A module that the function imports and that is not loaded: what is done with it was not done."""
_HASH_SEED = "PYTHONHASHSEED"
"""Read when a Python begins: a step that starts one has it as a condition (`watching/watch.py`), and the processes
that steps run in begin with that of the driver (`generators.environment`)."""
_PURE = frozenset({"int", "str", "float", "bool", "abs", "min", "max", "len", "hash", "isinstance", "hasattr", "range"})
_ASKS = ("is_", "has_")
_SETTINGS = ("use_deterministic_algorithms", "set_deterministic_debug_mode", "set_float32_matmul_precision")
_EXPRESSIONS = (
    *(ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare),
    *(ast.IfExp, ast.JoinedStr, ast.FormattedValue, ast.Tuple, ast.List, ast.Call, ast.keyword, ast.Starred),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context),
)


@frozen
class Effect:
    """A statement that changes something outside of the project: the names in it, and the file it stands in."""

    statement: ast.stmt
    scope: Mapping[str, Any]
    file: SourceFile


def resolved(node: ast.AST | None, scope: Mapping[str, Any]) -> Any:
    """What `name.attr.attr` stands for, through modules only; None where that is not known."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    thing = scope.get(node.id) if isinstance(node, ast.Name) else None
    while names and isinstance(thing, types.ModuleType):
        thing = vars(thing).get(names.pop())
    return None if names else thing


class _MoreThanSeeding(Exception):
    """A statement that may do anything."""


class Seeding:
    """Tells which statements of one planning seed generators, and what calls of helpers come to."""

    def __init__(self, sources: Sources, is_own: Callable[[Any], bool]) -> None:
        self._sources, self.is_own = sources, is_own

    def is_seed(self, node: ast.stmt, scope: Mapping[str, Any]) -> bool:
        """Whether a statement seeds a generator of the process, or the hashes of processes that it starts."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return generators.is_seeding(resolved(node.value.func, scope))
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            return self.variable(node.targets[0], scope) == _HASH_SEED
        return False

    def rest_of(self, call: ast.Call, scope: Mapping[str, Any]) -> list[Effect] | None:
        """What the call of a helper does beside seeding, as statements; None if that may be anything."""
        try:
            return list(self.called(call, scope, 0))
        except _MoreThanSeeding:
            return None

    def called(self, call: ast.Call, scope: Mapping[str, Any], depth: int) -> Iterator[Effect]:
        """What a call leaves to be counted. Raises: _MoreThanSeeding."""
        function = resolved(call.func, scope)
        if not isinstance(function, types.FunctionType) or not self.is_own(function) or depth > _DEPTH:
            raise _MoreThanSeeding
        file = self._sources.of_function(function)
        definition = file.function(function.__code__) if file else None
        is_plain = isinstance(definition, ast.FunctionDef) and not definition.decorator_list
        if file is None or not isinstance(definition, ast.FunctionDef) or not is_plain or function.__closure__:
            raise _MoreThanSeeding
        if hasattr(function, "__wrapped__") or not self.is_harmless([*call.args, *call.keywords], scope):
            raise _MoreThanSeeding
        inner = self._inside(function, definition)
        kept: list[Effect] = []
        body = _Body(self, inner, kept, file, depth)
        left = body.of(definition.body)
        others = [each for each in ast.walk(definition) if each is not definition.body[-1]]
        if (left or kept) and any(isinstance(each, ast.Return) for each in others):
            raise _MoreThanSeeding  # what stands after it may not be done
        given = _given(call, function, definition)
        for statement in left:
            said = _Said(given).visit(copy.deepcopy(statement))
            if any(isinstance(each, ast.Name) and inner.get(each.id) is _LOCAL for each in ast.walk(said)):
                raise _MoreThanSeeding
            yield Effect(said, inner, file)
        yield from kept

    def _inside(self, function: types.FunctionType, definition: ast.FunctionDef) -> ChainMap[str, Any]:
        """What the names in a function stand for: its own are unknown, but for modules of others that it imports."""
        code = function.__code__
        own: dict[str, Any] = dict.fromkeys((*code.co_varnames, *code.co_cellvars), _LOCAL)
        for node in ast.walk(definition):
            if isinstance(node, ast.Import):
                for each in node.names:
                    name = each.asname or each.name.partition(".")[0]
                    own[name] = sys.modules.get(each.name if each.asname else name, _ABSENT)
            elif isinstance(node, ast.ImportFrom):
                for each in node.names:
                    made = sys.modules.get(node.module or "")
                    own[each.asname or each.name] = getattr(made, each.name, _ABSENT)
        return ChainMap(own, function.__globals__)

    def is_harmless(self, nodes: Iterable[ast.AST], scope: Mapping[str, Any]) -> bool:
        """Whether expressions only look at things, as far as their text tells."""
        for node in [each for root in nodes for each in ast.walk(root)]:
            if not isinstance(node, _EXPRESSIONS):
                return False
            if isinstance(node, ast.Call) and not self._only_asks(node.func, scope):
                return False
        return True

    def _only_asks(self, node: ast.expr, scope: Mapping[str, Any]) -> bool:
        if isinstance(node, ast.Name):
            return node.id not in scope and node.id in _PURE
        thing = resolved(node, scope)
        if _root(node, scope) is _ABSENT:
            return True
        if isinstance(node, ast.Attribute) and node.attr == "get" and resolved(node.value, scope) is os.environ:
            return True
        if thing is None or self.is_own(thing):
            return False
        return thing is os.getenv or getattr(thing, "__name__", "").startswith(_ASKS)

    def variable(self, node: ast.expr, scope: Mapping[str, Any]) -> str:
        """The name of the environment variable that is set: `os.environ["NAME"] = …`."""
        if not isinstance(node, ast.Subscript) or resolved(node.value, scope) is not os.environ:
            return ""
        return node.slice.value if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str) else ""


class _Body:
    """The statements of one helper: those that seed go, those that set something plain stay."""

    def __init__(
        self, seeding: Seeding, scope: Mapping[str, Any], kept: list[Effect], file: SourceFile, depth: int
    ) -> None:
        self._seeding, self._scope, self._kept, self._file, self._depth = seeding, scope, kept, file, depth

    def of(self, statements: Iterable[ast.stmt]) -> list[ast.stmt]:
        """What is left of a block. Raises: _MoreThanSeeding."""
        return [left for each in statements for left in self._of(each)]

    def _of(self, node: ast.stmt) -> list[ast.stmt]:
        if isinstance(node, ast.Pass) or self._is_seed(node):
            return []
        if isinstance(node, ast.If) and self._looks(node.test):
            return self._block(node, ("body", "orelse"))
        if isinstance(node, ast.Try) and all(self._looks(each.type) for each in node.handlers):
            return self._block(node, ("body", "orelse", "finalbody"))
        if isinstance(node, ast.Import | ast.ImportFrom) and self._is_of_others(node):
            return []
        if isinstance(node, ast.Return) and self._looks(node.value):
            return []
        if isinstance(node, ast.Expr):
            return self._expression(node, node.value)
        if isinstance(node, ast.Assign | ast.AnnAssign) and (node.value is None or self._looks(node.value)):
            return self._assigned(node, node.targets if isinstance(node, ast.Assign) else [node.target])
        raise _MoreThanSeeding

    def _is_seed(self, node: ast.stmt) -> bool:
        """Whether it seeds, or was not done, and does nothing else by its arguments."""
        value = node.value if isinstance(node, ast.Expr | ast.Assign) else None
        if isinstance(node, ast.Expr) and isinstance(value, ast.Call):
            is_undone = _root(value.func, self._scope) is _ABSENT
            parts: list[ast.AST] = [*value.args, *value.keywords]
        else:
            is_undone, parts = False, [value] if value is not None else []
        is_known = is_undone or self._seeding.is_seed(node, self._scope)
        return is_known and self._seeding.is_harmless(parts, self._scope)

    def _looks(self, node: ast.expr | None) -> bool:
        return node is None or self._seeding.is_harmless([node], self._scope)

    def _block(self, node: ast.If | ast.Try, parts: tuple[str, ...]) -> list[ast.stmt]:
        """A statement with others in it: with what is left of them, or nothing."""
        before = len(self._kept)
        made = copy.copy(node)
        for name in parts:
            setattr(made, name, self.of(getattr(node, name)))
        if isinstance(made, ast.Try):
            made.handlers = [copy.copy(each) for each in made.handlers]
            for each in made.handlers:
                each.body = self.of(each.body)
        if len(self._kept) > before:  # settings of another helper, under a condition of this one
            raise _MoreThanSeeding
        blocks = [getattr(made, name) for name in parts] + [each.body for each in getattr(made, "handlers", [])]
        return [made] if any(blocks) else []

    def _is_of_others(self, node: ast.Import | ast.ImportFrom) -> bool:
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
        if isinstance(node, ast.ImportFrom) and (node.level or any(each.name == "*" for each in node.names)):
            return False
        loaded = [sys.modules.get(name) for name in names]  # None: it could not be imported
        return not any(each is not None and self._seeding.is_own(each) for each in loaded)

    def _expression(self, node: ast.Expr, value: ast.expr) -> list[ast.stmt]:
        if isinstance(value, ast.Constant):
            return []
        if not isinstance(value, ast.Call):
            raise _MoreThanSeeding
        thing = resolved(value.func, self._scope)
        is_print = isinstance(value.func, ast.Name) and value.func.id == "print" and "print" not in self._scope
        arguments = [*value.args, *value.keywords]
        if is_print and self._seeding.is_harmless(arguments, self._scope):
            return []
        if getattr(thing, "__name__", "") in _SETTINGS and str(thing.__module__).partition(".")[0] == "torch":
            if self._seeding.is_harmless(arguments, self._scope):
                return [node]
            raise _MoreThanSeeding
        self._kept += self._seeding.called(value, self._scope, self._depth + 1)
        return []

    def _assigned(self, node: ast.Assign | ast.AnnAssign, targets: list[ast.expr]) -> list[ast.stmt]:
        """An assignment to a name of the helper's own, or a setting of PyTorch or of the environment."""
        if all(isinstance(each, ast.Name) and self._scope.get(each.id) is _LOCAL for each in targets):
            return []
        for each in targets:
            if _root(each, self._scope) is _ABSENT:
                return []
            is_variable = bool(self._seeding.variable(each, self._scope))
            owner = resolved(each.value, self._scope) if isinstance(each, ast.Attribute) else None
            of_torch = isinstance(owner, types.ModuleType) and owner.__name__.startswith("torch.")
            if not is_variable and not of_torch:
                raise _MoreThanSeeding
        return [node]


class _Said(ast.NodeTransformer):
    """Puts the plain values that a call gives in the place of the names that take them."""

    def __init__(self, given: Mapping[str, ast.Constant]) -> None:
        self._given = given

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """The value, where a call gives one."""
        return self._given.get(node.id, node) if isinstance(node.ctx, ast.Load) else node


def _root(node: ast.AST, scope: Mapping[str, Any]) -> Any:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return scope.get(node.id) if isinstance(node, ast.Name) else None


def _given(call: ast.Call, function: types.FunctionType, definition: ast.FunctionDef) -> dict[str, ast.Constant]:
    """The plain values that parameters have in a call, of those that the function does not assign anew."""
    signature = inspect.signature(function)
    anew = {each.id for each in ast.walk(definition) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    named = {each.arg: each.value for each in call.keywords if each.arg}
    if len(named) < len(call.keywords) or any(isinstance(each, ast.Starred) for each in call.args):
        return {}
    try:
        bound = signature.bind(*call.args, **named).arguments
    except TypeError:  # the call fails, or is in a branch that is not taken
        return {}
    values = {name: bound.get(name, ast.Constant(each.default)) for name, each in signature.parameters.items()}
    return {
        name: each
        for name, each in values.items()
        if name not in anew and isinstance(each, ast.Constant) and _is_plain(each.value)
    }


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
