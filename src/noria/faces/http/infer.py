"""The paths that models answer: `/predict`, and the Open Inference Protocol v2.

A request is parsed once into typed values; the row itself stays as the bytes that came, so that
the log holds what was received. What does not parse is a 4xx with `{"error": {…}}` and touches no
model. Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md; only the
error is an object here as on every other surface of ours, where the protocol has a text.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from json.encoder import encode_basestring_ascii as quote
from typing import Any

import msgspec

from noria.core.clock import instant
from noria.core.errors import NoriaError, NotFound, UsageError
from noria.core.frozen import frozen
from noria.faces.http.auth import actor_in
from noria.faces.http.body import BodyTooLarge, read_body, require_shallow
from noria.faces.http.replies import RETRY, Receive, Scope, Send, body_of, reply, reply_error
from noria.governance.access import is_allowed
from noria.packaging.rows import RowRefused
from noria.serving.answers import Answer, Ask, Waiter
from noria.serving.routes import Route
from noria.serving.runtime import Runtime

__all__ = ["ROW_TYPE", "Infer"]

Value = bool | int | float | str | None
ROW_TYPE = dict[str, Value]
MOST_TEXT = 512
FIRST_YEAR, LAST_YEAR = 1678, 2261
"""The whole years that a time of pandas and Arrow holds in nanoseconds."""
"""Characters of an id, key or time."""


class Predict(msgspec.Struct, forbid_unknown_fields=True):
    """`{"id", "key", "at", "row": {…}}` or `{"id", "key", "at", "rows": [{…}, …]}`; all but the rows optional."""

    row: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    rows: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    id: str | int = ""
    key: str | int = ""
    at: str = ""


class Tensor(msgspec.Struct):
    """One input column of a v2 request."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class Wanted(msgspec.Struct):
    """One requested output of a v2 request."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """A v2 request. `parameters` may carry key and at."""

    inputs: list[Tensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[Wanted] = []


_predict = msgspec.json.Decoder(Predict)
_infer = msgspec.json.Decoder(InferRequest)
_row = msgspec.json.Decoder(ROW_TYPE)
_raw_row = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value = msgspec.json.Decoder(Value)
_LONE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_encode = msgspec.json.Encoder().encode

_CUT = ("truncated", "surrogate", "escape")

DATATYPES: Mapping[str, tuple[type, ...]] = {
    "BOOL": (bool,),
    **{f"{sign}INT{bits}": (int,) for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": (float, int) for bits in (16, 32, 64)},
    "BYTES": (str,),
}


@frozen
class Refused:
    """What to answer to a request that was not queued."""

    status: int
    body: bytes


class Infer:
    """Raw ASGI for everything below `/predict` and `/v2/models/…/infer`.

    Args:
        project: whose models these are; who may not see them is not told their names.
    """

    def __init__(self, runtime: Runtime, *, max_body_bytes: int, project: str) -> None:
        self._runtime = runtime
        self._project = project
        self.limit_bytes = max_body_bytes
        self._count = count(1)
        self._process = f"{time.time_ns():x}"

    async def predict(self, scope: Scope, receive: Receive, send: Send, model: str) -> None:
        """Answer `POST /predict` and `POST /predict/{model}`."""
        arrived_ns = time.perf_counter_ns()
        body = await read_body(scope, receive, limit=self.limit_bytes)
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        refusal = self.queue(scope, body, model, arrived_ns=arrived_ns, waiter=waiter)
        if refusal is not None:
            more = (RETRY,) if refusal.status == 503 else ()
            await reply(send, refusal.status, refusal.body, more=more)
            return
        answer = await waiter
        await reply(send, answer.status, answer.body)

    def queue(
        self, scope: Mapping[str, Any], body: bytes, model: str, *, arrived_ns: int, waiter: Waiter
    ) -> Refused | None:
        """Read a request of `/predict` and queue it; gives what to answer at once if it cannot be."""
        rid = ""
        try:
            route = self._route(scope, model)
            asked = parse_predict(body)
            rid = text_of(asked.id, "id") or self._new_id()
            rows, is_many = rows_of(asked)
            self._runtime.ask(
                route,
                rows,
                rid=rid,
                key=text_of(asked.key, "key") or rid,
                at=time_of(asked.at),
                release=pinned(scope),
                arrived_ns=arrived_ns,
                waiter=waiter,
                render=render_rows if is_many else None,
            )
        except NoriaError as error:
            self._runtime.meters.malformed += error.status != 503
            return Refused(error.status, body_of(error, rid=rid))
        return None

    async def infer(self, scope: Scope, receive: Receive, send: Send, model: str, version: str) -> None:
        """Answer `POST /v2/models/{model}[/versions/{version}]/infer`."""
        arrived_ns = time.perf_counter_ns()
        rid = ""
        try:
            if any(name == b"inference-header-content-length" for name, _ in scope["headers"]):
                raise UsageError("binary tensors are not supported here", hint="send the data as JSON")
            body = await read_body(scope, receive, limit=self.limit_bytes)
            route = self._route(scope, model)
            asked = parse_infer(body)
            rid = text_of(asked.id, "id") or self._new_id()
            wanted = outputs_of(asked)
            waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._runtime.ask(
                route,
                tensor_rows(asked),
                rid=rid,
                key=text_of(asked.parameters.get("key", ""), "parameters.key") or rid,
                at=time_of(text_of(asked.parameters.get("at", ""), "parameters.at")),
                release=release_of(version, route) if version else 0,
                arrived_ns=arrived_ns,
                waiter=waiter,
                render=lambda ask, names, scores, labels: render_infer(ask, names, scores, labels, wanted),
            )
        except BodyTooLarge:
            raise
        except NoriaError as error:
            self._runtime.meters.malformed += error.status != 503
            await reply_error(send, error, rid=rid)
            return
        answer = await waiter
        await reply(send, answer.status, answer.body)

    def has(self, model: str) -> bool:
        """Whether a model of this name answers here; "" is the only one."""
        routes = self._runtime.routes.by_model
        return model in routes if model else len(routes) == 1

    def _route(self, scope: Mapping[str, Any], model: str) -> Route:
        """The route of a model. Raises: UsageError; NotFound with the names that there are, to who may see them."""
        try:
            return self._runtime.routes.of(model)
        except UsageError as error:
            if not is_allowed(actor_in(scope), "serving.read", self._project):
                error.hint = ""
            raise

    def _new_id(self) -> str:
        """An id for a request that came without one."""
        return f"req_{self._process}{next(self._count):x}"


def parse_predict(body: bytes) -> Predict:
    """The typed request. Raises: UsageError that says what is wrong and where."""
    asked: Predict = _parsed(_predict.decode, body)
    has_row, has_rows = asked.row is not msgspec.UNSET, asked.rows is not msgspec.UNSET
    if has_row == has_rows:
        raise UsageError("the body needs either row, an object, or rows, a list of objects")
    return asked


def parse_infer(body: bytes) -> InferRequest:
    """The typed v2 request. Raises: UsageError."""
    require_shallow(body)
    asked: InferRequest = _parsed(_infer.decode, body)
    return asked


def rows_of(asked: Predict) -> tuple[list[tuple[bytes, dict[str, Any]]], bool]:
    """(as received, decoded) for each row, and whether the request was for several. Raises: UsageError."""
    if asked.row is not msgspec.UNSET:
        return [_row_of(asked.row)], False
    assert asked.rows is not msgspec.UNSET, "one of both is set"
    if not asked.rows:
        raise UsageError("rows is empty")
    return [_row_of(raw) for raw in asked.rows], True


def _row_of(raw: msgspec.Raw) -> tuple[bytes, dict[str, Any]]:
    try:
        decoded = _row.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _misfit(raw, error) from error
    received = bytes(raw)
    # The log is framed by lines, so a pretty-printed row is stored compact.
    if b"\n" in received or b"\r" in received:
        received = _encode(decoded)
    return received, decoded


def _misfit(raw: msgspec.Raw, error: Exception) -> UsageError:
    """What is wrong with a row that cannot be read, by its first bad column if the rest can."""
    try:
        values = _raw_row.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UsageError(f"row: {_reason(error, bytes(raw))}")
    for name, value in values.items():
        try:
            _value.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            return RowRefused(f"column {name[:80]!r}: {_reason(wrong, bytes(value))}", column=name[:80])
    return UsageError(f"row: {_reason(error, bytes(raw))}")


def _reason(error: Exception, body: bytes) -> str:
    """Why a text is no JSON for us, in words that name what is there."""
    if isinstance(error, msgspec.DecodeError) and any(word in str(error) for word in _CUT) and _LONE.search(body):
        return "half of a character: a lone surrogate, such as \\ud800, is not a text"
    return "it nests too deeply" if isinstance(error, RecursionError) else str(error)


def _parsed(decode: Callable[[Any], Any], body: bytes) -> Any:
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise UsageError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the body is not valid JSON: {_reason(error, body)}") from error
    except RecursionError as error:
        raise UsageError("the body nests too deeply") from error


def text_of(value: Any, what: str) -> str:
    """An id or key: a text, or a number as text. Raises: UsageError."""
    if type(value) is str:
        text = value
    elif isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    else:
        raise UsageError(f"{what} must be a text or a whole number")
    if len(text) > MOST_TEXT:
        raise UsageError(f"{what} is longer than {MOST_TEXT} characters")
    return text


def time_of(text: str) -> str:
    """An event time, as it came. Raises: UsageError if it is no ISO 8601 date or time of the years that frames hold."""
    if not text:
        return text
    try:
        year = instant(text).year
    except ValueError as error:
        raise UsageError("at must be an ISO 8601 date or time, such as 2026-11-21T04:40:00Z") from error
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise UsageError(f"at must be in the years {FIRST_YEAR} to {LAST_YEAR}, not {year}")
    return text


def pinned(scope: Mapping[str, Any]) -> int:
    """The release that the header `x-noria-release` asks for; 0 for none. Raises: UsageError."""
    for name, value in scope["headers"]:
        if name == b"x-noria-release":
            if not value.isdigit() or len(value) > 9:
                raise UsageError("the header x-noria-release must be a release number")
            return int(value)
    return 0


def release_of(version: str, route: Route) -> int:
    """The release number that a v2 version names. Raises: NotFound."""
    if not version.isdecimal() or len(version) > 9:
        raise NotFound(f"{route.model} has no version {version[:40]!r}", hint="versions are release numbers")
    return int(version)


def render_rows(ask: Ask, names: Sequence[str], scores: Sequence[float], labels: Sequence[str]) -> bytes:
    """The answer to `rows`: lists in the order that came."""
    listed = ",".join(f'"{name}"' for name in names)
    return (
        f'{{"id":{quote(ask.rid)},"prediction_id":[{listed}],"model":"{ask.route.model}",'
        f'"release":{ask.served.release},"score":[{",".join(map(repr, scores))}],"label":[{",".join(labels)}]}}'
    ).encode()


def render_infer(
    ask: Ask, names: Sequence[str], scores: Sequence[float], labels: Sequence[str], wanted: frozenset[str]
) -> bytes:
    """The v2 answer: outputs score and, for a classifier, label."""
    shape = f"[{len(scores)}]"
    outputs = []
    if "score" in wanted:
        data = ",".join(map(repr, scores))
        outputs.append(f'{{"name":"score","datatype":"FP64","shape":{shape},"data":[{data}]}}')
    if "label" in wanted and ask.served.is_binary:
        datatype = label_datatype(ask.served.positive)
        outputs.append(f'{{"name":"label","datatype":"{datatype}","shape":{shape},"data":[{",".join(labels)}]}}')
    listed = ",".join(f'"{name}"' for name in names)
    return (
        f'{{"model_name":"{ask.route.model}","model_version":"{ask.served.release}","id":{quote(ask.rid)},'
        f'"parameters":{{"prediction_ids":"{listed.replace(chr(34), "")}"}},"outputs":[{",".join(outputs)}]}}'
    ).encode()


def label_datatype(label: str) -> str:
    """The v2 datatype of a label given as JSON."""
    if label in ("true", "false"):
        return "BOOL"
    if label.startswith('"'):
        return "BYTES"
    return "FP64" if "." in label else "INT64"


def outputs_of(asked: InferRequest) -> frozenset[str]:
    """The outputs that a request wants; all if it names none. Raises: UsageError for an unknown one."""
    known = frozenset({"score", "label"})
    wanted = frozenset(output.name for output in asked.outputs)
    unknown = sorted(wanted - known)
    if unknown:
        raise UsageError(f"there is no output {unknown[0][:80]!r}", hint="outputs: label, score")
    return wanted or known


def tensor_rows(asked: InferRequest) -> list[tuple[bytes, dict[str, Any]]]:
    """The rows of a v2 request: one tensor a column, shape [n] or [n, 1]. Raises: UsageError naming the input."""
    if not asked.inputs:
        raise UsageError("inputs is empty")
    columns: dict[str, list[Any]] = {}
    height = -1
    for tensor in asked.inputs:
        if tensor.name in columns:
            raise UsageError(f"input {tensor.name[:80]!r} comes twice")
        values = _values(tensor)
        if height not in (-1, len(values)):
            raise UsageError(f"input {tensor.name[:80]!r} has {len(values)} rows and the one before {height}")
        columns[tensor.name], height = values, len(values)
    if height == 0:
        raise UsageError("the inputs have no rows")
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [(_encode(row), row) for row in rows]


def _values(tensor: Tensor) -> list[Any]:
    name = tensor.name[:80]
    accepted = DATATYPES.get(tensor.datatype)
    if accepted is None:
        raise UsageError(f"input {name!r}: there is no datatype {tensor.datatype[:40]!r}", hint=", ".join(DATATYPES))
    shape = tensor.shape
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1) or shape[0] < 0:
        raise UsageError(f"input {name!r} must have shape [n] or [n, 1]", hint="one input for each column")
    values = tensor.data
    if len(shape) == 2 and values and all(isinstance(value, list) and len(value) == 1 for value in values):
        values = [value[0] for value in values]
    if len(values) != shape[0]:
        raise UsageError(f"input {name!r} has {len(values)} values and shape {shape}")
    for value in values:
        if value is not None and (type(value) not in accepted):
            raise UsageError(f"input {name!r} holds a value that is not {tensor.datatype}")
    return values
