"""Steps as plain functions, and how a pipeline function turns their calls into a graph.

A step stays what it is: called from a test, a notebook or another step it is the function. Only
while an `@nr.pipeline` function is being read does a call give a `Result`, a promise that names
the node. Nothing is executed here and nothing is registered at import.
"""

from __future__ import annotations

import contextvars
import difflib
import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from noria.core.clock import duration
from noria.core.errors import ProjectError, UsageError
from noria.core.size import size_bytes

__all__ = [
    "Binding",
    "Choice",
    "Const",
    "DatasetRole",
    "Graph",
    "Group",
    "Log",
    "Ref",
    "Result",
    "Step",
    "StepNode",
    "StepOptions",
    "planning",
    "size",
    "step",
]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Log:
    """A search range on a logarithmic scale, for `Annotated[float, nr.Log(0.02, 0.3)]`."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, init=False)
class Choice:
    """A search over some values, for `Annotated[int, nr.Choice(15, 31, 63)]`; one list of them is taken, too."""

    values: tuple[Any, ...]

    def __init__(self, *values: object) -> None:
        is_one = len(values) == 1 and isinstance(values[0], list | tuple)
        object.__setattr__(self, "values", tuple(values[0]) if is_one else values)  # type: ignore[arg-type]  # is_one


@dataclass(frozen=True, slots=True)
class DatasetRole:
    """A data set as a pipeline sees it: its name, and which columns are key, event time and label."""

    name: str
    key: str = ""
    time: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Ref:
    """The output of another node; `output` is its position among the node's outputs."""

    node: str
    output: int = 0


@dataclass(frozen=True, slots=True)
class Const:
    """A plain value that the pipeline function or the default of the parameter gives."""

    value: Any


@dataclass(frozen=True, slots=True)
class Group:
    """Several bindings in one argument: `kind` is list, tuple or dict; `keys` are those of a dict."""

    kind: str
    items: tuple[Binding, ...]
    keys: tuple[str, ...] = ()


Binding = Ref | DatasetRole | Const | Group


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """What `@nr.step(...)` says. Only `version`, `ignore`, `extra_files`, `env` and `variables` touch the cache key.

    `cpu` is in cores, `memory_bytes` and `timeout_s` 0 when not limited. `ignore` names globals
    that must not enter the key; `env` is "imports" (versions of the packages reached), "lock"
    (every package) or "none"; `variables` names environment variables that packages read. `tolerance`
    is how far the numbers of its outputs may be from those of a run that is reproduced.
    """

    cpu: float = 1.0
    memory_bytes: int = 0
    timeout_s: float = 0.0
    cache: bool = True
    version: str = ""
    ignore: tuple[str, ...] = ()
    extra_files: tuple[str, ...] = ()
    env: str = "imports"
    variables: tuple[str, ...] = ()
    tolerance: float = 0.0


class Step(Generic[P, R]):
    """A function that a pipeline may call; everywhere else, the function itself."""

    def __init__(self, function: Callable[P, R], options: StepOptions) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.options = options
        self.name = function.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        graph = _PLANNING.get()
        if graph is None:
            return self.function(*args, **kwargs)
        return cast("R", graph.add(cast("Step[..., Any]", self), args, kwargs))

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    @property
    def where(self) -> str:
        """File and line of the definition."""
        code = inspect.unwrap(self.function).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    def hints(self) -> dict[str, Any]:
        """The annotations as types, without those that cannot be resolved at run time."""
        function = inspect.unwrap(self.function)
        try:
            return typing.get_type_hints(function, include_extras=True)
        except (NameError, TypeError, AttributeError):
            return {name: hint for name, hint in function.__annotations__.items() if not isinstance(hint, str)}

    def output_types(self) -> tuple[Any, ...]:
        """One type per output: those of an annotated fixed tuple, or the one return annotation."""
        hint = self.hints().get("return", inspect.Parameter.empty)
        if typing.get_origin(hint) is tuple:
            parts = typing.get_args(hint)
            if parts and Ellipsis not in parts:
                return parts
        return (hint,)


