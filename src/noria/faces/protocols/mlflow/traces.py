"""The endpoints of traces, and the one by which spans come in.

Source: mlflow/server/handlers.py, otel_api.py and store/tracking/sqlalchemy_store.py of MLflow 3.17. What other
frameworks than MLflow's own call inputs, outputs and tokens is kept as it came, and not translated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from noria.core.errors import Conflict, NotFound, UsageError
from noria.faces.protocols.mlflow import names, otlp, shapes, trace_filters
from noria.faces.protocols.mlflow.experiments import require_page_size
from noria.faces.protocols.mlflow.messages import BOOL, INT, INT32, TEXT, Enum, Map, Message, Repeated, Spec
from noria.faces.protocols.mlflow.otlp import Export
from noria.faces.protocols.mlflow.refusals import invalid, missing
from noria.faces.protocols.mlflow.trace_shapes import (
    ASSESSMENT,
    at_ms,
    duration_ms,
    infos,
    said_of,
    spans_in_order,
)
from noria.faces.protocols.mlflow.wire import Wire
from noria.store.ledger import Reader
from noria.store.workspace import Workspace
from noria.traces import keeping, records
from noria.traces.keeping import Said, Spans
from noria.traces.records import TraceRecord

__all__ = ["ENDPOINTS", "ENDPOINTS_3", "keep_export"]

STATES = Enum({"STATE_UNSPECIFIED": 0, "OK": 1, "ERROR": 2, "IN_PROGRESS": 3})
LOCATION = Message(
    {
        "type": Enum({"TRACE_LOCATION_TYPE_UNSPECIFIED": 0, "MLFLOW_EXPERIMENT": 1, "INFERENCE_TABLE": 2}),
        "mlflow_experiment": Message({"experiment_id": TEXT}),
        "inference_table": Message({"full_table_name": TEXT}),
    }
)
INFO = Message(
    {
        "trace_id": TEXT,
        "client_request_id": TEXT,
        "trace_location": LOCATION,
        "request_preview": TEXT,
        "response_preview": TEXT,
        "request_time": TEXT,
        "execution_duration": TEXT,
        "state": STATES,
        "trace_metadata": Map(),
        "tags": Map(),
        "assessments": Repeated(ASSESSMENT),
    }
)
SEARCH_MAX = 500
LINKS_MAX = 100
SCANNED_MAX = 20_000
"""So many traces are looked into by one search over spans or judgements."""
PAGE = 200
_TAG_PREFIX = "mlflow.traceTag."
_FIXED = frozenset({"mlflow.trace.spansLocation", "mlflow.trace.archiveLocation", "mlflow.artifactLocation"})
_INPUTS, _OUTPUTS = "mlflow.spanInputs", "mlflow.spanOutputs"
_KEY = re.compile(r"[/\w.\- :]*")


def start(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Keep what a client says of a trace as a whole."""
    info = given.get("trace", {}).get("trace_info", {})
    place = info.get("trace_location", {}).get("mlflow_experiment", {}).get("experiment_id", "")
    said = Said(
        trace=info.get("trace_id", ""),
        experiment=names.experiment_number(place),
        began_ms=at_ms(info.get("request_time", "")),
        took_ms=duration_ms(info["execution_duration"]) if "execution_duration" in info else None,
        state=info.get("state", "STATE_UNSPECIFIED"),
        request=info.get("client_request_id", ""),
        asked=info.get("request_preview"),
        answered=info.get("response_preview"),
        tags={key: value for key, value in info.get("tags", {}).items() if key not in _FIXED},
        metadata={**info.get("trace_metadata", {}), "mlflow.trace.infoFinalized": "true"},
    )
    judged = [(each, said_of(each, ws.clock.now())) for each in info.get("assessments", [])]
    _doing(lambda: keeping.log(ws, said))
    for each, content in judged:
        own = each.get("assessment_id", "")[: keeping.ID_MAX]
        keeping.assess(ws, said.trace, each.get("assessment_name", ""), content, assessment=own)
    with ws.ledger.read() as tx:
        return {"trace": {"trace_info": _infos(tx, ws, [_found(tx, said.trace)])[0]}}


