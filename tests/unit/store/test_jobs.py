from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from noria.core.errors import Conflict, Corrupt, NotFound
from noria.governance.audit import verify
from noria.store.jobs import ATTEMPTS, Jobs
from noria.store.owner import owner_id
from noria.store.replay import difference, rebuild
from noria.store.sealed import altered_rows
from noria.store.sql.words import Boolean, Column
from noria.store.workspace import Workspace
from noria.testing import TestClock, open_memory


@pytest.fixture
def clock(ws: Workspace) -> TestClock:
    assert isinstance(ws.clock, TestClock)
    return ws.clock


@pytest.fixture
def jobs(ws: Workspace) -> Jobs:
    return ws.jobs


def test_a_job_is_queued_once_by_its_key(jobs: Jobs) -> None:
    first = jobs.enqueue("review", {"model": "m"}, key="review/m/1")
    assert jobs.enqueue("review", {"model": "other"}, key="review/m/1") == first
    assert [job.key for job in jobs.waiting()] == ["review/m/1"]
    job = jobs.claim(["review"], owner="a")
    assert job is not None
    jobs.finish(job.id, "a", {"done": True})
    assert jobs.enqueue("review", {}, key="review/m/1") == first
    found = jobs.get(first)
    assert found is not None
    assert (found.state, found.result, found.payload) == ("finished", {"done": True}, {"model": "m"})


def test_jobs_are_taken_oldest_first_and_by_kind(jobs: Jobs) -> None:
    for number in range(3):
        jobs.enqueue("a", {"n": number}, key=f"a{number}")
    jobs.enqueue("b", {}, key="b")
    assert [jobs.claim(["a"], owner="x").payload["n"] for _ in range(3)] == [0, 1, 2]  # type: ignore[union-attr]  # they are there
    assert jobs.claim(["a"], owner="x") is None
    assert jobs.claim(["c", "b"], owner="x").key == "b"  # type: ignore[union-attr]  # it is there
    assert jobs.claim(["a", "b"], owner="x") is None


def test_a_job_whose_owner_died_is_taken_up_by_another(jobs: Jobs, clock: TestClock) -> None:
    jobs.enqueue("a", {}, key="a")
    first = jobs.claim(["a"], owner="dead", lease_s=10)
    assert first is not None
    clock.forward(seconds=9)
    assert jobs.claim(["a"], owner="heir", lease_s=10) is None
    assert jobs.beat(first.id, "dead", 10)
    clock.forward(seconds=9)
    assert jobs.claim(["a"], owner="heir", lease_s=10) is None
    clock.forward(seconds=2)
    second = jobs.claim(["a"], owner="heir", lease_s=10)
    assert second is not None
    assert (second.id, second.attempt, second.owner) == (first.id, 2, "heir")
    assert not jobs.beat(first.id, "dead", 10)
    with pytest.raises(Conflict, match="does not hold"):
        jobs.finish(first.id, "dead")
    jobs.finish(first.id, "heir")


def gone() -> str:
    """The name of a process of this machine that is over."""
    parts = json.loads(owner_id())
    return json.dumps([*parts[:3], "1", *parts[4:]])


def test_a_job_is_taken_over_at_once_when_its_owner_is_seen_to_be_dead(jobs: Jobs, clock: TestClock) -> None:
    jobs.enqueue("a", {}, key="a")
    first = jobs.claim(["a"], owner=gone(), lease_s=600)
    assert first is not None
    assert jobs.claim(["b"], owner="heir") is None
    second = jobs.claim(["a"], owner=owner_id(), lease_s=600)
    assert second is not None
    assert (second.id, second.attempt) == (first.id, 2)
    assert jobs.claim(["a"], owner="third") is None, "its owner lives"
    with pytest.raises(Conflict, match="does not hold"):
        jobs.finish(first.id, first.owner)


def test_a_job_whose_owners_die_at_once_waits_longer_each_time_and_is_given_up(jobs: Jobs, clock: TestClock) -> None:
    job_id = jobs.enqueue("a", {}, key="a")
    pauses = []
    for _ in range(ATTEMPTS):
        waited = 0
        while jobs.claim(["a"], owner=gone(), lease_s=600) is None:
            clock.forward(seconds=1)
            waited += 1
        pauses.append(waited)
    assert pauses == [0, 0, 2, 4, 8]
    assert jobs.claim(["a"], owner="survivor") is None
    found = jobs.get(job_id)
    assert found is not None
    assert (found.state, found.error) == ("failed", f"lost: its owner died {ATTEMPTS} times")


