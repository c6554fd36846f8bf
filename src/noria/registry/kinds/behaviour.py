"""Whether a model behaves as any must, and as its policy declares: `behaviour = true`.

The tests are those of `noria test`, asked of the version and the holdout that are judged.
"""

from __future__ import annotations

from noria.config import BehaviourConfig
from noria.registry import behaviour
from noria.registry.evidence import Evidence
from noria.registry.facts import Verdict

__all__ = ["judge"]


def judge(evidence: Evidence) -> list[Verdict]:
    """A verdict for each test if the policy asks for them."""
    if not evidence.policy.behaviour:
        return []
    if evidence.predictor is None or evidence.roles is None:
        return [Verdict(gate="behaviour", passed=False, text="the model cannot be asked here")]
    subject = behaviour.Subject(
        predictor=evidence.predictor,
        holdout=evidence.sample.rows,
        roles=evidence.roles,
        declared=evidence.declared or BehaviourConfig(),
    )
    return [
        Verdict(gate=f"behaviour: {case.name}", passed=case.ok, text=case.text, n=len(evidence.sample.rows))
        for case in behaviour.cases(subject)
    ]
