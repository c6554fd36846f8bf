from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from noria.catalog import filing
from noria.catalog.filing import Begin
from noria.core.errors import Corrupt
from noria.experiments import journal, records
from noria.experiments.incoming import Inbox, send_left
from noria.experiments.records import LoggedRun
from noria.faces.protocols.mlflow import points
from noria.faces.protocols.mlflow.refusals import Refused
from noria.faces.protocols.mlflow.wire import Wire
from noria.store.ledger import Transaction
from noria.store.linelog import read_lines
from noria.store.replay import difference
from noria.store.workspace import Workspace, acting
from noria.testing import open_memory
from noria.tracking.run import owner_id

BEGAN, ENDED = "2026-01-01T00:00:00.000000Z", "2026-01-01T00:01:00.000000Z"


@pytest.fixture
def ws() -> Iterator[Workspace]:
    opened = open_memory()
    filing.ensure_default(opened)
    yield opened
    opened.ledger.database.close()


@pytest.fixture
def inbox(ws: Workspace) -> Inbox:
    return Inbox(ws, send_s=3600)  # what is sent, the test sends


def began(ws: Workspace) -> LoggedRun:
    return filing.begin_run(ws, Begin(experiment="Default", name="r", started_at=BEGAN))


def metric(step: int, value: float, name: str = "loss") -> bytes:
    return journal.encode("m", 1_700_000_000_000_000 + step, [(name, step, value)])


def counted(ws: Workspace) -> tuple[Workspace, list[int]]:
    """The same workspace, and a list that grows by one for each transaction of its ledger."""
    begun: list[int] = []

    def note(tx: Transaction) -> None:
        begun.append(tx.frontier.size)

    return replace(ws, ledger=ws.ledger.under(note)), begun


def end(ws: Workspace, inbox: Inbox, run: str, status: str = "finished") -> LoggedRun:
    with inbox.closing(run) as waiting:
        return filing.amend_run(ws, run, status=status, ended=ENDED, log=waiting)


def logged(ws: Workspace, run: str) -> dict[str, Any]:
    with ws.ledger.read() as tx:
        return {
            "metrics": {each.key: (each.value, each.points) for each in records.metrics(tx, [run])[run]},
            "segments": [points for _, points in records.segments(tx, run)],
            "params": records.params(tx, [run])[run],
        }


def test_a_run_begins_with_its_lease_in_one_transaction(ws: Workspace) -> None:
    own, begun = counted(ws)
    run = began(own)
    assert (len(begun), run.status, run.name) == (1, "running", "r")
    assert [lease.name for lease in ws.jobs.leases("run/")] == [f"run/{run.run}"]


def test_what_waits_of_a_run_and_its_end_are_one_transaction(ws: Workspace, inbox: Inbox) -> None:
    run = began(ws).run
    inbox.append(run, [journal.encode("p", {"lr": "0.1"}), metric(0, 0.5), metric(1, 0.25)])
    own, begun = counted(acting(ws, "user:else"))
    found = end(own, inbox, run)
    assert len(begun) == 1
    assert (found.status, found.finished_at, found.seconds) == ("finished", ENDED, 60.0)
    assert logged(ws, run) == {"metrics": {"loss": (0.25, 2)}, "segments": [2], "params": {"lr": "0.1"}}
    told = [(fact.fact.kind, fact.actor) for fact in ws.ledger.facts(subject=f"run/{run}")[-2:]]
    assert told == [("run.logged", "user:test"), ("run.finished", "user:else")], "what is logged is its beginner's"
    assert ws.jobs.leases("run/") == []
    assert difference(ws.ledger) == []


def test_an_end_that_fails_leaves_what_was_logged_to_be_sent(ws: Workspace, inbox: Inbox) -> None:
    run = began(ws).run
    inbox.append(run, [metric(0, 0.5)])

    def refuse(tx: Transaction) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        end(replace(ws, ledger=ws.ledger.under(refuse)), inbox, run)
    assert logged(ws, run)["metrics"] == {}
    with ws.ledger.read() as tx:
        found = records.run(tx, run)
    assert found is not None
    assert found.status == "running"
    inbox.append(run, [metric(1, 0.25)])
    inbox.send(run)
    assert logged(ws, run)["metrics"] == {"loss": (0.25, 2)}


def test_an_end_brings_the_points_of_all_batches_into_one_segment(ws: Workspace, inbox: Inbox) -> None:
    run = began(ws).run
    for step in range(3):
        inbox.append(run, [metric(step, step / 4)])
        if step < 2:
            inbox.send(run)
    assert logged(ws, run)["segments"] == [1, 1]
    own, begun = counted(ws)
    end(own, inbox, run)
    assert len(begun) == 1
    assert logged(ws, run) == {"metrics": {"loss": (0.5, 3)}, "segments": [3], "params": {}}
    assert difference(ws.ledger) == []


