"""The pages of runs at `/runs`: a list with MLflow's filters, a run as it goes on, and several over each other.

Read only and without JavaScript: a page of a run that is going on asks the browser to load it anew. What is shown is
what verbs give; charts are drawn by the slice that has the points. Every text is escaped, by Jinja2 or where it is
drawn, and the policy header forbids scripts and foreign content.
"""

from __future__ import annotations

import functools
import importlib.resources
import logging
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from noria.core.errors import NoriaError, UsageError
from noria.core.lazy import lazy
from noria.experiments import draw, points
from noria.experiments.curves import Footers
from noria.experiments.plot import CHARTS_MAX, Panel, chief, named, panels, parallel
from noria.experiments.search import RunDetails, search_runs, show
from noria.faces import verbs
from noria.faces.cli import show_diff, text
from noria.faces.http.auth import actor_in
from noria.faces.http.guarded import guarded
from noria.faces.ui.answers import HEADERS, refused, tone
from noria.governance.access import is_allowed
from noria.governance.lineage import Link, ancestors, descendants
from noria.project.diff import diff, lines
from noria.store.workspace import Workspace
from noria.tracking.system import is_system

__all__ = ["page", "routes"]

jinja2 = lazy("jinja2")
log = logging.getLogger("noria.pages")
LISTED = 50
FOOTERS_MAX = 1024
"""Segments whose summaries a server keeps: those of a run that goes on are asked for again and again."""
ARTIFACTS_MAX = 200
LINKS_MAX = 20
CELLS_MAX = 6
SLICES_MAX = 40
ROWS_MAX = 400
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/0"
BUNDLE = "bundle"
_MADE = ("model/", "release/", "dataset/", "deployment/")


def routes(workspace: Workspace) -> list[Route]:
    """The routes of the pages of runs, over one workspace. Handlers are plain functions: they run in threads."""
    footers: Footers = functools.lru_cache(FOOTERS_MAX)(functools.partial(points.chunks, workspace.objects))

    def listed(request: Request) -> Response:
        return _answered(lambda: _list(workspace, request))

    def compared(request: Request) -> Response:
        return _answered(lambda: _compare(workspace, request, footers))

    def one(request: Request) -> Response:
        return _answered(lambda: _run(workspace, request, footers))

    pages: Sequence[tuple[str, Callable[[Request], Response]]] = (
        ("/runs", listed),
        ("/runs/compare", compared),
        ("/runs/{run}", one),
    )
    return [
        Route(path, guarded(handler, "experiments.read", refuse=refused), methods=["GET"]) for path, handler in pages
    ]


def _answered(make: Callable[[], str]) -> Response:
    try:
        return Response(make(), 200, HEADERS, media_type="text/html")
    except NoriaError as error:
        return refused(error)
    except Exception:
        log.exception("a page of runs failed")
        return Response("the page failed; the log says where\n", 500, HEADERS, media_type="text/plain")


