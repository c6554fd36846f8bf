"""Late labels: `POST /v2/models/{model}/feedback`, on disk before the answer.

A label names a prediction by the client's id or ours. It may come long after, twice, or changed:
the newest by id wins when labels are read. It may also come before its prediction is sealed, or
for a row that this server never saw; joining is the reader's work. So `accepted` counts what was put
on disk, not what matched: how many requests are labelled is what `noria monitoring quality` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from json.encoder import encode_basestring_ascii as quote
from pathlib import Path

import msgspec

from noria.core.errors import NoriaError, UsageError
from noria.faces.http.body import BodyTooLarge, read_body, require_shallow
from noria.faces.http.infer import text_of, time_of
from noria.faces.http.replies import Receive, Scope, Send, reply, reply_error
from noria.serving.routes import Route
from noria.serving.runtime import Runtime
from noria.serving.segment import SegmentWriter, folder

__all__ = ["KIND", "Feedback"]

KIND = "labels"
MOST_LABELS = 100_000


class Label(msgspec.Struct, forbid_unknown_fields=True):
    """One outcome: the id of its prediction, the label, and when it became known (event time)."""

    id: str | int
    label: bool | int | float | str | None
    at: str = ""


class Labels(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a feedback request."""

    labels: list[Label]


_decoder = msgspec.json.Decoder(Labels)
_encode = msgspec.json.Encoder().encode


class Feedback:
    """Raw ASGI for feedback. Lines are {"id", "label", "at", "t"}, in `.noria/labels/{model}/`."""

    def __init__(self, runtime: Runtime, state: Path, *, now_us: Callable[[], int], max_body_bytes: int) -> None:
        self._runtime = runtime
        self._state = state
        self._now_us = now_us
        self._limit = max_body_bytes
        self._writers: dict[str, SegmentWriter] = {}
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="noria-labels")

    async def __call__(self, scope: Scope, receive: Receive, send: Send, model: str) -> None:
        """Answer one request with `{"accepted": n}`."""
        try:
            body = await read_body(scope, receive, limit=self._limit)
            route = self._runtime.routes.of(model)
            lines = lines_of(body, self._now_us(), accepted=outcomes_of(route))
            writer = self._writers.get(model)
            if writer is None:
                writer = self._writers[model] = SegmentWriter(folder(self._state, model, KIND), self._now_us)
            if lines:
                await asyncio.get_running_loop().run_in_executor(self._disk, writer.append, lines)
        except BodyTooLarge:
            raise
        except NoriaError as error:
            await reply_error(send, error)
            return
        await reply(send, 200, b'{"accepted":%d}' % len(lines))

    def rest(self) -> None:
        """Close files that are old, so that they can be sealed."""
        for writer in list(self._writers.values()):
            writer.rest()

    def close(self) -> None:
        """Close every file."""
        self._disk.shutdown()
        for writer in self._writers.values():
            writer.close()


def outcomes_of(route: Route) -> frozenset[str]:
    """The outcomes that can come true of a model, as JSON: the classes of what answers; empty for a number."""
    found = [*route.served.values(), *([route.shadow] if route.shadow else [])]
    if not found or not all(served.is_binary for served in found):
        return frozenset()
    return frozenset(text for served in found for text in (served.negative, served.positive))


def lines_of(body: bytes, now_us: int, *, accepted: frozenset[str]) -> list[bytes]:
    """The log lines of a feedback body; null takes a label back.

    Args:
        accepted: the classes as JSON; empty: the label is a number.
    Raises: UsageError; nothing of a body with one label that cannot be is kept.
    """
    require_shallow(body)
    try:
        asked = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise UsageError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the body is not valid JSON: {error}") from error
    if len(asked.labels) > MOST_LABELS:
        raise UsageError(f"{len(asked.labels)} labels in one request; at most {MOST_LABELS}")
    lines = []
    for label in asked.labels:
        name = text_of(label.id, "id")
        if not name:
            raise UsageError("a label needs the id of its prediction")
        value = _outcome(label, accepted)
        at = time_of(label.at)
        lines.append(f'{{"id":{quote(name)},"label":{value},"at":{quote(at)},"t":{now_us}}}'.encode())
    return lines


def _outcome(label: Label, accepted: frozenset[str]) -> str:
    """A label as the JSON that is kept: 1, 1.0 and true are one class where 1 is. Raises: UsageError."""
    value = label.label
    shown = _encode(value).decode()
    if value is None or shown in accepted:
        return shown
    if accepted:
        for name in accepted:
            known = msgspec.json.decode(name)
            if type(known) is not str and type(value) is not str and known == value:
                return name
        classes = " or ".join(sorted(accepted))
        raise UsageError(f"the label of {str(label.id)[:80]!r} must be {classes}, not {shown[:60]}")
    if isinstance(value, bool | str):
        raise UsageError(f"the label of {str(label.id)[:80]!r} must be a number, not {shown[:60]}")
    return shown
