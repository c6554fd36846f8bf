"""What can happen to studies and their trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from noria.core.fact import fact
from noria.core.identity import JSON
from noria.tracking.facts import Pin

__all__ = ["FACTS", "StudyEnded", "StudyResumed", "StudyStarted", "TrialEnded", "TrialStarted"]


@fact("study.started", subject="study/{study}")
class StudyStarted:
    """A search began. `space` is the digest of its dimensions, `code` names the code that every trial runs.

    `share` is the part of the training rows that is kept to judge trials on; 0 if the pipeline brings
    its own. `key`, `time` and `label` are the roles of their columns. `budget` is as it was typed.
    """

    study: str
    pipeline: str
    model: str
    metric: str
    better: str
    space: str
    code: str
    sampler: str
    pruner: str
    seed: int
    parallel: int
    trials: int
    budget: str = ""
    share: float = 0.0
    key: str = ""
    time: str = ""
    label: str = ""
    pins: tuple[Pin, ...] = ()
    params: Mapping[str, JSON] = field(default_factory=dict)


@fact("study.resumed", subject="study/{study}")
class StudyResumed:
    """A search goes on in another process, with these limits from now on."""

    study: str
    trials: int
    budget: str = ""


@fact("trial.started", subject="study/{study}")
class TrialStarted:
    """A trial was given its parameters; a trial is given them once. `origin` is default, random, tpe, …"""

    study: str
    trial: int
    params: Mapping[str, JSON]
    origin: str = ""


@fact("trial.ended", subject="study/{study}")
class TrialEnded:
    """A trial ended: state is done, pruned, failed, or stopped (the budget ran out; a resumed study does it again).

    `value` is the metric on the validation rows, None without one. `reports` is the digest of the
    points that its steps reported; seconds are of the wall, `elapsed_s` is what the study has taken so far.
    """

    study: str
    trial: int
    state: str
    value: float | None = None
    run: str = ""
    reason: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    elapsed_s: float = 0.0
    reports: str = ""


@fact("study.ended", subject="study/{study}")
class StudyEnded:
    """A search ended: status is finished (with its best trial), failed (no trial succeeded) or lost. `page` shows it.

    Lost: its process is gone. Whoever finds that writes it, once; a study that is resumed may be lost again.
    """

    study: str
    status: str
    best: int = -1
    value: float | None = None
    reason: str = ""
    page: str = ""


FACTS = (StudyStarted, StudyResumed, TrialStarted, TrialEnded, StudyEnded)
