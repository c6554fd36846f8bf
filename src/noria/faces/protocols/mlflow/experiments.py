"""The endpoints of experiments.

Source: mlflow/server/handlers.py and store/tracking/sqlalchemy_store.py of MLflow 3.17 (order of checks, words).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from noria.catalog import filing
from noria.catalog import records as catalog
from noria.catalog.records import ExperimentRecord
from noria.core.errors import NotFound
from noria.experiments import records as runs
from noria.experiments.grammar import Clause
from noria.experiments.records import ACTIVE, DELETED
from noria.faces.protocols.mlflow import filters, names, shapes
from noria.faces.protocols.mlflow.filters import EXPERIMENTS, Comparison
from noria.faces.protocols.mlflow.messages import INT, TEXT, Enum, Message, Repeated, Spec
from noria.faces.protocols.mlflow.refusals import Refused, exists, invalid, missing
from noria.faces.protocols.mlflow.wire import Wire, found_experiment
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = ["ENDPOINTS", "PAIR", "VIEWS", "require_page_size", "stages"]

PAIR = Message({"key": TEXT, "value": TEXT})
VIEWS = Enum({"ACTIVE_ONLY": 1, "DELETED_ONLY": 2, "ALL": 3})
PAGE_MAX = 50_000
DATASETS_MAX = 20
"""Of so many experiments the data sets are told at once."""
SUMMARIES_MAX, RUNS_MAX, RUNS_PAGE = 1000, 100_000, 500


def create(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Make an experiment."""
    name = given.get("name", "")
    names.require_experiment_name(name)
    tags = {tag.get("key", ""): tag.get("value", "") for tag in given.get("tags", [])}
    for key, value in tags.items():
        names.require_experiment_tag(key, value)
    place = given.get("artifact_location", "")
    if place and not place.startswith("mlflow-artifacts:"):
        raise invalid(
            "Artifacts are kept by the server: leave artifact_location out, or begin it with mlflow-artifacts:/"
        )
    try:
        return {"experiment_id": str(filing.create_experiment(ws, name, location=place, tags=tags))}
    except filing.Taken as error:
        raise exists(f"Experiment(name={name}) already exists.") from error


