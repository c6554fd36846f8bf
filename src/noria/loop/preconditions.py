"""What must be true before a run begins: the pipeline that was asked for, and rules that are about something.

Rules under a misspelt name would bind nobody, and a metric that does not exist would be missed only
after everything was trained.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from noria.config import CONFIG_NAME
from noria.core.errors import ConfigError, NotFound, ProjectError
from noria.core.lazy import lazy
from noria.pipeline.define import PipelineDefinition, load_pipelines
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    from noria.data import records as data_records
    from noria.registry import metrics
    from noria.registry import records as registry
else:  # a pipeline without data sets and models asks nothing of them
    data_records, registry = lazy("noria.data.records"), lazy("noria.registry.records")
    metrics = lazy("noria.registry.metrics")

__all__ = ["require"]


def require(ws: Workspace, definition: PipelineDefinition, pipeline: str = "") -> None:
    """Raises: NotFound for another pipeline; ConfigError for rules about nothing; ProjectError for no metric."""
    _require_named(ws, definition, pipeline)
    _require_policies(ws, definition)
    _require_metrics(ws, definition)


def _require_named(ws: Workspace, definition: PipelineDefinition, pipeline: str) -> None:
    if pipeline and pipeline != definition.name:
        raise NotFound(f"there is no pipeline {pipeline!r}", hint=f"{ws.project.pipeline} has {definition.name}")


def _require_policies(ws: Workspace, definition: PipelineDefinition) -> None:
    """Every model and data set of noria.toml exists: rules under a misspelt name would bind nobody.

    Raises: ConfigError naming the section and the nearest name.
    """
    if not ws.project.models and not ws.project.data:
        return
    with ws.ledger.read() as tx:
        models = {*registry.models(tx), *([definition.model.name] if definition.model else [])}
        datasets = {*data_records.names(tx), *definition.datasets}
    if ws.project.models.keys() <= models and ws.project.data.keys() <= datasets:
        return
    for other in _others(ws):  # what another pipeline of the file is about
        models |= {other.model.name} if other.model else set()
        datasets |= {*other.datasets}
    for kind, named, known in (("model", ws.project.models, models), ("data", ws.project.data, datasets)):
        for name in named:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                what = "a model" if kind == "model" else "a data set"
                raise ConfigError(
                    f"[{kind}.{name}] is about {what} that does not exist",
                    where=str(ws.project.root / CONFIG_NAME),
                    hint=f"did you mean [{kind}.{near[0]}]?" if near else f"{ws.project.pipeline} has: {_names(known)}",
                )


def _others(ws: Workspace) -> tuple[PipelineDefinition, ...]:
    is_there = (ws.project.root / ws.project.pipeline).is_file()
    return load_pipelines(ws.project) if is_there else ()


def _require_metrics(ws: Workspace, definition: PipelineDefinition) -> None:
    """Every metric that the pipeline names exists, before anything is trained. Raises: ProjectError."""
    for name in definition.model.metrics if definition.model else ():
        if isinstance(name, str) and name not in metrics.METRICS:
            near = difflib.get_close_matches(name, metrics.METRICS, n=1, cutoff=0.5)
            known = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(metrics.METRICS))}"
            raise ProjectError(
                f"there is no metric {name!r}",
                where=f"nr.model({definition.model.name!r}) in {ws.project.pipeline}" if definition.model else "",
                hint=f"{known}  (one of your own: @nr.metric)",
            )


def _names(known: set[str]) -> str:
    return ", ".join(sorted(known)) or "none"
