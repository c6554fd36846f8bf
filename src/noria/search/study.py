"""`noria run --search N`: the study. It proposes parameters, hands trials to workers, and keeps every answer.

What survives a kill is in the ledger: a trial's parameters before it begins, its end after its run.
A resumed study takes up trials that have no end with the parameters they were given, and counts a run
that had ended as the trial's. Trial n is proposed, and pruned, knowing exactly the trials up to
n - parallel, all of which are over by then; so seed and `parallel` fix every trial, however fast
the machines are.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from time import monotonic
from typing import Any

from noria import plugins
from noria.core.errors import Conflict, NotFound, StudyFailed, UsageError
from noria.core.frozen import frozen, slotted
from noria.core.identity import JSON
from noria.core.interrupts import going_on
from noria.core.progress import task as shown_task
from noria.pipeline.attempt.tried import Tried, read_tried, written
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.space import Dimension, space_of
from noria.registry.metrics import METRICS
from noria.search import page, records
from noria.search.budget import Budget, budget_of
from noria.search.facts import StudyEnded, StudyResumed, StudyStarted, TrialEnded, TrialStarted
from noria.search.records import StudyRecord, TrialRecord
from noria.search.trial import code_name, metric_name, read_reports, reports_file
from noria.search.validation import SHARE, trial_pipeline
from noria.search.workers import Workers
from noria.store.failpoint import failpoint
from noria.store.ledger import Transaction
from noria.store.workspace import Workspace, new_id
from noria.tracking import records as tracking
from noria.tracking.facts import Pin
from noria.tracking.run import is_dead, owner_id
from noria.tracking.run import reap as reap_runs

__all__ = ["Begin", "Request", "at_work", "begin", "reap", "resolve", "resume", "search"]

_LEASE = "study/"
LEASE_S = 15.0
LOOK_S = 1.0
MAX_TRIALS = 10_000
MAX_PARALLEL = 256
OVER = ("done", "pruned", "failed")
PREEMPTIONS_MAX = 50
"""A trial whose process is asked to leave more often than this has failed: perhaps it signals itself."""


@frozen(kw_only=True)
class Request:
    """What was asked for on the command line; empty values are the defaults."""

    trials: int = 0
    sampler: str = ""
    pruner: str = ""
    budget: str = ""
    metric: str = ""
    seed: int | None = None
    parallel: int = 0


@frozen(kw_only=True)
class Begin:
    """What a study is about: the roles of the holdout's columns, exact data, and parameters that are fixed."""

    key: str
    time: str
    label: str
    pins: tuple[Pin, ...]
    params: Mapping[str, JSON] = field(default_factory=dict)


def begin(ws: Workspace, definition: PipelineDefinition, asked: Request, about: Begin) -> StudyRecord:
    """Put a new study on record. Raises: UsageError; ProjectError for a range that is none; NotFound for a sampler."""
    model = definition.model
    if model is None:
        raise UsageError(f"pipeline {definition.name} makes no model, so there is nothing to search for")
    space = space_of(definition, tuple(about.params))
    sampler, pruner = asked.sampler or "tpe", asked.pruner
    for seam, name in (("sampler", sampler), ("pruner", pruner)):
        if name:
            plugins.load(seam, name)
    metric, better = _metric(definition, asked.metric)
    seed = ws.project.seed if asked.seed is None else asked.seed
    share = 0.0 if model.validation is not None else SHARE
    trial_pipeline(definition, share=share, time=about.time, key=about.key, seed=seed)
    started = StudyStarted(
        study=new_id(ws, "study"),
        pipeline=definition.name,
        model=model.name,
        metric=metric,
        better=better,
        space=ws.objects.put_json([_written_dimension(each) for each in space.values()]),
        code=code_name(ws.project.root),
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        parallel=_bounded("--parallel", asked.parallel or 1, MAX_PARALLEL),
        trials=_bounded("--search", asked.trials, MAX_TRIALS),
        budget=budget_of(asked.budget, ws.project).text,
        share=share,
        key=about.key,
        time=about.time,
        label=about.label,
        pins=about.pins,
        params=dict(about.params),
    )
    edges = [(f"data:{pin.dataset}", pin.tree) for pin in about.pins] + [("space", started.space)]
    with ws.ledger.transaction() as tx:
        tx.append(started, inputs=edges)
        found = records.study(tx, started.study)
        _take(ws, started.study, tx)
    failpoint("study.started")
    assert found is not None, "it was just written"
    return found


