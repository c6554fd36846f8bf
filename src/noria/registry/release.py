"""Releases: one atomic object that answers, and the only ways from one state to another.

A release's content names everything that must move together: bundle, data pins, schema, thresholds,
environment, monitor baseline, policy. Its state moves by compare-and-set under the ledger's single
writer, so of two promotions at once exactly one wins and the other is told. One release of a model
is in production per environment; putting another there retires it in the same transaction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from noria.core.errors import Conflict, GateClosed, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.identity import Digest
from noria.core.verb import verb
from noria.governance import approvals
from noria.packaging.bundle import read
from noria.registry import records
from noria.registry.facts import GateJudged, ReleaseMade, ReleaseMoved
from noria.registry.gates import policy_digest
from noria.registry.records import ReleaseRecord
from noria.registry.versions import resolve
from noria.store.failpoint import failpoint
from noria.store.ledger import Reader, Transaction
from noria.store.workspace import Workspace
from noria.tracking.facts import Pin

__all__ = [
    "TRANSITIONS",
    "Release",
    "content",
    "find",
    "gates_hold",
    "make",
    "move",
    "reject",
    "releases",
    "state_in",
    "transition",
    "why_gates_do_not_hold",
]

FORMAT = "noria/release/1"
TRANSITIONS: Mapping[str, frozenset[str]] = {
    "candidate": frozenset({"validated", "rejected"}),
    "validated": frozenset({"staging", "rejected", "expired"}),
    "staging": frozenset({"shadow", "canary", "production", "rejected"}),
    "shadow": frozenset({"canary", "production", "rejected", "rolled back"}),
    "canary": frozenset({"production", "rolled back"}),
    "production": frozenset({"retired", "rolled back"}),
    "retired": frozenset({"production"}),
    "rolled back": frozenset({"validated", "production"}),
    "rejected": frozenset(),
    "expired": frozenset(),
}
"""The legal ways. staging → production is the first release of all; retired → production is the way back;
"rolled back" goes on only while the gates' verdict still holds (`gates_hold`)."""
_EVERYWHERE = ("candidate", "validated", "rejected", "expired")
_LIVE = ("shadow", "canary", "production")


@frozen(kw_only=True)
class Release:
    """A release with its content: what answers when it is deployed.

    `schema` is the digest of the signature file, `baseline` the tree of reference rows that
    monitoring compares with (may be empty), `policy` the digest of the gate's rules.
    """

    model: str
    release: int
    version: int
    content: str
    state: str
    bundle: str
    run: str
    pins: tuple[Pin, ...]
    schema: str
    threshold: float
    labels: tuple[Any, ...]
    environment: str
    baseline: str
    policy: str

    @property
    def ref(self) -> str:
        """Its name for people: `churn r31`."""
        return f"{self.model} r{self.release}"


def make(ws: Workspace, model: str, version: int, *, baseline: str = "") -> Release:
    """Make the release of a version: a candidate, then validated or rejected as the gates said of it.

    The same content is the same release, but for one that its gates refused and let through now (they may ask what
    production received of late): that is a new one. A version that was not judged stays a candidate.

    Raises: NotFound; UsageError for a version that is no bundle.
    """
    with ws.ledger.read() as tx:
        found = resolve(tx, f"{model}:{version}")
    if not found.bundle:
        raise UsageError(
            f"{found.ref} is files that a client keeps at {found.source}, no bundle: it cannot be released",
            hint=f"noria promote models:/{found.model}/{found.version} makes one of its files, and judges it",
        )
    bundle = read(ws, found.bundle)
    schema = next(entry.digest for entry in bundle.files.entries if entry.path == "signature.json")
    policy = policy_digest(ws, model)
    document: dict[str, Any] = {
        "format": FORMAT,
        "model": found.model,
        "version": found.version,
        "bundle": found.bundle,
        "run": found.run,
        "pins": [dataclasses.asdict(pin) for pin in found.pins],
        "schema": schema,
        "threshold": bundle.threshold,
        "labels": list(bundle.labels),
        "environment": bundle.environment,
        "baseline": baseline,
        "policy": policy,
    }
    name = _content_of(ws, model, found.version, document)
    with ws.ledger.transaction() as tx:
        made = records.release_of_content(tx, model, name)
        if made is None:
            number = records.last_release(tx, model) + 1
            tx.append(
                ReleaseMade(model=model, release=number, version=found.version, content=name),
                inputs=[
                    ("version", f"model/{found.ref}"),
                    ("bundle", found.bundle),
                    ("schema", schema),
                    ("policy", policy),
                    *((("baseline", baseline),) if baseline else ()),
                    *((("environment", bundle.environment),) if bundle.environment else ()),
                    *(("data", pin.tree) for pin in found.pins),
                ],
                outputs=[("release", f"release/{model}/{number}"), ("content", name)],
            )
            failpoint("release.made")
            made = _recorded(tx, model, number)
        judged = records.judgement(tx, model, found.version)
        if made.state == "candidate" and judged is not None:
            after = "validated" if judged.passed else "rejected"
            reason = "all gates passed" if judged.passed else _refusal(judged)
            made = transition(ws, tx, model, made.release, after, reason=reason)
    return content(ws, made)


