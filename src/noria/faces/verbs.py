"""Every `@verb` in one place: what the command line, HTTP, the client and the docs share.

A verb is an ordinary function of a slice; this module finds it, describes its arguments as plain
values, checks what a caller sent, and turns the result into JSON. It decides nothing. Arguments
are described from the annotations' text, so describing a verb imports nothing but its module.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from noria import plugins
from noria.core.errors import NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.printable import printable
from noria.core.verb import Verb, verb_of
from noria.store.disk import too_long

if TYPE_CHECKING:
    import difflib
    import pkgutil
else:
    difflib = lazy("difflib")
    pkgutil = lazy("pkgutil")

__all__ = [
    "INTEGER_MAX",
    "KINDS",
    "Beyond",
    "FoundVerb",
    "Parameter",
    "accept",
    "builtins",
    "call",
    "collect",
    "describe",
    "encode",
    "find",
    "load",
    "too_long",
    "walked",
]

msgspec = lazy("msgspec")
msgspec_json = lazy("msgspec.json")

Kind = Literal["text", "integer", "number", "flag", "list", "mapping"]
KINDS: Sequence[Kind] = get_args(Kind)
CAPABILITIES_ABOVE_SLICES = ("noria.project",)
_SURROGATES = re.compile("[\ud800-\udfff]")
INTEGER_MAX = 2**63 - 1
"""The largest whole number that both databases keep."""


@frozen
class Parameter:
    """One argument of a verb: its name, the kind of plain value it takes, and its default."""

    name: str
    kind: Kind
    is_required: bool
    default: Any = None
    is_nullable: bool = False


@frozen
class FoundVerb:
    """A verb and how to ask for it. `target` is "module:function", `summary` its first doc line."""

    declaration: Verb
    function: Any
    target: str
    summary: str
    parameters: tuple[Parameter, ...]


def load(target: str) -> FoundVerb:
    """The verb that "module:function" names; imports only that module.

    Raises: AssertionError if the function is not a verb (the table of commands is wrong: a bug).
    """
    module, _, name = target.partition(":")
    return describe(getattr(importlib.import_module(module), name))


def describe(function: Any) -> FoundVerb:
    """What a marked function takes. The first parameter, the workspace, is not an argument."""
    declaration = verb_of(function)
    assert declaration is not None, f"{function} is not marked with @verb"
    first, *rest = inspect.signature(function).parameters.values()
    assert first.kind is not first.KEYWORD_ONLY, f"{function.__qualname__}: the workspace comes first"
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    return FoundVerb(
        declaration=declaration,
        function=function,
        target=f"{function.__module__}:{function.__qualname__}",
        summary=summary,
        parameters=tuple(_parameter(function, parameter) for parameter in rest),
    )


@functools.cache
def collect() -> Mapping[tuple[str, str], FoundVerb]:
    """Every verb by (capability, name), sorted. Imports every slice: not for a short command."""
    found: dict[tuple[str, str], FoundVerb] = {}
    roots = [plugins.BUILTIN["slice"].get(name, "") for name in plugins.names("slice")]
    for root in (*filter(None, roots), *CAPABILITIES_ABOVE_SLICES):
        for module in _modules(root):
            for value in vars(module).values():
                if inspect.isfunction(value) and value.__module__ == module.__name__ and verb_of(value):
                    described = describe(value)
                    key = (described.declaration.capability, described.declaration.name)
                    assert key not in found, f"two verbs are called {key[0]} {key[1]}"
                    found[key] = described
    return dict(sorted(found.items()))


def find(capability: str, name: str) -> FoundVerb:
    """The verb of that name. Raises: NotFound naming the nearest one."""
    known = collect()
    if (capability, name) in known:
        return known[(capability, name)]
    meant = _nearest(capability, name, list(known))
    raise NotFound(
        f"there is no verb {f'{capability}/{name}'!r}",
        hint=f"did you mean {' or '.join(map(repr, meant))}?" if meant else "GET /api/v1 lists every verb",
    )


def _nearest(capability: str, name: str, known: Sequence[tuple[str, str]]) -> list[str]:
    """What was perhaps meant: the verb itself elsewhere, else a like name there, else a like capability with it."""
    elsewhere = [f"{group}/{verb}" for group, verb in known if verb == name]
    if capability in {group for group, _ in known}:
        here = difflib.get_close_matches(name, [verb for group, verb in known if group == capability], n=1, cutoff=0.6)
        return [f"{capability}/{here[0]}"] if here else elsewhere
    groups = difflib.get_close_matches(capability, sorted({group for group, _ in known}), n=1, cutoff=0.6)
    alike = [f"{group}/{verb}" for group, verb in known if group in groups and difflib.get_close_matches(name, [verb])]
    return alike[:1] or elsewhere


def accept(found: FoundVerb, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the function takes them.

    Raises: UsageError for an unknown name (with the nearest), a missing argument, or a wrong kind.
    """
    known = {parameter.name: parameter for parameter in found.parameters}
    where = f"{found.declaration.capability} {found.declaration.name}"
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes: {', '.join(known) or 'nothing'}"
            raise UsageError(f"there is no argument {name!r}", where=where, hint=hint)
    for parameter in found.parameters:
        if parameter.is_required and parameter.name not in given:
            raise UsageError(f"the argument {parameter.name!r} is missing", where=where)
    return {name: _checked(known[name], value, where) for name, value in given.items()}


