"""A run in progress: its lease and heartbeat, metric points, artifacts, and its one end.

The lease is taken before the fact says that the run started, and the fact of its end is written
once, by the owner or, when the owner died, by `reap`. So no run is running for ever.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from noria.core.errors import (
    Conflict,
    Corrupt,
    GateClosed,
    NoriaError,
    NotFound,
    RunCancelled,
    RunPreempted,
    UsageError,
)
from noria.core.identity import JSON, Digest, canonical, digest
from noria.core.lazy import lazy
from noria.core.printable import error_line
from noria.core.verb import verb
from noria.store.failpoint import failpoint
from noria.store.jobs import Lease
from noria.store.ledger import Reader, Transaction
from noria.store.owner import is_dead, owner_id
from noria.store.series import MetricWriter
from noria.store.workspace import Workspace, new_id
from noria.tracking import records
from noria.tracking.code import difference, snapshot
from noria.tracking.environment import environment as read_environment
from noria.tracking.facts import ArtifactLogged, Code, MetricsSealed, Pin, RunFinished, RunResumed, RunStarted
from noria.tracking.host import host as read_host
from noria.tracking.records import RunRecord
from noria.tracking.system import EVERY_S, FIRST_S, Sampler
from noria.tracking.working import LEASE_S, lost_s

if TYPE_CHECKING:
    import logging
else:
    logging = lazy("logging")

__all__ = [
    "RESUMABLE",
    "RunHandle",
    "gone",
    "is_dead",
    "list_runs",
    "log_text",
    "not_resumable",
    "owner_id",
    "reap",
    "require_own",
    "resolve",
    "resume",
    "show",
    "start",
]

BEAT_S = 4.0
RETRY_S = 1.0
REASON_LIMIT = 500
RESUMABLE = frozenset({"lost", "failed", "cancelled", "preempted"})
"""A run that ended so may go on; one that is finished or stopped has done its work."""


class RunHandle:
    """One run, held by this process. A context manager: an exception ends it as failed or stopped.

    `log` and `artifact` may be called from one thread at a time. `before_s` is how long processes before this one
    worked on it.
    """

    def __init__(self, ws: Workspace, run: str, owner: str, *, before_s: float = 0.0) -> None:
        self._ws = ws
        self.before_s = before_s
        self.run = run
        self.owner = owner
        self._started = time.monotonic()
        self.seconds = 0.0
        """How long the run took, once it has ended: as it is on record."""
        self._metrics: dict[str, float] = {}
        self._writer: MetricWriter | None = None
        self._ended = False
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._keep_lease, name=f"heartbeat-{run}", daemon=True)
        self._beat.start()
        self._sampling: threading.Thread | None = None

    def watch(self) -> None:
        """Sample what the run takes of the machine until it ends, as metrics below `system/`."""
        self._sampling = threading.Thread(target=self._sample, name=f"sampling-{self.run}", daemon=True)
        self._sampling.start()

    @property
    def folder(self) -> Path:
        """Where the run's live logs are: `.noria/runs/<run>`."""
        return self._ws.project.state / "runs" / self.run

    def log(self, *, step: int = 0, **metrics: float) -> None:
        """Append a point to each named metric's series. NaN and infinite values are kept as they are."""
        if self._writer is None:
            self._writer = self._ws.series.writer(self.run)
        for name, value in metrics.items():
            self._writer.log(name, float(value), step=step)
            self._metrics[name] = float(value)

    def artifact(self, name: str, content: bytes | Path, *, type: str = "file") -> Digest:
        """Store bytes or a file and name it as the run's; gives its digest."""
        objects = self._ws.objects
        stored = objects.put_file(content) if isinstance(content, Path) else objects.put_bytes(content)
        payload = ArtifactLogged(run=self.run, name=name, digest=stored, size_bytes=objects.size(stored), type=type)
        with self.held().ledger.transaction() as tx:
            tx.append(payload, outputs=[(name, stored)])
        return stored

    def held(self) -> Workspace:
        """The workspace for what follows from this run: nothing is recorded once another process has taken it over.

        Its transactions raise RunPreempted then, before anything is written.
        """

        def condition(tx: Transaction) -> None:
            require_own(tx, self.run, self.owner)

        return replace(self._ws, ledger=self._ws.ledger.under(condition))

    def finish(self, status: str = "finished", reason: str = "", metrics: Mapping[str, float] | None = None) -> None:
        """End the run; a second end does nothing. `metrics` are the final values, finite ones are kept."""
        if self._ended:
            return
        if self._writer is not None:
            self._writer.close()
        self._stop.set()
        self._beat.join()
        if self._sampling is not None:
            self._sampling.join()
        final = {**self._metrics, **(metrics or {})}
        finite = {name: value for name, value in final.items() if abs(value) < float("inf")}
        self.seconds = round(self.before_s + time.monotonic() - self._started, 6)
        _finish(self._ws, self.run, status, reason[:REASON_LIMIT], self.seconds, finite, owner=self.owner)
        self._ended = True  # not before: where an interrupt breaks in, the run is ended by who leaves its block
        failpoint("run.finished")
        self._ws.jobs.release(f"run/{self.run}", self.owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        elif isinstance(error, GateClosed):
            self.finish("stopped", error.message)
        elif isinstance(error, RunPreempted):
            self.finish("preempted", error.message)
        elif isinstance(error, RunCancelled | KeyboardInterrupt):
            self.finish("cancelled", str(error).partition("\n")[0] or "interrupted")
        elif isinstance(error, NoriaError):
            self.finish("failed", error.message)
        else:
            self.finish("failed", error_line(error))

    def _sample(self) -> None:
        """The thread that samples. What fails ends the samples, never the run."""
        number, writer = 0, None
        try:
            sampler = Sampler(self._ws.project.root)
            while not self._stop.wait(EVERY_S if number else FIRST_S):
                writer = writer or self._ws.series.writer(self.run)  # its own: a writer is for one thread
                for name, value in sampler.sample().items():
                    writer.log(name, value, step=number)
                writer.flush()  # the next one is far: who looks meanwhile sees this one whole
                number += 1
        except (NoriaError, OSError, ValueError) as error:
            logging.getLogger("noria.tracking").warning(
                "run %s: what it takes of the machine is not sampled any more: %s", self.run, error
            )
        finally:
            if writer is not None:
                _closed(writer, self.run)

    def _keep_lease(self) -> None:
        pause = BEAT_S
        while not self._stop.wait(pause):
            try:
                _take_lease(self._ws, self.run, self.owner)
                pause = BEAT_S
            except NoriaError:
                pause = RETRY_S  # a database that restarts is back soon; who writes next says what is the matter


def require_own(tx: Reader, run: str, owner: str) -> None:
    """The run is still this owner's to write of. Raises: RunPreempted if it was ended, or taken over by another."""
    found = records.run(tx, run)
    if found is None or found.owner != owner or found.status != "running":
        now = "gone" if found is None else found.status if found.status != "running" else "another process's"
        raise RunPreempted(
            f"run {run} is {now}: this process was away for longer than its lease",
            hint="nothing that it did since is recorded",
        )


def start(
    ws: Workspace,
    pipeline: str,
    *,
    cause: str = "user",
    pins: Sequence[Pin] = (),
    config: Mapping[str, JSON] | None = None,
    seed: int | None = None,
    code: Code | None = None,
    inputs: Sequence[tuple[str, str]] = (),
) -> RunHandle:
    """Begin a run: take its lease, record code, environment, configuration and pins.

    Args:
        cause: "user", "test", or the ref of what asked for it.
        config: the resolved configuration and parameters, stored as an object.
        code: the snapshot, if it was taken already.
        inputs: more lineage edges (role, ref) of the run.
    """
    reap(ws)
    run = new_id(ws, "run")
    owner = owner_id()
    found = code or snapshot(ws.project.root, ws.objects, entry=ws.project.pipeline)
    environment = _kept(ws, read_environment(ws.project.state).document())
    host = _kept(ws, read_host().document())
    stored = ws.objects.put_json(dict(config or {}))
    _take_lease(ws, run, owner)
    payload = RunStarted(
        run=run,
        pipeline=pipeline,
        cause=cause,
        code=found,
        config=stored,
        environment=environment,
        seed=ws.project.seed if seed is None else seed,
        pins=tuple(pins),
        owner=owner,
        host=host,
    )
    edges = [(f"data:{pin.dataset}", pin.tree) for pin in pins]
    edges += [(f"dataset:{pin.dataset}", f"dataset/{pin.dataset}@{pin.version}") for pin in pins]
    edges += [("environment", environment), ("host", host), ("config", stored)]
    edges += [(role, ref) for role, ref in (("source", found.source), ("patch", found.patch)) if ref]
    if "/" in cause:
        edges.append(("cause", cause))
    with ws.ledger.transaction() as tx:
        tx.append(payload, inputs=[*edges, *inputs])
    failpoint("run.started")
    return RunHandle(ws, run, owner)


def resume(ws: Workspace, run: str) -> RunHandle:
    """Take up a run that ended before its work was done, as its new owner.

    Raises: Conflict if another process is at it, or meanwhile was; UsageError as `not_resumable` tells.
    """
    reap(ws)
    owner = owner_id()
    reason = not_resumable(ws, resolve(ws, run))
    if reason:
        raise UsageError(
            f"run {run} cannot be resumed: {reason}", hint="noria run makes a new one; what is cached is kept"
        )
    if not _take_lease(ws, run, owner):
        raise Conflict(f"run {run} is being worked on by another process", hint="noria status")
    with ws.ledger.transaction() as tx:
        record = records.run(tx, run)
        if record is None or record.status not in RESUMABLE:
            raise Conflict(f"run {run} was taken up by another process meanwhile", hint="noria status")
        tx.append(RunResumed(run=run, owner=owner, before=record.status))
    failpoint("run.resumed")
    return RunHandle(ws, run, owner, before_s=record.seconds)


def not_resumable(ws: Workspace, record: RunRecord) -> str:
    """Why a run cannot go on; "" if it can: its work is not done, and code and environment are what they were."""
    if record.status == "running":
        return "it is running"
    if record.status not in RESUMABLE:
        return f"it is {record.status}"
    now = snapshot(ws.project.root, ws.objects, entry=record.code.entry or ws.project.pipeline)
    changed = difference(ws.objects, record.code, now)
    if not changed and read_environment(ws.project.state).digest() != record.environment:
        changed = "the installed packages have changed since"
    return changed


def _kept(ws: Workspace, document: dict[str, JSON]) -> Digest:
    """The name of a document that most runs share: stored once, and anew where it was altered."""
    content = canonical(document)
    name = digest(content)
    try:
        if ws.objects.has(name) and ws.objects.get_bytes(name) == content:
            return name
    except (NotFound, Corrupt):
        pass  # gone since, or altered
    return ws.objects.put_bytes(content)


def reap(ws: Workspace) -> list[str]:
    """End the runs whose owner is gone (lease expired, or its process on this machine is dead) as lost.

    Gives their ids. Safe from several processes: one end is written for each.
    """
    lost = []
    for record, lease in _gone(ws):
        if _finish(ws, record.run, "lost", "its process died", lost_s(ws, record, lease), {}):
            lost.append(record.run)
        if lease is not None:
            ws.jobs.release(lease.name, lease.owner)
    return lost


def gone(ws: Workspace) -> Mapping[str, float]:
    """The runs on record as running whose owner is gone, and how long they were worked on; writes nothing."""
    return {record.run: lost_s(ws, record, lease) for record, lease in _gone(ws)}


def _gone(ws: Workspace) -> list[tuple[RunRecord, Lease | None]]:
    with ws.ledger.read() as tx:
        open_runs = records.running(tx)
    leases = {lease.name: lease for lease in ws.jobs.leases("run/")} if open_runs else {}
    found = [(record, leases.get(f"run/{record.run}")) for record in open_runs]
    return [(record, lease) for record, lease in found if lease is None or not lease.is_live or is_dead(lease.owner)]


@verb(permission="tracking.read", changes=False, name="list")
def list_runs(ws: Workspace, limit: int = 20, pipeline: str = "", status: str = "") -> list[RunRecord]:
    """Runs, newest first, of one pipeline or in one status if these are given.

    Runs whose process died are ended as lost first, so none is shown as running that is not.
    """
    reap(ws)
    with ws.ledger.read() as tx:
        return records.runs(tx, pipeline=pipeline, status=status, limit=limit)


@verb(permission="tracking.read", changes=False)
def show(ws: Workspace, run: str = "") -> RunRecord:
    """One run by its id, or the first or last characters of it; the newest without one."""
    return resolve(ws, run)


def resolve(ws: Workspace, run: str = "") -> RunRecord:
    """The run that a text names. Raises: NotFound; UsageError if it fits several."""
    name = run.removeprefix("run/")
    with ws.ledger.read() as tx:
        if not name or name == "last":
            found = records.newest(tx)
            if found is None:
                raise NotFound("there is no run yet", hint="noria run")
            return found
        fits = records.by_prefix(tx, name)
    if not fits:
        raise NotFound(f"there is no run {run!r}", hint="noria runs lists them")
    if len(fits) > 1:
        raise UsageError(f"{run!r} fits several runs", hint="give more characters of its id")
    return fits[0]


@verb(permission="tracking.read", changes=False, name="log")
def log_text(ws: Workspace, run: str = "", step: str = "") -> str:
    """All that a run (or one step of it, with its items) has printed so far, as one text, from the files that lie here.

    `noria pipeline logs` gives it step by step, goes on while the run does, and finds what ran elsewhere.
    """
    folder = ws.project.state / "runs" / resolve(ws, run).run
    found = [path for path in folder.glob("*.log") if not step or step in (path.stem, path.stem.rpartition(".")[0])]
    paths = sorted(found, key=lambda path: path.stat().st_mtime_ns)
    if not paths:
        return ""
    texts = [(path.stem, path.read_text(encoding="utf-8", errors="replace")) for path in paths]
    return "".join(text if len(texts) == 1 else f"--- {name}\n{text}" for name, text in texts if text)


def _finish(
    ws: Workspace,
    run: str,
    status: str,
    reason: str,
    seconds: float,
    metrics: Mapping[str, float],
    *,
    owner: str = "",
) -> bool:
    """Seal the points and write the end, unless somebody else wrote one or is its `owner` now. Whether it was us."""
    sealed = ws.series.seal(run)
    with ws.ledger.transaction() as tx:
        record = records.run(tx, run)
        if record is None or record.status != "running" or (owner and record.owner != owner):
            return False
        if sealed is not None:
            last = {name: value for name, value in sealed.last.items() if abs(value) < float("inf")}
            tx.append(
                MetricsSealed(run=run, segment=sealed.digest, points=sealed.points, names=sealed.names, last=last),
                outputs=[("metrics", sealed.digest)],
            )
        tx.append(RunFinished(run=run, status=status, reason=reason, seconds=seconds, metrics=dict(metrics)))
    if sealed is not None:
        ws.series.discard(run)
    return True


def _closed(writer: MetricWriter, run: str) -> None:
    """Close the samples' own writer; a disk that is full then is told, and costs the last of them."""
    try:
        writer.close()
    except NoriaError as error:
        logging.getLogger("noria.tracking").warning(
            "run %s: the last samples of the machine are lost: %s", run, error.message
        )


def _take_lease(ws: Workspace, run: str, owner: str) -> bool:
    return ws.jobs.acquire(f"run/{run}", owner=owner, ttl_s=LEASE_S, data={"pid": os.getpid()})