def _content_of(ws: Workspace, model: str, version: int, document: dict[str, Any]) -> Digest:
    """The content object of a release; one that was refused by gates which pass now is named in the next."""
    name = ws.objects.put_json(document)
    with ws.ledger.read() as tx:
        judged = records.judgement(tx, model, version)
        known = records.release_of_content(tx, model, name)
        while known is not None and judged is not None and judged.passed and _is_refused_by_gates(ws, known):
            document["refused"] = known.release
            name = ws.objects.put_json(document)
            known = records.release_of_content(tx, model, name)
    return name


def _is_refused_by_gates(ws: Workspace, record: ReleaseRecord) -> bool:
    """Whether a release was rejected for what the gates said of it, and not by a person or the loop."""
    if record.state != "rejected":
        return False
    judged = (stored.payload for stored in ws.ledger.facts(kind="gate.judged", subject=f"model/{record.model}"))
    return record.reason in {_refusal(each) for each in judged if each.version == record.version and not each.passed}


def content(ws: Workspace, record: ReleaseRecord) -> Release:
    """A release with what its content object says. Raises: Corrupt if the object was altered."""
    found = ws.objects.get_json(record.content)
    return Release(
        model=record.model,
        release=record.release,
        version=record.version,
        content=record.content,
        state=record.state,
        bundle=found["bundle"],
        run=found["run"],
        pins=tuple(Pin(**pin) for pin in found["pins"]),
        schema=found["schema"],
        threshold=float(found["threshold"]),
        labels=tuple(found["labels"]),
        environment=found["environment"],
        baseline=found["baseline"],
        policy=found["policy"],
    )


def find(ws: Workspace, model: str, number: int = 0) -> Release:
    """A release by number; 0 gives the newest. Raises: NotFound naming the newest."""
    with ws.ledger.read() as tx:
        record = _recorded(tx, model, number)
    return content(ws, record)


def move(
    ws: Workspace,
    model: str,
    number: int,
    after: str,
    *,
    reason: str = "",
    environment: str = "local",
    before: str = "",
) -> ReleaseRecord:
    """Move a release to another state, in a transaction of its own. See `transition`."""
    with ws.ledger.transaction() as tx:
        return transition(ws, tx, model, number, after, reason=reason, environment=environment, before=before)


def transition(
    ws: Workspace,
    tx: Transaction,
    model: str,
    number: int,
    after: str,
    *,
    reason: str = "",
    environment: str = "local",
    before: str = "",
) -> ReleaseRecord:
    """Move a release to another state inside a transaction: compare, then set.

    Into production: the release that was there is retired by the same transaction. Into shadow or
    canary: only one release of a model at a time.

    Args:
        before: the state the caller saw; empty accepts any from which the way is legal.
    Raises: NotFound; Conflict if the state has moved on or the way is not legal; GateClosed if the
        gates have not passed (into validated) or no longer hold (out of rolled back), or an approval
        that the policy asks for is missing (out of staging).
    """
    record = _recorded(tx, model, number)
    state = state_in(tx, record, environment)
    if before and state != before:
        raise Conflict(f"{record.ref} is {state}, no longer {before}", hint=f"noria status shows where {model} is")
    if after not in TRANSITIONS.get(state, frozenset()):
        legal = ", ".join(sorted(TRANSITIONS.get(state, frozenset()))) or "nothing"
        raise Conflict(
            f"{record.ref} is {state}: it cannot become {after}", hint=f"from {state} it may become: {legal}"
        )
    if after == "validated" or state == "rolled back":
        _require_gates(ws, tx, record, environment, is_again=state == "rolled back")
    if state == "staging" and after in _LIVE:
        _require_approval(ws, tx, record)
    if after in _LIVE:
        _require_room(tx, record, after, environment)
    if after == "production":
        incumbent = records.production(tx, model, environment)
        if incumbent is not None:
            _append(tx, incumbent, "production", "retired", environment=environment, reason=f"replaced by {record.ref}")
    _append(tx, record, state, after, environment=environment, reason=reason)
    failpoint("release.moved")
    return _recorded(tx, model, number)


def state_in(tx: Reader, record: ReleaseRecord, environment: str) -> str:
    """The state of a release in one environment; elsewhere than where it moved, it is validated at most."""
    if record.environment in ("", environment) or record.state in _EVERYWHERE:
        return record.state
    return records.place(tx, record.model, environment, record.release) or "validated"


