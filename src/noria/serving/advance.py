"""Judging rollouts: read the log, fold it, and when it says so, move the traffic in one transaction.

Everything that is remembered here can be computed again: the state of a rollout is the facts of
its steps and the lines of the log. So a judge may be killed at any moment; the next one reads the
log from the rollout's start and comes to the same verdict. A lease lets one judge act at a time,
and the ledger's writer lock makes each move exactly once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from noria.core.clock import instant
from noria.core.errors import UsageError
from noria.core.frozen import frozen, slotted
from noria.core.identity import JSON
from noria.core.verb import verb
from noria.registry import records as registry_records
from noria.registry import release as releases
from noria.registry.records import ReleaseRecord
from noria.serving import follow, records, rollout, segment
from noria.serving.facts import Arm, DeploymentChanged, RolloutAdvanced, RolloutFinished
from noria.serving.line import Line, decode
from noria.serving.plan import Plan, Step
from noria.serving.records import RolloutRecord
from noria.serving.rollout import State, Verdict
from noria.serving.router import CANDIDATE, STABLE
from noria.store.failpoint import failpoint
from noria.store.ledger import Transaction
from noria.store.owner import owner_id
from noria.store.workspace import Workspace

__all__ = ["Progress", "Watch", "advance", "arms_of", "finish", "replay"]

LEASE_S = 10.0
CHUNK_BYTES = 8 * 1024 * 1024


@slotted
class Watch:
    """What a long-lived judge remembers between looks, so that it reads each line once. Lost at no loss."""

    rollout: str = ""
    state: State = field(default_factory=State)
    offsets: dict[str, int] = field(default_factory=dict)
    stable_us: list[int] = field(default_factory=list)


@frozen(kw_only=True)
class Progress:
    """Where a rollout stands: `outcome` is "open" until it ended, `reason` says what it waits for, or why it ended."""

    rollout: str
    model: str
    environment: str
    release: int
    before: int
    step: str
    outcome: str
    reason: str
    evidence: Mapping[str, JSON]


def advance(ws: Workspace, model: str, watch: Watch | None = None, *, environment: str = "local") -> Progress | None:
    """Look at the open rollout of a model and do what its log demands; None if there is none.

    Idempotent, and safe at any kill and beside other judges.

    Args:
        watch: of the same judge at its last look; without one the log is read from the start.
    """
    watch = watch if watch is not None else Watch()
    with ws.ledger.read() as tx:
        found = records.open_rollout(tx, model, environment)
        current = records.deployment(tx, model, environment)
        steps = records.step_deployments(tx, found.rollout) if found else {}
    if found is None or current is None:
        return None
    if not ws.jobs.acquire(f"rollout/{found.rollout}", owner=owner_id(), ttl_s=LEASE_S):
        return _progress(found, "another process judges it", found.evidence)
    plan = Plan.from_json(found.plan)
    if watch.rollout != found.rollout:
        watch.rollout, watch.state, watch.offsets, watch.stable_us = found.rollout, State(), {}, []
    _read(ws, found, plan, watch, steps)
    evidence = rollout.evidence(plan, watch.state, slow_us=found.slow_us)
    broken = follow.failures(ws, model, current.seq, environment)
    if broken:
        verdict = Verdict("roll back", f"a server cannot load it: {broken}")
    else:
        now = ws.clock.now()
        verdict = rollout.verdict(
            plan,
            found.step,
            watch.state,
            waited_s=(now - instant(found.step_at)).total_seconds(),
            total_s=(now - instant(found.started_at)).total_seconds(),
        )
    if verdict.action == "wait":
        return _progress(found, verdict.reason, evidence)
    return _act(ws, found, plan, verdict, evidence, watch)


@verb(permission="serving.read", changes=False, name="rollout-replay")
def replay(ws: Workspace, rollout_id: str) -> Progress:
    """Compute a rollout's evidence again from the prediction log alone, whatever the ledger says of it.

    Works for an open rollout, and for an ended one while its log files are kept.
    Example: noria serving rollout-replay rollout_01k…
    """
    with ws.ledger.read() as tx:
        found = records.rollout(tx, rollout_id)
        steps = records.step_deployments(tx, rollout_id)
    if found is None:
        raise UsageError(f"there is no rollout {rollout_id!r}")
    plan, watch = Plan.from_json(found.plan), Watch(rollout=rollout_id)
    _read(ws, found, plan, watch, steps)
    return _progress(found, found.reason, rollout.evidence(plan, watch.state, slow_us=found.slow_us))


def arms_of(step: Step, *, before: tuple[int, str], release: tuple[int, str]) -> tuple[tuple[Arm, ...], int]:
    """(arms, shadow release) of a step. The candidate is last, so a growing share keeps its keys."""
    if step.kind == "full":
        return (Arm(name=STABLE, release=release[0], content=release[1], weight=1.0),), 0
    if step.kind == "shadow":
        return (Arm(name=STABLE, release=before[0], content=before[1], weight=1.0),), release[0]
    return (
        Arm(name=STABLE, release=before[0], content=before[1], weight=1.0 - step.share),
        Arm(name=CANDIDATE, release=release[0], content=release[1], weight=step.share),
    ), 0


def finish(
    ws: Workspace,
    tx: Transaction,
    found: RolloutRecord,
    *,
    outcome: str,
    reason: str,
    evidence: Mapping[str, JSON],
) -> int:
    """End a rollout inside a transaction: traffic to the winner, states of releases; gives the deployment's seq."""
    is_promoted = outcome == "promoted"
    winner = found.release if is_promoted else found.before
    record = _release(tx, found.model, winner)
    tx.append(
        RolloutFinished(
            rollout=found.rollout,
            model=found.model,
            environment=found.environment,
            release=found.release,
            outcome=outcome,
            reason=reason,
            evidence=evidence,
        ),
        inputs=[("rollout", f"rollout/{found.rollout}"), ("release", f"release/{found.model}/{found.release}")],
    )
    changed = tx.append(
        DeploymentChanged(
            model=found.model,
            environment=found.environment,
            arms=(Arm(name=STABLE, release=winner, content=record.content, weight=1.0),),
            shadow=0,
            seed=found.rollout,
            kept=(found.before,) if is_promoted else (),
            cause=f"rollout {found.rollout}: {outcome}",
        ),
        inputs=[("rollout", f"rollout/{found.rollout}"), ("release", f"release/{found.model}/{winner}")],
    )
    after = "production" if is_promoted else "rolled back"
    releases.transition(ws, tx, found.model, found.release, after, reason=reason, environment=found.environment)
    return changed.seq


