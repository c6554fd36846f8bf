"""What a search may try: the ranges that `Annotated` parameters of steps declare; nothing without being asked."""

from __future__ import annotations

import math
import typing
from collections.abc import Collection, Mapping
from typing import Any

from noria.core.errors import ProjectError, UsageError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.step import Choice, Const, Log, StepNode

__all__ = ["Dimension", "Range", "space_of"]

_PLAIN = (str, int, float, bool, type(None))


@frozen
class Range:
    """A search range with its ends: `Annotated[float, nr.Range(1e-4, 1e-1, log=True)]`, or of `int`.

    `step` is the distance between values; a range on a logarithmic scale has none.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None


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
        raise UsageError(
            f"pipeline {definition.name} declares no parameter to search",
            where=str(definition.root),
            hint="learning_rate: Annotated[float, nr.Range(0.01, 0.3, log=True)] = 0.1",
        )
    return found


def _marks(node: StepNode) -> Mapping[str, Range | Log | Choice]:
    """The search marks of a step's parameters, by name."""
    found = {}
    for name, hint in node.step.hints().items():
        if name != "return" and typing.get_origin(hint) is typing.Annotated:
            for item in typing.get_args(hint)[1:]:
                if isinstance(item, Range | Log | Choice):
                    found[name] = item
    return found


def _dimension(full: str, node: StepNode, name: str, mark: Range | Log | Choice, default: Any) -> Dimension:
    where = node.step.where
    if isinstance(mark, Choice):
        values = mark.values
        if len(values) < 1 or not all(isinstance(value, _PLAIN) for value in values):
            raise ProjectError(f"{full}: a Choice is of texts, numbers, true, false or None", where=where)
        return Dimension(name=full, kind="choice", choices=tuple(values), default=default)
    kind = typing.get_args(node.step.hints()[name])[0]
    if kind not in (int, float):
        raise ProjectError(f"{full}: a range is of int or float, not {kind}", where=where)
    log, step = (True, None) if isinstance(mark, Log) else (mark.log, mark.step)
    if not (math.isfinite(mark.low) and math.isfinite(mark.high) and mark.low < mark.high):
        raise ProjectError(f"{full}: from {mark.low} to {mark.high} is no range", where=where)
    if log and (mark.low <= 0 or step):
        raise ProjectError(f"{full}: a logarithmic range begins above 0 and has no step", where=where)
    if step is not None and step <= 0:
        raise ProjectError(f"{full}: the step {step} is not above 0", where=where)
    if kind is int and not all(float(each).is_integer() for each in (mark.low, mark.high, step or 1)):
        raise ProjectError(f"{full}: a range of int has whole ends and a whole step", where=where)
    return Dimension(
        name=full,
        kind=kind.__name__,
        low=float(mark.low),
        high=float(mark.high),
        log=log,
        step=step,
        default=default,
    )
