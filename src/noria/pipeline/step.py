"""Steps as plain functions, and how a pipeline function turns their calls into a graph.

A step stays what it is: called from a test, a notebook or another step it is the function. Only
while an `@nr.pipeline` function is being read does a call give a `Result`, a promise that names
the node. Nothing is executed here and nothing is registered at import.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import typing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Generic, Never, ParamSpec, TypeVar, cast, overload

from noria.core.errors import ProjectError, UsageError
from noria.core.frozen import frozen, slotted
from noria.core.lazy import lazy
from noria.core.printable import error_line
from noria.pipeline.bindings import Binding, Const, DatasetRole, Group, Guard, Ref, Stored, leaves
from noria.pipeline.options import StepOptions, options_of
from noria.pipeline.promise import Result

if TYPE_CHECKING:
    import difflib
else:
    difflib = lazy("difflib")

__all__ = [
    "Binding",
    "Const",
    "DatasetRole",
    "Graph",
    "Group",
    "Guard",
    "Ref",
    "Result",
    "Step",
    "StepNode",
    "StepOptions",
    "Stored",
    "guarded",
    "importing",
    "is_planning",
    "kind_of",
    "leaves",
    "planning",
    "require_plain",
    "split",
    "step",
    "uncalled",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_NO_ITEMS: Any = object()
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})


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
            self._require_no_import()
            return self.function(*args, **kwargs)
        return cast("R", graph.add(cast("Step[..., Any]", self), args, kwargs))

    def map(self, items: Iterable[Any] = _NO_ITEMS, /, *more: Never, **others: Any) -> list[R]:
        """The step for each item: the first parameter that is not among `others` takes one item at a time.

        In a pipeline the items are a list, or the result of a step that gives one, and what comes
        back stands for the list of results in the order of the items. Each item has a cache key of
        its own, so one that is new runs alone; only some are under way at a time.

        Example: scored = score.map(nr.partition(flights, by="month"), model=fitted)
        """
        graph = _PLANNING.get()
        name = self._mapped(others)
        self._require_items(items, name, len(more))
        if graph is None:
            self._require_no_import()
            function = cast("Callable[..., R]", self.function)
            calls = (split(function, {name: item, **others}) for item in items)
            return [function(*by_place, **by_name) for by_place, by_name in calls]
        by_place, by_name = split(self.function, {name: items, **others})
        return cast("list[R]", graph.add(cast("Step[..., Any]", self), tuple(by_place), by_name, over=name))

    def _mapped(self, others: Mapping[str, Any]) -> str:
        names = [name for name in inspect.signature(self.function).parameters if name not in others]
        if not names:
            raise ProjectError(
                f"step {self.name} has no parameter left for the items of map",
                hint=f"it is {self.signature()}; give map the items, and by name what is the same for each of them",
            )
        return names[0]

    def _require_items(self, items: object, name: str, more: int) -> None:
        """What is mapped over is given once, and is a result or something to go over. Raises: ProjectError."""
        if items is _NO_ITEMS or more:
            told = f"{more + 1} values by their place" if more else "no items"
            raise ProjectError(
                f"map of step {self.name} is given {told}: it takes the list of items for {name}, and the rest by name",
                hint=f"it is {self.signature()}; write {self.name}.map([…]), or the result of a step that gives a list",
            )
        if isinstance(items, Step):
            raise uncalled(items, f"map of step {self.name}")
        if isinstance(items, str) or not (isinstance(items, Iterable) or hasattr(items, "__getitem__")):
            raise ProjectError(
                f"step {self.name} cannot be mapped over {kind_of(items)}",
                hint=f"give a list, {self.name}.map([…]), or the result of a step that returns one; "
                "nr.partition divides a data set",
            )

    def _require_no_import(self) -> None:
        """A step that is called as its file is read would run at every command, without cache and record."""
        file = _IMPORTED.get()
        if file:
            raise ProjectError(
                f"step {self.name} is called while {file} is imported, outside of any pipeline",
                hint="call it in the function that @nr.pipeline marks, or leave out @nr.step",
            )

    def signature(self) -> str:
        """The definition as a reader knows it: `score(rows, limit=3)`."""
        shown = [each.replace(annotation=each.empty) for each in inspect.signature(self.function).parameters.values()]
        return f"{self.name}{inspect.Signature(shown)}"

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
        except UsageError as error:  # a range in an annotation that is kept as text, and so made only now
            raise ProjectError(error.message, where=self.where, hint=error.hint) from error

    def unread(self) -> str:
        """Why the annotations cannot be resolved at run time; "" if they can."""
        try:
            typing.get_type_hints(inspect.unwrap(self.function), include_extras=True)
        except (NameError, TypeError, AttributeError) as error:
            return error_line(error)
        return ""

    def output_types(self) -> tuple[Any, ...]:
        """One type per output: those of an annotated fixed tuple, or the one return annotation."""
        hint = self.hints().get("return", inspect.Parameter.empty)
        if typing.get_origin(hint) is tuple:
            parts = typing.get_args(hint)
            if parts and Ellipsis not in parts:
                return parts
        return (hint,)


@frozen
class StepNode:
    """One call of a step in a pipeline. `inputs` and parameters share `bindings`, by parameter name.

    `over` names the parameter that takes one item at a time; the node then gives one list. `guards`
    are the decisions that it depends on. A node with `cases` runs nothing: it stands for the result
    of the branch that was taken, the binding `on` being the decision and the others the branches'
    results, by the position of their label in `cases`.
    """

    name: str
    step: Step[..., Any]
    bindings: Mapping[str, Binding]
    outputs: tuple[str, ...]
    over: str = ""
    guards: tuple[Guard, ...] = ()
    cases: tuple[Guard, ...] = ()

    def parents(self) -> list[str]:
        """The names of the nodes that must be over before it, in order of its parameters."""
        return list(dict.fromkeys(ref.node for ref in (*self.references(), *(guard.on for guard in self.guards))))

    def of_item(self) -> StepNode:
        """The call of a mapped step for one item: the same as the step called with that item alone."""
        return replace(self, over="", outputs=output_names(len(self.step.output_types())))

    def references(self) -> Iterator[Ref]:
        """Every output of another node that it takes."""
        return (leaf for binding in self.bindings.values() for leaf in leaves(binding) if isinstance(leaf, Ref))

    def datasets(self) -> Iterator[DatasetRole]:
        """Every data set that it takes itself."""
        for binding in self.bindings.values():
            yield from (leaf for leaf in leaves(binding) if isinstance(leaf, DatasetRole))


@slotted
class Graph:
    """The nodes that a pipeline function has asked for so far, in order of the calls."""

    nodes: dict[str, StepNode] = field(default_factory=dict)
    guards: tuple[Guard, ...] = ()

    def add(
        self, called: Step[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, over: str = ""
    ) -> Result:
        """Add one call. Raises: ProjectError if the arguments do not fit the step's signature."""
        signature = inspect.signature(called.function)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ProjectError(f"step {called.name}: {error}", hint=f"it is {called.signature()}") from error
        for name, value in bound.arguments.items():  # a step as a default is the author's own: it is called inside
            if (found := _hidden(value, Step)) is not None:
                raise uncalled(found, f"{name} of step {called.name}")
        bound.apply_defaults()
        bindings: dict[str, Binding] = {}
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                twice = next((key for key in value if key in bindings), "")
                if twice:
                    raise ProjectError(
                        f"step {called.name} is given {twice} by its place, and another {twice} for **{name}",
                        hint=f"it is {called.signature()}; give one of them another name",
                    )
                bindings.update({key: binding_of(item) for key, item in value.items()})
            elif kind is inspect.Parameter.VAR_POSITIONAL and value:
                raise ProjectError(
                    f"step {called.name} takes *{name}; a pipeline can only pass named arguments",
                    hint=f"make {name} a list",
                )
            elif kind is not inspect.Parameter.VAR_POSITIONAL:
                bindings[name] = binding_of(value)
        if over:
            bindings[over] = _items_of(bindings[over], called)
        count = 1 if over else len(called.output_types())
        node = StepNode(self.free_name(called.name), called, bindings, output_names(count), over, self.guards)
        self.nodes[node.name] = node
        return Result(node.name, 0, count)

    def free_name(self, name: str) -> str:
        """The name of the next node of a step: the step's own, numbered from its second call on."""
        number, free = 2, name
        while free in self.nodes:
            free = f"{name}-{number}"
            number += 1
        return free