@pytest.mark.parametrize("step", [1_763_856_000_123_456_789, 2**60, 2**63 - 1, -(2**63)])
def test_a_step_that_json_has_no_number_for_is_kept_and_holds_nobody_up(ws: Workspace, inbox: Inbox, step: int) -> None:
    run = began(ws).run
    inbox.append(run, [journal.encode("m", 1_700_000_000_000_000, [("loss", step, 0.5)])])
    inbox.send(run)
    with ws.ledger.read() as tx:
        [found] = records.metrics(tx, [run])[run]
    assert (found.step, found.value) == (step, 0.5)
    assert difference(ws.ledger) == []


def test_a_log_of_many_batches_is_sent_whole_before_the_end(ws: Workspace, inbox: Inbox) -> None:
    run = began(ws).run
    for number in range(6):
        inbox.append(run, [journal.encode("p", {f"{number}-{place}": "x" * 5000 for place in range(10)})])
    end(ws, inbox, run)
    found = logged(ws, run)
    assert len(found["params"]) == 60
    assert len([fact for fact in ws.ledger.facts(subject=f"run/{run}") if fact.fact.kind == "run.logged"]) > 1


def test_a_line_after_the_end_begins_a_new_log(ws: Workspace, inbox: Inbox) -> None:
    run = began(ws).run
    inbox.append(run, [metric(0, 0.5)])
    end(ws, inbox, run)
    assert not inbox.is_open(run)
    inbox.append(run, [metric(1, 0.25)])
    assert inbox.is_open(run)
    inbox._clear()
    assert len(list((inbox.folder / run).iterdir())) == 1, "the log that was sent is gone, the new one is not"
    inbox.send(run)
    assert logged(ws, run)["metrics"] == {"loss": (0.25, 2)}
    with inbox.closing(run):
        pass
    inbox._clear()
    assert not (inbox.folder / run).exists()


def test_what_is_on_disk_when_the_process_dies_after_an_end_is_not_sent_twice(ws: Workspace, inbox: Inbox) -> None:
    run = began(ws).run
    inbox.append(run, [metric(0, 0.5)])
    end(ws, inbox, run)
    before = ws.ledger.head()
    assert list((inbox.folder / run).iterdir()), "the file goes later"
    journal.keep(inbox.folder, "begin", {"owner": dead()})
    assert send_left(ws) == 1
    assert ws.ledger.head() == before
    assert not inbox.folder.exists()


def dead() -> str:
    """An owner that is no process any more."""
    return owner_id().replace(f" {os.getpid()},", " 999999999,")


def test_that_a_run_has_no_params_is_believed_no_longer_than_the_run_itself(ws: Workspace) -> None:
    wire, other = Wire(ws, known_s=0), Wire(ws)
    found = began(ws)
    wire.begun(found)
    points.log_param(other, ws, {"run_id": found.run, "key": "lr", "value": "0.1"})
    other.inbox.send(found.run)
    with pytest.raises(Refused, match=r"already logged with value='0\.1'"):
        points.log_param(wire, ws, {"run_id": found.run, "key": "lr", "value": "0.2"})


