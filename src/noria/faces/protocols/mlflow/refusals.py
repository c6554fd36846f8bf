"""What MLflow's clients are told when something cannot be done: its error codes, statuses and words.

Source: mlflow/exceptions.py of MLflow 3.17 (code to status), mlflow/utils/validation.py (messages).
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["Refused", "exists", "internal", "invalid", "invalid_value", "missing", "too_long"]

# INVALID_STATE is a 500 there. What a caller did wrong is no failure of the server, so it is a 400 here.
STATUS = {
    "INVALID_PARAMETER_VALUE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "BAD_REQUEST": 400,
    "INVALID_STATE": 400,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "INTERNAL_ERROR": 500,
    "TEMPORARILY_UNAVAILABLE": 503,
}
CLASSES = {"RESOURCE_DOES_NOT_EXIST": "RESOURCE_NOT_FOUND"}
STATES = {"ATTRIBUTE_NOT_FOUND": "KAM04"}


class Refused(Exception):
    """An answer in place of a result."""

    def __init__(self, code: str, message: str, *, status: int = 0, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind or CLASSES.get(code, code)
        self.code = code
        self.message = message
        self.status = status or STATUS[code]
        self.headers: dict[str, str] = {}

    def body(self) -> bytes:
        """The JSON that a client reads."""
        told = {"error_code": self.code, "message": self.message, "sqlstate": STATES.get(self.kind, "KAM00")}
        return json.dumps({**told, "error_class": self.kind}).encode()


def invalid(message: str) -> Refused:
    """A value that may not be."""
    return Refused("INVALID_PARAMETER_VALUE", message)


def missing(message: str) -> Refused:
    """Something that is not there."""
    return Refused("RESOURCE_DOES_NOT_EXIST", message)


def exists(message: str) -> Refused:
    """Something that is there already."""
    return Refused("RESOURCE_ALREADY_EXISTS", message)


def internal() -> Refused:
    """The server's own failure; its log says more."""
    return Refused("INTERNAL_ERROR", "the server failed; its log says why")


def invalid_value(path: str, value: Any, message: str = "") -> str:
    """The words for a value that may not be."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return f"Invalid value {shown} for parameter '{path}' supplied" + (f": {message}" if message else ".")


def too_long(what: str, limit: int) -> Refused:
    """A text over its limit."""
    return invalid(f"'{what}' exceeds the maximum length of {limit} characters")