def call(workspace: Any, found: FoundVerb, given: Mapping[str, Any]) -> Any:
    """Check the arguments and call the verb. Whatever the verb raises comes through.

    Raises: UsageError also for a name that is longer than the system lets a file's be.
    """
    arguments = accept(found, given)
    try:
        return found.function(workspace, **arguments)
    except OSError as error:
        told = too_long(error)
        if told is None:
            raise
        raise told from error


def builtins(result: Any) -> Any:
    """The result as plain mappings, lists, texts and numbers, just as a server would send it."""
    if "msgspec" not in sys.modules:  # a short command, whose results seldom need it
        try:
            return walked(result)
        except Beyond:
            pass  # it is loaded after all
    return msgspec_json.decode(encode(result))


class Beyond(Exception):
    """Something that only the encoder knows how to write."""


def walked(value: Any) -> Any:
    """What the encoder's text is read back as, without loading it: most results hold nothing but this.

    Raises: Beyond for what is not of these types.
    """
    kind = type(value)
    if kind is str:
        if value.isascii() or not _SURROGATES.search(value):
            return value
    elif kind is float:
        return value if math.isfinite(value) else None
    elif kind is int:
        if abs(value) <= INTEGER_MAX:
            return value
    elif value is None or kind is bool:
        return value
    elif kind is list or kind is tuple:
        return [walked(each) for each in value]
    elif kind is dict or kind is MappingProxyType:
        if all(type(key) is str for key in value):
            return {walked(key): walked(each) for key, each in value.items()}
    elif is_dataclass(kind) and not hasattr(value, "__dict__"):
        names = [each.name for each in fields(value)]
        if not any(name.startswith("_") for name in names):
            return {name: walked(getattr(value, name)) for name in names}
    elif isinstance(value, PurePath):
        return walked(str(value))
    raise Beyond


def encode(result: Any) -> bytes:
    """The result as one line of JSON. NaN becomes null."""
    try:
        encoded: bytes = msgspec_json.encode(result, enc_hook=_plain)
    except UnicodeEncodeError:  # a file name that is no UTF-8, which JSON cannot say
        plain = msgspec.to_builtins(result, enc_hook=_plain, str_keys=True)
        encoded = msgspec_json.encode(_without_surrogates(plain))
    return encoded


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return "".join(printable(mark) if "\ud800" <= mark <= "\udfff" else mark for mark in value)
    if isinstance(value, Mapping):
        return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(each) for each in value]
    return value


def _modules(root: str) -> list[Any]:
    package = importlib.import_module(root)
    paths = getattr(package, "__path__", None)
    if paths is None:
        return [package]
    names = [found.name for found in pkgutil.walk_packages(paths, prefix=f"{root}.")]
    return [package, *(importlib.import_module(name) for name in sorted(names) if not name.endswith("__main__"))]


_KINDS: Mapping[str, Kind] = {"str": "text", "int": "integer", "float": "number", "bool": "flag"}


def _parameter(function: Any, parameter: inspect.Parameter) -> Parameter:
    text = (
        parameter.annotation
        if isinstance(parameter.annotation, str)
        else inspect.formatannotation(parameter.annotation)
    )
    bare = text.removesuffix(" | None").strip()
    head = bare.partition("[")[0].rpartition(".")[2]
    kind: Kind
    if bare in _KINDS:
        kind = _KINDS[bare]
    elif head in ("Sequence", "list", "tuple"):
        assert "[str" in bare, f"{function.__qualname__}: {parameter.name} is no list of texts but {text}"
        kind = "list"
    else:
        assert head in ("Mapping", "dict"), f"{function.__qualname__}: {parameter.name} is no plain value but {text}"
        kind = "mapping"
    is_required = parameter.default is parameter.empty
    default = None if is_required else parameter.default
    return Parameter(parameter.name, kind, is_required, default, is_nullable=text.endswith("| None"))


def _checked(parameter: Parameter, value: Any, where: str) -> Any:
    """One argument in its kind. A whole number is accepted where a number is wanted."""
    if value is None and parameter.is_nullable:
        return None
    if "\0" in _texts(value):
        raise UsageError(f"the argument {parameter.name!r} holds a NUL character", where=where)
    kind = parameter.kind
    if kind == "text" and isinstance(value, str):
        return value
    if kind == "flag" and isinstance(value, bool):
        return value
    if kind == "integer" and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > INTEGER_MAX:
            raise UsageError(f"the argument {parameter.name!r} is beyond {INTEGER_MAX}", where=where)
        if parameter.name == "limit" and value < 0:
            raise UsageError(f"a limit of {value} cannot be kept", where=where, hint="0 or more")
        return value
    if kind == "number" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind == "list" and isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return tuple(value)
    if kind == "mapping" and isinstance(value, Mapping):
        return dict(value)
    words = {"text": "a text", "flag": "true or false", "integer": "a whole number", "number": "a number"}
    wanted = words.get(kind, "a list of texts" if kind == "list" else f"a {kind}")
    raise UsageError(f"the argument {parameter.name!r} must be {wanted}, not {type(value).__name__}", where=where)


def _texts(value: Any) -> str:
    """All text in a plain value, one after the other."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "".join(f"{_texts(key)}{_texts(each)}" for key, each in value.items())
    return "".join(map(_texts, value)) if isinstance(value, list | tuple) else ""


def _plain(value: Any) -> Any:
    """What msgspec does not know: paths, read-only mappings and numpy's numbers."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} cannot be shown as JSON")
