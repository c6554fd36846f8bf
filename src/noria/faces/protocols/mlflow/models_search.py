"""Searching logged models.

Source: mlflow/utils/search_logged_model_utils.py and store/tracking/sqlalchemy_store.py of MLflow 3.17.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from noria.catalog import records
from noria.catalog.records import LoggedModel, MeasureRecord
from noria.core.frozen import frozen
from noria.faces.protocols.mlflow import filters, names
from noria.faces.protocols.mlflow.messages import BOOL, INT32, TEXT, Message, Repeated, Spec
from noria.faces.protocols.mlflow.models import OURS, STATUS, model_json, number_of
from noria.faces.protocols.mlflow.refusals import Refused, invalid
from noria.faces.protocols.mlflow.wire import Wire
from noria.store.workspace import Workspace

__all__ = ["ENDPOINTS"]

PAGE, PAGE_USUAL = 50, 100
PAGE_MAX = 50_000
KINDS = ["attributes", "metrics", "params", "tags"]
NUMERIC = ("<", "<=", ">", ">=", "=", "!=")
TEXTUAL = ("=", "!=", "LIKE", "ILIKE", "IN", "NOT IN")
_ALIASES = {
    "creation_time": "creation_timestamp_ms",
    "creation_timestamp": "creation_timestamp_ms",
    "last_updated_timestamp": "last_updated_timestamp_ms",
}
_ATTRIBUTES = {
    "model_id": "model",
    "experiment_id": "experiment",
    "name": "name",
    "model_type": "model_type",
    "source_run_id": "run",
    "status": "status",
    "creation_timestamp_ms": "created_ms",
    "last_updated_timestamp_ms": "updated_ms",
}
_TIMES = ("creation_timestamp_ms", "last_updated_timestamp_ms")
_STATUSES = {own: number for word, number in STATUS.words.items() for own in (OURS[word],)}


@frozen
class _Clause:
    kind: str
    key: str
    operator: str
    value: str | float | tuple[str, ...]


def search(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """The logged models of experiments that fit a filter, page by page."""
    datasets = given.get("datasets", [])
    if not all(each.get("dataset_name") for each in datasets):
        raise invalid("`dataset_name` in the `datasets` clause must be specified.")
    text, order = given.get("filter", "") or None, _orders(given)
    ids = given.get("experiment_ids", [])
    start = _offset(given.get("page_token", ""), ids, text, order)
    size = given.get("max_results", PAGE) or PAGE_USUAL
    if not 0 < size <= PAGE_MAX:
        raise invalid(f"Invalid value {size} for parameter 'max_results' supplied. It must be between 1 and {PAGE_MAX}")
    where = _parse(text or "")
    numbers = [names.experiment_number(each) for each in ids]
    with ws.ledger.read() as tx:
        known = records.logged_models(tx, numbers, parts=_looked_at(where, datasets, order or []))
        found = [each for each in known if _fits(each, where, datasets)]
        _sort(found, order or [])
        roots: dict[int, str] = {}
        told = [model_json(tx, each, roots) for each in records.with_parts(tx, found[start : start + size])]
    answer: dict[str, Any] = {"models": told} if told else {}
    if len(found) > start + size:
        token = {"experiment_ids": ids, "filter_string": text, "order_by": order, "offset": start + size}
        answer["next_page_token"] = base64.b64encode(json.dumps(token).encode()).decode()
    return answer


def _looked_at(
    where: Sequence[_Clause], datasets: Sequence[Mapping[str, Any]], order: Sequence[Mapping[str, Any]]
) -> set[str]:
    """What of a model decides whether it is found, and where: the rest is read for the page alone."""
    kinds = {each.kind for each in where}
    is_measured = "metrics" in kinds or datasets or any("." in each["field_name"] for each in order)
    return (kinds & {"params", "tags"}) | ({"measures"} if is_measured else set())


def _orders(given: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    return [
        {
            "field_name": each.get("field_name", ""),
            "ascending": each.get("ascending", True),
            "dataset_name": each.get("dataset_name") or None,
            "dataset_digest": each.get("dataset_digest") or None,
        }
        for each in given.get("order_by", [])
    ] or None


def _offset(token: str, ids: Sequence[str], text: str | None, order: Any) -> int:
    """Where the page behind a token begins; it is a page of one search only. Raises: Refused."""
    if not token:
        return 0
    try:
        found = json.loads(base64.b64decode(token.encode()))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise invalid(f"Invalid page token: {token}. {error}") from error
    if not isinstance(found, dict):
        raise invalid(f"Invalid page token: {token}.")
    asked = (
        ("Experiment IDs", "experiment IDs", found.get("experiment_ids"), list(ids)),
        ("Filter string", "filter string", found.get("filter_string") or None, text),
        ("Order by", "order by", found.get("order_by") or None, order),
    )
    for what, same, there, here in asked:
        if there != here:
            raise invalid(
                f"{what} in the page token does not match the requested {same}. Expected: {here}. Found: {there}"
                if what != "Experiment IDs"
                else f"{what} in the page token do not match the requested {same}. Expected: {here}. Found: {there}"
            )
    offset = found.get("offset") or 0
    if not isinstance(offset, int) or not 0 <= offset < 1 << 62:
        raise invalid(f"Invalid page token: {token}.")
    return offset


def _parse(text: str) -> list[_Clause]:
    """The comparisons of a filter, all of which must hold. Raises: Refused."""
    if len(text) > filters.LENGTH_MAX:
        raise invalid(f"Invalid filter string: it has {len(text)} characters, over the limit of {filters.LENGTH_MAX}.")
    found, strays = filters.clauses(text)
    if strays or len(found) > filters.COMPARISONS_MAX or any(not right for _, _, right in found):
        raise invalid(
            f"Invalid filter string: {text!r}. Expected a list of comparisons "
            "separated by 'AND' (e.g. 'metrics.loss > 0.1 AND params.lr = 0.01')."
        )
    return [_clause(*each) for each in found]


def _clause(left: str, operator: str, right: str) -> _Clause:
    match = re.fullmatch(r"([a-z]+)\.(.+)", left, re.DOTALL)
    kind, key = (match[1], match[2].strip("`")) if match else ("attributes", _ALIASES.get(left, left).strip("`"))
    if kind not in KINDS:
        raise invalid(f"Invalid entity type: {kind!r}. Expected one of {KINDS}.")
    is_numeric = kind == "metrics" or (kind == "attributes" and _ALIASES.get(key, key) in _TIMES)
    allowed = NUMERIC if is_numeric else TEXTUAL
    if operator not in allowed:
        raise invalid(f"Invalid comparison operator for {kind}.{key}: {operator!r}. Expected one of {allowed}.")
    if kind == "attributes" and key not in _ATTRIBUTES:
        raise invalid(f"Invalid attribute key '{key}' specified. Valid keys are '{set(_ATTRIBUTES)}'")
    if not is_numeric:
        return _Clause(kind, key, operator, filters.texts_of_list(right) if right[:1] == "(" else right.strip("'"))
    try:
        return _Clause(kind, key, operator, float(right))
    except ValueError as error:
        raise invalid(f"Expected a number for {kind}.{key}. Found {right}") from error


def _fits(found: LoggedModel, where: Sequence[_Clause], datasets: Sequence[Mapping[str, Any]]) -> bool:
    measures = [each for each in found.measures if not datasets or _is_of(each, datasets)]
    if datasets and not any(each.kind == "metrics" for each in where) and not measures:
        return False
    return all(_holds(found, each, measures) for each in where)


def _is_of(measured: MeasureRecord, datasets: Sequence[Mapping[str, Any]]) -> bool:
    return any(
        measured.dataset == each["dataset_name"] and measured.content_id == each.get("dataset_digest", "")
        for each in datasets
    )


def _holds(found: LoggedModel, asked: _Clause, measures: Sequence[MeasureRecord]) -> bool:
    if asked.kind == "metrics":
        values = [number_of(each) for each in measures if each.key == asked.key]
        return any(not math.isnan(each) and filters.matches(each, asked.operator, asked.value) for each in values)
    if asked.kind in ("params", "tags"):
        texts = found.params if asked.kind == "params" else found.tags
        return asked.key in texts and filters.matches(texts[asked.key], asked.operator, asked.value)
    value = _attribute(found, asked.key)
    return filters.matches(value if asked.key in _TIMES else str(value), asked.operator, asked.value)


def _attribute(found: LoggedModel, key: str) -> Any:
    value = getattr(found, _ATTRIBUTES[key])
    return _STATUSES[value] if key == "status" else value


def _sort(found: list[LoggedModel], order: Sequence[Mapping[str, Any]]) -> None:
    """Order in place: what is asked for, then the newest first; what has no value is last."""
    keys: list[tuple[Any, bool]] = []
    fields = [_ALIASES.get(each["field_name"], each["field_name"]) for each in order]
    for name, each in zip(fields, order, strict=True):
        kind, dot, metric = name.partition(".")
        if dot and kind != "metrics":
            raise invalid(f"Invalid order by field name: {name}. Only metrics are supported.")
        if not dot and name not in _ATTRIBUTES:
            raise Refused("INVALID_PARAMETER_VALUE", f"Invalid order by field name: {name}", kind="ATTRIBUTE_NOT_FOUND")
        keys.append((_by_metric(metric, each) if dot else _by_attribute(name), not each["ascending"]))
    if "creation_timestamp_ms" not in fields:
        keys.append((_by_attribute("creation_timestamp_ms"), True))
    if "model_id" not in fields:
        keys.append((_by_attribute("model_id"), False))
    for value_of, is_descending in reversed(keys):
        found.sort(key=value_of, reverse=is_descending)
        found.sort(key=lambda each, value_of=value_of: value_of(each) == _NONE)  # type: ignore[misc]  # the default binds the loop's key


_NONE = (0, 0.0)


def _by_attribute(name: str) -> Any:
    return lambda each: (1, _attribute(each, name))


def _by_metric(name: str, asked: Mapping[str, Any]) -> Any:
    def value(found: LoggedModel) -> tuple[int, float]:
        fitting = [
            each
            for each in found.measures
            if each.key == name
            and (not asked["dataset_name"] or each.dataset == asked["dataset_name"])
            and (not asked["dataset_digest"] or each.content_id == asked["dataset_digest"])
        ]
        if not fitting:
            return _NONE
        newest = sorted(fitting, key=lambda each: (-each.at_ms, -each.step, each.run))[0]
        number = number_of(newest)
        return _NONE if math.isnan(number) else (1, number)

    return value


_DATASET = {"dataset_name": TEXT, "dataset_digest": TEXT}
ENDPOINTS = {
    ("POST", "logged-models/search"): (
        Spec(
            {
                "experiment_ids": Repeated(TEXT),
                "filter": TEXT,
                "datasets": Repeated(Message(_DATASET)),
                "max_results": INT32,
                "order_by": Repeated(Message({"field_name": TEXT, "ascending": BOOL, **_DATASET})),
                "page_token": TEXT,
            },
            {
                "experiment_ids": ("array", "texts", "required"),
                "filter": ("text",),
                "datasets": ("array",),
                "max_results": ("int",),
                "order_by": ("array",),
                "page_token": ("text",),
            },
        ),
        search,
    ),
}
