"""One line of the prediction log: what is written before an answer leaves, and read ever after.

The format is JSON with short keys, because there is one line for each row that was answered:
id (ours), rid (the client's), t (µs of the wall clock), at (event time, text), key (routing),
dep (seq of the deployment), rel (release), arm, pi (the arm's probability), st (HTTP status),
us (from the request's arrival to its answer being ready), b (batch of the server), e (why not
200: rejected, raised or invalid), x (the row as received), y (score), c (class). A shadow's line
has `sh` (the id it answered again), lc and ls (class and status that were really answered).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

__all__ = ["INVALID", "RAISED", "REJECTED", "Line", "decode", "decode_with_row"]

REJECTED = "rejected"
RAISED = "raised"
INVALID = "invalid"

Plain = bool | int | float | str | None


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line without the row itself."""

    t: int
    dep: int
    rel: int
    st: int
    us: int
    id: str = ""
    rid: str = ""
    at: str = ""
    key: str = ""
    arm: str = ""
    pi: float = 1.0
    b: int = 0
    e: str = ""
    y: float | None = None
    c: Plain = None
    sh: str = ""
    lc: Plain = None
    ls: int = 200

    @property
    def is_shadow(self) -> bool:
        """Whether a shadow release answered, so nobody received it."""
        return bool(self.sh)


class FullLine(Line, frozen=True, gc=False):
    """A line with its row: column to JSON value."""

    x: dict[str, Plain] | None = None


_line = msgspec.json.Decoder(Line)
_full = msgspec.json.Decoder(FullLine)


def decode(payloads: Sequence[bytes]) -> list[Line]:
    """The lines of payloads, without their rows. Raises: msgspec.DecodeError for what is no line."""
    return [_line.decode(payload) for payload in payloads]


def decode_with_row(payloads: Sequence[bytes]) -> list[FullLine]:
    """The lines of payloads, with their rows."""
    return [_full.decode(payload) for payload in payloads]
