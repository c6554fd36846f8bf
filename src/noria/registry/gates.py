"""The gates of a version, evaluated by the platform: every rule of noria.toml, on the newest labelled rows.

A gate can only say yes by proving it. A model that does not load, a score that is NaN, a metric
that nobody defined, a holdout with no rows or one class, a champion that cannot be loaded, a gate
that crashes: each is a no with its reason, recorded like any other verdict. Nothing here trains.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria import plugins
from noria.config import GateConfig
from noria.core.errors import NoriaError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.printable import error_line
from noria.governance.policy import of as policy_of
from noria.packaging.bundle import Opened, load
from noria.packaging.predictor import Predictor
from noria.registry import evaluate, insights, records, timings
from noria.registry.evaluate import Evaluation
from noria.registry.evidence import Champion, Evidence, Known
from noria.registry.facts import GateJudged, Verdict
from noria.registry.metrics import METRICS, CustomMetric, Metric
from noria.registry.metrics import resolve as resolve_metrics
from noria.registry.scored import HasRoles, Sample, hours_of, score, write_scores
from noria.registry.versions import resolve
from noria.store.failpoint import failpoint
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazy("pandas")
np = lazy("numpy")

__all__ = ["Judgement", "decide", "examine", "judge", "policy_digest", "record"]

MIN_ROWS = 2
TEXT_LIMIT = 400
SCORES_MAX = 1_000_000
"""Labelled rows up to which the score of each is kept, so that a later comparison need not ask the model again."""


@frozen(kw_only=True)
class Judgement:
    """What was said of a version, and the evaluation behind it (None if the model could not be scored)."""

    judged: GateJudged
    evaluation: Evaluation | None

    @property
    def passed(self) -> bool:
        """Whether every gate said yes."""
        return self.judged.passed


def judge(
    ws: Workspace,
    model: str,
    version: int,
    *,
    holdout: pd.DataFrame,
    roles: HasRoles,
    champion: int | None = None,
    metrics: Iterable[str | CustomMetric] = ("auc", "log_loss"),
    slices: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    opened: Opened | None = None,
    known: Known | None = None,
) -> Judgement:
    """Evaluate every gate of a version and record the verdicts with an HTML report.

    Args:
        champion: the version to beat, scored on these same rows now; None: there is none.
        metrics: what the pipeline declares; metrics of the policy are added by name.
        data: where the rows come from, kept in the report.
        opened: gives the predictor of a bundle; by default each is loaded.
        known: what the caller alone can find out, asked where a rule needs it.
    Raises: NotFound for an unknown version. A failing model or gate does not raise: it is a no.
    """
    with ws.ledger.read() as tx:
        candidate = resolve(tx, f"{model}:{version}")
        incumbent = resolve(tx, f"{model}:{champion}") if champion else None
    found = examine(
        ws,
        candidate,
        incumbent,
        holdout=holdout,
        roles=roles,
        metrics=metrics,
        slices=slices,
        data=data,
        opened=opened,
        known=known,
    )
    return record(ws, candidate, incumbent, found)


def examine(
    ws: Workspace,
    candidate: records.VersionRecord,
    incumbent: records.VersionRecord | None,
    *,
    holdout: pd.DataFrame,
    roles: HasRoles,
    metrics: Iterable[str | CustomMetric] = ("auc", "log_loss"),
    slices: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    checked: Sequence[Verdict] = (),
    opened: Opened | None = None,
    rules: GateConfig | None = None,
    known: Known | None = None,
) -> Judgement:
    """The same without a record of it, as `record` makes one.

    Args:
        checked: verdicts that the caller has made of what it alone knows; a no of them is one of the version.
        opened: gives the predictor of a bundle; by default one that a fact names.
        rules: in the place of those that hold for the model, where they ask for no metric.
    """
    asked = policy_of(ws, candidate.model)
    policy = rules or asked.config.gate
    open_ = opened or (lambda digest: load(ws, digest))
    verdicts: list[Verdict] = list(checked)
    predictor = _attempt(verdicts, "model", lambda: open_(candidate.bundle))
    sample = _attempt(verdicts, "holdout", lambda: score(predictor, holdout, roles.label)) if predictor else None
    evaluation: Evaluation | None = None
    if predictor is not None and sample is not None:
        verdicts.append(_sound(sample))
        opponent = _champion(open_, verdicts, incumbent, sample) if incumbent else None
        declared = _attempt(verdicts, "metrics", lambda: _measurable(metrics, policy, sample.task)) or {}
        asked_of = known or Known()
        evidence = Evidence(
            policy=policy,
            sample=sample,
            champion=opponent,
            metrics=declared,
            slices=tuple(slices),
            blocks=_attempt(verdicts, "time", lambda: hours_of(sample.rows, roles.time)),
            latencies_ms=lambda: [each * 1e3 for each in timings.quickest(predictor, sample, time.perf_counter)],
            inputs=predictor.rows.signature.inputs,
            size_bytes=predictor.bundle.size_bytes,
            predictor=predictor,
            roles=roles,
            declared=asked.config.behaviour,
            recent=asked_of.recent and functools.partial(asked_of.recent, predictor),
            spent_s=asked_of.spent_s,
            work_s=lambda: timings.quickest(predictor, sample, time.process_time),
        )
        verdicts.extend(decide(evidence, is_compared=incumbent is None or opponent is not None))
        verdicts.extend(_undefined(declared, sample))
        about = {"bundle": candidate.bundle, "run": candidate.run, **_named(roles), **(data or {})}
        title = f"{candidate.ref}" + (f" against {incumbent.ref}" if incumbent else ", no champion")
        act = functools.partial(_measured, evidence, holdout, about, title)
        evaluation = _attempt(verdicts, "evaluation", act)
    if evaluation is not None and sample is not None:
        evaluation = evaluate.store(ws, _with_scores(ws, evaluation, sample), verdicts)
    judged = GateJudged(
        model=candidate.model,
        version=candidate.version,
        champion=incumbent.version if incumbent else 0,
        passed=bool(verdicts) and all(verdict.passed for verdict in verdicts),
        verdicts=tuple(verdicts),
        policy=ws.objects.put_json(_plain(asked.config.gate)),
        policy_from=asked.origin,
        report=evaluation.report if evaluation else "",
    )
    return Judgement(judged=judged, evaluation=evaluation)


def _named(roles: HasRoles) -> dict[str, str]:
    """The columns that have a role, for whoever reads the holdout again."""
    return {name: text for name in ("label", "key", "time") if (text := getattr(roles, name))}


def _with_scores(ws: Workspace, evaluation: Evaluation, sample: Sample) -> Evaluation:
    """The evaluation with the score of each row kept, unless they are very many."""
    if len(sample.score) > SCORES_MAX:
        return evaluation
    scores = ws.objects.put_bytes(write_scores(sample.score))
    return dataclasses.replace(evaluation, data={**evaluation.data, "scores": scores})


def _measured(evidence: Evidence, holdout: pd.DataFrame, about: Mapping[str, Any], title: str) -> Evaluation:
    """The evaluation of a version that was scored: what its gates were given, and what its report tells beside."""
    policy, sample, opponent = evidence.policy, evidence.sample, evidence.champion
    assert evidence.predictor is not None, "what was scored has a predictor"
    assert evidence.roles is not None, "and columns with roles"
    found = evaluate.measured(
        sample,
        evidence.metrics,
        slices=evidence.slices,
        champion=None if opponent is None else opponent.score,
        champion_threshold=0.5 if opponent is None else opponent.threshold,
        data=about,
        title=title,
        level=policy.level,
        groups=policy.fairness.group if policy.fairness else (),
    )
    seen = insights.look(
        evidence.predictor,
        sample,
        evidence.metrics,
        holdout=holdout,
        roles=evidence.roles,
        champion=opponent,
        level=policy.level,
        clock=time.perf_counter,
    )
    return dataclasses.replace(found, insights=seen)


def record(
    ws: Workspace, candidate: records.VersionRecord, incumbent: records.VersionRecord | None, judgement: Judgement
) -> Judgement:
    """Append what was said of a version; gives it back."""
    judged, evaluation = judgement.judged, judgement.evaluation
    outputs = [("policy", judged.policy)]
    if evaluation is not None:
        outputs += [("report", evaluation.report), ("evaluation", evaluation.document)]
        outputs += [("scores", evaluation.data["scores"])] if "scores" in evaluation.data else []
    failpoint("gate.judged")
    with ws.ledger.transaction() as tx:
        tx.append(
            judged,
            inputs=[
                ("version", f"model/{candidate.ref}"),
                ("bundle", candidate.bundle),
                *((("champion", incumbent.bundle),) if incumbent else ()),
            ],
            outputs=outputs,
        )
    return judgement


def decide(evidence: Evidence, *, is_compared: bool = True) -> list[Verdict]:
    """The verdicts of every kind of gate. A kind that crashes is a no.

    Args:
        is_compared: False if there is a champion that could not be scored: rules against it say no.
    """
    verdicts: list[Verdict] = []
    for name in plugins.names("gate"):
        if not is_compared and name in ("champion", "slices", "inputs"):
            continue  # the champion's own verdict is already a no
        found = _attempt(verdicts, name, functools.partial(_asked, name, evidence))
        verdicts.extend(found or [])
    return verdicts


def _asked(name: str, evidence: Evidence) -> list[Verdict]:
    return list(plugins.load("gate", name)(evidence))


def policy_digest(ws: Workspace, model: str) -> str:
    """The digest of a model's gate rules as they are now, stored as an object."""
    return ws.objects.put_json(_plain(policy_of(ws, model).config.gate))


