"""Links that MLflow's clients print, `/#/experiments/1/runs/RUN`: a browser comes to the page of the run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from serving_client import wait_for
from starlette.applications import Starlette

from noria.bootstrap import open_workspace
from noria.faces.http.auth import Guard
from noria.faces.http.guarded import behind
from noria.faces.ui import pages, runs
from noria.store.workspace import Workspace
from noria.tracking import records

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
RECORD = """
import noria as nr
with nr.start_run("first", experiment="churn") as run:
    run.log(loss=0.5, step=1)
"""


@pytest.fixture
def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), "")
    if not found:
        message = "no browser is here to follow a link: apt-get install -y chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    """A project with one run."""
    root = tmp_path / "p"
    root.mkdir()
    (root / "noria.toml").write_text('[project]\nname = "shop"\n')
    subprocess.run([sys.executable, "-c", RECORD], cwd=root, check=True)
    made = open_workspace(root)
    yield made
    made.ledger.database.close()


@pytest.fixture
def address(ws: Workspace) -> Iterator[str]:
    """A server of the pages, on a free port."""
    application = behind(Guard(ws), Starlette(routes=[*pages.routes(ws), *runs.routes(ws)]))
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started, limit_s=30)
    yield f"http://localhost:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def shown(browser: str, address: str, place: Path) -> str:
    """What a browser has made of an address in the end."""
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={place}", "--virtual-time-budget=5000"]
    done = subprocess.run(
        [browser, *words, "--dump-dom", address], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def test_a_printed_link_leads_to_the_page_of_its_run(browser: str, address: str, ws: Workspace, tmp_path: Path) -> None:
    with ws.ledger.read() as tx:
        (run,) = records.runs(tx)
    link = f"{address}/#/experiments/1/runs/{run.run}"
    assert "<title>first" in shown(browser, link, tmp_path / "profile")
    assert "<title>Runs" in shown(browser, f"{address}/#/experiments/1", tmp_path / "profile")
    for other in ("", "#/experiments/1/runs/%22onerror", "#elsewhere"):
        assert "<title>first" not in shown(browser, f"{address}/{other}", tmp_path / "profile")
