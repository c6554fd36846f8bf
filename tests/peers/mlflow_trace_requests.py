"""The requests about webhooks, data sets and traces that both servers get.

As in `mlflow_requests`: `{name}` stands for an id that the answer to the request of that name gave. An endpoint
that begins with "/" is a whole path; with the bytes of an export go its headers.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

__all__ = ["TRACE_LEAKS", "TRACE_REQUESTS", "TRACE_STRICTER"]

Request = tuple[str, str, str, Any]
TRACE_STRICTER = frozenset({"search timestamp_ms = 'x'"})
"""What is refused here where the other server takes it, or takes a part of it."""
TRACE_LEAKS = frozenset(
    {
        "trace empty",
        "trace no place",
        "w wrong entity",
        "w wrong action",
        "w with words",
        "w test silent",
        "w test event",
        "spans no experiment",
        "spans twice in json",
    }
)
"""Where the other server's message is that of its database, its framework or its code: only the status is compared."""
V3 = "/api/3.0/mlflow/"
HOOK = "https://93.184.216.34/hook"
T = 1_700_000_000_000
NS = T * 1_000_000
CREATED = {"entity": "REGISTERED_MODEL", "action": "CREATED"}
ALIASED = {"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}


def _webhooks() -> Iterator[Request]:
    said = {"name": "hook", "url": HOOK, "events": [CREATED]}
    yield "w1", "POST", "webhooks", said
    yield (
        "w2",
        "POST",
        "webhooks",
        {**said, "description": "tells", "secret": "s", "status": "DISABLED", "events": [ALIASED]},
    )
    yield "w3", "POST", "webhooks", {**said, "events": [{"entity": 4, "action": "DELETED"}, CREATED], "status": 1}
    for place, change in enumerate(
        (
            {"name": ""},
            {"name": None},
            {"name": 5},
            {"name": "-no"},
            {"name": "a" * 64},
            {"name": "a b"},
            {"name": "ok", "url": ""},
            {"url": "   "},
            {"url": 7},
            {"url": "http://93.184.216.34/"},
            {"url": "ftp://93.184.216.34/"},
            {"url": "hook"},
            {"url": "https://"},
            {"url": "https://127.0.0.1/"},
            {"url": "https://10.1.2.3/"},
            {"url": "https://[::1]/"},
            {"url": "https://169.254.169.254/latest"},
            {"events": []},
            {"events": "x"},
            {"events": [{"entity": "REGISTERED_MODEL", "action": "DELETED"}]},
            {"events": [{"entity": "PROMPT_TAG", "action": "CREATED"}]},
            {"description": 5},
            {"secret": 5},
            {"status": "x", "name": "odd-status"},
        )
    ):
        yield f"w bad {place}", "POST", "webhooks", {**said, **change}
    yield "w wrong entity", "POST", "webhooks", {**said, "events": [{"action": "CREATED"}]}
    yield "w wrong action", "POST", "webhooks", {**said, "events": [{"entity": "PROMPT"}]}
    yield "w empty", "POST", "webhooks", {}
    yield "w get 1", "GET", "webhooks/{w1}", None
    yield "w get 2", "GET", "webhooks/{w2}", None
    yield "w get nobody", "GET", "webhooks/nobody", None
    for query in ("", "?max_results=2", "?max_results=0", "?max_results=-1", "?max_results=1001", "?max_results=x"):
        yield f"w list {query}", "GET", f"webhooks{query}", None
    token = base64.b64encode(b'{"offset": 2}').decode()
    yield "w list second", "GET", f"webhooks?max_results=2&page_token={token}", None
    yield "w list wrong token", "GET", "webhooks?page_token=x", None
    for place, change in enumerate(
        (
            {},
            {"name": "renamed"},
            {"description": "new"},
            {"description": ""},
            {"url": f"{HOOK}/2"},
            {"url": "https://localhost/"},
            {"events": [ALIASED, CREATED]},
            {"events": []},
            {"secret": "other"},
            {"secret": ""},
            {"status": "DISABLED"},
            {"status": "ACTIVE"},
            {"name": "no way!"},
            {"name": 5},
        )
    ):
        yield f"w change {place}", "PATCH", "webhooks/{w1}", change
    yield "w change nobody", "PATCH", "webhooks/nobody", {"name": "x"}
    yield "w test nobody", "POST", "webhooks/nobody/test", {}
    yield "w delete", "DELETE", "webhooks/{w3}", None
    yield "w delete again", "DELETE", "webhooks/{w3}", None
    yield "w get deleted", "GET", "webhooks/{w3}", None
    yield "w change deleted", "PATCH", "webhooks/{w3}", {"name": "x"}
    yield "w list left", "GET", "webhooks?max_results=2", None


def _datasets() -> Iterator[Request]:
    yield "e1", "POST", "experiments/create", {"name": "traced"}
    yield "e2", "POST", "experiments/create", {"name": "other"}
    yield "r1", "POST", "runs/create", {"experiment_id": "{e1}", "start_time": T, "run_name": "one"}
    rows = {"name": "rows", "digest": "d1", "source_type": "local", "source": "{}"}
    used = [{"key": "mlflow.data.context", "value": "training"}]
    given = [{"dataset": rows, "tags": used}, {"dataset": {**rows, "name": "more"}}]
    yield "d inputs", "POST", "runs/log-inputs", {"run_id": "{r1}", "datasets": given}
    path = "/ajax-api/2.0/mlflow/experiments/search-datasets"
    for place, ids in enumerate((["{e1}"], ["{e1}", "{e2}"], ["{e2}"], [], ["999"], ["{e1}"] * 21)):
        yield f"d search {place}", "POST", path, {"experiment_ids": ids}
    yield "d search nothing", "POST", path, {}


def _info(number: int, **more: Any) -> dict[str, Any]:
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "{e1}"}}
    told = {
        "trace_id": f"tr-{number:032x}",
        "trace_location": place,
        "request_time": f"2023-11-14T22:13:2{number % 10}.{number:03}Z",
        "execution_duration": f"{number}.5s",
        "state": "OK",
        "trace_metadata": {"m": str(number), "mlflow.sourceRun": "{r1}"} if number % 2 else {"m": str(number)},
        "tags": {"mlflow.traceName": f"name {number}", "team": "red" if number % 3 else "blue"},
        "request_preview": f"ask {number}",
        "response_preview": f"answer {number}",
    }
    return {key: value for key, value in {**told, **more}.items() if value is not None}


