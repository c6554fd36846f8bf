"""Finding runs: `noria runs` with MLflow's filters, one run in whole, and the history of a metric."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from noria.core.errors import NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.experiments import incoming, points, records, sending
from noria.experiments.grammar import Clause, parse_filter, parse_order
from noria.experiments.records import LoggedRun, Metric, NoteRecord, UsedDataset
from noria.store.ledger import Reader
from noria.store.workspace import Workspace
from noria.tracking import records as tracking
from noria.tracking.records import ArtifactRecord
from noria.tracking.run import reap, resolve
from noria.tracking.system import is_system

__all__ = ["ExperimentLine", "FoundRun", "History", "RunDetails", "Sent", "whole_curve"]

SHOWN = 12
CHILDREN_MAX = 100
PAGE_MAX = 5000
POINTS_MAX = 100_000


@frozen(kw_only=True)
class FoundRun:
    """One run of a search: what it is, and the params, metrics and tags that were asked for.

    `page` is given with the last run of a page that is not the last one: it asks for the next.
    """

    run: str
    name: str
    experiment: str
    pipeline: str
    status: str
    reason: str
    cause: str
    actor: str
    started_at: str
    seconds: float
    metrics: Mapping[str, float | None]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    page: str = ""


@frozen(kw_only=True)
class RunDetails:
    """Everything that was logged of a run. `page` is its path on the server, `next` the command to go on with."""

    run: LoggedRun
    metrics: tuple[Metric, ...]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    datasets: tuple[UsedDataset, ...]
    artifacts: tuple[ArtifactRecord, ...]
    notes: tuple[NoteRecord, ...]
    children: tuple[LoggedRun, ...]
    page: str
    next: str


@frozen(kw_only=True)
class History:
    """Points of a metric in the order of their steps; `at_us` is UTC in microseconds.

    `total` counts all points of the metric; where the history was made small, `steps`, `at_us` and `values`
    hold fewer, the least and the greatest among them.
    """

    run: str
    metric: str
    total: int
    steps: tuple[int, ...]
    at_us: tuple[int, ...]
    values: tuple[float, ...]


@frozen(kw_only=True)
class ExperimentLine:
    """An experiment: a name that runs share."""

    experiment: str
    runs: int
    newest: str


@frozen(kw_only=True)
class Sent:
    """What sending did: recordings that are wholly in the ledger now, and how many still wait."""

    sent: int
    waiting: int


@verb(permission="experiments.read", changes=False, name="search")
def search_runs(
    ws: Workspace,
    filter: str = "",
    order: Sequence[str] = (),
    show: Sequence[str] = (),
    limit: int = 20,
    *,
    page: str = "",
    experiment: str = "",
    status: str = "",
    pipeline: str = "",
) -> list[FoundRun]:
    """Runs that fit a filter, newest first unless an order says otherwise.

    Runs whose process died are ended as lost first, so none is shown as running that is not. Deleted runs
    are shown only by a filter that asks for them: attributes.stage = 'deleted'.

    Args:
        filter: such as "metrics.auc > 0.8 and params.model = 'tree'"; MLflow's grammar.
        order: such as "metrics.auc DESC"; runs without the value come last.
        show: what to list of each run, such as metrics.auc or params.lr; a few of each by default.
        limit: at most so many runs.
        page: what the last run of the page before gave as `page`.
        experiment: only runs of this experiment.
        status: only runs in this status, ours or MLflow's word for it.
        pipeline: only runs of this pipeline.
    Raises: UsageError for a filter or an order that cannot be read, with what may stand there.
    Example: noria runs "metrics.auc > 0.8" --order "metrics.auc DESC"
    """
    if not 0 < limit <= PAGE_MAX:
        raise UsageError(f"a page of {limit} runs cannot be given", hint=f"1 to {PAGE_MAX}")
    where = list(parse_filter(filter))
    where += [
        Clause("attribute", key, "=", value)
        for key, value in (("experiment", experiment), ("status", status), ("pipeline", pipeline))
        if value
    ]
    if not any(clause.key == "stage" and clause.kind == "attribute" for clause in where):
        where.append(Clause("attribute", "stage", "=", records.ACTIVE))
    reap(ws)
    with ws.ledger.read() as tx:
        found = records.search(tx, where, parse_order(order), after=_place(page), limit=limit + 1)
        shown = _shown(tx, [run for run, _ in found[:limit]], show)
    if len(found) > limit:
        shown[-1] = replace(shown[-1], page=_token(found[limit - 1][1]))
    return shown


@verb(permission="experiments.read", changes=False)
def show(ws: Workspace, run: str = "") -> RunDetails:
    """Everything that a run logged; the newest run without an id.

    Raises: NotFound; UsageError if the id fits several runs.
    Example: noria experiments show run_01k3
    """
    name = resolve(ws, run).run
    with ws.ledger.read() as tx:
        found = records.run(tx, name)
        if found is None:
            raise NotFound(f"there is no run {run!r}", hint="noria runs lists them")
        metrics = tuple(records.metrics(tx, [name])[name])
        return RunDetails(
            run=found,
            metrics=metrics,
            params=records.params(tx, [name])[name],
            tags=records.tags(tx, [name])[name],
            datasets=tuple(records.datasets(tx, name)),
            artifacts=tuple(tracking.artifacts(tx, name)),
            notes=tuple(records.notes(tx, name)),
            children=tuple(records.children(tx, name, CHILDREN_MAX)),
            page=f"/runs/{name}",
            next=f"noria experiments plot {name}" if metrics else f"noria why {name}",
        )


@verb(permission="experiments.read", changes=False)
def history(ws: Workspace, run: str, metric: str, points: int = 320) -> History:
    """The points of a metric by step; a long history is made small, least and greatest kept.

    Args:
        points: at most so many (4 or more).
    Raises: NotFound naming the metrics there are.
    Example: noria experiments history run_01k3 loss --points 100
    """
    if not 4 <= points <= POINTS_MAX:
        raise UsageError(f"{points} points cannot be asked for", hint=f"4 to {POINTS_MAX}")
    name = resolve(ws, run).run
    found, total = _curve(ws, name, metric, points)
    if not len(found):
        with ws.ledger.read() as tx:
            known = [each.key for each in records.metrics(tx, [name])[name]]
        hint = f"one of: {', '.join(known[:12])}" if known else "the run logged no metric"
        raise NotFound(f"run {name} has no points of {metric!r}", hint=hint)
    return History(
        run=name,
        metric=metric,
        total=total,
        steps=tuple(found.steps.tolist()),
        at_us=tuple(found.at_us.tolist()),
        values=tuple(found.values.tolist()),
    )


@verb(permission="experiments.read", changes=False, name="list")
def list_experiments(ws: Workspace) -> list[ExperimentLine]:
    """Every experiment, with how many runs it has and when the newest began.

    Example: noria experiments list
    """
    with ws.ledger.read() as tx:
        return [ExperimentLine(experiment=name, runs=n, newest=at) for name, n, at in records.experiments(tx)]


@verb(permission="experiments.write", where="project")
def send(ws: Workspace) -> Sent:
    """Send what recordings on this machine left behind: those that ended, or whose process died.

    Every `noria` command does it too, and the server; this one says what came of it.
    Example: noria experiments send
    """
    return Sent(sent=incoming.send_all_left(ws), waiting=len(sending.waiting(ws)))


def _curve(ws: Workspace, run: str, metric: str, limit: int) -> tuple[points.Curve, int]:
    """At most `limit` points of a metric, and how many there are; of a long history no point is read."""
    with ws.ledger.read() as tx:
        own = [segment for segment, _ in records.segments(tx, run)]
        sealed = [segment for segment in tracking.segments(tx, run) if segment not in own]
    chunks: list[points.Chunk] = []
    for segment in own:
        chunks += points.summaries(ws.objects, segment, metric) or []
    total = sum(chunk.points for chunk in chunks)
    if not sealed and len(chunks) >= limit / 4 and total > limit:
        thin = points.thin(chunks)
        if thin is not None:
            return points.downsample(thin, limit), total
    whole = whole_curve(ws, run, metric)
    return points.downsample(whole, limit), len(whole)


def whole_curve(ws: Workspace, run: str, metric: str) -> points.Curve:
    """Every point of a metric that is in the ledger or in the run's live series; none if nothing is known."""
    with ws.ledger.read() as tx:
        own = [segment for segment, _ in records.segments(tx, run)]
        sealed = [segment for segment in tracking.segments(tx, run) if segment not in own]
        is_live = tracking.run(tx, run) is not None
    parts = [points.read(ws.objects, segment, metric) for segment in (*own, *sealed)]
    if is_live:
        parts.append(points.live(ws.series.read(run), metric))
    return points.ordered(points.joined(parts))


