"""A durable queue and named leases, in the same database as the ledger.

These tables say what is going on now, not what happened: they change in place, count wall-clock
time, and are not replayed. Work is claimed by one owner for a limited time; an owner that dies
loses it at once where that is seen (`owner.py`), else when the time is over, and another takes it
up. A job that its owners keep dying of is given up after `ATTEMPTS`. Commits here survive the death
of processes; a power cut may lose the last of them, and the loop then finds the same work again from
the facts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from noria.core.clock import Clock
from noria.core.errors import Conflict, NotFound
from noria.core.frozen import frozen
from noria.core.identity import JSON, sortable_id
from noria.store import tables
from noria.store.database import Database
from noria.store.failpoint import failpoint
from noria.store.owner import is_dead
from noria.store.sealed import checked, sealed
from noria.store.sql.words import Connection, Row, bindparam, insert, select, update

if TYPE_CHECKING:
    from noria.store.ledger import Transaction

__all__ = ["ATTEMPTS", "Job", "Jobs", "Lease"]

ATTEMPTS = 5
"""How often a job is begun before it is given up."""
BACKOFF_S = 2.0
BACKOFF_LIMIT_S = 60.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEASE = select(tables.lease).where(tables.lease.c.name == bindparam("of"))
_INSERT_LEASE = insert(tables.lease)
_RELEASE = tables.lease.delete().where(tables.lease.c.name == bindparam("of"), tables.lease.c.owner == bindparam("by"))


@frozen
class Job:
    """A piece of work. `state` is waiting, running, finished or failed; `attempt` counts from 1 once begun."""

    id: str
    kind: str
    payload: Mapping[str, JSON]
    key: str
    attempt: int
    state: str = "waiting"
    owner: str = ""
    result: Mapping[str, JSON] | None = None
    error: str = ""


@frozen
class Lease:
    """A name that an owner holds until a moment; `is_live` is false once that has passed."""

    name: str
    owner: str
    expires_at: datetime
    data: Mapping[str, JSON]
    is_live: bool


class Jobs:
    """The queue and the leases of one workspace. Thread safe; every change is atomic between processes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def enqueue(self, kind: str, payload: Mapping[str, JSON], *, key: str) -> str:
        """Put a job into the queue and give its id; the same key again gives the job that is there."""
        found = self._by_key(key)
        if found:
            return found
        now = self._now_us()
        with self._database.write(is_durable=False) as connection:
            existing = connection.execute(select(tables.job.c.id).where(tables.job.c.key == key)).scalar()
            if existing is not None:
                return str(existing)
            job_id = sortable_id("job", now // 1000, int.from_bytes(os.urandom(10), "big"))
            row = {
                "id": job_id,
                "kind": kind,
                "key": key,
                "payload": json.dumps(payload),
                "state": "waiting",
                "owner": "",
                "attempt": 0,
                "due_us": now,
                "lease_until_us": 0,
                "result": "",
                "error": "",
            }
            connection.execute(insert(tables.job), sealed(tables.job, row))
            failpoint("job.enqueued")
        return job_id

    def claim(self, kinds: Sequence[str], *, owner: str, lease_s: float = 30) -> Job | None:
        """Take the oldest job of these kinds that waits, or whose owner is gone; None if there is none.

        Looking costs a read; the writer lock is taken only when there is something to take.
        """
        if self._candidate(kinds) is None:
            return None
        with self._database.write(is_durable=False) as connection:
            self._let_go(connection, kinds)
            self._give_up(connection, kinds)
            row = connection.execute(_claimable(kinds, self._now_us())).first()
            if row is None:
                return None
            until = self._now_us() + _us(lease_s)
            _change(connection, row, state="running", owner=owner, attempt=row.attempt + 1, lease_until_us=until)
            failpoint("job.claimed")
        return Job(row.id, row.kind, json.loads(row.payload), row.key, row.attempt + 1, "running", owner)

    def beat(self, job_id: str, owner: str, lease_s: float = 30) -> bool:
        """Keep a claimed job for longer. False: the owner lost it and must stop working on it."""
        until = self._now_us() + _us(lease_s)
        with self._database.write(is_durable=False) as connection:
            held = _held(connection, job_id, owner)
            if held is not None:
                _change(connection, held, lease_until_us=until)
        return held is not None

    def finish(self, job_id: str, owner: str, result: Mapping[str, JSON] | None = None) -> None:
        """The job is done. Raises: Conflict if the owner does not hold it any more."""
        self._end(job_id, owner, state="finished", result=json.dumps(result or {}), error="")

    def fail(self, job_id: str, owner: str, error: str, *, retry: bool) -> None:
        """The job failed; with `retry` it waits again, longer each time, until `ATTEMPTS` are used up.

        Raises: Conflict if the owner does not hold it any more.
        """
        job = self.get(job_id)
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        if retry and job.attempt < ATTEMPTS:
            pause = min(BACKOFF_S * 2 ** (job.attempt - 1), BACKOFF_LIMIT_S)
            self._end(job_id, owner, state="waiting", error=error, due_us=self._now_us() + _us(pause))
        else:
            self._end(job_id, owner, state="failed", error=error)

    def give_back(self, job_id: str, owner: str) -> None:
        """Let another take the job at once: its owner was asked to leave, which costs no attempt.

        Raises: Conflict if the owner does not hold it any more.
        """
        job = self.get(job_id)
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        self._end(job_id, owner, state="waiting", attempt=max(0, job.attempt - 1), due_us=self._now_us())

    def waiting(self) -> list[Job]:
        """Jobs that wait or run, oldest first. Raises: Corrupt if a row is not what was written."""
        query = (
            select(tables.job)
            .where(tables.job.c.state.in_(("waiting", "running")))
            .order_by(tables.job.c.due_us, tables.job.c.id)
        )
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(query)]

    def get(self, job_id: str) -> Job | None:
        """The job with its state, result and error, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(tables.job).where(tables.job.c.id == job_id)).first()
        return None if row is None else _job(row)

    def find(self, key: str) -> Job | None:
        """The job of that key with its state, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(tables.job).where(tables.job.c.key == key)).first()
        return None if row is None else _job(row)

    def acquire(
        self,
        name: str,
        *,
        owner: str,
        ttl_s: float,
        data: Mapping[str, JSON] | None = None,
        within: Transaction | None = None,
    ) -> bool:
        """Take a lease, renew one's own, or take over one that ran out or whose owner (`owner_id`) is dead.

        False: somebody else holds it. `within` a transaction of the ledger it is taken if that commits.

        Raises: Corrupt if another's row is not what was written: who holds it is then not known.
        """
        with self._writing(within) as connection:
            now = self._now_us()
            held = connection.execute(_LEASE, {"of": name}).first()
            if held is not None and held.owner != owner:
                is_live = checked(tables.lease, held).until_us > now
                if is_live and not is_dead(held.owner):
                    return False
            if held is not None:
                connection.execute(tables.lease.delete().where(tables.lease.c.name == name))
            row = {"name": name, "owner": owner, "until_us": now + _us(ttl_s), "data": json.dumps(data or {})}
            connection.execute(_INSERT_LEASE, sealed(tables.lease, row))
            failpoint("lease.acquired")
        return True

    def release(self, name: str, owner: str, *, within: Transaction | None = None) -> None:
        """Give a lease back; one that is not held by the owner is left alone. `within`: as `acquire`."""
        with self._writing(within) as connection:
            connection.execute(_RELEASE, {"of": name, "by": owner})

    def forget(self, prefix: str) -> None:
        """Take away the leases that ran out and whose name begins with the prefix."""
        name, until = tables.lease.c.name, tables.lease.c.until_us
        with self._database.write(is_durable=False) as connection:
            over = name.startswith(prefix, autoescape=True) & (until <= self._now_us())
            connection.execute(tables.lease.delete().where(over))

    def leases(self, prefix: str = "") -> list[Lease]:
        """Leases whose name begins with the prefix, by name, expired ones too. Raises: Corrupt."""
        now = self._now_us()
        query = select(tables.lease).where(tables.lease.c.name.startswith(prefix, autoescape=True))
        with self._database.read() as connection:
            rows = [checked(tables.lease, row) for row in connection.execute(query.order_by(tables.lease.c.name))]
        return [
            Lease(
                row.name,
                row.owner,
                _EPOCH + timedelta(microseconds=row.until_us),
                json.loads(row.data),
                row.until_us > now,
            )
            for row in rows
        ]

    def _end(self, job_id: str, owner: str, **values: Any) -> None:
        with self._database.write(is_durable=False) as connection:
            held = _held(connection, job_id, owner)
            if held is None:
                raise Conflict(f"{owner} does not hold the job {job_id} any more")
            _change(connection, held, **{"lease_until_us": 0, "owner": "", **values})
            failpoint("job.finished")

    def _by_key(self, key: str) -> str:
        with self._database.read() as connection:
            found = connection.execute(select(tables.job.c.id).where(tables.job.c.key == key)).scalar()
        return str(found or "")

    def _candidate(self, kinds: Sequence[str]) -> Row[Any] | None:
        with self._database.read() as connection:
            found = connection.execute(_claimable(kinds, self._now_us(), is_exhausted_too=True)).first()
            return found or next(iter(_left(connection, kinds)), None)

    def _let_go(self, connection: Connection, kinds: Sequence[str]) -> None:
        """Jobs whose owner is dead are not held any more; the next one begins at once, those after it ever later."""
        now = self._now_us()
        for row in _left(connection, kinds):
            if row.attempt >= ATTEMPTS:
                _change(connection, row, lease_until_us=0)
            else:
                pause = min(BACKOFF_S * 2 ** (row.attempt - 2), BACKOFF_LIMIT_S) if row.attempt > 1 else 0.0
                _change(connection, row, state="waiting", owner="", lease_until_us=0, due_us=now + _us(pause))

    def _give_up(self, connection: Connection, kinds: Sequence[str]) -> None:
        """Jobs whose last allowed owner died too are failed, not begun for ever."""
        lost = select(tables.job).where(
            tables.job.c.state == "running",
            tables.job.c.kind.in_(kinds),
            tables.job.c.lease_until_us <= self._now_us(),
            tables.job.c.attempt >= ATTEMPTS,
        )
        for row in connection.execute(lost).all():
            _change(connection, row, state="failed", error=f"lost: its owner died {ATTEMPTS} times")

    @contextmanager
    def _writing(self, within: Transaction | None) -> Iterator[Connection]:
        if within is not None:
            yield within.connection
        else:
            with self._database.write(is_durable=False) as connection:
                yield connection

    def _now_us(self) -> int:
        return (self._clock.now() - _EPOCH) // timedelta(microseconds=1)


