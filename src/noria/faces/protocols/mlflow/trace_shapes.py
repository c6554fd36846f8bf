"""Traces and judgements of them as the JSON that MLflow's clients read.

Source: mlflow/protos/service.proto and assessments.proto of MLflow 3.17, in protobuf's JSON mapping
(https://protobuf.dev/programming-guides/json/: timestamps and durations).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from noria.faces.protocols.mlflow.messages import BOOL, TEXT, VALUE, Enum, Map, Message
from noria.faces.protocols.mlflow.refusals import invalid
from noria.faces.protocols.mlflow.wire import experiment_location
from noria.store.ledger import Reader
from noria.traces.records import AssessmentRecord, TraceRecord

__all__ = ["ASSESSMENT", "assessment_json", "at_ms", "duration_ms", "infos", "said_of", "spans_in_order", "time_of"]

_ERROR = Message({"error_code": TEXT, "error_message": TEXT, "stack_trace": TEXT})
ASSESSMENT = Message(
    {
        "assessment_id": TEXT,
        "assessment_name": TEXT,
        "trace_id": TEXT,
        "span_id": TEXT,
        "source": Message(
            {
                "source_type": Enum({"SOURCE_TYPE_UNSPECIFIED": 0, "HUMAN": 1, "LLM_JUDGE": 2, "CODE": 3}),
                "source_id": TEXT,
            }
        ),
        "create_time": TEXT,
        "last_update_time": TEXT,
        "feedback": Message({"value": VALUE, "error": _ERROR}),
        "expectation": Message(
            {"value": VALUE, "serialized_value": Message({"serialization_format": TEXT, "value": TEXT})}
        ),
        "issue": Message({"issue_name": TEXT}),
        "rationale": TEXT,
        "metadata": Map(),
        "overrides": TEXT,
        "valid": BOOL,
    }
)
KINDS = ("feedback", "expectation", "issue")
KEPT = ("span_id", "source", "create_time", "last_update_time", *KINDS, "rationale", "metadata", "overrides", "valid")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def at_ms(text: str) -> int:
    """A timestamp as milliseconds since 1970; an empty one is 1970 itself. Raises: Refused."""
    if not text:
        return 0
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        whole = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    except ValueError as error:
        raise invalid(f"Invalid value {text[:80]!r} for a timestamp, such as 2026-11-22T06:07:36.965Z.") from error
    return (whole - _EPOCH) // timedelta(milliseconds=1) + int((match[2] or "").ljust(9, "0")[:3])


def duration_ms(text: str) -> int:
    """A duration such as "1.5s" in milliseconds. Raises: Refused."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise invalid(f"Invalid value {text[:80]!r} for a duration, such as 1.5s.")
    found = int(match[2]) * 1000 + int((match[3] or "").ljust(9, "0")[:3])
    return -found if match[1] else found


def time_of(ms: int) -> str:
    """Milliseconds since 1970 as a timestamp. Raises: Refused before the year 1 or after 9999."""
    try:
        whole = (_EPOCH + timedelta(milliseconds=ms)).replace(tzinfo=None)
    except OverflowError as error:
        raise invalid(f"Invalid value {ms} for a time: it is not between the years 1 and 9999.") from error
    return whole.isoformat(timespec="milliseconds" if ms % 1000 else "seconds") + "Z"


def said_of(given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What a client says of a trace, as it is kept. Raises: Refused."""
    if not any(kind in given for kind in KINDS):
        raise invalid("Unknown assessment type: None")
    found = {key: given[key] for key in KEPT if key in given}
    present = time_of((now - _EPOCH) // timedelta(milliseconds=1))
    for key in ("create_time", "last_update_time"):
        found[key] = time_of(at_ms(given[key])) if given.get(key) else present
    expected = found.get("expectation", {}).get("value")
    if isinstance(expected, dict | list):  # as clients send what is no single value
        text = json.dumps(_floats(expected))
        found["expectation"] = {"serialized_value": {"serialization_format": "JSON_FORMAT", "value": text}}
    return found


def _floats(value: Any) -> Any:
    """The numbers of a protobuf Value are all of one kind."""
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 62 else value


def assessment_json(record: AssessmentRecord, said: Mapping[str, Any]) -> dict[str, Any]:
    """An Assessment."""
    told = {"assessment_id": record.assessment, "assessment_name": record.name, "trace_id": record.trace}
    rest = {key: value for key, value in said.items() if key != "valid" and value not in ("", {})}
    rest |= {kind: said[kind] for kind in KINDS if kind in said}
    return {**told, **rest, "valid": record.is_valid}


def infos(
    tx: Reader,
    found: Sequence[TraceRecord],
    previews: Mapping[str, Mapping[str, Any]],
    judged: Mapping[str, Sequence[AssessmentRecord]],
    said: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """TraceInfos: `previews` by trace, `judged` by trace, what was `said` by digest."""
    places = {number: experiment_location(tx, number) for number in {each.experiment for each in found}}
    told = []
    for record in found:
        shown = previews[record.trace]
        own: dict[str, Any] = {
            "trace_id": record.trace,
            "trace_location": {
                "type": "MLFLOW_EXPERIMENT",
                "mlflow_experiment": {"experiment_id": str(record.experiment)},
            },
            "request_time": time_of(record.began_ms),
            "state": record.state,
            "tags": {
                **record.tags,
                "mlflow.artifactLocation": f"{places[record.experiment]}/traces/{record.trace}/artifacts",
                "mlflow.trace.spansLocation": "TRACKING_STORE",
            },
        }
        if record.took_ms is not None:
            own["execution_duration"] = _duration(record.took_ms)
        if record.request:
            own["client_request_id"] = record.request
        metadata = {**record.metadata, **shown["metadata"]}
        if metadata:
            own["trace_metadata"] = metadata
        for key, value in (("request_preview", shown["asked"]), ("response_preview", shown["answered"])):
            if value is not None:
                own[key] = value
        if judged[record.trace]:
            own["assessments"] = [assessment_json(each, said[each.details]) for each in judged[record.trace]]
        told.append(own)
    return told


def spans_in_order(spans: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Root spans first, then by when they began."""
    return sorted(spans, key=lambda span: ("parent_span_id" in span, span["start_time_unix_nano"]))


def _duration(ms: int) -> str:
    whole, rest = divmod(abs(ms), 1000)
    return f"{'-' if ms < 0 else ''}{whole}{f'.{rest:03}' if rest else ''}s"
