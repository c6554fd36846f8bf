"""The controlling process killed at each point where it commits something; the next one finishes its work.

The process is the real one. The log that it judges and seals is written here, line by line as a server
would, so that no server is needed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from loop_project import World, month_rows
from serving_client import wait_for
from serving_project import MODEL, make_project, make_release

from noria.bootstrap import open_workspace
from noria.governance import audit
from noria.loop import react
from noria.loop import records as loop
from noria.monitoring import records as monitoring
from noria.registry import records as registry
from noria.serving import capture, records, segment
from noria.serving.advance import advance
from noria.serving.deployment import deploy, promote
from noria.store.owner import owner_id
from noria.store.replay import difference
from noria.store.workspace import Workspace

KILLS_OF_A_ROLLOUT = ("lease.acquired", "rollout.advanced", "deployment.changed", "commit.after")
KILLS_OF_A_TICK = ("predictions.sealed", "labels.sealed", "job.enqueued", "loop.ticked", "commit.after")
POLICY = """
[model.late.deploy]
path = ["shadow 60 requests", "canary 20% 60 requests", "canary 50% 60 requests", "100%"]
abort = { errors = 0.2, p99_ms = 2000 }
"""
FEED_ROWS = 40
LIMIT_S = 60.0


@contextmanager
def controlling(root: Path, kill_at: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A controller at work; it dies by itself at a failpoint, or is asked to stop at the end."""
    environment = {**os.environ, "NORIA_FAILPOINT": kill_at}
    command = [sys.executable, "-m", "noria.faces.controller", "--root", str(root)]
    with (root / "controller.log").open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=output)
    assert process.stdin is not None
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=30)
        process.stdin.close()


def until_killed(root: Path, point: str, between: Callable[[], None]) -> None:
    """Let a controller work until it dies at a point; `between` is done again and again meanwhile."""
    give_up = time.monotonic() + LIMIT_S
    with controlling(root, f"{point}:1") as process:
        while process.poll() is None:
            assert time.monotonic() < give_up, f"{point} was not passed: {(root / 'controller.log').read_text()}"
            between()
            time.sleep(0.02)
    assert process.returncode == -signal.SIGKILL, (root / "controller.log").read_text()


def require_sound(ws: Workspace) -> None:
    """The ledger verifies and every record is the fold of the facts."""
    report = audit.verify(ws)
    assert report.ok, report
    assert difference(ws.ledger) == []


def is_empty(place: Path) -> bool:
    """Whether no log file is left in a folder."""
    return not segment.sources(place)


