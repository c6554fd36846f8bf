"""Evaluation data sets and their records as the JSON that MLflow's clients read and write.

Source: mlflow/protos/datasets.proto, entities/dataset_record.py and dataset_record_source.py of MLflow 3.17. What
its code fails on (a record that is no object, inputs that are none) is refused here.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from noria.core.errors import UsageError
from noria.evalsets.merging import Given, Told
from noria.evalsets.records import USER, EvalsetRecord
from noria.faces.http.body import require_shallow
from noria.faces.protocols.mlflow.refusals import invalid

__all__ = ["behind", "dataset_json", "decoded", "given_of", "record_json", "tags_of", "token_of"]

KINDS = ("UNSPECIFIED", "TRACE", "HUMAN", "DOCUMENT", "CODE")
SOURCE_ID_MAX = 250
SKIP_MAX = 1 << 60


def decoded(text: str, name: str) -> Any:
    """What the JSON of a parameter says. Raises: Refused."""
    try:
        require_shallow(text.encode())
        return json.loads(text)
    except UsageError as error:
        raise invalid(error.message) from error
    except (ValueError, RecursionError) as error:
        raise invalid(f"Invalid value for parameter '{name}': it is not valid JSON.") from error


def tags_of(text: str, *, of_new: bool) -> dict[str, str]:
    """The tags that a JSON text says, as texts; null says nothing. Raises: Refused."""
    said = decoded(text, "tags")
    if not isinstance(said, dict):
        raise invalid("Invalid value for parameter 'tags': it is not a JSON object of texts.")
    found: dict[str, str] = {}
    for key, value in said.items():
        if isinstance(value, list | dict):
            raise invalid(f"Invalid value for tag {key[:80]!r}: it is no text.")
        if value is not None:  # a new data set's tags are told by the database, where true is 1
            found[_plain(key)] = _plain(str(int(value)) if of_new and isinstance(value, bool) else str(value))
    return found


def given_of(said: Any, place: int) -> Given:
    """A record of a request. Raises: Refused."""
    if not isinstance(said, dict):
        raise invalid(f"Invalid record {place}: it is not a JSON object.")
    parts: dict[str, Any] = {}
    for name in ("inputs", "expectations", "tags"):
        value = said.get(name, {} if name == "inputs" else None)
        if not isinstance(value, dict) and (value is not None or name == "inputs"):
            raise invalid(f"Invalid record {place}: its {name} are not a JSON object.")
        parts[name] = value
    if parts["tags"] and USER in parts["tags"]:
        user = parts["tags"][USER]
        if not isinstance(user, str):
            raise invalid(f"Invalid record {place}: its tag {USER} is no text.")
        _plain(user)
    source = _source(said["source"], place) if said.get("source") else None
    return Given(outputs=said.get("outputs"), says_outputs="outputs" in said, source=source, **parts)


def dataset_json(
    found: EvalsetRecord, schema: Mapping[str, Any] | None, *, experiments: list[str] | None = None
) -> dict[str, Any]:
    """A Dataset; its experiments are told where it was made only."""
    told: dict[str, Any] = {
        "dataset_id": found.evalset,
        "name": found.name,
        "tags": json.dumps(dict(found.tags)),
        "schema": None if schema is None else json.dumps(schema),
        "profile": found.profile,
        "digest": found.digest,
        "created_time": found.created_ms,
        "last_update_time": found.updated_ms,
        "created_by": found.created_by,
        "last_updated_by": found.updated_by,
        "experiment_ids": experiments or None,
    }
    return {key: value for key, value in told.items() if value is not None}


def record_json(told: Told) -> dict[str, Any]:
    """A DatasetRecord, as the text of records holds it."""
    row, said = told.row, told.said
    source = said["source"]
    found: dict[str, Any] = {
        "dataset_record_id": row.record,
        "dataset_id": row.evalset,
        "inputs": said["inputs"],
        "expectations": said["expectations"],
        "tags": said["tags"],
        "source": source,
        "source_id": None if source is None else source["source_data"].get(_id_name(source["source_type"])),
        "source_type": None if source is None else source["source_type"],
        "created_time": row.created_ms,
        "last_update_time": row.updated_ms,
        "created_by": said["by"],
        "last_updated_by": said["updated_by"],
        "outputs": said["outputs"],
    }
    return {key: value for key, value in found.items() if value is not None}


def token_of(told: Told) -> str:
    """The token of the page that begins behind a record."""
    return base64.b64encode(f"{told.row.created_ms}:{told.row.record}".encode()).decode()


def behind(token: str) -> tuple[tuple[int, str] | None, int]:
    """(time and id of the record before a page, how many records come before it) as a token says. Raises: Refused."""
    if not token:
        return None, 0
    try:
        at_ms, last = base64.b64decode(token).decode().split(":", 1)
        found = int(at_ms)
        if abs(found) < SKIP_MAX and (not last or last.isprintable()):
            return (found, last), 0
    except (ValueError, binascii.Error):
        skip = int(token) if token.isascii() and token.isdigit() and len(token) < 19 else -1
        if 0 <= skip < SKIP_MAX:
            return None, skip
    raise invalid(f"Invalid page token {token[:80]!r}")


def _source(said: Any, place: int) -> dict[str, Any]:
    if not isinstance(said, dict) or set(said) - {"source_type", "source_data"}:
        raise invalid(f"Invalid record {place}: its source is not an object of source_type and source_data.")
    kind, content = said.get("source_type"), said.get("source_data")
    if not isinstance(kind, str):
        raise invalid(f"Invalid record {place}: its source has no source_type.")
    if kind.upper() not in KINDS:
        raise invalid(f"Invalid dataset record source type: {kind.upper()}. Valid source types: {[*KINDS]}")
    if content is not None and not isinstance(content, dict):
        raise invalid(f"Invalid record {place}: its source_data are not a JSON object.")
    named = (content or {}).get(_id_name(kind.upper()))
    if named is not None and (not isinstance(named, str) or len(named) > SOURCE_ID_MAX):
        raise invalid(f"Invalid record {place}: the id of its source is not a text of at most {SOURCE_ID_MAX}.")
    return {"source_type": kind.upper(), "source_data": content or {}}


def _id_name(kind: str) -> str:
    return "trace_id" if kind == "TRACE" else "source_id"


def _plain(text: str) -> str:
    """A text that a database takes. Raises: Refused."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise invalid("A text holds half of a surrogate pair, which is no character.") from error
    if "\x00" in text:
        raise invalid("A text may not hold the character U+0000.")
    return text