def _start(number: int, **more: Any) -> dict[str, Any]:
    return {"trace": {"trace_info": _info(number, **more)}}


def _starts() -> Iterator[Request]:
    for number in range(1, 8):
        yield f"trace {number}", "POST", f"{V3}traces", _start(number)
    yield "trace error", "POST", f"{V3}traces", _start(8, state="ERROR", execution_duration=None, response_preview=None)
    yield "trace open", "POST", f"{V3}traces", _start(9, state="IN_PROGRESS", client_request_id="client 9")
    yield (
        "trace whole second",
        "POST",
        f"{V3}traces",
        _start(10, request_time="2023-11-14T22:13:20Z", execution_duration="2s"),
    )
    yield "trace elsewhere", "POST", f"{V3}traces", _start(11, request_time="2023-11-15T00:13:20.123456789+01:00")
    yield "trace again", "POST", f"{V3}traces", _start(1, tags={"team": "green"}, request_preview="anew")
    yield (
        "trace no experiment",
        "POST",
        f"{V3}traces",
        _start(21, trace_location={"type": 1, "mlflow_experiment": {"experiment_id": "999"}}),
    )
    yield "trace no place", "POST", f"{V3}traces", _start(22, trace_location=None)
    yield "trace empty", "POST", f"{V3}traces", {"trace": {}}
    yield "trace nothing", "POST", f"{V3}traces", {}
    judged = {
        "assessment_id": "a-given",
        "assessment_name": "good",
        "feedback": {"value": 5},
        "source": {"source_type": "HUMAN", "source_id": "ann"},
    }
    yield (
        "trace judged",
        "POST",
        f"{V3}traces",
        _start(
            12,
            tags={},
            trace_metadata={},
            assessments=[{**judged, "create_time": "2023-11-14T22:13:20Z", "last_update_time": "2023-11-14T22:13:20Z"}],
        ),
    )
    for number in (1, 8, 9, 10, 11):
        yield f"trace info {number}", "GET", f"{V3}traces/tr-{number:032x}", None
    yield "trace info nobody", "GET", f"{V3}traces/nobody", None


