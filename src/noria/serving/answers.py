"""From a group of requests and one release to answers and log lines: the middle of the hot path.

One predict serves the whole group; every request gets the rows it sent, by offset. A row that
does not fit the signature, or that makes the model raise, fails alone: the others of the group
are predicted again without it. What the model gives is checked before it is believed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Protocol

import msgspec

from noria.core.errors import ModelFailed, ModelSilent, NoriaError
from noria.core.frozen import slotted
from noria.packaging.rows import RowRefused
from noria.serving.facts import Arm
from noria.serving.line import INVALID, RAISED, REJECTED
from noria.serving.routes import Route, Served

__all__ = ["Answer", "Ask", "Ids", "Render", "Waiter", "answer_batch", "error_body", "shadow_lines"]

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(a + b for a in CROCKFORD for b in CROCKFORD)


class Waiter(Protocol):
    """Who waits for an answer, on the event loop: an asyncio future, or what does as one."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, answer: Answer, /) -> None:
        """Take the answer."""


class Ask:
    """One request in the queue. `rows` are (as received, decoded); `future` takes the Answer."""

    __slots__ = ("arm", "arrived_ns", "at", "future", "key", "render", "rid", "route", "rows", "served")

    def __init__(
        self,
        route: Route,
        served: Served,
        arm: Arm,
        rows: Sequence[tuple[bytes, dict[str, Any]]],
        rid: str,
        key: str,
        at: str,
        arrived_ns: int,
        future: Waiter,
        render: Render | None = None,
    ) -> None:
        self.route, self.served, self.arm, self.rows = route, served, arm, rows
        self.rid, self.key, self.at, self.arrived_ns, self.future = rid, key, at, arrived_ns, future
        self.render = render


Render = Callable[[Ask, Sequence[str], Sequence[float], Sequence[str]], bytes]
"""Body of an answer from the ask, prediction ids, scores, and classes as JSON."""


@slotted
class Answer:
    """What goes back: status and JSON body. `details` are (prediction id, status, class) by row, for a shadow."""

    status: int
    body: bytes
    us: int
    rows: int
    release: int
    arm: str
    details: Sequence[tuple[str, int, str]] = ()

    @staticmethod
    def failed(ask: Ask, error: Exception) -> Answer:
        """The answer to a request whose batch failed in a way that nobody foresaw."""
        text = f"the server failed: {type(error).__name__}"
        us = (time.perf_counter_ns() - ask.arrived_ns) // 1000
        return Answer(500, error_body(text, rid=ask.rid), us, len(ask.rows), ask.served.release, ask.arm.name)


class Ids:
    """Prediction ids in order of time: `pred_`, 48 bits of milliseconds, 50 random bits of the process, a counter.

    The layout is that of `core.identity.sortable_id`; only the random part is spent in another way,
    so that an id costs half a microsecond. Not thread safe.
    """

    def __init__(self, process: int) -> None:
        assert 0 <= process < 2**50
        self._process = "".join(CROCKFORD[(process >> shift) & 31] for shift in range(45, -5, -5))
        self._count = 0
        self._ms = -1
        self._prefix = ""

    def next(self, ms: int) -> str:
        """An id never given before."""
        if ms != self._ms:
            self._ms = ms
            self._prefix = (
                "pred_" + "".join(CROCKFORD[(ms >> shift) & 31] for shift in range(45, -5, -5)) + self._process
            )
        count = self._count = (self._count + 1) & 0x3FFFFFFF
        return f"{self._prefix}{_PAIRS[count >> 20]}{_PAIRS[(count >> 10) & 1023]}{_PAIRS[count & 1023]}"


def error_body(
    message: str, *, code: str = "internal", where: str = "", hint: str = "", column: str = "", rid: str = ""
) -> bytes:
    """The JSON body of an error: the shape that every surface has, and beside it the column and the request's id."""
    found: dict[str, Any] = {"error": {"code": code, "message": message, "where": where, "hint": hint}}
    if column:
        found["column"] = column
    if rid:
        found["id"] = rid
    return msgspec.json.encode(found)


