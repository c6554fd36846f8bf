"""Why a logged prediction got its score: its columns' parts of it, computed when somebody asks, never while serving.

The model of the release that answered is loaded by the rules of this moment and asked about the logged row against
the golden rows of its bundle: 64 rows of the holdout that it was judged on, evenly spread, in the form that the model
takes. They are kept with the model for ever, while the data that it learned from may be dropped or erased, and are
often of another form than what its steps made of them; and their scores are on record, so the base can be checked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from noria.core.errors import Corrupt, Denied, ModelFailed, NotFound, UsageError
from noria.packaging import bundle as bundles
from noria.project.chain import Link
from noria.registry import attribution
from noria.registry.attribution import Attribution
from noria.store.workspace import Workspace

__all__ = ["link"]

WORDS = 4
"""Columns that the sentence names; all are in the details."""
SAME = 1e-6


def link(ws: Workspace, bundle: str, model: str, found: Mapping[str, Any]) -> list[Link]:
    """The attribution of a logged prediction, or why there is none; nothing for a request that got no score.

    Args:
        bundle: the digest of the bundle that answered; `model` names its version (`churn:3`).
        found: the logged line, with the row as `x` and the score as `y`.
    """
    if found["y"] is None or not isinstance(found["x"], Mapping):
        return []
    try:
        predictor = bundles.load(ws, bundle)
        row = {field.name: found["x"].get(field.name) for field in predictor.rows.fields}
        made = attribution.attribute(predictor, row, predictor.bundle.golden_rows)
    except (Corrupt, Denied, ModelFailed, NotFound, UsageError) as error:
        return [Link(what="attribution", ref=f"model/{model}", text=f"not computed: {error.message}")]
    return [Link(what="attribution", ref=f"model/{model}", text=_told(made, float(found["y"])), details=_details(made))]


def _told(made: Attribution, logged: float) -> str:
    parts = [f"{part.column} {part.adds:+.4f}" for part in made.parts[:WORDS]]
    rest = made.parts[WORDS:]
    if rest:
        parts.append(f"{len(rest)} more {math.fsum(part.adds for part in rest):+.4f}")
    text = f"score {made.score:.4f} = {made.base:.4f} (mean of {made.background} rows) {', '.join(parts)}"
    if not math.isclose(made.score, logged, rel_tol=SAME, abs_tol=SAME):
        text += f"; the log says {logged:.4f}: the model answers otherwise here"
    return text


def _details(made: Attribution) -> dict[str, Any]:
    how = "exact" if made.is_exact else f"sampled, {made.asked:,} answers"
    return {
        "score": made.score,
        "base": made.base,
        "background": f"{made.background} golden rows of the bundle",
        "method": f"Shapley values, {how}",
        "columns": [
            {
                "column": part.column,
                "value": part.value,
                "adds": part.adds,
                "error": None if made.is_exact else part.error,
            }
            for part in made.parts
        ],
    }
