"""Whatever an MLflow client sends is answered in MLflow's form, never as a failure of the server."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from noria.faces.http.auth import Guard
from noria.faces.http.guarded import behind
from noria.faces.protocols.mlflow import routes, traces
from noria.faces.protocols.mlflow.trace_shapes import ASSESSMENT
from noria.testing import open_memory

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["{run}", "0", "1", "nobody", "NaN", "Infinity", "\x00", "\ud800", "a" * 300, "FINISHED", "ALL"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
WORDS = ["metrics.a", "params.`b c`", "tags.", "status", "start_time", ">", "=", "LIKE", "IN", "IS NULL", "and"]
WORDS += ["version_number", "run_id", "source_path", "attributes.name", "creation_time", "NOT IN", "tags.`x`"]
WORDS += ["span.name", "feedback.x", "trace.text", "span.attributes.k", "timestamp_ms", "metadata.m", "run_id"]
WORDS += ["or", "'x'", "5", "1e999", "('a', 'b')", "(", ")", "'", '"', "`", ";", "name", "end_time", "-", "%", "\\"]
FILTERS = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
WORD = st.sampled_from(["PROMPT", "CREATED", "MODEL_VERSION_TAG", "SET", "DELETED", "else"])
HOSTS = ["93.184.216.34", "127.0.0.1", "[::1]", "localhost", "[", "0x7f.1", "a" * 300, "\u0131", "1.2.3.4:99999", ""]
URLS = st.builds(
    "{}{}{}".format, st.sampled_from(["https://", "http://", "//", "", "https:"]), st.sampled_from(HOSTS), FILTERS
)
ALL = {
    (version, method, endpoint): spec
    for version, table in (("2.0", routes.ENDPOINTS), ("3.0", routes.ENDPOINTS_3))
    for (method, endpoint), (spec, _) in table.items()
    if not endpoint.endswith("/test")  # calls out
}
PARTS = ["models:", "runs:", "s3:", "file:", "mlflow-artifacts:", "http:", "/", "//", "known", "@", "1", "latest"]
PARTS += ["{run}", "{model}", "artifacts", "..", "%2e", "%252e", "[", "\\", " ", "champion", "0", "?", "#", "m-1", "ü"]
SOURCES = st.lists(st.sampled_from(PARTS), max_size=7).map("".join)

SOURCED = st.fixed_dictionaries({"source_type": st.sampled_from(["TRACE", "code", "x", 5]), "source_data": VALUES})
RECORDS = VALUES | st.fixed_dictionaries(
    {"inputs": st.dictionaries(st.text(max_size=3), VALUES, max_size=2) | VALUES},
    optional={"expectations": VALUES, "tags": VALUES, "outputs": VALUES, "source": SOURCED | VALUES},
)

TRACE = f"tr-{0xAB:032x}"


class Wire:
    """The routes over a workspace in memory, and a run to log to."""

    def __init__(self, folder: Path) -> None:
        ws = open_memory(root=folder)
        app = behind(Guard(ws), Starlette(routes=routes.routes(ws)))
        self._transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        made = self.send("POST", "runs/create", b'{"experiment_id": "0", "start_time": 5, "run_name": "r"}')
        self.run = made.json()["run"]["info"]["run_id"]
        made = self.send("POST", "logged-models", b'{"experiment_id": "0", "name": "l"}')
        self.model = made.json()["model"]["info"]["model_id"]
        hook = {"name": "h", "url": "https://93.184.216.34/", "events": [{"entity": "PROMPT", "action": "CREATED"}]}
        made = self.send("POST", "webhooks", json.dumps({**hook, "status": "DISABLED"}).encode())
        self.hook = made.json()["webhook"]["webhook_id"]
        self.spans(b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "ab", "spanId": "01"}]}]}]}')
        judged = {"assessment": {"assessment_name": "j", "feedback": {"value": 1}}}
        made = self.send("POST", f"traces/{TRACE}/assessments", json.dumps(judged).encode(), version="3.0")
        self.judged = made.json()["assessment"]["assessment_id"]
        self.evalset = "none"
        self.register()

    def register(self) -> None:
        """A registered model with two versions, and an evaluation data set, anew if a request took them away."""
        if self.send("GET", f"datasets/{self.evalset}", version="3.0").status_code == 404:
            made = self.send("POST", "datasets/create", b'{"name": "asked"}', version="3.0")
            self.evalset = made.json()["dataset"]["dataset_id"]
        if self.send("POST", "registered-models/create", b'{"name": "known"}').status_code == 200:
            for _ in range(2):
                self.send("POST", "model-versions/create", b'{"name": "known", "source": "s3://bucket/model"}')

    def spans(self, body: bytes, kind: str = "application/json", encoding: str = "identity") -> Any:
        """The answer to an export of spans."""
        headers = {"content-type": kind, "content-encoding": encoding, "x-mlflow-experiment-id": "0"}
        return self._ask("POST", routes.SPANS, body, None, headers)

    def send(
        self,
        method: str,
        endpoint: str,
        body: bytes | None = None,
        query: dict[str, str] | None = None,
        version: str = "2.0",
    ) -> Any:
        """The answer."""
        headers = {"content-type": "application/json"}
        return self._ask(method, f"/api/{version}/mlflow/{endpoint}", body, query, headers)

    def _ask(
        self, method: str, path: str, body: bytes | None, query: dict[str, str] | None, headers: dict[str, str]
    ) -> Any:

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://localhost") as client:
                return await client.request(method, path, content=body, params=query, headers=headers)

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Wire:
    return Wire(tmp_path_factory.mktemp("wire"))


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, str, Any]:
    """(version, method, endpoint, JSON): known fields with values of any kind."""
    version, method, endpoint = draw(st.sampled_from(sorted(ALL)))
    fields = sorted(ALL[version, method, endpoint].fields)
    given = draw(st.dictionaries(st.sampled_from([*fields, "else"]), VALUES, max_size=len(fields)))
    if "run_id" in fields and draw(st.booleans()):
        given["run_id"] = "{run}"
    if "name" in fields and draw(st.booleans()):
        given.update(name="known", version=draw(st.sampled_from(["1", "2", "99", "-1", "x", "9" * 30])))
    if "source" in fields and draw(st.booleans()):
        given["source"] = draw(SOURCES)
    if "filter" in fields and draw(st.booleans()):
        given.update(filter=draw(FILTERS), experiment_ids=["0"], max_results=5)
    if "order_by" in fields and draw(st.booleans()):
        given.update(order_by=draw(st.lists(FILTERS, max_size=2)), experiment_ids=["0"], max_results=5)
    if "trace" in fields and draw(st.booleans()):
        info = {"trace_id": TRACE, "trace_location": {"mlflow_experiment": {"experiment_id": "0"}}}
        info |= draw(st.dictionaries(st.sampled_from(sorted(traces.INFO.fields)), VALUES, max_size=4))
        if draw(st.booleans()):
            info["assessments"] = [{"feedback": {"value": draw(VALUES)}, "assessment_id": draw(st.text(max_size=3))}]
        given["trace"] = {"trace_info": info}
    if "assessment" in fields and draw(st.booleans()):
        named = st.dictionaries(st.sampled_from(sorted(ASSESSMENT.fields)), VALUES, max_size=4)
        given.update(assessment={"feedback": {"value": draw(VALUES)}, **draw(named)}, update_mask="feedback,rationale")
    if "records" in fields and draw(st.booleans()):
        given["records"] = json.dumps(draw(st.lists(RECORDS, max_size=3)))
    if "tags" in fields and endpoint.startswith("datasets") and draw(st.booleans()):
        given.update(name="a", tags=json.dumps(draw(st.dictionaries(st.text(max_size=3), VALUES, max_size=3))))
    if "filter_string" in fields and draw(st.booleans()):
        given.update(filter_string=draw(FILTERS), max_results=5, order_by=draw(st.lists(FILTERS, max_size=2)))
    if "locations" in fields and draw(st.booleans()):
        given["locations"] = [{"mlflow_experiment": {"experiment_id": "0"}}]
    if "events" in fields and draw(st.booleans()):
        event = st.fixed_dictionaries({"entity": st.integers(-1, 12) | WORD, "action": st.integers(-1, 7) | WORD})
        given.update(name="ok", url=draw(URLS), events=draw(st.lists(event, max_size=2)))
    return version, method, endpoint, given


@example(request=("2.0", "POST", "runs/search", {"max_results": None}))
@example(request=("2.0", "POST", "runs/search", {"max_results": {}}))
@given(request=requests())
@settings(max_examples=850, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_request_is_answered_and_none_is_the_servers_failure(
    wire: Wire, request: tuple[str, str, str, Any]
) -> None:
    version, method, endpoint, given = request
    wire.register()
    text = json.dumps(given).replace("{run}", wire.run).replace("{model}", wire.model)
    for name, value in {
        "model_id": wire.model,
        "tag_key": "t",
        "webhook_id": wire.hook,
        "trace_id": TRACE,
        "request_id": TRACE,
        "assessment_id": wire.judged,
        "dataset_id": wire.evalset,
        "key": "t",
    }.items():
        endpoint = endpoint.replace(f"{{{name}}}", value)
    if method == "GET":
        query = {key: str(value) for key, value in json.loads(text).items()}
        clean = {key: value.encode("utf-8", "replace").decode() for key, value in query.items()}
        answer = wire.send(method, endpoint, query=clean, version=version)
    else:
        answer = wire.send(method, endpoint, text.encode("utf-8", "surrogatepass"), version=version)
    assert answer.status_code < 500, (endpoint, given, answer.text)
    if answer.status_code != 200:
        told = answer.json()
        assert told["error_code"]
        assert "Traceback" not in told["message"]


@given(
    body=st.binary(max_size=60),
    place=st.sampled_from([(version, path) for version, verb, path in sorted(ALL) if verb == "POST"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_answered(wire: Wire, body: bytes, place: tuple[str, str]) -> None:
    version, endpoint = place
    assert wire.send("POST", endpoint, body, version=version).status_code in (200, 400, 404)


SPAN = {
    "traceId": st.sampled_from(["ab", "", "xyz", "0" * 40, 5, None]),
    "spanId": st.sampled_from(["01", "", "zz", "0" * 20, [], None]),
}
NAMES = ["name", "parentSpanId", "startTimeUnixNano", "endTimeUnixNano", "attributes", "events", "links", "status"]


@st.composite
def exports(draw: st.DrawFn) -> bytes:
    """Spans in OTLP's JSON with values of any kind."""
    span = {key: draw(value) for key, value in SPAN.items()}
    span |= draw(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3))
    pair = {"key": "k", "value": {draw(st.sampled_from(["stringValue", "intValue", "kvlistValue"])): draw(VALUES)}}
    span |= {"attributes": [pair]} if draw(st.booleans()) else {}
    whole = {"resourceSpans": [{"resource": draw(VALUES), "scopeSpans": [{"spans": [span]}]}]}
    return json.dumps(whole).encode("utf-8", "surrogatepass")


