"""A recording never raises into training: what it cannot keep is told with the run, and the rest is kept."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from noria.bootstrap import WallClock
from noria.core.errors import StoreUnavailable
from noria.engines.objects.file import FileObjects
from noria.experiments import journal, records, search, sending
from noria.experiments.recorder import Recording
from noria.store import replay
from noria.store.linelog import LineWriter
from noria.store.objects import Objects
from noria.store.workspace import Workspace
from noria.testing import open_memory
from noria.tracking import system
from noria.tracking.run import resolve
from noria.tracking.system import Sampler


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    made = open_memory(root=tmp_path)
    yield made
    made.ledger.database.close()


def begin(ws: Workspace, **changed: Any) -> Recording:
    """A recording whose objects lie beside its log, as where the project's store is elsewhere."""
    given: dict[str, Any] = {
        "clock": WallClock(),
        "objects": lambda folder: Objects(FileObjects(folder), ws.project.root / "cache"),
        "open_workspace": lambda: ws,
        "name": "first",
        "experiment": "exp",
        "parent": "",
        "actor": "user:somebody",
        **changed,
    }
    return Recording(ws.project, **given)


class Broken:
    """What raises whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("broken")

    def __float__(self) -> float:
        raise ValueError("no number")

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Raising:
    """A value of somebody else's class, whose number is a fault of its own."""

    def __float__(self) -> float:
        raise RuntimeError("no number")


def test_what_was_recorded_is_in_the_ledger_with_its_objects_and_by_whom(ws: Workspace) -> None:
    with begin(ws) as run:
        run.log({"loss": 0.5}, step=3, params={"lr": 0.1}, tags={"team": "x"}, note="a note")
        run.log(loss=0.25, acc=1)
        run.log(acc=2)
        run.artifact(b"bytes", "a.bin")
        run.table([{"a": 1}, {"a": 2}], "rows")
    found = search.show(ws, run.run)
    assert (found.run.status, found.run.actor, found.run.experiment) == ("finished", "user:somebody", "exp")
    assert (found.params, found.tags) == ({"lr": "0.1"}, {"team": "x"})
    assert [(each.key, each.value, each.step, each.points) for each in found.metrics] == [
        ("acc", 2.0, 1, 2),
        ("loss", 0.25, 4, 2),
    ]
    assert {each.name for each in found.artifacts} == {"a.bin", "rows.parquet"}
    for each in found.artifacts:
        ws.objects.verify(each.digest)
    assert search.history(ws, run.run, "loss").steps == (3, 4)
    assert sending.waiting(ws) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_kept_as_it_is(ws: Workspace, value: float) -> None:
    with begin(ws) as run:
        run.log(loss=1.0)
        run.log(loss=value)
    with ws.ledger.read() as tx:
        [metric] = records.metrics(tx, [run.run])[run.run]
    assert (metric.value, metric.special, metric.low, metric.high) == (None, repr(value), 1.0, 1.0)
    assert repr(search.history(ws, run.run, "loss").values[-1]) == repr(value)


def test_nothing_raises_and_each_failure_is_told(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="noria.recording")
    with begin(ws) as run:
        run.log(loss="high", good=1)
        run.log(loss=Broken())
        run.log(params={"p": Broken()})
        run.artifact("/nowhere/at/all")
        run.figure(3, "figure")
        run.table(3, "table")
        run.image(Broken(), "image")
        run.model(object(), "m", rows=pd.DataFrame({"x": [1.0]}))
        run.input("no-such-data@7")
        run.log(params={"long": "x" * 9000})
    found = search.show(ws, run.run)
    assert found.run.status == "finished"
    assert [each.key for each in found.metrics] == ["good"]
    problems = [each.text for each in found.notes if each.kind == "problem"]
    words = ["'loss' was given str", "'loss' was given Broken", "no text", "/nowhere/at/all", "no figure", "no table"]
    for word in [*words, "broken", "predict", "no-such-data", "9000 characters"]:
        assert any(word in text for text in problems), word
    assert len(problems) == 10
    assert len(found.params["long"]) == 8000


