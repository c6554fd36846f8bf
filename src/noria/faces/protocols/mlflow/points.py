"""The endpoints that log to runs, and the histories of metrics.

Source: mlflow/server/handlers.py and store/tracking/sqlalchemy_store.py of MLflow 3.17 (order of checks, words).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from noria.catalog import filing, keeping
from noria.catalog.facts import ModelPoint, OutputModel, SourceData
from noria.core.errors import NotFound
from noria.core.lazy import lazy
from noria.experiments.points import Curve
from noria.experiments.search import whole_curve
from noria.faces.protocols.mlflow import names, shapes
from noria.faces.protocols.mlflow.experiments import PAIR
from noria.faces.protocols.mlflow.messages import DOUBLE, INT, INT32, TEXT, Message, Repeated, Spec, fields_present
from noria.faces.protocols.mlflow.refusals import Refused, invalid, too_long
from noria.faces.protocols.mlflow.runs import RUN_CHECKS, RUN_ID
from noria.faces.protocols.mlflow.shapes import FLOAT_MAX, RUN_NAME
from noria.faces.protocols.mlflow.wire import Wire
from noria.store.workspace import Workspace

__all__ = ["ENDPOINTS", "SWIFT", "is_swift"]

np = lazy("numpy")
SWIFT = frozenset({"runs/log-metric", "runs/log-batch", "runs/log-parameter", "runs/set-tag"})
"""What a training sends all the time: mostly one write to a file, unless `is_swift` says no."""
SAMPLED_RUNS_MAX = 100
SAMPLED_MAX = 2500
_METRIC = {
    "key": TEXT,
    "value": DOUBLE,
    "timestamp": INT,
    "step": INT,
    "model_id": TEXT,
    "dataset_name": TEXT,
    "dataset_digest": TEXT,
}
_LIMITS = {"name": 500, "digest": 36, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}
_REQUIRED = ("name", "digest", "source_type", "source")


def log_metric(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """One point of a metric."""
    names.require_metric(given)
    run = _run_id(given)
    wire.active(run)
    wire.log(run, metrics=[given])
    _measure(ws, run, [given])
    return {}


def log_param(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """One param, which keeps its first value."""
    key, value = names.require_param(given.get("key", ""), given.get("value", ""))
    run = _run_id(given)
    wire.active(run)
    new, others = wire.new_params(run, {key: value})
    if others:
        raise invalid(
            f"Changing param values is not allowed. Param with key='{key}' was already logged with "
            f"value='{others[key]}' for run ID='{run}'. Attempted logging new value '{value}'."
        )
    wire.log(run, params=new)
    return {}


def set_tag(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """One tag; the name of a run is one of them."""
    key, value = names.require_tag(given.get("key", ""), given.get("value", ""))
    run = _run_id(given)
    wire.active(run)
    _tag(wire, ws, run, {key: value})
    return {}


def log_batch(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Metrics, params and tags at once: all of them or none."""
    run = given.get("run_id", "")
    names.require_run_id(run)
    metrics = given.get("metrics", [])
    for place, metric in enumerate(metrics):
        names.require_metric(metric, f"metrics[{place}]")
    params = [
        names.require_param(each.get("key", ""), each.get("value", ""), f"params[{place}]")
        for place, each in enumerate(given.get("params", []))
    ]
    tags = [
        names.require_tag(each.get("key", ""), each.get("value", ""), f"tags[{place}]")
        for place, each in enumerate(given.get("tags", []))
    ]
    names.require_batch(metrics, params, tags)
    twice = [key for key, count in Counter(key for key, _ in params).items() for _ in range(count - 1)]
    if twice:
        raise invalid(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure "
            "the request contains only one param value per param key."
        )
    wire.active(run)
    new, others = wire.new_params(run, dict(params)) if params else ({}, {})
    if others:
        told = [{"key": key, "old_value": others[key], "new_value": value} for key, value in params if key in others]
        raise invalid(f"Changing param values is not allowed. Params were already logged='{told}' for run ID='{run}'.")
    wire.log(run, metrics=metrics, params=new)
    _measure(ws, run, metrics)
    _tag(wire, ws, run, dict(tags))
    return {}


def is_swift(wire: Wire, endpoint: str, given: Mapping[str, Any]) -> bool:
    """Whether what a request to one of `SWIFT` logs takes no longer than a write to an open file."""
    is_batch = endpoint == "runs/log-batch"
    metrics, tags = (given.get(name, []) if is_batch else [given] for name in ("metrics", "tags"))
    if any(metric.get("model_id", "") for metric in metrics) or any(tag.get("key", "") == RUN_NAME for tag in tags):
        return False
    has_params = bool(given.get("params")) if is_batch else endpoint == "runs/log-parameter"
    return wire.is_swift(_run_id(given), has_params=has_params)


