"""The endpoints of evaluation data sets, which clients call datasets.

Source: mlflow/server/handlers.py and store/tracking/sqlalchemy_store.py of MLflow 3.17 (order of checks, words).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from noria.core.errors import NotFound, UsageError
from noria.evalsets import keeping, merging, records
from noria.evalsets.records import EvalsetRecord
from noria.faces.protocols.mlflow import evalset_filters, shapes
from noria.faces.protocols.mlflow.evalset_shapes import (
    behind,
    dataset_json,
    decoded,
    given_of,
    record_json,
    tags_of,
    token_of,
)
from noria.faces.protocols.mlflow.experiments import require_page_size
from noria.faces.protocols.mlflow.messages import INT32, TEXT, Enum, Repeated, Spec
from noria.faces.protocols.mlflow.refusals import Refused, invalid, missing
from noria.faces.protocols.mlflow.wire import Wire
from noria.store.workspace import Workspace

__all__ = ["ENDPOINTS_3"]

PAGE, PAGE_MAX = 1000, 10_000
_SET = "datasets/{dataset_id}"
_SOURCES = Enum(
    {"SOURCE_TYPE_UNSPECIFIED": 0, "TRACE": 1, "HUMAN": 2, "DOCUMENT": 3, "CODE": 4},
)


def create(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Make an evaluation data set."""
    said = given.get("tags", "")
    tags = tags_of(said, of_new=True) if said else {}
    chosen = given.get("experiment_ids", [])
    if len(set(chosen)) < len(chosen):
        raise Refused("BAD_REQUEST", "An experiment is named twice.")
    try:
        made = keeping.create(ws, given.get("name", ""), experiments=chosen, tags=tags)
    except UsageError as error:
        raise invalid(error.message) from error
    with ws.ledger.read() as tx:
        found = keeping.found(tx, made)
    return {"dataset": dataset_json(found, None, experiments=chosen)}


