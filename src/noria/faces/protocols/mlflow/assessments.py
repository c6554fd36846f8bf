"""The endpoints of judgements of traces.

Source: mlflow/server/handlers.py and store/tracking/sqlalchemy_store.py of MLflow 3.17 (order of checks, words).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from noria.core.errors import NotFound, UsageError
from noria.faces.protocols.mlflow.messages import TEXT, Spec
from noria.faces.protocols.mlflow.refusals import invalid, missing
from noria.faces.protocols.mlflow.trace_shapes import ASSESSMENT, assessment_json, said_of
from noria.faces.protocols.mlflow.wire import Wire
from noria.store.workspace import Workspace
from noria.traces import keeping, records
from noria.traces.records import AssessmentRecord

__all__ = ["ENDPOINTS_3"]

ALL = "traces/{trace_id}/assessments"
ONE = f"{ALL}/{{assessment_id}}"
NAME_MAX = 250
_UPPER = re.compile("[A-Z]")


def create(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a judgement of a trace."""
    trace, said = given["trace_id"], given.get("assessment", {})
    content, name = said_of(said, ws.clock.now()), _name(said)
    try:
        made = keeping.assess(ws, trace, name, content)
    except NotFound as error:
        raise missing(error.message) from error
    return {"assessment": _told(ws, trace, made)}


def get(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """One judgement."""
    return {"assessment": _told(ws, given["trace_id"], given["assessment_id"])}


def update(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Change what is named of a judgement; its source, span and kind stay."""
    trace, named = given["trace_id"], given["assessment_id"]
    record, before = _found(ws, trace, named)
    said = given.get("assessment", {})
    paths = [_UPPER.sub(lambda match: f"_{match[0].lower()}", path) for path in given["update_mask"].split(",")]
    changed = {path: said[path] for path in paths if path in ("feedback", "expectation", "rationale") and path in said}
    if "feedback" in changed and "expectation" in changed:
        raise invalid("Cannot specify both `expectation` and `feedback` parameters.")
    if "expectation" in changed and "expectation" not in before:
        raise invalid("Cannot update expectation value on a Feedback assessment.")
    if "feedback" in changed and "feedback" not in before:
        raise invalid("Cannot update feedback value on an Expectation assessment.")
    if "rationale" in changed and "feedback" not in before:
        del changed["rationale"]  # what is expected needs no reason there
    if "metadata" in paths and said.get("metadata"):
        changed["metadata"] = {**before.get("metadata", {}), **said["metadata"]}
    name = _name(said) if "assessment_name" in paths else record.name
    fresh = said_of({**before, **changed, "last_update_time": ""}, ws.clock.now())
    try:
        keeping.assess(ws, trace, name, fresh, assessment=named)
    except (NotFound, UsageError) as error:
        raise missing(error.message) from error
    return {"assessment": _told(ws, trace, named)}


def delete(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take a judgement away; one that is not there is gone already."""
    keeping.remove_assessment(ws, given["trace_id"], given["assessment_id"])
    return {}


def _name(said: Mapping[str, Any]) -> str:
    name = str(said.get("assessment_name", ""))
    if len(name) > NAME_MAX:
        raise invalid(f"'assessment_name' exceeds the maximum length of {NAME_MAX} characters")
    return name


def _told(ws: Workspace, trace: str, assessment: str) -> dict[str, Any]:
    return assessment_json(*_found(ws, trace, assessment))


def _found(ws: Workspace, trace: str, assessment: str) -> tuple[AssessmentRecord, dict[str, Any]]:
    with ws.ledger.read() as tx:
        record = records.assessment(tx, trace, assessment)
        is_there = records.trace(tx, trace) is not None
    if record is None:
        raise missing(
            f"Assessment with ID '{assessment}' not found for trace '{trace}'"
            if is_there
            else f"Trace with request_id '{trace}' not found"
        )
    return record, keeping.judgements(ws, [record.details])[record.details]


_GIVEN = {"assessment": ("required",)}
ENDPOINTS_3 = {
    ("POST", ALL): (Spec({"assessment": ASSESSMENT}, _GIVEN, is_strict=True), create),
    ("GET", ONE): (Spec({}), get),
    ("PATCH", ONE): (
        Spec(
            {"assessment": ASSESSMENT, "update_mask": TEXT},
            {**_GIVEN, "update_mask": ("required",)},
            is_strict=True,
        ),
        update,
    ),
    ("DELETE", ONE): (Spec({}), delete),
}
