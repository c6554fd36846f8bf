"""Which names, values and lengths MLflow's clients may give, in its words.

Source: mlflow/utils/validation.py of MLflow 3.17.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from noria.faces.protocols.mlflow.refusals import Refused, invalid, invalid_value, missing, too_long

__all__ = [
    "absent",
    "experiment_number",
    "no_version",
    "require_alias",
    "require_batch",
    "require_experiment_name",
    "require_experiment_tag",
    "require_logged_model_name",
    "require_metric",
    "require_model_name",
    "require_name",
    "require_param",
    "require_registry_tag",
    "require_run_id",
    "require_tag",
    "version_number",
]

KEY_MAX, PARAM_MAX, TAG_MAX = 250, 6000, 8000
EXPERIMENT_NAME_MAX, EXPERIMENT_TAG_MAX = 500, 20_000
MODEL_NAME_MAX = 256
REGISTRY_TAG_MAX, ALIAS_MAX = 100_000, 255
METRICS_MAX, PARAMS_MAX, ENTITIES_MAX = 1000, 100, 1000
_NAME = re.compile(r"[/\w.\- :]*")
_PLAIN = re.compile(r"\w[\w\- ]*")
"""Names that stand, whatever the longer rules say."""
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_CHARACTERS = (
    "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.),"
    " spaces ( ), colon(:) and slashes (/)."
)
_ALIAS = re.compile(r"[\w\-]*\n?")
_NUMBERED = re.compile(r"[vV]\d+\n?")
PROMPT_TEXT = "mlflow.prompt.text"
TIME_MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: what a time can be here."""


def require_name(name: str, path: str) -> None:
    """A name of a metric, a param or a tag. Raises: Refused."""
    if _PLAIN.fullmatch(name):  # most are
        return
    if not _NAME.fullmatch(name):
        raise invalid(invalid_value(path, name, _CHARACTERS))
    _require_itself(name, path)


def require_metric(metric: Mapping[str, Any], path: str = "") -> None:
    """A metric of a request. Raises: Refused."""
    key, value, at_ms = metric.get("key", ""), metric.get("value", 0.0), metric.get("timestamp", 0)
    require_name(key, _joined(path, "name"))
    if not 0 <= at_ms <= TIME_MAX_MS:
        reason = f"metric '{key}' (value={value}). Timestamp must be a nonnegative long (64-bit integer) "
        raise invalid(invalid_value(_joined(path, "timestamp"), at_ms, reason))
    if len(key) > KEY_MAX:
        raise too_long("Metric name", KEY_MAX)


def require_param(key: str, value: str, path: str = "") -> tuple[str, str]:
    """A param; its value is cut to the limit. Raises: Refused."""
    require_name(key, _joined(path, "key"))
    if len(key) > KEY_MAX:
        raise too_long("Param key", KEY_MAX)
    return key, value[:PARAM_MAX]


def require_tag(key: str, value: str, path: str = "") -> tuple[str, str]:
    """A tag of a run; its value is cut to the limit. Raises: Refused."""
    require_name(key, _joined(path, "key"))
    if len(key) > KEY_MAX:
        raise too_long(_joined(path, "key"), KEY_MAX)
    return key, value[:TAG_MAX]


def require_experiment_tag(key: str, value: str) -> None:
    """A tag of an experiment. Raises: Refused."""
    require_name(key, "key")
    if len(key) > KEY_MAX:
        raise too_long("key", KEY_MAX)
    if len(value) > EXPERIMENT_TAG_MAX:
        raise too_long("value", EXPERIMENT_TAG_MAX)


def require_experiment_name(name: str) -> None:
    """The name of an experiment. Raises: Refused."""
    if not name:
        raise invalid(f"Invalid experiment name: '{name}'")
    if len(name) > EXPERIMENT_NAME_MAX:
        raise too_long("name", EXPERIMENT_NAME_MAX)


