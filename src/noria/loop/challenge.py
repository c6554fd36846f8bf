"""A challenger, from the decision to train it to its promotion or refusal; safe to take up again at any point.

What has happened is read from the facts: the run that the decision asked for, its comparison with the
champion, the judgement, the state of the release. A stage that has happened is not done again, so two
kills in a row cost time and nothing else.
"""

from __future__ import annotations

from noria.config import RetrainConfig
from noria.core.errors import Conflict, GateClosed, ProjectError, UsageError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.loop import comparison, policy, records
from noria.loop.comparison import Comparison
from noria.loop.facts import ChallengerJudged
from noria.loop.interrupted import cut_off
from noria.loop.policy import Gain, Worth
from noria.loop.records import DecisionRecord, JudgedRecord
from noria.loop.review import decision_ref
from noria.loop.run import Challenge, perform
from noria.monitoring import alerts
from noria.monitoring import records as monitoring
from noria.registry import records as registry
from noria.registry import release as releases
from noria.registry.records import JudgementRecord, ReleaseRecord
from noria.serving import deployment
from noria.serving import records as serving
from noria.store.failpoint import failpoint
from noria.store.ledger import Reader
from noria.store.workspace import Workspace
from noria.tracking import records as tracking
from noria.tracking.run import reap

__all__ = ["ALERT", "Busy", "challenge"]

ALERT = "loop"
ATTEMPTS = 2
"""How often a run that the loop asked for may fail before a person is called."""
COMPARED = 3
"""How often a challenger is compared anew because the champion changed meanwhile; its training is not repeated."""
_DONE = ("finished", "stopped")


class Busy(Conflict):
    """Another process is at it; the job is taken up again a little later."""

    code, is_retry_safe = "under-way", True


@frozen(kw_only=True)
class _Trained:
    """What a run made: the release of its bundle, the gates' verdict, and the comparison if there was a champion."""

    run: str
    release: ReleaseRecord
    judgement: JudgementRecord | None
    comparison: Comparison | None


def challenge(ws: Workspace, decision: DecisionRecord) -> dict[str, JSON]:
    """Train the challenger that a decision asked for, judge it, and promote or refuse it. Gives what came of it.

    The champion stays whatever fails here, and a person is called. Raises: Busy while another process
    is at it; StoreUnavailable.
    """
    try:
        trained = _trained(ws, decision)
        if trained is None:
            _call(ws, decision, f"the run for {decision.window} failed {ATTEMPTS} times")
            return {"outcome": "failed"}
        judged = _judged(ws, decision, trained)
        if judged.decision == "refuse":
            return {"outcome": "refused", "run": trained.run, "release": judged.challenger, "reason": judged.reason}
        started = _promote(ws, decision, judged)
    except Busy:
        raise
    except (ProjectError, GateClosed, UsageError) as error:
        _call(ws, decision, f"the challenger of {decision.window} could not go on: {error.message}")
        return {"outcome": "failed", "reason": error.message}
    return {"outcome": started, "run": trained.run, "release": judged.challenger, "reason": judged.reason}


def _trained(ws: Workspace, decision: DecisionRecord) -> _Trained | None:
    """The finished run of a decision, made now if there is none; None if it has failed too often.

    A run that was compared with a champion which is no longer live is made again: what it trained is
    there already, so only the comparison and the gates are new.
    """
    reap(ws)
    cause = decision_ref(decision.model, decision.window, decision.dataset_version)
    made = _finished(ws, decision)
    if made == []:
        return None
    while not made or (len(made) < COMPARED and _is_outdated(ws, decision.model, made[-1])):
        ref = f"{decision.dataset}@{decision.dataset_version}"
        cut = "" if made else cut_off(ws, cause)
        asked = Challenge(cause=cause, datasets={decision.dataset: ref}, model=decision.model)
        report = perform(ws, asked, resume=cut)
        newest = _made(ws, decision.model, report.run)
        if newest is None:
            return None
        made = [*(made or ()), newest]
    return made[-1]