def answer_batch(group: Sequence[Ask], ids: Ids, *, now_us: int, batch: int) -> tuple[list[Answer], list[list[bytes]]]:
    """One answer for each request of a group of one release, in order, and the log lines of each."""
    answers: list[Answer] = []
    written: list[list[bytes]] = []
    results = _scores(group)
    ms = now_us // 1000
    for ask, result in zip(group, results, strict=True):
        lines: list[bytes] = []
        written.append(lines)
        if isinstance(result, Exception):
            answers.append(_refuse(ask, result, ids.next(ms), lines, now_us=now_us, batch=batch))
            continue
        served = ask.served
        bad = next((i for i, score in enumerate(result) if not served.is_valid(score)), -1)
        if bad >= 0:
            answers.append(_refuse(ask, _Invalid(bad), ids.next(ms), lines, now_us=now_us, batch=batch))
            continue
        names = [ids.next(ms) for _ in result]
        labels = [served.label(score) for score in result]
        body = (ask.render or _plain_body)(ask, names, result, labels)
        us = (time.perf_counter_ns() - ask.arrived_ns) // 1000
        arm, route = ask.arm, ask.route
        middle = (
            f'"t":{now_us},"at":{quote(ask.at)},"key":{quote(ask.key)},"dep":{route.seq},"rel":{served.release},'
            f'"arm":"{arm.name}","pi":{arm.weight!r},"st":200,"us":{us},"b":{batch},"x":'
        )
        many = len(result) > 1
        for index, ((raw, _), name, score, label) in enumerate(zip(ask.rows, names, result, labels, strict=True)):
            rid = quote(f"{ask.rid}#{index}" if many else ask.rid)
            head = f'{{"id":"{name}","rid":{rid},{middle}'
            lines.append(b"%b%b%b" % (head.encode(), raw, f',"y":{score!r},"c":{label}}}'.encode()))
        details = [(name, 200, label) for name, label in zip(names, labels, strict=True)]
        answers.append(Answer(200, body, us, len(result), served.release, arm.name, details))
    return answers, written


def shadow_lines(route: Route, group: Sequence[Ask], answers: Sequence[Answer], *, now_us: int) -> list[bytes]:
    """Ask the shadow what was answered for real, or failed for real, and say it in lines of the log."""
    served = route.shadow
    assert served is not None, "only a route with a shadow offers"
    asked = [(ask, answer) for ask, answer in zip(group, answers, strict=True) if answer.details]
    if not asked:
        return []
    started = time.perf_counter_ns()
    results = _scores([ask for ask, _ in asked], served)
    us = (time.perf_counter_ns() - started) // 1000 // max(1, len(asked))
    lines: list[bytes] = []
    for (ask, answer), result in zip(asked, results, strict=True):
        arm = ask.arm.name
        for index, (name, status, label) in enumerate(answer.details):
            head = (
                f'{{"sh":"{name}","t":{now_us},"at":{quote(ask.at)},"key":{quote(ask.key)},"dep":{route.seq},'
                f'"rel":{served.release},"arm":"{arm}","us":{us},"ls":{status},"lc":{label}'
            )
            if isinstance(result, Exception):
                tail = f',"st":{_status(result)},"e":"{_why(result)}"}}'
            elif not served.is_valid(result[index]):
                tail = f',"st":500,"e":"{INVALID}"}}'
            else:
                tail = f',"st":200,"y":{result[index]!r},"c":{served.label(result[index])}}}'
            lines.append((head + tail).encode())
    return lines


