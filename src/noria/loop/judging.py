"""The rows that a model of another tool's client is judged on, and whether what trained it could have seen them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.catalog import records as catalog
from noria.catalog.records import InputRecord
from noria.config import ClientsConfig
from noria.core.errors import GateClosed, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.data import records as data
from noria.data import versions as datasets
from noria.data.records import DatasetVersion
from noria.data.rows import read
from noria.governance import lineage
from noria.loop import pins
from noria.loop.holdout import Roles, holdout_of, roles_of
from noria.pipeline import records as steps
from noria.pipeline.define import load_pipeline
from noria.pipeline.outputs.values import Value
from noria.pipeline.sources import project_on_path
from noria.registry.facts import Verdict
from noria.registry.kept import VersionRecord
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["JudgedOn", "content_ids", "rows_for", "toml_key", "unseen"]

OVERLAP_MAX = 0.5
"""The share of holdout rows among the rows that a run was trained on above which they are no holdout."""
DIGEST_ROWS = 10_000
"""MLflow's digest of a frame is that of its first rows."""
SHOWN = 3
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@frozen(kw_only=True)
class JudgedOn:
    """Labelled rows, what their columns are, how to name them, and the refs that lineage would know them by.

    `version` is the data set that they are, None if a step of the pipeline made them. `metrics` are empty
    where the task decides.
    """

    frame: pd.DataFrame
    roles: Roles
    told: str
    refs: frozenset[str]
    version: DatasetVersion | None
    metrics: tuple[str, ...]
    slices: tuple[str, ...]


def toml_key(name: str) -> str:
    """A name as a key of TOML: in quotes where it is not bare, as names that clients chose may be."""
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def rows_for(ws: Workspace, model: str) -> JudgedOn:
    """The rows that noria.toml says the model is judged on, else those of the newest run of its pipeline.

    Raises: UsageError if nothing says which, or there is no label; NotFound; GateClosed if their checks failed.
    """
    asked = ws.project.model(model).clients
    return _of_dataset(ws, model, asked) if asked.holdout else _of_pipeline(ws, model)


def _of_dataset(ws: Workspace, model: str, asked: ClientsConfig) -> JudgedOn:
    where = f"noria.toml [model.{toml_key(model)}.clients]"
    version = datasets.resolve(ws, asked.holdout)
    line = pins.check(ws, version)
    if not line.ok:
        raise GateClosed(f"{line.failed} of {line.checks} checks of {version.ref} failed: nothing is judged on it")
    label = asked.label or version.label
    if not label:
        raise UsageError(f"no label is known for {version.ref}", where=where, hint='label = "COLUMN" there')
    frame = read.table(ws, version).to_pandas()
    if label not in frame.columns:
        raise UsageError(f"{version.ref} has no column {label}", where=where)
    if not len(frame):
        raise GateClosed(f"{version.ref} has no rows, so nothing can be judged on it")
    return JudgedOn(
        frame=frame,
        roles=Roles(version.key, version.time, label),
        told=version.ref,
        refs=frozenset(filter(None, (version.tree, version.content, f"dataset/{version.ref}"))),
        version=version,
        metrics=asked.metrics,
        slices=asked.slices,
    )


def _of_pipeline(ws: Workspace, model: str) -> JudgedOn:
    """The holdout step's result in the newest finished run of the pipeline that makes a model of this name."""
    unknown = UsageError(
        f"nothing says which rows {model} is judged on",
        where=f"noria.toml [model.{toml_key(model)}.clients]",
        hint='holdout = "DATA_SET" there, of labelled rows that training does not see; noria data add makes one',
    )
    if not (ws.project.root / ws.project.pipeline).is_file():
        raise unknown
    try:
        definition = load_pipeline(ws.project, model=model)
    except NotFound as error:
        raise unknown from error
    node = definition.model
    if node is None or node.name != model:
        raise unknown
    with ws.ledger.read() as tx:
        run = tracking.newest(tx, definition.name, "finished")
        if run is None:
            raise NotFound(f"the pipeline {definition.name} has no finished run, so no holdout", hint="noria run")
        made = {each.step: each for each in steps.steps(tx, run.run)}
        found = {pin.dataset: data.by_number(tx, pin.dataset, pin.version) for pin in run.pins}
    output = made[node.holdout.node].outputs[node.holdout.output]
    with project_on_path(definition.root):
        frame = holdout_of(ws, node, Value(output.digest, output.type, output.size_bytes))
    roles = roles_of(definition, node, {name: version for name, version in found.items() if version is not None})
    return JudgedOn(
        frame=frame,
        roles=roles,
        told=f"the holdout of {run.run}",
        refs=frozenset({output.digest}),
        version=None,
        metrics=tuple(name for name in node.metrics if isinstance(name, str)),
        slices=tuple(node.slices),
    )


