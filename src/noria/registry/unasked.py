"""The verdict on a version for which no gate was asked: it says that, and holds what could be checked all the same.

A release needs a verdict to go on. One that is empty would say nothing, so this takes at least one check of
its caller, and adds the one rule that stands without being asked for: callers of the version that is live
must not be refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.governance import policy
from noria.packaging.bundle import read
from noria.registry import records
from noria.registry.facts import GateJudged, Verdict
from noria.registry.gates import policy_digest
from noria.registry.kinds.inputs import misfits
from noria.registry.records import VersionRecord
from noria.store.workspace import Workspace

__all__ = ["record"]


def record(ws: Workspace, version: VersionRecord, *, champion: int, verdicts: Sequence[Verdict]) -> GateJudged:
    """Append the verdict of a version by checks that its caller has made; every one must have passed.

    Args:
        champion: the version that is live (0: none); its callers' requests must be taken.
    """
    assert verdicts, "a verdict on nothing says nothing"
    rules = policy_digest(ws, version.model)
    found = list(verdicts)
    with ws.ledger.read() as tx:
        incumbent = records.version(tx, version.model, champion) if champion else None
    if incumbent is not None and policy.of(ws, version.model).config.gate.inputs == "same":
        before, after = read(ws, incumbent.bundle).signature.inputs, read(ws, version.bundle).signature.inputs
        wrong = misfits(before, after)
        text = f"requests to version {champion} would be refused: {'; '.join(wrong[:4])}" if wrong else ""
        fine = f"takes every request that version {champion} takes"
        found.append(Verdict(gate="inputs", passed=not wrong, text=text or fine, n=len(after)))
    judged = GateJudged(
        model=version.model,
        version=version.version,
        champion=champion,
        passed=all(verdict.passed for verdict in found),
        verdicts=tuple(found),
        policy=rules,
        report="",
        policy_from=policy.of(ws, version.model).origin,
    )
    with ws.ledger.transaction() as tx:
        tx.append(
            judged,
            inputs=[
                ("version", f"model/{version.ref}"),
                ("bundle", version.bundle),
                *((("champion", incumbent.bundle),) if incumbent is not None else ()),
            ],
            outputs=[("policy", rules)],
        )
    return judged
