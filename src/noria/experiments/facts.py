"""What a recording adds to the facts of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from noria.core.fact import fact
from noria.core.frozen import frozen

__all__ = [
    "FACTS",
    "Dataset",
    "PointsMerged",
    "RunAmended",
    "RunDeleted",
    "RunDescribed",
    "RunLogged",
    "RunRestored",
    "Summary",
    "TagRemoved",
]


@frozen(kw_only=True)
class Summary:
    """What a batch holds of one metric. `step`, `at_us` (UTC, µs) and `last` are of its newest point.

    `low` and `high` bound the finite values, and are None without any. A `last` that is not finite is None,
    and `special` then says "nan", "inf" or "-inf".
    """

    points: int
    step: int
    at_us: int
    last: float | None
    low: float | None
    high: float | None
    special: str = ""


@frozen(kw_only=True)
class Dataset:
    """A data set that a run used: its version and tree, or 0 and "" where no such version is known here."""

    name: str
    version: int
    tree: str
    context: str = ""


@fact("run.described", subject="run/{run}")
class RunDescribed:
    """A run is recorded by a script. `began` is when it began, by the clock of its own machine.

    `user` is who ran it, as a client says that is not the actor itself.
    """

    run: str
    name: str
    experiment: str
    parent: str
    began: str
    user: str = ""


@fact("run.logged", subject="run/{run}")
class RunLogged:
    """A batch of what a run logged: the lines of the log of `writer` up to the byte `upto`.

    `segment` is the digest of its metric points, or empty. `problems` are sentences about what could not
    be kept.
    """

    run: str
    writer: str
    upto: int
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    segment: str = ""
    points: int = 0
    metrics: Mapping[str, Summary] = field(default_factory=dict)
    datasets: tuple[Dataset, ...] = ()
    problems: tuple[str, ...] = ()


@fact("points.merged", subject="run/{run}")
class PointsMerged:
    """The points of a run's segments so far are in one segment now."""

    run: str
    segment: str
    points: int


@fact("run.amended", subject="run/{run}")
class RunAmended:
    """A client says something else of a run than before; what is empty or None stays.

    `status` is a status of runs or "scheduled"; `ended` is when it ended by the client's clock, "" for never.
    """

    run: str
    name: str = ""
    status: str = ""
    ended: str | None = None


@fact("run.deleted", subject="run/{run}")
class RunDeleted:
    """A run is put away: lists and searches leave it out, and nothing may be logged to it."""

    run: str


@fact("run.restored", subject="run/{run}")
class RunRestored:
    """A run that was put away is there again."""

    run: str


@fact("tag.removed", subject="run/{run}")
class TagRemoved:
    """A run has a tag no more."""

    run: str
    key: str


FACTS = (RunDescribed, RunLogged, PointsMerged, RunAmended, RunDeleted, RunRestored, TagRemoved)
