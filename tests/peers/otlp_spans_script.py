"""Random exports of spans by OpenTelemetry's own messages, in protobuf and in JSON; run in MLflow's environment."""

from __future__ import annotations

import base64
import json
import random
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

chance = random.Random(int(sys.argv[1]))
TEXTS = ["", "a", "hällo wörld", "日本", "x" * 300]


def fill(value: object, depth: int = 0) -> None:
    """Set an AnyValue to something."""
    kind = chance.randrange(8 if depth < 3 else 5)
    if kind == 0:
        value.string_value = chance.choice(TEXTS)
    elif kind == 1:
        value.bool_value = chance.random() < 0.5
    elif kind == 2:
        value.int_value = chance.choice([0, 1, -1, 127, 128, -(2**63), 2**63 - 1, chance.getrandbits(40)])
    elif kind == 3:
        value.double_value = chance.choice([0.0, -0.5, 1e300, 5e-324, chance.random()])
    elif kind == 4:
        value.bytes_value = chance.randbytes(chance.randrange(9))
    elif kind == 5:
        value.array_value.SetInParent()
        for _ in range(chance.randrange(3)):
            fill(value.array_value.values.add(), depth + 1)
    elif kind == 6:
        value.kvlist_value.SetInParent()
        pairs(value.kvlist_value.values, depth + 1)


def pairs(found: object, depth: int = 0) -> None:
    """Add a few attributes with different keys."""
    for number in range(chance.randrange(4)):
        pair = found.add()
        pair.key = f"k{number}{chance.choice(TEXTS)}"
        fill(pair.value, depth)


def export() -> ExportTraceServiceRequest:
    """An export of a few spans."""
    made = ExportTraceServiceRequest()
    for _ in range(chance.randrange(1, 3)):
        resource = made.resource_spans.add()
        pairs(resource.resource.attributes)
        for _ in range(chance.randrange(1, 4)):
            span = resource.scope_spans.add().spans.add()
            span.trace_id, span.span_id = chance.randbytes(16), chance.randbytes(8)
            span.parent_span_id = chance.choice([b"", chance.randbytes(8)])
            span.name, span.trace_state, span.flags = chance.choice(TEXTS), "s", chance.getrandbits(31)
            span.kind = chance.randrange(6)
            span.start_time_unix_nano, span.end_time_unix_nano = chance.getrandbits(63), chance.getrandbits(63)
            span.dropped_attributes_count = chance.getrandbits(20)
            pairs(span.attributes)
            for _ in range(chance.randrange(3)):
                event = span.events.add(time_unix_nano=chance.getrandbits(62) + 1, name=chance.choice(TEXTS))
                pairs(event.attributes)
            for _ in range(chance.randrange(2)):
                link = span.links.add(trace_id=chance.randbytes(16), span_id=chance.randbytes(8))
                pairs(link.attributes)
            span.status.code, span.status.message = chance.randrange(3), chance.choice(TEXTS)
    return made


def with_hex(value: object, key: str = "") -> object:
    """OTLP's JSON has its ids in hexadecimal, unlike protobuf's."""
    if isinstance(value, dict):
        return {name: with_hex(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [with_hex(item) for item in value]
    is_id = key in ("traceId", "spanId", "parentSpanId")
    return base64.b64decode(value).hex() if is_id else value


made = [export() for _ in range(300)]
print(
    json.dumps(
        {
            "exports": [
                [base64.b64encode(each.SerializeToString()).decode(), json.dumps(with_hex(MessageToDict(each)))]
                for each in made
            ]
        }
    )
)
