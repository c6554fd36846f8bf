"""The ranges that `Annotated` parameters of steps declare for a search: values that say at once what they lack.

What a range means for its parameter is judged in `space.py`, when a search begins; here is only how it is written.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import difflib
else:
    difflib = lazy("difflib")

__all__ = ["Choice", "Log", "Range", "instead_of"]

_RANGE = "nr.Range(0.01, 0.3), with log=True or step=0.01 where it is wanted"
_LOG = "nr.Log(0.01, 0.3): the lower end, then the higher one"
_CHOICE = "nr.Choice([15, 31, 63])"
_INT = "Annotated[int, nr.Range(1, 9)]"
_FLOAT = "Annotated[float, nr.Range(0.01, 0.3)]"
_LOG_FLOAT = "Annotated[float, nr.Log(0.01, 0.3)]"
_ELSEWHERE = {
    **dict.fromkeys(("int", "integer", "intrange", "intuniform", "randint", "quniform"), _INT),
    **dict.fromkeys(("float", "real", "uniform", "floatrange", "floatuniform", "between"), _FLOAT),
    **dict.fromkeys(("loguniform", "logrange", "logfloat", "logscale"), _LOG_FLOAT),
    **dict.fromkeys(("categorical", "choices", "oneof", "options", "grid"), f"Annotated[int, {_CHOICE}]"),
}
"""How other libraries call a range, and what it is here."""


def _signature(*needed: str, **others: Any) -> inspect.Signature:
    """What an editor shows of a range."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    words = [inspect.Parameter(name, kind, default=value) for name, value in others.items()]
    return inspect.Signature([*(inspect.Parameter(name, kind) for name in needed), *words])


def _fill(made: Any, example: str, args: tuple[Any, ...], words: Mapping[str, Any]) -> None:
    """Set the fields of a range as its class's own `__init__` would. Raises: UsageError with an example."""
    fields, kind = dataclasses.fields(made), f"nr.{type(made).__name__}"
    names = [each.name for each in fields]
    known = f"{', '.join(names[:-1])} and {names[-1]}"
    if len(args) > len(names):
        raise UsageError(f"{kind} takes {known}, and is given {len(args)} values", hint=f"write {example}")
    values = dict(zip(names, args, strict=False))
    for name, value in words.items():
        if name not in names:
            raise UsageError(f"{kind} takes {known}, and no {name!r}", hint=f"write {example}")
        if name in values:
            raise UsageError(f"{kind} is given {name} twice: by its place and by its name", hint=f"write {example}")
        values[name] = value
    missing = [each.name for each in fields if each.name not in values and each.default is dataclasses.MISSING]
    if missing:
        raise UsageError(f"{kind} is not given {' and '.join(missing)}", hint=f"write {example}")
    for each in fields:
        object.__setattr__(made, each.name, values.get(each.name, each.default))


@frozen
class Log:
    """A search range on a logarithmic scale, for `Annotated[float, nr.Log(0.02, 0.3)]`."""

    low: float
    high: float

    if not TYPE_CHECKING:
        __signature__ = _signature("low", "high")

        def __init__(self, *args: Any, **words: Any) -> None:
            _fill(self, _LOG, args, words)


@frozen
class Range:
    """A search range with its ends: `Annotated[float, nr.Range(1e-4, 1e-1, log=True)]`, or of `int`.

    `step` is the distance between values; a range on a logarithmic scale has none.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    if not TYPE_CHECKING:
        __signature__ = _signature("low", "high", log=False, step=None)

        def __init__(self, *args: Any, **words: Any) -> None:
            _fill(self, _RANGE, args, words)
            if not isinstance(self.log, bool):  # a third value is a step in other libraries
                raise UsageError(
                    f"nr.Range: log is {str(self.log)[:40]}, not True or False", hint=f"write {_RANGE}, by their names"
                )


@frozen
class Choice:
    """A search over some values, for `Annotated[int, nr.Choice(15, 31, 63)]`; one list of them is taken, too."""

    values: tuple[Any, ...]

    def __init__(self, *values: object, **words: object) -> None:
        if words:
            raise UsageError(f"nr.Choice takes its values, and no {next(iter(words))!r}", hint=f"write {_CHOICE}")
        is_one = len(values) == 1 and isinstance(values[0], list | tuple)
        object.__setattr__(self, "values", tuple(values[0]) if is_one else values)  # type: ignore[arg-type]  # is_one


def instead_of(name: str, known: list[str]) -> str:
    """What to write for a name that noria does not have; "" if nothing is like it."""
    other = _ELSEWHERE.get(name.replace("_", "").lower())
    if other:
        return f"a search range is written {other}"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean nr.{near[0]}?" if near else ""