@dataclass(frozen=True, slots=True)
class StepNode:
    """One call of a step in a pipeline. `inputs` and parameters share `bindings`, by parameter name."""

    name: str
    step: Step[..., Any]
    bindings: Mapping[str, Binding]
    outputs: tuple[str, ...]

    def parents(self) -> list[str]:
        """The names of the nodes it takes from, in order of its parameters."""
        return list(dict.fromkeys(ref.node for ref in self.references()))

    def references(self) -> Iterator[Ref]:
        """Every output of another node that it takes."""
        return (leaf for binding in self.bindings.values() for leaf in leaves(binding) if isinstance(leaf, Ref))

    def datasets(self) -> Iterator[DatasetRole]:
        """Every data set that it takes itself."""
        for binding in self.bindings.values():
            yield from (leaf for leaf in leaves(binding) if isinstance(leaf, DatasetRole))


def leaves(binding: Binding) -> Iterator[Ref | DatasetRole | Const]:
    """The bindings inside groups, in order."""
    if isinstance(binding, Group):
        for item in binding.items:
            yield from leaves(item)
    else:
        yield binding


class Result:
    """What a step gives while a pipeline is read: a promise, not a value.

    It can be passed to steps and, if the step is annotated with a fixed tuple, unpacked. Anything
    else needs the value, which does not exist yet, and is refused.
    """

    __slots__ = ("_count", "_node", "_output")

    def __init__(self, node: str, output: int, count: int) -> None:
        self._node, self._output, self._count = node, output, count

    def reference(self) -> Ref:
        """The output that this promise stands for."""
        if self._count > 1:
            raise ProjectError(
                f"step {self._node} gives {self._count} values; unpack them before passing them on",
                hint=f"write: {', '.join('abcdefgh'[: self._count])} = {self._node}(...)",
            )
        return Ref(self._node, self._output)

    def __iter__(self) -> Iterator[Result]:
        if self._count == 1:
            raise ProjectError(
                f"step {self._node} gives one value and cannot be unpacked",
                hint="annotate it with -> tuple[A, B] if it returns two",
            )
        return iter([Result(self._node, index, 1) for index in range(self._count)])

    def __getitem__(self, index: int) -> Result:
        return list(self)[index]

    def __bool__(self) -> bool:
        raise self._refuse("a condition")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._refuse(f".{name}")

    def _refuse(self, what: str) -> ProjectError:
        return ProjectError(
            f"{what} needs the value of step {self._node}, which does not exist while the pipeline is read",
            hint="do it inside a step",
        )


