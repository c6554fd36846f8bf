"""Values that are given for parameters of steps, held against the pipeline before anything runs.

A value comes as JSON, from a command line, a schedule or a request, and takes the place of what pipeline.py says.
A name that is not there and a value that its annotation does not allow are refused here: inside the step both would
look like a fault of the project's code. What an annotation says beyond plain types is not judged.
"""

from __future__ import annotations

import collections.abc
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from noria.core.errors import UsageError
from noria.core.identity import JSON
from noria.pipeline.bindings import Const
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.step import StepNode

__all__ = ["fits", "given"]

SHOWN = 60
"""Characters of a value that are shown."""
_LISTS = (list, tuple, set, frozenset)
_STREAMS = (collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def given(definition: PipelineDefinition, params: Mapping[str, JSON]) -> dict[str, dict[str, JSON]]:
    """Parameter values by step, from values such as {"train.learning_rate": 0.05}.

    A step that is called several times is meant in all of its calls; `train-1`, `train-2` is one of them, and goes
    before the name for all.

    Raises: UsageError for a name that is not there, with the nearest one, and for a value that its parameter's
        annotation does not allow.
    """
    known = {
        f"{node.name}.{name}": (node, name)
        for node in definition.nodes
        for name, binding in node.bindings.items()
        if isinstance(binding, Const) and not node.cases
    }
    calls: dict[int, list[StepNode]] = {}
    for node in definition.nodes:
        if not node.cases:
            calls.setdefault(id(node.step), []).append(node)
    known |= {
        f"{node.name}-1.{name}": (node, name)
        for node, name in known.values()
        if len(calls[id(node.step)]) > 1 and calls[id(node.step)][0] is node
    }
    found: dict[str, dict[str, JSON]] = {}
    for full, value in params.items():
        if full not in known:
            near = difflib.get_close_matches(full, known, n=1, cutoff=0.6)
            raise UsageError(
                f"there is no parameter {full!r}",
                where=f"pipeline {definition.name}",
                hint=f"did you mean {near[0]!r}?" if near else f"parameters: {', '.join(sorted(known)) or 'none'}",
            )
        first, name = known[full]
        alike = calls[id(first.step)]
        is_for_all = alike[0] is first and full == f"{first.name}.{name}"
        for node in alike if is_for_all else [first]:
            own = f"{node.name}-1.{name}" if node is alike[0] else f"{node.name}.{name}"
            if isinstance(node.bindings.get(name), Const) and (own == full or own not in params):
                _require_fit(full, node, name, value)
                found.setdefault(node.name, {})[name] = value
    return found


def fits(value: JSON, hint: Any) -> bool:
    """Whether a JSON value may stand where a type is annotated.

    A whole number is one of a float's, a truth value no number, and NaN nothing. A list stands for any kind of
    sequence or set. True for what is no plain type: a class, a library's array, an unknown name.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated or isinstance(hint, typing.NewType):
        return fits(value, inner[0] if inner else hint.__supertype__)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is typing.Literal:
        return any(value == each and type(value) is type(each) for each in inner)
    kind = origin or hint
    if kind is type(None):
        return value is None
    if kind is bool or kind is str:
        return isinstance(value, kind)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind in _LISTS or kind in _STREAMS:
        return _fits_list(value, kind, inner)
    if kind in _MAPPINGS:
        of_key, of_value = inner or (Any, Any)
        return isinstance(value, Mapping) and all(fits(k, of_key) and fits(v, of_value) for k, v in value.items())
    return True


def _fits_list(value: JSON, kind: Any, inner: tuple[Any, ...]) -> bool:
    if isinstance(value, str):  # a text is a sequence of texts, and no list of them
        return kind in _STREAMS and (not inner or fits(value, inner[0]))
    if not isinstance(value, list | tuple):
        return False
    if kind is tuple and inner and Ellipsis not in inner:
        return len(value) == len(inner) and all(map(fits, value, inner))
    return all(fits(each, inner[0]) for each in value) if inner else True


def _require_fit(full: str, node: StepNode, name: str, value: JSON) -> None:
    """Raises: UsageError. What pipeline.py itself says may be given again, whatever the annotation says of it."""
    hints = node.step.hints()
    binding = node.bindings[name]
    assert isinstance(binding, Const), "only constants are parameters"
    if name not in hints or (value == binding.value and type(value) is type(binding.value)):
        return
    hint = list[hints[name]] if name == node.over else hints[name]  # type: ignore[valid-type]  # of each item
    if fits(value, hint):
        return
    shown = json.dumps(value, ensure_ascii=False)
    is_text_meant = not isinstance(value, str) and fits(shown, hint)
    raise UsageError(
        f"{full} is {_short(shown)}, which is not {_worded(hint)}",
        where=node.step.where,
        hint=f"a text takes quotes: -p '{full}={json.dumps(_short(shown), ensure_ascii=False)}'"
        if is_text_meant
        else f"it is annotated {name}: {_worded(hint)}, and the pipeline gives {_short(repr(binding.value))}",
    )


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _worded(hint: Any) -> str:
    """An annotation as people write it, without what `Annotated` adds."""
    if typing.get_origin(hint) is typing.Annotated:
        return _worded(typing.get_args(hint)[0])
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
