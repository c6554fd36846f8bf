"""The pages of runs: what they show, that they go on by themselves, and what they never let through."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from noria.bootstrap import WallClock
from noria.config import Project
from noria.experiments.recorder import Recording
from noria.faces.http.auth import Guard
from noria.faces.http.guarded import behind
from noria.faces.protocols.mlflow.routes import routes as mlflow_routes
from noria.faces.ui import runs
from noria.governance.tokens import create
from noria.store.workspace import Workspace
from noria.testing import open_memory

EVIL = '<script>alert(1)</script>"><img src=x onerror=1>'


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    made = open_memory(Project(name="shop"), root=tmp_path)
    yield made
    made.ledger.database.close()


def begin(ws: Workspace, name: str = "first") -> Recording:
    """A run that is being recorded."""
    return Recording(
        ws.project,
        clock=WallClock(),
        objects=lambda folder: ws.objects,
        open_workspace=lambda: ws,
        name=name,
        experiment="churn",
        parent="",
        actor="user:ada",
    )


def ask(ws: Workspace, *addresses: str, token: str = "") -> list[httpx.Response]:
    """The answers to GET of each address."""
    headers = {"authorization": f"Bearer {token}"} if token else {}

    async def all_of_them() -> list[httpx.Response]:
        application = behind(Guard(ws), Starlette(routes=[*runs.routes(ws), *mlflow_routes(ws)]))
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            return [await client.get(address) for address in addresses]

    return asyncio.run(all_of_them())


def logged(ws: Workspace, name: str, **params: Any) -> str:
    """A finished run with a curve."""
    with begin(ws, name) as run:
        run.log(params=params, tags={"team": "growth"}, note="the first with the new column")
        for step in range(20):
            run.log(loss=1 / (step + 1), step=step)
        run.log({"system/process_count": 3.0})
        run.artifact(b"what it says", "plots/a b%.txt")
    return run.run


def test_a_run_shows_what_it_logged_and_gives_its_files(ws: Workspace) -> None:
    run = logged(ws, "first", lr=0.1)
    (page,) = ask(ws, f"/runs/{run}")
    assert page.status_code == 200
    for word in ("first", run, "finished", "churn", "user:ada", "lr", "0.1", "growth", "the first with the new column"):
        assert word in page.text
    assert 'aria-label="loss by step"' in page.text
    assert page.text.index("The machine meanwhile") < page.text.index('aria-label="process_count by seconds"')
    assert 'http-equiv="refresh"' not in page.text
    (address,) = re.findall(r'href="(/api/[^"]*)"', page.text)
    (file,) = ask(ws, address)
    assert (file.status_code, file.content) == (200, b"what it says")


def test_a_run_that_goes_on_is_loaded_anew(ws: Workspace) -> None:
    run = begin(ws)
    run.log(loss=1.0)
    while not ask(ws, "/runs")[0].text.count("/runs/run_"):
        continue  # its thread sends what it has; the timeout of all tests bounds this
    (page,) = ask(ws, f"/runs/{run.run}")
    assert '<meta http-equiv="refresh" content="10">' in page.text
    assert "running" in page.text
    run.finish()
    assert 'http-equiv="refresh"' not in ask(ws, f"/runs/{run.run}")[0].text


def test_runs_are_found_by_a_filter_and_a_filter_that_cannot_be_read_is_said(ws: Workspace) -> None:
    logged(ws, "one", lr=1)
    logged(ws, "two", lr=2)
    every, one, wrong = ask(ws, "/runs", "/runs?filter=params.lr%20%3D%20'1'", "/runs?filter=nonsense")
    assert "one</a>" in every.text
    assert "two</a>" in every.text
    assert "one</a>" in one.text
    assert "two</a>" not in one.text
    assert wrong.status_code == 200
    assert 'value="nonsense"' in wrong.text
    assert 'class="alert"' in wrong.text


def test_a_long_list_has_pages(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "LISTED", 2)
    for name in ("one", "two", "three"):
        logged(ws, name)
    (newest,) = ask(ws, "/runs?order=attributes.start_time%20DESC")
    (further,) = re.findall(r'href="(/runs\?[^"]*)"', newest.text)
    (rest,) = ask(ws, further.replace("&amp;", "&"))
    assert [name in rest.text for name in ("one</a>", "two</a>", "three</a>")] == [True, False, False]


def test_several_runs_are_compared(ws: Workspace) -> None:
    ids = [logged(ws, f"try {n}", lr=n) for n in (1, 2, 3)]
    two, three, one = ask(ws, *("/runs/compare?" + "&".join(f"run={run}" for run in ids[:n]) for n in (2, 3, 1)))
    assert two.text.count('<path class="curve"') >= 2
    assert "parallel coordinates" not in two.text
    assert "parallel coordinates" in three.text
    cells = re.findall(r"<td>lr</td>(?:<td class=\"wide\">(\d)</td>)(?:<td class=\"wide\">(\d)</td>)", three.text)
    assert cells == [("1", "2")]
    assert one.status_code == 400
    assert "at least two runs" in one.text


def test_texts_of_others_are_shown_and_do_nothing(ws: Workspace) -> None:
    with begin(ws, EVIL) as run:
        run.log({EVIL: 1.0, f"system/{EVIL}": 1.0}, params={EVIL: EVIL, "n": 1}, tags={EVIL: EVIL}, note=EVIL)
        run.artifact(b"x", f"{EVIL}.txt")
        run.input(EVIL, context=EVIL)
    others = [logged(ws, EVIL, n=n, **{EVIL: n}) for n in (2, 3)]
    compare = "/runs/compare?" + "&".join(f"run={each}" for each in (run.run, *others))
    for answer in ask(ws, "/runs", f"/runs/{run.run}", compare, f"/runs?filter={EVIL}", "/runs/%3Cscript%3E"):
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        if answer.headers["content-type"].startswith("text/html"):
            assert "<script" not in answer.text
            assert "<img" not in answer.text
            links = re.findall(r"(?:href|action)=\"([^\"]*)\"", answer.text)
            assert all(re.match(r"/(?!/)", link) for link in links), "links within the server only"
            assert re.findall(r"\ssrc=|url\(|@import|https?://", answer.text.replace("&lt;img src=", "")) == []


def test_who_may_see_runs_only_sees_no_lineage_and_no_differences(ws: Workspace) -> None:
    ids = [logged(ws, f"try {n}", lr=n) for n in (1, 2)]
    narrow = create(ws, "narrow", role="viewer", scopes=("experiments.read",)).secret
    viewer = create(ws, "viewer", role="viewer").secret
    addresses = (f"/runs/{ids[0]}", f"/runs/compare?run={ids[0]}&run={ids[1]}")
    for token, has_more in ((viewer, True), (narrow, False)):
        one, both = ask(ws, *addresses, token=token)
        assert (one.status_code, both.status_code) == (200, 200)
        assert ("made from" in one.text) == has_more
        assert ("Differences" in both.text) == has_more
    assert [answer.status_code for answer in ask(ws, "/runs", *addresses)] == [401, 401, 401]


def test_a_run_that_is_not_there_is_said_so(ws: Workspace) -> None:
    (answer,) = ask(ws, "/runs/run_1")
    assert answer.status_code == 404
    assert "there is no run" in answer.text
