"""Recording into Postgres: searches answer as on SQLite, and a database that dies in the middle costs nothing."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import Server, thrown_away

from noria.bootstrap import WallClock, open_workspace
from noria.config import Project, StoreConfig
from noria.experiments import search, sending
from noria.experiments.facts import Dataset, RunDescribed, RunLogged, Summary
from noria.experiments.recorder import Recording
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.tracking.facts import Code, RunFinished, RunStarted

VICTIM = Path(__file__).with_name("recording_victim.py")
FILTERS = (
    "",
    "metrics.a > 0.25",
    "metrics.a != 0.5 and metrics.b <= 1",
    "params.p = 'tree'",
    "params.p != 'tree'",
    "params.p LIKE 't%'",
    "params.p LIKE '%\\_%'",
    "params.p ILIKE 'T%'",
    "params.p LIKE 'line%r'",
    "params.p IN ('x_y', 'Tree')",
    "params.p IS NULL",
    "tags.`t t` IS NOT NULL",
    "status IN ('KILLED', 'finished')",
    "start_time < '2026-01-05'",
    "end_time > 1700000000000",
    "datasets.name ILIKE 'CH%'",
    "run_name NOT IN ('n1', 'n2') and seconds > 1.5",
)
ORDERS = ((), ("metrics.a DESC",), ("metrics.b ASC", "attributes.run_name DESC"), ("params.p",), ("start_time",))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with thrown_away("recording") as made:
        yield made


def fill(ws: Workspace) -> None:
    """Forty runs, the same for each workspace."""
    chance = random.Random(3)
    digest = ws.objects.put_json({})
    for number in range(40):
        run = f"run_{number:03d}"
        values = {key: chance.choice([0.0, 0.25, 0.5, 1.0]) for key in "ab" if chance.random() < 0.8}
        metrics = {
            key: Summary(points=1, step=0, at_us=1, last=value, low=value, high=value) for key, value in values.items()
        }
        chosen = chance.choice(["tree", "Tree", "x_y", "xzy", "line%r", "é"])
        logged = RunLogged(
            run=run,
            writer="w",
            upto=1,
            params={"p": chosen} if chance.random() < 0.8 else {},
            tags={"t t": "1"} if chance.random() < 0.5 else {},
            metrics=metrics,
            datasets=(Dataset(name=chance.choice(["churn", "flights"]), version=1, tree=digest),),
        )
        began = f"2026-01-{1 + number % 9:02d}T00:00:00.000000Z"
        with ws.ledger.transaction() as tx:
            tx.append(
                RunStarted(
                    run=run, pipeline="p", cause="user", code=Code(), config=digest, environment=digest, seed=0,
                    pins=(), owner="",
                )
            )  # fmt: skip
            tx.append(RunDescribed(run=run, name=f"n{number % 5}", experiment="e", parent="", began=began))
            tx.append(logged)
            status = chance.choice(["finished", "failed", "lost"])
            tx.append(RunFinished(run=run, status=status, reason="", seconds=float(number % 4)))


def pages(ws: Workspace, text: str, order: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    page = ""
    for _ in range(41):
        part = search.search_runs(ws, text, order, limit=7, page=page)
        found += [each.run for each in part]
        page = part[-1].page if part else ""
        if not page:
            break
    return found


def test_searches_answer_as_on_sqlite_and_page_by_page(server: Server, tmp_path: Path) -> None:
    database = server.database("searched")
    both = [
        open_workspace(project=Project(name="one", root=tmp_path / "lite")),
        open_workspace(project=Project(name="one", root=tmp_path / "pg", store=StoreConfig(database=database))),
    ]
    for ws in both:
        fill(ws)
        assert difference(ws.ledger) == []
    matched = 0
    for text, order in itertools.product(FILTERS, ORDERS):
        lite, pg = (pages(ws, text, order) for ws in both)
        assert sorted(lite) == sorted(set(pg)), text
        assert len(pg) == len(set(pg))
        if order != ("params.p",):  # texts sort as each database collates them
            assert lite == pg, (text, order)
        matched += bool(lite)
    assert matched > len(FILTERS) * len(ORDERS) * 0.8
    for ws in both:
        ws.ledger.database.close()


def test_texts_with_u_0000_and_steps_of_64_bits_are_sent(server: Server, tmp_path: Path) -> None:
    database = server.database("odd")
    project = Project(name="one", root=tmp_path, store=StoreConfig(database=database))
    ws = open_workspace(project=project)
    with Recording(
        project,
        clock=WallClock(),
        objects=lambda folder: ws.objects,
        open_workspace=lambda: ws,
        name="n\0",
        experiment="e\0",
        parent="",
        actor="user:somebody",
    ) as run:
        run.log({"m\0": 1.0}, step=2**62 + 1, params={"p\0": "v\0"}, tags={"t\0": "\udc80"}, note="x\0y")
        run.finish("failed", "why\0")
    assert sending.waiting(ws) == []
    found = search.show(ws, run.run)
    assert (found.run.name, found.run.reason, found.params) == ("n\ufffd", "why\ufffd", {"p\ufffd": "v\ufffd"})
    assert [(each.key, each.step) for each in found.metrics] == [("m\ufffd", 2**62 + 1)]
    assert difference(ws.ledger) == []
    ws.ledger.database.close()


def test_a_database_that_stops_in_the_middle_costs_nothing(server: Server, tmp_path: Path) -> None:
    database = server.database("stopped")
    (tmp_path / "noria.toml").write_text(f'[project]\nname = "demo"\n[store]\ndatabase = "{database}"\n')

    def noria(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "noria", *arguments, "--json"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)

    process = subprocess.Popen(
        [sys.executable, str(VICTIM), "told", "400"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "sent\n"
        server.stop()
        try:
            process.stdin.write("go on\n")
            process.stdin.flush()
            _, told = process.communicate(timeout=240)
            assert process.returncode == 0
            assert "the next noria command sends it" in told
            assert noria("runs").returncode == 3
        finally:
            server.start()
    assert json.loads(noria("status").stdout)["recordings"] == []
    [run] = json.loads(noria("runs").stdout)
    assert run["status"] == "finished"
    curve = json.loads(noria("experiments", "history", run["run"], "loss", "--points", "1000").stdout)
    assert curve["steps"] == list(range(800))
