"""What clients do to experiments and runs: each change is one transaction that reads, decides and appends.

A refusal names what stands against it; how a protocol words it is the face's. What is logged to a run
comes through `experiments.incoming`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import timedelta
from pathlib import Path

from noria.catalog import records
from noria.catalog.facts import (
    ExperimentCreated,
    ExperimentDeleted,
    ExperimentRenamed,
    ExperimentRestored,
    ExperimentTagged,
    ExperimentUntagged,
    InputsLogged,
    OutputModel,
    OutputsLogged,
    SourceData,
)
from noria.catalog.records import DEFAULT, ExperimentRecord
from noria.core.clock import instant
from noria.core.errors import Conflict, NotFound
from noria.core.frozen import frozen
from noria.experiments import records as runs
from noria.experiments import sending
from noria.experiments.facts import RunAmended, RunDeleted, RunDescribed, RunLogged, RunRestored, TagRemoved
from noria.experiments.records import ACTIVE, LoggedRun
from noria.store.ledger import Reader, Transaction
from noria.store.workspace import Workspace, acting, new_id
from noria.tracking import records as tracking
from noria.tracking.facts import ArtifactLogged, ArtifactRemoved, Code, RunFinished, RunResumed, RunStarted

__all__ = [
    "QUIET_S",
    "Begin",
    "Taken",
    "amend_run",
    "begin_run",
    "create_experiment",
    "delete_experiment",
    "delete_run",
    "ensure_default",
    "keep_artifact",
    "log_inputs",
    "log_outputs",
    "note_artifact",
    "remove_artifacts",
    "remove_tag",
    "rename_experiment",
    "restore_experiment",
    "restore_run",
    "tag_experiment",
    "untag_experiment",
]

QUIET_S = 7 * 24 * 3600.0
"""A run of a client is taken for lost when it was begun, or went on, so long ago and has no end."""
OWNER = "client:"
LIVE = frozenset({"running", "scheduled"})


class Taken(Conflict):
    """The name of an experiment belongs to another one, perhaps a deleted one."""


@frozen(kw_only=True)
class Begin:
    """What a client says of a run as it begins. `parent` is the run that it is nested in."""

    experiment: str
    name: str
    started_at: str
    user: str = ""
    parent: str = ""
    code: Code = field(default_factory=Code)
    tags: Mapping[str, str] = field(default_factory=dict)


def ensure_default(ws: Workspace) -> None:
    """Make the experiment 0 that clients expect, once."""
    with ws.ledger.read() as tx:
        if records.experiment(tx, 0) is not None:
            return
    with ws.ledger.transaction() as tx:
        if records.experiment(tx, 0) is None:
            tx.append(ExperimentCreated(experiment=0, name=DEFAULT))


def create_experiment(ws: Workspace, name: str, *, location: str = "", tags: Mapping[str, str] | None = None) -> int:
    """Make an experiment; gives its number. Raises: Taken if the name is."""
    with ws.ledger.transaction() as tx:
        _require_free(tx, name)
        number = records.next_number(tx)
        tx.append(ExperimentCreated(experiment=number, name=name, location=location, tags=dict(tags or {})))
        return number


def rename_experiment(ws: Workspace, number: int, name: str) -> None:
    """Give an experiment another name; its runs go along. Raises: NotFound; Conflict; Taken."""
    with ws.ledger.transaction() as tx:
        found = _experiment(tx, number)
        if found.stage != ACTIVE:
            raise Conflict(f"experiment {number} is deleted", hint="restore it first")
        if found.name != name:
            _require_free(tx, name)
            tx.append(ExperimentRenamed(experiment=number, name=name, before=found.name))


def delete_experiment(ws: Workspace, number: int) -> None:
    """Put an experiment away with all its runs. Raises: NotFound if it is not there, or deleted already."""
    with ws.ledger.transaction() as tx:
        found = _experiment(tx, number)
        if found.stage != ACTIVE:
            raise NotFound(f"experiment {number} is deleted already")
        tx.append(ExperimentDeleted(experiment=number, name=found.name))


def restore_experiment(ws: Workspace, number: int) -> None:
    """Bring a deleted experiment back with all its runs. Raises: NotFound if it is not there, or not deleted."""
    with ws.ledger.transaction() as tx:
        found = _experiment(tx, number)
        if found.stage == ACTIVE:
            raise NotFound(f"experiment {number} is not deleted")
        tx.append(ExperimentRestored(experiment=number, name=found.name))


def tag_experiment(ws: Workspace, number: int, key: str, value: str) -> None:
    """Set a tag of an experiment. Raises: NotFound; Conflict if it is deleted."""
    with ws.ledger.transaction() as tx:
        _require_active(_experiment(tx, number))
        tx.append(ExperimentTagged(experiment=number, key=key, value=value))


def untag_experiment(ws: Workspace, number: int, key: str) -> None:
    """Take a tag off an experiment. Raises: NotFound; Conflict if it is deleted."""
    with ws.ledger.transaction() as tx:
        found = _experiment(tx, number)
        _require_active(found)
        if key not in found.tags:
            raise NotFound(f"experiment {number} has no tag {key!r}")
        tx.append(ExperimentUntagged(experiment=number, key=key))


def begin_run(ws: Workspace, said: Begin) -> LoggedRun:
    """Begin a run that a client records."""
    run = new_id(ws, "run")
    blank = ws.objects.put_json({})
    edges: list[tuple[str, str]] = [("environment", blank), ("config", blank)]
    if said.parent:
        edges.append(("parent", f"run/{said.parent}"))
    with ws.ledger.transaction() as tx:
        tx.append(
            RunStarted(
                run=run,
                pipeline=said.experiment,
                cause="user",
                code=said.code,
                config=blank,
                environment=blank,
                seed=ws.project.seed,
                pins=(),
                owner=OWNER + run,
            ),
            inputs=edges,
        )
        tx.append(
            RunDescribed(
                run=run,
                name=said.name,
                experiment=said.experiment,
                parent=said.parent,
                began=said.started_at,
                user=said.user,
            )
        )
        if said.tags:
            tx.append(RunLogged(run=run, writer="begin", upto=1, tags=said.tags))
        ws.jobs.acquire(f"run/{run}", owner=OWNER + run, ttl_s=QUIET_S, within=tx)
        return _run(tx, run)


def amend_run(
    ws: Workspace,
    run: str,
    *,
    name: str = "",
    status: str = "",
    ended: str | None = None,
    log: tuple[Path, int] | None = None,
    seen: LoggedRun | None = None,
) -> LoggedRun:
    """Change what a client may change of a run: its name, how it stands, and when it ended by its own clock.

    Args:
        seen: the run as the caller has just read it.
        log: a log of the run, and how much of it is written; it is sent up to there, before or with the change.
    Raises: NotFound; Conflict if it is deleted.
    """
    found = seen or _seen(ws, run)
    ending = None
    if status and status not in LIVE and found.status == "running":
        path, size = log or (None, 0)
        ending = sending.prepare_end(ws, run, log=path, size=size, actor=found.actor)
    elif log is not None:
        while sending.send_batch(acting(ws, found.actor), run, *log):
            pass
    with ws.ledger.transaction() as tx:
        before = _active(tx, run)
        if ending is not None:
            end = {"status": status, "reason": "", "seconds": _lasted_s(ws, found, ended or found.finished_at)}
            sending.append_end(tx, ending, end)
            ws.jobs.release(f"run/{run}", OWNER + run, within=tx)
        elif status and status != found.status:
            _move(ws, tx, found, status, ended or found.finished_at)
        if status:
            before = _active(tx, run)
        # What a client never said to have ended has no end by its clock, whatever ours has.
        at = ended if ended is not None else found.finished_at
        now = RunAmended(
            run=run,
            name=name if name != before.name else "",
            status=status if status != before.status else "",
            ended=at if at != before.finished_at else None,
        )
        if now.name or now.status or now.ended is not None:
            tx.append(now)
            return _active(tx, run)
        return before


def delete_run(ws: Workspace, run: str) -> None:
    """Put a run away; again changes nothing. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        if _run(tx, run).stage == ACTIVE:
            tx.append(RunDeleted(run=run))


