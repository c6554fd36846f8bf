"""Doing what a tick asked for, once: a run that it caused is looked for before another is made.

A process may die at any point: another takes the job up when the lease ends. A run that ended by then
is taken as the tick's; one that was lost is made again, from the step cache. The end of a tick is
written once, and nothing is done for a tick that has ended.
"""

from __future__ import annotations

from noria.checks import suite
from noria.checks.watch import watch
from noria.config import ScheduleConfig
from noria.core.errors import GateClosed, NoriaError, NotFound, WorldError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.data import versions
from noria.loop.challenge import Busy
from noria.loop.interrupted import cut_off
from noria.loop.run import Challenge, perform
from noria.schedule import records
from noria.schedule.params import filled
from noria.schedule.records import TickRecord
from noria.schedule.tick import KIND, end
from noria.store.jobs import Job
from noria.store.workspace import Workspace
from noria.tracking import records as tracking
from noria.tracking.run import reap

__all__ = ["KINDS", "work"]

KINDS = (KIND,)
_STATUS = {"finished": "done", "stopped": "stopped", "failed": "failed"}


@frozen
class _Outcome:
    status: str
    run: str = ""
    reason: str = ""


def work(ws: Workspace, job: Job) -> dict[str, JSON]:
    """Do what a tick asked for and write how it ended; gives that as the job's result.

    What the project's code and data say no to is an outcome, not an error. Raises: WorldError;
        Busy while an earlier attempt lives.
    """
    with ws.ledger.read() as tx:
        tick = records.tick_of(tx, str(job.payload["tick"]))
    if tick is None:
        raise NotFound(f"there is no {job.payload['tick']}")
    if tick.status != "waiting":
        return {"tick": tick.ref, "status": tick.status, "run": tick.run}
    config = ws.project.schedules.get(tick.schedule)
    if config is None:
        found = _Outcome("failed", reason=f"noria.toml has no [schedule.{tick.schedule}] any more")
    else:
        found = _done(ws, config, tick)
    end(ws, tick, found.status, run=found.run, reason=found.reason)
    return {"tick": tick.ref, "status": found.status, "run": found.run, "reason": found.reason}


def _done(ws: Workspace, config: ScheduleConfig, tick: TickRecord) -> _Outcome:
    outcome = _Outcome("done")
    for action in config.do:
        try:
            outcome = _act(ws, config, tick, action, outcome)
        except GateClosed as error:
            return _Outcome("stopped", _run_of(ws, tick), _told(action, error.message))
        except (Busy, WorldError):
            raise
        except NoriaError as error:
            return _Outcome("failed", _run_of(ws, tick), _told(action, error.message))
        if outcome.status != "done":
            return outcome
    return outcome


def _act(ws: Workspace, config: ScheduleConfig, tick: TickRecord, action: str, before: _Outcome) -> _Outcome:
    """One action of a schedule. A run names the tick as its cause; data and checks are the same when done twice."""
    words = action.split()
    if action == "run":
        return _earlier(ws, tick) or _run(ws, config, tick)
    if words[1] == "add":
        versions.add(ws, _source(ws, words[2]), words[2])
    elif words[1] == "check":
        suite.require(ws, words[2])
    else:
        report = watch(ws, *words[2:])
        if not report.ok:
            broken = ", ".join(each.dataset for each in report.datasets if not each.ok)
            return _Outcome("stopped", before.run, f"data watch: anomalies in {broken}")
    return before


def _run(ws: Workspace, config: ScheduleConfig, tick: TickRecord) -> _Outcome:
    challenge = Challenge(cause=tick.ref, inputs=(("tick", tick.ref),))
    cut = cut_off(ws, tick.ref)
    params = filled(config, due=tick.due, start=tick.start, end=tick.end, partition=tick.partition)
    report = perform(ws, challenge, resume=cut) if cut else perform(ws, challenge, params=params)
    if report.ok:
        return _Outcome("done", report.run)
    closed = "; ".join(f"{verdict.gate}: {verdict.text}" for verdict in report.gates if not verdict.passed)
    return _Outcome("stopped", report.run, closed)


def _earlier(ws: Workspace, tick: TickRecord) -> _Outcome | None:
    """What an earlier attempt came to before its process died; None if it came to nothing."""
    reap(ws)
    found = None
    for run in _runs(ws, tick):
        if run.status == "running":
            raise Busy(f"{run.run} is still running", hint="it ends, or its lease does")
        if run.status in _STATUS:
            found = _Outcome(_STATUS[run.status], run.run, run.reason)
    return found


def _runs(ws: Workspace, tick: TickRecord) -> list[tracking.RunRecord]:
    started = [stored.payload for stored in ws.ledger.facts(kind="run.started", ref=tick.ref)]
    with ws.ledger.read() as tx:
        found = [tracking.run(tx, payload.run) for payload in started if payload.cause == tick.ref]
    return [run for run in found if run is not None]


def _run_of(ws: Workspace, tick: TickRecord) -> str:
    runs = _runs(ws, tick)
    return runs[-1].run if runs else ""


def _source(ws: Workspace, name: str) -> str:
    config = ws.project.data.get(name)
    if config is None or not config.source:
        raise NotFound(f"[data.{name}] has no source", where=str(ws.project.root / "noria.toml"))
    return config.source if "://" in config.source else str(ws.project.root / config.source)


def _told(action: str, message: str) -> str:
    first = message.partition("\n")[0]
    return first if action == "run" else f"{action}: {first}"
