"""What a project's pipeline.py says: data sets, steps, a model, its metrics; read as a value.

The file is executed as it is now, by the loader of `sources.py`, and the pipeline function is
called once to see its graph. Policy is not here: the author of a model cannot weaken its gate.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, ParamSpec, TypeVar, cast, overload

from noria.config import Project
from noria.core.errors import NoriaError, NotFound, ProjectError, UsageError
from noria.core.frozen import frozen
from noria.core.graph import topological
from noria.core.printable import error_line
from noria.pipeline import generators, sources
from noria.pipeline.ranges import instead_of
from noria.pipeline.step import (
    DatasetRole,
    Graph,
    Ref,
    Result,
    Step,
    StepNode,
    importing,
    planning,
    require_plain,
    uncalled,
)

__all__ = [
    "Metric",
    "ModelNode",
    "Pipeline",
    "PipelineDefinition",
    "dataset",
    "define",
    "load_pipeline",
    "load_pipelines",
    "metric",
    "model",
    "pipeline",
]

LINE = 120
"""How much of a line of the project's own code or message an error shows."""
_TRACE = "NORIA_DEBUG=1 before the command shows the whole trace"
_CONNECTS = "a pipeline only calls steps, whose results do not exist yet: what needs them is done in a step"
P = ParamSpec("P")
R = TypeVar("R")