def test_a_lease_of_a_dead_process_is_taken_over_at_once(jobs: Jobs) -> None:
    assert jobs.acquire("rollout/1", owner=gone(), ttl_s=600)
    assert jobs.acquire("rollout/1", owner=owner_id(), ttl_s=600)
    assert not jobs.acquire("rollout/1", owner="another", ttl_s=600)
    assert not jobs.acquire("rollout/1", owner=gone(), ttl_s=600)


def test_a_job_that_kills_its_owners_is_given_up(jobs: Jobs, clock: TestClock) -> None:
    job_id = jobs.enqueue("a", {}, key="a")
    for attempt in range(1, ATTEMPTS + 1):
        job = jobs.claim(["a"], owner=f"victim {attempt}", lease_s=1)
        assert job is not None
        assert job.attempt == attempt
        clock.forward(seconds=2)
    assert jobs.claim(["a"], owner="survivor") is None
    found = jobs.get(job_id)
    assert found is not None
    assert (found.state, found.error) == ("failed", f"lost: its owner died {ATTEMPTS} times")
    assert jobs.waiting() == []


def test_a_failed_job_waits_longer_each_time_and_ends_as_failed(jobs: Jobs, clock: TestClock) -> None:
    job_id = jobs.enqueue("a", {}, key="a")
    pauses = []
    for _ in range(ATTEMPTS):
        pause = 0
        while (job := jobs.claim(["a"], owner="x")) is None:
            clock.forward(seconds=1)
            pause += 1
        pauses.append(pause)
        jobs.fail(job.id, "x", "it broke", retry=True)
    assert pauses == sorted(pauses)
    assert pauses[0] == 0
    assert pauses[-1] >= 2 * pauses[1] > 0
    found = jobs.get(job_id)
    assert found is not None
    assert (found.state, found.error, found.attempt) == ("failed", "it broke", ATTEMPTS)


def test_a_job_that_fails_for_good_is_not_tried_again(jobs: Jobs) -> None:
    job_id = jobs.enqueue("a", {}, key="a")
    jobs.claim(["a"], owner="x")
    jobs.fail(job_id, "x", "no use", retry=False)
    assert jobs.claim(["a"], owner="x") is None
    with pytest.raises(Conflict):
        jobs.fail(job_id, "x", "again", retry=False)
    with pytest.raises(NotFound):
        jobs.fail("job_none", "x", "again", retry=False)
    assert jobs.get("job_none") is None


def test_a_lease_is_held_renewed_taken_over_and_given_back(jobs: Jobs, clock: TestClock) -> None:
    assert jobs.acquire("run/1", owner="a", ttl_s=10, data={"pid": 1})
    assert not jobs.acquire("run/1", owner="b", ttl_s=10)
    clock.forward(seconds=8)
    assert jobs.acquire("run/1", owner="a", ttl_s=10, data={"pid": 2})
    clock.forward(seconds=8)
    assert not jobs.acquire("run/1", owner="b", ttl_s=10)
    [lease] = jobs.leases()
    assert (lease.owner, lease.data, lease.is_live) == ("a", {"pid": 2}, True)
    clock.forward(seconds=3)
    [lease] = jobs.leases("run/")
    assert not lease.is_live
    assert lease.expires_at < clock.now()
    assert jobs.acquire("run/1", owner="b", ttl_s=10)
    jobs.release("run/1", "a")
    assert [lease.owner for lease in jobs.leases()] == ["b"]
    jobs.release("run/1", "b")
    assert jobs.leases() == []


def test_a_lease_within_a_transaction_is_taken_and_given_back_with_it(ws: Workspace, jobs: Jobs) -> None:
    def taking(then: str) -> None:
        with ws.ledger.transaction() as tx:
            assert jobs.acquire("a", owner="me", ttl_s=60, within=tx)
            if then == "fail":
                raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        taking("fail")
    assert jobs.leases() == []
    taking("commit")
    assert [(lease.name, lease.owner) for lease in jobs.leases()] == [("a", "me")]
    with ws.ledger.transaction() as tx:
        jobs.release("a", "you", within=tx)
    assert [lease.owner for lease in jobs.leases()] == ["me"]
    with ws.ledger.transaction() as tx:
        jobs.release("a", "me", within=tx)
    assert jobs.leases() == []


