"""No group may be treated far worse: `fairness = { group = "age_band", equal_opportunity = 0.8 }`.

A measure is the ratio of the lowest to the highest rate over the groups, or with `_difference` behind its name the
highest less the lowest. The limit is one of the value on these rows, as `min` and `max` of a metric are; with
`proven = true` the worse end of the interval must keep it as well. A group of too few rows is named, never judged,
and where fewer than two are left the answer is no.
"""

from __future__ import annotations

import math

from noria.config import FairnessRule
from noria.core.lazy import lazy
from noria.registry.evidence import Champion, Evidence
from noria.registry.facts import Verdict
from noria.registry.groups import Gap, Group, gap_of, groups_of
from noria.registry.scored import Sample

np = lazy("numpy")

__all__ = ["judge"]

_NAMES = {"called": "called positive", "hits": "positives found", "false_alarms": "negatives called positive"}
MAX_NAMED = 3


def judge(evidence: Evidence) -> list[Verdict]:
    """One verdict for each group column and measure with a limit."""
    rule, sample = evidence.policy.fairness, evidence.sample
    if rule is None:
        return []
    found: list[Verdict] = []
    for column in rule.group:
        gate = f"fairness {column}"
        if sample.task != "binary":
            text = f"rates by group are of binary models, and this one is {sample.task}"
            found.append(Verdict(gate=gate, passed=False, text=text))
        elif column not in sample.rows.columns:
            text = f"the holdout has no column {column}, whose groups the policy compares"
            found.append(Verdict(gate=gate, passed=False, text=text))
        elif not (np.isfinite(sample.score).all() and np.isfinite(sample.y).all()):
            found.append(Verdict(gate=gate, passed=False, text="scores or labels are not finite"))
        else:
            groups = groups_of(sample, column)
            for name, limit in rule.limits().items():
                found.append(_judged(gate, name, limit, rule, groups, evidence))
    return found


def _judged(gate: str, name: str, limit: float, rule: FairnessRule, groups: list[Group], evidence: Evidence) -> Verdict:
    measure, is_difference = name.removesuffix("_difference"), name.endswith("_difference")
    level = evidence.policy.level
    gap = gap_of(groups, measure, is_difference=is_difference, min_rows=rule.min_rows, level=level)
    bound = f"{'max' if is_difference else 'min'} {limit:.4g}"
    if not math.isfinite(gap.value) or gap.lower is None or gap.higher is None:
        text = f"{name} is undefined: {_why(gap, rule.min_rows)}; {bound}"
        return Verdict(gate=gate, passed=False, text=text, limit=limit, n=len(evidence.sample.y))
    ends = [gap.value, *([gap.high if is_difference else gap.low] if rule.proven else [])]
    passed = all(end <= limit if is_difference else end >= limit for end in ends)
    text = (
        f"{name} {gap.value:.3f} {level:.0%} [{gap.low:.3f}, {gap.high:.3f}], {bound}"
        f"{' by the interval' if rule.proven else ''}: {_rate(gap, gap.lower)} against {_rate(gap, gap.higher)} "
        f"({_NAMES[gap.rate]}); {gap.compared} groups{_left_out(gap, rule.min_rows)}"
    )
    return Verdict(
        gate=gate,
        passed=passed,
        text=text,
        value=gap.value,
        limit=limit,
        champion=_of_champion(evidence.champion, evidence.sample, gap.lower.column, name, rule),
        low=gap.low,
        high=gap.high,
        n=len(evidence.sample.y),
    )


def _of_champion(champion: Champion | None, sample: Sample, column: str, name: str, rule: FairnessRule) -> float | None:
    """What the champion's own gap is on these rows, to compare with; it decides nothing."""
    if champion is None:
        return None
    own = Sample(sample.rows, sample.y, champion.score, champion.threshold, sample.task)
    gap = gap_of(
        groups_of(own, column),
        name.removesuffix("_difference"),
        is_difference=name.endswith("_difference"),
        min_rows=rule.min_rows,
    )
    return gap.value if math.isfinite(gap.value) else None


def _rate(gap: Gap, group: Group) -> str:
    share = getattr(group, gap.rate)
    return f"{group.level} {share.value:.1%} of {share.trials:,}"


def _why(gap: Gap, min_rows: int) -> str:
    if gap.compared < 2:
        few = f"{gap.compared} of {gap.compared + len(gap.left_out)} groups have {min_rows} rows of {_of(gap.rate)}"
        return few + _left_out(gap, min_rows)
    return f"no group has any of {_NAMES[gap.rate]}"


def _of(rate: str) -> str:
    return {"called": "any label", "hits": "the positive label", "false_alarms": "the negative label"}[rate]


def _left_out(gap: Gap, min_rows: int) -> str:
    if not gap.left_out:
        return ""
    named = ", ".join(f"{each.level} ({getattr(each, gap.rate).trials})" for each in gap.left_out[:MAX_NAMED])
    more = f" and {len(gap.left_out) - MAX_NAMED} more" if len(gap.left_out) > MAX_NAMED else ""
    return f", not judged for fewer than {min_rows}: {named}{more}"
