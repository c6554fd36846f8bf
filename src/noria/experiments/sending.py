"""Sending what recordings have logged into the ledger: in batches, each once, whoever sends it.

The process that records sends while it lives; what it left is sent by the next `noria` command or by the
server. A batch is the bytes of a log from where the ledger's record of that log ends, and its fact says
where it ends now; the transaction that appends the fact has read that record. So two senders, or one that
is killed at any point, neither lose nor double anything. Objects come first, then the fact, and the folder
goes when the run's end is on record.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria import plugins
from noria.core.clock import instant
from noria.core.errors import NoriaError, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.identity import Digest
from noria.core.lazy import lazy
from noria.experiments import journal, points, records
from noria.experiments.facts import Dataset, PointsMerged, RunDescribed, RunLogged
from noria.experiments.journal import Batch
from noria.store.failpoint import failpoint
from noria.store.ledger import Reader, Ready, Transaction
from noria.store.objects import Objects
from noria.store.workspace import Workspace, acting
from noria.tracking import records as tracking
from noria.tracking.facts import ArtifactLogged, Code, Pin, RunFinished, RunStarted
from noria.tracking.run import is_dead
from noria.tracking.system import is_system

if TYPE_CHECKING:
    from noria.data import versions
    from noria.packaging import bundle
    from noria.registry import versions as registry_versions
    from noria.store import transfer
else:  # few recordings have models or data sets, and every command looks whether there are any
    versions, registry_versions = lazy("noria.data.versions"), lazy("noria.registry.versions")
    bundle, transfer = lazy("noria.packaging.bundle"), lazy("noria.store.transfer")

__all__ = [
    "LEASE_S",
    "Ending",
    "Waiting",
    "append_end",
    "end_run",
    "keep_lease",
    "prepare_end",
    "send",
    "send_batch",
    "send_left",
    "waiting",
]

log = logging.getLogger("noria.recording")
LEASE_S = 60.0
"""How long a run is taken to live after its process was last heard of."""
MERGED_POINTS_MAX = 5_000_000
"""A run with more points keeps its segments as they are."""
FINAL_METRICS_MAX = 5000
REGISTERED = "model:"
"""How the artifact of a model is called that becomes a version when its run ends."""


@frozen(kw_only=True)
class Waiting:
    """A recording on this machine that is not wholly in the ledger yet. `is_live`: its process is at work."""

    run: str
    name: str
    size_bytes: int
    since: str
    is_live: bool
    is_ended: bool


def keep_lease(ws: Workspace, run: str, owner: str) -> None:
    """Say that the run lives."""
    ws.jobs.acquire(f"run/{run}", owner=_holder(owner), ttl_s=LEASE_S)


def send_left(ws: Workspace) -> int:
    """Send what recordings left whose process is over or dead; gives how many are wholly sent now.

    One that cannot be sent is told in the log and by `noria status`, and stays for the next time.
    """
    done = 0
    for folder in journal.recordings(ws.project.state):
        try:
            begin = journal.document(folder, "begin") or {}
            if journal.document(folder, "end") is not None or is_dead(str(begin.get("owner", ""))):
                done += send(ws, folder)
        except NoriaError as error:
            log.warning("the recording %s waits: %s", folder.name, error)
    return done


def waiting(ws: Workspace) -> list[Waiting]:
    """What recordings on this machine have not sent yet, oldest first."""
    found = []
    for folder in journal.recordings(ws.project.state):
        begin = journal.document(folder, "begin") or {}
        with ws.ledger.read() as tx:
            is_known = records.described(tx, folder.name)
            sent = {path.stem: records.upto(tx, folder.name, path.stem) for path in journal.logs(folder)}
        is_ended = journal.document(folder, "end") is not None
        size = journal.pending(folder, sent)
        if size or not is_known or is_ended:
            found.append(
                Waiting(
                    run=folder.name,
                    name=str(begin.get("name", "")),
                    size_bytes=size,
                    since=str(begin.get("began", "")),
                    is_live=not is_ended and not is_dead(str(begin.get("owner", ""))),
                    is_ended=is_ended,
                )
            )
    return found


def send(ws: Workspace, folder: Path) -> bool:
    """Send what a recording has logged so far, and its end if it has one. Whether it is wholly sent and gone.

    Raises: WorldError if the ledger or the store is out of reach; Corrupt for a line that was altered.
    """
    with journal.holding(folder) as is_ours:
        begin = journal.document(folder, "begin") if is_ours else None
        if begin is None:
            return False
        own = acting(ws, str(begin["actor"]))
        end = journal.document(folder, "end")  # read before the logs: what it ends is in them then
        if end is None and is_dead(str(begin["owner"])):
            end = {"status": "lost", "reason": "its process died", "seconds": _lived_s(folder, begin)}
        _bring_objects(own, folder)
        _begin(own, folder, begin)
        for path in journal.logs(folder):
            size = path.stat().st_size  # what comes later waits: chasing a fast writer makes small batches
            while send_batch(own, folder.name, path, size):
                pass
        if end is None:
            return False
        end_run(own, folder.name, end)
        failpoint("recording.ended")
        ws.jobs.release(f"run/{folder.name}", _holder(str(begin["owner"])))
        if any(_is_writing(path, str(begin["owner"])) for path in journal.logs(folder)):
            return False
        shutil.rmtree(folder)
        return True


def _holder(owner: str) -> str:
    """The lease's owner. Not the process itself: a dead one's run is ended by who sends its log, not before."""
    return f"recording:{owner}"


def _begin(ws: Workspace, folder: Path, begin: dict[str, Any]) -> None:
    run = folder.name
    with ws.ledger.read() as tx:
        if records.described(tx, run):
            return
    context = journal.document(folder, "context")
    if context is None:  # killed before it was taken: nothing is claimed of code and environment
        blank = ws.objects.put_json({})
        context = {"code": {}, "environment": blank, "host": "", "config": blank}
    code = Code(**context["code"])
    experiment = journal.plain(str(begin["experiment"]))
    keep_lease(ws, run, str(begin["owner"]))
    payload = RunStarted(
        run=run,
        pipeline=experiment,
        cause="user",
        code=code,
        config=context["config"],
        environment=context["environment"],
        seed=ws.project.seed,
        pins=(),
        owner=_holder(str(begin["owner"])),
        host=context["host"],
    )
    edges = [(role, context[role]) for role in ("environment", "host", "config") if context[role]]
    edges += [(role, ref) for role, ref in (("source", code.source), ("patch", code.patch)) if ref]
    if begin["parent"]:
        edges.append(("parent", f"run/{begin['parent']}"))
    with ws.ledger.transaction() as tx:
        if records.described(tx, run):
            return
        tx.append(payload, inputs=edges)
        tx.append(
            RunDescribed(
                run=run,
                name=journal.plain(str(begin["name"])),
                experiment=experiment,
                parent=str(begin["parent"]),
                began=str(begin["began"]),
            )
        )


@frozen
class _Stored:
    """The next batch of a log, whose objects are stored: from the byte `start` on, told by `fact`, which is `ready`."""

    batch: Batch
    start: int
    fact: RunLogged
    ready: Ready[RunLogged]
    permits: Mapping[str, Sequence[tuple[str, str]]]


def send_batch(ws: Workspace, run: str, path: Path, size: int) -> bool:
    """Send the next batch of a log, unless it is sent up to `size` bytes. Whether there was one."""
    with ws.ledger.read() as tx:
        start = records.upto(tx, run, path.stem)
    stored = _store_batch(ws, run, path, start, size)
    if stored is None:
        return False
    with ws.ledger.transaction() as tx:
        _append_batch(tx, stored)
    failpoint("batch.sent")
    return True


def _store_batch(ws: Workspace, run: str, path: Path, start: int, size: int) -> _Stored | None:
    """Store the objects of the next batch of a log; None if it is sent up to `size` bytes."""
    if start >= size:
        return None
    batch = journal.parse(path, start)
    if not batch.lines:
        return None
    curves = {name: points.of_columns(found.steps, found.at_us, found.values) for name, found in batch.points.items()}
    segment = points.write(ws.objects, curves) if curves else ""
    datasets = _datasets(ws, batch)
    permits = {digest: bundle.permit(ws, digest, name) for name, digest, *_ in batch.models}
    failpoint("batch.stored")
    fact = RunLogged(
        run=run,
        writer=path.stem,
        upto=batch.upto,
        params=batch.params,
        tags=batch.tags,
        notes=tuple(batch.notes),
        segment=segment,
        points=sum(len(each) for each in curves.values()),
        metrics={name: points.summarize(each) for name, each in curves.items()},
        datasets=tuple(datasets),
        problems=tuple(batch.problems),
    )
    outputs = [("metrics", segment)] if segment else []
    ready = ws.ledger.ready(fact, inputs=_edges(fact.datasets), outputs=outputs)  # large: not while others wait
    return _Stored(batch, start, fact, ready, permits)


def _append_batch(tx: Transaction, stored: _Stored) -> bool:
    """Append the fact of a batch, unless somebody else sent it meanwhile; whether it was."""
    fact = stored.fact
    if records.upto(tx, fact.run, fact.writer) != stored.start:
        return False
    _append_artifacts(tx, fact.run, stored.batch, stored.permits)
    tx.place(stored.ready)
    return True


def _append_artifacts(
    tx: Transaction, run: str, batch: Batch, permits: Mapping[str, Sequence[tuple[str, str]]]
) -> None:
    for name, digest, size, kind in batch.artifacts:
        payload = ArtifactLogged(run=run, name=name, digest=digest, size_bytes=size, type=kind)
        tx.append(payload, outputs=[(name, digest)])
    for name, digest, tree, size, is_registered in batch.models:
        label = f"{REGISTERED}{name}" if is_registered else f"bundle:{name}"
        tx.append(
            ArtifactLogged(run=run, name=label, digest=digest, size_bytes=size, type="bundle"),
            inputs=[("run", f"run/{run}")],
            outputs=[("bundle", digest), ("tree", tree), *permits.get(digest, ())],
        )


def _datasets(ws: Workspace, batch: Batch) -> list[Dataset]:
    """The versions that the names stand for now; a name that nothing here fits is kept as it is, and told."""
    found = []
    for ref, context in batch.datasets:
        try:
            version = versions.resolve(ws, ref)
        except (NotFound, UsageError) as error:
            batch.problems.append(f"the input {ref!r} is no version of a data set here: {error.message}")
            found.append(Dataset(name=ref.partition("@")[0], version=0, tree="", context=context))
        else:
            found.append(Dataset(name=version.name, version=version.version, tree=version.tree, context=context))
    return found


def _edges(datasets: Sequence[Dataset]) -> list[tuple[str, str]]:
    known = [item for item in datasets if item.tree]
    edges = [(f"data:{item.name}", item.tree) for item in known]
    return edges + [(f"dataset:{item.name}", f"dataset/{item.name}@{item.version}") for item in known]


@frozen
class Ending:
    """What the end of a run takes that is made before its transaction.

    `before` are its segments, `merged` the one that takes their place, and `last` the batch of its log that goes
    into the same transaction.
    """

    run: str
    before: Sequence[tuple[str, int]]
    merged: tuple[str, int] | None
    last: _Stored | None


def end_run(ws: Workspace, run: str, end: Mapping[str, Any]) -> None:
    """Write the end of a run: make versions of the models it registers, and one segment of its points.

    Args:
        end: status, reason and seconds. A run that has an end keeps it, unless it was taken for lost.
    """
    ending = prepare_end(ws, run)
    with ws.ledger.transaction() as tx:
        append_end(tx, ending, end)


def prepare_end(ws: Workspace, run: str, *, log: Path | None = None, size: int = 0, actor: str = "") -> Ending:
    """All that the end of a run needs but its facts: its models are versions, and its points are one object.

    Args:
        log: a log of the run that is not sent yet up to `size` bytes; of what it holds the last batch is
            appended with the end, as by `actor`.
    """
    own = acting(ws, actor) if actor else ws
    with ws.ledger.read() as tx:
        start = records.upto(tx, run, log.stem) if log is not None else 0
        models = [each for each in tracking.artifacts(tx, run) if each.name.startswith(REGISTERED)]
        before = records.segments(tx, run)
    last = None
    if log is not None:
        last = _store_batch(own, run, log, start, size)
        if last is not None and (last.fact.upto < size or last.batch.models):  # it is not one batch without models
            while send_batch(own, run, log, size):
                pass
            return prepare_end(ws, run)
    if models and last is not None:  # a version is told with all that its run has measured
        with own.ledger.transaction() as tx:
            _append_batch(tx, last)
        return prepare_end(ws, run)
    _register_models(ws, run, models)
    if last is not None and last.fact.segment:
        new = (last.fact.segment, last.fact.points)
        before = [*(each for each in before if each[0] != new[0]), new]
    merged = None
    if len(before) > 1 and sum(count for _, count in before) <= MERGED_POINTS_MAX:
        merged = points.merge(ws.objects, [name for name, _ in before])
    return Ending(run, before, merged, last)


def append_end(tx: Transaction, ending: Ending, end: Mapping[str, Any]) -> None:
    """Append the end of a run, with the last batch of its log. `end`: as in `end_run`."""
    run, before, merged = ending.run, ending.before, ending.merged
    if ending.last is not None:
        _append_batch(tx, ending.last)
    if merged is not None and records.segments(tx, run) == before:
        payload = PointsMerged(run=run, segment=merged[0], points=merged[1])
        tx.append(payload, inputs=[("metrics", name) for name, _ in before], outputs=[("metrics", merged[0])])
    found = records.run(tx, run)
    assert found is not None, "the run was begun before it ends"
    if found.status == "running" or (found.status == "lost" and end["status"] != "lost"):
        tx.append(
            RunFinished(
                run=run,
                status=end["status"],
                reason=journal.plain(end["reason"]),
                seconds=end["seconds"],
                metrics=_final(tx, run),
            )
        )


def _register_models(ws: Workspace, run: str, models: Sequence[tracking.ArtifactRecord]) -> None:
    """Make versions of the models that were logged under a name. The same bundle again is the same version."""
    if not models:
        return
    with ws.ledger.read() as tx:
        metrics, used = _final(tx, run), records.datasets(tx, run)
    pins = [Pin(dataset=item.name, version=item.version, tree=item.digest) for item in used if item.digest]
    for each in models:
        found = bundle.read(ws, each.digest)
        registry_versions.register(
            ws, found, model=each.name.removeprefix(REGISTERED), run=run, metrics=metrics, pins=pins
        )


def _final(tx: Reader, run: str) -> dict[str, float]:
    found = [each for each in records.metrics(tx, [run])[run] if not is_system(each.key)][:FINAL_METRICS_MAX]
    return {each.key: each.value for each in found if each.value is not None}


def _bring_objects(ws: Workspace, folder: Path) -> None:
    """Copy what the recording stored beside its log into the project's store."""
    staged = journal.staged_in(folder)
    if not staged.is_dir():
        return
    source = Objects(plugins.load("objects", "file")(staged), folder / "cache")
    wanted: dict[Digest, int] = dict(source.store.list())
    lacking = transfer.missing(ws.objects, wanted)
    if lacking:
        transfer.copy(source, ws.objects, lacking, partial=folder / "partial")


def _is_writing(path: Path, owner: str) -> bool:
    """Whether another process than the recording's own, such as a forked worker, still has the log open."""
    pid = path.stem.split("-")[1]
    return pid != str(json.loads(owner)[2]) and Path(f"/proc/{pid}").exists()


def _lived_s(folder: Path, begin: dict[str, Any]) -> float:
    """How long a process lived that said no end: until its log's last line."""
    last = max((path.stat().st_mtime for path in journal.logs(folder)), default=0.0)
    began = instant(str(begin["began"]))
    return max(0.0, round((datetime.fromtimestamp(last, UTC) - began).total_seconds(), 6)) if last else 0.0