def gates_hold(ws: Workspace, tx: Reader, record: ReleaseRecord, environment: str = "local") -> bool:
    """Whether the newest verdict on a release still answers the question: it passed, under the rules
    of now, against the version that is now in production (or with none, when there is none)."""
    return not why_gates_do_not_hold(ws, tx, record, environment)


def why_gates_do_not_hold(ws: Workspace, tx: Reader, record: ReleaseRecord, environment: str = "local") -> str:
    """What makes the newest verdict on a release no answer any more; empty while it is one."""
    judged = records.judgement(tx, record.model, record.version)
    if judged is None:
        return "its gates were never judged"
    if not judged.passed:
        closed = next((verdict for verdict in judged.verdicts if not verdict.passed), None)
        return f"its newest verdict is no: {closed.gate}: {closed.text}" if closed else "its newest verdict is no"
    if judged.policy != policy_digest(ws, record.model):
        return "its gates were judged under other rules than those of now"
    live = records.production(tx, record.model, environment)
    if live is None or judged.champion == live.version or live.release == record.release:
        return ""
    against = f"against version {judged.champion}" if judged.champion else "without a champion"
    return f"its gates were judged {against}, and version {live.version} is live now"


@verb(permission="registry.promote")
def reject(ws: Workspace, model: str, release: int, reason: str) -> ReleaseRecord:
    """Reject a release that is not live yet, with a reason. It can never be promoted.

    Example: noria registry reject churn 14 "trained on the wrong year"
    """
    return move(ws, model, release, "rejected", reason=reason)


@verb(permission="registry.read", changes=False)
def releases(ws: Workspace, model: str, limit: int = 100) -> list[ReleaseRecord]:
    """The releases of a model with their states, newest first.

    Example: noria registry releases churn
    """
    with ws.ledger.read() as tx:
        resolve(tx, model)
        return records.releases(tx, model, limit=limit)


def _recorded(tx: Reader, model: str, number: int) -> ReleaseRecord:
    found = records.release(tx, model, number)
    if found is None:
        newest = records.release(tx, model, 0)
        hint = f"the newest is {newest.ref}" if newest else "noria run makes the first release"
        raise NotFound(f"there is no release {model} r{number}" if number else f"{model} has no release", hint=hint)
    return found


def _append(tx: Transaction, record: ReleaseRecord, before: str, after: str, *, environment: str, reason: str) -> None:
    tx.append(
        ReleaseMoved(
            model=record.model,
            release=record.release,
            before=before,
            after=after,
            environment=environment,
            reason=reason,
        ),
        inputs=[("release", f"release/{record.model}/{record.release}"), ("content", record.content)],
    )


def _require_gates(ws: Workspace, tx: Reader, record: ReleaseRecord, environment: str, *, is_again: bool) -> None:
    judged = records.judgement(tx, record.model, record.version)
    if judged is None:
        raise GateClosed(f"{record.ref} was never judged by the gates", hint="noria run judges what it trains")
    if not judged.passed:
        raise GateClosed(f"{record.ref} did not pass its gates: {_refusal(judged)}")
    if is_again and not gates_hold(ws, tx, record, environment):
        raise GateClosed(
            f"{record.ref} was rolled back, and its verdict is not against what is live and ruled now",
            hint="noria run trains and judges a new one",
        )


def _require_approval(ws: Workspace, tx: Reader, record: ReleaseRecord) -> None:
    """The roles of `[model.NAME.deploy] approve`, each given for this very content by no author of it."""
    lacking = approvals.waiting(ws, tx, f"release/{record.model}/{record.release}", record.content)
    if lacking:
        raise GateClosed(f"{record.ref} {lacking.text}", hint=how_to_approve(record, lacking))


def how_to_approve(record: ReleaseRecord, lacking: approvals.Waiting) -> str:
    """What somebody else than the author may type."""
    name = f"{record.model}@r{record.release}"
    if not lacking.roles:
        return f"noria governance reviews {name}; who rejected it may approve it"
    return f"somebody who did not make it: noria approve {name} --role {lacking.roles[0]} --comment WHY"


def _require_room(tx: Reader, record: ReleaseRecord, after: str, environment: str) -> None:
    others = [r for r in records.in_flight(tx, record.model, environment) if r.release != record.release]
    if others and after != "production":
        raise Conflict(
            f"{others[0].ref} is in {others[0].state}: {record.ref} must wait for it",
            hint=f"noria watch {record.model}, or noria rollback {record.model}",
        )


def _refusal(judged: records.JudgementRecord | GateJudged) -> str:
    failed = [verdict for verdict in judged.verdicts if not verdict.passed]
    return "; ".join(f"{verdict.gate}: {verdict.text}" for verdict in failed[:3])[:500] or "no gate was evaluated"
