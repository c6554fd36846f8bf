"""Records of checks: every run of a suite on a version, as the facts left them."""

from __future__ import annotations

import json
from typing import Any

from noria.checks.facts import ChecksFinished
from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.store.ledger import Reader, Transaction
from noria.store.rows import parsed
from noria.store.sql.words import Boolean, Column, Integer, Select, String, Text, select
from noria.store.tables import project, record_table

__all__ = ["PROJECTIONS", "TABLES", "ChecksRecord", "accepted", "latest", "runs"]


@frozen(kw_only=True)
class ChecksRecord:
    """One run of a suite on a version; `report` is the digest of its findings, `seq` its place in the ledger."""

    seq: int
    dataset: str
    version: int
    tree: str
    suite: str
    report: str
    passed: int
    failed: int
    warned: int
    ok: bool
    failures: tuple[str, ...]
    at: str


_run = record_table(
    "checks_run",
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("dataset", String(64), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("tree", String(71), nullable=False),
    Column("suite", String(71), nullable=False),
    Column("report", String(71), nullable=False),
    Column("passed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("warned", Integer, nullable=False),
    Column("ok", Boolean, nullable=False),
    Column("failures", Text, nullable=False),
    Column("at", String(32), nullable=False),
)
TABLES = (_run,)
_FIELDS = tuple(column.name for column in _run.columns)


@project(ChecksFinished)
def finished(tx: Transaction, fact: Stored[ChecksFinished]) -> None:
    """A run of a suite is known."""
    payload = fact.payload
    values: dict[str, Any] = {n: getattr(payload, n) for n in _FIELDS if n not in ("seq", "failures", "at")}
    tx.upsert(_run, **values, seq=fact.seq, failures=json.dumps(list(payload.failures)), at=fact.at)


PROJECTIONS = (finished,)


def latest(tx: Reader, dataset: str, tree: str) -> ChecksRecord | None:
    """The newest run on this content."""
    return _one(tx, _of(dataset).where(_run.c.tree == tree))


def accepted(tx: Reader, dataset: str, *, before: int) -> ChecksRecord | None:
    """The last run that passed on the highest version below `before`, if that version's last run passed."""
    for row in tx.rows(_of(dataset).where(_run.c.version < before, _run.c.ok).order_by(None).order_by(*_BY_VERSION)):
        found = _read(row)
        last = latest(tx, dataset, found.tree)
        if last is not None and last.ok:
            return last
    return None


def runs(tx: Reader, dataset: str) -> list[ChecksRecord]:
    """Every run on a data set, newest first."""
    return [_read(row) for row in tx.rows(_of(dataset))]


_BY_VERSION = (_run.c.version.desc(), _run.c.seq.desc())


def _of(dataset: str) -> Select[Any]:
    fields = (_run.c[field] for field in _FIELDS)
    return select(*fields).where(_run.c.dataset == dataset).order_by(_run.c.seq.desc())


def _one(tx: Reader, query: Select[Any]) -> ChecksRecord | None:
    row = tx.first(query.limit(1))
    return None if row is None else _read(row)


def _read(row: Any) -> ChecksRecord:
    values = dict(zip(_FIELDS, row, strict=True))
    values["failures"] = tuple(parsed(values["failures"]))
    return ChecksRecord(**values)
