"""Spans as OpenTelemetry sends them, in protobuf or JSON, as the JSON values that MLflow's clients read.

The few messages of a trace export are read straight from the wire: a run-time for protobuf would be a dependency
of every install for the sake of one endpoint. Whatever does not fit is refused, and nothing is guessed.

Source: opentelemetry-proto 1.x (trace/v1/trace.proto, common/v1/common.proto), protobuf's encoding
(https://protobuf.dev/programming-guides/encoding/), OTLP/HTTP (https://opentelemetry.io/docs/specs/otlp/);
mlflow/entities/span.py of MLflow 3.17 (what a span becomes there).
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.faces.http.body import require_shallow

__all__ = ["Export", "Malformed", "Unfit", "Unnamed", "decompressed", "of_json", "of_protobuf", "plain"]

DEPTH_MAX = 64
SPANS_MAX = 20_000
REQUEST_ID = "mlflow.traceRequestId"
STATUSES = ("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")
WHOLE = 1 << 64


class Malformed(Exception):
    """What came is no export of spans; `status` is that of the answer."""

    status = 400


class Unnamed(Malformed):
    """An export that does not say which experiment it is for."""

    status = 422

    def __init__(self) -> None:
        super().__init__("the header x-mlflow-experiment-id is missing")


class Unfit(Malformed):
    """A span that is no span."""

    status = 422

    def __init__(self) -> None:
        super().__init__("Cannot convert OpenTelemetry span to MLflow span")


@frozen
class Export:
    """Spans of one resource: (its attributes as plain values, its spans as JSON values)."""

    resource: Mapping[str, Any]
    spans: Sequence[dict[str, Any]]


def decompressed(body: bytes, encoding: str, *, limit: int) -> bytes:
    """The body of a request as it was before it was packed, up to a limit. Raises: Malformed."""
    if encoding in ("", "identity"):
        return body
    ways = {"gzip": (31,), "deflate": (15, -15)}.get(encoding)
    if ways is None:
        raise Malformed(f"Unsupported Content-Encoding: {encoding[:40]}")
    for bits in ways:
        packed = zlib.decompressobj(bits)
        try:
            whole = packed.decompress(body, limit + 1)
        except zlib.error:
            continue
        if len(whole) > limit:
            raise Malformed(f"the body is larger than {limit} bytes when it is unpacked")
        if packed.eof:
            return whole
    raise Malformed(f"Failed to decompress {encoding} payload")


def of_protobuf(body: bytes) -> list[Export]:
    """The spans of an export in protobuf. Raises: Malformed."""
    try:
        return _counted([_resource_spans(part) for part in _all(_fields(body), 1)])
    except (IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise Malformed("Invalid OpenTelemetry format") from error


def of_json(body: bytes) -> list[Export]:
    """The spans of an export in JSON, where ids are hexadecimal. Raises: Malformed."""
    try:
        require_shallow(body, 4 * DEPTH_MAX)
        given = json.loads(body)
        return _counted([_json_resource(each) for each in _list(given, "resourceSpans")])
    except (UsageError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise Malformed("Invalid OpenTelemetry format") from error


def plain(value: Any, depth: int = 0) -> Any:
    """An AnyValue as a plain value; None for one that is not set."""
    if not isinstance(value, Mapping) or depth > DEPTH_MAX:
        return None
    for kind, found in value.items():
        if kind == "array_value":
            return [plain(each, depth + 1) for each in found.get("values", [])]
        if kind == "kvlist_value":
            return {each["key"]: plain(each.get("value"), depth + 1) for each in found.get("values", [])}
        return found
    return None


def _counted(found: list[Export]) -> list[Export]:
    if not found:
        raise Malformed("Invalid OpenTelemetry format - no spans found")
    count = sum(len(each.spans) for each in found)
    if count > SPANS_MAX:
        raise Malformed(f"an export has at most {SPANS_MAX} spans, not {count}")
    return found


def _span(
    *,
    trace: bytes,
    span: bytes,
    parent: bytes,
    name: str,
    times: tuple[int, int],
    attributes: list[dict[str, Any]],
    events: list[dict[str, Any]],
    links: list[dict[str, Any]],
    status: tuple[int, str],
) -> dict[str, Any]:
    """A span in the form in which clients read it. Its trace's id is the one that follows from its own."""
    if not 1 <= len(trace) <= 16 or not 1 <= len(span) <= 8 or len(parent) > 8:
        raise Unfit
    trace = trace.rjust(16, b"\0")
    said = {each["key"]: each for each in attributes}
    said[REQUEST_ID] = {"key": REQUEST_ID, "value": {"string_value": f"tr-{trace.hex()}"}}
    found: dict[str, Any] = {"trace_id": _base64(trace), "span_id": _base64(span.rjust(8, b"\0"))}
    if parent:
        found["parent_span_id"] = _base64(parent.rjust(8, b"\0"))
    found |= {"name": name, "start_time_unix_nano": times[0]}
    if times[1]:
        found["end_time_unix_nano"] = times[1]
    found["attributes"] = list(said.values())
    if events:
        found["events"] = events
    if links:
        found["links"] = links
    code, message = status
    told = {"message": message} if message and code == 2 else {}
    found["status"] = {**told, **({"code": STATUSES[code]} if 0 < code < len(STATUSES) else {})}
    return found


