"""Filters and orders of traces, in MLflow's language: what the records can answer, and what only the spans can.

Source: mlflow/utils/search_utils.py (SearchTraceUtils) of MLflow 3.17. RLIKE is not known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.frozen import frozen
from noria.faces.protocols.mlflow import filters, otlp
from noria.faces.protocols.mlflow.refusals import Refused, invalid
from noria.traces.records import NAME, Condition

__all__ = ["Inside", "holds", "parse", "parse_order"]

KINDS = {
    **dict.fromkeys(("attribute", "attributes", "trace"), "attribute"),
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("metadata", "request_metadata"), "metadata"),
    **{kind: kind for kind in ("span", "feedback", "expectation")},
}
COLUMNS = {
    "request_id": "trace",
    **dict.fromkeys(("timestamp", "timestamp_ms"), "began_ms"),
    **dict.fromkeys(("execution_time", "execution_time_ms"), "took_ms"),
    **dict.fromkeys(("end_time", "end_time_ms"), "ended_ms"),
    "status": "state",
    "client_request_id": "request",
    "experiment_id": "experiment",
}
NUMBERS = frozenset({"began_ms", "took_ms", "ended_ms"})
LISTS = ("=", "!=", "IN", "NOT IN", "LIKE", "ILIKE")
ORDERED = ("=", "!=", "<", "<=", ">", ">=")
PAIRED = ("=", "!=", "LIKE", "ILIKE", "IS NULL", "IS NOT NULL")
TAGS = {"name": NAME, "prompt": "mlflow.linkedPrompts"}
COMPARISONS_MAX = 50
LENGTH_MAX = 20_000


@frozen(kw_only=True)
class Inside:
    """A condition on what is in a trace: a span of it, or what was judged of it."""

    kind: str
    key: str
    operator: str
    value: str | float | tuple[str, ...] = ""


def parse(text: str) -> tuple[list[Condition], list[Inside]]:
    """What the records are asked, and what the spans and judgements. Raises: Refused."""
    if not text:
        return [], []
    if len(text) > LENGTH_MAX:
        raise invalid(f"Error on parsing filter of {len(text)} characters, over the limit of {LENGTH_MAX}")
    if not text.strip():
        raise invalid(f"Invalid filter '{text}'. Could not be parsed.")
    found, strays = filters.clauses(text)
    if strays:
        raise invalid(f"Invalid clause(s) in filter string: {', '.join(repr(each) for each in strays)}")
    if len(found) > COMPARISONS_MAX:
        raise invalid(f"A filter may have {COMPARISONS_MAX} comparisons, got {len(found)}.")
    outer: list[Condition] = []
    inner: list[Inside] = []
    for left, operator, right in found:
        made = _comparison(left, operator, right)
        if isinstance(made, Inside):
            inner.append(made)
        else:
            outer.append(made)
    return outer, inner


def parse_order(texts: Sequence[str]) -> list[tuple[str, str, bool]]:
    """(kind, key, is it descending) of what to order by. Raises: Refused."""
    found: list[tuple[str, str, bool]] = []
    for text in texts:
        word, is_descending = filters.parse_order_word(text)
        kind, key = _identifier(word)
        if kind in ("span", "feedback", "expectation"):
            raise invalid(f"Invalid identifier type '{kind}'")
        if kind == "attribute" and key in TAGS:
            kind, key = "tag", TAGS[key]
        elif kind == "attribute" and key == "run_id":
            kind, key = "metadata", "mlflow.sourceRun"
        elif kind == "attribute":
            if key not in COLUMNS or key == "client_request_id":
                raise _no_attribute(key)
            key = COLUMNS[key]
        if any(each[:2] == (kind, key) for each in found):
            raise invalid(f"`order_by` contains duplicate fields: {list(texts)}")
        found.append((kind, key, is_descending))
    return found


def holds(asked: Inside, spans: Sequence[Mapping[str, Any]], judged: Sequence[Mapping[str, Any]]) -> bool:
    """Whether something in a trace fits."""
    if asked.kind != "span":
        values = [_judged(each, asked.kind) for each in judged if each["assessment_name"] == asked.key]
        told = [value for value in values if value is not None]
        if asked.operator in ("IS NULL", "IS NOT NULL"):
            return (not told) == (asked.operator == "IS NULL")
        return any(_fits(value, asked) for value in told)
    return any(_span_fits(span, asked) for span in spans)


def _comparison(left: str, operator: str, right: str) -> Condition | Inside:
    kind, key = _identifier(left)
    if kind in ("feedback", "expectation"):
        _require(operator, (*PAIRED, *ORDERED))
        return Inside(kind=kind, key=key, operator=operator, value=_value(kind, right, operator, is_either=True))
    if kind == "attribute" and key == "text":
        kind, key = "span", "content"
    if kind == "span":
        if key not in ("name", "type", "status", "content") and not key.removeprefix("attributes."):
            raise invalid("Span attribute name cannot be empty after 'attributes.'")
        if key not in ("name", "type", "status", "content") and not key.startswith("attributes."):
            raise invalid(
                f"Invalid span attribute '{key}'. "
                "Supported attributes: name, status, type, attributes.<attribute_name>."
            )
        _require(operator, ("LIKE", "ILIKE") if key == "content" else LISTS)
        return Inside(kind=kind, key=key, operator=operator, value=_value(kind, right, operator))
    if kind == "attribute" and key in TAGS:
        kind, key = "tag", TAGS[key]
        _require(operator, (*PAIRED, "IN", "NOT IN"))
    elif kind == "attribute" and key == "run_id":
        _require(operator, LISTS)
        return Condition(kind="run", key="", operator=operator, value=_value(kind, right, operator))
    elif kind == "attribute":
        if key not in COLUMNS or key == "experiment_id":
            raise _no_attribute(key)
        key = COLUMNS[key]
        _require(operator, ORDERED if key in NUMBERS else LISTS)
        return Condition(
            kind=kind, key=key, operator=operator, value=_value(kind, right, operator, is_number=key in NUMBERS)
        )
    else:
        _require(operator, PAIRED)
    if operator in ("IS NULL", "IS NOT NULL"):
        return Condition(kind=kind, key=key, operator=operator)
    return Condition(kind=kind, key=key, operator=operator, value=_value(kind, right, operator))


def _identifier(text: str) -> tuple[str, str]:
    prefix, dot, key = text.partition(".")
    if not dot:
        return "attribute", text.strip('`"')
    if prefix not in KINDS:
        raise invalid(f"Invalid entity type '{prefix}'. Valid values are { {*KINDS} }")
    parts = [part.strip('`"') for part in re.findall(r'`[^`]*`|"[^"]*"|[^.`"]+', key)]
    return KINDS[prefix], ".".join(parts)


def _value(kind: str, text: str, operator: str, *, is_number: bool = False, is_either: bool = False) -> Any:
    if operator in ("IS NULL", "IS NOT NULL"):
        return ""
    if operator in ("IN", "NOT IN"):
        if not text.startswith("("):
            raise invalid(f"Expected a quoted string value or a list of quoted string values. Got value {text}")
        return filters.texts_of_list(text)
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        if is_number:
            raise invalid(f"Expected numeric value type for numeric attribute. Found {text}")
        return text[1:-1]
    if is_number or is_either:
        try:
            found = float(text)
        except ValueError as error:
            raise invalid(f"Expected a number or a quoted string value. Found {text}") from error
        if abs(found) < 1 << 62:
            return found
    if text[:1].isalpha():
        raise invalid(
            "Parameter value is either not quoted or unidentified quote "
            f"types used for string value {text}. Use either single or double quotes."
        )
    raise invalid(f"Expected a quoted string value for {kind} (e.g. 'my-value'). Got value {text}")


def _require(operator: str, allowed: Sequence[str]) -> None:
    if operator not in allowed:
        raise invalid(f"Invalid comparator '{operator}' not one of '{set(allowed)}'")


def _no_attribute(key: str) -> Refused:
    return invalid(f"Invalid attribute key '{key}' specified. Valid keys are '{ {*COLUMNS, *TAGS, 'run_id', 'text'} }'")


def _judged(judged: Mapping[str, Any], kind: str) -> Any:
    said = judged.get(kind)
    if not isinstance(said, Mapping):
        return None
    serialized = said.get("serialized_value")
    return said.get("value") if serialized is None else serialized.get("value")


def _fits(value: Any, asked: Inside) -> bool:
    if isinstance(asked.value, float):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and filters.matches(float(value), asked.operator, asked.value)
    shown = value if isinstance(value, str) else json.dumps(value)
    return filters.matches(shown, asked.operator, asked.value)


def _span_fits(span: Mapping[str, Any], asked: Inside) -> bool:
    if asked.key == "content":
        return filters.matches(json.dumps(span, ensure_ascii=False), asked.operator, asked.value)
    if asked.key == "name":
        value: Any = span["name"]
    elif asked.key == "status":
        value = span["status"].get("code", "STATUS_CODE_UNSET").removeprefix("STATUS_CODE_")
    else:
        name = "mlflow.spanType" if asked.key == "type" else asked.key.removeprefix("attributes.")
        said = [otlp.plain(each.get("value")) for each in span["attributes"] if each["key"] == name]
        value = said[-1] if said else None
    if value is None:
        return False
    return filters.matches(value if isinstance(value, str) else json.dumps(value), asked.operator, asked.value)
