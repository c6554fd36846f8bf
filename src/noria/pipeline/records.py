"""Records of steps: what each run did, and the results of each key (the step cache), each under its conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Row, Text, func, select

from noria.core.fact import Stored
from noria.pipeline.facts import Output, StepFinished
from noria.store.ledger import Reader, Transaction
from noria.store.tables import project, record_table

__all__ = ["PROJECTIONS", "TABLES", "StepRecord", "before", "entries", "latest", "newest", "steps"]

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
    reads: tuple[tuple[str, str], ...]
    seq: int


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
        seq=fact.seq,
    )
    if done.status == "done" and done.key and done.cacheable:
        tx.upsert(_cache, key=done.key, run=done.run, step=done.step, seq=fact.seq)


PROJECTIONS = (finished,)


def steps(tx: Reader, run: str) -> list[StepRecord]:
    """The steps of a run, in the order in which they ended."""
    return [_record(row) for row in tx.rows(select(_step).where(_step.c.run == run).order_by(_step.c.seq))]


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


def latest(tx: Reader, step: str) -> StepRecord | None:
    """The newest time that a step of that name ended, in any run and any way."""
    row = tx.first(select(_step).where(_step.c.step == step).order_by(_step.c.seq.desc()).limit(1))
    return None if row is None else _record(row)


def _record(row: Row[Any]) -> StepRecord:
    found = dict(row._mapping)
    found["outputs"] = tuple(Output(**output) for output in found["outputs"])
    found["reads"] = tuple((what, known) for what, known in found["reads"])
    return StepRecord(**found)