def split(function: Callable[..., Any], arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that a function takes by their place alone (those before a `/`), and the others by name."""
    known = inspect.signature(function).parameters.values()
    places = [each.name for each in known if each.kind is each.POSITIONAL_ONLY and each.name in arguments]
    by_name = {name: value for name, value in arguments.items() if name not in places}
    return [arguments[name] for name in places], by_name


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
    hidden = _hidden(value, Result)
    if hidden is not None:
        where = f"a {type(value).__name__}"
        raise ProjectError(
            f"the result of step {hidden.reference().node} stands in {where}, where no step can get it",
            hint="give it by itself, in a list or a tuple, or as a value of a dict whose keys are texts",
        )
    return Const(value)


def uncalled(named: Step[..., Any], place: str) -> ProjectError:
    """The error of a step that stands, without its parentheses, where its result is wanted."""
    needed = [each for each in inspect.signature(named.function).parameters.values() if each.default is each.empty]
    call = f"{named.name}({'…' if needed else ''})"
    return ProjectError(
        f"{place} is given the step {named.name}, not its result",
        hint=f"write {call}; {named.name}.function is the plain function, where that is meant",
    )


def _hidden(value: Any, kind: type[T]) -> T | None:
    """A promise or a step in a container that is handed to a step as it is, or the argument itself."""
    if isinstance(value, kind):
        return value
    if isinstance(value, dict):
        value = (*value, *value.values())
    if not isinstance(value, list | tuple | set | frozenset | deque) or _PLAIN.issuperset(map(type, value)):
        return None
    return next((found for item in value if (found := _hidden(item, kind)) is not None), None)


def kind_of(value: object) -> str:
    """What a value is, for people: `an int`, `a function`."""
    kind = "data set" if isinstance(value, DatasetRole) else type(value).__name__
    name = "function" if inspect.isroutine(value) else kind
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _items_of(binding: Binding, called: Step[..., Any]) -> Binding:
    """What a mapped parameter is bound to: a result, or the items themselves."""
    if isinstance(binding, Ref) or (isinstance(binding, Group) and binding.kind in ("list", "tuple")):
        return binding
    if isinstance(binding, Const) and isinstance(binding.value, Iterable) and not isinstance(binding.value, str):
        return Group("list", tuple(binding_of(item) for item in binding.value))
    kind = (
        f"a {binding.kind} of results"
        if isinstance(binding, Group)
        else kind_of(binding.value if isinstance(binding, Const) else binding)
    )
    raise ProjectError(
        f"step {called.name} cannot be mapped over {kind}",
        hint="give a list, or the result of a step that returns one; nr.partition divides a data set",
    )


def _holds_promise(items: Any) -> bool:
    return any(
        isinstance(item, Result | DatasetRole)
        or (type(item) in (list, tuple) and _holds_promise(item))
        or (type(item) is dict and _holds_promise(list(item.values())))
        for item in items
    )


_PLANNING: contextvars.ContextVar[Graph | None] = contextvars.ContextVar("noria_planning", default=None)
_IMPORTED: contextvars.ContextVar[str] = contextvars.ContextVar("noria_imported", default="")


@contextlib.contextmanager
def importing(file: str) -> Iterator[None]:
    """In the block a project's file is imported: no step is called there."""
    token = _IMPORTED.set(file)
    try:
        yield
    finally:
        _IMPORTED.reset(token)


def is_planning() -> Graph | None:
    """The graph that is being read, if a pipeline is; None in a test, a notebook or a step."""
    return _PLANNING.get()


@contextlib.contextmanager
def guarded(graph: Graph, guard: Guard) -> Iterator[None]:
    """What is called in the block runs only if a decision falls that way."""
    before, graph.guards = graph.guards, (*graph.guards, guard)
    try:
        yield
    finally:
        graph.guards = before


def planning(function: Callable[[], Any]) -> tuple[Any, Graph]:
    """Call a pipeline function so that its steps build a graph; give what it returned, and the graph."""
    graph = Graph()
    token = _PLANNING.set(graph)
    try:
        return function(), graph
    finally:
        _PLANNING.reset(token)


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    cpu: float = ...,
    memory: str | int = ...,
    gpu: float = ...,
    timeout: str = ...,
    retries: int = ...,
    retry_wait: str = ...,
    isolated: bool = ...,
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
    gpu: float = 0.0,
    timeout: str = "",
    retries: int = 0,
    retry_wait: str = "1s",
    isolated: bool = False,
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
        cpu: cores it uses; steps run beside each other only while there are cores for all of them.
        memory: limit of its memory, such as "2GiB"; it then runs in a process of its own.
        gpu: devices it needs; the run does not begin if no executor that is chosen has them.
        timeout: limit of the time of one attempt, such as "10m"; it then runs in a process of its own.
        retries: further attempts after a failure.
        retry_wait: pause before the first of them; doubled each time, and spread by chance.
        isolated: True for a fresh process for each attempt.
        cache: False to run it every time.
        version: a text that enters the cache key; change it to force a new result.
        ignore: names of globals that must not enter the cache key.
        extra_files: files (relative to the project) whose content enters the cache key.
        env: "imports", "lock" or "none": which package versions enter the cache key.
        variables: environment variables that enter the cache key; those that the project's own code reads do so anyway.
        tolerance: how far numbers may be from those of a run that `noria reproduce` makes anew:
            |a - b| <= tolerance * max(1, |a|, |b|). 0 means bit-identical. No part of the cache key.
    Raises: UsageError for an option or a function that cannot be a step.
    """
    if unknown:
        name, known = next(iter(unknown)), list(inspect.signature(step).parameters)[1:-1]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"options: {', '.join(known)}"
        raise UsageError(f"@nr.step has no option {name!r}", hint=hint)
    options = options_of(
        cpu=cpu,
        memory=memory,
        gpu=gpu,
        timeout=timeout,
        retries=retries,
        retry_wait=retry_wait,
        isolated=isolated,
        cache=cache,
        version=version,
        ignore=ignore,
        extra_files=extra_files,
        env=env,
        variables=variables,
        tolerance=tolerance,
    )

    def mark(made: Callable[P, R]) -> Step[P, R]:
        require_plain(made, "step")
        return Step(made, options)

    return mark if function is None else mark(function)


def require_plain(made: object, what: str) -> None:
    """Raises UsageError for what is no function that is called and then has its result: `what` is step or pipeline."""
    if not inspect.isfunction(made):
        word = "class" if isinstance(made, type) else type(made).__name__.lower()
        kind = f"the {word} {getattr(made, '__name__', '')}".rstrip()
        raise UsageError(f"@nr.{what} marks a function, not {kind}", hint=f"put @nr.{what} right above a def")
    name = made.__name__
    if inspect.isgeneratorfunction(made):
        hint = "collect what it yields in a list and return that" if what == "step" else "call the steps, one by one"
        raise UsageError(f"{what} {name} yields; it must return its result", hint=hint)
    if inspect.iscoroutinefunction(made) or inspect.isasyncgenfunction(made):
        inner = (
            "return asyncio.run(NAME()) in it, of the coroutine" if what == "step" else "call the steps without await"
        )
        raise UsageError(f"{what} {name} is async; it must return its result itself", hint=f"write def; {inner}")