def _shown(tx: Reader, runs: Sequence[LoggedRun], show: Sequence[str]) -> list[FoundRun]:
    """The runs with what is to be shown of them; nothing else is read."""
    wanted = parse_order(show)
    names = [run.run for run in runs]
    keys = {kind: [each.key for each in wanted if each.kind == kind] for kind in ("metric", "param", "tag")}
    metrics = records.latest(tx, names, keys["metric"]) if names and (keys["metric"] or not wanted) else {}
    if not wanted:
        metrics = {
            run: {key: each for key, each in found.items() if not is_system(key)} for run, found in metrics.items()
        }
    params = records.params(tx, names, keys["param"]) if names and (keys["param"] or not wanted) else {}
    tags = records.tags(tx, names, keys["tag"]) if names and keys["tag"] else {}
    many = None if wanted else SHOWN
    return [
        FoundRun(
            run=run.run,
            name=run.name,
            experiment=run.experiment,
            pipeline=run.pipeline,
            status=run.status,
            reason=run.reason,
            cause=run.cause,
            actor=run.actor,
            started_at=run.started_at,
            seconds=run.seconds,
            metrics=dict(list(metrics.get(run.run, {}).items())[:many]),
            params=dict(list(params.get(run.run, {}).items())[:many]),
            tags=tags.get(run.run, {}),
        )
        for run in runs
    ]


def _token(place: Sequence[str | float]) -> str:
    """A place as a text to hand around. Infinite values have a word of their own in it."""
    plain = [{"inf": each > 0} if isinstance(each, float) and math.isinf(each) else each for each in place]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode().rstrip("=")


def _place(page: str) -> tuple[str | float, ...]:
    if not page:
        return ()
    try:
        found = json.loads(base64.urlsafe_b64decode(page + "=" * (-len(page) % 4)))
        assert isinstance(found, list), "a list was made"
        place = tuple(_infinite(each) if isinstance(each, dict) else each for each in found)
        assert all(isinstance(each, str | int | float) for each in place), "numbers and texts were put in"
    except (ValueError, AssertionError, KeyError, binascii.Error, RecursionError) as error:
        raise UsageError(f"{page[:60]!r} is no page", hint="ask for the first page again") from error
    return place


def _infinite(word: Mapping[str, bool]) -> float:
    return math.inf if word["inf"] else -math.inf
