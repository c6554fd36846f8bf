"""A rollout judged by its log: pure functions from lines of the prediction log to a verdict.

`observe` folds lines into counts; `verdict` says whether to wait, go on, promote, roll back or
hold. Alarms are e-processes (evidence.py), so looking at every request costs no error rate. A
promotion needs evidence that the candidate is not much worse, not the silence of an alarm.

Latency is shared: all rows of a batch wait together, and one pause of the machine makes many
rows slow at once. So the slow guard compares one random row of each arm within a batch that
holds both (like McNemar's test, sequentially), or takes one row of a batch of one arm; counting
every row would take one pause for many independent events and roll back on noise.
Under the null hypothesis a pair in which only one row is slow is the candidate's with probability
1/2. Errors are counted by row, at most one a key and minute, since a retry storm is one event.
There is no clock here: times come from the log and from the caller.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Literal

from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.serving.evidence import (
    BETTER,
    EITHER,
    WORSE,
    Shares,
    as_number,
    log_mean,
    log_ratio,
    risk_interval,
    upper_bound,
)
from noria.serving.line import INVALID, REJECTED, Line
from noria.serving.plan import Plan
from noria.serving.router import CANDIDATE, STABLE

__all__ = ["State", "Verdict", "evidence", "frozen_slow_us", "observe", "verdict"]

MOST_UNITS = 50_000
"""Keys whose first appearance counts for the sample ratio; more add nothing to that test."""
MOST_STRUCK = 10_000
SAMPLE_EVERY = 64
SLOW_FACTOR = 1.25
SLOW_QUANTILE = 0.90
SLOW_LEAST_ROWS = 200


@frozen
class Batch:
    """The batch that is being read: rows whose arm was drawn, and one random answered row of each arm."""

    number: int = -1
    rows: int = 0
    share: float = 0.0
    candidate: tuple[int, int] | None = None
    stable: tuple[int, int] | None = None


@frozen
class Seen:
    """How many requests an arm answered, and how many of them were bad."""

    requests: int = 0
    failed: int = 0
    rejected: int = 0
    invalid: int = 0
    picked: int = 0
    slow: int = 0


@frozen
class State:
    """All that a rollout needs to remember of its log. Counts only; `alarm` names the first guard that fired."""

    requests: Mapping[int, int] = field(default_factory=dict)
    first_t: Mapping[int, int] = field(default_factory=dict)
    last_t: int = 0
    candidate: Seen = field(default_factory=Seen)
    stable: Seen = field(default_factory=Seen)
    errors: Shares = field(default_factory=Shares)
    invalid: Shares = field(default_factory=Shares)
    slow: Shares = field(default_factory=Shares)
    sample: Shares = field(default_factory=Shares)
    shadow_errors: Shares = field(default_factory=Shares)
    compared: int = 0
    flips: int = 0
    open: Mapping[str, Batch] = field(default_factory=dict)
    units: frozenset[int] = frozenset()
    struck: Mapping[str, int] = field(default_factory=dict)
    alarm: str = ""


@frozen
class Verdict:
    """What to do next, and why in one sentence for people."""

    action: Literal["wait", "advance", "promote", "roll back", "hold"]
    reason: str


def observe(
    plan: Plan, state: State, lines: Iterable[tuple[str, Line]], *, steps: Mapping[int, int], slow_us: int | None
) -> State:
    """The state after more lines; (source, line) in the order of each source.

    Args:
        steps: the step that each deployment of this rollout stood for, by its seq; other lines are skipped.
        slow_us: the limit in force, `plan.slow_us` or what was frozen later.
    """
    fold = _Fold(plan, state, slow_us)
    for source, line in lines:
        step = steps.get(line.dep)
        if step is None or fold.alarm:
            continue
        if line.sh:
            fold.shadow(step, line)
        elif 0.0 < line.pi < 1.0 and line.arm in (STABLE, CANDIDATE):
            fold.row(step, source, line)
        fold.last_t = max(fold.last_t, line.t)
    return fold.done()


class _Fold:
    """The mutable middle of `observe`."""

    def __init__(self, plan: Plan, state: State, slow_us: int | None) -> None:
        self.plan, self.state, self.slow_us = plan, state, slow_us
        self.limit = math.log(len(plan.guards) / plan.alpha)
        self.requests, self.first_t, self.last_t = dict(state.requests), dict(state.first_t), state.last_t
        self.seen = {CANDIDATE: state.candidate, STABLE: state.stable}
        self.ratios = {
            "errors": state.errors,
            "invalid": state.invalid,
            "slow": state.slow,
            "sample ratio": state.sample,
            "shadow errors": state.shadow_errors,
        }
        self.compared, self.flips = state.compared, state.flips
        self.open, self.units, self.struck = dict(state.open), set(state.units), dict(state.struck)
        self.alarm = state.alarm

    def done(self) -> State:
        if len(self.struck) > MOST_STRUCK:
            newest = sorted(self.struck.items(), key=lambda item: item[1])[-MOST_STRUCK:]
            self.struck = dict(newest)
        return State(
            requests=self.requests,
            first_t=self.first_t,
            last_t=self.last_t,
            candidate=self.seen[CANDIDATE],
            stable=self.seen[STABLE],
            errors=self.ratios["errors"],
            invalid=self.ratios["invalid"],
            slow=self.ratios["slow"],
            sample=self.ratios["sample ratio"],
            shadow_errors=self.ratios["shadow errors"],
            compared=self.compared,
            flips=self.flips,
            open=self.open,
            units=frozenset(self.units),
            struck=self.struck,
            alarm=self.alarm,
        )

    def shadow(self, step: int, line: Line) -> None:
        """A shadow's answer beside the real one. An error of the shadow alone is a discordant pair."""
        self.first_t.setdefault(step, line.t)
        self.requests[step] = self.requests.get(step, 0) + 1
        self.compared += 1
        is_bad, was_bad = line.st != 200, line.ls != 200
        if is_bad != was_bad:
            self._ratio("shadow errors", 0.5, is_candidate=is_bad)
        elif line.c is not None and line.lc is not None and line.c != line.lc:
            self.flips += 1
            if self.plan.flips is not None:
                self._mean("shadow flips", self.compared, self.flips, self.plan.flips)

    def row(self, step: int, source: str, line: Line) -> None:
        is_candidate = line.arm == CANDIDATE
        self.first_t.setdefault(step, line.t)
        if is_candidate:
            self.requests[step] = self.requests.get(step, 0) + 1
        self._sample(line, is_candidate)
        seen = self.seen[line.arm]
        failed, rejected, invalid = line.st >= 500, line.e == REJECTED, line.e == INVALID
        self.seen[line.arm] = seen = replace(
            seen,
            requests=seen.requests + 1,
            failed=seen.failed + failed,
            rejected=seen.rejected + rejected,
            invalid=seen.invalid + invalid,
        )
        if failed or rejected:
            self._bad(line, seen, is_candidate, "errors")
        if invalid:
            self._bad(line, seen, is_candidate, "invalid")
        self._batch(source, line, is_candidate)

    def _bad(self, line: Line, seen: Seen, is_candidate: bool, guard: str) -> None:
        minute, name = line.t // 60_000_000, f"{guard} {line.key}"
        if self.struck.get(name) != minute:
            self.struck[name] = minute
            self._ratio(guard, share_of(line), is_candidate=is_candidate)
        if is_candidate and guard == "errors" and line.st >= 500 and self.plan.errors is not None:
            self._mean("error share", seen.requests, seen.failed, self.plan.errors)
        if is_candidate and guard == "invalid" and self.plan.invalid is not None:
            self._mean("invalid share", seen.requests, seen.invalid, self.plan.invalid)

    def _sample(self, line: Line, is_candidate: bool) -> None:
        unit = hash_of(line.key)
        if unit in self.units or len(self.units) >= MOST_UNITS:
            return
        self.units.add(unit)
        self.ratios["sample ratio"] = events = self.ratios["sample ratio"].plus(
            share_of(line), is_candidate=is_candidate
        )
        if len(self.units) % SAMPLE_EVERY == 0 and log_ratio(events, 1.0, EITHER) >= self.limit:
            self.alarm = self.alarm or "sample ratio"

    def _batch(self, source: str, line: Line, is_candidate: bool) -> None:
        batch = self.open.get(source, Batch())
        if batch.number != line.b:
            self._close(batch)
            batch = Batch(number=line.b, share=share_of(line))
        batch = replace(batch, rows=batch.rows + 1)
        if line.st == 200:
            pick = (hash_of(line.id), line.us)
            if is_candidate:
                batch = replace(batch, candidate=min(batch.candidate or pick, pick))
            else:
                batch = replace(batch, stable=min(batch.stable or pick, pick))
        self.open[source] = batch

    def _close(self, batch: Batch) -> None:
        """Turn a whole batch into at most one event of the slow guard."""
        if self.slow_us is None or (batch.candidate is None and batch.stable is None):
            return
        slow = {}
        for arm, pick in ((CANDIDATE, batch.candidate), (STABLE, batch.stable)):
            if pick is not None:
                slow[arm] = pick[1] > self.slow_us
                seen = self.seen[arm]
                self.seen[arm] = replace(seen, picked=seen.picked + 1, slow=seen.slow + slow[arm])
        if len(slow) == 2:
            if slow[CANDIDATE] != slow[STABLE]:
                self._ratio("slow", 0.5, is_candidate=slow[CANDIDATE])
        elif any(slow.values()):
            # All n rows fell to one arm: given that, it was the candidate with this probability.
            ours, theirs = batch.share**batch.rows, (1.0 - batch.share) ** batch.rows
            if ours + theirs > 0.0:
                self._ratio("slow", ours / (ours + theirs), is_candidate=CANDIDATE in slow)

    def _ratio(self, guard: str, share: float, *, is_candidate: bool) -> None:
        self.ratios[guard] = events = self.ratios[guard].plus(share, is_candidate=is_candidate)
        if is_candidate and log_ratio(events, self.plan.ratio, WORSE) >= self.limit:
            self.alarm = self.alarm or guard

    def _mean(self, guard: str, count: int, events: int, limit: float) -> None:
        if log_mean(count, events, limit) >= self.limit:
            self.alarm = self.alarm or guard


