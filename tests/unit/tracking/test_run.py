"""A run ends once, whoever ends it; what a dead owner left behind ends as lost."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.core.errors import GateClosed, StepFailed
from noria.project.status import status
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.testing import TestClock, open_memory
from noria.tracking import records
from noria.tracking import run as tracking
from noria.tracking.environment import environment
from noria.tracking.records import RunRecord


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return open_memory(root=tmp_path)


def record(ws: Workspace, run: str) -> RunRecord:
    with ws.ledger.read() as tx:
        found = records.run(tx, run)
    assert found is not None
    return found


def test_a_run_keeps_its_metrics_and_its_end(ws: Workspace) -> None:
    with tracking.start(ws, "flow", config={"a": 1}) as run:
        for step in range(3):
            run.log(step=step, loss=1.0 / (step + 1))
        assert record(ws, run.run).status == "running"
        assert [lease.name for lease in ws.jobs.leases("run/")] == [f"run/{run.run}"]
    found = record(ws, run.run)
    assert (found.status, found.metrics) == ("finished", {"loss": 1.0 / 3})
    assert ws.jobs.leases("run/") == []
    with ws.ledger.read() as tx:
        sealed = records.segments(tx, run.run)
    assert ws.series.read(*sealed)["value"].to_pylist() == [1.0, 0.5, 1.0 / 3]
    assert difference(ws.ledger) == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(GateClosed("no"), "stopped"), (StepFailed("broke"), "failed"), (ValueError("broke"), "failed")],
)
def test_an_error_ends_the_run(ws: Workspace, error: Exception, status: str) -> None:
    with pytest.raises(type(error)), tracking.start(ws, "flow") as run:
        raise error
    assert record(ws, run.run).status == status
    assert str(error).splitlines()[0] in record(ws, run.run).reason


def test_a_run_whose_process_died_is_lost(ws: Workspace) -> None:
    alive = tracking.start(ws, "flow")
    dead = tracking.start(ws, "flow")
    dead._stop.set()  # its heartbeat stops, as that of a killed process does
    dead._beat.join()
    host, boot, _, _, *where = json.loads(dead.owner)
    ws.jobs.release(f"run/{dead.run}", dead.owner)
    gone = json.dumps([host, boot, 2**22 + 1, "1", *where])
    assert ws.jobs.acquire(f"run/{dead.run}", owner=gone, ttl_s=1000)
    assert set(tracking.gone(ws)) == {dead.run}
    assert record(ws, dead.run).status == "running", "looking changes nothing"
    assert {line.run: line.status for line in status(ws).runs}[dead.run] == "lost"
    assert tracking.reap(ws) == [dead.run]
    assert tracking.reap(ws) == []
    assert tracking.gone(ws) == {}
    assert record(ws, dead.run).status == "lost"
    assert record(ws, alive.run).status == "running"
    alive.finish()


def test_a_lost_run_cannot_end_again(ws: Workspace) -> None:
    run = tracking.start(ws, "flow")
    run._stop.set()
    run._beat.join()
    ws.jobs.release(f"run/{run.run}", run.owner)
    assert tracking.reap(ws) == [run.run]
    run.finish()
    assert record(ws, run.run).status == "lost"


def test_the_environment_lock_is_kept_and_names_every_distribution(tmp_path: Path) -> None:
    first = environment(tmp_path)
    assert first.packages["numpy"]
    assert first.version_of("sklearn")[0] == "scikit-learn"
    kept = tmp_path / "cache" / "environment.json"
    stamp = kept.stat().st_mtime_ns
    assert environment(tmp_path) == first
    assert kept.stat().st_mtime_ns == stamp
    kept.write_text("not json")
    assert environment(tmp_path) == first


def test_the_environment_of_a_run_is_stored_anew_where_it_was_altered(tmp_path: Path) -> None:
    """Most runs share it; one that makes the same bytes puts it right, and does not name what cannot be read."""
    ws = open_workspace(project=Project(name="p", root=tmp_path))
    with tracking.start(ws, "flow") as run:
        pass
    first = record(ws, run.run)
    for name in (first.environment, first.host):
        place = ws.objects.path(name)
        place.chmod(0o644)
        place.write_bytes(b"")
    with tracking.start(ws, "flow") as run:
        pass
    second = record(ws, run.run)
    assert (second.environment, second.host) == (first.environment, first.host)
    for name in (second.environment, second.host):
        assert json.loads(ws.objects.get_bytes(name))
    ws.ledger.database.close()


@pytest.mark.parametrize(
    ("error", "told"),
    [(None, "noria runs"), (ValueError("broke"), "noria why RUN"), (KeyboardInterrupt(), "noria run --resume")],
)
def test_what_to_do_next_follows_the_newest_run_where_there_is_no_model(
    ws: Workspace, error: BaseException | None, told: str
) -> None:
    assert status(ws).next == "noria data add PATH, then noria run"
    with suppress(ValueError, KeyboardInterrupt), tracking.start(ws, "flow") as run:
        assert status(ws).next == ""
        if error is not None:
            raise error
    assert status(ws).next == told.replace("RUN", run.run)


def test_a_run_has_one_measure_of_time_also_when_it_is_taken_up_again(ws: Workspace) -> None:
    """The time of all processes that worked on it, and not that between them; also of one that was killed."""
    clock = ws.clock
    assert isinstance(clock, TestClock)

    def shown() -> tuple[str, float]:
        line = status(ws).runs[0]
        return line.status, round(line.seconds, 1)

    first = tracking.start(ws, "flow")
    clock.forward(seconds=10)
    assert shown() == ("running", 10.0)
    first._stop.set()
    first._beat.join()
    ws.jobs.acquire(f"run/{first.run}", owner=first.owner, ttl_s=15)  # its last beat
    ws.jobs.release(f"run/{first.run}", first.owner)
    dead = json.dumps([*json.loads(first.owner)[:2], 2**22 + 1, "1", *json.loads(first.owner)[4:]])
    ws.jobs.acquire(f"run/{first.run}", owner=dead, ttl_s=15)
    clock.forward(seconds=1000)
    assert shown() == ("lost", 10.0), "until its last sign of life"
    assert tracking.reap(ws) == [first.run]
    assert shown() == ("lost", 10.0)
    second = tracking.resume(ws, first.run)
    assert shown() == ("running", 10.0)
    clock.forward(seconds=5)
    assert shown() == ("running", 15.0)
    second.finish()
    assert record(ws, first.run).seconds > 10.0
    assert shown() == ("finished", round(record(ws, first.run).seconds, 1))
    assert difference(ws.ledger) == []