def test_what_cannot_be_logged_takes_nothing_else_of_its_call_with_it(
    ws: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="noria.recording")
    with begin(ws) as run:
        run.log(bad=Raising(), huge=10**400, good=1.0)
        run.log(params={"p": Broken(), "q": 2}, tags=["no", "mapping"], note="kept")
    found = search.show(ws, run.run)
    assert [each.key for each in found.metrics] == ["good"]
    assert (found.params, found.tags) == ({"q": "2"}, {})
    assert [each.text for each in found.notes if each.kind == "note"] == ["kept"]
    problems = [each.text for each in found.notes if each.kind == "problem"]
    for word in (
        "'bad' could not be logged: RuntimeError",
        "'huge' was given int",
        "the param 'p'",
        "the tags could not be logged",
    ):
        assert any(word in text for text in problems), word


def test_a_step_beyond_64_bits_is_told_and_holds_up_nothing(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="noria.recording")
    with begin(ws) as run:
        run.log(other=1.0, step=time.time_ns())
        run.log(loss=1.0, step=2**63 - 1)
        run.log(loss=2.0)  # counts on from there
        run.log(loss=3.0, step=-(2**70))
    assert sending.waiting(ws) == []
    found = search.show(ws, run.run)
    assert ("loss", 2**63 - 1, 1) in [(each.key, each.step, each.points) for each in found.metrics]
    assert search.history(ws, run.run, "loss").steps == (2**63 - 1,)
    assert replay.difference(ws.ledger) == []
    assert [each.text for each in found.notes] == [
        "the metric 'loss' was given the step 9.223e+18, which is beyond 64 bits",
        "the metric 'loss' was given the step -1.181e+21, which is beyond 64 bits",
    ]