class _Invalid(Exception):
    """A score that the model may not give, at a row of the request."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


def _scores(group: Sequence[Ask], served: Served | None = None) -> list[list[float] | Exception]:
    """The scores of each request, or why it has none."""
    model = (served or group[0].served).model
    rows = [row for ask in group for _, row in ask.rows]
    try:
        found = model.predict(rows).tolist()
    except RowRefused as error:
        return _without_refused(group, served, error)
    except ModelSilent as error:  # asked one by one again, each of them might take as long
        return [error] * len(group)
    except Exception as error:  # noqa: BLE001  # the project's model: each request then fails or passes alone
        if len(group) == 1:
            return [error]
        return [_scores([ask], served)[0] for ask in group]
    results: list[list[float] | Exception] = []
    place = 0
    for ask in group:
        results.append(found[place : place + len(ask.rows)])
        place += len(ask.rows)
    return results


def _without_refused(group: Sequence[Ask], served: Served | None, error: RowRefused) -> list[list[float] | Exception]:
    """Check every row by itself, then predict the requests that have no misfit."""
    if len(group) == 1:
        return [error]
    model = (served or group[0].served).model
    refused: dict[int, RowRefused] = {}
    for place, ask in enumerate(group):
        for index, (_, row) in enumerate(ask.rows):
            try:
                model.check(row)
            except RowRefused as misfit:
                misfit.row = index
                refused[place] = misfit
                break
    fine = [ask for place, ask in enumerate(group) if place not in refused]
    assert len(fine) < len(group), "a batch was refused and none of its rows was"
    scores = iter(_scores(fine, served) if fine else [])
    return [refused[place] if place in refused else next(scores) for place in range(len(group))]


def _refuse(ask: Ask, error: Exception, name: str, lines: list[bytes], *, now_us: int, batch: int) -> Answer:
    """The answer to a request without scores, and its one line: the row that was refused, or the first."""
    status, why = _status(error), _why(error)
    row = min(getattr(error, "row", 0), len(ask.rows) - 1)
    many = len(ask.rows) > 1
    place = f" (row {row})" if many else ""
    if isinstance(error, RowRefused):
        text = error.message + place
        body = error_body(text, code=error.code, hint=error.hint, column=error.column, rid=ask.rid)
    elif isinstance(error, _Invalid):
        text = f"the model gave a score that is not valid{place}"
        body = error_body(text, code=ModelFailed.code, rid=ask.rid)
    else:
        text = error.message if isinstance(error, NoriaError) else f"the model raised {type(error).__name__}"
        hint = error.hint if isinstance(error, NoriaError) else ""
        body = error_body(text, code=getattr(error, "code", ModelFailed.code), hint=hint, rid=ask.rid)
    us = (time.perf_counter_ns() - ask.arrived_ns) // 1000
    arm = ask.arm
    rid = quote(f"{ask.rid}#{row}" if many else ask.rid)
    head = (
        f'{{"id":"{name}","rid":{rid},"t":{now_us},"at":{quote(ask.at)},"key":{quote(ask.key)},'
        f'"dep":{ask.route.seq},"rel":{ask.served.release},"arm":"{arm.name}","pi":{arm.weight!r},'
        f'"st":{status},"us":{us},"b":{batch},"e":"{why}","x":'
    )
    lines.append(b"%b%b}" % (head.encode(), ask.rows[row][0]))
    details = [(name, status, "null")] if status >= 500 and not many else []
    return Answer(status, body, us, len(ask.rows), ask.served.release, arm.name, details)


def _status(error: Exception) -> int:
    if isinstance(error, ModelSilent):
        return error.status
    return 400 if isinstance(error, RowRefused) else 500


def _why(error: Exception) -> str:
    if isinstance(error, RowRefused):
        return REJECTED
    return INVALID if isinstance(error, _Invalid) else RAISED


def _plain_body(ask: Ask, names: Sequence[str], scores: Sequence[float], labels: Sequence[str]) -> bytes:
    """The answer to one row of `/predict`."""
    return (
        f'{{"id":{quote(ask.rid)},"prediction_id":"{names[0]}","model":"{ask.route.model}",'
        f'"release":{ask.served.release},"score":{scores[0]!r},"label":{labels[0]}}}'
    ).encode()