def resume(ws: Workspace, study: StudyRecord, asked: Request) -> StudyRecord:
    """Let a study go on, with more trials or another budget if asked for. One whose process died is lost first.

    Raises: UsageError for anything else that would make other trials of the same study; Conflict if
        the project's code is another now, or another process is at it.
    """
    for name in ("sampler", "pruner", "metric", "seed", "parallel"):
        value = getattr(asked, name)
        if value not in ("", 0, None) and value != getattr(study, name):
            raise UsageError(
                f"{study.study} has {name} {getattr(study, name)!r}, not {value!r}", hint="a new search may have it"
            )
    if code_name(ws.project.root) != study.code:
        raise Conflict(
            f"the project's code is not that of {study.study}: its trials could not be compared",
            hint=f"take the changes back, or begin anew: noria run --search {study.trials}",
        )
    trials = _bounded("--search", asked.trials or study.trials, MAX_TRIALS)
    budget = budget_of(asked.budget or study.budget, ws.project).text
    with ws.ledger.transaction() as tx:
        _lose(ws, study.study, tx)
        tx.append(StudyResumed(study=study.study, trials=trials, budget=budget))
        found = records.study(tx, study.study)
        _take(ws, study.study, tx)
    assert found is not None, "it is on record"
    return found


def reap(ws: Workspace) -> list[str]:
    """End the studies that nobody is at any more as lost; gives their ids. They can be resumed.

    Safe from several processes: whether a process is at a study is looked at in the transaction that writes,
    and a study is taken in the transaction that begins it or lets it go on.
    """
    with ws.ledger.read() as tx:
        running = records.running(tx)
    held = at_work(ws) if running else frozenset()
    lost = []
    for study in [each for each in running if each not in held]:
        with ws.ledger.transaction() as tx:
            if _lose(ws, study, tx):
                lost.append(study)
    return lost


def at_work(ws: Workspace) -> frozenset[str]:
    """The studies that a process is at: their leases are in time, and their owners are not known to be dead."""
    found = [each for each in ws.jobs.leases(_LEASE) if each.is_live and not is_dead(each.owner)]
    return frozenset(each.name.removeprefix(_LEASE) for each in found)


def _lose(ws: Workspace, study: str, tx: Transaction) -> bool:
    """Put on record that a running study is lost, if it is."""
    found = records.study(tx, study)
    if found is None or found.status != "running" or study in at_work(ws):
        return False
    tx.append(StudyEnded(study=study, status="lost", reason="the process that was at it is gone"))
    return True


def _take(ws: Workspace, study: str, tx: Transaction) -> None:
    """Be the process that is at a study, from the moment on that this is on record."""
    if not ws.jobs.acquire(_LEASE + study, owner=owner_id(), ttl_s=LEASE_S, within=tx):
        raise Conflict(f"another process is at {study}", hint="it ends, or its lease does")


def resolve(ws: Workspace, name: str) -> StudyRecord:
    """The study that a text names: its id, or the first or last characters of it; the newest for "last" or nothing.

    Raises: NotFound; UsageError.
    """
    name = "" if name == "last" else name
    with ws.ledger.read() as tx:
        found = records.by_prefix(tx, name.removeprefix("study/")) if name else records.studies(tx, limit=1)
    if not found and not name:
        raise NotFound("there is no search yet", hint="noria run --search 20")
    if not found:
        raise NotFound(f"there is no study {name!r}", hint="noria search list")
    if len(found) > 1:
        raise UsageError(f"{name!r} fits several studies", hint="give more characters of its id")
    return found[0]


def search(ws: Workspace, study: StudyRecord) -> StudyRecord:
    """Run the trials of a study that are not over; gives its record with the best of them.

    Raises: StudyFailed if none succeeded; Conflict if another process is at it, or the code changed meanwhile.
    """
    owner = owner_id()
    lease = _LEASE + study.study
    for held in ws.jobs.leases(lease):
        if held.name == lease and is_dead(held.owner):
            ws.jobs.release(lease, held.owner)
    if not ws.jobs.acquire(lease, owner=owner, ttl_s=LEASE_S):
        raise Conflict(f"another process is at {study.study}", hint="it ends, or its lease does")
    driver = _Driver(ws, study, owner)
    with going_on(driver.how_to_go_on):
        try:
            driver.adopt()
            driver.run()
        finally:
            driver.workers.close()
            ws.jobs.release(lease, owner)
        return _ended(ws, study, driver.reason)