def _any(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any(each) for each in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": _attributes(value)}}
    return {}


def _attributes(given: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _any(value)} for key, value in given.items()]


def _span(trace: int, span: int, parent: int = 0, **more: Any) -> dict[str, Any]:
    found = {
        "traceId": f"{trace:032x}",
        "spanId": f"{span:016x}",
        "name": f"span {span}",
        "kind": 1,
        "startTimeUnixNano": str(NS + span * 1_000_000 + 1),
        "endTimeUnixNano": str(NS + span * 3_000_000 + 7),
        "attributes": _attributes({"mlflow.spanType": "LLM", "k": span}),
        "status": {"code": 1},
    }
    if parent:
        found["parentSpanId"] = f"{parent:016x}"
    return {**found, **more}


def _export(spans: list[dict[str, Any]], resource: dict[str, Any] | None = None) -> bytes:
    scope = {"scope": {"name": "s"}, "spans": spans}
    told = {"resource": {"attributes": _attributes(resource or {})}, "scopeSpans": [scope]}
    return json.dumps({"resourceSpans": [told]}).encode()


def _spans() -> Iterator[Request]:
    ours = {"x-mlflow-experiment-id": "{e1}"}
    path = "/v1/traces"
    values = {
        "s": "hällo",
        "i": -5,
        "f": 1.5,
        "b": True,
        "n": None,
        "l": [1, "a", [2.5]],
        "d": {"x": {"y": []}},
        "e": {},
    }
    events = [{"timeUnixNano": str(NS + 5), "name": "ev", "attributes": _attributes({"z": 1})}, {"name": "bare"}]
    links = [{"traceId": f"{1:032x}", "spanId": f"{9:016x}", "attributes": _attributes({"why": "because"})}]
    asked = {"mlflow.spanInputs": {"q": "what?"}, "mlflow.spanOutputs": "that", "mlflow.traceTag.kind": "tagged"}
    many = [
        _span(2, 2, 1, attributes=_attributes(values), events=events, links=links),
        _span(2, 1, attributes=_attributes(asked)),
        _span(2, 3, 1, status={"code": 2, "message": "it broke"}),
        _span(2, 4, 1, status={}, endTimeUnixNano="0"),
        _span(2, 5, 2, status={"code": "STATUS_CODE_OK", "message": "not told"}),
    ]
    yield (
        "spans of a known trace",
        "POST",
        path,
        (ours, _export(many, {"service.name": "shop", "telemetry.sdk.name": "x"})),
    )
    yield "spans of a new trace", "POST", path, (ours, _export([_span(50, 1, attributes=_attributes(asked))]))
    yield "spans of two traces", "POST", path, (ours, _export([_span(51, 1), _span(52, 2, 1), _span(51, 2, 1)]))
    yield "spans root later", "POST", path, (ours, _export([_span(52, 1, status={"code": 2})]))
    yield "spans of an error", "POST", path, (ours, _export([_span(9, 1, status={"code": 2, "message": "no"})]))
    yield "spans with a run", "POST", path, ({**ours, "x-mlflow-run-id": "{r1}"}, _export([_span(53, 1)]))
    yield "spans gzip", "POST", path, ({**ours, "content-encoding": "gzip"}, gzip.compress(_export([_span(54, 1)])))
    yield (
        "spans deflate",
        "POST",
        path,
        ({**ours, "content-encoding": "deflate"}, zlib.compress(_export([_span(55, 1)]))),
    )
    yield "spans not gzip", "POST", path, ({**ours, "content-encoding": "gzip"}, b"plain")
    yield "spans no json", "POST", path, (ours, b"{")
    yield "spans nothing", "POST", path, (ours, b"{}")
    yield "spans wrong id", "POST", path, (ours, _export([_span(2, 6, traceId="xyz")]))
    yield "spans no id", "POST", path, (ours, _export([_span(2, 6, traceId="")]))
    yield "spans no span id", "POST", path, (ours, _export([_span(2, 6, spanId="")]))
    yield "spans text", "POST", path, ({**ours, "content-type": "text/plain"}, b"x")
    yield "spans no experiment", "POST", path, ({}, _export([_span(60, 1)]))
    yield "spans of nobody", "POST", path, ({"x-mlflow-experiment-id": "999"}, _export([_span(61, 1)]))
    proto = {**ours, "content-type": "application/x-protobuf"}
    yield "spans protobuf nothing", "POST", path, (proto, b"")
    yield "spans protobuf wrong", "POST", path, (proto, b"\xff\xff\xff")
    for number in (2, 50, 51, 52, 9, 53, 54, 55):
        yield f"spans info {number}", "GET", f"{V3}traces/tr-{number:032x}", None
        yield f"spans whole {number}", "GET", f"{V3}traces/get?trace_id=tr-{number:032x}", None
    yield "spans whole nobody", "GET", f"{V3}traces/get?trace_id=nobody", None
    yield "spans whole unnamed", "GET", f"{V3}traces/get", None
    ids = f"trace_ids=tr-{50:032x}&trace_ids=tr-{2:032x}&trace_ids=nobody&trace_ids=tr-{50:032x}"
    yield "spans many", "GET", f"{V3}traces/batchGet?{ids}", None
    yield "spans many of none", "GET", f"{V3}traces/batchGet", None
    yield "infos many", "POST", f"{V3}traces/batchGetInfos", {"trace_ids": [f"tr-{3:032x}", f"tr-{2:032x}", "nobody"]}
    yield (
        "infos many within",
        "POST",
        f"{V3}traces/batchGetInfos",
        {"trace_ids": [f"tr-{3:032x}"], "experiment_ids": ["{e2}"]},
    )
    yield "infos of none", "POST", f"{V3}traces/batchGetInfos", {"trace_ids": []}


