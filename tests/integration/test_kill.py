"""Kill -9 at every failpoint and at random moments: nothing acknowledged is lost, nothing is half done."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

import noria.store
from noria.bootstrap import open_workspace
from noria.config import Project
from noria.governance.audit import verify
from noria.store.linelog import read_lines
from noria.store.start import MIGRATIONS
from noria.store.tree import iter_tree
from noria.store.workspace import Workspace

VICTIM = Path(__file__).with_name("victim.py")
SOURCES = (Path(noria.store.__file__).parent, Path(noria.store.__file__).parent.parent / "engines" / "objects")
ROUNDS = 3
KILLS_OF_THE_STORE = (
    "start.key",
    "start.tables",
    "start.committed",
    "records.cleared",
    "records.folded",
    "transaction.begun",
    "append.fact",
    "append.projected",
    "commit.before",
    "commit.after",
    "seen.written",
    "object.temp",
    "object.synced",
    "object.renamed",
    "pack.appended",
    "pack.marked",
    "pack.synced",
    "pack.indexed",
    "chunks.stored",
    "recipe.synced",
    "recipe.renamed",
    "repack.copied",
    "repack.moved",
    "lease.written",
    "collect.marked",
    "collect.trashed",
    "collect.purged",
    "line.written",
    "series.flushed",
    "seal.object",
    "seal.discarded",
    "job.enqueued",
    "job.claimed",
    "job.finished",
    "lease.acquired",
)
OF_A_REMOTE = ("trash.copied", "trash.restored", "direct.begun", "direct.joined", "direct.copied")
"""Points that only a bucket passes: killed in test_remote_collect.py and test_mlflow_direct.py."""
KILLS_OF_A_MIGRATION = ("migration.started", "migration.kept", "migration.done")

MIGRATION = '''
"""A further revision, for the tests."""
import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade():
    op.add_column("setting", sa.Column("note", sa.Text, nullable=True))
    op.create_table("extra", sa.Column("id", sa.Integer, primary_key=True))
    op.create_index("extra_id", "extra", ["id"])
'''


def points_of_the_store() -> list[str]:
    found: set[str] = set()
    for folder in SOURCES:
        for file in folder.rglob("*.py"):
            found.update(re.findall(r'failpoint\("([a-z.]+)"\)', file.read_text()))
    return sorted(found)


class Victims:
    """Victims that are forked from one loaded process, and killed at a failpoint or a random moment of their work."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self._output = folder / "output"
        self._longest_s = 0.0
        self._server = subprocess.Popen(
            [sys.executable, str(VICTIM), "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)

    def measure(self, *arguments: str | Path | int) -> None:
        """Let one victim end by itself: the others are killed within that time."""
        begun = time.monotonic()
        self.finish(*arguments)
        self._longest_s = time.monotonic() - begun

    def finish(self, *arguments: str | Path | int) -> str:
        """Let a victim do its work undisturbed; gives what it acknowledged."""
        assert self._run(None, *arguments) == 0, f"the victim failed by itself: {self._output.read_text()}"
        return self._output.read_text()

    def kill(self, *arguments: str | Path | int) -> tuple[bool, str]:
        """Start a victim and kill it: whether it was still alive, and what it acknowledged.

        The time that a victim needs changes with the machine's load, so the range of moments follows it:
        shorter after one that ended first, longer after one that was hit.
        """
        lifetime_s = self._chance.uniform(0.0, self._longest_s)
        status = self._run(lifetime_s, *arguments)
        assert status in (0, signal.SIGKILL), f"the victim failed by itself: {self._output.read_text()}"
        was_alive = status != 0
        self._longest_s = self._longest_s * 1.1 if was_alive else max(lifetime_s, 0.01)
        return was_alive, self._output.read_text()

    def armed(self, failpoint: str, *arguments: str | Path | int) -> tuple[int, str]:
        """Let a victim come to a failpoint: 0 or the signal that ended it, and what it acknowledged."""
        status = self._run(None, *arguments, failpoint=failpoint)
        assert status in (0, signal.SIGKILL), f"the victim failed by itself: {self._output.read_text()}"
        return status, self._output.read_text()

    def _run(self, lifetime_s: float | None, *arguments: str | Path | int, failpoint: str = "") -> int:
        self._output.unlink(missing_ok=True)
        self._output.touch()
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps([str(self._output), lifetime_s, failpoint, *map(str, arguments)]) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victims]:
    with Victims(tmp_path_factory.mktemp("victims")) as made:
        yield made


def opened(root: Path) -> Workspace:
    return open_workspace(project=Project(name="victim", root=root))


def check(root: Path, acknowledged: str) -> None:
    """The workspace opens, verifies, and holds everything that was acknowledged."""
    ws = opened(root)
    report = verify(ws)
    assert report.ok, report
    facts = ws.ledger.facts(limit=100_000)
    for fact in facts:
        assert ws.objects.has(fact.payload.digest), "a fact names an object that is not there"
        if fact.payload.about == "tree":
            for entry in iter_tree(ws.objects, fact.payload.digest):
                ws.objects.verify(entry.digest)
    written, _ = read_lines(root / "lines.log")
    for line in acknowledged.splitlines():
        kind, _, value = line.partition(" ")
        if kind in ("object", "tree"):
            ws.objects.get_bytes(value)
        elif kind == "fact":
            assert int(value) <= len(facts)
        elif kind == "line":
            assert value.encode() in written
        elif kind == "finished":
            job = ws.jobs.get(value)
            assert job is not None
            assert job.state == "finished"
        elif kind == "job":
            job_id = ws.jobs.enqueue("work", {}, key=value)
            found = ws.jobs.get(job_id)
            assert found is not None
            assert found.payload
    ws.ledger.database.close()


def test_every_point_of_the_store_is_killed_here() -> None:
    assert points_of_the_store() == sorted((*KILLS_OF_THE_STORE, *KILLS_OF_A_MIGRATION, *OF_A_REMOTE))


@pytest.mark.parametrize("name", KILLS_OF_THE_STORE)
def test_a_kill_at_a_failpoint_loses_nothing_and_the_work_can_be_finished(
    name: str, victims: Victims, tmp_path: Path
) -> None:
    acknowledged, count = "", 0
    for count in range(1, 5):
        status, said = victims.armed(f"{name}:{count}", "work", tmp_path, ROUNDS)
        acknowledged += said
        if status == 0:
            break
        check(tmp_path, acknowledged)
    assert count > 1, f"{name} was never passed"
    check(tmp_path, acknowledged + victims.finish("work", tmp_path, ROUNDS))


@pytest.mark.parametrize("name", KILLS_OF_A_MIGRATION)
def test_a_kill_in_a_migration_leaves_the_old_ledger_or_the_new_one(
    name: str, victims: Victims, tmp_path: Path
) -> None:
    migrations = with_further_revision(tmp_path)
    victims.finish("work", tmp_path / "p", 1)
    assert victims.armed(f"{name}:1", "migrate", tmp_path / "p", migrations)[0] == signal.SIGKILL
    check(tmp_path / "p", "")
    victims.finish("migrate", tmp_path / "p", migrations)
    victims.finish("migrate", tmp_path / "p", migrations)


def with_further_revision(folder: Path) -> Path:
    migrations = folder / "migrations"
    shutil.copytree(MIGRATIONS, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    (migrations / "versions" / "0003_further.py").write_text(MIGRATION)
    return migrations


def kills() -> int:
    """How many kills must hit a living victim."""
    return int(os.environ.get("NORIA_KILLS", "15"))


def attempts() -> range:
    """Enough tries for so many hits; running out of them fails the test, which then proved too little."""
    return range(6 * kills())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_first_start_killed_at_any_moment_always_comes_up(tmp_path: Path) -> None:
    hits = 0
    with Victims(tmp_path, 1) as victims:
        victims.measure("open", tmp_path / "measure")
        for number in attempts():
            root = tmp_path / str(number)
            was_alive, _ = victims.kill("open", root)
            hits += was_alive
            check(root, "")
            shutil.rmtree(root)
            if hits == kills():
                break
    assert hits == kills()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_migration_killed_at_any_moment_always_comes_up(tmp_path: Path) -> None:
    migrations = with_further_revision(tmp_path)
    hits = 0
    with Victims(tmp_path, 2) as victims:
        victims.finish("work", tmp_path / "old", 1)
        shutil.copytree(tmp_path / "old", tmp_path / "measure")
        victims.measure("migrate", tmp_path / "measure", migrations)
        for number in attempts():
            root = tmp_path / str(number)
            shutil.copytree(tmp_path / "old", root)
            was_alive, _ = victims.kill("migrate", root, migrations)
            hits += was_alive
            victims.finish("migrate", root, migrations)
            shutil.rmtree(root)
            if hits == kills():
                break
    assert hits == kills()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_work_killed_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    acknowledged, hits = "", 0
    root = tmp_path / "p"
    with Victims(tmp_path, 3) as victims:
        victims.measure("work", tmp_path / "measure", ROUNDS)
        for _ in attempts():
            was_alive, output = victims.kill("work", root, ROUNDS)
            hits += was_alive
            acknowledged += output
            check(root, acknowledged)
            if hits == kills():
                break
    assert hits == kills()
