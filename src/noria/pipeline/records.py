"""Records of steps: what each run did, and the results of each key (the step cache), each under its conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.pipeline.facts import ItemsFinished, Output, StepFinished, item_name
from noria.store.ledger import Reader, Transaction
from noria.store.sql.words import JSON, BigInteger, Column, Float, Index, Integer, Row, Text, func, select
from noria.store.tables import project, record_table

__all__ = ["PROJECTIONS", "TABLES", "StepRecord", "before", "entries", "items", "latest", "newest", "steps", "took"]

CANDIDATES = 20
"""Results of one key that are looked at: the newest."""
PAGE = 500

_step = record_table(
    "step",
    Column("run", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("key", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("because", Text, nullable=False),
    Column("outputs", JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("cpu_seconds", Float, nullable=False),
    Column("memory_peak_bytes", BigInteger, nullable=False),
    Column("log", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("reads", JSON, nullable=False),
    Column("call", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("items", Integer, nullable=False),
    Column("item_of", Text, nullable=False),
    Column("read_bytes", BigInteger, nullable=False),
    Column("written_bytes", BigInteger, nullable=False),
    Column("energy_joules", Float, nullable=False),
    Column("cost", Float, nullable=True),
    Column("seq", BigInteger, nullable=False),
    Index("step_name", "step", "seq"),
)
_cache = record_table(
    "step_cache",
    Column("key", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Index("step_cache_key", "key", "seq"),
)
TABLES = (_step, _cache)


@frozen(kw_only=True)
class StepRecord:
    """One step of one run; `status` is done, cached, failed, killed, cancelled or skipped.

    An item of a mapped step is a record too: `item_of` is then the step's name, else "". `items` is
    how many a mapped step had.
    """

    run: str
    step: str
    key: str
    document: str
    status: str
    because: str
    outputs: tuple[Output, ...]
    seconds: float
    cpu_seconds: float
    memory_peak_bytes: int
    log: str
    error: str
    reads: tuple[tuple[str, str], ...]
    seq: int
    call: str = ""
    attempts: int = 1
    items: int = 0
    item_of: str = ""
    read_bytes: int = 0
    written_bytes: int = 0
    energy_joules: float = 0.0
    cost: float | None = None


@project(StepFinished)
def finished(tx: Transaction, fact: Stored[StepFinished]) -> None:
    """A step of a run, and, if it ran to its end and may be shared, a result of its key."""
    done = fact.payload
    tx.upsert(
        _step,
        run=done.run,
        step=done.step,
        key=done.key,
        document=done.document,
        status=done.status,
        because=done.because,
        outputs=[asdict(output) for output in done.outputs],
        seconds=done.seconds,
        cpu_seconds=done.cpu_seconds,
        memory_peak_bytes=done.memory_peak_bytes,
        log=done.log,
        error=done.error,
        reads=[list(read) for read in done.reads],
        call=done.call,
        attempts=done.attempts,
        items=done.items,
        item_of="",
        read_bytes=done.read_bytes,
        written_bytes=done.written_bytes,
        energy_joules=done.energy_joules,
        cost=done.cost,
        seq=fact.seq,
    )
    if done.status == "done" and done.key and done.cacheable:
        tx.upsert(_cache, key=done.key, run=done.run, step=done.step, seq=fact.seq)


@project(ItemsFinished)
def items_finished(tx: Transaction, fact: Stored[ItemsFinished]) -> None:
    """Items are steps of their own name, each a result of its key if it may be shared."""
    run, step = fact.payload.run, fact.payload.step
    for done in fact.payload.items:
        name = item_name(step, done.item)
        tx.upsert(
            _step,
            run=run,
            step=name,
            key=done.key,
            document="",
            status=done.status,
            because=done.because,
            outputs=[asdict(output) for output in done.outputs],
            seconds=done.seconds,
            cpu_seconds=done.cpu_seconds,
            memory_peak_bytes=done.memory_peak_bytes,
            log=done.log,
            error=done.error,
            reads=[list(read) for read in done.reads],
            call=done.call,
            attempts=done.attempts,
            items=0,
            item_of=step,
            read_bytes=0,
            written_bytes=0,
            energy_joules=0.0,
            cost=None,
            seq=fact.seq,
        )
        if done.status == "done" and done.key and done.cacheable:
            tx.upsert(_cache, key=done.key, run=run, step=name, seq=fact.seq)


PROJECTIONS = (finished, items_finished)


def steps(tx: Reader, run: str) -> list[StepRecord]:
    """The steps of a run, in the order in which they ended; a mapped step is one."""
    whole = select(_step).where(_step.c.run == run, _step.c.item_of == "")
    return [_record(row) for row in tx.rows(whole.order_by(_step.c.seq))]


def items(tx: Reader, run: str, step: str = "") -> list[StepRecord]:
    """The items of a mapped step that have ended, or those of all, in the order of their facts."""
    found = select(_step).where(_step.c.run == run, _step.c.item_of != "")
    if step:
        found = found.where(_step.c.item_of == step)
    return [_record(row) for row in tx.rows(found.order_by(_step.c.seq, _step.c.step))]


def entries(tx: Reader, keys: Sequence[str]) -> dict[str, list[StepRecord]]:
    """The steps whose results some keys stand for, newest first, at most `CANDIDATES` for each key.

    One key has several when the step read what its key does not cover: a configuration file, a plugin.
    """
    joined = select(_step).join(_cache, (_cache.c.run == _step.c.run) & (_cache.c.step == _step.c.step))
    found: dict[str, list[StepRecord]] = {}
    for first in range(0, len(keys), PAGE):
        chosen = joined.where(_cache.c.key.in_(keys[first : first + PAGE]))
        for row in tx.rows(chosen.order_by(_step.c.seq.desc())):
            same = found.setdefault(row.key, [])
            if len(same) < CANDIDATES:
                same.append(_record(row))
    return found


def newest(tx: Reader, steps: Sequence[str]) -> dict[str, StepRecord]:
    """For each of some steps, the newest time that it was done, or used from the cache, in any run."""
    found: dict[str, StepRecord] = {}
    for first in range(0, len(steps), PAGE):
        named = _step.c.step.in_(steps[first : first + PAGE])
        known = named & _step.c.status.in_(("done", "cached")) & (_step.c.document != "")
        latest = select(func.max(_step.c.seq)).where(known).group_by(_step.c.step)
        found |= {row.step: _record(row) for row in tx.rows(select(_step).where(_step.c.seq.in_(latest)))}
    return found


def before(tx: Reader, step: StepRecord) -> StepRecord | None:
    """The newest time before this one that the step was done, or used from the cache."""
    known = select(_step).where(_step.c.step == step.step, _step.c.status.in_(("done", "cached")))
    row = tx.first(known.where(_step.c.document != "", _step.c.seq < step.seq).order_by(_step.c.seq.desc()).limit(1))
    return None if row is None else _record(row)


def took(tx: Reader, step: str, last: int) -> list[StepRecord]:
    """The newest times, at most so many, that a step ran to its end in any run; newest first."""
    ran = select(_step).where(_step.c.step == step, _step.c.status == "done")
    return [_record(row) for row in tx.rows(ran.order_by(_step.c.seq.desc()).limit(last))]


def latest(tx: Reader, step: str) -> StepRecord | None:
    """The newest time that a step of that name ended, in any run and any way."""
    row = tx.first(select(_step).where(_step.c.step == step).order_by(_step.c.seq.desc()).limit(1))
    return None if row is None else _record(row)


def _record(row: Row[Any]) -> StepRecord:
    found = dict(row._mapping)
    found["outputs"] = tuple(Output(**output) for output in found["outputs"])
    found["reads"] = tuple((what, known) for what, known in found["reads"])
    return StepRecord(**found)
