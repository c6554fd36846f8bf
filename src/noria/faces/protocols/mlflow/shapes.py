"""Experiments, runs and points as the JSON that MLflow's clients read.

Source: mlflow/protos/service.proto of MLflow 3.17, in protobuf's JSON mapping with the fields' own names.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from noria.catalog.records import ExperimentRecord, InputRecord, ModelRecord
from noria.core.clock import instant, utc_text
from noria.experiments.records import STATUSES, LoggedRun, Metric
from noria.faces.protocols.mlflow.refusals import invalid

__all__ = [
    "PARENT",
    "RUN_NAME",
    "experiment_json",
    "input_json",
    "location",
    "ms",
    "offset_of",
    "page_token",
    "pairs",
    "point_json",
    "run_info",
    "run_json",
    "time_text",
]

RUN_NAME, PARENT = "mlflow.runName", "mlflow.parentRunId"
FLOAT_MAX = 1.7976931348623157e308
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORDS = {own: word for word, owns in STATUSES.items() for own in owns}


def location(experiment: ExperimentRecord) -> str:
    """Where the artifacts of an experiment are for its clients."""
    return experiment.location or f"mlflow-artifacts:/{experiment.experiment}"


def experiment_json(found: ExperimentRecord) -> dict[str, Any]:
    """An Experiment."""
    told: dict[str, Any] = {
        "experiment_id": str(found.experiment),
        "name": found.name,
        "artifact_location": location(found),
        "lifecycle_stage": found.stage,
        "last_update_time": found.updated_ms,
        "creation_time": found.created_ms,
    }
    if found.tags:
        told["tags"] = pairs(found.tags)
    return {**told, "workspace": "default"}


def run_info(found: LoggedRun, experiment: ExperimentRecord) -> dict[str, Any]:
    """A RunInfo."""
    told: dict[str, Any] = {
        "run_uuid": found.run,
        "experiment_id": str(experiment.experiment),
        "run_name": found.name,
        "user_id": found.user,
        "status": _WORDS.get(found.status, "FAILED"),
        "start_time": ms(found.started_at),
    }
    if found.finished_at:
        told["end_time"] = ms(found.finished_at)
    return {
        **told,
        "artifact_uri": f"{location(experiment)}/{found.run}/artifacts",
        "lifecycle_stage": found.stage,
        "run_id": found.run,
    }


def run_json(
    info: Mapping[str, Any],
    found: LoggedRun,
    *,
    metrics: Sequence[Metric] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    inputs: Sequence[Mapping[str, Any]] = (),
    models: Sequence[ModelRecord] = (),
) -> dict[str, Any]:
    """A Run. Its name, and the run that it is nested in, are tags too."""
    data: dict[str, Any] = {}
    if metrics:
        data["metrics"] = [_latest(metric) for metric in metrics]
    if params:
        data["params"] = pairs(params)
    shown = {**(tags or {}), RUN_NAME: found.name}
    if found.parent:
        shown.setdefault(PARENT, found.parent)
    data["tags"] = pairs(shown)
    taken: dict[str, Any] = {"dataset_inputs": list(inputs)} if inputs else {}
    given: dict[str, Any] = {}
    ins = [{"model_id": model.model} for model in models if model.side == "in"]
    outs = [{"model_id": model.model, "step": model.step} for model in models if model.side == "out"]
    if ins:
        taken["model_inputs"] = ins
    if outs:
        given["model_outputs"] = outs
    return {"info": info, "data": data, "inputs": taken, "outputs": given}


def input_json(found: InputRecord, details: Mapping[str, Any]) -> dict[str, Any]:
    """A DatasetInput; `details` are its source, schema and profile."""
    dataset = {"name": found.name, "digest": found.content_id, "source_type": found.source_type, **details}
    told: dict[str, Any] = {"tags": [{"key": key, "value": value} for key, value in found.tags]} if found.tags else {}
    return {**told, "dataset": dataset}


def point_json(key: str, value: float, at_ms: int, step: int) -> dict[str, Any]:
    """A Metric. What has no JSON is a text; infinite values are the largest numbers, as in MLflow's database."""
    shown: float | str = value
    if math.isnan(value):
        shown = "NaN"
    elif math.isinf(value):
        shown = math.copysign(FLOAT_MAX, value)
    return {"key": key, "value": shown, "timestamp": at_ms, "step": step}


def pairs(found: Mapping[str, str]) -> list[dict[str, str]]:
    """Keys with values."""
    return [{"key": key, "value": value} for key, value in found.items()]


def time_text(at_ms: int) -> str:
    """A time in milliseconds since 1970 as the text that facts hold. Raises: Refused before 1 or after 9999."""
    try:
        return utc_text(_EPOCH + timedelta(milliseconds=at_ms))
    except OverflowError as error:
        raise invalid(f"Invalid value {at_ms} for a time: it is not between the years 1 and 9999.") from error


def offset_of(token: str) -> int:
    """Where the page behind a token begins. Raises: Refused."""
    if not token:
        return 0
    try:
        decoded = base64.b64decode(token)
    except (binascii.Error, ValueError) as error:
        raise invalid("Invalid page token, could not base64-decode") from error
    try:
        parsed = json.loads(decoded)
    except (ValueError, RecursionError) as error:
        raise invalid(f"Invalid page token, decoded value={decoded!r}") from error
    offset = parsed.get("offset") if isinstance(parsed, dict) else None
    if not offset:
        raise invalid(f"Invalid page token, parsed value={parsed}")
    try:
        found = int(offset)
    except (ValueError, TypeError) as error:
        raise invalid(f"Invalid page token, not stringable {offset}") from error
    if not 0 <= found < 1 << 62:
        raise invalid(f"Invalid page token, parsed value={parsed}")
    return found


def page_token(offset: int) -> str:
    """The token of the page that begins there."""
    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode()


def _latest(metric: Metric) -> dict[str, Any]:
    special = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
    value = special.get(metric.special, math.nan) if metric.value is None else metric.value
    return point_json(metric.key, value, metric.at_us // 1000, metric.step)


def ms(at: str) -> int:
    """A time of a fact in milliseconds since 1970."""
    return (instant(at) - _EPOCH) // timedelta(milliseconds=1)
