"""Expressions and statements that say what was asked for, and are built with SQLAlchemy only when that is needed.

Each call, attribute and operator makes a light node. It has a key, a text that is equal for expressions that differ
in nothing but bound values, and these values in the order of the text. What shapes the SQL stands in the key: names,
labels, functions, None, True and False, whether a list is empty, the Python type of each value, and of each table a
digest of its columns. So a key finds the plan (plans.py) by which SQLite runs the statement, and SQLAlchemy, whose
import takes longer than most commands' whole work, is reached only for what has no plan, and on PostgreSQL.

A node takes objects of SQLAlchemy as arguments, and SQLAlchemy takes nodes; the first kind has no key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy
from noria.store.sql.parts import Bound, Part

if TYPE_CHECKING:
    from noria.store.sql import alchemy
else:
    alchemy = lazy("noria.store.sql.alchemy")

__all__ = [
    "Node",
    "Select",
    "and_",
    "bindparam",
    "case",
    "case_like",
    "cast",
    "delete",
    "func",
    "insert",
    "literal",
    "or_",
    "postgresql_insert",
    "select",
    "sqlite_insert",
    "text",
    "update",
]

_LETTERS = {str: "?s", int: "?i", float: "?f", bytes: "?y"}
_BINDING = frozenset(
    {"like", "ilike", "not_like", "not_ilike", "startswith", "endswith", "contains", "between", "limit", "offset"}
    | {"literal", "values"}
)
"""Calls whose arguments are bound values; those of functions and operators are too. Others shape the SQL."""
_PATTERNS = frozenset({"startswith", "endswith", "contains"})
_UNNAMED = frozenset({"subquery", "cte", "alias", "lateral"})
"""Two of them differ though they say the same, if no name tells them apart."""


class Node(Part):
    """A part of a statement that the next words are said on."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name[0] == "_":
            raise AttributeError(name)
        return Member(self, name)

    def __getitem__(self, name: str) -> Node:
        key = None if self._key is None else f"{self._key}[{name}]"
        return Node("[]", self, (name,), {}, key, self._values)

    is_clause_element = False  # so SQLAlchemy asks for the next

    def __clause_element__(self) -> Any:
        """What SQLAlchemy takes in place of the node."""
        return alchemy.built(self)

    def _execute_on_connection(self, connection: Any, parameters: Any, options: Any) -> Any:
        """How a connection of SQLAlchemy runs the node."""
        return alchemy.built(self)._execute_on_connection(connection, parameters, options)

    __iter__ = None  # else Python would ask for the parts 0, 1, … of it without end
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        if self._name in ("eq", "ne") and self._of is None and self._args is not None:
            return (self._args[0] is self._args[1]) == (self._name == "eq")
        raise TypeError("the truth of an SQL expression is not known before it is asked of the database")

    def __eq__(self, other: object) -> Any:
        return _operation("eq", self, other)

    def __ne__(self, other: object) -> Any:
        return _operation("ne", self, other)

    def __lt__(self, other: Any) -> Node:
        return _operation("lt", self, other)

    def __le__(self, other: Any) -> Node:
        return _operation("le", self, other)

    def __gt__(self, other: Any) -> Node:
        return _operation("gt", self, other)

    def __ge__(self, other: Any) -> Node:
        return _operation("ge", self, other)

    def __and__(self, other: Any) -> Node:
        return _operation("and_", self, other)

    def __or__(self, other: Any) -> Node:
        return _operation("or_", self, other)

    def __add__(self, other: Any) -> Node:
        return _operation("add", self, other)

    def __radd__(self, other: Any) -> Node:
        return _operation("add", other, self)

    def __sub__(self, other: Any) -> Node:
        return _operation("sub", self, other)

    def __rsub__(self, other: Any) -> Node:
        return _operation("sub", other, self)

    def __mul__(self, other: Any) -> Node:
        return _operation("mul", self, other)

    def __rmul__(self, other: Any) -> Node:
        return _operation("mul", other, self)

    def __truediv__(self, other: Any) -> Node:
        return _operation("truediv", self, other)

    def __mod__(self, other: Any) -> Node:
        return _operation("mod", self, other)

    def __neg__(self) -> Node:
        return _operation("neg", self)

    def __invert__(self) -> Node:
        return _operation("inv", self)


Select = Node


