"""`noria status`: what is live, how well it does, what is going on, and what needs eyes; one answer.

The command line and the page `/` print the same. It reads records and the ends of logs only, so it is
fast whatever the history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from noria.core.clock import utc_text
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.data import records as data
from noria.data.pins import sorted_pins
from noria.experiments.sending import Waiting, waiting
from noria.loop import records as loop
from noria.monitoring import live
from noria.monitoring import records as monitoring
from noria.monitoring.facts import Estimate
from noria.monitoring.records import AlertRecord
from noria.pipeline.driving.progress import Progress, progress
from noria.project import months
from noria.registry import records as registry
from noria.serving import follow
from noria.serving import records as serving
from noria.serving.plan import Plan
from noria.store.ledger import Reader
from noria.store.workspace import Workspace
from noria.tracking import records as tracking
from noria.tracking.run import gone as run_gone
from noria.tracking.working import driven_since, worked_s

__all__ = [
    "ArmLine",
    "DataLine",
    "JobLine",
    "ModelStatus",
    "RolloutLine",
    "RunLine",
    "Status",
    "WindowLine",
    "status",
    "windows_of",
]

RUNS = 10
WINDOWS = 24


@frozen(kw_only=True)
class ArmLine:
    """A release that answers, with its share of the traffic, 0..1."""

    arm: str
    release: int
    weight: float


@frozen(kw_only=True)
class RolloutLine:
    """A rollout that is under way: the step it is at, of how many, and since when."""

    rollout: str
    release: int
    before: int
    step: str
    number: int
    steps: int
    since: str


@frozen(kw_only=True)
class WindowLine:
    """One window of a model: its quality live and frozen, what drifted, and what came of the loop's decision.

    `decision` is that of `noria project months`: wait, stopped, training, refused, promoted, rolled back, …
    """

    window: str
    start: str
    rows: int
    labelled: int
    live: Mapping[str, Estimate]
    frozen: Mapping[str, Estimate]
    drifted: tuple[str, ...]
    decision: str
    reason: str


@frozen(kw_only=True)
class ModelStatus:
    """One model. `release` is the one in production (0: none), `since` when it came there.

    `as_of` is how far time has come for it: event time under an event clock. `candidates` are
    releases that wait: validated or staging. `unloadable` says why a server cannot put what is
    deployed in force; empty when all can. `files` is the newest version if a client keeps it (0: it does not).
    """

    model: str
    version: int
    release: int
    since: str
    actor: str
    as_of: str
    arms: tuple[ArmLine, ...]
    shadow: int
    rollout: RolloutLine | None
    candidates: tuple[int, ...]
    windows: tuple[WindowLine, ...]
    alerts: tuple[AlertRecord, ...]
    promotions: int
    refusals: int
    stopped: int
    unloadable: str
    next: str
    files: int = 0


@frozen(kw_only=True)
class RunLine:
    """One run, newest first. `seconds` are those in which processes worked on it, until its end, or until now.

    `progress` is of one under way; None for a run without steps (a script), and for one that another machine drives.
    """

    run: str
    status: str
    pipeline: str
    seconds: float
    metrics: Mapping[str, float]
    cause: str
    at: str
    progress: Progress | None = None


@frozen(kw_only=True)
class DataLine:
    """The newest version of a data set; one without tables has files and no rows. `size_bytes` is that of its files."""

    dataset: str
    version: int
    rows: int
    at: str
    files: int = 0
    size_bytes: int = 0


@frozen(kw_only=True)
class JobLine:
    """Work that waits or is being done."""

    job: str
    kind: str
    state: str
    about: str


@frozen(kw_only=True)
class Status:
    """The whole project. `facts` is the size of the ledger, `servers` how many answer now.

    `recordings` are those of this machine that are not wholly in the ledger. `unread_pins` says of data sets
    whose pin cannot be read, as when Git left a conflict in it, why and what to do. `scheduling` says how the
    threads that answer are scheduled, each way once: "realtime", or "normal: WHY".
    """

    project: str
    clock: str
    facts: int
    servers: int
    models: tuple[ModelStatus, ...]
    runs: tuple[RunLine, ...]
    datasets: tuple[DataLine, ...]
    jobs: tuple[JobLine, ...]
    next: str
    recordings: tuple[Waiting, ...] = ()
    unread_pins: Mapping[str, str] = field(default_factory=dict)
    scheduling: tuple[str, ...] = ()


@verb(permission="project.read", changes=False)
def status(ws: Workspace) -> Status:
    """What is live, how well it does, what is going on, and what needs eyes.

    Example: noria status
    """
    gone = run_gone(ws)
    with ws.ledger.read() as tx:
        names = registry.models(tx)
        newest_runs = tracking.runs(tx, limit=RUNS)
        newest = [found for name in data.names(tx) if (found := data.newest(tx, name)) is not None]
    runs = [_run(ws, item, gone) for item in newest_runs]
    moments = {name: live.as_of(ws, name) for name in names}
    with ws.ledger.read() as tx:
        deployed = {name: serving.deployment(tx, name) for name in names}
    broken = {name: follow.failures(ws, name, item.seq) for name, item in deployed.items() if item is not None}
    with ws.ledger.read() as tx:
        models = [
            _model(tx, name, utc_text(moment) if (moment := moments[name]) else "", broken.get(name, ""))
            for name in names
        ]
    servers = follow.servers(ws)
    return Status(
        project=ws.project.name,
        clock=ws.project.clock,
        facts=ws.ledger.head(),
        servers=len(servers),
        models=tuple(models),
        runs=tuple(runs),
        datasets=tuple(
            DataLine(
                dataset=item.name,
                version=item.version,
                rows=item.rows,
                at=item.at,
                files=item.files,
                size_bytes=item.size_bytes,
            )
            for item in newest
        ),
        jobs=tuple(JobLine(job=job.id, kind=job.kind, state=job.state, about=job.key) for job in ws.jobs.waiting()),
        next=_next(models, len(newest), runs),
        recordings=tuple(waiting(ws)),
        unread_pins={each.name: each.told for each in sorted_pins(ws.project.root)[1]},
        scheduling=tuple(sorted({str(told) for data in servers if (told := data.get("scheduling"))})),
    )


def _run(ws: Workspace, item: tracking.RunRecord, gone: Mapping[str, float]) -> RunLine:
    status = "lost" if item.run in gone else item.status
    return RunLine(
        run=item.run,
        status=status,
        pipeline=item.pipeline,
        seconds=gone[item.run] if item.run in gone else round(worked_s(ws, item), 3),
        metrics=item.metrics,
        cause=item.cause,
        at=item.started_at,
        progress=progress(ws, item.run, driven_since(ws, item)) if status == "running" else None,
    )


def _model(tx: Reader, name: str, as_of: str, unloadable: str) -> ModelStatus:
    found = registry.production(tx, name)
    newest = registry.version(tx, name, 0)
    files = newest.version if newest is not None and not newest.bundle else 0
    deployed = serving.deployment(tx, name)
    waiting = [item for item in registry.releases(tx, name) if item.state in ("validated", "staging")]
    judged = loop.judgements(tx, name)
    decisions = loop.decisions(tx, name)
    windows = windows_of(tx, name)
    finished = serving.rollouts(tx, name)
    return ModelStatus(
        model=name,
        version=found.version if found else 0,
        release=found.release if found else 0,
        since=found.moved_at if found else "",
        actor=deployed.actor if deployed else "",
        as_of=as_of,
        arms=tuple(
            ArmLine(arm=arm.name, release=arm.release, weight=arm.weight) for arm in (deployed.arms if deployed else ())
        ),
        shadow=deployed.shadow if deployed else 0,
        rollout=_rollout(tx, name),
        candidates=tuple(item.release for item in waiting),
        windows=tuple(windows[-WINDOWS:]),
        alerts=tuple(monitoring.alerts(tx, name)),
        promotions=sum(item.outcome == "promoted" for item in finished),
        refusals=sum(item.decision == "refuse" for item in judged),
        stopped=sum(item.decision == "stopped" for item in decisions),
        unloadable=unloadable,
        next=_next_of(
            name,
            is_live=found is not None or (files > 0 and not waiting),
            is_waiting=bool(waiting),
            is_broken=bool(unloadable),
        ),
        files=files,
    )


def _next_of(name: str, *, is_live: bool, is_waiting: bool, is_broken: bool) -> str:
    if is_broken:
        return f"noria rollback {name}"
    if is_live:
        return ""
    return f"noria deploy {name}" if is_waiting else "noria run"


def windows_of(tx: Reader, model: str) -> list[WindowLine]:
    """Every window that was measured or decided on, in time order, with what came of its decision."""
    return [
        WindowLine(
            window=item.month,
            start=item.start,
            rows=item.rows,
            labelled=item.labelled,
            live=item.live,
            frozen=item.frozen,
            drifted=item.drifted_columns,
            decision=item.decision,
            reason=item.reason,
        )
        for item in months.history(tx, model)
    ]


def _rollout(tx: Reader, model: str) -> RolloutLine | None:
    found = serving.open_rollout(tx, model)
    if found is None:
        return None
    steps = Plan.from_json(found.plan).steps
    return RolloutLine(
        rollout=found.rollout,
        release=found.release,
        before=found.before,
        step=steps[found.step].text,
        number=found.step + 1,
        steps=len(steps),
        since=found.step_at,
    )


def _next(models: list[ModelStatus], datasets: int, runs: list[RunLine]) -> str:
    """What to do now; "" while it is being done."""
    if models:
        return next((item.next for item in models if item.next), "noria watch")
    if not runs:
        return "noria run" if datasets else "noria data add PATH, then noria run"
    newest = runs[0]
    if newest.status in ("running", "finished"):
        return "" if newest.status == "running" else "noria runs"
    is_cut_off = newest.status in ("lost", "cancelled", "preempted")
    return "noria run --resume" if is_cut_off and newest.pipeline else f"noria why {newest.run}"
