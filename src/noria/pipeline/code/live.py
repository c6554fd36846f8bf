"""Looking into live functions and classes: what they close over, what they wrap, what they carry.

A decorator of another package gives a function whose own text is that package's and whose cells
hold the project's function: what it carries is the project's code all the same.
"""

from __future__ import annotations

import abc
import ast
import builtins
import enum
import functools
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import MISSING
from typing import Any

__all__ = [
    "bytecode",
    "carried",
    "cells",
    "class_cells",
    "defaults",
    "is_of_shell",
    "label_of",
    "methods_of",
    "set_later",
    "state_of",
    "untold",
    "unwrapped",
]

_LOOKS = 5000
_SCALARS = (bool, int, float, complex, str, bytes)
_PYTHONS = frozenset({"__module__", "__doc__", "__qualname__", "__firstlineno__"})
_FIELDS = ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__")
_FIELD = ("default", "default_factory", "init", "repr", "hash", "compare", "kw_only", "metadata", "annotation")
_CONTAINERS = (list, tuple, set, frozenset)
_LEAVING = ("exit", "quit")
"""Builtins that IPython takes away while a cell runs."""


def label_of(thing: Any, function: Any) -> str:
    """How people call something that a step's function reaches: without a module where it is in the step's own."""
    if thing is function:
        return f"step {getattr(thing, '__name__', '')}"
    if isinstance(thing, types.ModuleType):
        return f"module {thing.__name__}"
    kind = "class" if isinstance(thing, type) else "helper"
    module = thing.__module__ or ""
    inside = module in (getattr(function, "__module__", ""), "__main__")
    return f"{kind} {thing.__qualname__ if inside else f'{module}.{thing.__qualname__}'}"


def is_of_shell(name: str, found: Any) -> bool:
    """Whether a notebook's shell has put its own in the place of a builtin: IPython's `open`, `exit` and `quit`.

    The same code in a file has the builtin, and is the same step.
    """
    if "IPython" not in sys.modules or not (name in _LEAVING or hasattr(builtins, name)):
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and shell.user_ns_hidden.get(name) is found