def _finished(ws: Workspace, decision: DecisionRecord) -> list[_Trained] | None:
    """What the runs of a decision made, oldest first: None if one is to be made, empty if it failed too often."""
    cause = decision_ref(decision.model, decision.window, decision.dataset_version)
    started = [stored.payload.run for stored in ws.ledger.facts(kind="run.started", ref=cause)]
    with ws.ledger.read() as tx:
        runs = [found for run in started if (found := tracking.run(tx, run)) is not None]
        judged = [run.run for run in runs if records.judged(tx, decision.model, run.run) is not None]
    done = [run.run for run in runs if run.status in _DONE]
    made = [item for run in judged or done if (item := _made(ws, decision.model, run)) is not None]
    if judged:
        return made
    running = next((run.run for run in runs if run.status == "running"), "")
    if running:
        raise Busy(f"{running} is still running", hint="it ends, or its lease does")
    if made:
        return made
    return [] if sum(run.status == "failed" for run in runs) >= ATTEMPTS else None


def _is_outdated(ws: Workspace, model: str, made: _Trained) -> bool:
    """Whether what it was compared with is live no longer. What was judged, or not compared, stays as it is."""
    with ws.ledger.read() as tx:
        live = registry.production(tx, model)
        is_judged = records.judged(tx, model, made.run) is not None
    if is_judged or made.comparison is None or live is None:
        return False
    return live.version not in (made.comparison.champion, made.release.version)


def _made(ws: Workspace, model: str, run: str) -> _Trained | None:
    with ws.ledger.read() as tx:
        artifacts = {item.name: item for item in tracking.artifacts(tx, run)}
        bundle = artifacts.get("bundle")
        version = registry.version_of_bundle(tx, model, bundle.digest) if bundle is not None else None
        if version is None:
            return None
        release = next((item for item in registry.releases(tx, model) if item.version == version.version), None)
        judgement = registry.judgement(tx, model, version.version)
    if release is None:
        return None
    stored = artifacts.get(comparison.ARTIFACT)
    found = comparison.read(ws.objects.get_bytes(stored.digest)) if stored is not None else None
    return _Trained(run=run, release=release, judgement=judgement, comparison=found)


def _judged(ws: Workspace, decision: DecisionRecord, trained: _Trained) -> JudgedRecord:
    """The judgement of a challenger, recorded once; a refused one is rejected in the same transaction."""
    model, retrain = decision.model, ws.project.model(decision.model).retrain
    with ws.ledger.transaction() as tx:
        known = records.judged(tx, model, trained.run)
        if known is not None:
            return known
        live = registry.production(tx, model)
        drift = monitoring.drift(tx, model, decision.window)
        quality = monitoring.quality(tx, model, decision.window)
        traffic = max(drift.rows if drift else 0, quality.rows if quality else 0)
        gain, answer = _answer(trained, live, traffic, policy_of=retrain)
        against = _against(tx, model, trained, live)
        payload = ChallengerJudged(
            model=model,
            window=decision.window,
            run=trained.run,
            champion=against,
            challenger=trained.release.release,
            metric=trained.comparison.metric if trained.comparison else "log_loss",
            champion_score=gain.champion,
            challenger_score=gain.challenger,
            gain=gain.gain,
            low=gain.low,
            high=gain.high,
            n=gain.n,
            worth=answer.worth,
            cost=answer.cost,
            decision="promote" if answer.promote else "refuse",
            reason=answer.reason,
            detectable=answer.detectable,
        )
        tx.append(
            payload,
            inputs=[
                ("decision", decision_ref(model, decision.window, decision.dataset_version)),
                ("run", f"run/{trained.run}"),
                ("challenger", f"release/{model}/{trained.release.release}"),
                *((("champion", f"release/{model}/{against}"),) if against else ()),
            ],
        )
        is_waiting = trained.release.state in ("candidate", "validated", "staging")
        if not answer.promote and is_waiting:
            releases.transition(ws, tx, model, trained.release.release, "rejected", reason=answer.reason)
        alerts.resolve(tx, model, ALERT, f"a challenger was judged in {decision.window}")
        made = records.judged(tx, model, trained.run)
    failpoint("review.judged")
    assert made is not None, "the projection writes what was appended"
    return made


