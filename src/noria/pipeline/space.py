"""What a search may try: the ranges that `Annotated` parameters of steps declare; nothing without being asked."""

from __future__ import annotations

import math
import sys
import typing
from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from typing import Any

from noria.core.errors import ProjectError, UsageError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.given import fits
from noria.pipeline.ranges import Choice, Log, Range
from noria.pipeline.step import Const, StepNode

__all__ = ["Dimension", "space_of"]

_PLAIN = (str, int, float, bool, type(None))
_MARKS = "Annotated[float, nr.Range(0.01, 0.3)], or nr.Choice([1, 2]) or nr.Log(0.01, 0.3) in its place"
_FINITE = "finite numbers: nr.Range(0.01, 0.3), or nr.Log(0.001, 1000) for many sizes"
_ORDER = "the lower end first, then a higher one: nr.Range(0.01, 0.3); one value alone needs no range"
_EXACT = 2.0**53
"""Up to here every whole number is one of a float's, and has its neighbours."""


@frozen(kw_only=True)
class Dimension:
    """One parameter of a search: `kind` is float, int or choice; `default` is what pipeline.py gives."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[JSON, ...] = ()
    default: JSON = None

    def holds(self, value: JSON) -> bool:
        """Whether a value lies in it; a whole number is one of a float's."""
        if self.kind == "choice":
            return any(value == each and type(value) is type(each) for each in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.kind == "int" and not isinstance(value, int):
            return False
        if not self.low <= value <= self.high:
            return False
        return not self.step or math.isclose(((value - self.low) / self.step) % 1, 0, abs_tol=1e-9)


def space_of(definition: PipelineDefinition, fixed: Collection[str] = ()) -> dict[str, Dimension]:
    """The parameters that a search may vary, `train.learning_rate`, in the order of the steps; without the fixed ones.

    Raises: ProjectError for a range that is none; UsageError if nothing is left to search.
    """
    found = {}
    for node in definition.nodes:
        for name, mark in _marks(node).items():
            full = f"{node.name}.{name}"
            binding = node.bindings.get(name)
            if full not in fixed and isinstance(binding, Const):
                found[full] = _dimension(full, node, name, mark, binding.value)
    if not found:
        _require_read(definition)
        raise UsageError(
            f"pipeline {definition.name} declares no parameter to search",
            where=str(definition.root),
            hint="learning_rate: Annotated[float, nr.Range(0.01, 0.3, log=True)] = 0.1",
        )
    return found


def _require_read(definition: PipelineDefinition) -> None:
    """Where no range is found: those of a step may stand in annotations that cannot be read. Raises: ProjectError."""
    for node in definition.nodes:
        if unread := node.step.unread():
            raise ProjectError(
                f"the annotations of step {node.step.name} cannot be read: {unread}",
                where=node.step.where,
                hint="import what they name at the head of the file, outside of `if TYPE_CHECKING:`",
            )


def _marks(node: StepNode) -> Mapping[str, Range | Log | Choice]:
    """The search marks of a step's parameters, by name. Raises: ProjectError for one that would not be heeded."""
    found = {}
    for name, hint in node.step.hints().items():
        full, where = f"{node.name}.{name}", node.step.where
        items = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
        marks = [item for item in items if isinstance(item, Range | Log | Choice)]
        bare = [item for item in items if item in (Range, Log, Choice)]
        if bare:
            raise ProjectError(f"{full}: nr.{bare[0].__name__} stands without its values", where=where, hint=_MARKS)
        if len(marks) > 1:
            raise ProjectError(f"{full} has {len(marks)} ranges, and a search needs one", where=where, hint=_MARKS)
        if any(isinstance(item, Range | Log | Choice) for item in _inner(hint)):
            text = f"{full}: its range stands inside of its type, and belongs around the whole of it"
            raise ProjectError(text, where=where, hint=_MARKS)
        if marks and name != "return":
            found[name] = marks[0]
    return found


def _inner(hint: Any) -> Iterator[Any]:
    """What `Annotated` says of parts of a type, not of the whole."""
    inner = typing.get_args(hint)
    for part in inner[:1] if typing.get_origin(hint) is typing.Annotated else inner:
        if typing.get_origin(part) is typing.Annotated:
            yield from typing.get_args(part)[1:]
        yield from _inner(part)


def _dimension(full: str, node: StepNode, name: str, mark: Range | Log | Choice, default: Any) -> Dimension:
    where, kind = node.step.where, typing.get_args(node.step.hints()[name])[0]
    if not _is_plain(default):
        text = f"{full} is {str(default)[:40]!r} in the pipeline: a search begins with that, so it is a plain value"
        raise ProjectError(text, where=where, hint="a text, a finite number, true, false or None")
    if isinstance(mark, Choice):
        return _choice(full, mark, kind, default, where)
    if kind not in (int, float):
        text = f"{full}: a range is of int or float, not {getattr(kind, '__name__', kind)}"
        raise ProjectError(
            text, where=where, hint="Annotated[float, …] or Annotated[int, …]; nr.Choice([…]) for others"
        )
    log, given = (True, None) if isinstance(mark, Log) else (mark.log, mark.step)
    ends = (mark.low, mark.high) if given is None else (mark.low, mark.high, given)
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in ends):
        raise ProjectError(f"{full}: a range is of numbers, not of {str(ends)[:60]}", where=where, hint=_MARKS)
    endless = [each for each in ends if not abs(each) <= sys.float_info.max]
    if endless:
        raise ProjectError(f"{full}: {str(endless[0])[:40]} is no end or step of a range", where=where, hint=_FINITE)
    low, high, *steps = map(float, ends)
    step = steps[0] if steps else None
    if not low < high:
        raise ProjectError(f"{full}: from {low:g} to {high:g} is no range", where=where, hint=_ORDER)
    if log and (low <= 0 or step is not None):
        given_as = f"from {low:g}" if low <= 0 else f"with the step {step:g}"
        text = f"{full}: a logarithmic range begins above 0 and has no step, and this one is {given_as}"
        raise ProjectError(text, where=where, hint="nr.Log(0.001, 0.1); without log, nr.Range(low, high, step=…)")
    if step is not None and not step > 0:
        text = f"{full}: the step {step:g} is not above 0"
        raise ProjectError(text, where=where, hint="step=0.1, or none: then any value between the ends is tried")
    if kind is int and not all(map(float.is_integer, (low, high, step or 1.0))):
        text = f"{full}: a range of int has whole ends and a whole step, not {_written(ends)}"
        raise ProjectError(text, where=where, hint="nr.Range(1, 10); Annotated[float, …] takes any numbers")
    if not _is_narrow(low, high, step, kind):
        text = f"{full}: from {low:g} to {high:g} is more than a search can divide"
        raise ProjectError(text, where=where, hint="nearer ends; nr.Log(low, high) for a range of many sizes")
    if step is not None and _divided(low, high, step).denominator != 1:
        text = f"{full}: steps of {step:g} from {low:g} do not come to {high:g}, and a range has both its ends"
        raise ProjectError(text, where=where, hint="another end or step; nr.Choice([…]) takes any values")
    return Dimension(name=full, kind=kind.__name__, low=low, high=high, log=log, step=given, default=default)


