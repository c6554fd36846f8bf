"""Records of scripts: what a run of one did, as its fact says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.scripts.facts import ScriptCaptured
from noria.store.ledger import Reader, Transaction
from noria.store.sql.words import JSON, BigInteger, Column, Index, Integer, Text, select
from noria.store.tables import project, record_table

__all__ = ["PROJECTIONS", "TABLES", "ScriptRecord", "before", "captured", "newest"]

_script = record_table(
    "script_run",
    Column("run", Text, primary_key=True),
    Column("script", Text, nullable=False),
    Column("command", JSON, nullable=False),
    Column("exit_code", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Column("read", Text, nullable=False),
    Column("written", Text, nullable=False),
    Column("params", JSON, nullable=False),
    Column("at", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("script_run_script", "script", "seq"),
)
TABLES = (_script,)


@frozen(kw_only=True)
class ScriptRecord:
    """What one run of a script did; see `ScriptCaptured`."""

    run: str
    script: str
    command: tuple[str, ...]
    exit_code: int
    document: str
    read: str
    written: str
    params: Mapping[str, Any]
    at: str
    seq: int


@project(ScriptCaptured)
def script_captured(tx: Transaction, fact: Stored[ScriptCaptured]) -> None:
    """The newest record of a run stands."""
    payload = fact.payload
    tx.upsert(
        _script,
        run=payload.run,
        script=payload.script,
        command=list(payload.command),
        exit_code=payload.exit_code,
        document=payload.document,
        read=payload.read,
        written=payload.written,
        params=dict(payload.params),
        at=fact.at,
        seq=fact.seq,
    )


PROJECTIONS = (script_captured,)


def captured(tx: Reader, run: str) -> ScriptRecord | None:
    """What a run of a script did; None for a run of a pipeline, or of a script that is not over."""
    return _record(tx.first(select(_script).where(_script.c.run == run)))


def newest(tx: Reader, script: str) -> ScriptRecord | None:
    """What the newest run of a script did; None if none is over."""
    return _record(tx.first(select(_script).where(_script.c.script == script).order_by(_script.c.seq.desc()).limit(1)))


def before(tx: Reader, record: ScriptRecord) -> ScriptRecord | None:
    """What the run before did of the same script; None for the first."""
    table = _script.c
    earlier = select(_script).where(table.script == record.script, table.seq < record.seq)
    return _record(tx.first(earlier.order_by(table.seq.desc()).limit(1)))


def _record(row: Any) -> ScriptRecord | None:
    if row is None:
        return None
    values = dict(row._mapping)
    return ScriptRecord(**{**values, "command": tuple(values["command"])})