@slotted
class _Running:
    trial: int
    began: float
    cpu_before_s: float = 0.0


class _Driver:
    """One process that works on a study: which trials are over, and which slot runs which."""

    def __init__(self, ws: Workspace, study: StudyRecord, owner: str) -> None:
        self.ws, self.study, self.owner = ws, study, owner
        self.budget: Budget = budget_of(study.budget, ws.project)
        self.space = read_space(ws, study)
        self.workers = Workers(ws, study.study, study.parallel)
        self.reason = ""
        self._began = monotonic()
        self._slots: list[_Running | None] = [None] * study.parallel
        self._preempted: Counter[int] = Counter()
        with ws.ledger.read() as tx:
            self._trials = {trial.trial: trial for trial in records.trials(tx, study.study)}
        self._before_s = max((trial.elapsed_s for trial in self._trials.values()), default=0.0)
        self._renewed = self._began

    def adopt(self) -> None:
        """Count runs that had ended when the process before this one died as their trials'."""
        reap_runs(self.ws)
        for trial in [each for each in self._trials.values() if each.state == "open"]:
            for stored in self.ws.ledger.facts(kind="run.started", ref=trial.ref):
                with self.ws.ledger.read() as tx:
                    run = tracking.run(tx, stored.payload.run)
                name = metric_name(self.study.metric)
                if run is not None and run.status == "finished" and name in run.metrics:
                    answer = {"state": "done", "value": run.metrics[name], "run": run.run, "seconds": run.seconds}
                    answer["reports"] = read_reports(reports_file(self.ws, run.run))
                    self._end(trial.trial, answer)

    def run(self) -> None:
        """Until every trial is over, or the budget is spent."""
        total = self.study.trials
        with shown_task("trials", total=total, unit="trials") as advance:
            advance(sum(trial.state in OVER for trial in self._trials.values()))
            while True:
                if self.budget.is_spent(self._elapsed_s(), self._cpu_s()):
                    self._stop()
                    return
                self._begin_trials()
                if not any(self._slots):
                    return
                said = self.workers.answer(LOOK_S)
                self._renew()
                if said is not None and self._slots[said[0]] is not None and self._answered(*said):
                    advance(1)

    def how_to_go_on(self) -> str:
        """What is told of a study that a person broke off: the trials that are over stay so."""
        over = sum(trial.state in OVER for trial in self._trials.values())
        kept = f"{over} of {self.study.trials} trials are done and stay so"
        return f"noria run --resume {self.study.study} goes on: {kept}"

    def _begin_trials(self) -> None:
        """Give each free slot the next trial, as soon as all up to n - parallel are over."""
        for slot, running in enumerate(self._slots):
            if running is not None:
                continue
            number = self._next()
            if number is None or any(self._is_open(each) for each in range(number - self.study.parallel + 1)):
                return
            history = self._history(number)
            params = self._params(number, history)
            self._slots[slot] = _Running(number, monotonic(), self.workers.cpu_s(slot))
            name = f"trial/{self.study.study}/{number}"
            self.workers.give(slot, {"trial": name, "params": params, "history": [written(each) for each in history]})

    def _next(self) -> int | None:
        taken = {running.trial for running in self._slots if running is not None}
        return next((n for n in range(self.study.trials) if n not in taken and self._is_open(n)), None)

    def _is_open(self, number: int) -> bool:
        known = self._trials.get(number)
        return known is None or known.state not in OVER

    def _history(self, number: int) -> list[Tried]:
        """What trial `number` may know: the trials up to number - parallel, by number."""
        last = number - self.study.parallel
        return [_tried(self.ws, trial) for each, trial in sorted(self._trials.items()) if each <= last]

    def _params(self, number: int, history: Sequence[Tried]) -> dict[str, JSON]:
        """The parameters of a trial: those it was given before, else the defaults for the first, else proposed."""
        known = self._trials.get(number)
        if known is not None:
            return dict(known.params)
        if number == 0:  # also where a default lies outside of its range: the best is at least as good as pipeline.py
            params, origin = {name: each.default for name, each in self.space.items()}, "default"
        else:
            sampler = plugins.load("sampler", self.study.sampler)
            seed = _mixed(self.study.seed, number)
            params = dict(sampler(self.space, history, seed=seed, better=self.study.better))
            origin = self.study.sampler
        started = TrialStarted(study=self.study.study, trial=number, params=params, origin=origin)
        with self.ws.ledger.transaction() as tx:
            tx.append(started, outputs=[("trial", f"trial/{self.study.study}/{number}")])
            self._trials[number] = _of(tx, self.study.study, number)
        failpoint("trial.started")
        return params

    def _answered(self, slot: int, said: Mapping[str, Any]) -> bool:
        """Take what a slot's worker said; whether its trial is over. One that was asked to leave is begun again."""
        running = self._slots[slot]
        assert running is not None, "only a slot at work answers"
        self._slots[slot] = None
        if said.get("is_changed"):
            raise Conflict(str(said["error"]), hint=f"take it back, then: noria run --resume {self.study.study}")
        if "left" in said:
            self.workers.end(slot)
            self._run_of(running.trial)
            self._preempted[running.trial] += 1
            if self._preempted[running.trial] <= PREEMPTIONS_MAX:
                return False  # it has no end, and its parameters are on record: it is the next to be begun
            said = {"died": f"it was asked to leave by SIGTERM {self._preempted[running.trial]} times"}
        if "died" in said or "error" in said:
            reason = str(said.get("died") or said["error"]).partition("\n")[0]
            seconds = monotonic() - running.began
            said = {"state": "failed", "reason": reason, "seconds": seconds, "run": self._run_of(running.trial)}
            self.workers.end(slot)
        self._end(running.trial, said)
        return True

    def _run_of(self, number: int) -> str:
        """The run of a trial whose process died; it is ended as lost, unless the process has ended it."""
        reap_runs(self.ws)
        found = self.ws.ledger.facts(kind="run.started", ref=f"trial/{self.study.study}/{number}")
        return str(found[-1].payload.run) if found else ""

    def _stop(self) -> None:
        """The budget is spent: end what runs; it is done again if the study is resumed."""
        self.reason = f"the budget of {self.study.budget} was spent"
        for slot, running in enumerate(self._slots):
            if running is not None:
                used = {"seconds": monotonic() - running.began, "cpu_seconds": self._used_s(slot, running)}
                self.workers.end(slot)
                self._slots[slot] = None
                answer = {"state": "stopped", "reason": self.reason, "run": self._run_of(running.trial)}
                self._end(running.trial, {**answer, **used})

    def _end(self, number: int, said: Mapping[str, Any]) -> None:
        reports = said.get("reports") or ()
        value = said.get("value")
        ended = TrialEnded(
            study=self.study.study,
            trial=number,
            state=str(said["state"]),
            value=None if value is None else float(value),
            run=str(said.get("run") or ""),
            reason=str(said.get("reason") or "")[:500],
            seconds=round(float(said.get("seconds") or 0.0), 3),
            cpu_seconds=round(float(said.get("cpu_seconds") or 0.0), 3),
            elapsed_s=round(self._elapsed_s(), 3),
            reports=self.ws.objects.put_json([list(each) for each in reports]) if reports else "",
        )
        with self.ws.ledger.transaction() as tx:
            tx.append(ended, inputs=[("trial", f"trial/{self.study.study}/{number}")], outputs=_run_edge(ended.run))
            self._trials[number] = _of(tx, self.study.study, number)
        failpoint("trial.ended")

    def _elapsed_s(self) -> float:
        return self._before_s + monotonic() - self._began

    def _cpu_s(self) -> float:
        """Processor time of the trials that are over, and of those at work so far."""
        return sum(trial.cpu_seconds for trial in self._trials.values()) + sum(
            self._used_s(slot, running) for slot, running in enumerate(self._slots) if running is not None
        )

    def _used_s(self, slot: int, running: _Running) -> float:
        return max(0.0, self.workers.cpu_s(slot) - running.cpu_before_s)

    def _renew(self) -> None:
        if monotonic() - self._renewed > LEASE_S / 3:
            self._renewed = monotonic()
            with self.ws.ledger.transaction() as tx:
                if not self.ws.jobs.acquire(_LEASE + self.study.study, owner=self.owner, ttl_s=LEASE_S, within=tx):
                    raise Conflict(f"another process took over {self.study.study}")
                found = records.study(tx, self.study.study)
                if found is not None and found.status == "lost":  # this process slept for longer than its lease
                    tx.append(StudyResumed(study=found.study, trials=found.trials, budget=found.budget))


