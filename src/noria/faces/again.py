"""The process that does a run again: started by `noria reproduce`, in a clean place, never by a person.

It reads what to do from a file and writes what came of it to another, last. `whole` runs every step of
the pipeline and makes the model; `probe` runs one step under some conditions, the steps above it
being there already; `compared` says how far pairs of stored values are apart. Database and object
store are those that the environment names: throw-away ones.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from noria.bootstrap import open_workspace
from noria.config import load_project
from noria.core.errors import NoriaError, NotFound, WorldError
from noria.data import records as data
from noria.data.facts import DatasetCommitted
from noria.data.records import DatasetVersion
from noria.faces.orphan import STDIN, on_parent_end
from noria.faces.priority import follow
from noria.loop.holdout import holdout_of, roles_of
from noria.packaging.bundle import build, load
from noria.pipeline import records
from noria.pipeline.caching import documents
from noria.pipeline.caching.cache import read_list
from noria.pipeline.caching.reads import looked
from noria.pipeline.define import PipelineDefinition, load_pipeline
from noria.pipeline.driving.execute import Execution, execute, manner_of
from noria.pipeline.driving.mapping import items_of
from noria.pipeline.driving.schedule import GOOD
from noria.pipeline.outputs import sameness, values
from noria.pipeline.outputs.values import Value
from noria.pipeline.sources import project_on_path
from noria.pipeline.step import Step, StepNode, StepOptions
from noria.pipeline.watching import chance
from noria.pipeline.watching.chance import Chance
from noria.pipeline.watching.trace import Trace
from noria.pipeline.watching.watch import watch
from noria.registry.evaluate import evaluate
from noria.store.disk import hash_file
from noria.store.workspace import Workspace
from noria.tracking import environment as locks
from noria.tracking import host as hosts
from noria.tracking import run as tracking
from noria.tracking.facts import Pin

__all__ = ["ACTOR", "follow_parent", "main", "told_error", "write_result"]

ACTOR = "service:reproduce"
READ_LIMIT_BYTES = 1 << 30


def main(arguments: list[str] | None = None) -> int:
    """Do what the file says; exit 0 if a result was written, be it that the project's code failed."""
    (path,) = arguments if arguments is not None else sys.argv[1:]
    follow_parent()
    follow()
    spec: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    root = Path(spec["root"])
    result: dict[str, Any]
    try:
        made = chance.install(root, spec["settings"]) if spec["mode"] == "probe" else None
        ws = open_workspace(project=load_project(root), actor=ACTOR)
        if spec["mode"] == "whole":
            result = _whole(ws, spec)
        elif made is not None:
            result = _probe(ws, spec, made)
        else:
            result = _compared(ws, spec)
    except NoriaError as error:
        result = {"error": told_error(error)}
    write_result(spec, result)
    return 0