def unseen(ws: Workspace, version: VersionRecord, rows: JudgedOn) -> Verdict:
    """Whether what a version was trained on, as far as its run told, keeps off the rows that it is judged on.

    A run that told nothing proves nothing, and neither does one that told of rows which cannot be compared with
    the holdout's: the verdict says so, and is a no where noria.toml asks for a proof.
    """
    with ws.ledger.read() as tx:
        behind = {link.ref for link in lineage.ancestors_within(tx, [f"model/{version.ref}"], depth=100)}
        told = catalog.inputs(tx, [version.run])[version.run] if version.run else []
    wrong = sorted(behind & rows.refs)
    if wrong:
        return _verdict(rows, f"{rows.told} is what it was made from ({wrong[0][:19]}): it was judged on what it saw")
    own = content_ids(rows)
    apart: list[str] = []
    unknown: list[str] = []
    for each in told:
        why, share = _seen(ws, each, rows, own)
        if why:
            return _verdict(rows, f"its run took {each.name}, which is {why}: it would be judged on what it saw")
        (apart if share else unknown).append(f"{each.name} ({share})" if share else each.name)
    is_enough = not ws.project.model(version.model).clients.must_tell
    if not told:
        who = f"run {version.run} told nothing of" if version.run else "no run is known, so nothing of"
        text = f"not proven: {who} the data that it was trained on (mlflow.log_input tells it)"
        return _verdict(rows, text, passed=is_enough)
    if unknown:
        text = f"not proven: the rows of {_listed(unknown)} that its run took are not here to be compared"
        return _verdict(rows, f"{text} (noria data add, and mlflow.log_input with that source)", passed=is_enough)
    return _verdict(rows, f"its run took {_listed(apart)}; none is {rows.told}", passed=True)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def content_ids(rows: JudgedOn) -> frozenset[str]:
    """What MLflow's clients would call these rows: with and without the label, the key and the time."""
    frame = rows.frame
    without = [name for name in (rows.roles.label, *rows.roles.others()) if name in frame.columns]
    ways = [frame, *(frame.drop(columns=without[:count]) for count in range(1, len(without) + 1))]
    return frozenset(_frame_id(way) for way in ways)


def _frame_id(frame: pd.DataFrame) -> str:
    """The digest of a frame as MLflow's clients make it: of texts and numbers of the first rows, and the columns.

    Source: mlflow/data/digest_utils.py of MLflow 3.17.
    """
    head = frame.head(DIGEST_ROWS)
    texts = head.columns[head.map(lambda value: type(value) is str).all(axis=0)]
    numbers = head.select_dtypes(include=[np.number]).columns
    content = hashlib.md5(usedforsecurity=False)
    content.update(pd.util.hash_pandas_object(head[texts.union(numbers)]).to_numpy().tobytes())
    content.update(np.int64(len(frame)).tobytes())
    for name in frame.columns:
        content.update(str(name).encode())
    return content.hexdigest()[:8]


def _seen(ws: Workspace, told: InputRecord, rows: JudgedOn, own: frozenset[str]) -> tuple[str, str]:
    """(why a data set that a run told of is the holdout, or "", the share of rows that it has of it).

    Both are empty where its rows are not known here. That it has another digest proves nothing: that is one of
    all its rows, so the half of a holdout has another too.
    """
    if told.content_id in own:
        return f"{rows.told} by content ({told.content_id})", ""
    place = _place(ws, told)
    if rows.version is None or not place:
        return "", ""
    with ws.ledger.read() as tx:
        newest = [data.newest(tx, name) for name in data.names(tx)]
    every = [each for each in newest if each is not None]
    # Of a file outside the project only its name is on record: then its rows decide, and the holdout is not meant.
    named = [each for each in every if each.source == Path(place).name and each.name != rows.version.name]
    known = [each for each in every if _same_place(ws, each, place)] or named
    for each in known:
        if each.name == rows.version.name:
            return f"{rows.told} by its source {place[:100]}", ""
        share = _overlap(ws, each, rows)
        if share > OVERLAP_MAX or (rows.version.key and share > 0):
            return f"{each.ref}, where {share:.0%} of the rows of {rows.told} are too", ""
        return "", f"{each.ref}: {share:.0%} of the rows of {rows.told} are in it"
    return "", ""


def _place(ws: Workspace, told: InputRecord) -> str:
    """Where a client says that a data set is: a path or an address; empty for none that can be followed."""
    details = json.loads(ws.objects.get_bytes(told.details))
    try:
        source = json.loads(details.get("source", "") or "{}")
    except ValueError:
        return ""  # a client may say anything there
    found = source.get("uri") or source.get("url") or "" if isinstance(source, dict) else ""
    return str(found).removeprefix("file://")


def _same_place(ws: Workspace, version: DatasetVersion, place: str) -> bool:
    config = ws.project.data.get(version.name)
    for source in filter(None, (version.source, config.source if config else "")):
        if source == place or ("://" not in place and (ws.project.root / source).resolve() == Path(place).resolve()):
            return True
    return False


def _overlap(ws: Workspace, version: DatasetVersion, rows: JudgedOn) -> float:
    """The share of the holdout's rows that a data set has too: by key where both have it, else by value."""
    assert rows.version is not None, "only a data set has a place"
    names = [name for name in rows.frame.columns if name in version.column_names()]
    shared: Sequence[str] = [rows.roles.key] if rows.roles.key in names and rows.roles.key else names
    if not shared:
        return 0.0
    other = read.table(ws, version, columns=list(shared)).to_pandas()
    return float(_hashes(rows.frame, shared).isin(set(_hashes(other, shared).tolist())).mean())


def _hashes(frame: pd.DataFrame, names: Sequence[str]) -> Any:
    return pd.util.hash_pandas_object(frame[list(names)].astype(str), index=False)


def _verdict(rows: JudgedOn, text: str, *, passed: bool = False) -> Verdict:
    return Verdict(gate="unseen rows", passed=passed, text=text, n=len(rows.frame))
