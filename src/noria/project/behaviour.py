"""What a model must do that was just trained: its loss is finite, it beats the best constant, it answers the same
after it was saved and loaded, its holdout is none of what it saw, and what is asked of any model.

Asked of a model as servers ask it, by rows; the tests of any model are those of `noria.registry.behaviour`, which
the gates ask too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.registry import behaviour
from noria.registry.behaviour import Broken, Case, ask, rows_of
from noria.registry.scored import score
from noria.serving.loading import prove

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
else:
    np, pd = lazy("numpy"), lazy("pandas")
stats = lazy("scipy.stats")

__all__ = ["Subject", "cases"]

DOUBT = 0.05


@frozen(kw_only=True)
class Subject(behaviour.Subject):
    """The same, with the labelled tables that the model was trained on."""

    training: Sequence[pd.DataFrame]


def cases(subject: Subject) -> list[Case]:
    """Every test of a model, in order. A test that cannot be done says no."""
    rows = rows_of(subject)
    trained = (("finite loss", _finite), ("beats the dummy", _beats_dummy), ("saved, loaded, the same", _reloads))
    found = [ask("training", name, test, subject, rows) for name, test in trained]
    found += behaviour.cases(subject)
    return [*found, ask("behaviour", "holdout apart from training", _holdout_apart, subject, rows)]


def _finite(subject: Subject, rows: list[dict[str, Any]]) -> str:
    sample = score(subject.predictor, subject.holdout, subject.roles.label)
    bad = int((~np.isfinite(sample.score)).sum())
    if bad:
        raise Broken(f"{bad} of {len(sample.score)} scores of the holdout are not finite")
    loss = _loss(sample.task, sample.y, sample.score)
    if not math.isfinite(loss):
        raise Broken("its loss on the holdout is not finite")
    return f"loss {loss:.4g} on {len(sample.y)} rows"


def _beats_dummy(subject: Subject, rows: list[dict[str, Any]]) -> str:
    """Lower loss than the best constant, or a ranking that chance does not give (one-sided, 5 %)."""
    sample = score(subject.predictor, subject.holdout, subject.roles.label)
    constant = np.full(len(sample.y), float(np.mean(sample.y)))
    own, dummy = _loss(sample.task, sample.y, sample.score), _loss(sample.task, sample.y, constant)
    told = f"loss {own:.4g}, the best constant {dummy:.4g}"
    if own < dummy:
        return told
    if sample.task == "binary":
        positive, negative = sample.score[sample.y == 1], sample.score[sample.y == 0]
        if not len(positive) or not len(negative):
            raise Broken(f"{told}; the holdout has one class only, so nothing else can be said")
        doubt = float(stats.mannwhitneyu(positive, negative, alternative="greater").pvalue)
    else:
        doubt = float(stats.spearmanr(sample.score, sample.y, alternative="greater").pvalue)
    if not doubt < DOUBT:
        raise Broken(f"{told}; and its ranking may be chance (p = {doubt:.2g})")
    return f"{told}; but its ranking is better than chance (p = {doubt:.2g})"


def _reloads(subject: Subject, rows: list[dict[str, Any]]) -> str:
    return f"{prove(subject.predictor)} golden rows, in another process than the one that trained it"


def _holdout_apart(subject: Subject, rows: list[dict[str, Any]]) -> str:
    """No row of the holdout, by its key or by all its values, is among those that it was trained on."""
    if not subject.training:
        raise Broken("no table with the label is known that it was trained on, so nothing can be compared")
    key, holdout = subject.roles.key, subject.holdout
    for table in subject.training:
        shared = [name for name in holdout.columns if name in table.columns]
        if key and key in shared:
            known = set(table[key].dropna().tolist())
            both = int(holdout[key].isin(known).sum())
            how = f"by their key {key}"
        else:
            known = set(pd.util.hash_pandas_object(table[shared], index=False).tolist())
            both = int(pd.util.hash_pandas_object(holdout[shared], index=False).isin(known).sum())
            both, how = (both if both > len(holdout) // 100 else 0), "by all their values"
        if both:
            raise Broken(f"{both} of {len(holdout)} rows of the holdout were trained on, {how}")
    return f"{len(holdout)} rows, none of them trained on"


def _loss(task: str, y: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> float:
    """Log loss of probabilities (kept from 0 and 1 by 1e-15), or the mean squared error."""
    if task != "binary":
        return float(np.mean((y - found) ** 2))
    kept = np.clip(found, 1e-15, 1 - 1e-15)
    return float(-np.mean(y * np.log(kept) + (1 - y) * np.log(1 - kept)))
