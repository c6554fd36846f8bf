"""What clients do to the models that they log: each change is one transaction that reads, decides and appends.

A logged model is files with a name, params, tags and measures; a registered version may be made of it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

from noria.catalog import records
from noria.catalog.facts import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelEnded,
    LoggedModelFile,
    LoggedModelFileRemoved,
    LoggedModelMeasured,
    LoggedModelParams,
    LoggedModelTagged,
    LoggedModelUntagged,
    ModelPoint,
)
from noria.catalog.records import LoggedModel
from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.experiments.records import ACTIVE
from noria.store.ledger import Reader, Transaction
from noria.store.workspace import Workspace

__all__ = [
    "VERSIONS_TAG",
    "LogModel",
    "add_params",
    "create_model",
    "delete_model",
    "end_model",
    "keep_file",
    "measure",
    "note_file",
    "note_version",
    "remove_files",
    "tag_model",
    "untag_model",
]

VERSIONS_TAG = "mlflow.modelVersions"
"""The tag by which clients see which versions were made of a logged model."""


@frozen(kw_only=True)
class LogModel:
    """What a client says of a model as it begins to log it. `experiment` is a number."""

    experiment: int
    name: str
    model_type: str = ""
    run: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def create_model(ws: Workspace, said: LogModel) -> str:
    """Begin to log a model; gives its id, in the form that MLflow's clients know as one."""
    model = f"m-{uuid.uuid4().hex}"
    with ws.ledger.transaction() as tx:
        tx.append(
            LoggedModelCreated(
                model=model,
                experiment=said.experiment,
                name=said.name,
                model_type=said.model_type,
                run=said.run,
                params=dict(said.params),
                tags=dict(said.tags),
            ),
            inputs=[("run", f"run/{said.run}")] if said.run else [],
            outputs=[("model", f"logged-model/{model}")],
        )
    return model


def end_model(ws: Workspace, model: str, status: str) -> None:
    """Say how logging a model went: ready, upload_failed or pending. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        if _known(tx, model).status != status:
            tx.append(LoggedModelEnded(model=model, status=status))


def tag_model(ws: Workspace, model: str, tags: Mapping[str, str]) -> None:
    """Set tags of a logged model. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        known = _known(tx, model).tags
        new = {key: value for key, value in tags.items() if known.get(key) != value}
        if new:
            tx.append(LoggedModelTagged(model=model, tags=new))


def note_version(tx: Transaction, model: str, name: str, number: int) -> None:
    """Tell a logged model's clients that a version of a registered model is made of it. Raises: NotFound."""
    now = {"name": name, "version": number}
    try:
        before = json.loads(_known(tx, model).tags.get(VERSIONS_TAG, "[]"))
    except ValueError:
        before = []  # a client wrote something else there; what is known from now on is ours
    noted = before if isinstance(before, list) else []
    if now not in noted:
        tx.append(LoggedModelTagged(model=model, tags={VERSIONS_TAG: json.dumps([*noted, now])}))


def untag_model(ws: Workspace, model: str, key: str) -> None:
    """Take a tag off a logged model. Raises: NotFound, also if it has no such tag."""
    with ws.ledger.transaction() as tx:
        if key not in _known(tx, model).tags:
            raise NotFound(f"logged model {model} has no tag {key!r}")
        tx.append(LoggedModelUntagged(model=model, key=key))


def add_params(ws: Workspace, model: str, params: Mapping[str, str]) -> dict[str, str]:
    """Add params to a logged model; gives those that it has already, and then nothing is added. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        known = _known(tx, model).params
        taken = {key: known[key] for key in params if key in known}
        if params and not taken:
            tx.append(LoggedModelParams(model=model, params=dict(params)))
    return taken


def delete_model(ws: Workspace, model: str) -> None:
    """Put a logged model away; again changes nothing. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        if _known(tx, model).stage == ACTIVE:
            tx.append(LoggedModelDeleted(model=model))


def measure(ws: Workspace, model: str, run: str, points: Sequence[ModelPoint]) -> None:
    """Keep what a run measured of a logged model. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        _known(tx, model)
        tx.append(LoggedModelMeasured(model=model, run=run, points=tuple(points)), inputs=[("run", f"run/{run}")])


def keep_file(ws: Workspace, model: str, name: str, content: Path | bytes) -> str:
    """Store a file, or a few bytes, of a logged model; gives its digest. Raises: NotFound; StoreFull.

    What has that name and these very bytes already stays as it is, and no fact says so.
    """
    if isinstance(content, bytes):
        stored, size = ws.objects.put_small(content), len(content)
    else:
        with ws.ledger.read() as tx:
            _known(tx, model)
        stored = ws.objects.put_file(content)
        size = ws.objects.size(stored)
    note_file(ws, model, name, stored, size)
    return stored


def note_file(ws: Workspace, model: str, name: str, stored: str, size: int) -> None:
    """Make an object that is stored a file of a logged model; again changes nothing. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        _known(tx, model)
        if not any(each.name == name and each.digest == stored for each in records.model_files(tx, model)):
            tx.append(
                LoggedModelFile(model=model, name=name, digest=stored, size_bytes=size),
                outputs=[(name, stored)],
            )


def remove_files(ws: Workspace, model: str, name: str) -> int:
    """Take a file, or all in a folder of them, off a logged model; gives how many. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        _known(tx, model)
        inside = name.rstrip("/") + "/"
        known = [each.name for each in records.model_files(tx, model)]
        gone = [each for each in known if each == name or each.startswith(inside)]
        for each in gone:
            tx.append(LoggedModelFileRemoved(model=model, name=each))
    return len(gone)


def _known(tx: Reader, model: str) -> LoggedModel:
    found = records.logged_model(tx, model)
    if found is None:
        raise NotFound(f"there is no logged model {model!r}")
    return found