def test_a_log_of_an_earlier_build_with_what_no_store_takes_is_sent(ws: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "0-1-a.log"
    lines = [
        journal.encode("m", 5, [("lo\0ss", 2**70, 1.0), ("loss", 1, 2.0)]),
        journal.encode("c", [("loss", [2, 2**70], [6, 7], [3.0, 4.0]), ("c\0", [3], [8], [5.0])]),
        journal.encode("p", {"a\0": "b\0"}),
        journal.encode("n", "x\0y"),
    ]
    LineWriter(path).append(lines)
    batch = journal.parse(path, 0)
    assert batch.points == {
        "loss": journal.Points([1, 2], [5, 6], [2.0, 3.0]),
        "c\ufffd": journal.Points([3], [8], [5.0]),
    }
    assert (batch.params, batch.notes) == ({"a\ufffd": "b\ufffd"}, ["x\ufffdy"])
    beyond = "the metric '{}' has a point at a step beyond 64 bits: left out"
    assert batch.problems == [beyond.format("lo\ufffdss"), beyond.format("loss")]


def test_a_model_without_rows_is_a_problem_of_the_run_and_no_error(ws: Workspace) -> None:
    with begin(ws) as run:
        run.model(object(), "m")
        run.log(loss=1.0)
    found = search.show(ws, run.run)
    why = "it is kept with rows of its inputs: run.model(model, name, rows=X_train)"
    assert [(each.kind, each.text) for each in found.notes] == [("problem", f"the model 'm' could not be kept: {why}")]
    assert [(each.key, each.value) for each in found.metrics] == [("loss", 1.0)]


@pytest.mark.parametrize("name", ["../up", "/abs", "a//b", "a/../b", "nul\0", ".", "a/" + "x" * 256])
def test_an_artifact_whose_name_is_no_files_is_told_and_not_kept(
    ws: Workspace, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.CRITICAL, logger="noria.recording")
    with begin(ws) as run:
        run.artifact(b"x", name)
        run.artifact(b"x", "./a/./b")
    found = search.show(ws, run.run)
    assert [each.name for each in found.artifacts] == ["a/b"]
    assert [each.kind for each in found.notes] == ["problem"]


def test_texts_that_a_database_cannot_hold_are_kept_with_a_mark_in_their_place(ws: Workspace) -> None:
    with begin(ws, name="n\0", experiment="e\ud800") as run:
        run.log({"m\0": 1.0}, params={"p\0": "v\udc80"}, note="x\0y")
    found = search.show(ws, run.run)
    assert (found.run.name, found.run.experiment) == ("n\ufffd", "e?")
    assert ([each.key for each in found.metrics], found.params) == (["m\ufffd"], {"p\ufffd": "v?"})
    assert [each.text for each in found.notes] == ["x\ufffdy"]


def test_an_exception_ends_the_run_as_failed_and_goes_on(ws: Workspace) -> None:
    run = begin(ws)

    def train() -> None:
        with run:
            run.log(loss=1.0)
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        train()
    found = search.show(ws, run.run)
    assert (found.run.status, found.run.reason) == ("failed", "ZeroDivisionError: division by zero")
    run.finish("finished")
    assert search.show(ws, run.run).run.status == "failed", "a run ends once"


def test_threads_log_together_and_no_line_is_torn_or_lost(ws: Workspace) -> None:
    with begin(ws) as run:

        def work(name: str) -> None:
            for _ in range(500):
                run.log({name: 1.0, "shared": 2.0})

        threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert search.history(ws, run.run, "shared", points=10_000).steps == tuple(range(2000))
    for number in range(4):
        assert search.history(ws, run.run, f"t{number}", points=10_000).steps == tuple(range(500))


def test_a_store_that_is_out_of_reach_keeps_the_run_on_disk(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    def away() -> Workspace:
        raise StoreUnavailable("the database is away")

    with begin(ws, open_workspace=away) as run:
        run.log(loss=1.0)
    assert "the next noria command sends it" in caplog.text
    [left] = sending.waiting(ws)
    assert (left.run, left.is_ended, left.is_live) == (run.run, True, False)
    assert left.size_bytes > 0
    assert sending.send_left(ws) == 1
    assert search.show(ws, run.run).run.status == "finished"
    assert sending.waiting(ws) == []


def test_many_names_and_long_texts_go_in_batches_that_a_fact_holds(ws: Workspace) -> None:
    names = {f"{'metric é' * 20}{number}": float(number) for number in range(3000)}
    with begin(ws) as run:
        run.log(names)
        run.log(params={f"p{number}": "é" * 8000 for number in range(200)})
    found = search.show(ws, run.run)
    assert len(found.metrics) == 3000
    assert len(found.params) == 200
    assert [each.text for each in found.notes if each.kind == "problem"] == []


def test_a_nested_run_names_the_one_around_it(ws: Workspace) -> None:
    with begin(ws) as outer, begin(ws, name="inner", parent=outer.run) as inner:
        inner.log(loss=1.0)
    assert [each.run for each in search.show(ws, outer.run).children] == [inner.run]
    [started] = ws.ledger.facts(kind="run.started", ref=f"run/{outer.run}")
    assert started.payload.run == inner.run


def test_a_sampled_run_has_metrics_of_the_machine_that_are_no_final_ones(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled = threading.Event()

    class Told(Sampler):
        samples = 0

        def sample(self) -> dict[str, float]:
            if self.samples:
                sampled.set()  # the one before is written by now
            self.samples += 1
            return super().sample()

    monkeypatch.setattr(system, "Sampler", Told)
    monkeypatch.setattr(system, "FIRST_S", 0.0)
    monkeypatch.setattr(system, "EVERY_S", 0.01)
    with begin(ws, is_sampled=True) as run:
        run.log(loss=0.5)
        assert sampled.wait(20)
    found = search.show(ws, run.run)
    assert {"loss", "system/process_memory_megabytes"} <= {each.key for each in found.metrics}
    assert resolve(ws, run.run).metrics == {"loss": 0.5}
    assert search.search_runs(ws)[0].metrics == {"loss": 0.5}
    assert found.next == f"noria experiments plot {run.run}"


def test_a_run_that_is_not_sampled_has_none_and_one_that_cannot_be_is_told(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    class Broken(Sampler):
        def sample(self) -> dict[str, float]:
            failed.set()
            raise ValueError("no such file")

    monkeypatch.setattr(system, "FIRST_S", 0.0)
    monkeypatch.setattr(system, "Sampler", Broken)
    with begin(ws) as plain:
        plain.log(loss=1)
    assert not failed.is_set()
    with begin(ws, is_sampled=True) as run:
        for each in threading.enumerate():
            if each.name == f"sampling-{run.run}":
                each.join(20)
    assert failed.is_set()
    assert any("no such file" in each.text for each in search.show(ws, run.run).notes)
    assert search.show(ws, run.run).run.status == "finished"


RECORDS = """
import sys
import noria
noria.start_run, noria.log
heavy = {"cryptography", "sqlalchemy", "pyarrow", "numpy", "httpx", "importlib.metadata", "sqlite3"}
heavy |= {f"noria.{name}" for name in ("store.database", "store.ledger", "store.checkpoint", "store.sql.plans")}
heavy |= {f"noria.{name}" for name in ("experiments.sending", "experiments.records", "packaging.bundle")}
print(*sorted(heavy & set(sys.modules)))
"""


def test_a_script_that_only_records_does_not_load_what_its_thread_needs_later() -> None:
    done = subprocess.run([sys.executable, "-c", RECORDS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