def _plain(policy: GateConfig) -> dict[str, Any]:
    return {
        "metrics": {name: dataclasses.asdict(rule) for name, rule in policy.metrics.items()},
        "slices": {name: dict(rule) for name, rule in policy.slices.items()},
        "latency_p99_ms": policy.latency_p99_ms,
        "level": policy.level,
        **({} if policy.inputs == "same" else {"inputs": policy.inputs}),
        **({} if policy.size_mb is None else {"size_mb": policy.size_mb}),
        **{
            name: dataclasses.asdict(rule)
            for name, rule in (("fairness", policy.fairness), ("drift", policy.drift), ("cost", policy.cost))
            if rule is not None
        },
        **({"behaviour": True} if policy.behaviour else {}),
    }


def _attempt(verdicts: list[Verdict], gate: str, act: Callable[[], Any]) -> Any:
    """What a part of the judging gives, or None and a no: whatever is raised closes the gate."""
    try:
        return act()
    except NoriaError as error:
        text = f"{error.message} ({error.where})" if error.where else error.message
    except Exception as error:  # noqa: BLE001  # the boundary of models, metrics and plug-ins: fail closed
        text = error_line(error, TEXT_LIMIT)
    verdicts.append(Verdict(gate=gate, passed=False, text=text[:TEXT_LIMIT]))
    return None


