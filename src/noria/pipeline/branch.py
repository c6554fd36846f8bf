"""Branches and partitions of a pipeline: which steps run is decided by a step, what they run over by the data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from noria.core.errors import ProjectError, UsageError
from noria.core.lazy import lazy
from noria.pipeline.bindings import Guard, Ref, same_label
from noria.pipeline.options import StepOptions
from noria.pipeline.step import DatasetRole, Graph, Result, Step, StepNode, guarded, is_planning, kind_of, uncalled

__all__ = ["MERGE", "branch", "partition"]

MERGE = "branch"
_FORM = "nr.branch(STEP(...), {True: lambda: ..., False: lambda: ...}, otherwise=lambda: ...)"
_NO_CASES: Mapping[Any, Any] = MappingProxyType({})
pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

Label = str | int | bool


def branch(
    decision: Any, cases: Mapping[Label, Callable[[], Any]] = _NO_CASES, *, otherwise: Callable[[], Any] | None = None
) -> Any:
    """Run the steps of one case only: that whose label the step before has given.

    Args:
        decision: the result of a step that gives a text, a whole number, or True or False.
        cases: for each label a function without parameters that calls steps and gives a result.
        otherwise: the same for any other decision; without it, another decision fails the run.
    Returns: the result of the case that is taken. In a test or a notebook that case is simply called.
    Raises: ProjectError if the decision is not one step's result, a case is named by something else or is no
        function without parameters, or some cases give a result and others none.
    Example: model = nr.branch(kind(rows), {"small": lambda: fit_small(rows), "large": lambda: fit_large(rows)})
    """
    _require_cases(cases, otherwise)
    graph = is_planning()
    if graph is None:
        for label, case in cases.items():
            if same_label(decision, label):
                return case()
        if otherwise is None:
            raise UsageError(f"there is no branch {decision!r}", hint=f"branches: {_names(cases)}")
        return otherwise()
    if isinstance(decision, Step):
        raise uncalled(decision, "nr.branch")
    if not isinstance(decision, Result):
        raise ProjectError(
            "the decision of nr.branch is not the result of a step", hint="use a plain if, or decide in a step"
        )
    on, labels = decision.reference(), tuple(cases)
    chosen: list[tuple[Guard, Callable[[], Any]]] = [(Guard(on, label), case) for label, case in cases.items()]
    if otherwise is not None:
        chosen.append((Guard(on, None, labels), otherwise))
    results = []
    for guard, case in chosen:
        with guarded(graph, guard):
            results.append(case())
    return _merged(graph, on, [guard for guard, _ in chosen], results)


def _require_cases(cases: object, otherwise: object) -> None:
    """Each case is named by a label and is called only if it is taken. Raises: ProjectError."""
    if not isinstance(cases, Mapping):
        text = f"the cases of nr.branch are a dict of a function for each label, not {kind_of(cases)}"
        raise ProjectError(text, hint=_FORM)
    if not cases and otherwise is None:
        raise ProjectError("nr.branch has no case", hint=_FORM)
    for label in cases:
        if not isinstance(label, str | int):
            raise ProjectError(
                f"nr.branch has the case {label!r}, which is no text, whole number, True or False",
                hint="otherwise=lambda: … is for any other decision",
            )
    named = {f"the case {label!r}": case for label, case in cases.items()}
    if otherwise is not None:
        named["otherwise"] = otherwise
    for name, case in named.items():
        if isinstance(case, Result):
            text = f"{name} of nr.branch is the result of {case.told}, which is made whatever is decided"
            raise ProjectError(text, hint=f"write lambda: in front of it. {_FORM}")
        if not callable(case):
            raise ProjectError(f"{name} of nr.branch is {kind_of(case)}, not a function", hint=_FORM)
        if inspect.isfunction(case):
            needed = [each.name for each in inspect.signature(case).parameters.values() if _is_needed(each)]
            if needed:
                text = f"{name} of nr.branch takes {', '.join(needed)}, which nobody gives"
                raise ProjectError(text, hint=f"lambda: … without parameters: it takes what is around it. {_FORM}")


def _is_needed(parameter: inspect.Parameter) -> bool:
    is_many = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not is_many


def _merged(graph: Graph, on: Ref, guards: list[Guard], results: list[Any]) -> Result | None:
    """The node that stands for whichever result there is."""
    kinds = {type(result) for result in results}
    if kinds == {type(None)}:
        return None
    if kinds != {Result}:
        raise ProjectError(
            "some cases of nr.branch give the result of a step, and others do not",
            hint="let each of them end with one step's result, or none of them",
        )
    name = graph.free_name(MERGE)
    bindings = {"on": on} | {f"case{place}": result.reference() for place, result in enumerate(results)}
    graph.nodes[name] = StepNode(
        name, Step(_taken, StepOptions()), bindings, ("result",), guards=graph.guards, cases=tuple(guards)
    )
    return Result(name, 0, 1)


def _taken(on: Any, **cases: Any) -> Any:
    raise AssertionError("a node of branches is never called")


def partition(rows: Any, *, by: str, every: str = "") -> Any:
    """The parts of a table, one for each value of a column: a list to be mapped over.

    A part has an identity of its own, so after new rows of one month only the parts that they are in
    run again, wherever in the table they came. Parts come in the order of their values, rows without one
    last. Where rows of a pandas frame are only numbered, those of each part are, from 0.

    Args:
        rows: a data set, or the result of a step that gives a table.
        by: the column.
        every: "day", "month" or "year" for a column of times: one part for each.
    Returns: a list of tables of the same kind. In a test or a notebook it is the list at once.
    Raises: UsageError if there is no such column.
    Example: monthly = summarise.map(nr.partition(flights, by="time_hour", every="month"))
    """
    if every not in ("", "day", "month", "year"):
        raise UsageError(f'every is {every!r}, not "day", "month" or "year"')
    graph = is_planning()
    if graph is None:
        return _divide(rows, by, every)
    if not isinstance(rows, Result | DatasetRole):
        if isinstance(rows, Step):
            raise uncalled(rows, "nr.partition")
        hint = "outside of a step there are no rows yet: nr.partition(nr.dataset(NAME), by=…), or of a step's result"
        raise ProjectError("nr.partition divides a data set, or the result of a step", hint=hint)
    made: Step[..., Any] = Step(_divide, _OPTIONS)
    made.name = PARTITION
    return graph.add(made, (), {"rows": rows, "by": by, "every": every})


_OPTIONS = StepOptions(version="partition/2")
PARTITION = "partition"


def _divide(rows: Any, by: str, every: str = "") -> list[Any]:
    names = list(rows.column_names if hasattr(rows, "column_names") else rows.columns)
    if by not in names:
        raise UsageError(f"the rows have no column {by!r}", hint=f"columns: {', '.join(map(str, names[:12]))}")
    if hasattr(rows, "column_names"):
        return _divided_arrow(rows, by, every)
    if not hasattr(rows, "groupby"):
        return [_like(rows, part) for part in _divided_arrow(rows.to_arrow(), by, every)]
    moments = rows[by].dt.strftime(_FORMS[every]) if every else rows[by]
    parts = [part for _, part in rows.groupby(moments, sort=True, dropna=True, observed=True)]
    unknown = rows[moments.isna()]
    parts = [*parts, unknown] if len(unknown) else parts
    # Numbers of rows are of the whole table: with them, a new row would make every part after it another one.
    return [part.reset_index(drop=True) for part in parts] if hasattr(rows.index, "start") else parts


_FORMS = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}


def _divided_arrow(table: Any, by: str, every: str) -> list[Any]:
    column = pc.strftime(table[by], format=_FORMS[every]) if every else table[by]
    values = sorted(value for value in pc.unique(column).to_pylist() if value is not None)
    parts = [table.filter(pc.equal(column, pa.scalar(value, column.type))) for value in values]
    unknown = table.filter(pc.is_null(column))
    return [*parts, unknown] if unknown.num_rows else parts


def _like(frame: Any, table: Any) -> Any:
    made: Any = lazy(type(frame).__module__.partition(".")[0]).from_arrow(table)
    return made


def _names(cases: Mapping[Label, Any]) -> str:
    return ", ".join(map(repr, cases))
