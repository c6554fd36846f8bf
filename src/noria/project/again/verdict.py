"""The verdict: every output of a run beside that of its repetition, and the signed document that says so."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from noria.core.clock import utc_text
from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.pipeline.facts import item_name
from noria.project.again.causes import Cause
from noria.store.envelope import opened, seal
from noria.store.workspace import Workspace
from noria.tracking import records as tracking
from noria.tracking.facts import RunReproduced
from noria.tracking.records import ReproductionRecord

__all__ = [
    "DIFFERENT",
    "FAILED",
    "IDENTICAL",
    "IMPOSSIBLE",
    "NOTED",
    "TOLERATED",
    "OutputVerdict",
    "StepVerdict",
    "put",
    "read",
]

IDENTICAL, TOLERATED, DIFFERENT, FAILED, IMPOSSIBLE = "identical", "tolerated", "different", "failed", "impossible"
NOTED = "noted"
"""It differs, which is told and decides nothing."""
MEDIA_TYPE = "application/vnd.noria.reproduction+json"
FORMAT = "reproduction/1"
_WORSE = (NOTED, IDENTICAL, TOLERATED, DIFFERENT, FAILED)


@frozen(kw_only=True)
class OutputVerdict:
    """One output: its digest then and now, whether identical, tolerated, different or noted; how, in words.

    `largest` is the largest distance of two numbers in it, relative (absolute below 1).
    """

    name: str
    verdict: str
    then: str
    now: str
    text: str = ""
    largest: float = 0.0


@frozen(kw_only=True)
class StepVerdict:
    """One step (or the model, or the metrics): the worst of its outputs' verdicts; failed if it did not end.

    `item` is the first item of a mapped step that came out otherwise, or failed; None if that is not known.
    """

    step: str
    verdict: str
    outputs: tuple[OutputVerdict, ...]
    seconds: float = 0.0
    tolerance: float = 0.0
    text: str = ""
    item: int | None = None

    @property
    def place(self) -> str:
        """Where it came out otherwise: the step, or the item of it (score.17)."""
        return self.step if self.item is None else item_name(self.step, self.item)


def worst(verdicts: Sequence[str]) -> str:
    """The worst of some verdicts; identical for none, or if the others are only noted."""
    return max([IDENTICAL, *verdicts], key=_WORSE.index)


def put(
    ws: Workspace,
    *,
    run: str,
    verdict: str,
    environment: str,
    seconds: float,
    step: str,
    causes: Sequence[Cause],
    told: Mapping[str, JSON],
) -> tuple[str, int]:
    """Sign the document, store it, and put the verdict on record. Gives its digest and the number of the fact."""
    document: dict[str, JSON] = {
        "format": FORMAT,
        "run": f"run/{run}",
        "verdict": verdict,
        "environment": environment,
        "step": step,
        "causes": [asdict(cause) for cause in causes],
        "noria": importlib.metadata.version("noria"),
        "at": utc_text(ws.clock.now()),
        **told,
    }
    digest = ws.objects.put_json(seal(ws.ledger.signer, MEDIA_TYPE, document))
    payload = RunReproduced(
        run=run,
        verdict=verdict,
        document=digest,
        environment=environment,
        step=step,
        kind=causes[0].kind if causes else "",
        seconds=round(seconds, 6),
    )
    with ws.ledger.transaction() as tx:
        stored = tx.append(payload, inputs=[("run", f"run/{run}")], outputs=[("verdict", digest)])
    return digest, stored.seq


def read(ws: Workspace, run: str) -> tuple[ReproductionRecord, Mapping[str, Any]]:
    """The newest verdict on a run, with its document, whose signature is checked. Raises: NotFound; Tampered."""
    with ws.ledger.read() as tx:
        found = tracking.reproductions(tx, run)
    if not found:
        raise NotFound(f"{run} was never done again", hint=f"noria reproduce {run}")
    document = opened(ws.objects.get_json(found[0].document), ws.ledger.signer.verifier, MEDIA_TYPE)
    return found[0], document