class Log:
    """Plays the server: writes answers by the deployment that is in force."""

    def __init__(self, ws: Workspace) -> None:
        self.ws = ws
        self._chance = random.Random(11)
        self._writer = segment.SegmentWriter(segment.folder(ws.project.state, MODEL), lambda: time.time_ns() // 1000)
        self.written = 0

    def feed(self) -> None:
        """Some more requests, each with a key of its own."""
        with self.ws.ledger.read() as tx:
            live = records.deployment(tx, MODEL)
        assert live is not None
        lines = []
        for _ in range(FEED_ROWS):
            self.written += 1
            (arm,) = self._chance.choices(live.arms, [arm.weight for arm in live.arms])
            name = f"pred_{self.written:08d}"
            line = {"t": time.time_ns() // 1000, "dep": live.seq, "rel": arm.release, "st": 200, "us": 900, "y": 0.5}
            own = {"id": name, "rid": f"r{self.written}", "key": f"k{self.written}", "x": {"n0": 1.0}, "c": 1}
            lines.append({**line, **own, "arm": arm.name, "pi": arm.weight, "b": self.written})
            if live.shadow:
                lines.append({**line, "rel": live.shadow, "sh": name, "lc": 1, "ls": 200, "c": 1})
        self._writer.append([json.dumps(item).encode() for item in lines])

    def close(self) -> None:
        self._writer.close()


@pytest.fixture(scope="module")
def two_releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose first release is live and whose second may ship. Copied by each test."""
    ws = make_project(tmp_path_factory.mktemp("controlled") / "project", POLICY)
    make_release(ws, 0)
    deploy(ws, MODEL)
    make_release(ws, 1)
    ws.ledger.database.close()
    return ws.project.root


@pytest.mark.parametrize("point", KILLS_OF_A_ROLLOUT)
def test_a_killed_judge_moves_nothing_twice_and_the_next_ends_the_rollout(
    two_releases: Path, tmp_path: Path, point: str
) -> None:
    root = tmp_path / "project"
    shutil.copytree(two_releases, root)
    ws = open_workspace(root)
    started = promote(ws, MODEL)
    log = Log(ws)
    until_killed(root, point, log.feed)
    require_sound(ws)
    taken = advance(ws, MODEL)
    assert taken is not None
    assert taken.reason != "another process judges it", "that one is dead, whatever its lease says"
    ws.jobs.release(f"rollout/{started.rollout}", owner_id())

    def outcome() -> str:
        log.feed()
        with ws.ledger.read() as tx:
            found = records.rollout(tx, started.rollout)
        assert found is not None
        return "" if found.outcome == records.OPEN else found.outcome

    with controlling(root):
        assert wait_for(outcome, limit_s=LIMIT_S, what="the rollout's end") == "promoted"
        log.close()
        wait_for(partial(is_empty, segment.folder(ws.project.state, MODEL)), what="the sealing of the log")
    with ws.ledger.read() as tx:
        steps = records.step_deployments(tx, started.rollout)
        live = registry.production(tx, MODEL)
    assert sorted(steps.values()) == [0, 1, 2], "every step was in force once"
    assert live is not None
    assert live.release == 2
    kinds = [stored.fact.kind for stored in ws.ledger.facts(ref=f"rollout/{started.rollout}", limit=1_000)]
    assert (kinds.count("rollout.advanced"), kinds.count("rollout.finished")) == (2, 1)
    assert capture.predictions(ws, MODEL).num_rows == log.written
    require_sound(ws)


@pytest.fixture(scope="module")
def january(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A project whose January model is live, with the answers, labels and data of February. Copied by each test."""
    world = World(tmp_path_factory.mktemp("ticked") / "project")
    world.first()
    world.serve(month_rows(2))
    world.send_data(2, month_rows(2))
    world.pass_time("2013-03-03")
    return world


@pytest.mark.parametrize("point", KILLS_OF_A_TICK)
def test_a_killed_controller_has_sealed_and_queued_each_thing_once_after_the_next(
    january: World, tmp_path: Path, point: str
) -> None:
    world = january.copy(tmp_path / "project")
    until_killed(world.root, point, lambda: None)
    require_sound(world.ws)

    def is_reviewed() -> bool:
        """Does what the controller queued, as the trainer would, and looks whether the month is decided."""
        job = world.ws.jobs.claim(react.KINDS, owner="test", lease_s=600)
        if job is not None:
            world.ws.jobs.finish(job.id, "test", react.work(world.ws, job))
        with world.ws.ledger.read() as tx:
            return bool(loop.judgements(tx, "m"))

    with controlling(world.root):
        wait_for(is_reviewed, limit_s=LIMIT_S, what="the review")
        for kind in ("predictions", "labels"):
            place = segment.folder(world.ws.project.state, "m", kind)
            wait_for(partial(is_empty, place), what=f"the sealing of {kind}")
    with world.ws.ledger.read() as tx:
        assert len(loop.decisions(tx, "m")) == 1
        assert len(loop.judgements(tx, "m")) == 1
        assert sum(piece.count for piece in records.segments(tx, "m")) == 3_000
        assert sum(piece.count for piece in monitoring.label_segments(tx, "m")) == 3_001
    assert capture.predictions(world.ws, "m").num_rows == 3_000
    require_sound(world.ws)
