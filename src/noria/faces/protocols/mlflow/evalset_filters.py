"""Filters and orders of evaluation data sets, in MLflow's language and its server's words.

Source: mlflow/utils/search_utils.py (SearchEvaluationDatasetsUtils) and store/tracking/sqlalchemy_store.py of
MLflow 3.17.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from noria.evalsets.records import Condition
from noria.faces.protocols.mlflow import filters
from noria.faces.protocols.mlflow.refusals import invalid

__all__ = ["parse", "parse_order"]

COLUMNS: Mapping[str, str] = {
    "name": "name",
    "created_time": "created_ms",
    "last_update_time": "updated_ms",
    "created_by": "created_by",
    "last_updated_by": "updated_by",
}
NUMBERS = frozenset({"created_time", "last_update_time"})
ORDERED = ("name", "created_time", "last_update_time")
TEXTUAL = ("=", "!=", "LIKE", "ILIKE")
COMPARED = ("=", "!=", "<", "<=", ">", ">=")
COMPARISONS_MAX, LENGTH_MAX, NUMBER_MAX = 50, 20_000, 1 << 62


def parse(text: str) -> list[Condition]:
    """What an evaluation data set must fit. Raises: Refused."""
    if not text:
        return []
    if len(text) > LENGTH_MAX:
        raise invalid(f"Error on parsing filter of {len(text)} characters, over the limit of {LENGTH_MAX}")
    if not text.strip():
        raise invalid(f"Invalid filter '{text}'. Could not be parsed.")
    _, end, rest = re.sub(r"""'[^']*'|"[^"]*"|`[^`]*`""", "''", text).partition(";")
    if rest.strip():
        raise invalid(f"Search filter contained multiple expression {text!r}. Provide AND-ed expression list.")
    found, strays = filters.clauses(text)
    strays += [end] if end else []
    if strays:
        raise invalid(f"Invalid clause(s) in filter string: {', '.join(strays)}")
    if len(found) > COMPARISONS_MAX:
        raise invalid(f"A filter may have {COMPARISONS_MAX} comparisons, got {len(found)}.")
    return [_condition(*each) for each in found]


def parse_order(texts: Sequence[str]) -> list[tuple[str, bool]]:
    """(column, is it descending) of what to order by. Raises: Refused."""
    found = []
    for text in texts:
        word, is_descending = filters.parse_order_word(text)
        kind, key = _identifier(word if " " in text else text, ORDERED)  # alone it is not unquoted
        if kind != "attribute":
            raise invalid(f"Invalid order_by entity: {kind}")
        found.append((COLUMNS[key], is_descending))
    return found


def _condition(left: str, operator: str, right: str) -> Condition:
    if re.match(r"['(\d]", left):
        raise invalid(f"Invalid comparison clause. Expected 'Identifier' found '{left}'")
    kind, key = _identifier(left, tuple(COLUMNS))
    if operator in ("IS NULL", "IS NOT NULL"):
        if kind == "attribute":
            raise invalid(f"IS NULL / IS NOT NULL is only supported for tags and params, not for '{kind}' '{key}'")
        raise invalid(f"Invalid comparator for tag: {operator}")
    if kind == "tag":
        value = _text(right, f"Expected a quoted string value for tag (e.g. 'my-value'). Got value {right}")
        if operator not in TEXTUAL:
            raise invalid(f"Invalid comparator for tag: {operator}")
        return Condition(kind=kind, key=key, operator=operator, value=value)
    if key in NUMBERS:
        return Condition(kind=kind, key=COLUMNS[key], operator=operator, value=_number(key, operator, right))
    if right.startswith("("):
        if key != "name":
            raise invalid("Only ['name'] attributes support comparison with a list of quoted string values.")
        chosen = filters.texts_of_list(right)
        if operator != "IN":
            raise invalid("List values for 'name' are only supported with the IN comparator.")
        return Condition(kind=kind, key=COLUMNS[key], operator=operator, value=chosen)
    value = _text(right, f"Expected a quoted string value for attributes. Got value {right}")
    if operator not in (*TEXTUAL, *COMPARED) or operator == "IN":
        raise invalid(f"Invalid comparator for string attribute: {operator}")
    return Condition(kind=kind, key=COLUMNS[key], operator=operator, value=value)


def _identifier(text: str, known: Sequence[str]) -> tuple[str, str]:
    prefix, dot, key = text.partition(".")
    if not dot:
        if prefix not in known:
            raise invalid(f"Invalid attribute key '{prefix}' specified. Valid keys are: {set(known)}")
        return "attribute", prefix
    if prefix != "tags":
        raise invalid(f"Invalid identifier token '{prefix}' specified")
    return "tag", key


def _number(key: str, operator: str, text: str) -> int:
    if not re.fullmatch(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", text):
        raise invalid(f"Expected numeric value type for numeric attribute: {key}. Found {text}")
    if operator not in COMPARED:
        raise invalid(f"Invalid comparator for numeric attribute: {operator}")
    if not re.fullmatch(r"[-+]?\d{1,19}", text):
        raise invalid(f"Invalid value for numeric attribute '{key}': {text!r}")
    return max(-NUMBER_MAX, min(int(text), NUMBER_MAX))


def _text(text: str, refusal: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text[:1].isalpha() or text[:1] in ("_", "`"):
        raise invalid(
            "Parameter value is either not quoted or unidentified quote "
            f"types used for string value {text}. Use either single or double quotes."
        )
    raise invalid(refusal)
