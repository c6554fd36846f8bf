"""Spans that OpenTelemetry's own messages wrote are read the same from protobuf and from JSON, and whole."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from mlflow_servers import client

from noria.faces.protocols.mlflow import otlp

pytestmark = pytest.mark.peers
SCRIPT = Path(__file__).with_name("otlp_spans_script.py")


@pytest.mark.parametrize("seed", [0, 1])
def test_protobuf_and_json_are_read_alike(seed: int, tmp_path: Path) -> None:
    exports = client(SCRIPT, "", tmp_path, str(seed))["exports"]
    spans = 0
    for encoded, text in exports:
        body = base64.b64decode(encoded)
        read = otlp.of_protobuf(body)
        assert read == otlp.of_json(text.encode())
        told = [span for each in json.loads(text)["resourceSpans"] for span in _spans(each)]
        own = [span for each in read for span in each.spans]
        assert [base64.b64decode(each["trace_id"]).hex() for each in own] == [each["traceId"] for each in told]
        assert [each["name"] for each in own] == [each.get("name", "") for each in told]
        assert [len(each["attributes"]) - 1 for each in own] == [len(each.get("attributes", [])) for each in told]
        assert [len(each.get("events", [])) for each in own] == [len(each.get("events", [])) for each in told]
        spans += len(own)
        for size in range(1, len(body), 97):  # what was cut says so, or is read as far as whole fields go
            try:
                otlp.of_protobuf(body[:size])
            except otlp.Malformed:
                continue
    assert spans > 500


def _spans(resource: dict[str, Any]) -> list[dict[str, Any]]:
    return [span for scope in resource["scopeSpans"] for span in scope["spans"]]
