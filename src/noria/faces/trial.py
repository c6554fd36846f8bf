"""The process of a trial: started by `noria test` in a copy of the project with throw-away stores, never by a person.

`data` resolves every data set as a run would, runs its checks, and writes a sample of each. `model`
asks the model that a run on the sample has made. Database and object store are those that the
environment names; the object store lies over the real one, which it reads and never changes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noria.bootstrap import open_workspace
from noria.config import BehaviourConfig, load_project
from noria.core.errors import NoriaError, NotFound
from noria.core.lazy import lazy
from noria.data import records as data
from noria.data.records import DatasetVersion
from noria.data.rows import read
from noria.loop import pins
from noria.loop.holdout import holdout_of, roles_of
from noria.packaging import bundle as bundles
from noria.pipeline import records
from noria.pipeline.define import PipelineDefinition, load_pipeline, load_pipelines
from noria.pipeline.outputs import values
from noria.pipeline.outputs.values import Value
from noria.pipeline.sources import project_on_path
from noria.project.behaviour import Subject, cases
from noria.store.payload import decode
from noria.store.workspace import Workspace
from noria.tracking import records as tracking
from noria.tracking import run as runs

__all__ = ["main"]

parquet = lazy("pyarrow.parquet")
np = lazy("numpy")


def main(arguments: list[str] | None = None) -> int:
    """Do what the file says; exit 0 if a result was written."""
    (path,) = arguments if arguments is not None else sys.argv[1:]
    spec: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        ws = open_workspace(project=load_project(Path(spec["root"])), actor="service:test")
        result = _data(ws, spec) if spec["mode"] == "data" else _model(ws, spec)
    except NoriaError as error:
        result = {"error": {"message": error.message, "text": str(error)}}
    target = Path(spec["result"])
    part = target.with_suffix(".part")
    part.write_text(json.dumps(result), encoding="utf-8")
    part.replace(target)
    return 0


def _data(ws: Workspace, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The checks of every data set of the pipeline, and a sample of each as a Parquet file."""
    kinds = ws.ledger.slices.kinds
    with ws.ledger.transaction() as tx:
        for told in spec["facts"]:
            payload = decode(kinds.payload_class(told["kind"]), told["data"])
            edges = {side: [(role, ref) for role, ref in told[side]] for side in ("inputs", "outputs")}
            tx.append(payload, inputs=edges["inputs"], outputs=edges["outputs"])
    found: dict[str, DatasetVersion] = {}
    for definition in load_pipelines(ws.project):
        found |= pins.resolve(ws, definition, {name: version.ref for name, version in found.items()})
    lines = [pins.check(ws, version) for version in found.values()]
    for name, version in found.items():
        _write_sample(ws, version, Path(spec["sample"]) / f"{name}.parquet", spec["rows"])
    return {"lines": [dataclasses.asdict(line) for line in lines]}


def _write_sample(ws: Workspace, version: DatasetVersion, target: Path, rows: int) -> None:
    """Rows evenly spaced over the version, so that all of its times are there."""
    table = read.table(ws, version)
    if table.num_rows > rows:
        table = table.take(np.linspace(0, table.num_rows - 1, rows).astype("int64"))
    parquet.write_table(table, target)


def _model(ws: Workspace, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The tests of the model that the newest run has made. Raises: NotFound if it has made none."""
    run = runs.resolve(ws)
    definition = load_pipeline(ws.project, run.pipeline)
    with ws.ledger.read() as tx:
        stored = [each.digest for each in tracking.artifacts(tx, run.run) if each.type == "bundle"]
        steps = {each.step: each for each in records.steps(tx, run.run)}
        found = {pin.dataset: data.by_number(tx, pin.dataset, pin.version) for pin in run.pins}
    if definition.model is None:
        return {"cases": []}
    if not stored:
        raise NotFound("the run on the sample has made no model")
    node = definition.model
    output = steps[node.holdout.node].outputs[node.holdout.output]
    with project_on_path(definition.root):
        holdout = holdout_of(ws, node, Value(output.digest, output.type, output.size_bytes))
        roles = roles_of(definition, node, {name: version for name, version in found.items() if version is not None})
        told = spec["behaviour"].get(node.name, {})
        subject = Subject(
            predictor=bundles.load(ws, stored[-1]),
            holdout=holdout,
            training=_training(ws, definition, steps, roles.label),
            roles=roles,
            declared=BehaviourConfig(invariant=tuple(told.get("invariant", ())), direction=told.get("direction", {})),
        )
        return {"model": node.name, "cases": [dataclasses.asdict(case) for case in cases(subject)]}


def _training(
    ws: Workspace, definition: PipelineDefinition, steps: Mapping[str, records.StepRecord], label: str
) -> Sequence[Any]:
    """The labelled tables that the step which fits the model takes."""
    assert definition.model is not None
    found = []
    for ref in definition.node(definition.model.model.node).references():
        output = steps[ref.node].outputs[ref.output]
        value = values.load(ws, Value(output.digest, output.type, output.size_bytes))
        if hasattr(value, "to_pandas"):
            value = value.to_pandas()
        if label in getattr(value, "columns", ()):
            found.append(value)
    return found


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads of the project's own are no reason to stay
