"""How good a model is on a holdout: metrics with intervals, slices, curves; kept for ever as JSON and HTML.

An evaluation is computed from labels and scores alone and names the data it was computed on, so a
reader can compute every figure again. It decides nothing: that is what gates are for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.packaging.predictor import Predictor
from noria.registry import report
from noria.registry.groups import Group, groups_of
from noria.registry.insights import Insights
from noria.registry.levels import levels_of
from noria.registry.metrics import METRICS, CustomMetric, Measure, Metric, as_value, measure, resolve
from noria.registry.scored import HasRoles, Sample, score
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Array: TypeAlias = npt.NDArray[np.float64]
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["Curves", "Evaluation", "Slice", "evaluate", "measured", "store"]

ROC_POINTS = 128
BINS = 10


@frozen(kw_only=True)
class Slice:
    """The metrics of the rows where `column` is `level`."""

    column: str
    level: str
    n: int
    positives: int
    metrics: Mapping[str, float | None]
    champion: Mapping[str, float | None]


@frozen(kw_only=True)
class Curves:
    """Points to draw: ROC (fpr, tpr), calibration (mean score, observed share, n), score histograms by class.

    For a regression: only `histogram`, of the residuals, in the first class.
    """

    roc: tuple[tuple[float, float], ...] = ()
    champion_roc: tuple[tuple[float, float], ...] = ()
    calibration: tuple[tuple[float, float, int], ...] = ()
    edges: tuple[float, ...] = ()
    negative: tuple[int, ...] = ()
    positive: tuple[int, ...] = ()


@frozen(kw_only=True)
class Evaluation:
    """Everything a holdout says of a model. `document` and `report` are the digests of its JSON and HTML.

    `data` says what it was computed on: the holdout's digest, pins, times. `champion` holds the
    champion's measures on the same rows, empty if there was none. `groups` are those that a rule of fairness compares.
    `insights` are None where only scores were given, no model to ask.
    """

    task: str
    n: int
    unlabelled: int
    positives: int
    threshold: float
    level: float
    metrics: Mapping[str, Measure]
    champion: Mapping[str, Measure]
    slices: tuple[Slice, ...]
    curves: Curves
    data: Mapping[str, Any]
    groups: tuple[Group, ...] = ()
    insights: Insights | None = None
    title: str = ""
    document: str = ""
    report: str = ""

    def values(self) -> dict[str, float]:
        """The finite metric values by name, as a version keeps them."""
        return {name: item.value for name, item in self.metrics.items() if item.value is not None}


def evaluate(
    ws: Workspace,
    predictor: Predictor,
    holdout: pd.DataFrame,
    *,
    roles: HasRoles,
    metrics: Iterable[str | CustomMetric] = ("auc", "log_loss"),
    slices: Sequence[str] = (),
    champion: Predictor | None = None,
    data: Mapping[str, Any] | None = None,
    title: str = "",
    level: float = 0.95,
) -> Evaluation:
    """Score a holdout, measure it, and store the evaluation as JSON and as one HTML file.

    Raises: UsageError for an unknown metric or label column; ModelFailed if the model fails.
    """
    sample = score(predictor, holdout, roles.label)
    other = champion.predict(sample.rows) if champion is not None else None
    found = measured(
        sample,
        resolve(metrics, sample.task),
        slices=slices,
        champion=other,
        champion_threshold=champion.threshold if champion is not None else 0.5,
        data={"bundle": predictor.bundle.digest, **(data or {})},
        title=title,
        level=level,
    )
    return store(ws, found)


def store(ws: Workspace, evaluation: Evaluation, verdicts: Sequence[Any] = ()) -> Evaluation:
    """The same evaluation with its JSON document and its HTML report, verdicts in both, in the object store."""
    document = _document(evaluation, verdicts)
    page = report.render(document).encode("utf-8")
    return dataclasses.replace(evaluation, document=ws.objects.put_json(document), report=ws.objects.put_bytes(page))


def measured(
    sample: Sample,
    metrics: Mapping[str, Metric],
    *,
    slices: Sequence[str] = (),
    champion: Array | None = None,
    champion_threshold: float = 0.5,
    data: Mapping[str, Any] | None = None,
    title: str = "",
    level: float = 0.95,
    groups: Sequence[str] = (),
) -> Evaluation:
    """The evaluation of a scored sample. Pure."""

    def all_of(scores: Array, threshold: float) -> dict[str, Measure]:
        return {
            name: measure(metric, sample.y, scores, threshold=threshold, level=level, rows=sample.rows)
            for name, metric in metrics.items()
        }

    parts = []
    for column in slices:
        if column in sample.rows.columns:
            for name, mask in levels_of(sample.rows[column]):
                parts.append(_slice(column, name, mask, sample, metrics, champion, champion_threshold))
    is_binary = sample.task == "binary"
    return Evaluation(
        task=sample.task,
        n=len(sample.y),
        unlabelled=sample.unlabelled,
        positives=int((sample.y == 1).sum()) if is_binary else 0,
        threshold=sample.threshold,
        level=level,
        metrics=all_of(sample.score, sample.threshold),
        champion={} if champion is None else all_of(champion, champion_threshold),
        slices=tuple(parts),
        curves=_curves(sample, champion),
        groups=tuple(
            group
            for column in groups
            if is_binary and column in sample.rows.columns
            for group in groups_of(sample, column, level)
        ),
        data=dict(data or {}),
        title=title,
    )


def _slice(
    column: str,
    name: str,
    mask: npt.NDArray[np.bool_],
    sample: Sample,
    metrics: Mapping[str, Metric],
    champion: Array | None,
    champion_threshold: float,
) -> Slice:
    y, rows = sample.y[mask], sample.rows[mask]

    def values(scores: Array, threshold: float) -> dict[str, float | None]:
        return {
            key: as_value(metric.of(y, scores[mask], threshold=threshold, rows=rows)) for key, metric in metrics.items()
        }

    return Slice(
        column=column,
        level=name,
        n=int(mask.sum()),
        positives=int((y == 1).sum()) if sample.task == "binary" else 0,
        metrics=values(sample.score, sample.threshold),
        champion={} if champion is None else values(champion, champion_threshold),
    )


def _curves(sample: Sample, champion: Array | None) -> Curves:
    if not len(sample.y) or not np.isfinite(sample.score).all():
        return Curves()
    if sample.task != "binary":
        counts, edges = np.histogram(sample.score - sample.y, bins=30)
        return Curves(edges=tuple(edges.tolist()), negative=tuple(counts.tolist()))
    edges = np.linspace(0, 1, 31)
    bounded = np.clip(sample.score, 0, 1)
    has_other = champion is not None and bool(np.isfinite(champion).all())
    return Curves(
        roc=_roc(sample.y, sample.score),
        champion_roc=_roc(sample.y, champion) if has_other and champion is not None else (),
        calibration=_calibration(sample.y, bounded),
        edges=tuple(edges.tolist()),
        negative=tuple(np.histogram(bounded[sample.y != 1], bins=edges)[0].tolist()),
        positive=tuple(np.histogram(bounded[sample.y == 1], bins=edges)[0].tolist()),
    )


def _roc(y: Array, scores: Array) -> tuple[tuple[float, float], ...]:
    """At most ROC_POINTS points of the curve, ends included; empty with one class."""
    if math.isnan(METRICS["auc"].of(y, scores)):
        return ()
    order = np.argsort(-scores, kind="stable")
    hits, ranked = (y[order] == 1).astype(np.float64), scores[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(y) - 1)
    tpr, fpr = np.cumsum(hits)[ends] / hits.sum(), np.cumsum(1 - hits)[ends] / (len(y) - hits.sum())
    tpr, fpr = np.append(0.0, tpr), np.append(0.0, fpr)
    places = np.unique(np.linspace(0, len(tpr) - 1, ROC_POINTS).astype(int))
    return tuple(zip(fpr[places].tolist(), tpr[places].tolist(), strict=True))


def _calibration(y: Array, scores: Array) -> tuple[tuple[float, float, int], ...]:
    """Bins of equal count: (mean score, observed share of positives, rows)."""
    groups = np.array_split(np.argsort(scores, kind="stable"), min(BINS, len(y)))
    return tuple((float(scores[g].mean()), float((y[g] == 1).mean()), len(g)) for g in groups if len(g))


def _document(evaluation: Evaluation, verdicts: Sequence[Any]) -> dict[str, Any]:
    found = dataclasses.asdict(evaluation)
    del found["document"], found["report"]
    said = [dataclasses.asdict(verdict) for verdict in verdicts]
    return {"format": "noria/evaluation/1", "order": list(evaluation.metrics), "verdicts": said, **found}