def require_run_id(run: str) -> None:
    """The id of a run. Raises: Refused."""
    if not _RUN_ID.fullmatch(run):
        raise invalid(invalid_value("run_id", run))


def require_batch(metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]) -> None:
    """The sizes of a batch. Raises: Refused."""
    limits = (
        ("metrics", METRICS_MAX, len(metrics)),
        ("params", PARAMS_MAX, len(params)),
        ("tags", PARAMS_MAX, len(tags)),
    )
    total = ("metrics, params, and tags", ENTITIES_MAX, len(metrics) + len(params) + len(tags))
    for what, limit, size in (*limits, total):
        if size > limit:
            raise invalid(
                f"A batch logging request can contain at most {limit} {what}. "
                f"Got {size} {what}. Please split up {what} across multiple requests and try again."
            )


def require_model_name(name: str) -> None:
    """The name of a registered model. Raises: Refused."""
    if not name.strip():
        raise absent("name")
    if "/" in name or ":" in name:
        raise invalid(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    _require_itself(name, "name")
    if len(name) > MODEL_NAME_MAX:
        raise too_long("name", MODEL_NAME_MAX)


def require_logged_model_name(name: str) -> None:
    """The name of a logged model. Raises: Refused."""
    marks = ("/", ":", ".", "%", '"', "'")
    if any(mark in name for mark in marks):
        raise invalid(
            f"Invalid model name ({name!r}) provided. Model name must be a non-empty string "
            f"and cannot contain the following characters: {marks}"
        )


def require_registry_tag(key: str, value: str) -> None:
    """A tag of a registered model or a version. Raises: Refused."""
    require_name(key, "key")
    if len(key) > KEY_MAX:
        raise too_long("key", KEY_MAX)
    if len(value) > REGISTRY_TAG_MAX:
        if key == PROMPT_TEXT:
            raise invalid(f"Prompt text exceeds max length of {REGISTRY_TAG_MAX} characters.")
        raise too_long("value", REGISTRY_TAG_MAX)


def require_alias(alias: str, *, is_set: bool = False) -> None:
    """An alias; when it is set it may not be one that means something. Raises: Refused."""
    if not alias:
        raise invalid("Registered model alias name cannot be empty.")
    if not _ALIAS.fullmatch(alias):
        raise invalid(
            f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )
    if len(alias) > ALIAS_MAX:
        raise too_long("Registered model alias name", ALIAS_MAX)
    if is_set and alias.lower() == "latest":
        raise invalid("'latest' alias name (case insensitive) is reserved.")
    if is_set and _NUMBERED.fullmatch(alias):
        raise invalid(f"Version alias name '{alias}' is reserved.")


def version_number(text: str) -> int:
    """The number of a version. Raises: Refused."""
    try:
        return int(text)
    except ValueError as error:
        raise invalid(f"Parameter 'version' must be an integer, got '{text}'.") from error


def no_version(name: str, what: str) -> Refused:
    """The words for a version that is not there."""
    return missing(f"Model Version (name={name}, {what}) not found")


def absent(path: str) -> Refused:
    """The words for a value that has to be there."""
    return invalid(f"Missing value for required parameter '{path}'.")


def experiment_number(text: str) -> int:
    """The number that an id of an experiment is. Raises: Refused."""
    try:
        number = int(text)
    except ValueError as error:
        raise _no_number(text) from error
    if abs(number) >= 1 << 63:
        raise _no_number(text)
    return number


def _require_itself(name: str, path: str) -> None:
    """A name that would be the same as a path of a file. Raises: Refused."""
    normal = posixpath.normpath(name)
    if normal != name or normal == "." or normal.startswith("..") or normal.startswith("/"):
        raise invalid(
            invalid_value(
                path,
                name,
                "Names may be treated as files in certain cases, and must not resolve to other names"
                f" when treated as such. This name would resolve to {normal!r}",
            )
        )


def _no_number(text: str) -> Refused:
    return invalid(f"Invalid experiment ID '{text[:80]}'. Experiment ID must be a valid integer.")


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
