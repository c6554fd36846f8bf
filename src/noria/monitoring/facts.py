"""What monitoring can find."""

from __future__ import annotations

from collections.abc import Mapping

from noria.core.fact import fact
from noria.core.frozen import frozen

__all__ = ["FACTS", "AlertRaised", "AlertResolved", "DriftMeasured", "Estimate", "LabelsSealed", "QualityMeasured"]


@frozen(kw_only=True)
class Estimate:
    """A metric with its 95 % interval over n rows; value is None when it cannot be computed."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@fact("labels.sealed", subject="model/{model}")
class LabelsSealed:
    """A segment of late labels became an object (Parquet: id, label, at: event time, t: arrival in µs)."""

    model: str
    segment: str
    source: str
    count: int
    event_min: str
    event_max: str


@fact("drift.measured", subject="model/{model}")
class DriftMeasured:
    """A window of requests was compared with the reference. `drifted` are the columns that count.

    Times are event times: the window is [start, end).
    """

    model: str
    window: str
    start: str
    end: str
    rows: int
    reference: str
    drifted: tuple[str, ...]
    report: str


@fact("quality.measured", subject="model/{model}")
class QualityMeasured:
    """The labelled quality of a window as of an event time; measured again when labels arrive.

    `live` is of the scores that were served, `frozen` of the first release on the same rows.
    """

    model: str
    window: str
    start: str
    end: str
    as_of: str
    rows: int
    labelled: int
    live: Mapping[str, Estimate]
    frozen: Mapping[str, Estimate]


@fact("alert.raised", subject="model/{model}")
class AlertRaised:
    """Something needs eyes: kind is drift, quality, data, serving or loop."""

    model: str
    alert: str
    kind: str
    severity: str
    message: str
    window: str = ""


@fact("alert.resolved", subject="model/{model}")
class AlertResolved:
    """An alert is over."""

    model: str
    alert: str
    reason: str


FACTS = (LabelsSealed, DriftMeasured, QualityMeasured, AlertRaised, AlertResolved)