def _choice(full: str, mark: Choice, kind: Any, default: Any, where: str) -> Dimension:
    values = mark.values
    if not values:
        raise ProjectError(f"{full}: the Choice is empty", where=where, hint="nr.Choice([15, 31, 63])")
    odd = [value for value in values if not _is_plain(value)]
    if odd:
        text = f"{full}: the Choice has {str(odd[0])[:40]!r}, which is no plain value"
        raise ProjectError(text, where=where, hint="a text, a finite number, true, false or None")
    for value in values:
        if not fits(value, kind) and not (value == default and type(value) is type(default)):
            text = f"{full}: the Choice has {str(value)[:40]!r}, which its type does not allow"
            raise ProjectError(text, where=where, hint=f"Annotated[TYPE, …] with a TYPE that takes {str(values)[:60]}")
    return Dimension(name=full, kind="choice", choices=tuple(values), default=default)


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) and (not isinstance(value, float) or math.isfinite(value))


def _written(ends: tuple[float, ...]) -> str:
    return ", ".join(f"{each:g}" for each in ends)


def _is_narrow(low: float, high: float, step: float | None, kind: type) -> bool:
    """Whether numbers between two ends can be told apart."""
    if kind is int:
        return max(abs(low), abs(high)) <= _EXACT
    return math.isfinite(high - low) and (step is None or _divided(low, high, step) <= _EXACT)


def _divided(low: float, high: float, step: float) -> Fraction:
    """How many steps lie between two ends, exactly as they are written: 0.1 is a tenth here."""
    return (Fraction(str(high)) - Fraction(str(low))) / Fraction(str(step))
