"""What an evaluation tells beside metrics: calls at the threshold, rows that flipped, importance, dependence.

Nothing of it decides, so nothing of it may close a gate or end a run: a section that cannot be computed (one class,
a model that raises on rows put together from others) is there with its reason. The same version and data give the
same numbers; the rows that the model is asked about are bounded, and a model that is too slow for them is not asked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from noria.core.errors import NoriaError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.printable import error_line, first_line
from noria.packaging.predictor import Predictor
from noria.registry import dependence, importance
from noria.registry.asking import Asked
from noria.registry.confusion import Confusion, Residuals, confusion_of, residuals_of
from noria.registry.dependence import Curve, Dependence
from noria.registry.evidence import Champion
from noria.registry.flips import Flips, flips_of
from noria.registry.importance import Importance
from noria.registry.metrics import Metric
from noria.registry.scored import HasRoles, Sample

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["Insights", "look"]

POOL_MAX = 10_000
"""Rows of the holdout that columns are described by."""
SECONDS_MAX = 20.0
"""How long the questions to a model may take, as the first of them goes, before they are left out."""
REASON_MAX = 200
_SAME = 1e-6
"""How far a score may be from the one before: float32 sums differ with the rows beside them."""

S = TypeVar("S")


@frozen(kw_only=True)
class Insights:
    """The sections of an evaluation beside its metrics. None is one that does not apply, such as flips without a
    champion; one with a `reason` applies and could not be computed.
    """

    confusion: Confusion | None = None
    champion_confusion: Confusion | None = None
    residuals: Residuals | None = None
    champion_residuals: Residuals | None = None
    flips: Flips | None = None
    importance: Importance | None = None
    dependence: Dependence | None = None


def look(
    predictor: Predictor,
    sample: Sample,
    metrics: Mapping[str, Metric],
    *,
    holdout: pd.DataFrame,
    roles: HasRoles,
    champion: Champion | None = None,
    level: float = 0.95,
    clock: Callable[[], float],
) -> Insights:
    """Every section that applies to a sample of a holdout. Does not raise for what a model or its data do.

    Args:
        holdout: the rows that the sample was scored from, to say where a row is.
        clock: seconds; only a model that takes too long is told by it.
    """
    weights, curves = _asked(predictor, sample, metrics, level, clock)
    found = Insights(importance=weights, dependence=curves)
    if champion is not None:
        found = replace(found, flips=_section(Flips, lambda: _flips(sample, champion, holdout, roles, level)))
    scored = [("", sample.score, sample.threshold)]
    scored += [("champion_", champion.score, champion.threshold)] if champion is not None else []
    parts: dict[str, Any] = {}
    for whose, scores, threshold in scored:
        if sample.task == "binary":
            act = partial(confusion_of, sample.y, scores, threshold, level)
            parts[f"{whose}confusion"] = _section(Confusion, act)
        else:
            parts[f"{whose}residuals"] = _section(Residuals, partial(residuals_of, sample.y, scores, level))
    return replace(found, **parts)


def _flips(sample: Sample, champion: Champion, holdout: pd.DataFrame, roles: HasRoles, level: float) -> Flips:
    places = np.flatnonzero(holdout[roles.label].notna().to_numpy()).tolist()
    return flips_of(sample, champion, places=places, key=roles.key, level=level)


def _asked(
    predictor: Predictor, sample: Sample, metrics: Mapping[str, Metric], level: float, clock: Callable[[], float]
) -> tuple[Importance, Dependence]:
    """The two sections for which the model is asked about rows that are put together."""
    made: Asked | None = None
    try:
        made, pool = _pool(predictor, sample)
        _require_quick(made, sample, pool, clock)
    except Exception as error:  # noqa: BLE001  # the boundary of the project's model: the report says what it raised
        reason = _reason(error)
        return Importance(reason=reason), Dependence(reason=reason)
    weights = _section(Importance, lambda: _importance(made, sample, pool, metrics, level))
    names = [weight.column for weight in weights.weights] or list(made.names)
    return weights, _section(Dependence, lambda: _dependence(made, predictor, names[: dependence.COLUMNS_SHOWN]))


def _pool(predictor: Predictor, sample: Sample) -> tuple[Asked, Any]:
    """The rows that are asked about, in a seeded order: any beginning of them is a sample of the holdout."""
    count = len(sample.y)
    if not count:
        raise ValueError("there is no labelled row")
    pool = np.random.default_rng(0).permutation(count)[:POOL_MAX]
    return Asked(predictor, sample.rows.iloc[pool].reset_index(drop=True)), pool


def _require_quick(asked: Asked, sample: Sample, pool: Any, clock: Callable[[], float]) -> None:
    """Raises: ValueError for a model that scores these rows otherwise than before, or that is too slow to be asked."""
    rows = min(len(pool), importance.ROWS_MAX)
    known = sample.score[pool[:rows]]
    seconds = _seconds(asked, rows, known, clock)
    if seconds > SECONDS_MAX:
        seconds = _seconds(asked, rows, known, clock)  # the first answers of some libraries take long, and no others
    if seconds > SECONDS_MAX:
        raise ValueError(f"asking the model would take about {seconds:.0f} s, which is more than {SECONDS_MAX:.0f} s")


def _seconds(asked: Asked, rows: int, known: Any, clock: Callable[[], float]) -> float:
    """How long all questions would take, as the answers for so many rows go. Raises: ValueError if they differ."""
    start = clock()
    found = _quietly(lambda: asked.scores(rows, lambda name, low, high: np.arange(low, high)))
    took = clock() - start
    if not np.allclose(found, known, rtol=_SAME, atol=_SAME):
        apart = float(np.abs(found - known).max())
        raise ValueError(f"the model scores a row otherwise beside other rows, by up to {apart:.3g}")
    count, repeats, columns = importance.size_for(len(asked.frame), len(asked.names))
    points = dependence.COLUMNS_SHOWN * dependence.POINTS * min(len(asked.frame), dependence.ROWS_MAX)
    return took * (count * repeats * columns + points) / rows


def _importance(asked: Asked, sample: Sample, pool: Any, metrics: Mapping[str, Metric], level: float) -> Importance:
    rows, repeats, columns = importance.size_for(len(pool), len(asked.names))
    return importance.importance_of(
        asked,
        sample.y[pool[:rows]],
        importance.metric_for(metrics, sample.task),
        importance.orders(rows, repeats),
        columns=asked.names[:columns],
        threshold=sample.threshold,
        level=level,
    )


def _dependence(asked: Asked, predictor: Predictor, names: list[str]) -> Dependence:
    kinds = {column.name: column.type for column in predictor.signature.inputs}
    rows = min(len(asked.frame), dependence.ROWS_MAX)
    grids, refused = [], {}
    for name in names:
        try:
            grids.append((name, dependence.grid_of(asked.frame[name], kinds[name])))
        except (TypeError, ValueError) as error:
            refused[name] = _reason(error)
    mean, curves = dependence.curves_of(asked, grids, rows)
    found = {curve.column: curve for curve in curves}
    shown = [found[name] if name in found else Curve(column=name, reason=refused[name]) for name in names]
    return Dependence(n=rows, mean=mean, curves=tuple(shown))


def _section(kind: Callable[..., S], act: Callable[[], S]) -> S:
    """A section, or an empty one that says why."""
    try:
        return _quietly(act)
    except Exception as error:  # noqa: BLE001  # the boundary of the project's model and data: the report says it
        return kind(reason=_reason(error))


def _quietly(act: Callable[[], S]) -> S:
    """What the model's library has to say of rows that nobody sent is not said to who trains."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return act()


def _reason(error: Exception) -> str:
    if isinstance(error, NoriaError):
        return error.message[:REASON_MAX]
    said = first_line(error, REASON_MAX) if isinstance(error, ValueError) else ""
    return said or error_line(error, REASON_MAX)
