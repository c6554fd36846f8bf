"""Schedules by real processes: several replicas on one database, kills at every commit, restarts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from postgres_server import thrown_away
from serving_client import wait_for

import warm
from noria.bootstrap import open_workspace
from noria.governance.audit import verify
from noria.project.explain import explain
from noria.schedule import records
from noria.schedule.records import TickRecord
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

KILLS_OF_A_TICK = (
    "transaction.begun:1",
    "append.fact:1",
    "append.projected:1",
    "commit.before:1",
    "commit.after:1",
    "tick.decided:1",
    "job.enqueued:1",
    "job.claimed:1",
    "lease.acquired:1",
    "run.started:1",
    "step.stored:1",
    "step.finished:1",
    "run.finished:1",
    "commit.before:5",
    "commit.after:5",
    "tick.ended:1",
    "job.finished:1",
)
PIPELINE = '''"""A step that leaves a line each time it is really done."""
import os
import pathlib
import time

import noria as nr


@nr.step(cache=False)
def note(due: str = "") -> str:
    place = pathlib.Path({effects!r})
    with place.open("a") as lines:
        lines.write(due + "\\n")
    while due and (place.parent / "hold").exists():
        time.sleep(0.05)
    return due


@nr.step
def told(due: str) -> int:
    return len(due)


@nr.pipeline
def notes():
    told(note())
'''
PARAMS = 'params = { "note.due" = "{due}" }'


def make_project(root: Path, schedule: str, *, effects: Path, store: str = "") -> Path:
    root.mkdir()
    (root / "noria.toml").write_text(
        f'[project]\nname = "notes"\n[server]\nport = 0\n{store}\n[schedule.notes]\n{schedule}\n{PARAMS}\n'
    )
    (root / "pipeline.py").write_text(PIPELINE.format(effects=str(effects)))
    return root


def ticks_of(ws: Workspace) -> list[TickRecord]:
    with ws.ledger.read() as tx:
        return sorted(records.ticks(tx, "notes", limit=1000), key=lambda tick: tick.due)


def runs_of(ws: Workspace, status: str = "finished") -> Counter[str]:
    """How many runs in a status each cause has."""
    with ws.ledger.read() as tx:
        return Counter(run.cause for run in tracking.runs(tx, status=status, limit=1000))


def require_once(ws: Workspace) -> None:
    """Each tick was decided once, ended once, and has one finished run; the ledger is sound."""
    decided = Counter((each.payload.due, each.payload.round) for each in ws.ledger.facts(kind="tick.decided"))
    ended = Counter((each.payload.due, each.payload.round) for each in ws.ledger.facts(kind="tick.ended"))
    assert set(decided.values()) == {1}
    assert set(ended.values()) == {1}
    done = [tick for tick in ticks_of(ws) if tick.status == "done"]
    assert done
    assert runs_of(ws) == Counter({tick.ref: 1 for tick in done})
    assert verify(ws).ok
    assert difference(ws.ledger) == []


def victim(root: Path, moment: str, kill_at: str = "") -> int:
    command = [sys.executable, str(Path(__file__).with_name("schedule_victim.py")), str(root), moment]
    found = subprocess.run(
        command,
        check=False,
        env={**os.environ, "NORIA_FAILPOINT": kill_at},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode in (0, -signal.SIGKILL), found.stderr
    return found.returncode


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose schedule was met half an hour before its first tick."""
    place = tmp_path_factory.mktemp("met")
    root = make_project(place / "p", 'every = "1h"', effects=Path("effects"))
    assert victim(root, "2026-01-01T00:30Z") == 0
    return root


@pytest.mark.parametrize("point", KILLS_OF_A_TICK)
def test_a_kill_at_any_point_neither_loses_nor_repeats_a_tick(tmp_path: Path, met: Path, point: str) -> None:
    root = tmp_path / "p"
    shutil.copytree(met, root)
    assert victim(root, "2026-01-01T01:10Z", point) == -signal.SIGKILL
    assert victim(root, "2026-01-01T01:11Z") == 0
    ws = open_workspace(root)
    (tick,) = ticks_of(ws)
    assert (tick.due, tick.status) == ("2026-01-01T01:00:00.000000Z", "done")
    require_once(ws)
    assert set((root / "effects").read_text().split()) == {"2026-01-01T01:00:00Z"}
    assert [job for job in ws.jobs.waiting() if job.state == "waiting"] == []