def verdict(plan: Plan, step: int, state: State, *, waited_s: float, total_s: float) -> Verdict:
    """What follows from the counts at a step.

    Args:
        waited_s: how long the step has lasted; counts for steps given as a duration.
        total_s: how long the rollout has lasted; beyond the deadline it is held, never promoted.
    """
    if state.alarm:
        return Verdict("roll back", _alarm_text(plan, state))
    now = plan.steps[step]
    have, need = state.requests.get(step, 0), now.requests
    late = total_s > plan.deadline_s
    missing = ""
    if have < need:
        missing = f"{have} of {need} {'answers compared' if now.kind == 'shadow' else 'requests of the candidate'}"
    elif now.seconds and waited_s < now.seconds:
        missing = f"{waited_s:.0f} of {now.seconds:.0f} s"
    elif plan.steps[step + 1].kind == "full":
        missing = _unproved(plan, state)
    if missing and late:
        return Verdict("hold", f"inconclusive at the deadline of {plan.deadline_s:.0f} s: {missing}")
    if missing:
        return Verdict("wait", missing)
    if plan.steps[step + 1].kind == "full":
        return Verdict("promote", "every guard is proved or absent within its bound")
    return Verdict("advance", f"{now.text}: no alarm in {have} requests")


def _unproved(plan: Plan, state: State) -> str:
    """Why the candidate may not be promoted yet; empty if it may. Nothing to prove without a canary step."""
    if not any(step.kind == "canary" for step in plan.steps):
        return ""
    for guard, events, bad, count, base, base_count in _guards(state):
        if events.total >= plan.least_events:
            found = log_ratio(events, plan.margin_of(guard), BETTER)
            if found < -math.log(plan.beta):
                return (
                    f"{guard}: evidence {as_number(found):.2g} of {1 / plan.beta:.0f} that the candidate is "
                    f"below {plan.margin_of(guard):g} times the stable rate ({events.total} events)"
                )
            continue
        if guard == "slow" and count == 0:
            continue
        bound = upper_bound(bad, count, plan.beta)
        allowed = _allowed(plan, guard, base / base_count if base_count else 0.0)
        if bound >= allowed:
            return f"{guard}: {bad} of {count}, so at most {bound:.2%} ({1 - plan.beta:.0%}); {allowed:.2%} is allowed"
    return ""


