"""No group of rows may pay for the mean: `slices = { auc = { max_drop = 0.03, min_rows = 300 } }`.

For every level of every declared slice with at least `min_rows` rows the challenger is compared
with the champion by the paired test. A slice says no when its drop is more than `max_drop` and
the drop is real: the interval, widened for the number of slices looked at (Bonferroni), excludes
zero. Without the second half, thirty honest small slices would refuse half of all good models.
"""

from __future__ import annotations

from collections.abc import Mapping

from noria.registry.evidence import Champion, Evidence
from noria.registry.facts import Verdict
from noria.registry.metrics import Metric, why_absent
from noria.registry.paired import Paired
from noria.registry.sliced import MIN_ROWS, compared, groups_by, widened

__all__ = ["MIN_ROWS", "judge"]


def judge(evidence: Evidence) -> list[Verdict]:
    """One verdict for each metric with a slice rule: the worst slice, and how many were looked at."""
    found = []
    for name, rule in evidence.policy.slices.items():
        gate = f"slices {name}"
        metric = evidence.metrics.get(name)
        absent = [column for column in evidence.slices if column not in evidence.sample.rows.columns]
        if metric is None:
            text = why_absent(name, evidence.metrics, evidence.sample.task)
            found.append(Verdict(gate=gate, passed=False, text=text))
        elif absent:
            text = f"the holdout has no column {absent[0]}, which the model declares as a slice"
            found.append(Verdict(gate=gate, passed=False, text=text))
        elif not evidence.slices:
            text = "the policy bounds slices, and the model declares none: nr.model(…, slices=[…])"
            found.append(Verdict(gate=gate, passed=False, text=text))
        elif evidence.champion is None:
            text = "no champion: compared with nothing"
            found.append(Verdict(gate=gate, passed=True, text=text, n=len(evidence.sample.y)))
        else:
            found.append(_worst(gate, metric, rule, evidence, evidence.champion))
    return found


def _worst(gate: str, metric: Metric, rule: Mapping[str, float], evidence: Evidence, champion: Champion) -> Verdict:
    max_drop, min_rows = rule.get("max_drop", 0.0), int(rule.get("min_rows", MIN_ROWS))
    tested = _tested(metric, min_rows, evidence, champion)
    defined = [(place, paired) for place, paired in tested if paired.is_defined]
    undefined = len(tested) - len(defined)
    if not defined:
        text = f"no slice has {min_rows} rows on which {metric.name} is defined; nothing could be compared"
        return Verdict(gate=gate, passed=False, text=text, limit=-max_drop)
    failing = [(place, paired) for place, paired in defined if paired.gain < -max_drop and paired.high < 0]
    place, worst = min(failing or defined, key=lambda item: item[1].gain)
    note = f", {undefined} undefined" if undefined else ""
    head = "worst slice" if worst.gain < 0 else "no slice is worse than the champion's, the closest"
    text = (
        f"{head} {place}: {metric.name} {worst.challenger:.4f} ({worst.gain:+.4f} "
        f"[{worst.low:+.4f}, {worst.high:+.4f}], n {worst.n:,}), max drop {max_drop:.4g}; "
        f"{len(failing)} of {len(defined)} slices fail{note}"
    )
    return Verdict(
        gate=gate,
        passed=not failing,
        text=text,
        value=worst.challenger,
        limit=-max_drop,
        champion=worst.champion,
        gain=worst.gain,
        low=worst.low,
        high=worst.high,
        n=worst.n,
    )


def _tested(metric: Metric, min_rows: int, evidence: Evidence, champion: Champion) -> list[tuple[str, Paired]]:
    groups = [each for each in groups_by(evidence.sample, evidence.slices) if each.n >= max(min_rows, 1)]
    level = widened(evidence.policy.level, len(groups))
    found = compared(metric, evidence.sample, champion, groups, level=level, blocks=evidence.blocks)
    return [(f"{group.column}={group.level}", paired) for group, paired in zip(groups, found, strict=True)]