def _against(tx: Reader, model: str, trained: _Trained, live: ReleaseRecord | None) -> int:
    """The release that the scores on record are of, which may be live no longer; 0 for none."""
    champion = trained.comparison.champion if trained.comparison is not None else 0
    if live is not None and champion in (0, live.version):
        return live.release
    return next((item.release for item in registry.releases(tx, model) if item.version == champion), 0)


def _answer(
    trained: _Trained, live: ReleaseRecord | None, traffic: int, *, policy_of: RetrainConfig
) -> tuple[Gain, Worth]:
    """The numbers of a challenger and what the policy says of them. Gates that said no come first."""
    found = trained.comparison
    gain = _gain(found)
    price = policy_of.cost + policy_of.risk
    closed = [verdict for verdict in trained.judgement.verdicts if not verdict.passed] if trained.judgement else ()
    numbers = policy.worth(gain, policy_of, traffic=traffic) if found is not None else None
    if closed:
        texts = "; ".join(f"{verdict.gate}: {verdict.text}" for verdict in closed[:2])
        rest = f" ({numbers.reason})" if numbers is not None else ""
        return gain, Worth(
            promote=False, worth=numbers.worth if numbers else 0.0, cost=price, reason=f"a gate said no: {texts}{rest}"
        )
    if live is not None and live.version == trained.release.version:
        reason = f"the same model as r{live.release}, which is live: nothing has changed"
        return gain, Worth(promote=False, worth=0.0, cost=price, reason=reason)
    if numbers is None or found is None:
        reason = "there is nothing to compare it with: it was not scored beside the champion"
        return gain, Worth(promote=False, worth=0.0, cost=price, reason=reason)
    if live is not None and found.champion != live.version:
        reason = f"it was judged against version {found.champion}, and version {live.version} is live now"
        return gain, Worth(promote=False, worth=numbers.worth, cost=price, reason=reason)
    return gain, numbers


def _gain(found: Comparison | None) -> Gain:
    """The comparison as the policy takes it; what is not defined is 0 with an interval that promotes nothing."""
    if found is None or None in (found.champion_score, found.challenger_score, found.gain, found.low, found.high):
        return Gain(champion=0.0, challenger=0.0, gain=0.0, low=0.0, high=0.0, n=found.n if found else 0)
    return Gain(
        champion=found.champion_score or 0.0,
        challenger=found.challenger_score or 0.0,
        gain=found.gain or 0.0,
        low=found.low or 0.0,
        high=found.high or 0.0,
        n=found.n,
        detectable=found.detectable,
    )


def _promote(ws: Workspace, decision: DecisionRecord, judged: JudgedRecord) -> str:
    """Start the rollout of a winner unless it is under way or done. Raises: Conflict while another one is."""
    model, number = judged.model, judged.challenger
    with ws.ledger.read() as tx:
        release = registry.release(tx, model, number)
        rollout = serving.open_rollout(tx, model)
    assert release is not None, "a judged release was made"
    if rollout is not None:
        if rollout.release == number:
            return "rollout started"
        raise Busy(f"{model} r{rollout.release} is on its way: r{number} must wait")
    if release.state not in ("validated", "staging"):
        return release.state
    return deployment.promote(ws, f"{model}@r{number}").action


def _call(ws: Workspace, decision: DecisionRecord, message: str) -> None:
    """Raise the alert that a person is needed; the champion stays."""
    with ws.ledger.transaction() as tx:
        alerts.raise_alert(
            tx,
            decision.model,
            ALERT,
            kind="loop",
            severity="error",
            message=message[:500],
            window=decision.window,
            inputs=[("decision", decision_ref(decision.model, decision.window, decision.dataset_version))],
        )
