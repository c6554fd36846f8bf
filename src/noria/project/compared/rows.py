"""The rows that two models are both asked on, and those of them that one of the two was trained on.

By default they are the holdout of the newer one. Rows that the training of either took are left out by their key, else
by their values, and counted: nothing is measured on what a model has seen. Where it is not on record what a model was
trained on, that is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.errors import NotFound, UsageError, WorldError
from noria.core.frozen import frozen
from noria.core.identity import is_digest
from noria.core.lazy import lazy
from noria.data import records as data
from noria.data import versions as datasets
from noria.data.records import DatasetVersion
from noria.data.rows import read
from noria.pipeline import records as steps
from noria.pipeline.caching import documents
from noria.pipeline.facts import Output
from noria.pipeline.outputs import values
from noria.pipeline.outputs.values import Value
from noria.project.compared.sides import Side
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["Roles", "Rows", "rows_of", "unseen"]

_TABLES = frozenset({"pandas", "arrow", "polars"})
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@frozen
class Roles:
    """What the columns of the rows are; empty where there is none."""

    key: str = ""
    time: str = ""
    label: str = ""


@frozen
class Rows:
    """Labelled rows, how to name them, what `measured_on` says of them, and the data versions that they come from."""

    frame: pd.DataFrame
    roles: Roles
    told: str
    name: str
    data: tuple[str, ...]


def rows_of(ws: Workspace, side: Side, on: str = "") -> Rows:
    """The holdout of a side, or the rows of the data set version `on`.

    Raises: UsageError, NotFound or another NoriaError with why there are no such rows.
    """
    if on:
        return _of_dataset(ws, on, side)
    assert side.version is not None, "a side without a version has no holdout"
    if side.document is None:
        gone = "is not in the object store any more" if side.is_gone else "was never made"
        raise UsageError(f"the evaluation of {side.name}, which names its holdout, {gone}")
    name = side.measured_on
    if is_digest(name):
        return _of_object(ws, name, side)
    if _is_version(ws, name):
        return _of_dataset(ws, name, side)
    raise UsageError(f"{side.name} was measured on {name or 'rows that nobody named'}, which are not kept")


def unseen(
    frame: pd.DataFrame, rows: Rows, ws: Workspace, sides: Sequence[Side]
) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    """Which rows of a frame no model was trained on, shape (n_rows,), and what has to be said of it.

    Args:
        frame: all of `rows`, or some of them.
    """
    kept = np.ones(len(frame), dtype=bool)
    notes = []
    for side in sides:
        if side.measured_on == rows.name:
            notes += _doubts(side)  # its own holdout: the pipeline keeps it from training, or its gates asked
            continue
        try:
            own = _own(ws, side)
            tables = [_rest(table, own, rows.roles.key) for table in _learned(ws, side)]
        except (NotFound, WorldError) as error:
            notes.append(f"what {side.name} was trained on is not there any more ({error.message})")
            continue
        masks = [_among(frame, table, rows.roles.key) for table in tables]
        told = [mask for mask in masks if mask is not None]
        if not told:
            notes.append(f"it is not on record which rows {side.name} was trained on: it may have seen some of these")
            continue
        seen = np.logical_or.reduce(told)
        if seen.any():
            notes.append(
                f"{int(seen.sum()):,} of {len(seen):,} rows are left out: {side.name} was trained on them"
                + ("" if _has_key(rows) else " (by their values: there is no key)")
            )
        kept &= ~seen
    return kept, tuple(notes)


def _doubts(side: Side) -> list[str]:
    """What the gates said of a holdout that a client's model may have seen."""
    verdicts = () if side.document is None else side.document["verdicts"]
    found = [each for each in verdicts if each["gate"] == "unseen rows"]
    return [f"{side.name}: {each['text']}" for each in found if not each["passed"] or "not proven" in each["text"]]


def _has_key(rows: Rows) -> bool:
    return bool(rows.roles.key) and rows.roles.key in rows.frame.columns


def _of_object(ws: Workspace, digest: str, side: Side) -> Rows:
    """The rows that a step made. Raises: NotFound; UsageError."""
    output = next((each for each in _outputs(ws, digest) if each.digest == digest), None)
    if output is None:
        raise NotFound(f"no step on record made the holdout of {side.name}")
    if output.type not in _TABLES:
        raise UsageError(f"the holdout of {side.name} is no table")
    frame = _frame(ws, output)
    pins = () if side.version is None else tuple(f"{pin.dataset}@{pin.version}" for pin in side.version.pins)
    return Rows(frame, _roles(ws, side), f"the holdout of {side.name}", digest, pins)


def _outputs(ws: Workspace, digest: str) -> Iterator[Output]:
    for stored in ws.ledger.facts(kind="step.finished", ref=digest, limit=1):
        yield from stored.payload.outputs