def _sound(sample: Sample) -> Verdict:
    """Whether anything can be concluded from these rows and scores at all."""
    n, positives = len(sample.y), int((sample.y == 1).sum())
    broken = int((~np.isfinite(sample.score)).sum())
    labels_ok = bool(np.isfinite(sample.y).all())
    reasons = []
    if n < MIN_ROWS:
        reasons.append(f"{n} labelled rows")
    elif sample.task == "binary" and positives in (0, n):
        reasons.append(f"one class only: {positives} of {n} labels are positive")
    if broken:
        reasons.append(f"{broken} of {n} scores are not finite")
    if not labels_ok:
        reasons.append("labels that are not finite")
    fine = f"{n:,} labelled rows" + (f", {positives:,} positive" if sample.task == "binary" else "")
    return Verdict(gate="holdout", passed=not reasons, text="; ".join(reasons) or f"{fine}, all scores finite", n=n)


def _undefined(declared: Mapping[str, Metric], sample: Sample) -> list[Verdict]:
    """A no for each metric of the project's own that gives no number, whether or not a rule names it."""
    found: list[Verdict] = []
    for name, metric in declared.items():
        if metric.is_own:
            act = functools.partial(metric.of, sample.y, sample.score, rows=sample.rows)
            value = _attempt(found, f"metric {name}", act)
            if value is not None and not np.isfinite(value):
                text = f"the project's own metric {name} is undefined (NaN) on {len(sample.y):,} rows"
                found.append(Verdict(gate=f"metric {name}", passed=False, text=text))
    return found


def _champion(
    open_: Callable[[str], Predictor], verdicts: list[Verdict], incumbent: records.VersionRecord, sample: Sample
) -> Champion | None:
    def scored() -> Champion:
        predictor = open_(incumbent.bundle)
        found = predictor.predict(sample.rows)
        if not np.isfinite(found).all():
            raise ValueError(f"{int((~np.isfinite(found)).sum())} of its scores are not finite")
        return Champion(incumbent.version, found, predictor.threshold, predictor.rows.signature.inputs)

    before = len(verdicts)
    made: Champion | None = _attempt(verdicts, "champion", scored)
    if len(verdicts) > before:
        failed = verdicts.pop()
        text = f"the champion, version {incumbent.version}, cannot be compared with: {failed.text}"
        verdicts.append(dataclasses.replace(failed, text=text[:TEXT_LIMIT]))
    return made


def _measurable(declared: Iterable[str | CustomMetric], policy: GateConfig, task: str) -> dict[str, Metric]:
    """The pipeline's metrics and the policy's built-in ones; what the policy names and nobody has stays out."""
    found = resolve_metrics(declared, task)
    for name in (*policy.metrics, *policy.slices):
        if name not in found and name in METRICS and METRICS[name].task == task:
            found[name] = METRICS[name]
    return found