def _tags() -> Iterator[Request]:
    for prefix in ("", V3):
        path = f"{prefix}traces/tr-{3:032x}/tags"
        for place, said in enumerate(
            (
                {"key": "team", "value": "blue"},
                {"key": "long", "value": "v" * 5000},
                {"key": "k" * 251, "value": "v"},
                {"key": "what?", "value": "v"},
                {"key": "", "value": "v"},
                {"value": "v"},
                {"key": "only"},
                {"key": 5, "value": "v"},
                {"key": "mlflow.trace.spansLocation", "value": "x"},
                {"key": "mlflow.traceName", "value": "renamed"},
            )
        ):
            yield f"tag {prefix} {place}", "PATCH", path, said
        yield f"untag {prefix}", "DELETE", path, {"key": "long"}
        yield f"untag again {prefix}", "DELETE", path, {"key": "long"}
        yield f"untag nothing {prefix}", "DELETE", path, {}
        yield f"untag nobody {prefix}", "DELETE", f"{prefix}traces/nobody/tags", {"key": "x"}
    yield "tagged", "GET", f"{V3}traces/tr-{3:032x}", None


def _links() -> Iterator[Request]:
    yield "link", "POST", "traces/link-to-run", {"trace_ids": [f"tr-{4:032x}"], "run_id": "{r1}"}
    yield "link again", "POST", "traces/link-to-run", {"trace_ids": [f"tr-{4:032x}"], "run_id": "{r1}"}
    yield "link too many", "POST", "traces/link-to-run", {"trace_ids": ["x"] * 101, "run_id": "{r1}"}
    yield "link nothing", "POST", "traces/link-to-run", {}
    yield "link no run", "POST", "traces/link-to-run", {"trace_ids": ["x"]}
    yield "link texts", "POST", "traces/link-to-run", {"trace_ids": [5], "run_id": "{r1}"}