@dataclass(slots=True)
class Graph:
    """The nodes that a pipeline function has asked for so far, in order of the calls."""

    nodes: dict[str, StepNode] = field(default_factory=dict)

    def add(self, called: Step[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Result:
        """Add one call. Raises: ProjectError if the arguments do not fit the step's signature."""
        signature = inspect.signature(called.function)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ProjectError(f"step {called.name}: {error}", where=called.where) from error
        bound.apply_defaults()
        bindings: dict[str, Binding] = {}
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                bindings.update({key: binding_of(item) for key, item in value.items()})
            elif kind is inspect.Parameter.VAR_POSITIONAL and value:
                raise ProjectError(
                    f"step {called.name} takes *{name}; a pipeline can only pass named arguments",
                    where=called.where,
                    hint=f"make {name} a list",
                )
            elif kind is not inspect.Parameter.VAR_POSITIONAL:
                bindings[name] = binding_of(value)
        count = len(called.output_types())
        node = StepNode(self._free_name(called.name), called, bindings, output_names(count))
        self.nodes[node.name] = node
        return Result(node.name, 0, count)

    def _free_name(self, name: str) -> str:
        number = 2
        free = name
        while free in self.nodes:
            free = f"{name}-{number}"
            number += 1
        return free


def output_names(count: int) -> tuple[str, ...]:
    """`result` for one output, else `result1`, `result2`, …"""
    return ("result",) if count == 1 else tuple(f"result{index + 1}" for index in range(count))


def binding_of(value: Any) -> Binding:
    """What an argument is: a promise, a data set, a plain value, or a container of them."""
    if isinstance(value, Result):
        return value.reference()
    if isinstance(value, DatasetRole):
        return value
    if type(value) in (list, tuple) and _holds_promise(value):
        return Group(type(value).__name__, tuple(binding_of(item) for item in value))
    if type(value) is dict and _holds_promise(list(value.values())) and all(isinstance(key, str) for key in value):
        return Group("dict", tuple(binding_of(item) for item in value.values()), tuple(value))
    return Const(value)


def _holds_promise(items: Any) -> bool:
    return any(
        isinstance(item, Result | DatasetRole)
        or (type(item) in (list, tuple) and _holds_promise(item))
        or (type(item) is dict and _holds_promise(list(item.values())))
        for item in items
    )


_PLANNING: contextvars.ContextVar[Graph | None] = contextvars.ContextVar("noria_planning", default=None)


def planning(function: Callable[[], Any]) -> tuple[Any, Graph]:
    """Call a pipeline function so that its steps build a graph; give what it returned, and the graph."""
    graph = Graph()
    token = _PLANNING.set(graph)
    try:
        return function(), graph
    finally:
        _PLANNING.reset(token)


def size(text: str | int) -> int:
    """Bytes of `2GiB`, `512MB` or a number. Raises: UsageError for another form."""
    if isinstance(text, int):
        return text
    try:
        return size_bytes(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    cpu: float = ...,
    memory: str | int = ...,
    timeout: str = ...,
    cache: bool = ...,
    version: str = ...,
    ignore: typing.Sequence[str] = ...,
    extra_files: typing.Sequence[str] = ...,
    env: str = ...,
    variables: typing.Sequence[str] = ...,
    tolerance: float = ...,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[P, R] | None = None,
    /,
    *,
    cpu: float = 1.0,
    memory: str | int = 0,
    timeout: str = "",
    cache: bool = True,
    version: str = "",
    ignore: typing.Sequence[str] = (),
    extra_files: typing.Sequence[str] = (),
    env: str = "imports",
    variables: typing.Sequence[str] = (),
    tolerance: float = 0.0,
    **unknown: object,
) -> Any:
    """Mark a function as a step, with or without options.

    Args:
        cpu: cores it uses, for scheduling.
        memory: limit of its memory, such as "2GiB"; it then runs in a process of its own.
        timeout: limit of its time, such as "10m"; likewise.
        cache: False to run it every time.
        version: a text that enters the cache key; change it to force a new result.
        ignore: names of globals that must not enter the cache key.
        extra_files: files (relative to the project) whose content enters the cache key.
        env: "imports", "lock" or "none": which package versions enter the cache key.
        variables: environment variables whose values enter the cache key (those that the project's
            own code reads by name do so by themselves).
        tolerance: how far numbers may be from those of a run that `noria reproduce` makes anew:
            |a - b| <= tolerance * max(1, |a|, |b|). 0 means bit-identical. No part of the cache key.
    Raises: UsageError for an option or a function that cannot be a step.
    """
    if unknown:
        name, known = next(iter(unknown)), list(inspect.signature(step).parameters)[1:-1]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"options: {', '.join(known)}"
        raise UsageError(f"@nr.step has no option {name!r}", hint=hint)
    if env not in ("imports", "lock", "none"):
        raise UsageError(f'env is {env!r}, not "imports", "lock" or "none"')
    if not 0 <= tolerance < 1:
        raise UsageError(f"tolerance is {tolerance}, not a number from 0 to below 1")
    options = StepOptions(
        cpu=cpu,
        memory_bytes=size(memory),
        timeout_s=_seconds(timeout),
        cache=cache,
        version=version,
        ignore=tuple(ignore),
        extra_files=tuple(extra_files),
        env=env,
        variables=tuple(variables),
        tolerance=float(tolerance),
    )

    def mark(made: Callable[P, R]) -> Step[P, R]:
        if not inspect.isfunction(made):
            raise UsageError(f"@nr.step marks a function, not {type(made).__name__}")
        if inspect.isgeneratorfunction(made) or inspect.iscoroutinefunction(made):
            raise UsageError(f"step {made.__name__} must return its result, not yield or await it")
        return Step(made, options)

    return mark if function is None else mark(function)


def _seconds(text: str) -> float:
    try:
        return duration(text).total_seconds() if text else 0.0
    except ValueError as error:
        raise UsageError(f"timeout: {error}") from error