def _guards(state: State) -> tuple[tuple[str, Shares, int, int, int, int], ...]:
    """Guard, its events, bad and all of the candidate, bad and all of the stable arm."""
    ours, theirs = state.candidate, state.stable
    return (
        (
            "errors",
            state.errors,
            ours.failed + ours.rejected,
            ours.requests,
            theirs.failed + theirs.rejected,
            theirs.requests,
        ),
        ("invalid", state.invalid, ours.invalid, ours.requests, theirs.invalid, theirs.requests),
        ("slow", state.slow, ours.slow, ours.picked, theirs.slow, theirs.picked),
    )


def _allowed(plan: Plan, guard: str, base: float) -> float:
    """The bound of a guard with too few events to prove: the policy's own limit, or what the stable arm does."""
    limits = {"errors": plan.errors, "invalid": plan.invalid, "slow": 1.0 - SLOW_QUANTILE}
    floor = limits.get(guard)
    return max(plan.absence if floor is None else floor, plan.margin_of(guard) * base)


def _alarm_text(plan: Plan, state: State) -> str:
    ours, theirs = state.candidate, state.stable
    bad, base = ours.failed + ours.rejected, theirs.failed + theirs.rejected
    texts = {
        "errors": f"errors: {bad} of {ours.requests} requests of the candidate, {base} of {theirs.requests} of stable",
        "invalid": f"invalid outputs: {ours.invalid} of {ours.requests}, stable {theirs.invalid} of {theirs.requests}",
        "slow": f"slow alone in {state.slow.candidate} batches, the stable release in {state.slow.stable}",
        "sample ratio": f"traffic did not split as planned: {state.sample.candidate} of {state.sample.total} keys",
        "shadow errors": f"the shadow failed on {state.shadow_errors.candidate} of {state.compared} answered requests",
        "shadow flips": f"the shadow's class differed in {state.flips} of {state.compared} answers",
        "error share": f"errors: {ours.failed} of {ours.requests} requests of the candidate",
        "invalid share": f"invalid outputs: {ours.invalid} of {ours.requests} requests of the candidate",
    }
    return f"{texts[state.alarm]}; evidence above {len(plan.guards) / plan.alpha:.0f} at level {plan.alpha:g}"