def _ended(ws: Workspace, study: StudyRecord, reason: str) -> StudyRecord:
    """Write how the study ended, with its page. Raises: StudyFailed if no trial succeeded."""
    with ws.ledger.read() as tx:
        trials = records.trials(tx, study.study)
    done = [trial for trial in trials if trial.state == "done" and trial.value is not None]
    sign = 1.0 if study.better == "higher" else -1.0
    best = max(done, key=lambda trial: (sign * (trial.value or 0.0), -trial.trial), default=None)
    shown = page.page(study, trials, read_space(ws, study), best.trial if best else -1, reason)
    stored = ws.objects.put_bytes(shown.encode("utf-8"))
    place = page.place(ws, study.study)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(shown, encoding="utf-8")
    ended = StudyEnded(
        study=study.study,
        status="finished" if best else "failed",
        best=best.trial if best else -1,
        value=best.value if best else None,
        reason=reason,
        page=stored,
    )
    with ws.ledger.transaction() as tx:
        tx.append(ended, inputs=[("trial", best.ref)] if best else [], outputs=[("page", stored)])
        found = records.study(tx, study.study)
    failpoint("study.ended")
    assert found is not None
    if best is None:
        failed = [trial for trial in trials if trial.state == "failed"]
        first = failed[0].reason if failed else reason
        raise StudyFailed(
            f"none of {len(trials)} trials succeeded" + (f"; the first: {first}" if first else ""),
            where=study.study,
            hint=f"noria search show {study.study}",
        )
    return found