def log_inputs(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Which data sets and logged models a run used."""
    run = given.get("run_id", "")
    names.require_run_id(run)
    datasets = [_source(ws, each) for each in given.get("datasets", [])]
    wire.active(run)
    filing.log_inputs(ws, run, datasets, [each.get("model_id", "") for each in given.get("models", [])])
    return {}


def log_outputs(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Which logged models a run gave."""
    run = given.get("run_id", "")
    wire.active(run)
    models = [OutputModel(model=each.get("model_id", ""), step=each.get("step", 0)) for each in given.get("models", [])]
    filing.log_outputs(ws, run, models)
    return {}


def history(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """The points of a metric by time, all or page by page."""
    size = given.get("max_results")
    if size is not None and size <= 0:
        raise invalid(f"Invalid value {size} for parameter 'max_results' supplied. It must be a positive integer.")
    start = shapes.offset_of(given.get("page_token", ""))
    found = _points(wire, ws, _run_id(given), given.get("metric_key", ""))
    found = found.take(np.lexsort((np.nan_to_num(found.values, nan=0.0), found.steps, found.at_us)))
    end = len(found) if size is None else min(len(found), start + size)
    told = _curve_json(given.get("metric_key", ""), found.take(np.arange(min(start, end), end)))
    answer: dict[str, Any] = {"metrics": told} if told else {}
    if size is not None and len(found) > start + size:
        answer["next_page_token"] = shapes.page_token(start + size)
    return answer


def sampled(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """The histories of a metric in several runs, each made small: the first point of equal parts, and the last."""
    limit = given.get("max_results", SAMPLED_MAX)
    first, last = given.get("start_step"), given.get("end_step")
    if (first is None) != (last is None):
        raise invalid("If either start step or end step are specified, both must be specified.")
    if first is not None and last is not None and first > last:
        raise invalid(f"end_step must be greater than start_step. Found start_step={first} and end_step={last}.")
    told: list[dict[str, Any]] = []
    for run in given.get("run_ids", []):
        found = _points(wire, ws, run, given.get("metric_key", ""))
        if first is not None and last is not None:
            found = found.take(np.flatnonzero((found.steps >= first) & (found.steps <= last)))
        points = _curve_json(given.get("metric_key", ""), found.take(_buckets(len(found), limit)))
        told += [{**point, "run_id": run} for point in points]
    return {"metrics": told} if told else {}


def _buckets(total: int, limit: int) -> Any:
    """The places of the first point of each of `limit` equal parts, as SQL's NTILE makes them, and of the last."""
    if total <= limit:
        return np.arange(total)
    small, larger = divmod(total, limit)
    sizes = np.full(limit, small)
    sizes[:larger] += 1
    places = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    places[-1] = total - 1
    return places


def _points(wire: Wire, ws: Workspace, run: str, key: str) -> Curve:
    """The points of a metric by step, each once: MLflow keeps no two that are the same."""
    wire.inbox.send(run)
    whole = whole_curve(ws, run, key)
    if not len(whole):
        return whole
    at_ms = whole.at_us // 1000
    finite = np.nan_to_num(whole.values, nan=0.0, posinf=FLOAT_MAX, neginf=-FLOAT_MAX)
    seen = np.stack([whole.steps, at_ms, finite.view(np.int64), np.isnan(whole.values).astype(np.int64)], axis=1)
    _, places = np.unique(seen, axis=0, return_index=True)
    return whole.take(np.sort(places))


def _curve_json(key: str, found: Curve) -> list[dict[str, Any]]:
    columns = (found.values.tolist(), (found.at_us // 1000).tolist(), found.steps.tolist())
    return [shapes.point_json(key, value, at_ms, step) for value, at_ms, step in zip(*columns, strict=True)]


def _measure(ws: Workspace, run: str, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Keep with logged models what was measured of them; of one that is not known it is the run's alone."""
    points: dict[str, list[ModelPoint]] = {}
    for metric in metrics:
        if metric.get("model_id", ""):
            value = metric.get("value", 0.0)
            point = ModelPoint(
                key=metric.get("key", ""),
                value=value if math.isfinite(value) else None,
                special="" if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf",
                at_ms=metric.get("timestamp", 0),
                step=metric.get("step", 0),
                dataset=metric.get("dataset_name", ""),
                content_id=metric.get("dataset_digest", ""),
            )
            points.setdefault(metric["model_id"], []).append(point)
    for model, measured in points.items():
        try:
            keeping.measure(ws, model, run, measured)
        except NotFound:
            continue


def _tag(wire: Wire, ws: Workspace, run: str, tags: Mapping[str, str]) -> None:
    name = tags.get(RUN_NAME, "")
    wire.log(run, tags={key: value for key, value in tags.items() if key != RUN_NAME})
    if name:
        filing.amend_run(ws, run, name=name)


def _source(ws: Workspace, given: Mapping[str, Any]) -> SourceData:
    """A data set as it is kept: what may be long is an object. Raises: Refused."""
    dataset = given.get("dataset")
    if dataset is None:
        raise Refused("INVALID_PARAMETER_VALUE", "Dataset cannot be None")
    for key in _REQUIRED:
        if key not in dataset:
            raise invalid(f"Dataset {key} cannot be None")
    for key, limit in _LIMITS.items():
        if len(dataset.get(key, "")) > limit:
            raise too_long(key, limit)
    tags = [(tag.get("key", ""), tag.get("value", "")) for tag in given.get("tags", [])]
    for key, value in tags:
        if len(key) > 255:
            raise too_long("key", 255)
        if len(value) > 500:
            raise too_long("value", 500)
    details = {key: dataset[key] for key in ("source", "schema", "profile") if key in dataset}
    return SourceData(
        name=dataset["name"],
        content_id=dataset["digest"],
        source_type=dataset["source_type"],
        details=ws.objects.put_json(details),
        tags=tuple(tags),
    )


def _run_id(given: Mapping[str, Any]) -> str:
    return str(given.get("run_id", "") or given.get("run_uuid", ""))


def _few_runs(value: Any) -> bool:
    size = len(value) if isinstance(value, Sequence) else 0
    if size > SAMPLED_RUNS_MAX:
        raise invalid(
            f"GetMetricHistoryBulkInterval request must specify at most {SAMPLED_RUNS_MAX} run_ids. "
            f"Received {size} run_ids. See the API docs for more information about request parameters."
        )
    return True


def _few_points(value: Any) -> bool:
    if not 1 <= int(value) <= SAMPLED_MAX:
        raise invalid(
            f"max_results must be between 1 and {SAMPLED_MAX}. "
            "See the API docs for more information about request parameters."
        )
    return True


_DATASET = Message(dict.fromkeys(("name", "digest", "source_type", "source", "schema", "profile"), TEXT))
_KEY = ("required", "text")
ENDPOINTS = {
    ("POST", "runs/log-metric"): (
        Spec(
            {**RUN_ID, **_METRIC},
            {
                **RUN_CHECKS,
                "key": _KEY,
                "value": ("required", "float"),
                "timestamp": ("int", "required"),
                "step": ("int",),
                "model_id": ("text",),
                "dataset_name": ("text",),
                "dataset_digest": ("text",),
            },
            is_strict=True,
        ),
        log_metric,
    ),
    ("POST", "runs/log-parameter"): (
        Spec({**RUN_ID, "key": TEXT, "value": TEXT}, {**RUN_CHECKS, "key": _KEY, "value": ("text",)}),
        log_param,
    ),
    ("POST", "runs/set-tag"): (
        Spec({**RUN_ID, "key": TEXT, "value": TEXT}, {**RUN_CHECKS, "key": _KEY, "value": ("text",)}),
        set_tag,
    ),
    ("POST", "runs/log-batch"): (
        Spec(
            {
                "run_id": TEXT,
                "metrics": Repeated(Message(_METRIC)),
                "params": Repeated(PAIR),
                "tags": Repeated(PAIR),
            },
            {
                "run_id": ("text", "required"),
                "metrics": ("array", fields_present("metrics", "key", "value", "timestamp")),
                "params": ("array", fields_present("params", "key")),
                "tags": ("array", fields_present("tags", "key")),
            },
            is_strict=True,
        ),
        log_batch,
    ),
    ("POST", "runs/log-inputs"): (
        Spec(
            {
                "run_id": TEXT,
                "datasets": Repeated(Message({"tags": Repeated(PAIR), "dataset": _DATASET})),
                "models": Repeated(Message({"model_id": TEXT})),
            },
            {**RUN_CHECKS, "datasets": ("array",), "models": ("array",)},
            is_strict=True,
        ),
        log_inputs,
    ),
    ("POST", "runs/outputs"): (
        Spec(
            {"run_id": TEXT, "models": Repeated(Message({"model_id": TEXT, "step": INT}))},
            {**RUN_CHECKS, "models": ("required", "array")},
        ),
        log_outputs,
    ),
    ("GET", "metrics/get-history"): (
        Spec(
            {**RUN_ID, "metric_key": TEXT, "page_token": TEXT, "max_results": INT32},
            {"run_id": ("text", "required"), "metric_key": ("text", "required"), "page_token": ("text",)},
        ),
        history,
    ),
    ("GET", "metrics/get-history-bulk-interval"): (
        Spec(
            {
                "run_ids": Repeated(TEXT),
                "metric_key": TEXT,
                "start_step": INT32,
                "end_step": INT32,
                "max_results": INT32,
            },
            {
                "run_ids": ("required", "array", "texts", _few_runs),
                "metric_key": _KEY,
                "start_step": ("int",),
                "end_step": ("int",),
                "max_results": ("int", _few_points),
            },
        ),
        sampled,
    ),
}
