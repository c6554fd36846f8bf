"""Records of studies and trials, as the facts left them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.search.facts import StudyEnded, StudyResumed, StudyStarted, TrialEnded, TrialStarted
from noria.store.ledger import Reader, Transaction
from noria.store.sql.words import JSON as Json
from noria.store.sql.words import BigInteger, Column, Float, Index, Integer, Row, Text, select
from noria.store.tables import project, record_table
from noria.tracking.facts import Pin

__all__ = [
    "PROJECTIONS",
    "TABLES",
    "StudyRecord",
    "TrialRecord",
    "by_prefix",
    "running",
    "studies",
    "study",
    "trial_of_run",
    "trials",
]

_study = record_table(
    "study",
    Column("study", Text, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("better", Text, nullable=False),
    Column("space", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("sampler", Text, nullable=False),
    Column("pruner", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("parallel", Integer, nullable=False),
    Column("trials", Integer, nullable=False),
    Column("budget", Text, nullable=False),
    Column("share", Float, nullable=False),
    Column("key", Text, nullable=False),
    Column("time", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("pins", Json, nullable=False),
    Column("params", Json, nullable=False),
    Column("status", Text, nullable=False),
    Column("best", Integer, nullable=False),
    Column("value", Float),
    Column("reason", Text, nullable=False),
    Column("page", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("started_at", Text, nullable=False),
    Column("ended_at", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("study_seq", "seq"),
)
_trial = record_table(
    "trial",
    Column("study", Text, primary_key=True),
    Column("trial", Integer, primary_key=True, autoincrement=False),
    Column("params", Json, nullable=False),
    Column("origin", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("value", Float),
    Column("run", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("cpu_seconds", Float, nullable=False),
    Column("elapsed_s", Float, nullable=False),
    Column("reports", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("trial_run", "run"),
)
TABLES = (_study, _trial)


@frozen(kw_only=True)
class StudyRecord:
    """One search. `status` is running, finished, failed or lost; `best` is a trial's number, -1 without one."""

    study: str
    pipeline: str
    model: str
    metric: str
    better: str
    space: str
    code: str
    sampler: str
    pruner: str
    seed: int
    parallel: int
    trials: int
    budget: str
    share: float
    key: str
    time: str
    label: str
    pins: tuple[Pin, ...]
    params: Mapping[str, JSON]
    status: str
    best: int
    value: float | None
    reason: str
    page: str
    actor: str
    started_at: str
    ended_at: str
    seq: int


@frozen(kw_only=True)
class TrialRecord:
    """One trial. `state` is open until it is done, pruned, failed or stopped."""

    study: str
    trial: int
    params: Mapping[str, JSON]
    origin: str
    state: str
    value: float | None
    run: str
    reason: str
    seconds: float
    cpu_seconds: float
    elapsed_s: float
    reports: str
    seq: int

    @property
    def ref(self) -> str:
        """What its run names as its cause: `trial/study_01k…/3`."""
        return f"trial/{self.study}/{self.trial}"


@project(StudyStarted)
def _started(tx: Transaction, fact: Stored[StudyStarted]) -> None:
    values = asdict(fact.payload)
    values["pins"] = list(values["pins"])
    values |= {"status": "running", "best": -1, "value": None, "reason": "", "page": "", "ended_at": ""}
    tx.upsert(_study, **values, actor=fact.actor, started_at=fact.at, seq=fact.seq)


@project(StudyResumed)
def _study_resumed(tx: Transaction, fact: Stored[StudyResumed]) -> None:
    found = fact.payload
    values = {"trials": found.trials, "budget": found.budget, "status": "running", "ended_at": ""}
    tx.update(_study, {"study": found.study}, **values)


@project(TrialStarted)
def _trial_started(tx: Transaction, fact: Stored[TrialStarted]) -> None:
    found = fact.payload
    tx.upsert(
        _trial,
        study=found.study,
        trial=found.trial,
        params=dict(found.params),
        origin=found.origin,
        state="open",
        value=None,
        run="",
        reason="",
        seconds=0.0,
        cpu_seconds=0.0,
        elapsed_s=0.0,
        reports="",
        seq=fact.seq,
    )


@project(TrialEnded)
def _trial_ended(tx: Transaction, fact: Stored[TrialEnded]) -> None:
    values = asdict(fact.payload)
    keys = {"study": values.pop("study"), "trial": values.pop("trial")}
    tx.update(_trial, keys, **values)


@project(StudyEnded)
def _study_ended(tx: Transaction, fact: Stored[StudyEnded]) -> None:
    values = asdict(fact.payload)
    tx.update(_study, {"study": values.pop("study")}, **values, ended_at=fact.at)


PROJECTIONS = (_started, _study_resumed, _trial_started, _trial_ended, _study_ended)


def study(tx: Reader, name: str) -> StudyRecord | None:
    """One study, or None."""
    row = tx.first(select(_study).where(_study.c.study == name))
    return None if row is None else _record(row)


def by_prefix(tx: Reader, name: str, limit: int = 3) -> list[StudyRecord]:
    """Studies whose id begins or ends with the text, newest first."""
    fits = _study.c.study.startswith(name, autoescape=True) | _study.c.study.endswith(name, autoescape=True)
    return [_record(row) for row in tx.rows(select(_study).where(fits).order_by(_study.c.seq.desc()).limit(limit))]


def studies(tx: Reader, *, limit: int = 20) -> list[StudyRecord]:
    """Studies, newest first."""
    return [_record(row) for row in tx.rows(select(_study).order_by(_study.c.seq.desc()).limit(limit))]


def running(tx: Reader) -> list[str]:
    """The ids of studies that are on record as running, newest first."""
    rows = tx.rows(select(_study.c.study).where(_study.c.status == "running").order_by(_study.c.seq.desc()))
    return [str(row.study) for row in rows]


def trials(tx: Reader, name: str) -> list[TrialRecord]:
    """The trials of a study, by number."""
    rows = tx.rows(select(_trial).where(_trial.c.study == name).order_by(_trial.c.trial))
    return [TrialRecord(**row._mapping) for row in rows]


def trial_of_run(tx: Reader, run: str) -> TrialRecord | None:
    """The trial that a run was, if it has ended, or None."""
    row = tx.first(select(_trial).where(_trial.c.run == run))
    return None if row is None else TrialRecord(**row._mapping)


def _record(row: Row[Any]) -> StudyRecord:
    values = dict(row._mapping)
    values["pins"] = tuple(Pin(**pin) for pin in values["pins"])
    return StudyRecord(**values)
