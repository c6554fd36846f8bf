"""What answers, as people and the loop ask for it: deploy, promote, roll back.

A verb here decides inside one transaction and appends all of it or nothing: the rollout, the
deployment, the states of releases. Servers follow the ledger by themselves. Everything a release
needs is looked for before anything moves, so a way back never ends half way.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from noria.core.errors import Conflict, Corrupt, GateClosed, NotFound, StoreUnavailable, UsageError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.core.verb import verb
from noria.governance import approvals, policy
from noria.packaging import bundle as bundles
from noria.registry import records as registry_records
from noria.registry import release as releases
from noria.registry.named_file import version_of_file
from noria.registry.records import ReleaseRecord
from noria.registry.versions import CLIENT_SCHEME, resolve
from noria.serving import advance as judging
from noria.serving import again, follow, records, rollout
from noria.serving.facts import Arm, DeploymentChanged, RolloutStarted, SmokeFinished
from noria.serving.line import decode
from noria.serving.plan import Plan, plan
from noria.serving.records import DeploymentRecord
from noria.serving.router import STABLE
from noria.serving.segment import folder, read, sources
from noria.serving.smoke import smoke
from noria.store.failpoint import failpoint
from noria.store.ledger import Reader, Transaction
from noria.store.workspace import Workspace, new_id

__all__ = ["ACKNOWLEDGE_S", "RolledBack", "Shipped", "deploy", "promote", "rollback", "status"]

ACKNOWLEDGE_S = 5.0
"""How long a way back waits for the servers to follow; they look every 50 ms and hold the release warm."""
LOAD_S = 60.0
"""How long bringing a release into traffic waits for the servers to load it; seconds on a quiet machine."""
_REF = re.compile(r"(?P<model>[^:@\s]+)(?:@r(?P<release>\d{1,18})|:(?P<rest>\S+))?")
_SHIPPABLE = ("validated", "staging")
_UNTESTED = ("validated", "rolled back")


@frozen(kw_only=True)
class Shipped:
    """What a deploy or promote did, or would do: `action` is deployed, rollout started, or already live."""

    model: str
    release: int
    version: int
    environment: str
    action: str
    before: int
    rollout: str
    steps: tuple[str, ...]
    deployment: int
    is_dry_run: bool
    next: str


@frozen(kw_only=True)
class RolledBack:
    """A way back that was taken: `ms` from the start of the change until every living server answered by it.

    `release` is in production now, `before` was; `ended` is the release whose rollout was stopped (0: none was).
    """

    model: str
    environment: str
    before: int
    release: int
    ended: int
    deployment: int
    servers: int
    acknowledged: int
    ms: float
    reason: str
    next: str


@verb(permission="serving.deploy")
def deploy(ws: Workspace, model: str, environment: str = "local", dry_run: bool = False) -> Shipped:
    """Bring a validated release into traffic: MODEL, MODEL:VERSION, MODEL@rRELEASE, models:/…, or a model's file.

    The first release of a model goes to 100 % after its smoke test; a later one takes the path of
    `[model.NAME.deploy]`. Deploying what is live already changes nothing, and verifies its stored bytes.

    Example: noria deploy churn:14
    Raises: NotFound; Corrupt; GateClosed; Conflict if another release is on its way.
    """
    return _ship(ws, model, environment, dry_run=dry_run)


@verb(permission="serving.promote")
def promote(ws: Workspace, model: str, dry_run: bool = False, environment: str = "local") -> Shipped:
    """Start the way of a validated release to production: smoke test, shadow, canary, 100 %.

    The steps are judged by the traffic itself; see `noria watch MODEL`.

    Example: noria promote churn:14
    Raises: NotFound; GateClosed; Conflict if another release is on its way.
    """
    return _ship(ws, model, environment, dry_run=dry_run)


@verb(permission="serving.rollback")
def rollback(ws: Workspace, model: str = "", to: int = 0, reason: str = "", environment: str = "local") -> RolledBack:
    """Go back to the release that was in production before, or to release `to`, at once.

    While a rollout is open, it is ended and its candidate leaves; production stays. Waits until
    every living server answers by it (at most 5 s).

    Example: noria rollback churn
    Raises: NotFound; Conflict if there is nothing to go back to; Corrupt if a part of it is gone.
    """
    started = time.perf_counter()
    with ws.ledger.read() as tx:
        current = _current(tx, model, environment)
        target = _way_back(tx, current, to)
        rolling = records.open_rollout(tx, current.model, environment)
    text = reason or f"asked by {ws.actor}"
    if target is not None:
        _require_parts(ws, target)
    with ws.ledger.transaction() as tx:
        now = records.deployment(tx, current.model, environment)
        assert now is not None, "a deployment is never taken away"
        if now.seq != current.seq:
            raise Conflict(f"the deployment of {current.model} has just changed", hint="look again: noria status")
        if target is None:
            before, release, seq = _end_rollout(ws, tx, current, text)
        else:
            before, release, seq = _swap(ws, tx, current, target, text)
    failpoint("deployment.changed")
    done, living = _await(ws, current.model, seq, environment)
    forward = f"noria rollback {current.model} --to {before}   (forward again)"
    return RolledBack(
        model=current.model,
        environment=environment,
        before=before,
        release=release,
        ended=rolling.release if rolling is not None else 0,
        deployment=seq,
        servers=living,
        acknowledged=done,
        ms=round((time.perf_counter() - started) * 1000, 1),
        reason=text,
        next=forward if before != release else f"noria run, or noria registry show {current.model}",
    )


@verb(permission="serving.read", changes=False)
def status(ws: Workspace, model: str = "", environment: str = "local") -> list[DeploymentRecord]:
    """What answers now, by model: arms with shares, shadow, what is kept warm.

    Example: noria serving status
    """
    with ws.ledger.read() as tx:
        found = records.deployments(tx, environment)
    if model and not any(record.model == model for record in found):
        raise NotFound(f"{model} is not deployed in {environment}", hint=f"noria deploy {model}")
    return [record for record in found if not model or record.model == model]


def _ship(ws: Workspace, ref: str, environment: str, *, dry_run: bool) -> Shipped:
    if Path(ref).is_file():
        with ws.ledger.read() as tx:
            is_model = ref in registry_records.models(tx)
        ref = ref if is_model else version_of_file(ws, Path(ref))
    with ws.ledger.read() as tx:
        ref = resolve(tx, ref).ref if ref.startswith(CLIENT_SCHEME) else ref
        target = _target(tx, ref, environment)
        live = registry_records.production(tx, target.model, environment)
        state = releases.state_in(tx, target, environment)
        current = records.deployment(tx, target.model, environment)
        under_way = records.open_rollout(tx, target.model, environment)
    config = policy.of(ws, target.model).config.deploy
    where = f"noria.toml [model.{target.model}.deploy]"
    if under_way is not None:
        raise _on_its_way(target.model, under_way.release)
    if live is not None and live.release == target.release and current is not None:
        _require_parts(ws, target)
        return _shipped(target, environment, "already live", live.release, current.seq, dry_run=dry_run)
    if state == "rolled back":
        again.require(ws, target, environment)
    elif state in _SHIPPABLE:
        _require_gates(ws, target, environment)
    way = plan(config, where=where, slow_us=_slow_us(ws, target.model, live, config.path))
    _require_approval(ws, target)
    _require_parts(ws, target)
    if dry_run:
        action = "deployed" if live is None else "rollout started"
        return _shipped(target, environment, action, live.release if live else 0, 0, dry_run=True, way=way)
    tested = smoke(ws, target.model, target.release, environment=environment) if state in _UNTESTED else None
    with ws.ledger.transaction() as tx:
        found = registry_records.production(tx, target.model, environment)
        if (found.release if found else 0) != (live.release if live else 0):
            raise Conflict(f"production of {target.model} has just changed", hint="look again: noria status")
        other = records.open_rollout(tx, target.model, environment)
        if other is not None:
            raise _on_its_way(target.model, other.release)
        if tested is not None:
            _stage(ws, tx, target, tested, environment)
        if found is None:
            seq = _first(ws, tx, target, environment)
            rollout_id = ""
        else:
            rollout_id, seq = _start(ws, tx, target, found, way, environment)
    failpoint("deployment.changed")
    _await(ws, target.model, seq, environment, limit_s=LOAD_S)
    action = "rollout started" if rollout_id else "deployed"
    before = live.release if live else 0
    return _shipped(target, environment, action, before, seq, dry_run=False, way=way, rollout_id=rollout_id)


def _require_gates(ws: Workspace, target: ReleaseRecord, environment: str) -> None:
    """What was validated once may have been overtaken by new rules, a new verdict or another champion."""
    with ws.ledger.read() as tx:
        why = releases.why_gates_do_not_hold(ws, tx, target, environment)
    if why:
        raise GateClosed(f"{target.ref} cannot be shipped: {why}", hint="noria run judges its model as things are now")


def _stage(ws: Workspace, tx: Transaction, target: ReleaseRecord, tested: SmokeFinished, environment: str) -> None:
    """A tested release is in staging from the moment that its way begins; who loses a race stays where it was."""
    about = (ws, tx, target.model, target.release)
    if releases.state_in(tx, target, environment) == "rolled back":
        releases.transition(*about, "validated", reason="promoted again", environment=environment)
    reason = f"smoke test: {tested.rows} golden rows in a fresh process"
    releases.transition(*about, "staging", reason=reason, environment=environment)


def _on_its_way(model: str, release: int) -> Conflict:
    return Conflict(
        f"{model} r{release} is on its way to production; one release at a time",
        hint=f"noria watch {model}, or noria rollback {model} to stop it",
    )


def _shipped(
    target: ReleaseRecord,
    environment: str,
    action: str,
    before: int,
    seq: int,
    *,
    dry_run: bool,
    way: Plan | None = None,
    rollout_id: str = "",
) -> Shipped:
    is_rollout = action == "rollout started"
    following = f"noria watch {target.model}" if is_rollout else f"noria status    undo: noria rollback {target.model}"
    return Shipped(
        model=target.model,
        release=target.release,
        version=target.version,
        environment=environment,
        action=action,
        before=before,
        rollout=rollout_id,
        steps=tuple(step.text for step in way.steps) if way and is_rollout else (),
        deployment=seq,
        is_dry_run=dry_run,
        next=f"noria promote {target.model}:{target.version}" if dry_run else following,
    )


def _target(tx: Reader, ref: str, environment: str) -> ReleaseRecord:
    """The release that a ref names: of a version the newest release, of a model alone the newest that may ship."""
    found = _REF.fullmatch(ref)
    if found is None:
        raise UsageError(f"{ref[:100]!r} names no model", hint="MODEL, MODEL:VERSION or MODEL@rRELEASE")
    model = found["model"]
    if found["release"]:
        record = registry_records.release(tx, model, int(found["release"]))
        if record is None:
            raise NotFound(f"there is no release {ref}", hint=f"noria registry releases {model}")
        return record
    version = resolve(tx, ref).version if found["rest"] else 0
    resolve(tx, model)
    known = [r for r in registry_records.releases(tx, model) if not version or r.version == version]
    live = registry_records.production(tx, model, environment)
    for record in known:
        state = releases.state_in(tx, record, environment)
        if state in _SHIPPABLE or (live is not None and record.release == live.release):
            return record
    if not known:
        filed = resolve(tx, ref)
        judging = f"noria promote models:/{filed.model}/{filed.version} judges it and makes one when its gates pass"
        raise NotFound(
            f"{ref} has no release", hint=judging if filed.source else "noria run makes one when the gates pass"
        )
    newest = known[0]
    if version and releases.state_in(tx, newest, environment) == "rolled back":
        return newest
    why = newest.reason or "the gates did not pass"
    raise GateClosed(f"{newest.ref} is {newest.state} and cannot be shipped: {why}", hint="noria run trains a new one")


def _first(ws: Workspace, tx: Transaction, target: ReleaseRecord, environment: str) -> int:
    """Nothing is live: straight to 100 %."""
    changed = tx.append(
        DeploymentChanged(
            model=target.model,
            environment=environment,
            arms=(Arm(name=STABLE, release=target.release, content=target.content, weight=1.0),),
            shadow=0,
            seed=f"{target.model} r{target.release}",
            cause="first deployment",
        ),
        inputs=[("release", f"release/{target.model}/{target.release}")],
    )
    reason = "first deployment"
    releases.transition(ws, tx, target.model, target.release, "production", reason=reason, environment=environment)
    return changed.seq


def _start(
    ws: Workspace, tx: Transaction, target: ReleaseRecord, live: ReleaseRecord, way: Plan, environment: str
) -> tuple[str, int]:
    """Append a rollout and its first step; (rollout id, seq of the deployment)."""
    rollout_id = new_id(ws, "rollout")
    about = [("rollout", f"rollout/{rollout_id}"), ("release", f"release/{target.model}/{target.release}")]
    document: dict[str, JSON] = way.to_json()
    tx.append(
        RolloutStarted(
            rollout=rollout_id,
            model=target.model,
            environment=environment,
            before=live.release,
            release=target.release,
            plan=document,
        ),
        inputs=[about[1], ("before", f"release/{live.model}/{live.release}")],
        outputs=[about[0]],
    )
    first = way.steps[0]
    if first.kind == "full":
        found = records.rollout(tx, rollout_id)
        assert found is not None, "a rollout that was just appended is there"
        seq = judging.finish(ws, tx, found, outcome="promoted", reason="the policy's path is 100%", evidence={})
        return rollout_id, seq
    arms, shadow = judging.arms_of(first, before=(live.release, live.content), release=(target.release, target.content))
    changed = tx.append(
        DeploymentChanged(
            model=target.model,
            environment=environment,
            arms=arms,
            shadow=shadow,
            seed=rollout_id,
            cause=f"rollout {rollout_id}: {first.text}",
        ),
        inputs=about,
    )
    reason = f"rollout {rollout_id}"
    releases.transition(ws, tx, target.model, target.release, first.kind, reason=reason, environment=environment)
    return rollout_id, changed.seq


def _current(tx: Reader, model: str, environment: str) -> DeploymentRecord:
    if model:
        found = records.deployment(tx, model.partition(":")[0], environment)
        if found is None:
            raise NotFound(f"{model} is not deployed in {environment}", hint="noria status shows what is")
        return found
    every = records.deployments(tx, environment)
    if len(every) == 1:
        return every[0]
    names = ", ".join(record.model for record in every)
    raise UsageError(
        "name the model" if every else "nothing is deployed",
        hint=f"deployed: {names}" if every else "noria deploy MODEL, then there is something to go back from",
    )


def _way_back(tx: Reader, current: DeploymentRecord, to: int) -> ReleaseRecord | None:
    """The release to go to, or None when it is enough to end the open rollout."""
    is_rolling = records.open_rollout(tx, current.model, current.environment) is not None
    live = registry_records.production(tx, current.model, current.environment)
    if is_rolling and (not to or (live is not None and to == live.release)):
        return None
    if live is not None and to == live.release:
        raise Conflict(f"{live.ref} is in production already", hint="noria status shows what answers")
    was_live = {
        record.production
        for record in records.history(tx, current.model, current.environment)
        if len(record.arms) == 1 and not record.shadow
    }
    if to:
        found = registry_records.release(tx, current.model, to)
        if found is None:
            raise NotFound(
                f"there is no release {current.model} r{to}", hint=f"noria registry releases {current.model}"
            )
        if to not in was_live:
            raise Conflict(f"{found.ref} was never in production", hint=f"noria promote {current.model}@r{to}")
        return found
    for record in records.history(tx, current.model, current.environment):
        number = record.production
        if len(record.arms) == 1 and not record.shadow and live is not None and number != live.release:
            found = registry_records.release(tx, current.model, number)
            if found is not None and releases.state_in(tx, found, current.environment) == "retired":
                return found
    raise Conflict(
        f"{current.model} has no earlier production release to go back to",
        hint=f"noria registry releases {current.model} lists them; noria run and noria promote bring a second one",
    )


def _end_rollout(ws: Workspace, tx: Transaction, current: DeploymentRecord, reason: str) -> tuple[int, int, int]:
    found = records.open_rollout(tx, current.model, current.environment)
    if found is None:
        raise Conflict(f"the rollout of {current.model} has just ended", hint="look again: noria status")
    seq = judging.finish(ws, tx, found, outcome="rolled back", reason=reason, evidence=found.evidence)
    return found.before, found.before, seq


def _swap(
    ws: Workspace, tx: Transaction, current: DeploymentRecord, target: ReleaseRecord, reason: str
) -> tuple[int, int, int]:
    """Production from one release to another that was there before. The left one is kept warm."""
    model, environment = current.model, current.environment
    found = records.open_rollout(tx, model, environment)
    if found is not None:
        judging.finish(ws, tx, found, outcome="rolled back", reason=reason, evidence=found.evidence)
    live = registry_records.production(tx, model, environment)
    if live is not None and target.release < live.release:
        releases.transition(ws, tx, model, live.release, "rolled back", reason=reason, environment=environment)
    releases.transition(ws, tx, model, target.release, "production", reason=reason, environment=environment)
    left = live.release if live is not None else 0
    changed = tx.append(
        DeploymentChanged(
            model=model,
            environment=environment,
            arms=(Arm(name=STABLE, release=target.release, content=target.content, weight=1.0),),
            shadow=0,
            seed=current.seed,
            kept=(left,) if left else (),
            cause=f"rollback: {reason}"[:500],
        ),
        inputs=[("release", f"release/{model}/{target.release}")],
    )
    return left, target.release, changed.seq


def _require_parts(ws: Workspace, target: ReleaseRecord) -> None:
    """Everything that the release names is in the store and whole, before anything moves. Raises: NotFound, Corrupt."""
    content = releases.content(ws, target)
    found = bundles.read(ws, content.bundle)
    wanted = [content.bundle, found.tree, *(entry.digest for entry in found.files.entries)]
    gone = [digest for digest in wanted if not ws.objects.has(digest)]
    if gone:
        raise NotFound(
            f"{target.ref} cannot answer: {len(gone)} of its {len(wanted)} objects are not in the store",
            hint="nothing was changed; restore the objects, or choose another release",
        )
    for digest in wanted:
        try:
            ws.objects.verify(digest)
        except Corrupt as error:
            raise Corrupt(
                f"{target.ref} cannot answer: {error.message}",
                hint="nothing was changed; restore the object from a backup, or choose another release",
            ) from error


def _require_approval(ws: Workspace, target: ReleaseRecord) -> None:
    with ws.ledger.read() as tx:
        lacking = approvals.waiting(ws, tx, f"release/{target.model}/{target.release}", target.content)
    if lacking:
        raise GateClosed(f"{target.ref} {lacking.text}", hint=releases.how_to_approve(target, lacking))


def _slow_us(ws: Workspace, model: str, live: ReleaseRecord | None, path: tuple[str, ...]) -> int | None:
    """The slow limit of the release that is live, frozen from its newest requests, where no shadow step will do it."""
    if live is None or any(item.strip().startswith("shadow") for item in path):
        return None
    for source in reversed(sources(folder(ws.project.state, model))):
        lines = decode(read(source)[0])
        limit = rollout.frozen_slow_us(
            [line.us for line in lines if line.rel == live.release and line.st == 200 and not line.sh]
        )
        if limit is not None:
            return limit
    return None


def _await(ws: Workspace, model: str, seq: int, environment: str, *, limit_s: float = ACKNOWLEDGE_S) -> tuple[int, int]:
    """Wait until every living server answers by a deployment, or says that it cannot, or the time is over."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            done, living = follow.acknowledged(ws, model, seq, environment)
        except StoreUnavailable:
            done, living = 0, 1
        if done >= living or time.monotonic() > deadline or follow.failures(ws, model, seq, environment):
            return done, living
        time.sleep(0.01)
