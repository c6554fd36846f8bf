"""The status page at `/`: what `noria status` says, for a browser. Read only, no state.

Everything comes from one verb, so the page decides nothing and shows nothing that the command line
would not. Jinja2 escapes every value; the policy header forbids foreign content and every script but one, by
its digest: links that MLflow's clients print (`/#/experiments/1/runs/RUN`) name the run where only a browser
sees it, and the script leads from there to the page of the run.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from noria.core.errors import NoriaError
from noria.core.lazy import lazy
from noria.faces import verbs
from noria.faces.cli import text
from noria.faces.cli.show_project import time_left, waits
from noria.faces.http.auth import actor_in
from noria.faces.http.guarded import guarded
from noria.faces.ui.answers import HEADERS, refused, tone
from noria.faces.ui.chart import Chart, chart
from noria.store.workspace import Workspace

__all__ = ["page", "routes"]

if TYPE_CHECKING:
    from noria.project import status as project
else:  # a page is asked for later than an answer, if at all
    project = lazy("noria.project.status")

jinja2 = lazy("jinja2")
SCRIPT = (
    "const go = () => { const of = /^#\\/experiments\\/[^/?]+(?:\\/runs\\/(\\w[\\w.-]*))?/.exec(location.hash); "
    'if (of) location.replace(of[1] ? "/runs/" + of[1] : "/runs"); }; '
    'addEventListener("hashchange", go); go();'
)
_DIGEST = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
_POLICY = {
    **HEADERS,
    "content-security-policy": f"{HEADERS['content-security-policy']}; script-src 'sha256-{_DIGEST}'",
}
log = logging.getLogger("noria.pages")


def routes(workspace: Workspace) -> list[Route]:
    """The routes of the pages, over one workspace. Handlers are plain functions: they run in threads."""

    def home(request: Request) -> Response:
        try:
            who = actor_in(request.scope)
            session = who.name if who.is_session else ""
            text = page(verbs.builtins(project.status(workspace)), session=session)
            return Response(text, 200, _POLICY, media_type="text/html")
        except NoriaError as error:
            return refused(error)
        except Exception:
            log.exception("the status page failed")
            return Response("the status page failed; the log says where\n", 500, HEADERS, media_type="text/plain")

    return [Route("/", guarded(home, "project.read", refuse=refused), methods=["GET"])]


def page(found: Mapping[str, Any], *, session: str = "") -> str:
    """The page of a project's status, given as plain values; with `session` it says who is logged in."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(
        count=text.count,
        decimal=text.decimal,
        signed=text.signed,
        share=text.share,
        interval=text.interval,
        day=text.day,
        lasting=text.lasting,
        time_left=time_left,
        waits=waits,
        tone=tone,
    )
    source = importlib.resources.files("noria.faces.ui") / "templates" / "status.html"
    models = [{**model, "metric": _metric(model), "chart": _chart(model)} for model in found["models"]]
    rendered: str = environment.from_string(source.read_text(encoding="utf-8")).render(
        **{**found, "models": models, "session": session, "script": SCRIPT}
    )
    return rendered


def _metric(model: Mapping[str, Any]) -> str:
    """The metric that the page shows of a model: AUC where there is one."""
    names = [name for window in model["windows"] for name in window["live"]]
    return "auc" if "auc" in names else next(iter(names), "")


def _chart(model: Mapping[str, Any]) -> Chart | None:
    """Quality by window, live against the first release; None with fewer than two windows."""
    name = _metric(model)
    windows = [window for window in model["windows"] if _estimate(window["live"], name)["value"] is not None]
    if len(windows) < 2:
        return None
    return chart(
        labels=[window["window"] for window in windows],
        live=[_estimate(window["live"], name) for window in windows],
        frozen=[_estimate(window["frozen"], name)["value"] for window in windows],
        marks=[str(window["decision"]) for window in windows],
    )


def _estimate(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    return metrics.get(name) or nothing
