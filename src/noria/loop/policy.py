"""The retraining policy: when to train a challenger, and when a better one is worth its risk. Pure.

Drift only proposes. What is decided, and every rule that was looked at with its numbers, goes into
the record, also when the answer is to wait. Broken data come first: nothing is trained on them,
and what they look like is no drift. No clock: the evidence says what time it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from noria.config import RetrainConfig
from noria.core.clock import duration
from noria.core.errors import ConfigError
from noria.core.frozen import frozen
from noria.core.words import counted

__all__ = [
    "Decision",
    "Evidence",
    "Gain",
    "Quality",
    "Rule",
    "Training",
    "Trigger",
    "Worth",
    "decide",
    "describe",
    "parse_trigger",
    "worth",
]

TOLERANCE = 0.02
"""A proven gap of quality below this (AUC, or share of the base rate's loss) asks for nothing."""
WEEK = timedelta(days=7)
_NEW_LABELS = re.compile(r"new labels (\d{1,18})")
_AGE = re.compile(r"age (\S+)")
_LIMIT = re.compile(r"([a-z_][a-z0-9_]*)\s*(<|>)\s*(\d{1,18}(?:\.\d{1,18})?)")


@frozen(kw_only=True)
class Quality:
    """A metric of the window as served, and of the champion on its own holdout; intervals at 95 %.

    `higher` says whether more is better. None where something is not known.
    """

    metric: str
    higher: bool
    value: float | None
    low: float | None
    high: float | None
    before: float | None
    before_low: float | None
    before_high: float | None


@frozen(kw_only=True)
class Training:
    """A challenger that the policy asked for: at which event time, and what it cost."""

    at: datetime
    cost: float


@frozen(kw_only=True)
class Evidence:
    """Everything the policy may look at. Times are event times under an event clock.

    `failures` are the checks that the newest data failed; `drifted` the columns that count in this
    window, `persistent` those that did in the window before, too; `new_rows` are the rows that the
    champion's training data lack; `champion_at` is when the champion's data ended.
    """

    window: str
    as_of: datetime
    data: str
    failures: Sequence[str]
    drifted: Sequence[str]
    persistent: Sequence[str]
    quality: Sequence[Quality]
    labelled: int
    rows: int
    new_rows: int
    is_tried: bool
    champion_at: datetime | None
    trainings: Sequence[Training]
    is_rolling: bool


@frozen(kw_only=True)
class Rule:
    """One rule that was looked at: whether it fired, and its numbers as a sentence."""

    name: str
    fired: bool
    text: str


@frozen(kw_only=True)
class Trigger:
    """One item of `when`, read: drift, quality, new labels (`limit` rows), age, or the limit of a metric."""

    kind: str
    metric: str = ""
    sign: str = ""
    limit: float = 0.0
    age: timedelta = timedelta()
    text: str = ""


@frozen(kw_only=True)
class Decision:
    """`decision` is train, wait or stopped; `reason` the sentence for people; `rules` all that was looked at."""

    decision: str
    reason: str
    triggers: tuple[str, ...]
    rules: tuple[Rule, ...]


@frozen(kw_only=True)
class Gain:
    """A challenger against the champion on the same rows: log loss saved per prediction, with its interval.

    `detectable` is the smallest true gain that the rows prove in 4 of 5 cases; None where that is not known.
    """

    champion: float
    challenger: float
    gain: float
    low: float
    high: float
    n: int
    detectable: float | None = None


@frozen(kw_only=True)
class Worth:
    """Whether a challenger is worth it: `worth` (of the gain's lower bound) against `cost` + risk, in money.

    `detectable` is the smallest true gain that would have been promoted in 4 of 5 cases; None where no gain would.
    """

    promote: bool
    worth: float
    cost: float
    reason: str
    detectable: float | None = None


def decide(evidence: Evidence, policy: RetrainConfig) -> Decision:
    """Train, wait, or stop because the newest data are broken.

    Raises: ConfigError for a trigger in noria.toml that nobody knows.
    """
    triggers = [_trigger(text, evidence) for text in policy.when]
    if evidence.failures:
        count = len(evidence.failures)
        head = f"{evidence.data} failed {counted(count, 'check')}: {'; '.join(evidence.failures[:3])}"
        return Decision(
            decision="stopped",
            reason=f"{head}. Nothing is trained on broken data",
            triggers=(),
            rules=(Rule(name="checks", fired=True, text=head),),
        )
    fired = tuple(rule.name for rule in triggers if rule.fired)
    if not fired:
        return _wait(triggers, "no trigger fired" if triggers else "no trigger is configured", ())
    limits = _limits(evidence, policy)
    closed = [rule for rule in limits if rule.fired]
    rules = [*triggers, *limits]
    if closed:
        return _wait(rules, "; ".join(rule.text for rule in closed), fired)
    reason = "; ".join(rule.text for rule in triggers if rule.fired)
    return Decision(decision="train", reason=reason, triggers=fired, rules=tuple(rules))


def worth(gain: Gain, policy: RetrainConfig, *, traffic: int) -> Worth:
    """Promote only if the lower bound of the gain, over the expected traffic, pays for cost and risk.

    Args:
        traffic: predictions expected until the next review, unless the policy states its own.
    """
    expected = policy.expected_requests or traffic
    price = policy.cost + policy.risk
    if not (math.isfinite(gain.low) and math.isfinite(gain.gain)):
        return Worth(
            promote=False, worth=0.0, cost=price, reason=f"the gain cannot be computed from {gain.n:,} labelled rows"
        )
    value = gain.low * expected * policy.value_per_log_loss
    seen = _seen(gain, price, expected * policy.value_per_log_loss)
    numbers = (
        f"log loss {gain.challenger:.4f} against the champion's {gain.champion:.4f} on the same {gain.n:,} rows: "
        f"gain {gain.gain:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
    )
    money = f"worth at least {value:,.2f} over {expected:,} predictions, cost and risk {price:,.2f}"
    sees = "" if seen is None else f"; sees gains from {seen:.4f}"
    if gain.high < 0:
        text = f"worse: {numbers}{sees}"
    elif gain.low <= 0:
        text = f"not proven better: {numbers}{sees}"
    elif value <= price:
        text = f"better, but not worth it: {numbers}; {money}{sees}"
    else:
        text = f"better: {numbers}; {money}{sees}"
    return Worth(promote=gain.low > 0 and value > price, worth=value, cost=price, reason=text, detectable=seen)


def _seen(gain: Gain, price: float, per_unit: float) -> float | None:
    """The smallest true gain that would be promoted in 4 of 5 cases: what the rows prove, above what pays the price."""
    if gain.detectable is None or per_unit <= 0:
        return None
    return gain.detectable + max(price, 0.0) / per_unit


def _wait(rules: Sequence[Rule], reason: str, triggers: tuple[str, ...]) -> Decision:
    return Decision(decision="wait", reason=reason, triggers=triggers, rules=tuple(rules))


def parse_trigger(text: str, *, where: str = "noria.toml") -> Trigger:
    """A trigger as `when` writes it. Raises: ConfigError for one that nobody knows."""
    if text in ("drift", "quality"):
        return Trigger(kind=text)
    if match := _NEW_LABELS.fullmatch(text):
        return Trigger(kind="new labels", limit=float(match[1]))
    if match := _AGE.fullmatch(text):
        try:
            return Trigger(kind="age", age=duration(match[1]), text=match[1])
        except ValueError as error:
            raise ConfigError(f"when has {text!r}: {error}", where=where) from error
    if match := _LIMIT.fullmatch(text):
        return Trigger(kind="limit", metric=match[1], sign=match[2], limit=float(match[3]))
    raise ConfigError(
        f"when has {text!r}, which is no trigger",
        where=where,
        hint='"drift", "quality", "new labels 20000", "age 90d", or a limit such as "auc < 0.7"',
    )


def _trigger(text: str, evidence: Evidence) -> Rule:
    found = parse_trigger(text)
    if found.kind == "drift":
        return _drift(evidence)
    if found.kind == "quality":
        return _quality(evidence)
    if found.kind == "new labels":
        sentence = f"{evidence.new_rows:,} rows are new to the champion (limit {found.limit:,.0f})"
        return Rule(name="new labels", fired=evidence.new_rows >= found.limit, text=sentence)
    if found.kind == "age":
        return _age(evidence, found.age, found.text)
    return _limit(evidence, found.metric, found.sign, found.limit)


def _drift(evidence: Evidence) -> Rule:
    if evidence.persistent:
        names = ", ".join(evidence.persistent)
        return Rule(
            name="drift", fired=True, text=f"{names} drifted in two windows running, {evidence.window} the last"
        )
    if evidence.drifted:
        names = ", ".join(evidence.drifted)
        return Rule(name="drift", fired=False, text=f"{names} drifted in {evidence.window}, not in the window before")
    return Rule(name="drift", fired=False, text=f"no column drifted in {evidence.window}")


def _quality(evidence: Evidence) -> Rule:
    texts = []
    for item in evidence.quality:
        gap, is_proven = _gap(item)
        if gap is None:
            continue
        sentence = (
            f"{item.metric} {item.value:.3f} [{item.low:.3f}, {item.high:.3f}] against {item.before:.3f} when released"
        )
        if is_proven and gap >= TOLERANCE:
            return Rule(name="quality", fired=True, text=f"{sentence}: {gap:.3f} worse, proven")
        texts.append(sentence)
    known = f"{evidence.labelled:,} of {evidence.rows:,} labelled"
    return Rule(name="quality", fired=False, text="; ".join([*texts, known]) if texts else f"not measurable, {known}")


def _gap(item: Quality) -> tuple[float | None, bool]:
    """How much worse a metric has become (positive: worse), and whether the intervals lie apart."""
    if None in (item.value, item.low, item.high, item.before):
        return None, False
    assert item.value is not None
    assert item.low is not None
    assert item.high is not None
    assert item.before is not None
    if item.higher:
        best = item.before if item.before_low is None else item.before_low
        return item.before - item.value, item.high < best
    best = item.before if item.before_high is None else item.before_high
    return item.value - item.before, item.low > best


def _age(evidence: Evidence, limit: timedelta, text: str) -> Rule:
    if evidence.champion_at is None:
        return Rule(name="age", fired=False, text="the age of the champion's data is not known")
    age = evidence.as_of - evidence.champion_at
    sentence = f"the champion's data end {age / timedelta(days=1):.0f} days ago (limit {text})"
    return Rule(name="age", fired=age >= limit, text=sentence)


def _limit(evidence: Evidence, metric: str, sign: str, limit: float) -> Rule:
    for item in evidence.quality:
        if item.metric == metric and item.low is not None and item.high is not None:
            fired = item.high < limit if sign == "<" else item.low > limit
            sentence = f"{metric} {item.value:.3f} [{item.low:.3f}, {item.high:.3f}] ({sign} {limit:g} asks to retrain)"
            return Rule(name=f"{metric} {sign} {limit:g}", fired=fired, text=sentence)
    return Rule(name=f"{metric} {sign} {limit:g}", fired=False, text=f"{metric} of {evidence.window} is not known")


def _limits(evidence: Evidence, policy: RetrainConfig) -> list[Rule]:
    limits = policy.limits
    last = max((training.at for training in evidence.trainings), default=None)
    recent = [training for training in evidence.trainings if evidence.as_of - training.at < WEEK]
    rules = [
        Rule(
            name="new data",
            fired=evidence.new_rows <= 0 or evidence.is_tried,
            text=f"{evidence.data} was tried already" if evidence.is_tried else f"{evidence.new_rows:,} new rows",
        ),
        Rule(
            name="rollout",
            fired=evidence.is_rolling,
            text="a rollout is under way" if evidence.is_rolling else "no rollout",
        ),
    ]
    pause = _duration(limits.cooldown)
    if last is not None:
        since = evidence.as_of - last
        sentence = (
            f"the last challenger was trained {since / timedelta(days=1):.1f} days ago (cooldown {limits.cooldown})"
        )
        rules.append(Rule(name="cooldown", fired=since < pause, text=sentence))
    sentence = f"{len(recent)} challengers in the last 7 days (limit {limits.per_week})"
    rules.append(Rule(name="per week", fired=len(recent) >= limits.per_week, text=sentence))
    if limits.budget_per_week is not None:
        spent = sum(training.cost for training in recent)
        sentence = (
            f"{spent:,.2f} spent in the last 7 days, {policy.cost:,.2f} more (budget {limits.budget_per_week:,.2f})"
        )
        rules.append(Rule(name="budget", fired=spent + policy.cost > limits.budget_per_week, text=sentence))
    return rules


def _duration(text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError as error:
        raise ConfigError(f"[model.….retrain.limits] cooldown: {error}", where="noria.toml") from error


def describe(rules: Sequence[Rule]) -> tuple[str, ...]:
    """Every rule as a line for the record."""
    return tuple(f"{'+' if rule.fired else '-'} {rule.name}: {rule.text}" for rule in rules)