FILTERS = (
    "",
    "status = 'OK'",
    "status != 'OK'",
    "attributes.status IN ('ERROR', 'IN_PROGRESS')",
    "trace.status = 'ERROR'",
    "timestamp_ms > 1700000003000",
    "timestamp <= 1700000003003",
    "execution_time_ms >= 3500 AND execution_time < 6000",
    "end_time_ms > 1700000005000",
    "request_id = 'tr-00000000000000000000000000000002'",
    "request_id IN ('tr-00000000000000000000000000000002', 'x')",
    "client_request_id = 'client 9'",
    "name = 'name 4'",
    "name LIKE 'name%'",
    "tags.team = 'red'",
    "tags.team != 'red'",
    "tag.team ILIKE 'R%'",
    "tags.team IS NULL",
    "tags.nobody IS NOT NULL",
    "metadata.m = '5'",
    "request_metadata.m LIKE '%'",
    "metadata.nobody IS NULL",
    "run_id = '{r1}'",
    "tags.team = 'red' AND status = 'OK' AND metadata.m = '5'",
    "span.name = 'span 2'",
    "span.name LIKE 'span%'",
    "span.type = 'LLM'",
    "span.status = 'ERROR'",
    "feedback.good = '5'",
    "feedback.nobody = '5'",
    "status > 'OK'",
    "timestamp_ms = 'x'",
    "nobody = 'x'",
    "nobody.x = 'x'",
    "span.nobody = 'x'",
    "status = OK",
    "status",
    "tags.team = 5",
    "   ",
)


def _searches() -> Iterator[Request]:
    here = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "{e1}"}}]
    path = f"{V3}traces/search"
    for text in FILTERS:
        yield f"search {text}", "POST", path, {"locations": here, "filter": text}
    for order in (
        ["timestamp_ms"],
        ["timestamp DESC"],
        ["execution_time_ms ASC"],
        ["status", "timestamp_ms DESC"],
        ["name DESC"],
        ["tags.team", "request_id"],
        ["metadata.m DESC"],
        ["request_id DESC"],
        ["nobody"],
        ["status", "status"],
        [""],
        ["timestamp_ms sideways"],
    ):
        yield f"search by {order}", "POST", path, {"locations": here, "order_by": order}
    token = base64.b64encode(b'{"offset": 3}').decode()
    for place, more in enumerate(
        ({"max_results": 3}, {"max_results": 3, "page_token": token}, {"max_results": 501}, {"max_results": 0})
    ):
        yield f"search page {place}", "POST", path, {"locations": here, **more}
    there = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "{e2}"}}]
    yield "search elsewhere", "POST", path, {"locations": there}
    yield "search nowhere", "POST", path, {"locations": []}
    yield "search nothing", "POST", path, {}