@contextmanager
def up(*roots: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A real `noria up` for each root."""
    started = []
    try:
        for root in roots:
            with (root / "up.log").open("ab") as output:
                command = [sys.executable, "-m", "noria", "up"]
                started.append(subprocess.Popen(command, cwd=root, stdout=output, stderr=output))
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
        for process in started:
            process.wait(timeout=60)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/shared.db"
        return
    with thrown_away("schedules") as server:
        yield server.database("notes")


@pytest.fixture
def request_open() -> Iterator[Callable[[Path], Workspace]]:
    """Opens workspaces whose connections are closed after the test."""
    opened: list[Workspace] = []

    def open_one(root: Path) -> Workspace:
        opened.append(open_workspace(root))
        return opened[-1]

    yield open_one
    for ws in opened:
        ws.ledger.database.close()


def test_two_supervisors_on_one_database_do_each_tick_once(
    tmp_path: Path, database: str, request_open: Callable[[Path], Workspace]
) -> None:
    """One of them is killed in the midst of it, with all its processes, and comes back."""
    effects = tmp_path / "effects"
    store = f'[store]\ndatabase = "{database}"\nobjects = "{tmp_path / "objects"}"'
    schedule = 'every = "6s"\noverlap = "queue"\ncatch_up = "all"'
    roots = [make_project(tmp_path / name, schedule, effects=effects, store=store) for name in ("one", "two")]
    ws = request_open(roots[0])
    assert ws.ledger.signer, "makes the key"
    (roots[1] / ".noria").mkdir()
    shutil.copy2(roots[0] / ".noria/key", roots[1] / ".noria/key")  # one ledger is signed with one key

    def finished(count: int) -> bool:
        for root in roots:
            assert "error" not in (root / "up.log").read_text(), (root / "up.log").read_text()
        return sum(runs_of(ws).values()) >= count

    with up(*roots) as (first, _second):
        wait_for(lambda: finished(3), limit_s=150, what="three runs")
        first.kill()
        first.wait()
        wait_for(lambda: finished(5), limit_s=150, what="two more by the other")
        with up(roots[0]):
            wait_for(lambda: finished(8), limit_s=150, what="three more by both")
            warm.noria("schedule", "pause", "notes", cwd=roots[1]).check_returncode()
            wait_for(lambda: not _waiting(ws), limit_s=200, what="the end of every tick")
    require_once(ws)
    found = ticks_of(ws)
    moments = [datetime.fromisoformat(tick.due) for tick in found]
    assert {b - a for a, b in pairwise(moments)} == {timedelta(seconds=6)}, "none is left out"
    # A step is done again only where its process was killed.
    lost = runs_of(ws, "lost")
    assert {tick.status for tick in found} == {"done"}
    repeated = {due for due, times in Counter(effects.read_text().split()).items() if times > 1}
    assert repeated <= {tick.due.replace(".000000Z", "Z") for tick in found if tick.ref in lost}


def _waiting(ws: Workspace) -> list[TickRecord]:
    with ws.ledger.read() as tx:
        return records.open_ticks(tx)


def test_a_run_whose_process_is_killed_is_taken_up_and_each_run_tells_of_its_tick(tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    root = make_project(tmp_path / "p", 'cron = "0 4 1 1 *"', effects=effects)
    (tmp_path / "hold").touch()
    ws = open_workspace(root)
    triggered = subprocess.run(
        [sys.executable, "-m", "noria", "schedule", "trigger", "notes", "--json"], cwd=root, check=True,
        capture_output=True,
    )  # fmt: skip
    (ref,) = json.loads(triggered.stdout)["ticks"]
    with up(root):
        wait_for(effects.exists, limit_s=90, what="the step's effect")
        children = json.loads((root / ".noria/up.json").read_text())["children"]
        os.kill(children["trainer"], signal.SIGKILL)
        (tmp_path / "hold").unlink()
        wait_for(lambda: not _waiting(ws), limit_s=120, what="the tick's end")
    (tick,) = ticks_of(ws)
    assert (tick.ref, tick.status, tick.cause) == (ref, "done", "trigger")
    with ws.ledger.read() as tx:
        taken_up = tracking.run(tx, tick.run)
    assert taken_up is not None
    assert (taken_up.status, taken_up.resumed) == ("finished", 1)
    assert [stored.payload.status for stored in ws.ledger.facts(kind="run.finished")] == ["lost", "finished"]
    require_once(ws)
    chain = explain(ws, tick.run)
    told = {link.what: link for link in chain.links}
    assert told["tick"].ref == ref
    below = explain(ws, ref)
    assert below.kind == "tick"
    assert {link.ref for link in below.touched} >= {f"run/{tick.run}"}