def _tagged(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + bytes([len(content)]) + content


MESSAGES = st.recursive(
    st.binary(max_size=12),
    lambda inner: st.lists(
        st.builds(_tagged, st.integers(1, 15), inner.filter(lambda content: len(content) < 100)), max_size=3
    ).map(b"".join),
    max_leaves=8,
)


@given(
    body=exports() | st.binary(max_size=60), encoding=st.sampled_from(["identity", "identity", "gzip", "deflate", "x"])
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_spans_in_json_are_answered(wire: Wire, body: bytes, encoding: str) -> None:
    answer = wire.spans(body, encoding=encoding)
    assert answer.status_code in (200, 400, 404, 422), (body, answer.text)
    assert "Traceback" not in answer.text


@given(body=MESSAGES.map(lambda content: _tagged(1, content[:120])) | st.binary(max_size=80))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_spans_in_protobuf_are_answered(wire: Wire, body: bytes) -> None:
    answer = wire.spans(body, "application/x-protobuf")
    assert answer.status_code in (200, 400, 404, 422), (body, answer.text)


def test_a_packed_body_that_is_large_unpacked_is_refused_in_little_memory(wire: Wire) -> None:
    bomb = gzip.compress(b" " * (routes.BODY_MAX + 1))
    assert len(bomb) < 100_000
    assert wire.spans(bomb, encoding="gzip").status_code == 400


def test_a_body_over_the_limit_is_refused_before_it_is_read(wire: Wire) -> None:
    answer = wire.send("POST", "runs/log-batch", b" " * (routes.BODY_MAX + 1))
    assert answer.status_code == 413
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