def write_result(spec: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write what came of it, all at once: that a result is there says that the process came to its end."""
    target = Path(spec["result"])
    part = target.with_suffix(".part")
    part.write_text(json.dumps(result, default=str), encoding="utf-8")
    part.replace(target)


def follow_parent() -> None:
    """End with the parent, which holds the other end of standard input; the steps see an empty one."""
    held, empty = os.dup(STDIN), os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, STDIN)
    os.close(empty)
    is_leader = os.getpgrp() == os.getpid()
    on_parent_end(lambda: os.killpg(0, signal.SIGKILL) if is_leader else os._exit(1), held)


def told_error(error: NoriaError) -> dict[str, str]:
    """An error as plain values."""
    return {"code": error.code, "message": error.message, "where": error.where}


# the whole run


def _whole(ws: Workspace, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Run every step and make the model. What does not need a step that fails is run all the same, and told."""
    versions = _versions(ws, spec["pins"])
    definition = load_pipeline(ws.project, spec["pipeline"])
    definition = _changed(definition, lambda node: _alone(node.step, f"again {node.name}"))
    used = tuple(Pin(dataset=each.name, version=each.version, tree=each.tree) for each in versions.values())
    error: NoriaError | None = None
    model: dict[str, Any] = {}
    handle = tracking.start(ws, definition.name, cause="reproduce", pins=used, config={"params": spec["params"]})
    try:
        with handle:
            done = execute(
                ws,
                definition,
                run=handle.run,
                pins=versions,
                params=spec["params"],
                owner=handle.owner,
                manner=manner_of(ws, on_failure="finish"),
            )
            if definition.model is not None:
                model = _model(ws, handle.run, definition, done, versions)
    except NoriaError as raised:
        error = raised
    with ws.ledger.read() as tx:
        steps = records.steps(tx, handle.run)
        failed = {
            each.item_of: int(each.step.rpartition(".")[2])
            for each in reversed(records.items(tx, handle.run))
            if each.status not in GOOD
        }
    mapped = {node.name for node in definition.nodes if node.over}
    return {
        "steps": [
            {**_step(ws, each), "is_mapped": each.step in mapped, "failed_item": failed.get(each.step)}
            for each in steps
        ],
        "order": [node.name for node in definition.nodes],
        "tolerances": {node.name: getattr(node.step.options, "tolerance", 0.0) for node in definition.nodes},
        "model": model,
        "lock": locks.lock(ws.project.state),
        "host": hosts.host().document(),
        "error": None if error is None else told_error(error),
    }


def _versions(ws: Workspace, told: list[dict[str, Any]]) -> dict[str, DatasetVersion]:
    """The pinned versions, which this throw-away ledger learns by the same numbers."""
    names = {field.name for field in dataclasses.fields(DatasetCommitted)}
    found = {}
    for each in told:
        version = DatasetVersion(**{**each, "columns": tuple(tuple(column) for column in each["columns"])})
        with ws.ledger.transaction() as tx:
            if data.by_number(tx, version.name, version.version) is None:
                known = {name: getattr(version, name) for name in names if hasattr(version, name)}
                tx.append(DatasetCommitted(**known), outputs=[("tree", version.tree)])
        found[version.name] = version
    return found


def _changed(definition: PipelineDefinition, change: Callable[[StepNode], Step[..., Any]]) -> PipelineDefinition:
    nodes = tuple(dataclasses.replace(node, step=change(node)) for node in definition.nodes)
    return dataclasses.replace(definition, nodes=nodes)


def _alone(step: Step[..., Any], tag: str) -> Step[..., Any]:
    """The step with a key that no other has, so that nothing but itself can give its result."""
    return Step(step.function, dataclasses.replace(step.options, version=f"{step.options.version}\n{tag}"))


def _step(ws: Workspace, record: records.StepRecord) -> dict[str, Any]:
    """One step as plain values: outputs, what it was seen to read, what its key was computed from."""
    document: Mapping[str, Any] = {}
    shown: Mapping[str, str] = {}
    if record.document:
        try:
            kept = documents.read(ws.objects, record.document, record.step, record.key)
            document, shown = kept.document, kept.shown
        except (NotFound, WorldError):
            document = {}
    return {
        "step": record.step,
        "status": record.status,
        "error": record.error,
        "seconds": record.seconds,
        "outputs": [dataclasses.asdict(each) for each in record.outputs],
        "reads": [list(each) for each in read_list(ws, record.reads)],
        "document": dict(document),
        "shown": dict(shown),
    }


def _model(
    ws: Workspace,
    run: str,
    definition: PipelineDefinition,
    done: Execution,
    versions: Mapping[str, DatasetVersion],
) -> dict[str, Any]:
    """The bundle and the metrics that this run's model gives on its holdout."""
    node = definition.model
    assert node is not None
    with project_on_path(definition.root):
        try:
            holdout, roles = holdout_of(ws, node, done.holdout), roles_of(definition, node, versions)
            bundle = build(
                ws,
                values.load(ws, done.model),
                holdout=holdout,
                run=run,
                label=roles.label,
                drop=roles.others(),
                threshold=node.threshold,
                name=node.name,
            )
            found = evaluate(ws, load(ws, bundle.digest), holdout, roles=roles, metrics=node.metrics)
        except NoriaError as error:
            return {"name": node.name, "error": told_error(error)}
    files = {entry.path: entry.digest for entry in bundle.files.entries}
    return {
        "name": node.name,
        "step": node.model.node,
        "files": files,
        "scores": list(bundle.golden_scores),
        "metrics": found.values(),
    }


# one step, under conditions


def _probe(ws: Workspace, spec: Mapping[str, Any], made: Chance) -> dict[str, Any]:
    """Run one step again, in this process; the steps above it are there. Tells what it gave and what it asked for."""
    versions = _versions(ws, spec["pins"])
    definition = load_pipeline(ws.project, spec["pipeline"])
    wanted = _above(definition, spec["step"])
    seen: list[Trace] = []
    definition = dataclasses.replace(
        definition, nodes=tuple(node for node in definition.nodes if node.name in wanted), model=None
    )

    def change(node: StepNode) -> Step[..., Any]:
        if node.name == spec["step"]:
            return _watched(node.step, spec["tag"], made, seen, ws)
        return _alone(node.step, f"again {node.name}")

    definition = _changed(definition, change)
    own = {name: value for name, value in spec["params"].items() if name.partition(".")[0] in wanted}
    if spec.get("item") is not None:
        definition = _item_alone(ws, definition, spec, versions, own)
    run = f"run_{spec['tag']}"
    error: NoriaError | None = None
    try:
        # The stand-ins are in this process.
        execute(ws, definition, run=run, pins=versions, params=own, manner=manner_of(ws, executor="inline"))
    except NoriaError as raised:
        error = raised
    with ws.ledger.read() as tx:
        steps = [each for each in records.steps(tx, run) if each.step == spec["step"]]
    reads = {name: value for trace in seen for name, value in _reads(trace, ws.project.root).items()}
    return {
        "outputs": [dataclasses.asdict(output) for each in steps for output in each.outputs],
        "seen": [dataclasses.asdict(each) for each in made.seen.values()],
        "reads": reads,
        "code": sorted({(file, line) for trace in seen for file, _, line in trace.code}),
        "error": None if error is None else told_error(error),
    }


def _item_alone(
    ws: Workspace,
    definition: PipelineDefinition,
    spec: Mapping[str, Any],
    versions: Mapping[str, DatasetVersion],
    params: Mapping[str, Any],
) -> PipelineDefinition:
    """The pipeline with its mapped step called for one item, and for no other; what gives the items runs before."""
    above = tuple(node for node in definition.nodes if node.name != spec["step"])
    mapped = next(node for node in definition.nodes if node.name == spec["step"])
    outputs: Mapping[str, Any] = {}
    if above:
        known = {name: value for name, value in params.items() if name.partition(".")[0] != spec["step"]}
        before = dataclasses.replace(definition, nodes=above)
        manner = manner_of(ws, executor="inline")
        outputs = execute(
            ws, before, run=f"run_{spec['tag']}-before", pins=versions, params=known, manner=manner
        ).outputs
    item = items_of(ws.objects, mapped, outputs)[spec["item"]]
    alone = dataclasses.replace(mapped.of_item(), bindings={**mapped.bindings, mapped.over: item})
    return dataclasses.replace(definition, nodes=(*above, alone))


def _above(definition: PipelineDefinition, step: str) -> set[str]:
    """The step and every step that it takes from, however far above."""
    known = {node.name: node for node in definition.nodes}
    found, waiting = set(), [step]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += known[name].parents()
    return found


def _watched(step: Step[..., Any], tag: str, made: Chance, seen: list[Trace], ws: Workspace) -> Step[..., Any]:
    """The step in this process, without limits that another would have to keep, with the stand-ins at work."""

    @functools.wraps(step.function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with watch(ws.project.root, ws.project.state) as watching:
            try:
                with made.around():
                    return step.function(*args, **kwargs)
            finally:
                seen.append(watching.trace())

    kept = step.options
    options = StepOptions(
        version=f"{kept.version}\n{tag}",
        ignore=kept.ignore,
        extra_files=kept.extra_files,
        env=kept.env,
        variables=kept.variables,
    )
    return Step(called, options)


def _reads(trace: Trace, root: Path) -> dict[str, str]:
    """What a step was seen to read, by the names that conditions have."""
    found = {f"variable {name}": value for name, value in trace.variables}
    found |= {f"note {note}": "" for note in trace.notes}

    def shown_as(path: Path) -> str:
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)

    for name, what in trace.stats:
        if what in ("stat", "there"):
            found[f"{what} {shown_as(Path(name))}"] = looked(Path(name), is_whole=what == "stat")
    for name, stamp in trace.files:
        path = Path(name)
        shown = shown_as(path)
        is_there = stamp is not None and path.is_file() and path.stat().st_size <= READ_LIMIT_BYTES
        found[f"file {shown}"] = hash_file(path).removeprefix("sha256:") if is_there else "missing"
    return found


# two values


def _compared(ws: Workspace, spec: Mapping[str, Any]) -> dict[str, Any]:
    """How far each pair of stored values is apart."""
    found = []
    with project_on_path(ws.project.root):
        load_pipeline(ws.project, spec["pipeline"])  # for values of the project's own classes
        for pair in spec["pairs"]:
            try:
                one, other = (values.read(ws.objects, Value(*item), ws.project.root) for item in pair["values"])
                told = dataclasses.asdict(sameness.compared(one, other, pair["tolerance"]))
                if pair.get("is_mapped") and not told["is_same"] and len(one) == len(other):
                    told["item"] = _first_other(one, other, pair["tolerance"])
                found.append(told)
            except NoriaError as error:
                found.append({"is_same": False, "text": f"they could not be compared: {error.message}"})
    return {"pairs": found}


def _first_other(one: list[Any], other: list[Any], tolerance: float) -> int | None:
    """The first place of two lists, equally long, that is not the same."""
    pairs = enumerate(zip(one, other, strict=True))
    return next((place for place, (a, b) in pairs if not sameness.compared(a, b, tolerance).is_same), None)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads of the project's own are no reason to stay