def cells(function: types.FunctionType) -> dict[str, Any]:
    """The closed-over names of a function; None for one that is not assigned yet."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            found[name] = None
    return found


def class_cells(made: type) -> dict[str, Any]:
    """What the methods of a class close over: the names of the function that the class was made in."""
    found: dict[str, Any] = {}
    for value in vars(made).values():
        for function in methods_of(value):
            found |= {name: item for name, item in cells(function).items() if name != "__class__"}
    return found


def defaults(function: types.FunctionType) -> dict[str, Any]:
    """The parameters of a function that have a default, with it."""
    code, given = function.__code__, function.__defaults__ or ()
    last = code.co_argcount
    named = zip(code.co_varnames[last - len(given) : last], given, strict=True)
    return {**dict(named), **(function.__kwdefaults__ or {})}


def set_later(made: type, written: Set[str]) -> dict[str, Any]:
    """What was set on a class beside its text.

    Plain values under names like `__version__`, attributes of an enum's members that its text does not set
    (`written` are those that it does), classes that were registered with it.
    """
    found: dict[str, Any] = {}
    for name, value in vars(made).items():
        is_plain = isinstance(value, _SCALARS) or name == "__match_args__"
        if name.startswith("__") and name not in _PYTHONS and is_plain:
            found[f"attribute {name}"] = value
    if isinstance(made, abc.ABCMeta):
        registered = [each() for each in vars(abc)["_get_dump"](made)[0]]  # all that Python tells of it
        known = sorted(filter(None, registered), key=lambda each: (each.__module__, each.__qualname__))
        found |= {"registered": known} if known else {}
    if isinstance(made, enum.EnumMeta):
        members: Mapping[str, enum.Enum] = made.__members__
        for member in members.values():
            for name, value in getattr(member, "__dict__", {}).items():
                if not name.startswith("_") and name not in written:
                    found[f"attribute {member.name}.{name}"] = value
    return found


def is_no_data(name: str, value: Any, definition: ast.ClassDef | None) -> bool:
    """Whether an attribute of a class is none that anybody gave it: a slot, or a built-in that its text names."""
    if not isinstance(value, types.BuiltinFunctionType):
        return isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType)
    stored = (each for each in ast.walk(definition) if isinstance(each, ast.Name)) if definition else ()
    return definition is None or any(each.id == name and isinstance(each.ctx, ast.Store) for each in stored)


def untold(made: type) -> dict[str, Any]:
    """What the text of a class would say, of one that it does not tell: made by a function, or one of several.

    Annotations, defaults of methods, and of a dataclass, or a class of attrs or pydantic, its fields.
    """
    found: dict[str, Any] = {}
    if notes := vars(made).get("__annotations__"):
        found["annotations"] = dict(notes)
    for name, value in sorted(vars(made).items()):
        for index, function in enumerate(methods_of(value)):
            given = (function.__defaults__, function.__kwdefaults__)
            if any(given) and not function.__code__.co_filename.startswith("<"):
                found[f"defaults {name} {index}"] = given
    for kind in _FIELDS:
        fields = vars(made).get(kind) or ()
        for name, each in fields.items() if isinstance(fields, Mapping) else [(each.name, each) for each in fields]:
            parts = ((part, getattr(each, part, MISSING)) for part in _FIELD)
            found[f"field {name}"] = [(part, value) for part, value in parts if value is not MISSING]
    return found


def methods_of(value: Any) -> Iterator[types.FunctionType]:
    """The functions that a class attribute stands for: itself, or what its descriptor holds."""
    parts = (value.fget, value.fset, value.fdel) if isinstance(value, property) else (unwrapped(value),)
    yield from (part for part in parts if isinstance(part, types.FunctionType))


def unwrapped(value: Any) -> Any:
    """The function inside a static or class method or a cached property; anything else as it is."""
    if isinstance(value, staticmethod | classmethod):
        return value.__func__
    if isinstance(value, functools.cached_property | functools.singledispatchmethod):
        return value.func
    return value


def bytecode(code: types.CodeType) -> str:
    """The text of code without source (made by exec): stable within one minor version of Python."""
    parts = [bytecode(item) if isinstance(item, types.CodeType) else repr(item) for item in code.co_consts]
    return f"bytecode:{code.co_code.hex()}:{code.co_names}:{code.co_varnames}:{parts}"


def state_of(function: types.FunctionType) -> dict[str, Any]:
    """What a function holds beside its text: cells, attributes, what it wraps, defaults."""
    found: dict[str, Any] = {f"cell {name}": value for name, value in cells(function).items()}
    found |= {f"attribute {name}": value for name, value in sorted(vars(function).items())}
    if function.__defaults__ or function.__kwdefaults__:
        found["defaults"] = (function.__defaults__, function.__kwdefaults__)
    return found


def carried(thing: Any, is_own: Callable[[Any], bool]) -> list[Any]:
    """The project's functions and classes that another package's object holds, in a stable order."""
    found: list[Any] = []
    seen: set[int] = {id(thing)}
    queue = [thing]
    for item in queue:
        if item is not thing and isinstance(item, types.FunctionType | type) and is_own(item):
            found.append(item)
            continue
        for inner in _inside(item):
            if id(inner) not in seen and len(seen) < _LOOKS:
                seen.add(id(inner))
                queue.append(inner)
    return found


def _inside(item: Any) -> Iterator[Any]:
    if isinstance(item, types.FunctionType):
        yield from state_of(item).values()
    elif isinstance(item, _CONTAINERS):
        yield from item
    elif isinstance(item, Mapping) and type(item) in (dict, types.MappingProxyType):
        yield from item.values()
    elif isinstance(item, functools.partial):
        yield from (item.func, item.args, item.keywords)
    elif isinstance(item, types.MethodType):
        yield from (item.__func__, item.__self__)
    elif hasattr(item, "__wrapped__") and not isinstance(item, type | types.ModuleType):
        yield item.__wrapped__
