"""Making, tagging, assigning and deleting evaluation data sets: each change is one transaction."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from noria.catalog import records as catalog
from noria.core.errors import NotFound, UsageError
from noria.core.fact import Edge
from noria.evalsets import records
from noria.evalsets.facts import (
    EvalsetAssigned,
    EvalsetCreated,
    EvalsetDeleted,
    EvalsetTagged,
    EvalsetUnassigned,
    EvalsetUntagged,
)
from noria.evalsets.records import EvalsetRecord
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = ["assign", "create", "delete", "found", "now_ms", "schemas", "tag", "unassign", "untag"]

NAME_MAX, KEY_MAX, VALUE_MAX = 255, 255, 5000
EXPERIMENT_MAX, MANY = 36, 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def found(tx: Reader, evalset: str) -> EvalsetRecord:
    """The evaluation data set of that id. Raises: NotFound."""
    record = records.evalset(tx, evalset)
    if record is None:
        raise NotFound(f"Evaluation dataset with id '{evalset}' not found")
    return record


def create(ws: Workspace, name: str, *, experiments: Sequence[str], tags: Mapping[str, str]) -> str:
    """Make an evaluation data set without records; gives its id. Raises: UsageError."""
    if not 1 <= len(name) <= NAME_MAX:
        raise UsageError(f"the name of an evaluation data set has 1 to {NAME_MAX} characters, not {len(name)}")
    _require_tags(tags)
    chosen = tuple(dict.fromkeys(experiments))
    if len(chosen) > MANY or any(len(each) > EXPERIMENT_MAX for each in chosen):
        raise UsageError(f"at most {MANY} experiments are named, by ids of at most {EXPERIMENT_MAX} characters")
    evalset = f"d-{uuid.uuid4().hex}"
    with ws.ledger.transaction() as tx:
        tx.append(
            EvalsetCreated(evalset=evalset, name=name, at_ms=now_ms(ws), experiments=chosen, tags=dict(tags)),
            inputs=_edges([each for each in chosen if _is_experiment(tx, each)]),
        )
    return evalset


def tag(ws: Workspace, evalset: str, tags: Mapping[str, str]) -> None:
    """Set tags. Raises: NotFound; UsageError."""
    _require_tags(tags)
    with ws.ledger.transaction() as tx:
        if records.evalset(tx, evalset) is None:
            raise NotFound(f"Could not find evaluation dataset with ID {evalset}")
        if tags:
            tx.append(EvalsetTagged(evalset=evalset, tags=dict(tags)))


def untag(ws: Workspace, evalset: str, key: str) -> None:
    """Take a tag off; one that is not there is off already."""
    with ws.ledger.transaction() as tx:
        record = records.evalset(tx, evalset)
        if record is not None and key in record.tags:
            tx.append(EvalsetUntagged(evalset=evalset, key=key))


def assign(ws: Workspace, evalset: str, experiments: Sequence[str]) -> None:
    """Let it belong to experiments too. Raises: NotFound if it, or one of them, is not there."""
    with ws.ledger.transaction() as tx:
        _require_assignable(tx, evalset)
        for each in experiments:
            if not _is_experiment(tx, each):
                raise NotFound(f"No Experiment with id={each}")
        chosen = tuple(dict.fromkeys(experiments))
        tx.append(EvalsetAssigned(evalset=evalset, experiments=chosen, at_ms=now_ms(ws)), inputs=_edges(chosen))


def unassign(ws: Workspace, evalset: str, experiments: Sequence[str]) -> None:
    """Let it belong to experiments no more; those that it does not belong to are passed over. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        _require_assignable(tx, evalset)
        known = set(records.experiments(tx, evalset))
        gone = tuple(each for each in dict.fromkeys(experiments) if each in known)
        if gone:
            tx.append(EvalsetUnassigned(evalset=evalset, experiments=gone, at_ms=now_ms(ws)))


def delete(ws: Workspace, evalset: str) -> None:
    """Take it away with its records; one that is not there is gone already."""
    with ws.ledger.transaction() as tx:
        if records.evalset(tx, evalset) is not None:
            tx.append(EvalsetDeleted(evalset=evalset))


def schemas(ws: Workspace, digests: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The names and types of the fields of records, by the digests of the objects that hold them."""
    wanted = sorted({each for each in digests if each})
    return {str(name): json.loads(content)["schema"] for name, content in ws.objects.get_many(wanted)}


def now_ms(ws: Workspace) -> int:
    """Now, in milliseconds since 1970."""
    return (ws.clock.now() - _EPOCH) // timedelta(milliseconds=1)


def _require_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > MANY:
        raise UsageError(f"at most {MANY} tags are set at once, not {len(tags)}")
    for key, value in tags.items():
        if not 1 <= len(key) <= KEY_MAX:
            raise UsageError(f"the name of a tag has 1 to {KEY_MAX} characters, not {len(key)}")
        if len(value) > VALUE_MAX:
            raise UsageError(f"the value of a tag has at most {VALUE_MAX} characters, not {len(value)}")


def _require_assignable(tx: Reader, evalset: str) -> None:
    if records.evalset(tx, evalset) is None:
        raise NotFound(f"Dataset '{evalset}' not found")


def _is_experiment(tx: Reader, text: str) -> bool:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1
    return str(number) == text and catalog.experiment(tx, number) is not None


def _edges(chosen: Sequence[str]) -> list[Edge]:
    return [("experiment", f"experiment/{each}") for each in chosen]