def read_space(ws: Workspace, study: StudyRecord) -> dict[str, Dimension]:
    """The dimensions of a study, as they were when it began."""
    found = [Dimension(**{**item, "choices": tuple(item["choices"])}) for item in ws.objects.get_json(study.space)]
    return {each.name: each for each in found}


def _written_dimension(found: Dimension) -> dict[str, JSON]:
    names = ("name", "kind", "low", "high", "log", "step", "default")
    return {**{name: getattr(found, name) for name in names}, "choices": list(found.choices)}


def _metric(definition: PipelineDefinition, asked: str) -> tuple[str, str]:
    """The metric that a study goes by and which way is better: the model's first, or the one asked for."""
    assert definition.model is not None
    known = {item if isinstance(item, str) else item.name: item for item in definition.model.metrics}
    name = asked or next(iter(known), "")
    if name not in known:
        raise UsageError(
            f"model {definition.model.name} is not measured by {name!r}", hint=f"one of: {', '.join(known)}"
        )
    chosen = known[name]
    if not isinstance(chosen, str):
        return name, chosen.better
    if chosen not in METRICS:
        raise UsageError(f"there is no metric {chosen!r}", hint=f"one of: {', '.join(sorted(METRICS))}")
    return name, METRICS[chosen].better


def _bounded(option: str, value: int, limit: int) -> int:
    if not 1 <= value <= limit:
        hint = f"{option} {min(max(value, 1), limit)}"
        raise UsageError(f"{option} is {value}, not from 1 to {limit:,}", hint=hint)
    return value


def _mixed(seed: int, number: int) -> int:
    """A trial's own seed, below 2**31: that of the study, mixed with its number."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big") >> 1


def _tried(ws: Workspace, trial: TrialRecord) -> Tried:
    reports = ws.objects.get_json(trial.reports) if trial.reports else []
    state = trial.state if trial.state in OVER else "failed"
    document = {"number": trial.trial, "params": dict(trial.params), "value": trial.value, "reports": reports}
    return read_tried({**document, "state": state})


def _of(tx: Any, study: str, number: int) -> TrialRecord:
    return next(trial for trial in records.trials(tx, study) if trial.trial == number)


def _run_edge(run: str) -> list[tuple[str, str]]:
    return [("run", f"run/{run}")] if run else []