def _claimable(kinds: Sequence[str], now_us: int, *, is_exhausted_too: bool = False) -> Any:
    job = tables.job.c
    is_abandoned = (job.state == "running") & (job.lease_until_us <= now_us)
    if not is_exhausted_too:
        is_abandoned &= job.attempt < ATTEMPTS
    is_waiting = (job.state == "waiting") & (job.due_us <= now_us)
    return (
        select(tables.job).where(job.kind.in_(kinds), is_waiting | is_abandoned).order_by(job.due_us, job.id).limit(1)
    )


def _left(connection: Connection, kinds: Sequence[str]) -> list[Row[Any]]:
    """Jobs under way whose owner is known to be dead."""
    job = tables.job.c
    running = select(tables.job).where(job.kind.in_(kinds), job.state == "running", job.lease_until_us > 0)
    return [row for row in connection.execute(running).all() if is_dead(row.owner)]


def _held(connection: Connection, job_id: str, owner: str) -> Row[Any] | None:
    """The job, if that owner is at work on it."""
    job = tables.job.c
    is_held = (job.id == job_id) & (job.owner == owner) & (job.state == "running")
    return connection.execute(select(tables.job).where(is_held)).first()


def _change(connection: Connection, row: Row[Any], **values: Any) -> None:
    """Change a job that was read in the same transaction, which is the only writer. Raises: Corrupt."""
    whole = {**checked(tables.job, row)._mapping, **values}
    connection.execute(update(tables.job).where(tables.job.c.id == row.id).values(sealed(tables.job, whole)))


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)


def _job(row: Row[Any]) -> Job:
    """The job of a row. Raises: Corrupt if the row is not what was written."""
    checked(tables.job, row)
    return Job(
        row.id,
        row.kind,
        json.loads(row.payload),
        row.key,
        row.attempt,
        row.state,
        row.owner,
        json.loads(row.result) if row.result else None,
        row.error,
    )