class Member(Node):
    """An attribute of a node, which may be called."""

    __slots__ = ()

    def __init__(self, of: Node, name: str) -> None:
        super().__init__(name, of, None, {}, None if of._key is None else f"{of._key}.{name}", of._values)

    def __call__(self, *args: Any, **words: Any) -> Node:
        of, name = self._of, self._name
        assert of is not None, "a member is one of something"
        if name in ("in_", "not_in", "notin_"):
            args = (_listed(args[0]),)
        elif name in _PATTERNS and words.pop("autoescape", False):
            args, words = (_escaped(args[0]),), {**words, "escape": "/"}
        key, values, args, words = _told(name, args, words, name in _BINDING)
        if of._key is None or (name in _UNNAMED and not args and not words):
            key = None
        return Node(name, of, args, words, key and f"{of._key}.{key}", of._values + values)


class _Word:
    """A function that begins an expression."""

    __slots__ = ("_is_binding", "_name")

    def __init__(self, name: str, *, is_binding: bool = False) -> None:
        self._name = name
        self._is_binding = is_binding

    def __call__(self, *args: Any, **words: Any) -> Node:
        key, values, args, words = _told(self._name, args, words, self._is_binding)
        return Node(self._name, None, args, words, key, values)


class _Functions:
    """`func.max(…)` and the like: functions of the database, by name."""

    __slots__ = ()

    def __getattr__(self, name: str) -> _Word:
        if name[0] == "_":
            raise AttributeError(name)
        return _Word(f"func.{name}", is_binding=True)


def _operation(name: str, *operands: Any) -> Node:
    key, values, args, _ = _told(name, operands, {}, True)
    return Node(name, None, args, {}, key, values)


def _told(
    name: str, args: tuple[Any, ...], words: dict[str, Any], is_binding: bool
) -> tuple[str | None, tuple[Any, ...], tuple[Any, ...], dict[str, Any]]:
    """The key of a call, its values, and its arguments with the values marked."""
    keys: list[str | None] = []
    values: list[Any] = []
    kept = tuple([_one(each, keys, values, is_binding) for each in args])
    named = {}
    for word, each in words.items():
        keys.append(f"{word}=")
        named[word] = _one(each, keys, values, is_binding and name == "values")
    key = None if None in keys else f"{name}({','.join(keys)})"  # type: ignore[arg-type]  # no None is among them
    return key, tuple(values), kept, named


def _one(each: Any, keys: list[str | None], values: list[Any], is_binding: bool) -> Any:
    """What is kept of one argument; its key and values are put to the others."""
    if isinstance(each, Node):
        keys.append(each._key)
        values.extend(each._values)
        return each
    if isinstance(each, Bound):
        keys.append("[" + _LETTERS.get(type(each.value[0]), "?") + "]" if each.value else "[]")
        values.append(each.value)
        return each
    if each is None or each is True or each is False:
        keys.append(repr(each))
        return each
    if isinstance(each, str | int | float | bytes):
        if is_binding:
            keys.append(_LETTERS.get(type(each), "?"))
            values.append(each)
            return Bound(each)
        keys.append(repr(each))
        return each
    return _whole(each, keys, values, is_binding)


def _whole(each: Any, keys: list[str | None], values: list[Any], is_binding: bool) -> Any:
    """What is kept of an argument that holds others."""
    if isinstance(each, list | tuple):
        keys.append("(")
        kept = [_one(part, keys, values, is_binding) for part in each]
        keys.append(")")
        return kept if isinstance(each, list) else tuple(kept)
    if isinstance(each, Mapping):
        keys.append("{")
        found = {}
        for name, part in each.items():
            _one(name, keys, values, False)
            found[name] = _one(part, keys, values, is_binding)
        keys.append("}")
        return found
    if isinstance(each, type) and hasattr(each, "type_key"):
        each = each()
    keys.append(getattr(each, "type_key", None))
    return each


def _listed(given: Any) -> Any:
    """The argument of `in_`: another statement as it is, values as a list whose length does not count."""
    if isinstance(given, Node) or hasattr(given, "__clause_element__"):
        return given
    listed = list(given)
    has_parts = any(isinstance(each, Node) or not isinstance(each, str | int | float | bytes) for each in listed)
    return listed if has_parts else Bound(listed)


def _escaped(pattern: Any) -> Any:
    """A text whose marks of LIKE mean themselves, with / before them: as SQLAlchemy's autoescape."""
    return pattern.replace("/", "//").replace("%", "/%").replace("_", "/_")


select, insert, update, delete = _Word("select"), _Word("insert"), _Word("update"), _Word("delete")
sqlite_insert, postgresql_insert = _Word("sqlite_insert"), _Word("postgresql_insert")
and_, or_, case, cast = _Word("and_"), _Word("or_"), _Word("case"), _Word("cast")
bindparam, text = _Word("bindparam"), _Word("text")
literal, case_like = _Word("literal", is_binding=True), _Word("case_like", is_binding=True)
func = _Functions()
