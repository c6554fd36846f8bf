"""What callers send: `inputs = "same"`, the default, closes the gate to a version that would refuse it.

While a rollout is under way one stream of requests is answered by two versions, so the candidate
must take each request that the champion takes. Without this rule such a candidate passes on its
scores, and fails in the shadow on every request.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.schema import Column
from noria.registry.evidence import Evidence
from noria.registry.facts import Verdict

__all__ = ["judge", "misfits"]

_WAY = 'if the callers change with it: inputs = "any" in the gate and path = ["100%"] in deploy'
_WIDER = {("int64", "float64"), ("int64", "decimal"), ("float64", "decimal"), ("category", "text")}
"""(what the champion takes, what the candidate may take instead)."""


def judge(evidence: Evidence) -> list[Verdict]:
    """One verdict if there is a champion: every request that it takes, the candidate takes too."""
    if evidence.policy.inputs == "any" or evidence.champion is None:
        return []
    wrong = misfits(evidence.champion.inputs, evidence.inputs)
    if wrong:
        text = f"requests to version {evidence.champion.version} would be refused: {'; '.join(wrong[:4])}"
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        return [Verdict(gate="inputs", passed=False, text=f"{text}{more} ({_WAY})")]
    text = f"takes every request that version {evidence.champion.version} takes"
    return [Verdict(gate="inputs", passed=True, text=text, n=len(evidence.inputs))]


def misfits(before: Sequence[Column], after: Sequence[Column]) -> list[str]:
    """Why requests of the columns `before` would be refused by a model that takes `after`; empty if none would."""
    old, new = ({column.name: column for column in columns} for columns in (before, after))
    found = []
    added, gone = [name for name in new if name not in old], [name for name in old if name not in new]
    if added:
        found.append(f"it needs {_listed(added)}, which they do not hold")
    if gone:
        found.append(f"it knows no {_listed(gone)}, which they hold")
    for name in (name for name in old if name in new):
        one, other = old[name], new[name]
        if one.type != other.type and (one.type, other.type) not in _WIDER:
            found.append(f"{name} was {one.type} and is {other.type}")
        elif one.nullable and not other.nullable:
            found.append(f"{name} may no longer be null")
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