def keep_export(ws: Workspace, experiment: str, exports: Sequence[Export], run: str) -> None:
    """Keep the spans of an export, all or none. Raises: Refused."""
    number = names.experiment_number(experiment)
    grouped: dict[str, tuple[list[dict[str, Any]], dict[str, str]]] = {}
    for export in exports:
        tags = {key: value if isinstance(value, str) else json.dumps(value) for key, value in export.resource.items()}
        tags = {key: value for key, value in tags.items() if not key.startswith(("telemetry.sdk.", "mlflow."))}
        for span in export.spans:
            spans, told = grouped.setdefault(_trace_of(span), ([], {}))
            spans.append(span)
            told.update({key: value for key, value in tags.items() if key and _KEY.fullmatch(key)})
    _doing(
        lambda: keeping.keep_spans(
            ws, number, [_spans(name, spans, tags) for name, (spans, tags) in grouped.items()], run=run
        )
    )


def get_info(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """A trace without its spans."""
    with ws.ledger.read() as tx:
        return {"trace": {"trace_info": _infos(tx, ws, [_found(tx, given["trace_id"])])[0]}}


def get(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """A trace with its spans; one whose spans are still to come only if that is asked for."""
    name = given.get("trace_id", "")
    with ws.ledger.read() as tx:
        record = records.trace(tx, name)
        if record is None:
            raise missing(f"Trace with ID {name} is not found.")
        whole = _wholes(tx, ws, [record], is_partial=given.get("allow_partial", False))
    if not whole:
        raise missing(f"Trace with ID {name} is not fully exported yet, please try again later.")
    return {"trace": whole[0]}


def get_many(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Traces with their spans; those that are not there, or not whole, are left out."""
    with ws.ledger.read() as tx:
        whole = _wholes(tx, ws, _asked(tx, given), is_partial=False)
    return {"traces": whole} if whole else {}


def get_many_infos(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Traces without their spans; those that are not there are left out."""
    with ws.ledger.read() as tx:
        told = _infos(tx, ws, _asked(tx, given))
    return {"trace_infos": told} if told else {}


def search(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Traces of experiments that fit a filter, page by page."""
    size = given.get("max_results", 100)
    require_page_size(size)
    places = [each["mlflow_experiment"] for each in given.get("locations", []) if "mlflow_experiment" in each]
    numbers = [names.experiment_number(each.get("experiment_id", "")) for each in places]
    outer, inner = trace_filters.parse(given.get("filter", ""))
    order = trace_filters.parse_order(given.get("order_by", []))
    start_at = shapes.offset_of(given.get("page_token", ""))
    with ws.ledger.read() as tx:
        if inner:
            found = _looked_into(tx, ws, numbers, outer, inner, order, upto=start_at + size)[start_at:]
        else:
            found = records.search(tx, numbers, outer, order, skip=start_at, limit=size)
        told: dict[str, Any] = {"traces": _infos(tx, ws, found)} if found else {}
    if len(found) == size:
        told["next_page_token"] = shapes.page_token(start_at + size)
    return told


def set_tag(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Tag a trace."""
    key, value = given.get("key", ""), given.get("value", "")
    _require_own(key, "set")
    names.require_name(key, "key")
    if len(key) > keeping.KEY_MAX:
        raise invalid(f"'key' exceeds the maximum length of {keeping.KEY_MAX} characters")
    _doing(lambda: keeping.tag(ws, _name(given), key, value))
    return {}


def delete_tag(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take a tag off a trace."""
    key = given.get("key", "")
    _require_own(key, "deleted")
    _doing(lambda: keeping.untag(ws, _name(given), key))
    return {}


def delete(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take traces of an experiment away: those that began by a time, or those of some ids."""
    upto, most, chosen = given.get("max_timestamp_millis"), given.get("max_traces"), given.get("request_ids", [])
    if upto is None and not chosen:
        raise invalid("Either `max_timestamp_millis` or `trace_ids` must be specified.")
    if upto is not None and chosen:
        raise invalid("Only one of `max_timestamp_millis` and `trace_ids` can be specified.")
    if chosen and most is not None:
        raise invalid("`max_traces` can't be specified if `trace_ids` is specified.")
    if most is not None and most <= 0:
        raise invalid(f"`max_traces` must be a positive integer, received {most}.")
    number = names.experiment_number(given.get("experiment_id", ""))
    gone = keeping.delete(ws, number, upto_ms=upto, names=chosen, limit=most or SCANNED_MAX)
    return {"traces_deleted": gone}


def link(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Let traces belong to a run."""
    chosen = given.get("trace_ids", [])
    if len(chosen) > LINKS_MAX:
        raise invalid(
            f"Cannot link more than {LINKS_MAX} traces to a run in a single request. Provided {len(chosen)} traces."
        )
    _doing(lambda: keeping.link(ws, chosen, given.get("run_id", "")))
    return {}


def _looked_into(
    tx: Reader,
    ws: Workspace,
    numbers: Sequence[int],
    outer: Sequence[records.Condition],
    inner: Sequence[trace_filters.Inside],
    order: Sequence[tuple[str, str, bool]],
    *,
    upto: int,
) -> list[TraceRecord]:
    """The first traces that fit what is asked of their spans and judgements too. Raises: Refused."""
    found: list[TraceRecord] = []
    for skip in range(0, SCANNED_MAX, PAGE):
        page = records.search(tx, numbers, outer, order, skip=skip, limit=PAGE)
        ids = [each.trace for each in page]
        spans = (
            keeping.spans_of(ws, records.span_objects(tx, ids)) if any(each.kind == "span" for each in inner) else {}
        )
        judged = records.assessments(tx, ids)
        said = keeping.judgements(ws, [each.details for name in ids for each in judged[name]])
        for each in page:
            told = [{**said[one.details], "assessment_name": one.name} for one in judged[each.trace]]
            if all(trace_filters.holds(asked, spans.get(each.trace, ()), told) for asked in inner):
                found.append(each)
        if len(page) < PAGE or len(found) >= upto:
            return found[:upto]
    raise invalid(f"The filter would look into more than {SCANNED_MAX} traces: narrow it by time, tag or status.")


def _asked(tx: Reader, given: dict[str, Any]) -> list[TraceRecord]:
    places = given.get("experiment_ids")
    numbers = [names.experiment_number(each) for each in places] if places is not None else None
    return records.traces(tx, given.get("trace_ids", []), numbers)


def _infos(tx: Reader, ws: Workspace, found: Sequence[TraceRecord]) -> list[dict[str, Any]]:
    ids = [each.trace for each in found]
    spans, judged = records.span_objects(tx, ids), records.assessments(tx, ids)
    said = keeping.judgements(ws, [each.details for name in ids for each in judged[name]])
    return infos(tx, found, keeping.previews(ws, found, spans), judged, said)


def _wholes(tx: Reader, ws: Workspace, found: Sequence[TraceRecord], *, is_partial: bool) -> list[dict[str, Any]]:
    spans = keeping.spans_of(ws, records.span_objects(tx, [each.trace for each in found]))
    told = []
    for record, info in zip(found, _infos(tx, ws, found), strict=True):
        own = spans_in_order(spans[record.trace])
        if is_partial or (own and len(own) >= _expected(record)):
            told.append({"trace_info": info, **({"spans": own} if own else {})})
    return told


def _expected(record: TraceRecord) -> int:
    """How many spans a client said that there are; 0 if it did not."""
    try:
        return int(json.loads(record.metadata.get("mlflow.trace.sizeStats", "{}")).get("num_spans", 0))
    except (ValueError, TypeError, AttributeError):
        return 0


def _spans(name: str, spans: Sequence[dict[str, Any]], tags: dict[str, str]) -> Spans:
    ends = [span["end_time_unix_nano"] for span in spans if "end_time_unix_nano" in span]
    roots = [span for span in spans if "parent_span_id" not in span]
    state, asked, answered = "", None, None
    if roots:
        state = "ERROR" if roots[0]["status"].get("code") == "STATUS_CODE_ERROR" else "OK"
        said = {each["key"]: otlp.plain(each.get("value")) for each in roots[-1]["attributes"]}
        asked, answered = _preview(said.get(_INPUTS)), _preview(said.get(_OUTPUTS))
        own = {key.removeprefix(_TAG_PREFIX): value for key, value in said.items() if key.startswith(_TAG_PREFIX)}
        tags = {**tags, **{key: str(value) for key, value in own.items() if key and _KEY.fullmatch(key)}}
    return Spans(
        trace=name,
        began_ms=min(span["start_time_unix_nano"] for span in spans) // 1_000_000,
        ended_ms=max(ends) // 1_000_000 if ends else None,
        state=state,
        spans=spans,
        asked=asked,
        answered=answered,
        tags={key: value for key, value in tags.items() if key not in _FIXED},
    )


def _preview(value: Any) -> str | None:
    if value is None:
        return None
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= keeping.PREVIEW_MAX else text[: keeping.PREVIEW_MAX - 3] + "..."


def _trace_of(span: dict[str, Any]) -> str:
    told = [each["value"]["string_value"] for each in span["attributes"] if each["key"] == otlp.REQUEST_ID]
    return str(told[0])


def _found(tx: Reader, name: str) -> TraceRecord:
    record = records.trace(tx, name)
    if record is None:
        raise missing(f"Trace with ID '{name}' not found.")
    return record


def _name(given: dict[str, Any]) -> str:
    return str(given.get("trace_id", "") or given.get("request_id", ""))


def _require_own(key: str, deed: str) -> None:
    if key in _FIXED:
        raise invalid(f"Tag '{key}' is immutable and cannot be {deed} on a trace.")


def _doing(work: Any) -> None:
    """Do something, and word what stands against it. Raises: Refused."""
    try:
        work()
    except NotFound as error:
        raise missing(error.message) from error
    except (Conflict, UsageError) as error:
        raise invalid(error.message) from error


_PAIR = {"key": ("required", "text"), "value": ("text",)}
_DELETE = (
    Spec(
        {"experiment_id": TEXT, "max_timestamp_millis": INT, "max_traces": INT32, "request_ids": Repeated(TEXT)},
        {
            "experiment_id": ("text", "required"),
            "max_timestamp_millis": ("int",),
            "max_traces": ("int",),
            "request_ids": ("array", "texts"),
        },
    ),
    delete,
)
_LINK = (
    Spec(
        {"trace_ids": Repeated(TEXT), "run_id": TEXT},
        {"trace_ids": ("array", "required", "texts"), "run_id": ("text", "required")},
    ),
    link,
)
_MANY = Spec(
    {"trace_ids": Repeated(TEXT), "experiment_ids": Repeated(TEXT)},
    {"trace_ids": ("array", "required", "texts"), "experiment_ids": ("array", "texts")},
)
_SET, _UNSET = Spec({"key": TEXT, "value": TEXT}, _PAIR), Spec({"key": TEXT}, {"key": ("required", "text")})
ENDPOINTS = {
    ("PATCH", "traces/{request_id}/tags"): (_SET, set_tag),
    ("DELETE", "traces/{request_id}/tags"): (_UNSET, delete_tag),
    ("POST", "traces/delete-traces"): _DELETE,
    ("POST", "traces/link-to-run"): _LINK,
}
"""What is asked below 2.0."""
ENDPOINTS_3 = {
    ("POST", "traces"): (
        Spec({"trace": Message({"trace_info": INFO})}, {"trace": ("required",)}, is_strict=True),
        start,
    ),
    ("GET", "traces/get"): (
        Spec({"trace_id": TEXT, "allow_partial": BOOL}, {"trace_id": ("text", "required"), "allow_partial": ("bool",)}),
        get,
    ),
    ("GET", "traces/batchGet"): (_MANY, get_many),
    ("POST", "traces/batchGetInfos"): (_MANY, get_many_infos),
    ("POST", "traces/search"): (
        Spec(
            {
                "locations": Repeated(LOCATION),
                "filter": TEXT,
                "max_results": INT32,
                "order_by": Repeated(TEXT),
                "page_token": TEXT,
            },
            {
                "locations": ("array", "required"),
                "filter": ("text",),
                "max_results": ("int", lambda value: int(value) <= SEARCH_MAX),
                "order_by": ("array", "texts"),
                "page_token": ("text",),
            },
        ),
        search,
    ),
    ("POST", "traces/delete-traces"): _DELETE,
    ("GET", "traces/{trace_id}"): (Spec({}), get_info),
    ("PATCH", "traces/{trace_id}/tags"): (_SET, set_tag),
    ("DELETE", "traces/{trace_id}/tags"): (_UNSET, delete_tag),
}
"""What is asked below 3.0."""