# --- protobuf


def _fields(body: bytes) -> dict[int, list[Any]]:
    """The fields of a message by number: bytes, or numbers. Raises: Malformed; IndexError; struct.error."""
    found: dict[int, list[Any]] = {}
    for number, value in _walk(body):
        found.setdefault(number, []).append(value)
    return found


def _walk(body: bytes) -> Iterator[tuple[int, Any]]:
    place = 0
    while place < len(body):
        tag, place = _varint(body, place)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise Malformed("Invalid OpenTelemetry format")
        if wire == 0:
            value, place = _varint(body, place)
            yield number, value
        elif wire == 1:
            yield number, body[place : place + 8]
            place += 8
        elif wire == 2:
            size, place = _varint(body, place)
            yield number, body[place : place + size]
            place += size
        elif wire == 5:
            yield number, body[place : place + 4]
            place += 4
        else:
            raise Malformed("Invalid OpenTelemetry format")
        if place > len(body):
            raise Malformed("Invalid OpenTelemetry format")


def _varint(body: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = body[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value & (WHOLE - 1), place
        shift += 7
        if shift > 63:
            raise Malformed("Invalid OpenTelemetry format")


def _all(fields: Mapping[int, list[Any]], number: int) -> list[bytes]:
    found = fields.get(number, [])
    if not all(isinstance(each, bytes) for each in found):
        raise Malformed("Invalid OpenTelemetry format")
    return found


def _last(fields: Mapping[int, list[Any]], number: int) -> bytes:
    return b"".join(_all(fields, number)[-1:])


def _text(content: bytes) -> str:
    return content.decode("utf-8").replace("\x00", "")


def _fixed(fields: Mapping[int, list[Any]], number: int) -> int:
    content = _last(fields, number)
    return int(struct.unpack("<Q", content)[0]) if content else 0


def _resource_spans(content: bytes) -> Export:
    fields = _fields(content)
    resource = _attributes(_all(_fields(_last(fields, 1)), 1), 0)
    scopes = [_fields(each) for each in _all(fields, 2)]
    spans = [_proto_span(each) for scope in scopes for each in _all(scope, 2)]
    return Export({each["key"]: plain(each.get("value")) for each in resource}, spans)


def _proto_span(content: bytes) -> dict[str, Any]:
    fields = _fields(content)
    status = _fields(_last(fields, 15))
    code = status.get(3, [0])[-1]
    return _span(
        trace=_last(fields, 1),
        span=_last(fields, 2),
        parent=_last(fields, 4),
        name=_text(_last(fields, 5)),
        times=(_fixed(fields, 7), _fixed(fields, 8)),
        attributes=_attributes(_all(fields, 9), 0),
        events=[_proto_event(_fields(each)) for each in _all(fields, 11)],
        links=[_proto_link(_fields(each)) for each in _all(fields, 13)],
        status=(code if isinstance(code, int) else 0, _text(_last(status, 2))),
    )


def _proto_event(fields: Mapping[int, list[Any]]) -> dict[str, Any]:
    return _event(_fixed(fields, 1), _text(_last(fields, 2)), _attributes(_all(fields, 3), 0))


def _proto_link(fields: Mapping[int, list[Any]]) -> dict[str, Any]:
    return _link(_last(fields, 1), _last(fields, 2), _attributes(_all(fields, 4), 0))


def _event(at_ns: int, name: str, attributes: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {**({"time_unix_nano": at_ns} if at_ns else {}), "name": name}
    return {**found, "attributes": attributes} if attributes else found


def _link(trace: bytes, span: bytes, attributes: list[dict[str, Any]]) -> dict[str, Any]:
    if len(trace) > 16 or len(span) > 8:
        raise Unfit
    found: dict[str, Any] = {
        "trace_id": _base64(trace.rjust(16, b"\0")),
        "span_id": _base64(span.rjust(8, b"\0")),
    }
    return {**found, "attributes": attributes} if attributes else found


def _attributes(contents: Sequence[bytes], depth: int) -> list[dict[str, Any]]:
    found = []
    for content in contents:
        fields = _fields(content)
        pair: dict[str, Any] = {"key": _text(_last(fields, 1))}
        value = _any(_last(fields, 2), depth) if 2 in fields else {}
        found.append({**pair, "value": value} if value else pair)
    return found


def _any(content: bytes, depth: int) -> dict[str, Any]:
    """An AnyValue; empty for one that is not set."""
    if depth > DEPTH_MAX:
        raise Malformed("Invalid OpenTelemetry format")
    found: dict[str, Any] = {}
    for number, value in _walk(content):  # of a oneof the last one holds
        if number == 1 and isinstance(value, bytes):
            found = {"string_value": _text(value)}
        elif number == 2 and isinstance(value, int):
            found = {"bool_value": bool(value)}
        elif number == 3 and isinstance(value, int):
            found = {"int_value": value - WHOLE if value >= WHOLE >> 1 else value}
        elif number == 4 and isinstance(value, bytes):
            found = _double(struct.unpack("<d", value)[0])
        elif number == 5 and isinstance(value, bytes):
            values = [_any(each, depth + 1) for each in _all(_fields(value), 1)]
            found = {"array_value": {"values": values} if values else {}}
        elif number == 6 and isinstance(value, bytes):
            pairs = _attributes(_all(_fields(value), 1), depth + 1)
            found = {"kvlist_value": {"values": pairs} if pairs else {}}
        elif number == 7 and isinstance(value, bytes):
            found = {"string_value": _base64(value)}
    return found


def _double(value: float) -> dict[str, Any]:
    """What is not finite has no number in JSON."""
    if value != value:
        return {"double_value": "NaN"}
    if value in (float("inf"), float("-inf")):
        return {"double_value": "Infinity" if value > 0 else "-Infinity"}
    return {"double_value": value}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


# --- JSON


def _json_resource(given: Mapping[str, Any]) -> Export:
    resource = [_json_pair(each, 0) for each in _list(given.get("resource") or {}, "attributes")]
    scopes = _list(given, "scopeSpans")
    spans = [_json_span(each) for scope in scopes for each in _list(scope, "spans")]
    return Export({each["key"]: plain(each.get("value")) for each in resource}, spans)


def _json_span(given: Mapping[str, Any]) -> dict[str, Any]:
    status = given.get("status") or {}
    code = status.get("code", 0)
    return _span(
        trace=_hex(given.get("traceId", "")),
        span=_hex(given.get("spanId", "")),
        parent=_hex(given.get("parentSpanId", "")),
        name=_said(given.get("name", "")),
        times=(_nanos(given.get("startTimeUnixNano", 0)), _nanos(given.get("endTimeUnixNano", 0))),
        attributes=[_json_pair(each, 0) for each in _list(given, "attributes")],
        events=[
            _event(
                _nanos(each.get("timeUnixNano", 0)),
                _said(each.get("name", "")),
                [_json_pair(pair, 0) for pair in _list(each, "attributes")],
            )
            for each in _list(given, "events")
        ],
        links=[
            _link(
                _hex(each.get("traceId", "")),
                _hex(each.get("spanId", "")),
                [_json_pair(pair, 0) for pair in _list(each, "attributes")],
            )
            for each in _list(given, "links")
        ],
        status=(STATUSES.index(code) if isinstance(code, str) else int(code), _said(status.get("message", ""))),
    )


def _json_pair(given: Mapping[str, Any], depth: int) -> dict[str, Any]:
    pair: dict[str, Any] = {"key": _said(given.get("key", ""))}
    value = _json_any(given.get("value") or {}, depth)
    return {**pair, "value": value} if value else pair


def _json_any(given: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth > DEPTH_MAX:
        raise Malformed("Invalid OpenTelemetry format")
    for kind, value in given.items():
        match kind:
            case "stringValue":
                return {"string_value": _said(value)}
            case "bytesValue":
                return {"string_value": _base64(base64.b64decode(_said(value), validate=True))}
            case "boolValue":
                return {"bool_value": bool(value)}
            case "intValue":
                number = int(value)
                if not -(WHOLE >> 1) <= number < WHOLE >> 1:
                    raise Malformed("Invalid OpenTelemetry format")
                return {"int_value": number}
            case "doubleValue":
                return _double(float(value))
            case "arrayValue":
                values = [_json_any(each, depth + 1) for each in _list(value, "values")]
                return {"array_value": {"values": values} if values else {}}
            case "kvlistValue":
                pairs = [_json_pair(each, depth + 1) for each in _list(value, "values")]
                return {"kvlist_value": {"values": pairs} if pairs else {}}
    return {}


def _list(given: Mapping[str, Any], name: str) -> list[Any]:
    found = given.get(name) or []
    if not isinstance(found, list):
        raise Malformed("Invalid OpenTelemetry format")
    return found


def _said(value: Any) -> str:
    if not isinstance(value, str):
        raise Malformed("Invalid OpenTelemetry format")
    return value.encode("utf-8", "replace").decode().replace("\x00", "")


def _hex(text: Any) -> bytes:
    try:
        return bytes.fromhex(_said(text))
    except (ValueError, binascii.Error) as error:
        raise Malformed("Invalid OpenTelemetry format") from error


def _nanos(value: Any) -> int:
    found = int(value)
    if not 0 <= found < WHOLE:
        raise Malformed("Invalid OpenTelemetry format")
    return found
