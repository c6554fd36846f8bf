"""What a person asks of searches: the studies there are, and one with its trials."""

from __future__ import annotations

from collections.abc import Mapping

from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.core.verb import verb
from noria.search import page, records
from noria.search.records import StudyRecord
from noria.search.study import reap, resolve
from noria.store.workspace import Workspace

__all__ = ["StudyLine", "StudyReport", "TrialLine", "list_studies", "report_of", "show"]


@frozen(kw_only=True)
class StudyLine:
    """A study in a list. `status` is running, finished, failed, or lost if the process that was at it is gone."""

    study: str
    status: str
    model: str
    metric: str
    best: int
    value: float | None
    trials: int
    started_at: str


@frozen(kw_only=True)
class TrialLine:
    """A trial: its parameters, what came of it, and its run."""

    trial: int
    state: str
    value: float | None
    params: Mapping[str, JSON]
    origin: str
    seconds: float
    reason: str
    run: str


@frozen(kw_only=True)
class StudyReport:
    """A study with its trials by number. `page` is a file for a browser, empty while it runs."""

    study: str
    status: str
    model: str
    metric: str
    better: str
    best: int
    value: float | None
    params: Mapping[str, JSON]
    trials: tuple[TrialLine, ...]
    wanted: int
    sampler: str
    pruner: str
    seed: int
    parallel: int
    budget: str
    elapsed_s: float
    reason: str
    page: str
    next: str


@verb(permission="search.read", changes=False, name="list")
def list_studies(ws: Workspace, limit: int = 20) -> list[StudyLine]:
    """Searches, newest first, each with its best trial.

    Those whose process died are ended as lost first, so none is shown as running that is not.

    Example: noria search list
    """
    reap(ws)
    with ws.ledger.read() as tx:
        return [
            StudyLine(
                study=study.study,
                status=study.status,
                model=study.model,
                metric=study.metric,
                best=study.best,
                value=study.value,
                trials=study.trials,
                started_at=study.started_at,
            )
            for study in records.studies(tx, limit=limit)
        ]


@verb(permission="search.read", changes=False)
def show(ws: Workspace, study: str = "") -> StudyReport:
    """One search with every trial; the newest without an id. A search that goes on shows what it has.

    Raises: NotFound; UsageError if the text fits several.
    Example: noria search show study_01k3
    """
    reap(ws)
    return report_of(ws, resolve(ws, study))


def report_of(ws: Workspace, study: StudyRecord) -> StudyReport:
    """A study as the verbs give it."""
    with ws.ledger.read() as tx:
        trials = records.trials(tx, study.study)
    best = next((trial for trial in trials if trial.trial == study.best), None)
    place = page.place(ws, study.study)
    if study.page and not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(ws.objects.get_bytes(study.page))
    is_over = study.status == "finished"
    return StudyReport(
        study=study.study,
        status=study.status,
        model=study.model,
        metric=study.metric,
        better=study.better,
        best=study.best,
        value=study.value,
        params=dict(best.params) if best else {},
        trials=tuple(
            TrialLine(
                trial=trial.trial,
                state=trial.state,
                value=trial.value,
                params=trial.params,
                origin=trial.origin,
                seconds=trial.seconds,
                reason=trial.reason,
                run=trial.run,
            )
            for trial in trials
        ),
        wanted=study.trials,
        sampler=study.sampler,
        pruner=study.pruner,
        seed=study.seed,
        parallel=study.parallel,
        budget=study.budget,
        elapsed_s=max((trial.elapsed_s for trial in trials), default=0.0),
        reason=study.reason,
        page=str(place) if study.page else "",
        next=f"noria explain {study.study}" if is_over else f"noria run --resume {study.study}",
    )