def test_logging_is_swift_where_nothing_has_to_be_asked_or_made(ws: Workspace) -> None:
    wire = Wire(ws, known_s=3600)
    found = began(ws)
    run = found.run
    point = {"run_id": run, "key": "loss", "value": 0.5, "timestamp": 1, "step": 0}
    wire.begun(found)
    assert not points.is_swift(wire, "runs/log-metric", point), "its log is not open"
    points.log_metric(wire, ws, dict(point))
    assert points.is_swift(wire, "runs/log-metric", point)
    assert points.is_swift(wire, "runs/log-batch", {"run_id": run, "metrics": [point], "params": [{"key": "a"}]})
    assert points.is_swift(wire, "runs/set-tag", {"run_id": run, "key": "a", "value": "b"})
    assert not points.is_swift(wire, "runs/log-metric", {**point, "model_id": "m-1"}), "a logged model is a fact"
    assert not points.is_swift(wire, "runs/log-batch", {"run_id": run, "metrics": [{**point, "model_id": "m-1"}]})
    named = {"key": "mlflow.runName", "value": "b"}
    assert not points.is_swift(wire, "runs/set-tag", {"run_id": run, **named}), "a name is a fact"
    assert not points.is_swift(wire, "runs/log-batch", {"run_id": run, "tags": [named]})
    assert not points.is_swift(wire, "runs/log-metric", {**point, "run_id": "other"})
    wire.forget(run)
    assert not points.is_swift(wire, "runs/log-metric", point), "it may be deleted meanwhile"
    wire.active(run)
    assert points.is_swift(wire, "runs/log-metric", point)
    assert not points.is_swift(wire, "runs/log-parameter", {"run_id": run, "key": "a", "value": "b"}), "it may have it"


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition, ten seconds at most."""
    limit = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(0.001)


def aged(wire: Wire, run: str) -> float:
    """Make what is known of a run half as old as it may be; gives when it was then seen last."""
    wire._known[run].seen -= wire._known_s / 2
    return wire._known[run].seen


def test_who_logs_all_the_time_never_waits_for_a_look_at_the_ledger(ws: Workspace) -> None:
    wire, run = Wire(ws, known_s=3600), began(ws).run
    point = {"run_id": run, "key": "loss", "value": 1.0, "timestamp": 1, "step": 0}
    points.log_metric(wire, ws, point)
    seen = aged(wire, run)
    filing.delete_run(ws, run)  # another process does it
    assert wire.is_swift(run, has_params=False), "it is answered with what is known, while that is looked at again"
    until(lambda: wire._known[run].seen > seen)
    with pytest.raises(Refused, match="must be in the 'active' state"):
        wire.active(run)


def test_a_run_that_is_gone_is_asked_for_at_the_next_request(ws: Workspace) -> None:
    wire, run = Wire(ws, known_s=3600), began(ws).run
    wire.active(run)
    wire.inbox.append(run, [metric(0, 0.5)])
    wire._known[run].run = replace(wire._known[run].run, run="run_none")
    aged(wire, run)
    wire._known["run_none"] = wire._known[run]
    assert wire.is_swift(run, has_params=False)
    until(lambda: "run_none" not in wire._known)


def test_a_look_that_began_before_a_run_was_changed_here_is_thrown_away(ws: Workspace) -> None:
    may_read, has_read = threading.Event(), threading.Event()

    class Slow:
        """A ledger whose reads by the thread that looks take as long as the test wants."""

        def __getattr__(self, name: str) -> Any:
            return getattr(ws.ledger, name)

        @contextmanager
        def read(self) -> Iterator[Any]:
            with ws.ledger.read() as reader:
                yield reader
            if threading.current_thread().name == "noria-known":
                has_read.set()
                assert may_read.wait(10)

    ledger: Any = Slow()
    wire, run = Wire(replace(ws, ledger=ledger), known_s=3600), began(ws).run
    wire.active(run)
    wire.inbox.append(run, [metric(0, 0.5)])
    aged(wire, run)
    assert wire.is_swift(run, has_params=False)
    assert has_read.wait(10)
    filing.delete_run(ws, run)
    wire.forget(run)
    may_read.set()
    with pytest.raises(Refused, match="must be in the 'active' state"):
        wire.active(run)


def test_points_with_times_of_their_own_are_read_as_they_were_logged(ws: Workspace) -> None:
    wire, run = Wire(ws), began(ws).run
    values = [0.5, math.nan, -math.inf, 2.0]
    logged = [
        {"key": key, "value": value, "timestamp": 1000 + step, "step": step}
        for step, value in enumerate(values)
        for key in ("loss", "auc")
    ]
    wire.log(run, metrics=logged)
    wire.log(run, metrics=[{"key": "loss", "value": 3.0, "timestamp": 2000, "step": 4}])
    (log,) = (wire.inbox.folder / run).glob("*.log")
    assert len(read_lines(log)[0]) == 2, "one line a request"
    found = journal.parse(log, 0).points
    assert found["loss"].steps == [0, 1, 2, 3, 4]
    assert found["loss"].at_us == [1_000_000, 1_001_000, 1_002_000, 1_003_000, 2_000_000]
    assert [repr(each) for each in found["loss"].values] == ["0.5", "nan", "-inf", "2.0", "3.0"]
    assert found["auc"].steps == [0, 1, 2, 3]


def test_a_line_whose_columns_differ_in_length_is_damage(ws: Workspace, inbox: Inbox) -> None:
    run = began(ws).run
    inbox.append(run, [journal.encode("c", [("loss", [0, 1], [5], [0.5, 0.25])])])
    (log,) = (inbox.folder / run).glob("*.log")
    with pytest.raises(Corrupt, match="unequal length"):
        journal.parse(log, 0)