def get(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """One evaluation data set."""
    return {"dataset": _found(ws, _name(given))}


def delete(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take an evaluation data set away with its records."""
    keeping.delete(ws, _name(given))
    return {}


def search(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Evaluation data sets that fit a filter, page by page."""
    size = given.get("max_results", PAGE)
    if not size:
        raise invalid("Invalid value None for parameter 'max_results' supplied. It must be a positive integer")
    require_page_size(size)
    start = shapes.offset_of(given.get("page_token", ""))
    where = evalset_filters.parse(given.get("filter_string", ""))
    order = evalset_filters.parse_order(given.get("order_by", []))
    with ws.ledger.read() as tx:
        found = records.search(tx, given.get("experiment_ids", []), where, order, skip=start, limit=size + 1)
    told: dict[str, Any] = {"datasets": _told(ws, found[:size])} if found else {}
    if len(found) > size:
        told["next_page_token"] = shapes.page_token(start + size)
    return told


def set_tags(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Tag an evaluation data set."""
    tags = tags_of(given.get("tags", ""), of_new=False)
    _doing(lambda: keeping.tag(ws, _name(given), tags))
    return {}


def delete_tag(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take a tag off an evaluation data set."""
    keeping.untag(ws, _name(given), _plain(given["key"]))
    return {}


def merge(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take records in; those with inputs that are there already say more afterwards."""
    said = decoded(given.get("records", ""), "records")
    if not isinstance(said, list):
        raise invalid("Invalid value for parameter 'records': it is not a JSON array of records.")
    parsed = [given_of(each, place) for place, each in enumerate(said)]
    try:
        inserted, updated = _doing(lambda: merging.merge(ws, _name(given), parsed))
    except Refused as error:
        if error.code != "RESOURCE_DOES_NOT_EXIST":
            raise
        if parsed:  # there it is the database that refuses
            raise Refused("BAD_REQUEST", error.message) from error
        inserted = updated = 0
    return {"inserted_count": inserted, "updated_count": updated}


def page(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Records as they came, page by page."""
    size = given.get("max_results", 0) or PAGE
    if size < 1:
        raise invalid(f"Invalid value {size} for parameter 'max_results' supplied. It must be a positive integer")
    before, skip = behind(given.get("page_token", ""))
    found, has_more = merging.page(ws, _name(given), behind=before, skip=skip, limit=min(size, PAGE_MAX))
    told = {"records": json.dumps([record_json(each) for each in found])}
    return {**told, "next_page_token": token_of(found[-1])} if has_more else told


def remove(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take records away."""
    return {"deleted_count": merging.remove(ws, _name(given), given.get("dataset_record_ids", []))}


def experiment_ids(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """The experiments that an evaluation data set belongs to."""
    with ws.ledger.read() as tx:
        found = records.experiments(tx, _name(given))
    return {"experiment_ids": found} if found else {}


def add_experiments(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Let an evaluation data set belong to experiments too."""
    _doing(lambda: keeping.assign(ws, _name(given), given.get("experiment_ids", [])))
    return {"dataset": _found(ws, _name(given))}


def remove_experiments(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Let an evaluation data set belong to experiments no more."""
    _doing(lambda: keeping.unassign(ws, _name(given), given.get("experiment_ids", [])))
    return {"dataset": _found(ws, _name(given))}


def _found(ws: Workspace, name: str) -> dict[str, Any]:
    with ws.ledger.read() as tx:
        found = _doing(lambda: keeping.found(tx, name))
    return _told(ws, [found])[0]


def _told(ws: Workspace, found: Sequence[EvalsetRecord]) -> list[dict[str, Any]]:
    schemas = keeping.schemas(ws, [each.schema for each in found])
    return [dataset_json(each, schemas.get(each.schema)) for each in found]


def _name(given: dict[str, Any]) -> str:
    return _plain(given["dataset_id"])


def _plain(text: str) -> str:
    """A word of a path, without the one character that no database takes."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _doing(work: Any) -> Any:
    """Do something, and word what stands against it. Raises: Refused."""
    try:
        return work()
    except Refused:
        raise
    except NotFound as error:
        raise missing(error.message) from error
    except UsageError as error:
        raise invalid(error.message) from error


_SEARCH = (
    Spec(
        {
            "experiment_ids": Repeated(TEXT),
            "filter_string": TEXT,
            "max_results": INT32,
            "order_by": Repeated(TEXT),
            "page_token": TEXT,
        },
        {
            "experiment_ids": ("array",),
            "filter_string": ("text",),
            "max_results": ("int",),
            "order_by": ("array",),
            "page_token": ("text",),
        },
    ),
    search,
)
_CHOSEN = Spec({"experiment_ids": Repeated(TEXT)}, {"experiment_ids": ("array",)})
ENDPOINTS_3 = {
    ("POST", "datasets/create"): (
        Spec(
            {
                "name": TEXT,
                "experiment_ids": Repeated(TEXT),
                "source_type": _SOURCES,
                "source": TEXT,
                "schema": TEXT,
                "profile": TEXT,
                "created_by": TEXT,
                "tags": TEXT,
            },
            {"name": ("required", "text"), "experiment_ids": ("array",), "tags": ("text",)},
        ),
        create,
    ),
    ("GET", "datasets/search"): _SEARCH,
    ("POST", "datasets/search"): _SEARCH,
    ("GET", _SET): (Spec({}), get),
    ("DELETE", _SET): (Spec({}), delete),
    ("PATCH", f"{_SET}/tags"): (Spec({"tags": TEXT}, {"tags": ("required", "text")}), set_tags),
    ("DELETE", f"{_SET}/tags/{{key}}"): (Spec({}), delete_tag),
    ("POST", f"{_SET}/records"): (
        Spec({"records": TEXT, "updated_by": TEXT}, {"records": ("required", "text")}),
        merge,
    ),
    ("GET", f"{_SET}/records"): (
        Spec({"max_results": INT32, "page_token": TEXT}, {"max_results": ("int",), "page_token": ("text",)}),
        page,
    ),
    ("DELETE", f"{_SET}/records"): (
        Spec({"dataset_record_ids": Repeated(TEXT)}, {"dataset_record_ids": ("array",)}),
        remove,
    ),
    ("GET", f"{_SET}/experiment-ids"): (Spec({}), experiment_ids),
    ("POST", f"{_SET}/add-experiments"): (_CHOSEN, add_experiments),
    ("POST", f"{_SET}/remove-experiments"): (_CHOSEN, remove_experiments),
}
