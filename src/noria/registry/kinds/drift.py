"""Whether a model learned from what production receives now: `drift = { window = "28d" }`.

The comparison is that of monitoring, of the training data with the requests of late; the gate only counts. Where
nothing of the model is live there is nothing to differ from; where it is and there are too few requests, or a
column cannot be compared, the answer is no.
"""

from __future__ import annotations

from noria.config import DriftRule
from noria.registry.evidence import Differs, Evidence, Recent
from noria.registry.facts import Verdict

__all__ = ["judge"]

SHOWN = 4


def judge(evidence: Evidence) -> list[Verdict]:
    """One verdict if the policy asks for the comparison."""
    rule = evidence.policy.drift
    if rule is None:
        return []
    unknown = sorted(set(rule.ignore) - {column.name for column in evidence.inputs})
    if unknown and evidence.inputs:
        text = f"the rule ignores {', '.join(unknown)}, and the model has no such input"
        return [Verdict(gate="drift", passed=False, text=text)]
    if evidence.recent is None:
        return [Verdict(gate="drift", passed=False, text="what production receives is not known here")]
    return [_verdict(rule, evidence.recent())]


def _verdict(rule: DriftRule, recent: Recent) -> Verdict:
    if not recent.is_live:
        text = "nothing of this model is in production, so there are no requests to differ from"
        return Verdict(gate="drift", passed=True, text=text)
    if not recent.rows:
        text = "this model is live and had no request in the window, so nothing can be compared"
        return Verdict(gate="drift", passed=False, text=text, limit=float(rule.max_columns))
    window = f"the {recent.rows:,} requests from {recent.start[:16]} to {recent.end[:16]}"
    if recent.rows < rule.min_rows:
        text = f"{window} are too few to compare {recent.source} with (min_rows = {rule.min_rows})"
        return Verdict(gate="drift", passed=False, text=text, limit=float(rule.max_columns), n=recent.rows)
    counted = [each for each in recent.differing if each.column not in rule.ignore]
    if not recent.compared:
        text = f"no input of the model could be compared with {window}"
        return Verdict(gate="drift", passed=False, text=text, limit=float(rule.max_columns), n=recent.rows)
    worst = sorted(counted, key=lambda each: each.effect is not None and -each.effect)
    shown = ", ".join(_told(each) for each in worst[:SHOWN])
    rest = f" and {len(counted) - SHOWN} more" if len(counted) > SHOWN else ""
    inputs = f"{len(counted)} of {recent.compared} inputs" if counted else f"none of {recent.compared} inputs"
    text = f"{inputs} of {recent.source} differ{'' if len(counted) > 1 else 's'} from {window}"
    return Verdict(
        gate="drift",
        passed=len(counted) <= rule.max_columns,
        text=f"{text}: {shown}{rest}" if counted else text,
        value=float(len(counted)),
        limit=float(rule.max_columns),
        n=recent.rows,
    )


def _told(each: Differs) -> str:
    if each.effect is None or each.floor is None:
        return f"{each.column} ({each.reason})"
    return f"{each.column} ({each.reason} by {each.effect:.2f}, up to {each.floor:.2f} is ordinary)"