def _takes_rows(function: Callable[..., float]) -> bool:
    """Whether the function wants the rows beside labels and scores. Raises: UsageError."""
    given = inspect.signature(function).parameters.values()
    places = [each for each in given if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    needed = sum(each.default is each.empty for each in places)
    most = math.inf if any(each.kind is each.VAR_POSITIONAL for each in given) else len(places)
    if needed > 3 or most < 2:
        raise UsageError(
            f"the metric {function.__name__} takes ({', '.join(each.name for each in given)})",
            hint="a metric is a function of (y, score) or of (y, score, rows)",
        )
    return most >= 3


class Metric:
    """A metric of the project's own: `function(y, score[, rows]) -> float`, and which way is better."""

    def __init__(self, function: Callable[..., float], better: str) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = function.__name__
        self.better = better
        self.takes_rows = _takes_rows(function)

    def __call__(self, *args: Any, **kwargs: Any) -> float:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<metric {self.name}>"


@frozen(kw_only=True)
class ModelNode:
    """What a pipeline gives: the node of the model and of the holdout, and how it is measured.

    `model` and `holdout` name outputs of the pipeline's nodes; `metrics` are names of the
    registry's metrics or the project's own; `slices` are columns of the holdout. `validation` names
    rows that a search may judge trials on; None: it keeps some of the training rows.
    """

    name: str
    model: Ref
    holdout: Ref
    metrics: tuple[str | Metric, ...] = ("auc", "log_loss")
    slices: tuple[str, ...] = ()
    threshold: float = 0.5
    validation: Ref | None = None


@frozen(kw_only=True)
class PipelineDefinition:
    """A pipeline as a value: nodes in an order in which they can run, data sets by name, and the model.

    `module` is the module it was read from, `root` the project's folder.
    """

    name: str
    nodes: tuple[StepNode, ...]
    datasets: Mapping[str, DatasetRole]
    model: ModelNode | None
    module: ModuleType
    root: Path

    def node(self, name: str) -> StepNode:
        """The node of that name. Raises: NotFound naming the nodes there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise NotFound(f"there is no step {name!r}", hint=f"steps: {', '.join(node.name for node in self.nodes)}")

    def roles(self, node: str) -> tuple[DatasetRole, ...]:
        """The data sets above a node, nearest first."""
        if not self.datasets:
            return ()
        known = {each.name: each for each in self.nodes}
        found: dict[str, DatasetRole] = {}
        queue = {node: None}
        for name in (order := [node]):
            current = known.get(name) or self.node(name)
            found.update({role.name: role for role in current.datasets() if role.name not in found})
            above = [parent for parent in current.parents() if parent not in queue]
            queue.update(dict.fromkeys(above))
            order.extend(above)
        return tuple(found.values())


class Pipeline:
    """A marked pipeline function; `define` reads its graph."""

    def __init__(self, function: Callable[[], Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = function.__name__

    def __call__(self) -> Any:
        return self.function()

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"


@frozen
class _ModelCall:
    """What `nr.model` gives to the pipeline function, to be returned."""

    name: str
    model: Any
    holdout: Any
    options: Mapping[str, Any] = field(default_factory=dict)


def dataset(name: str, *, key: str = "", time: str = "", label: str = "") -> DatasetRole:
    """A data set of the project, with the columns that are its row key, event time and label."""
    return DatasetRole(name, key, time, label)


def pipeline(function: Callable[[], Any]) -> Pipeline:
    """Mark the function that says how steps make a model. Raises: UsageError for what cannot be called as it is."""
    require_plain(function, "pipeline")
    needed = [each.name for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    if needed:
        hint = "parameters are those of its steps: noria run -p STEP.NAME=VALUE"
        raise UsageError(f"pipeline {function.__name__} takes {', '.join(needed)}, which nobody gives", hint=hint)
    return Pipeline(function)


@overload
def metric(function: Callable[..., float], /) -> Metric: ...
@overload
def metric(*, better: str = ...) -> Callable[[Callable[..., float]], Metric]: ...
def metric(function: Callable[..., float] | None = None, /, *, better: str = "higher") -> Any:
    """Mark a function `(y, score) -> float` or `(y, score, rows) -> float` as a metric.

    `y` are the labels as numbers, `score` what the model says, `rows` a frame with all columns of the
    same rows: leave it out where it is not needed, since intervals call the function on many resamples.

    Args:
        better: "higher" or "lower".
    Raises: UsageError for another direction or other parameters.
    """
    if better not in ("higher", "lower"):
        raise UsageError(f'better is {better!r}, not "higher" or "lower"')
    return Metric(function, better) if function is not None else lambda made: Metric(made, better)


def model(
    name: str,
    model: Any,
    *,
    holdout: Any,
    metrics: Sequence[str | Metric] = ("auc", "log_loss"),
    slices: Sequence[str] = (),
    threshold: float = 0.5,
    validation: Any = None,
) -> Any:
    """What a pipeline function returns: the model it makes, and how it is to be measured.

    Args:
        name: the model's name in the registry and in noria.toml.
        model: the result of the step that fits it.
        holdout: the result of the step that keeps labelled rows aside.
        metrics: names such as "auc" and "log_loss", and functions marked with `@nr.metric`.
        slices: columns of the holdout by whose levels the metrics are shown and gated.
        threshold: the score from which the positive class is answered.
        validation: the result of a step with labelled rows that the model is not trained on and that
            are not the holdout, for `noria run --search`; without it a search keeps some training rows.
    """
    for role, given in (("model", model), ("holdout", holdout), ("validation", validation)):
        if isinstance(given, Step):
            raise uncalled(given, f"{role} of nr.model")
    options: dict[str, Any] = {"metrics": tuple(metrics), "slices": tuple(slices), "threshold": float(threshold)}
    if validation is not None:
        options["validation"] = validation
    return _ModelCall(name, model, holdout, options)


def load_pipeline(project: Project, name: str = "", *, model: str = "") -> PipelineDefinition:
    """Read a project's pipeline as it is now; of several in the file the one of that name, or that makes the model.

    Raises: NotFound if there is no such file or pipeline; UsageError if there are several and none was named;
        ProjectError (file:line, last frame) if the project's own code fails.
    """
    module, found = _read(project)
    root = project.root.resolve()
    with sources.project_on_path(root):
        if model and not name and len(found) > 1:
            for made in found:
                definition = define(made, module=module, root=root)
                if definition.model is not None and definition.model.name == model:
                    return definition
            raise NotFound(f"no pipeline of {project.pipeline} makes {model}", hint=f"pipelines: {_names(found)}")
        return define(_chosen(found, name, project.pipeline), module=module, root=root)


def load_pipelines(project: Project) -> tuple[PipelineDefinition, ...]:
    """Every pipeline of a project's file, in its order. Raises: as `load_pipeline`."""
    module, found = _read(project)
    root = project.root.resolve()
    if not found:
        _chosen(found, "", project.pipeline)
    with sources.project_on_path(root):
        return tuple(define(made, module=module, root=root) for made in found)


def _read(project: Project) -> tuple[ModuleType, list[Pipeline]]:
    """The module of a project's file, imported anew, and the pipelines in it."""
    file = (project.root / project.pipeline).resolve()
    if not file.is_file():
        hint = "[project] pipeline in noria.toml names the file; noria init FOLDER makes a project with one"
        raise NotFound(f"there is no file {project.pipeline} with a pipeline", where=str(project.root), hint=hint)
    root = project.root.resolve()
    with sources.project_on_path(root):
        try:
            with generators.importing(), importing(project.pipeline):
                module = sources.import_fresh(file, root)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the boundary to the project's code, which may raise anything
            raise broken(error, project.pipeline, root) from error
        return module, list({id(it): it for it in vars(module).values() if issubclass(type(it), Pipeline)}.values())


def define(made: Pipeline, *, module: ModuleType | None = None, root: Path | None = None) -> PipelineDefinition:
    """Read the graph of a marked pipeline function. Raises: ProjectError if it is not a sound one."""
    module = module or sys.modules[made.function.__module__]
    where = f"{made.function.__code__.co_filename}:{made.function.__code__.co_firstlineno}"
    folder = root or Path(getattr(module, "__file__", None) or "pipeline.py").resolve().parent
    try:
        returned, graph = planning(made.function)
    except ProjectError as error:
        error.where = error.where or sources.failed_at(error, folder, LINE) or where
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the boundary to the project's code, which may raise anything
        raise broken(error, f"pipeline {made.name}", folder, _CONNECTS) from error
    if isinstance(returned, Step):
        hint = f"write {returned.name}(…), and return nr.model(...), or nothing"
        raise ProjectError(f"pipeline {made.name} returned the step {returned.name} itself", where=where, hint=hint)
    if not graph.nodes:
        raise ProjectError(f"pipeline {made.name} calls no step", where=where, hint="mark its functions with @nr.step")
    order = topological({node.name: node.parents() for node in graph.nodes.values()})
    return PipelineDefinition(
        name=made.name,
        nodes=tuple(graph.nodes[node] for node in order),
        datasets=_datasets(graph, where),
        model=_model(returned, graph, made.name, where),
        module=module,
        root=folder,
    )


def broken(error: BaseException, what: str, root: Path, hint: str = "") -> ProjectError:
    """The error of a file that does not import: place and last frame of the project's own code."""
    if isinstance(error, SyntaxError) and error.filename:
        named = Path(error.filename).name  # it may be a module that the file imports
        shown = (error.text or "").strip()[:LINE]
        place = f"{error.filename}:{error.lineno}" + (f": {shown}" if shown else "")
        return ProjectError(f"{named} is not valid Python: {error.msg}", where=place, hint="mend that line")
    where = sources.failed_at(error, root, LINE)
    if isinstance(error, AttributeError) and error.obj is sys.modules.get("noria"):
        hint = instead_of(str(error.name), dir(error.obj)) or hint
    if isinstance(error, TypeError):
        hint = _taken(str(error)) or hint
    if isinstance(error, NoriaError):  # ours, about what the project's code asked for: its own words are enough
        return ProjectError(f"{what}: {error.message}", where=where, hint=error.hint)
    return ProjectError(f"{what} failed: {error_line(error, LINE)}", where=where, hint=hint or _TRACE)


def _taken(told: str) -> str:
    """What a function of noria takes that was called with something else; "" for any other function."""
    called = told.partition("()")[0]
    package = sys.modules.get("noria")
    asked = getattr(package, called) if called in getattr(package, "__all__", ()) else None
    if not isinstance(asked, FunctionType):
        return ""
    return f"nr.{called} takes {', '.join(map(_written, inspect.signature(asked).parameters.values()))}"


def _written(parameter: inspect.Parameter) -> str:
    """A parameter as a call writes it."""
    if parameter.kind == parameter.KEYWORD_ONLY:
        return f"{parameter.name}="
    return str(parameter).partition(":")[0].partition("=")[0]


def _names(found: list[Pipeline]) -> str:
    return ", ".join(made.name for made in found)


def _chosen(found: list[Pipeline], name: str, file: str) -> Pipeline:
    names = _names(found)
    if name:
        for made in found:
            if made.name == name:
                return made
        raise NotFound(f"{file} has no pipeline {name!r}", hint=f"pipelines: {names}" if names else "")
    if not found:
        raise NotFound(f"{file} has no pipeline", hint="mark the function that calls the steps with @nr.pipeline")
    if len(found) > 1:
        raise UsageError(f"{file} has {len(found)} pipelines", hint=f"name one of: {names}")
    return found[0]


def _datasets(graph: Graph, where: str) -> dict[str, DatasetRole]:
    found: dict[str, DatasetRole] = {}
    for node in graph.nodes.values():
        for role in node.datasets():
            if found.setdefault(role.name, role) != role:
                raise ProjectError(f"data set {role.name} is declared twice, with different columns", where=where)
    return found


def _model(returned: Any, graph: Graph, name: str, where: str) -> ModelNode | None:
    if returned is None:
        return None
    if not isinstance(returned, _ModelCall):
        raise ProjectError(
            f"pipeline {name} returned {type(returned).__name__}", where=where, hint="return nr.model(...), or nothing"
        )
    for role in ("model", "holdout"):
        if not isinstance(getattr(returned, role), Result):
            kind = type(getattr(returned, role)).__name__
            raise ProjectError(f"nr.model: {role} is {kind}, not the result of a step", where=where)
    for item in returned.options["metrics"]:
        if not isinstance(item, str | Metric):
            kind = getattr(item, "__name__", type(item).__name__)
            raise ProjectError(f"nr.model: metric {kind} is not a name", where=where, hint="mark it with @nr.metric")
    options = dict(returned.options)
    if "validation" in options:
        if not isinstance(options["validation"], Result):
            kind = type(options["validation"]).__name__
            raise ProjectError(f"nr.model: validation is {kind}, not the result of a step", where=where)
        options["validation"] = options["validation"].reference()
    return ModelNode(
        name=returned.name,
        model=cast("Result", returned.model).reference(),
        holdout=cast("Result", returned.holdout).reference(),
        **options,
    )