def evidence(plan: Plan, state: State, *, slow_us: int | None) -> dict[str, JSON]:
    """Counts, e-values and intervals at this moment, for the ledger and for people."""
    guards: dict[str, JSON] = {}
    for guard, events, bad, count, base, base_count in _guards(state):
        low, high = risk_interval(events, plan.alpha)
        guards[guard] = {
            "candidate_bad": bad,
            "candidate_n": count,
            "stable_bad": base,
            "stable_n": base_count,
            "events": events.total,
            "e_worse": as_number(log_ratio(events, plan.ratio, WORSE)),
            "e_not_worse": as_number(log_ratio(events, plan.margin_of(guard), BETTER)),
            "ratio_low": low,
            "ratio_high": high if math.isfinite(high) else None,
        }
    return {
        "requests": {str(step): count for step, count in sorted(state.requests.items())},
        "guards": guards,
        "sample_ratio": {
            "candidate": state.sample.candidate,
            "keys": state.sample.total,
            "e": as_number(log_ratio(state.sample, 1.0, EITHER)),
        },
        "shadow": {"compared": state.compared, "flips": state.flips, "failed": state.shadow_errors.candidate},
        "slow_us": slow_us,
        "alarm_at": len(plan.guards) / plan.alpha,
        "alarm": state.alarm,
    }


def frozen_slow_us(latencies_us: Iterable[int]) -> int | None:
    """The slow limit of a baseline: 1.25 times its 0.90-quantile; None for fewer than 200 requests."""
    found = sorted(latencies_us)
    if len(found) < SLOW_LEAST_ROWS:
        return None
    return int(SLOW_FACTOR * found[min(len(found) - 1, int(SLOW_QUANTILE * len(found)))])


def share_of(line: Line) -> float:
    """The candidate's probability: a line holds that of the arm that answered. Rounded, so that both arms agree."""
    return round(line.pi if line.arm == CANDIDATE else 1.0 - line.pi, 12)


def hash_of(text: str) -> int:
    """A number of a text, the same in every process: only to tell texts apart or pick one at random."""
    content = text.encode("utf-8", "surrogatepass")
    return (zlib.crc32(content) << 32 | zlib.adler32(content)) * 0x9E3779B97F4A7C15 % 2**64