def test_leases_are_listed_by_prefix_taken_literally(jobs: Jobs) -> None:
    for name in ("server/1", "server/2", "run_1", "runx1", "run%"):
        jobs.acquire(name, owner="a", ttl_s=10)
    assert [lease.name for lease in jobs.leases("server/")] == ["server/1", "server/2"]
    assert [lease.name for lease in jobs.leases("run_")] == ["run_1"]
    assert [lease.name for lease in jobs.leases("run%")] == ["run%"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    open_memory(root=tmp_path).ledger.database.close()
    return tmp_path


def test_of_many_that_claim_at_once_each_gets_another_job(root: Path) -> None:
    ws = open_memory(root=root)
    for number in range(40):
        ws.jobs.enqueue("a", {}, key=str(number))
    taken: list[str] = []

    def work(owner: str) -> None:
        while (job := ws.jobs.claim(["a"], owner=owner)) is not None:
            taken.append(job.key)
            ws.jobs.finish(job.id, owner)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(taken, key=int) == [str(number) for number in range(40)]
    ws.ledger.database.close()


def test_of_many_that_want_a_lease_exactly_one_gets_it(root: Path) -> None:
    ws = open_memory(root=root)
    won: list[str] = []

    def want(owner: str) -> None:
        if ws.jobs.acquire("one", owner=owner, ttl_s=60):
            won.append(owner)

    threads = [threading.Thread(target=want, args=(f"w{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(won) == 1
    ws.ledger.database.close()


def alter(ws: Workspace, statement: str) -> None:
    """What somebody, or a failing disk, does to the queue's rows."""
    with ws.ledger.database.write() as connection:
        assert connection.exec_driver_sql(statement).rowcount == 1


@pytest.mark.parametrize("change", ["kind = 'b'", "payload = '{}'", "attempt = 3", "state = 'failed'", "sum = 7"])
def test_an_altered_job_is_named_and_not_begun(ws: Workspace, jobs: Jobs, change: str) -> None:
    job = jobs.enqueue("a", {"n": 1}, key="k")
    alter(ws, f"UPDATE job SET {change}")
    with pytest.raises(Corrupt, match=f"a row of the table job is not what was written: '{job}'"):
        jobs.get(job)
    if "state" not in change:
        with pytest.raises(Corrupt):
            jobs.waiting()
        with pytest.raises(Corrupt):
            jobs.claim(["a", "b"], owner="x")
    assert [table for table, _ in altered_rows(ws.ledger.database)] == ["job"]


def test_an_altered_lease_is_not_taken_over_but_its_owner_keeps_it(ws: Workspace, jobs: Jobs) -> None:
    assert jobs.acquire("run/1", owner="a", ttl_s=10)
    alter(ws, "UPDATE lease SET until_us = until_us - 60000000")
    with pytest.raises(Corrupt, match="a row of the table lease is not what was written: 'run/1'"):
        jobs.acquire("run/1", owner="b", ttl_s=10)
    with pytest.raises(Corrupt):
        jobs.leases("run/")
    assert jobs.acquire("run/1", owner="a", ttl_s=10), "what its owner writes is whole again"
    assert [lease.owner for lease in jobs.leases("run/")] == ["a"]
    assert not jobs.acquire("run/1", owner="b", ttl_s=10)


def test_leases_that_ran_out_are_forgotten_by_their_beginning(jobs: Jobs, clock: TestClock) -> None:
    for name, ttl_s in (("code/1", 10), ("code/2", 1000), ("other/1", 10), ("code_1", 10)):
        jobs.acquire(name, owner="a", ttl_s=ttl_s)
    clock.forward(seconds=11)
    jobs.forget("code/")
    assert [lease.name for lease in jobs.leases()] == ["code/2", "code_1", "other/1"]


def test_a_rebuild_takes_away_what_was_altered_and_nothing_else(ws: Workspace, jobs: Jobs) -> None:
    kept = jobs.enqueue("a", {}, key="kept")
    jobs.enqueue("a", {}, key="altered")
    jobs.acquire("run/1", owner="a", ttl_s=10)
    alter(ws, "UPDATE job SET kind = 'z' WHERE key = 'altered'")
    assert not verify(ws).ok
    assert verify(ws).kind == "queue"
    rebuild(ws.ledger)
    assert verify(ws).ok
    assert [job.id for job in jobs.waiting()] == [kept]
    assert [lease.name for lease in jobs.leases()] == ["run/1"]
    jobs.enqueue("a", {}, key="altered")
    assert len(jobs.waiting()) == 2


def test_a_truth_value_that_is_neither_is_no_fold_of_the_facts(ws: Workspace) -> None:
    table = next(table for table in ws.ledger.slices.tables if any(is_truth(column) for column in table.columns))
    column = next(column for column in table.columns if is_truth(column))
    row = {each.name: (1 if is_truth(each) else "1") for each in table.columns if not each.nullable}
    names = ", ".join(row)
    with ws.ledger.database.write() as connection:
        connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({', '.join(map(repr, row.values()))})")
        connection.exec_driver_sql(f"UPDATE {table.name} SET {column.name} = 2")
    ((name, shown),) = difference(ws.ledger)
    assert (name, f'"{column.name}": 2' in shown) == (table.name, True)


def is_truth(column: Column[Any]) -> bool:
    return isinstance(column.type, Boolean)
