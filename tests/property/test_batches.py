"""Whatever is predicted together: every caller gets its own rows, and each answer is in the log."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.core.errors import ModelFailed, ModelSilent
from noria.packaging.rows import RowRefused
from noria.serving.answers import Answer
from noria.serving.facts import Arm
from noria.serving.line import Line, decode
from noria.serving.routes import Route, Routes, Served
from noria.serving.runtime import Busy, Limits, Runtime
from noria.serving.segment import read, sources


class Double:
    """A model double: the score is the row's own number plus the release's, so any mix-up shows."""

    task = "regression"
    labels: tuple[Any, ...] = ()
    threshold = 0.0

    def __init__(self, release: int) -> None:
        self.release = release
        self.gate = threading.Event()
        self.gate.set()

    def check(self, row: dict[str, Any]) -> None:
        if row["x"] < 0:
            raise RowRefused("x is negative", column="x")

    def predict(self, data: Sequence[dict[str, Any]]) -> npt.NDArray[np.float64]:
        assert self.gate.wait(10)
        for index, row in enumerate(data):
            if row["x"] < 0:
                raise RowRefused("x is negative", column="x", row=index)
        if any(row["x"] == 13 for row in data):
            raise ModelFailed("thirteen")
        scores = [float("nan") if row["x"] == 17 else row["x"] * 1000.0 + self.release for row in data]
        return np.array(scores, dtype=np.float64)


def route(models: dict[int, Double], shares: Sequence[float], *, shadow: int = 0) -> Route:
    served = {number: Served(number, f"content{number}", f"bundle{number}", model) for number, model in models.items()}
    arms = tuple(Arm(name=f"a{n}", release=n, content="", weight=w) for n, w in zip(models, shares, strict=True))
    return Route("m", 5, "seed", arms, {a.release: served[a.release] for a in arms if a.weight}, served.get(shadow))


def now_us() -> int:
    return 1_700_000_000_000_000


def ask(runtime: Runtime, found: Route, x: int, rid: str) -> asyncio.Future[Answer]:
    """One row; who waits for it."""
    waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    runtime.ask(found, [(b"{}", {"x": x})], rid=rid, key="k", at="", arrived_ns=0, waiter=waiter)
    return waiter


async def gather(runtime: Runtime, asks: Sequence[list[int]], found: Route) -> list[Answer]:
    futures = []
    for number, numbers in enumerate(asks):
        pairs = [(json.dumps({"x": x}).encode(), {"x": x}) for x in numbers]
        rid = f"r{number}"
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        runtime.ask(found, pairs, rid=rid, key=rid, at="", arrived_ns=0, waiter=waiter, render=render)
        futures.append(waiter)
        if number % 5 == 4:
            await asyncio.sleep(0)
    return list(await asyncio.gather(*futures))


def render(ask: Any, names: Sequence[str], scores: Sequence[float], labels: Sequence[str]) -> bytes:
    return json.dumps(
        {"rid": ask.rid, "names": list(names), "scores": list(scores), "rel": ask.served.release}
    ).encode()


REQUESTS = st.lists(
    st.lists(st.sampled_from([-1, 13, 17, *range(1, 12)]), min_size=1, max_size=4), min_size=1, max_size=60
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asks=REQUESTS, share=st.sampled_from([0.0, 0.3, 0.5]), most=st.sampled_from([1, 3, 64]))
def test_every_caller_gets_its_own_rows(tmp_path: Path, asks: list[list[int]], share: float, most: int) -> None:
    place = tmp_path / str(len(list(tmp_path.iterdir())))
    runtime = Runtime(place, now_us=now_us, limits=Limits(batch_rows=most))
    found = route({1: Double(1), 2: Double(2)}, (1 - share, share))

    async def run() -> list[Answer]:
        runtime.start(asyncio.get_running_loop())
        return await gather(runtime, asks, found)

    answers = asyncio.run(run())
    runtime.stop()
    logged = {line.rid: line for path in sources(place / "predictions" / "m") for line in decode(read(path)[0])}
    for number, (numbers, answer) in enumerate(zip(asks, answers, strict=True)):
        body = json.loads(answer.body)
        if -1 in numbers:
            # A misfit is refused before the model is asked, whatever else the request holds.
            assert (answer.status, body["column"]) == (400, "x")
        elif 13 in numbers or 17 in numbers:
            assert (answer.status, body["id"]) == (500, f"r{number}")
        else:
            assert answer.status == 200
            assert body["rid"] == f"r{number}"
            assert body["scores"] == [x * 1000.0 + body["rel"] for x in numbers]
            for index, (name, score) in enumerate(zip(body["names"], body["scores"], strict=True)):
                line = logged[f"r{number}#{index}" if len(numbers) > 1 else f"r{number}"]
                assert (line.id, line.y, line.rel, line.st) == (name, score, body["rel"], 200)
    assert runtime.queued_rows == 0


def test_rows_that_wait_together_are_predicted_together(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path, now_us=now_us)
    model = Double(1)
    found = route({1: model}, (1.0,))

    async def run() -> None:
        runtime.start(asyncio.get_running_loop())
        model.gate.clear()
        first = asyncio.ensure_future(gather(runtime, [[1]], found))
        await asyncio.sleep(0.05)
        rest = asyncio.ensure_future(gather(runtime, [[x] for x in range(1, 12)], found))
        await asyncio.sleep(0.05)
        model.gate.set()
        await first
        await rest

    asyncio.run(run())
    runtime.stop()
    lines = [line for path in sources(tmp_path / "predictions" / "m") for line in decode(read(path)[0])]
    assert [line.b for line in lines] == [1] + [2] * 11


def test_a_full_queue_is_said_at_once_and_recovers(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path, now_us=now_us, limits=Limits(queue_rows=3))
    model = Double(1)
    found = route({1: model}, (1.0,))

    async def run() -> None:
        runtime.start(asyncio.get_running_loop())
        model.gate.clear()
        waiting = [ask(runtime, found, 1, str(i)) for i in range(3)]
        with pytest.raises(Busy):
            ask(runtime, found, 1, "x")
        model.gate.set()
        assert all(answer.status == 200 for answer in await asyncio.gather(*waiting))
        assert (await ask(runtime, found, 2, "y")).status == 200

    asyncio.run(run())
    assert runtime.meters.refused == 1
    runtime.stop()


def test_a_model_in_a_process_of_its_own_that_hangs_holds_up_no_other_model(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path, now_us=now_us, limits=Limits(queue_rows=2))
    slow, quick = Double(1), Double(2)
    arm = Arm(name="a", release=1, content="", weight=1.0)
    apart = Route("slow", 5, "seed", (arm,), {1: Served(1, "c", "b", slow, is_apart=True)})
    found = route({2: quick}, (1.0,))

    async def run() -> None:
        runtime.start(asyncio.get_running_loop())
        slow.gate.clear()
        waiting = [ask(runtime, apart, 1, str(n)) for n in range(2)]
        with pytest.raises(Busy):
            ask(runtime, apart, 1, "x")
        for n in range(3):
            answer = await ask(runtime, found, n, "y")
            assert (answer.status, json.loads(answer.body)["score"]) == (200, n * 1000.0 + 2)
        assert not any(each.done() for each in waiting)
        assert runtime.queued_rows == 2
        slow.gate.set()
        assert [each.status for each in await asyncio.gather(*waiting)] == [200, 200]

    asyncio.run(run())
    runtime.stop()
    logged = [
        line.id
        for m in ("slow", "m")
        for path in sources(tmp_path / "predictions" / m)
        for line in decode(read(path)[0])
    ]
    assert len(set(logged)) == 5


def test_a_model_that_was_silent_is_not_asked_again_for_each_request_of_the_batch(tmp_path: Path) -> None:
    class Silent(Double):
        calls = 0

        def predict(self, data: Sequence[dict[str, Any]]) -> npt.NDArray[np.float64]:
            assert self.gate.wait(10)
            self.calls += 1
            raise ModelSilent("no answer within 30 s", hint="ask again")

    runtime = Runtime(tmp_path, now_us=now_us)
    model = Silent(1)
    found = route({1: model}, (1.0,))

    async def run() -> None:
        runtime.start(asyncio.get_running_loop())
        model.gate.clear()
        first = ask(runtime, found, 1, "0")
        waiting = [ask(runtime, found, 1, str(n)) for n in range(1, 6)]
        model.gate.set()
        answers = await asyncio.gather(first, *waiting)
        assert {answer.status for answer in answers} == {504}
        error = json.loads(answers[0].body)["error"]
        assert (error["code"], error["hint"]) == ("model-silent", "ask again")

    asyncio.run(run())
    runtime.stop()
    assert model.calls <= 2


def test_a_caller_that_leaves_cancels_nobody_else(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path, now_us=now_us)
    model = Double(1)
    found = route({1: model}, (1.0,))

    async def run() -> None:
        runtime.start(asyncio.get_running_loop())
        model.gate.clear()
        asks = [ask(runtime, found, x, str(x)) for x in (1, 2, 3)]
        asks[1].cancel()
        model.gate.set()
        assert [(await asks[i]).status for i in (0, 2)] == [200, 200]

    asyncio.run(run())
    assert runtime.queued_rows == 0
    runtime.stop()


def test_a_request_keeps_the_table_it_came_with(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path, now_us=now_us)
    old, new = Double(1), Double(2)
    runtime.swap(Routes({"m": route({1: old}, (1.0,))}))

    async def run() -> None:
        runtime.start(asyncio.get_running_loop())
        old.gate.clear()
        before = ask(runtime, runtime.routes.of("m"), 1, "1")
        runtime.swap(Routes({"m": route({2: new}, (1.0,))}))
        after = ask(runtime, runtime.routes.of("m"), 1, "2")
        old.gate.set()
        assert [json.loads((await ask).body)["release"] for ask in (before, after)] == [1, 2]

    asyncio.run(run())
    runtime.stop()


def test_a_shadow_answers_the_same_rows_and_its_failure_is_seen_by_nobody(tmp_path: Path) -> None:
    found = route({1: Double(1), 2: Double(2)}, (1.0, 0.0), shadow=2)

    class Broken(Double):
        def predict(self, data: Sequence[dict[str, Any]]) -> npt.NDArray[np.float64]:
            raise ValueError("broken shadow")

    broken = route({1: Double(1), 2: Broken(2)}, (1.0, 0.0), shadow=2)

    def answered(which: Route, place: Path) -> list[Line]:
        runtime = Runtime(place, now_us=now_us)

        async def run() -> list[Answer]:
            runtime.start(asyncio.get_running_loop())
            return await gather(runtime, [[x] for x in range(1, 12)], which)

        assert all(answer.status == 200 for answer in asyncio.run(run()))
        lines = wait_lines(place, 11)
        runtime.stop()
        return lines

    lines = answered(found, tmp_path / "fine")
    live = {line.id: line for line in lines if not line.sh}
    for line in lines:
        if line.sh:
            assert line.y == live[line.sh].y + 1  # type: ignore[operator]  # an answered row has a score
    assert {line.st for line in answered(broken, tmp_path / "broken") if line.sh} == {500}


def wait_lines(place: Path, shadows: int) -> list[Line]:
    """The log, once it holds that many lines of shadows."""
    done = threading.Event()
    for _ in range(1000):
        lines = [line for path in sources(place / "predictions" / "m") for line in decode(read(path)[0])]
        if sum(bool(line.sh) for line in lines) == shadows:
            return lines
        done.wait(0.01)
    raise AssertionError(f"no {shadows} shadow lines within ten seconds")


def test_what_cannot_be_put_on_record_is_not_answered_and_is_counted(tmp_path: Path) -> None:
    block = tmp_path / "predictions"
    block.write_text("a file where the folder should be")
    runtime = Runtime(tmp_path, now_us=now_us)
    found = route({1: Double(1)}, (1.0,))

    async def run() -> list[Answer]:
        runtime.start(asyncio.get_running_loop())
        return await gather(runtime, [[x] for x in range(1, 6)], found)

    answers = asyncio.run(run())
    assert [answer.status for answer in answers] == [503] * 5
    assert all(b"cannot be put on record" in answer.body and b"prediction_id" not in answer.body for answer in answers)
    assert runtime.meters.unlogged == 5
    assert not runtime.is_recording()
    block.unlink()
    assert runtime.is_recording()
    runtime.stop()