def _judgements() -> Iterator[Request]:
    path = f"{V3}traces/tr-{5:032x}/assessments"
    source = {"source_type": "HUMAN", "source_id": "ann"}
    at = {"create_time": "2023-11-14T22:13:20Z", "last_update_time": "2023-11-14T22:13:20.5Z"}
    said = {"assessment_name": "right", "source": source, **at}
    yield (
        "a1",
        "POST",
        path,
        {"assessment": {**said, "feedback": {"value": True}, "rationale": "because", "metadata": {"k": "v"}}},
    )
    yield (
        "a2",
        "POST",
        path,
        {"assessment": {**said, "assessment_name": "wanted", "expectation": {"value": {"x": [1, "a", None]}}}},
    )
    yield (
        "a3",
        "POST",
        path,
        {"assessment": {**said, "assessment_name": "number", "feedback": {"value": 0.25}, "span_id": "s1"}},
    )
    yield "a4", "POST", path, {"assessment": {**said, "feedback": {"value": False}, "overrides": "{a1}"}}
    yield "a no kind", "POST", path, {"assessment": said}
    yield "a nothing", "POST", path, {}
    for name in ("a1", "a2", "a3", "a4"):
        yield f"a get {name}", "GET", f"{path}/{{{name}}}", None
    yield "a get nobody", "GET", f"{path}/nobody", None
    yield "a get of nobody", "GET", f"{V3}traces/nobody/assessments/x", None
    changed = {
        "feedback": {"value": "maybe"},
        "rationale": "on second thoughts",
        "metadata": {"more": "1"},
        "assessment_name": "now",
    }
    yield (
        "a change",
        "PATCH",
        f"{path}/{{a1}}",
        {"assessment": changed, "update_mask": "feedback,rationale,metadata,assessmentName"},
    )
    yield (
        "a change other kind",
        "PATCH",
        f"{path}/{{a1}}",
        {"assessment": {"expectation": {"value": 1}}, "update_mask": "expectation"},
    )
    yield (
        "a change expected",
        "PATCH",
        f"{path}/{{a2}}",
        {"assessment": {"expectation": {"value": 1}}, "update_mask": "expectation"},
    )
    yield "a change nobody", "PATCH", f"{path}/nobody", {"assessment": changed, "update_mask": "rationale"}
    yield "a change nothing", "PATCH", f"{path}/{{a1}}", {}
    yield "a trace", "GET", f"{V3}traces/tr-{5:032x}", None
    yield "a delete", "DELETE", f"{path}/{{a4}}", None
    yield "a delete again", "DELETE", f"{path}/{{a4}}", None
    yield "a trace after", "GET", f"{V3}traces/tr-{5:032x}", None


def _deletes() -> Iterator[Request]:
    path = f"{V3}traces/delete-traces"
    for place, said in enumerate(
        (
            {},
            {"experiment_id": "{e1}"},
            {"experiment_id": "{e1}", "max_timestamp_millis": 5, "request_ids": ["x"]},
            {"experiment_id": "{e1}", "max_traces": 1, "request_ids": ["x"]},
            {"experiment_id": "{e1}", "max_timestamp_millis": 5, "max_traces": 0},
            {"experiment_id": "{e1}", "max_timestamp_millis": 5},
            {"experiment_id": "x", "max_timestamp_millis": 5},
            {"experiment_id": "{e2}", "request_ids": [f"tr-{1:032x}"]},
            {"experiment_id": "{e1}", "request_ids": [f"tr-{1:032x}", "nobody"]},
            {"experiment_id": "{e1}", "max_timestamp_millis": T + 4000, "max_traces": 2},
        )
    ):
        yield f"delete {place}", "POST", path, said
    yield "delete by 2.0", "POST", "traces/delete-traces", {"experiment_id": "{e1}", "request_ids": [f"tr-{6:032x}"]}
    yield "deleted", "GET", f"{V3}traces/tr-{1:032x}", None
    here = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "{e1}"}}]
    yield "left", "POST", f"{V3}traces/search", {"locations": here}


TRACE_REQUESTS: list[Request] = [
    *_webhooks(),
    *_datasets(),
    *_starts(),
    *_spans(),
    *_tags(),
    *_links(),
    *_searches(),
    *_judgements(),
    *_deletes(),
]
