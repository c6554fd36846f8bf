"""Whatever comes to a path of the OpenAPI document is answered as the document says, never as the server's failure.

Schemathesis makes requests that fit the document and requests that do not, for every operation; texts are often
names of things that are there, so that verbs get beyond looking them up. The seed is fixed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from noria.core.schema import Column, Signature
from noria.faces import answering
from noria.faces.http.app import App
from noria.faces.http.feedback import Feedback
from noria.faces.http.openapi import PATH
from noria.faces.verbs import INTEGER_MAX
from noria.governance.tokens import create
from noria.packaging.rows import RowRefused
from noria.serving.facts import Arm
from noria.serving.routes import Route, Routes, Served
from noria.serving.runtime import Runtime
from noria.testing.workspace import open_memory

PARTS = 6
"""The operations are asked in so many tests, so that none takes long."""
EACH = 7
"""Requests of a kind for each operation."""
LEAST = 1500
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
WORDS = ["m", "rows", "rows.csv", "rows@1", "rows:1", "model/m", "m:1", "1", "champion", "local", "id", "x", "text"]
WORDS += ["1d", "P1D", "2026-01-01", "2026-01-01T00:00:00Z", "-1", "", ".", "..", "new", "a/b", "admin", "viewer", "%"]
TRACES = ("Traceback", 'File "', ".py:", '", line ')


class Doubles:
    """A model double: whether the whole number x is even."""

    task = "binary"
    labels: tuple[Any, ...] = ("no", "yes")
    threshold = 0.5
    signature = Signature((Column("x", "int64"),), (Column("score", "float64"),))

    def check(self, row: dict[str, Any]) -> None:
        if type(row.get("x")) is not int:
            raise RowRefused("column 'x' must be a whole number", column="x")

    def predict(self, data: Sequence[dict[str, Any]]) -> npt.NDArray[np.float64]:
        for index, row in enumerate(data):
            try:
                self.check(row)
            except RowRefused as error:
                error.row = index
                raise
        return np.array([0.25 if row["x"] % 2 else 0.75 for row in data])


class Server:
    """The whole application on one loop, with a data set, a model that answers, and an administrator's token."""

    def __init__(self, folder: Path) -> None:
        self.ws = open_memory(root=folder)
        (folder / "rows.csv").write_text("id,x\n1,2\n2,3\n", encoding="utf-8")
        self._headers = {"authorization": f"Bearer {create(self.ws, 'fuzz', role='admin').secret}"}
        self._runtime = Runtime(folder / "state", now_us=lambda: time.time_ns() // 1000)
        served = {1: Served(1, "c", "b", Doubles())}
        arm = Arm(name="stable", release=1, content="", weight=1.0)
        self._runtime.swap(Routes({"m": Route("m", 1, "seed", (arm,), served)}))
        self._feedback = Feedback(self._runtime, folder / "state", now_us=lambda: 0, max_body_bytes=1 << 20)
        self._loop = asyncio.Runner()
        self._runtime.start(self._loop.get_loop())
        app = App(self.ws, self._runtime, self._feedback, others=answering.others)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None)
        added = self.ask("POST", "/api/v1/data/add", b'{"path": "rows.csv"}')
        assert added.status_code == 200, added.text

    def ask(self, method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None) -> httpx.Response:
        """The answer to one request."""
        given = {"content-type": "application/json", **(headers or {}), **self._headers}
        return self._loop.run(self._client.request(method, url, content=body, headers=given))

    def send(self, case: schemathesis.Case) -> httpx.Response:
        """The answer to what schemathesis made."""
        made = requests.Request(**case.as_transport_kwargs(base_url="http://localhost")).prepare()
        body = made.body if isinstance(made.body, bytes) else (made.body or "").encode()
        assert made.method is not None
        assert made.url is not None
        skipped = ("content-length", "authorization")
        headers = {name: value for name, value in made.headers.items() if name.lower() not in skipped}
        return self.ask(made.method, made.url, body, headers)

    def close(self) -> None:
        """End what was begun."""
        self._loop.run(self._client.aclose())
        self._runtime.stop()
        self._feedback.close()
        self._loop.close()
        self.ws.ledger.database.close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)  # where the serving process stands too
    made = Server(tmp_path)
    yield made
    made.close()


@st.composite
def cases(draw: st.DrawFn, operation: Any, mode: GenerationMode) -> schemathesis.Case:
    """A request of one operation; of those that fit, texts and models are often known ones."""
    case: schemathesis.Case = draw(operation.as_strategy(generation_mode=mode))
    if mode is GenerationMode.POSITIVE:
        for holder in (case.body, case.path_parameters):
            for name in holder if isinstance(holder, dict) else ():
                if name == "version":
                    holder[name] = draw(st.sampled_from(["1", holder[name]]))
                elif isinstance(holder[name], str) and draw(st.booleans()):
                    holder[name] = draw(st.sampled_from(WORDS))
                elif type(holder[name]) is int and draw(st.booleans()):
                    holder[name] = draw(st.sampled_from([0, 1, 2, INTEGER_MAX - 1, INTEGER_MAX]))
    return case


def _wrong(case: schemathesis.Case, answer: httpx.Response) -> str:
    """What an answer breaks of the document; empty if nothing."""
    if answer.status_code >= 400 and any(each in answer.text for each in TRACES):
        return f"a trace: {answer.text[:300]}"
    try:
        case.validate_response(answer, checks=CHECKS)
    except BaseExceptionGroup as error:
        return "; ".join(str(each)[:400] for each in error.exceptions)
    except AssertionError as error:
        return str(error)[:400]
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_operation_answers_as_the_document_says(server: Server, part: int) -> None:
    schema = schemathesis.openapi.from_dict(server.ask("GET", PATH).json())
    operations = [found.ok() for found in schema.get_all_operations()][part::PARTS]
    wrong: dict[str, str] = {}
    counts: Counter[int] = Counter()
    for operation in operations:
        for mode in _modes(operation):
            _explore(server, operation, mode, counts, wrong)
    assert wrong == {}
    assert counts.total() >= LEAST / PARTS, counts
    assert counts[200] > 0, counts
    assert counts[401] == 0, "the token was good to the end"


def _explore(server: Server, operation: Any, mode: GenerationMode, counts: Counter[int], wrong: dict[str, str]) -> None:
    """Ask one operation; statuses are counted, and what an answer breaks is put into `wrong`."""

    @seed(20261122)
    @settings(
        max_examples=EACH,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(operation, mode))
    def look(case: schemathesis.Case) -> None:
        answer = server.send(case)
        counts[answer.status_code] += 1
        told = _wrong(case, answer)
        if told:
            wrong.setdefault(f"{operation.label} {str(case.body)[:200]} {answer.status_code}", told)

    look()


def _modes(operation: Any) -> list[GenerationMode]:
    """What can be made of an operation: one that takes nothing has no request that does not fit."""
    takes = operation.definition.raw.keys() & {"requestBody", "parameters"}
    return [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if takes else [GenerationMode.POSITIVE]


def test_the_parts_ask_every_operation(server: Server) -> None:
    document = server.ask("GET", PATH).json()
    schema = schemathesis.openapi.from_dict(document)
    labels = [found.ok().label for found in schema.get_all_operations()]
    assert sorted(labels) == sorted(
        f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods
    )
