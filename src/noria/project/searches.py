"""Explaining searches: the study that a run's parameters come from, and a study with its trials."""

from __future__ import annotations

import re

from noria.core.errors import NotFound
from noria.experiments.coordinates import shown
from noria.project import touched
from noria.project.chain import Chain, Link
from noria.search import records
from noria.search.records import StudyRecord, TrialRecord
from noria.search.study import resolve
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

__all__ = ["chain", "links"]

MAX_RUNS = 10_000
_TRIAL = re.compile(r"trial/(study_\w+)/(\d{1,18})")
_STUDY = re.compile(r"(?:study/)?(study_\w+)")


def links(ws: Workspace, cause: str) -> list[Link]:
    """The study, or the trial with its study, that asked for a run; nothing for another cause."""
    trial, study = _TRIAL.fullmatch(cause), _STUDY.fullmatch(cause)
    if trial is None and study is None:
        return []
    with ws.ledger.read() as tx:
        found = records.study(tx, (trial or study)[1])  # type: ignore[index]  # one of them fits
        if found is None:
            return []
        number = int(trial[2]) if trial else found.best
        mine = next((item for item in records.trials(tx, found.study) if item.trial == number), None)
    return [*([_trial(found, mine)] if mine is not None else []), _study(found)]


def chain(ws: Workspace, name: str) -> Chain | None:
    """A study: what it was, its trials below it, and what the run made that went on with the best of them."""
    trial, study = _TRIAL.fullmatch(name), _STUDY.fullmatch(name)
    if trial is not None:
        above = links(ws, name)
        return Chain(id=name, kind="trial", links=tuple(above)) if above else None
    if study is None:
        return None
    try:
        found = resolve(ws, study[1])
    except NotFound:
        return None
    with ws.ledger.read() as tx:
        trials = records.trials(tx, found.study)
        runs = [run.run for run in tracking.runs(tx, limit=MAX_RUNS) if run.cause == f"study/{found.study}"]
    reached = [
        Link(what=item.what, ref=item.ref, text=item.text, at=item.at, details=dict(item.details))
        for item in touched.by_runs(ws, runs)
    ]
    below = (*(_trial(found, each) for each in trials), *reached)
    return Chain(id=found.study, kind="search", links=(_study(found),), touched=below)


def _study(study: StudyRecord) -> Link:
    rows = f"{study.share:.0%} of the training rows" if study.share else "the pipeline's own validation rows"
    best = f", the best is trial {study.best}" if study.best >= 0 else ""
    return Link(
        what="search",
        ref=f"study/{study.study}",
        text=f"{study.status}: {study.trials} trials by {study.metric} on {rows}, {study.sampler}{best}",
        at=study.started_at,
        actor=study.actor,
        details={"seed": study.seed, "parallel": study.parallel, "page": study.page, "space": study.space},
    )


def _trial(study: StudyRecord, trial: TrialRecord) -> Link:
    value = "" if trial.value is None else f", {study.metric} {trial.value:.5g}"
    values = ", ".join(f"{name}={shown(value)}" for name, value in trial.params.items())
    reason = f" ({trial.reason})" if trial.reason else ""
    details = {"run": trial.run, "origin": trial.origin}
    return Link(what="trial", ref=trial.ref, text=f"{trial.state}{value}{reason}: {values}", details=details)