def get(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """One experiment by its id."""
    with ws.ledger.read() as tx:
        return {"experiment": shapes.experiment_json(found_experiment(tx, given.get("experiment_id", "")))}


def get_by_name(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """One experiment by its name."""
    name = given.get("experiment_name", "")
    with ws.ledger.read() as tx:
        found = catalog.by_name(tx, name)
    if found is None:
        raise missing(f"Could not find experiment with name '{name}'")
    return {"experiment": shapes.experiment_json(found)}


def delete(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Put an experiment away with its runs."""
    found = _in_stage(ws, given.get("experiment_id", ""), ACTIVE)
    filing.delete_experiment(ws, found.experiment)
    wire.forget()
    return {}


def restore(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Bring an experiment back with its runs."""
    found = _in_stage(ws, given.get("experiment_id", ""), DELETED)
    filing.restore_experiment(ws, found.experiment)
    wire.forget()
    return {}


def update(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Give an experiment another name."""
    name = given.get("new_name", "")
    if name:
        names.require_experiment_name(name)
        with ws.ledger.read() as tx:
            found = found_experiment(tx, given.get("experiment_id", ""))
        if found.stage != ACTIVE:
            raise Refused("INVALID_STATE", "Cannot rename a non-active experiment.")
        try:
            filing.rename_experiment(ws, found.experiment, name)
        except filing.Taken as error:
            raise exists(f"Experiment(name={name}) already exists.") from error
    return {}


def set_tag(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Tag an experiment."""
    key, value = given.get("key", ""), given.get("value", "")
    names.require_experiment_tag(key, value)
    found = _active(ws, given.get("experiment_id", ""))
    filing.tag_experiment(ws, found.experiment, key, value)
    return {}


def delete_tag(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take a tag off an experiment."""
    key = given.get("key", "")
    found = _active(ws, given.get("experiment_id", ""))
    try:
        filing.untag_experiment(ws, found.experiment, key)
    except NotFound as error:
        raise missing(f"No tag with name: {key} in experiment with id {given.get('experiment_id', '')}") from error
    return {}


def search(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Experiments that fit a filter, page by page."""
    size = given.get("max_results", 0)
    require_page_size(size)
    where = filters.parse_filter(EXPERIMENTS, given.get("filter", ""))
    _require_fitting(where)
    order = [filters.parse_order(EXPERIMENTS, text) for text in given.get("order_by", [])]
    order = order or [("attribute", "creation_time", True), ("attribute", "experiment_id", False)]
    for kind, _, _ in order:
        if kind != "attribute":
            raise invalid(f"Invalid order_by entity: {kind}")
    if not any(key == "experiment_id" for _, key, _ in order):
        order.append(("attribute", "experiment_id", True))
    start = shapes.offset_of(given.get("page_token", ""))
    wanted = stages(given.get("view_type", "ACTIVE_ONLY"))
    with ws.ledger.read() as tx:
        found = [each for each in catalog.experiments(tx) if each.stage in wanted and _fits(each, where)]
    for _, key, is_descending in reversed(order):
        found.sort(key=lambda each, key=key: _attribute(each, key), reverse=is_descending)  # type: ignore[misc]  # the default binds the loop's key
    page = found[start : start + size]
    told: dict[str, Any] = {"experiments": [shapes.experiment_json(each) for each in page]} if page else {}
    if len(found) > start + size:
        told["next_page_token"] = shapes.page_token(start + size)
    return told


def search_datasets(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """The data sets that runs of experiments used, each once with what it was used for."""
    chosen = given.get("experiment_ids", [])
    if not chosen:
        raise invalid("SearchDatasets request must specify at least one experiment_id.")
    if len(chosen) > DATASETS_MAX:
        raise invalid(
            f"SearchDatasets request cannot specify more than {DATASETS_MAX} experiment_ids. "
            f"Received {len(chosen)} experiment_ids."
        )
    numbers = [names.experiment_number(text) for text in chosen]
    found: dict[tuple[str, str, str, str], None] = {}
    wire.inbox.send()
    with ws.ledger.read() as tx:
        for each in (catalog.experiment(tx, number) for number in sorted(set(numbers))):
            if each is None:
                continue
            for name, digest, context in _datasets_of(tx, each.name):
                found[str(each.experiment), name, digest, context] = None
                if len(found) >= SUMMARIES_MAX:
                    break
    keys = ("experiment_id", "name", "digest", "context")
    told = [{key: value for key, value in zip(keys, each, strict=True) if value} for each in found]
    return {"dataset_summaries": told} if told else {}


def _datasets_of(tx: Reader, experiment: str) -> Iterator[tuple[str, str, str]]:
    """(name, digest, context) of what clients said that runs of an experiment used."""
    where = [Clause("attribute", "experiment", "=", experiment), Clause("dataset", "name", "LIKE", "%")]
    for skip in range(0, RUNS_MAX, RUNS_PAGE):
        page = [run.run for run, _ in runs.search(tx, where, skip=skip, limit=RUNS_PAGE)]
        for inputs in catalog.inputs(tx, page).values():
            for each in inputs:
                contexts = [value for key, value in each.tags if key == catalog.CONTEXT]
                yield each.name, each.content_id, "".join(contexts[-1:])
        if len(page) < RUNS_PAGE:
            return


def require_page_size(size: int) -> None:
    """How much may be asked for at once. Raises: Refused."""
    if size < 1:
        raise invalid(f"Invalid value {size} for parameter 'max_results' supplied. It must be a positive integer")
    if size > PAGE_MAX:
        raise invalid(f"Invalid value {size} for parameter 'max_results' supplied. It must be at most {PAGE_MAX}")


def stages(view: str) -> Sequence[str]:
    """The stages that a view shows."""
    return {"ACTIVE_ONLY": (ACTIVE,), "DELETED_ONLY": (DELETED,)}.get(view, (ACTIVE, DELETED))


def _active(ws: Workspace, text: str) -> ExperimentRecord:
    with ws.ledger.read() as tx:
        found = found_experiment(tx, text)
    if found.stage != ACTIVE:
        raise invalid(
            f"The experiment {found.experiment} must be in the 'active' state. Current state is {found.stage}."
        )
    return found


def _in_stage(ws: Workspace, text: str, stage: str) -> ExperimentRecord:
    with ws.ledger.read() as tx:
        found = found_experiment(tx, text)
    if found.stage != stage:
        raise missing(f"No Experiment with id={found.experiment} exists")
    return found


def _require_fitting(where: Sequence[Comparison]) -> None:
    for each in where:
        if each.kind != "attribute":
            continue
        if each.key == "experiment_id":
            if each.operator not in ("=", "!=", "IN", "NOT IN"):
                raise invalid(f"Invalid comparator for experiment_id: {each.operator}")
            for text in each.value if isinstance(each.value, tuple) else (str(each.value),):
                names.experiment_number(text)
        elif isinstance(each.value, float) and not each.value.is_integer():
            raise invalid(f"Invalid value for numeric attribute '{each.key}': {str(each.value)!r}")


def _attribute(found: ExperimentRecord, key: str) -> Any:
    values = {"name": found.name, "creation_time": found.created_ms, "last_update_time": found.updated_ms}
    return values.get(key, found.experiment)


def _fits(found: ExperimentRecord, where: Sequence[Comparison]) -> bool:
    return all(_holds(found, each) for each in where)


def _holds(found: ExperimentRecord, asked: Comparison) -> bool:
    if asked.kind == "tag":
        value: Any = found.tags.get(asked.key)
        if asked.operator in ("IS NULL", "IS NOT NULL"):
            return (value is None) == (asked.operator == "IS NULL")
        return value is not None and filters.matches(value, asked.operator, asked.value)
    value = _attribute(found, asked.key)
    wanted: Any = asked.value
    if asked.key == "experiment_id":
        wanted = tuple(int(each) for each in wanted) if isinstance(wanted, tuple) else int(wanted)
    return filters.matches(value, asked.operator, wanted)


_ID = {"experiment_id": ("required", "text")}
_SEARCH = Spec(
    {"max_results": INT, "page_token": TEXT, "filter": TEXT, "order_by": Repeated(TEXT), "view_type": VIEWS},
    {
        "view_type": ("int",),
        "max_results": ("int",),
        "order_by": ("array",),
        "filter": ("text",),
        "page_token": ("text",),
    },
)
ENDPOINTS = {
    ("POST", "experiments/create"): (
        Spec(
            {"name": TEXT, "artifact_location": TEXT, "tags": Repeated(PAIR)},
            {"name": ("required", "text"), "artifact_location": ("text",), "tags": ("array",)},
        ),
        create,
    ),
    ("GET", "experiments/get"): (Spec({"experiment_id": TEXT}, _ID), get),
    ("GET", "experiments/get-by-name"): (
        Spec({"experiment_name": TEXT}, {"experiment_name": ("required", "text")}),
        get_by_name,
    ),
    ("POST", "experiments/delete"): (Spec({"experiment_id": TEXT}, _ID), delete),
    ("POST", "experiments/restore"): (Spec({"experiment_id": TEXT}, _ID), restore),
    ("POST", "experiments/update"): (
        Spec({"experiment_id": TEXT, "new_name": TEXT}, {**_ID, "new_name": ("text", "required")}),
        update,
    ),
    ("POST", "experiments/set-experiment-tag"): (
        Spec(
            {"experiment_id": TEXT, "key": TEXT, "value": TEXT},
            {**_ID, "key": ("required", "text"), "value": ("text",)},
        ),
        set_tag,
    ),
    ("POST", "experiments/delete-experiment-tag"): (
        Spec({"experiment_id": TEXT, "key": TEXT}, {**_ID, "key": ("required", "text")}),
        delete_tag,
    ),
    ("POST", "experiments/search-datasets"): (
        Spec({"experiment_ids": Repeated(TEXT)}),
        search_datasets,
    ),
    ("POST", "experiments/search"): (_SEARCH, search),
    ("GET", "experiments/search"): (_SEARCH, search),
}
