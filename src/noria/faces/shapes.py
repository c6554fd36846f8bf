"""JSON Schema of what verbs take and give, read from their own annotations.

An argument is described by its kind (`verbs.Parameter`), a result by the type that the function says it
returns, as `verbs.encode` writes it: dataclasses are objects with all their fields, a number that is NaN is
null, keys are texts. What a module names only for type checkers is looked up where it says it comes from.
A type that cannot be described is a bug, not an empty schema.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import importlib
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any, ForwardRef, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from noria.faces.verbs import INTEGER_MAX, FoundVerb, Parameter

__all__ = ["ANY", "Shapes", "arguments"]

Schema = dict[str, Any]
ANY: Schema = {}
"""The schema of any JSON value."""
PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    float: {"type": ["number", "null"]},  # NaN and the infinities are null
    type(None): {"type": "null"},
}


def arguments(found: FoundVerb) -> Schema:
    """The object of a verb's arguments: every name it takes, and no other."""
    schema: Schema = {
        "type": "object",
        "properties": {each.name: _argument(each) for each in found.parameters},
        "additionalProperties": False,
    }
    required = [each.name for each in found.parameters if each.is_required]
    return {**schema, "required": required} if required else schema


def _argument(parameter: Parameter) -> Schema:
    schemas: dict[str, Schema] = {
        "text": {"type": "string"},
        "integer": {"type": "integer", "minimum": -INTEGER_MAX, "maximum": INTEGER_MAX},
        "number": {"type": "number"},
        "flag": {"type": "boolean"},
        "list": {"type": "array", "items": {"type": "string"}},
        "mapping": {"type": "object"},
    }
    schema = schemas[parameter.kind]
    if parameter.kind == "integer" and parameter.name == "limit":
        schema["minimum"] = 0
    if parameter.is_nullable:
        schema["type"] = [schema["type"], "null"]
    if not parameter.is_required:
        default = parameter.default
        schema["default"] = list(default) if isinstance(default, tuple) else default
    return schema


class Shapes:
    """Schemas of result types; the dataclasses that they are made of gather in `components`.

    Args:
        place: where a component stands, with `{}` for its name.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self.components: dict[str, Schema] = {}

    def result(self, function: Callable[..., Any]) -> Schema:
        """The schema of what a function returns. Raises: TypeError for a type that has none."""
        module = inspect.unwrap(function).__module__
        return self.of(get_type_hints(function, localns=_names_for_checkers(module))["return"])

    def of(self, kind: Any) -> Schema:
        """The schema of one type. Raises: TypeError for a type that has none."""
        if kind in (Any, object) or isinstance(kind, ForwardRef | TypeVar):
            return {}
        if kind in PLAIN:
            return dict(PLAIN[kind])
        if hasattr(kind, "__supertype__"):  # a NewType
            return self.of(kind.__supertype__)
        origin, inner = get_origin(kind), get_args(kind)
        if origin is Literal:
            return {"enum": list(inner)}
        if origin in (Union, types.UnionType):
            return _either(self.of(each) for each in inner)
        if origin is not None:
            return self._container(kind, origin, inner)
        if isinstance(kind, type):
            return self._class(kind)
        raise TypeError(f"{kind!r} has no JSON Schema")

    def _container(self, kind: Any, origin: Any, inner: tuple[Any, ...]) -> Schema:
        if not isinstance(origin, type):
            raise TypeError(f"{kind!r} has no JSON Schema")
        if issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.of(inner[1])}
        if origin is tuple and Ellipsis not in inner:
            items = [self.of(each) for each in inner]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        if issubclass(origin, Iterable):
            return {"type": "array", "items": self.of(inner[0])}
        if dataclasses.is_dataclass(origin):
            return self._class(origin)
        raise TypeError(f"{kind!r} has no JSON Schema")

    def _class(self, kind: type[Any]) -> Schema:
        if dataclasses.is_dataclass(kind):
            name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("noria.")
            if name not in self.components:
                self.components[name] = {}  # a type may hold itself
                self.components[name] = self._record(kind)
            return {"$ref": self._place.format(name)}
        if issubclass(kind, enum.Enum):
            return {"enum": [each.value for each in kind]}
        if issubclass(kind, PurePath):
            return {"type": "string"}
        if issubclass(kind, Mapping):
            return {"type": "object"}
        if issubclass(kind, list | tuple):
            return {"type": "array"}
        raise TypeError(f"{kind!r} has no JSON Schema")

    def _record(self, kind: type[Any]) -> Schema:
        hints: dict[str, Any] = {}
        for base in reversed(kind.__mro__):
            if base.__module__ in sys.modules and dataclasses.is_dataclass(base):
                hints |= get_type_hints(base, localns=_names_for_checkers(base.__module__))
        fields = {each.name: self.of(hints[each.name]) for each in dataclasses.fields(kind)}
        described = (inspect.getdoc(kind) or "").partition("\n")[0]
        schema: Schema = {"type": "object", "properties": fields, "required": list(fields)}
        return {"description": described, **schema, "additionalProperties": False}


def _either(found: Iterable[Schema]) -> Schema:
    """A schema that takes what one of several takes; each of them once."""
    several: list[Schema] = []
    for each in found:
        if each == ANY:
            return {}
        if each not in several:
            several.append(each)
    if all(set(each) == {"type"} for each in several):
        names = [
            name for each in several for name in ([each["type"]] if isinstance(each["type"], str) else each["type"])
        ]
        return {"type": list(dict.fromkeys(names))}
    return several[0] if len(several) == 1 else {"anyOf": several}


@functools.cache
def _names_for_checkers(module: str) -> dict[str, Any]:
    """What a module imports under `if TYPE_CHECKING:`, by the names that its annotations use.

    JSON, which holds itself, is any value.
    """
    names: dict[str, Any] = {"JSON": Any}
    for block in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not (isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")):
            continue
        for line in block.body:
            if isinstance(line, ast.ImportFrom):
                assert line.module is not None, f"{module}: imports are absolute"
                found = importlib.import_module(line.module)
                for each in line.names:
                    names[each.asname or each.name] = _taken(found, each.name)
            elif isinstance(line, ast.Import):
                for each in line.names:
                    found = importlib.import_module(each.name)
                    top = each.name.partition(".")[0]
                    names[each.asname or top] = found if each.asname else sys.modules[top]
    return names


def _taken(module: types.ModuleType, name: str) -> Any:
    """What `from module import name` gives: a name of the module, or a module below it."""
    if hasattr(module, name):
        return getattr(module, name)
    return importlib.import_module(f"{module.__name__}.{name}")