def _of_dataset(ws: Workspace, ref: str, side: Side) -> Rows:
    version = datasets.resolve(ws, ref)
    told = _roles(ws, side)
    model = "" if side.version is None else side.version.model
    label = told.label or ws.project.model(model).clients.label or version.label
    if not label:
        raise UsageError(f"no label is known for {version.ref}", hint="noria data add --label COLUMN")
    roles = Roles(told.key or version.key, told.time or version.time, label)
    return Rows(read.table(ws, version).to_pandas(), roles, version.ref, version.ref, (version.ref,))


def _is_version(ws: Workspace, ref: str) -> bool:
    with ws.ledger.read() as tx:
        return "@" in ref and data.newest(tx, ref.partition("@")[0]) is not None


def _roles(ws: Workspace, side: Side) -> Roles:
    """What the evaluation says, else the keys of the run's steps, else the data sets that the version was made from."""
    told = {} if side.document is None else side.document["data"]
    if told.get("label"):
        return Roles(told.get("key", ""), told.get("time", ""), told["label"])
    for document in _documents(ws, side).values():
        for _, key, time, label in document.get("ambient", {}).get("roles", ()):
            if label:
                return Roles(key, time, label)
    found = [version for version in _pinned(ws, side).values() if version.label]
    return Roles(found[0].key, found[0].time, found[0].label) if found else Roles()


def _pinned(ws: Workspace, side: Side) -> dict[str, DatasetVersion]:
    """The data set versions that a version was made from, by the digest of their tree."""
    pins = () if side.version is None else side.version.pins
    with ws.ledger.read() as tx:
        found = [(pin.tree, data.by_number(tx, pin.dataset, pin.version)) for pin in pins]
    return {tree: version for tree, version in found if version is not None}


def _documents(ws: Workspace, side: Side) -> dict[str, Mapping[str, Any]]:
    """The key documents of the steps of a side's run, by step, as far as they are there."""
    found: dict[str, Mapping[str, Any]] = {}
    if side.run is not None:
        with ws.ledger.read() as tx:
            taken = steps.steps(tx, side.run.run)
        for each in taken:
            if each.document and each.key:
                found[each.step] = documents.read(ws.objects, each.document, each.step, each.key).document
    return found


def _learned(ws: Workspace, side: Side) -> list[pd.DataFrame]:
    """The tables that went into steps of a side's run which gave something else than tables: what models come from."""
    if side.run is None:
        return []
    with ws.ledger.read() as tx:
        taken = steps.steps(tx, side.run.run)
    made = {output.digest: output for each in taken for output in each.outputs}
    pinned, asked = _pinned(ws, side), _documents(ws, side)
    named: dict[str, None] = {}
    for each in taken:
        if any(output.type not in _TABLES for output in each.outputs):
            for text in map(str, asked.get(each.step, {}).get("inputs", {}).values()):
                named.update(dict.fromkeys(_DIGEST.findall(text)))
    named.pop(side.measured_on, None)
    tables = []
    for digest in named:
        if digest in pinned:
            tables.append(read.table(ws, pinned[digest]).to_pandas())
        elif digest in made and made[digest].type in _TABLES:
            tables.append(_frame(ws, made[digest]))
    return tables


def _own(ws: Workspace, side: Side) -> pd.DataFrame | None:
    """A side's own holdout, where it is a step's: what it was judged on is not what it learned from."""
    if not is_digest(side.measured_on):
        return None
    try:
        return _of_object(ws, side.measured_on, side).frame
    except (NotFound, WorldError):
        return None  # then more rows count as seen than were, which is the safe side


def _rest(table: pd.DataFrame, own: pd.DataFrame | None, key: str) -> pd.DataFrame:
    """A table without the rows of a holdout: a step may have taken both and kept one from its model."""
    mask = None if own is None else _among(table, own, key)
    return table if mask is None else table[~mask]


def _among(frame: pd.DataFrame, table: pd.DataFrame, key: str) -> npt.NDArray[np.bool_] | None:
    """Which rows of a frame are in a table too; None where the two have nothing to compare them by."""
    if key and key in frame.columns and key in table.columns:
        return np.asarray(frame[key].isin(table[key].dropna()))
    shared = [name for name in frame.columns if name in table.columns and frame[name].dtype == table[name].dtype]
    if not shared or len(shared) * 2 < len(frame.columns):
        return None
    try:
        known = pd.util.hash_pandas_object(table[shared], index=False)
        return np.asarray(pd.util.hash_pandas_object(frame[shared], index=False).isin(known))
    except TypeError:
        return None  # lists and the like have no hash


def _frame(ws: Workspace, output: Output) -> pd.DataFrame:
    """A table that a step gave, as pandas has it."""
    found = values.load(ws, Value(output.digest, output.type, output.size_bytes))
    found = found.to_pandas() if hasattr(found, "to_pandas") else found
    assert isinstance(found, pd.DataFrame), "these types are tables"
    return found
