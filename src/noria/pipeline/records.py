"""Records of steps: what each run did, and the newest result of each key (the step cache)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Row, Text, select

from noria.core.fact import Stored
from noria.pipeline.facts import Output, StepFinished
from noria.store.ledger import Reader, Transaction
from noria.store.tables import project, record_table

__all__ = ["PROJECTIONS", "TABLES", "StepRecord", "entries", "entry", "last", "steps"]

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
    Column("seq", BigInteger, nullable=False),
    Index("step_name", "step", "seq"),
)
_cache = record_table(
    "step_cache",
    Column("key", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
)
TABLES = (_step, _cache)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of one run; `status` is done, cached, failed, killed or skipped."""

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
    seq: int


@project(StepFinished)
def finished(tx: Transaction, fact: Stored[StepFinished]) -> None:
    """A step of a run, and, if it ran to its end and may be shared, the newest result of its key."""
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
        seq=fact.seq,
    )
    if done.status == "done" and done.key and done.cacheable:
        tx.upsert(_cache, key=done.key, run=done.run, step=done.step, seq=fact.seq)


PROJECTIONS = (finished,)


def steps(tx: Reader, run: str) -> list[StepRecord]:
    """The steps of a run, in the order in which they ended."""
    return [_record(row) for row in tx.rows(select(_step).where(_step.c.run == run).order_by(_step.c.seq))]


def entry(tx: Reader, key: str) -> StepRecord | None:
    """The step whose result a key stands for, or None."""
    joined = select(_step).join(_cache, (_cache.c.run == _step.c.run) & (_cache.c.step == _step.c.step))
    row = tx.first(joined.where(_cache.c.key == key))
    return None if row is None else _record(row)


def entries(tx: Reader, keys: list[str]) -> dict[str, StepRecord]:
    """The same for several keys in one query."""
    joined = select(_step).join(_cache, (_cache.c.run == _step.c.run) & (_cache.c.step == _step.c.step))
    return {row.key: _record(row) for row in tx.rows(joined.where(_cache.c.key.in_(keys)))}


def last(tx: Reader, step: str) -> StepRecord | None:
    """The newest time that a step of that name was done, or used from the cache, in any run."""
    known = select(_step).where(_step.c.step == step, _step.c.status.in_(("done", "cached")), _step.c.document != "")
    row = tx.first(known.order_by(_step.c.seq.desc()).limit(1))
    return None if row is None else _record(row)


def _record(row: Row[Any]) -> StepRecord:
    found = dict(row._mapping)
    found["outputs"] = tuple(Output(**output) for output in found["outputs"])
    return StepRecord(**found)