def page(kind: str, *, project: str, title: str, is_going: bool = False, **shown: Any) -> str:
    """One of the pages (list, run, compare) of plain values; markup is what was drawn, and nothing else."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(
        bounds=_bounds,
        decimal=text.decimal,
        signed=text.signed,
        percent=text.share,
        count=text.count,
        day=text.day,
        lasting=text.lasting,
        size=text.size,
        tone=tone,
        colour=draw.colour,
    )
    source = importlib.resources.files("noria.faces.ui") / "templates" / "runs.html"
    rendered: str = environment.from_string(source.read_text(encoding="utf-8")).render(
        kind=kind, project=project, title=title, is_going=is_going, style=_markup(draw.STYLE), **shown
    )
    return rendered


def _list(ws: Workspace, request: Request) -> str:
    """The newest runs, or those that a filter finds. A filter that cannot be read is said above none."""
    given = {name: request.query_params.get(name, "") for name in ("filter", "order", "page")}
    problem, found = "", []
    try:
        order = [each.strip() for each in given["order"].split(",") if each.strip()]
        found = search_runs(ws, given["filter"], order, limit=LISTED, page=given["page"])
    except UsageError as error:
        problem = f"{error.message}: {error.hint}" if error.hint else error.message
    runs = [{**verbs.builtins(each), "shown": _cells(each.metrics, each.params)} for each in found]
    further = found[-1].page if found else ""
    return page(
        "list",
        project=ws.project.name,
        title="Runs",
        runs=runs,
        filter=given["filter"],
        order=given["order"],
        problem=problem,
        next=f"/runs?{urllib.parse.urlencode({**given, 'page': further})}" if further else "",
    )


def _cells(metrics: Mapping[str, float | None], params: Mapping[str, str]) -> list[tuple[str, str]]:
    """A few of what a run logged; the rest is on its page."""
    numbers = [(name, "–" if value is None else f"{value:.4g}") for name, value in metrics.items()]
    texts = [(name, value if len(value) <= 24 else f"{value[:23]}…") for name, value in params.items()]
    return [*numbers[:CELLS_MAX], *texts[:CELLS_MAX]]


def _run(ws: Workspace, request: Request, footers: Footers) -> str:
    """Everything of one run."""
    found = show(ws, request.path_params["run"])
    run = found.run
    drawn = panels(ws, [run], footers=footers)
    names = {each.metric for each in drawn}
    machine = panels(ws, [run], is_of_machine=True, footers=footers)
    facts = [
        (each.key, each.special or text.decimal(each.value, 4))
        for each in found.metrics
        if not is_system(each.key) or each.key not in {panel.metric for panel in machine}
    ]
    above, below = _lineage(ws, request, run.run)
    return page(
        "run",
        project=ws.project.name,
        title=run.name or run.pipeline or run.run,
        is_going=run.status == "running",
        run=verbs.builtins(found),
        pictures=[_picture(each) for each in drawn],
        machine=[_picture(each) for each in machine],
        more=sum(not is_system(each.key) and each.key not in names for each in found.metrics)
        if len(drawn) == CHARTS_MAX
        else 0,
        facts=facts,
        artifacts=_artifacts(found),
        datasets=[
            (f"{each.name}@{each.version}" if each.version else each.name, each.context, text.name_of(each.digest, 12))
            for each in found.datasets
        ],
        sources=_told(above, ("data:", "dataset:", "metrics"), is_left_out=True),
        results=_told(below, _MADE),
    )


def _artifacts(found: RunDetails) -> list[dict[str, Any]]:
    """The files of a run with their addresses; a bundle is a name for several, which its model has."""
    return [
        {**verbs.builtins(each), "address": "" if each.type == BUNDLE else _address(found.run.run, each.name)}
        for each in found.artifacts[:ARTIFACTS_MAX]
    ]


def _address(run: str, name: str) -> str:
    """Where an artifact is given out; "" for a name that the address cannot hold."""
    if any(mark in name for mark in "#\\") or not name.isprintable() or "" in name.split("/"):
        return ""
    return f"{ARTIFACTS}/{urllib.parse.quote(run)}/artifacts/{urllib.parse.quote(name)}"


def _lineage(ws: Workspace, request: Request, run: str) -> tuple[Sequence[Link], Sequence[Link]]:
    """What a run was made from, and what was made from it, for who may see that."""
    if not _may(ws, request, "governance.read"):
        return (), ()
    return ancestors(ws, f"run/{run}", depth=1), descendants(ws, f"run/{run}", depth=3)


def _told(links: Sequence[Link], marks: Sequence[str], *, is_left_out: bool = False) -> list[tuple[str, str]]:
    """Links as (role, ref): those whose ref begins so, or with `is_left_out` those whose role does not."""
    if is_left_out:
        found = [each for each in links if not each.role.startswith(tuple(marks))]
    else:
        found = [each for each in links if each.ref.startswith(tuple(marks))]
    rows = [(each.role if is_left_out else each.kind, text.name_of(each.ref, 12)) for each in found]
    return list(dict.fromkeys(rows))[:LINKS_MAX]


def _compare(ws: Workspace, request: Request, footers: Footers) -> str:
    """Several runs: their curves, what differs, and from three on parallel coordinates."""
    asked = request.query_params.getlist("run")
    if len(asked) < 2:
        raise UsageError("name at least two runs", hint="/runs/compare?run=RUN&run=RUN, or tick them at /runs")
    runs = named(ws, asked)
    drawn = panels(ws, runs, footers=footers)
    metric = request.query_params.get("metric", "") or chief(drawn)
    may_compare = _may(ws, request, "project.read")
    is_going = any(run.status == "running" for run in runs)
    told = _told_whole(ws, runs[0].run, runs[1].run) if may_compare and len(runs) == 2 and not is_going else None
    return page(
        "compare",
        project=ws.project.name,
        title=f"{len(runs)} runs",
        is_going=is_going,
        runs=[{**verbs.builtins(run), "name": run.name or run.run} for run in runs],
        pictures=[_picture(each) for each in drawn],
        machine=[_picture(each) for each in panels(ws, runs, is_of_machine=True, footers=footers)],
        lines=_markup(parallel(ws, runs, metric)) if len(runs) > 2 and metric else "",
        metric=metric,
        may_compare=may_compare,
        told=told,
        table=_differences(ws, [run.run for run in runs]) if may_compare and told is None else [],
    )


def _told_whole(ws: Workspace, a: str, b: str) -> dict[str, Any]:
    """Two runs that have ended, as `noria diff` compares them: figures, slices, what went in, the account."""
    found: dict[str, Any] = verbs.builtins(diff(ws, a, b))
    scored = found["scored"]
    shown = [each for each in found["logged"] if scored is None or max(each["a_points"], each["b_points"]) > 1]
    return {
        **found,
        "slices": show_diff.slices(scored)[:SLICES_MAX] if scored else [],
        "moved": sum(way[1] for way in scored["flips"]["ways"]) if scored and scored["flips"] else 0,
        "logged": shown[:ROWS_MAX],
        "inputs": found["inputs"][:ROWS_MAX],
        "others": show_diff.others(found["lines"]),
    }


def _differences(ws: Workspace, runs: Sequence[str]) -> list[dict[str, Any]]:
    """What differs from the first run, a value for each run; where one is as the first, it has the first's value."""
    firsts: dict[tuple[str, str], str] = {}
    others: dict[tuple[str, str], dict[str, str]] = {}
    changes: dict[tuple[str, str], str] = {}
    for run in runs[1:]:
        for line in lines(ws, runs[0], run):
            key = (line.section, line.name)
            firsts[key], changes[key] = line.a, line.change
            others.setdefault(key, {})[run] = line.b
    return [
        {
            "section": key[0],
            "name": key[1],
            "values": [_short(first), *(_short(others[key].get(run, first)) for run in runs[1:])],
            "change": changes[key],
        }
        for key, first in firsts.items()
    ]


def _bounds(pair: Sequence[float | None], is_change: bool = False) -> str:
    """An interval; "" without one."""
    show = text.signed if is_change else text.decimal
    return "" if None in pair else f"[{show(pair[0], 4)}, {show(pair[1], 4)}]"


def _short(value: str) -> str:
    return value if len(value) <= 80 else f"{value[:79]}…"


def _picture(panel: Panel) -> dict[str, Any]:
    """A chart as markup, with how many points are behind it."""
    title = panel.metric.removeprefix("system/") if is_system(panel.metric) else panel.metric
    drawn = draw.chart(title, panel.lines, across=panel.across, note=_last(panel))
    return {"svg": _markup(drawn), "total": panel.total}


def _last(panel: Panel) -> str:
    """The last value where there is one line only."""
    return draw.number(panel.lines[0].ys[-1]) if len(panel.lines) == 1 else ""


def _may(ws: Workspace, request: Request, permission: str) -> bool:
    return is_allowed(actor_in(request.scope), permission, ws.project.name)


def _markup(drawn: str) -> Any:
    """What was drawn here, which Jinja2 leaves as it is: every text in it was escaped where it was drawn."""
    return jinja2.utils.markupsafe.Markup(drawn)