def restore_run(ws: Workspace, run: str) -> None:
    """Bring a run back that was put away; again changes nothing. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        if _run(tx, run).stage != ACTIVE:
            tx.append(RunRestored(run=run))


def remove_tag(ws: Workspace, run: str, key: str) -> None:
    """Take a tag off a run. Raises: NotFound; Conflict if the run is deleted."""
    with ws.ledger.transaction() as tx:
        _active(tx, run)
        if key not in runs.tags(tx, [run], [key])[run]:
            raise NotFound(f"run {run} has no tag {key!r}")
        tx.append(TagRemoved(run=run, key=key))


def log_inputs(ws: Workspace, run: str, datasets: Sequence[SourceData], models: Sequence[str]) -> None:
    """Keep which data sets and logged models a run used, also as its lineage. Raises: NotFound; Conflict."""
    edges = [(f"data:{item.name}", item.details) for item in datasets]
    edges += [("model", f"logged-model/{model}") for model in models]
    with ws.ledger.transaction() as tx:
        _active(tx, run)
        tx.append(InputsLogged(run=run, datasets=tuple(datasets), models=tuple(models)), inputs=edges)


def log_outputs(ws: Workspace, run: str, models: Sequence[OutputModel]) -> None:
    """Keep which logged models a run gave, also as its lineage. Raises: NotFound; Conflict."""
    with ws.ledger.transaction() as tx:
        _active(tx, run)
        edges = [("model", f"logged-model/{item.model}") for item in models]
        tx.append(OutputsLogged(run=run, models=tuple(models)), outputs=edges)


def keep_artifact(ws: Workspace, run: str, name: str, content: Path | bytes) -> str:
    """Store a file, or a few bytes, as an artifact of a run; gives its digest. Raises: NotFound; Conflict; StoreFull.

    What has that name and these very bytes already stays as it is, and no fact says so.
    """
    if isinstance(content, bytes):
        stored, size = ws.objects.put_small(content), len(content)
    else:
        with ws.ledger.read() as tx:
            _active(tx, run)
        stored = ws.objects.put_file(content)
        size = ws.objects.size(stored)
    note_artifact(ws, run, name, stored, size)
    return stored


def note_artifact(ws: Workspace, run: str, name: str, stored: str, size: int) -> None:
    """Make an object that is stored the artifact of a run; again changes nothing. Raises: NotFound; Conflict."""
    with ws.ledger.transaction() as tx:
        _active(tx, run)
        said = ArtifactLogged(run=run, name=name, digest=stored, size_bytes=size)
        known = tracking.artifact(tx, run, name)
        if known is None or (known.digest, known.type) != (said.digest, said.type):
            tx.append(said, outputs=[(name, stored)])


def remove_artifacts(ws: Workspace, run: str, name: str) -> int:
    """Take an artifact, or all in a folder of them, off a run; gives how many. Raises: NotFound; Conflict."""
    with ws.ledger.transaction() as tx:
        _active(tx, run)
        inside = name.rstrip("/") + "/"
        gone = [each.name for each in tracking.artifacts(tx, run) if each.name == name or each.name.startswith(inside)]
        for each in gone:
            tx.append(ArtifactRemoved(run=run, name=each))
    return len(gone)


def _move(ws: Workspace, tx: Transaction, found: LoggedRun, status: str, ended: str) -> None:
    """Let a run go on that has an end, or end one once more, where that is what the new status means."""
    if status in LIVE and found.status in LIVE:
        return
    if status in LIVE:
        ws.jobs.acquire(f"run/{found.run}", owner=OWNER + found.run, ttl_s=QUIET_S, within=tx)
    record = tracking.run(tx, found.run)
    assert record is not None, "a run that was described was begun"
    if record.status != "running":
        tx.append(RunResumed(run=found.run, owner=OWNER + found.run, before=record.status))
    if status not in LIVE:
        tx.append(RunFinished(run=found.run, status=status, seconds=_lasted_s(ws, found, ended)))


def _lasted_s(ws: Workspace, found: LoggedRun, ended: str) -> float:
    end = instant(ended) if ended else ws.clock.now()
    return round((end - instant(found.started_at)) / timedelta(seconds=1), 6)


def _experiment(tx: Reader, number: int) -> ExperimentRecord:
    found = records.experiment(tx, number)
    if found is None:
        raise NotFound(f"there is no experiment {number}", hint="noria experiments list")
    return found


def _require_active(found: ExperimentRecord) -> None:
    if found.stage != ACTIVE:
        raise Conflict(f"experiment {found.experiment} is deleted", hint="restore it first")


def _require_free(tx: Transaction, name: str) -> None:
    found = records.by_name(tx, name)
    if found is not None:
        raise Taken(f"there is an experiment {name!r} already", hint=f"it has the number {found.experiment}")


def _run(tx: Reader, run: str) -> LoggedRun:
    found = runs.run(tx, run)
    if found is None:
        raise NotFound(f"there is no run {run!r}", hint="noria runs lists them")
    return found


def _seen(ws: Workspace, run: str) -> LoggedRun:
    with ws.ledger.read() as tx:
        return _active(tx, run)


def _active(tx: Reader, run: str) -> LoggedRun:
    found = _run(tx, run)
    if found.stage != ACTIVE:
        raise Conflict(f"run {run} is deleted", hint="restore it first")
    return found