def _act(
    ws: Workspace,
    found: RolloutRecord,
    plan: Plan,
    verdict: Verdict,
    evidence: dict[str, JSON],
    watch: Watch,
) -> Progress | None:
    """Append what the verdict says, unless somebody moved first; then there is nothing left to do."""
    with ws.ledger.transaction() as tx:
        now = records.open_rollout(tx, found.model, found.environment)
        if now is None or (now.rollout, now.step) != (found.rollout, found.step):
            return None
        if verdict.action == "advance":
            evidence = {**evidence, "slow_us": _slow_us(found, plan, watch)}
            _append_step(ws, tx, found, plan, found.step + 1, verdict.reason, evidence)
            failpoint("rollout.advanced")
        else:
            outcome = {"promote": "promoted", "roll back": "rolled back", "hold": "held"}[verdict.action]
            finish(ws, tx, found, outcome=outcome, reason=verdict.reason, evidence=evidence)
            failpoint("deployment.changed")
    with ws.ledger.read() as tx:
        after = records.rollout(tx, found.rollout)
    assert after is not None, "a rollout that was there is there"
    return _progress(after, verdict.reason, evidence)


def _append_step(
    ws: Workspace,
    tx: Transaction,
    found: RolloutRecord,
    plan: Plan,
    step: int,
    reason: str,
    evidence: Mapping[str, JSON],
) -> None:
    before, ours = (_release(tx, found.model, number) for number in (found.before, found.release))
    arms, shadow = arms_of(
        plan.steps[step], before=(before.release, before.content), release=(ours.release, ours.content)
    )
    about = [("rollout", f"rollout/{found.rollout}"), ("release", f"release/{found.model}/{found.release}")]
    tx.append(
        RolloutAdvanced(
            rollout=found.rollout, model=found.model, environment=found.environment, step=step, evidence=evidence
        ),
        inputs=about,
    )
    tx.append(
        DeploymentChanged(
            model=found.model,
            environment=found.environment,
            arms=arms,
            shadow=shadow,
            seed=found.rollout,
            cause=f"rollout {found.rollout}: {plan.steps[step].text}",
        ),
        inputs=about,
    )
    if plan.steps[step].kind == "canary" and ours.state == "shadow":
        releases.transition(ws, tx, found.model, found.release, "canary", reason=reason, environment=found.environment)


def _read(ws: Workspace, found: RolloutRecord, plan: Plan, watch: Watch, steps: Mapping[int, int]) -> None:
    """Fold what was written since the last look, file by file in order of their beginning."""
    for path in segment.sources(segment.folder(ws.project.state, found.model)):
        offset = watch.offsets.get(path.name, 0)
        if offset == 0 and _ended_before(path, found):
            continue
        while path.exists() and path.stat().st_size > offset:
            payloads, following = segment.read(path, offset, limit_bytes=CHUNK_BYTES)
            if following == offset:
                break
            lines = [line for line in decode(payloads) if line.dep in steps]
            watch.state = rollout.observe(
                plan, watch.state, ((path.name, line) for line in lines), steps=steps, slow_us=found.slow_us
            )
            _remember_stable(plan, watch, lines, steps)
            offset = following
        watch.offsets[path.name] = offset


def _ended_before(path: Path, found: RolloutRecord) -> bool:
    """Whether nothing was written to a file since the rollout began (with a second of slack)."""
    try:
        return path.stat().st_mtime < instant(found.started_at).timestamp() - 1.0
    except FileNotFoundError:
        return True


def _remember_stable(plan: Plan, watch: Watch, lines: list[Line], steps: Mapping[int, int]) -> None:
    """Latencies of the stable release while the shadow runs, to freeze the slow limit before the canary."""
    if plan.slow_us is None:
        watch.stable_us += [
            line.us for line in lines if not line.sh and line.st == 200 and plan.steps[steps[line.dep]].kind == "shadow"
        ]


def _slow_us(found: RolloutRecord, plan: Plan, watch: Watch) -> int | None:
    """The slow limit in force from now on: it is frozen once, before the first canary step."""
    if found.slow_us is not None:
        return found.slow_us
    return rollout.frozen_slow_us(watch.stable_us) if plan.slow_us is None else plan.slow_us


def _release(tx: Transaction, model: str, number: int) -> ReleaseRecord:
    found = registry_records.release(tx, model, number)
    assert found is not None, f"{model} r{number} is deployed and has no record"
    return found


def _progress(found: RolloutRecord, reason: str, evidence: Mapping[str, JSON]) -> Progress:
    plan = Plan.from_json(found.plan)
    return Progress(
        rollout=found.rollout,
        model=found.model,
        environment=found.environment,
        release=found.release,
        before=found.before,
        step=plan.steps[found.step].text,
        outcome=found.outcome,
        reason=reason,
        evidence=evidence,
    )
