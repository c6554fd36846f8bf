"""What the records of runs are as values: a run, where its metrics stand, the data it used, its notes."""

from __future__ import annotations

from noria.core.frozen import frozen

__all__ = ["LoggedRun", "Metric", "NoteRecord", "UsedDataset"]


@frozen(kw_only=True)
class LoggedRun:
    """One run, without what it logged. Times are UTC texts, by the clock of the machine that recorded.

    `stage` is active, or deleted for a run that was put away.
    """

    run: str
    name: str
    experiment: str
    parent: str
    pipeline: str
    cause: str
    status: str
    reason: str
    actor: str
    started_at: str
    finished_at: str
    seconds: float
    user: str
    stage: str
    seq: int


@frozen(kw_only=True)
class Metric:
    """Where a metric of a run stands. `value` is None where `special` says nan, inf or -inf."""

    key: str
    value: float | None
    special: str
    step: int
    at_us: int
    low: float | None
    high: float | None
    points: int


@frozen(kw_only=True)
class UsedDataset:
    """A data set that a run used; version 0 is one that no version here fits."""

    name: str
    version: int
    digest: str
    context: str


@frozen(kw_only=True)
class NoteRecord:
    """A note of a run, or (`kind` "problem") a sentence about what could not be kept."""

    kind: str
    text: str
    at: str
