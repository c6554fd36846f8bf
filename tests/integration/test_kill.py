"""Kill -9 at every failpoint and at random moments: nothing acknowledged is lost, nothing is half done."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import noria.store
from noria.bootstrap import open_workspace
from noria.config import Project
from noria.governance.audit import verify
from noria.store.failpoint import NAMES
from noria.store.linelog import read_lines
from noria.store.start import MIGRATIONS
from noria.store.workspace import Workspace

VICTIM = Path(__file__).with_name("victim.py")
SOURCES = (Path(noria.store.__file__).parent, Path(noria.store.__file__).parent.parent / "engines" / "objects")
ROUNDS = 3

MIGRATION = '''
"""A second revision, for the tests."""
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


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


def run(*arguments: str | Path | int, failpoint: str = "", hashseed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NORIA_FAILPOINT": failpoint, "PYTHONHASHSEED": hashseed}
    return subprocess.run(
        [sys.executable, str(VICTIM), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


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
    written, _ = read_lines(root / "lines.log")
    for line in acknowledged.splitlines():
        kind, _, value = line.partition(" ")
        if kind == "object":
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


def test_the_store_uses_listed_failpoints_only() -> None:
    points = points_of_the_store()
    assert set(points) <= set(NAMES)
    assert len(points) >= 18


@pytest.mark.parametrize("name", [name for name in points_of_the_store() if not name.startswith("migration.")])
def test_a_kill_at_a_failpoint_loses_nothing_and_the_work_can_be_finished(name: str, tmp_path: Path) -> None:
    acknowledged, count = "", 0
    for count in range(1, 5):
        killed = run("work", tmp_path, ROUNDS, failpoint=f"{name}:{count}")
        acknowledged += killed.stdout
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        check(tmp_path, acknowledged)
    assert count > 1, f"{name} was never passed"
    finished = run("work", tmp_path, ROUNDS)
    assert finished.returncode == 0, finished.stderr
    check(tmp_path, acknowledged + finished.stdout)


@pytest.mark.parametrize("name", [name for name in points_of_the_store() if name.startswith("migration.")])
def test_a_kill_in_a_migration_leaves_the_old_ledger_or_the_new_one(name: str, tmp_path: Path) -> None:
    migrations = with_second_revision(tmp_path)
    assert run("work", tmp_path / "p", 1).returncode == 0
    killed = run("migrate", tmp_path / "p", migrations, failpoint=f"{name}:1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    check(tmp_path / "p", "")
    assert run("migrate", tmp_path / "p", migrations).returncode == 0
    assert run("migrate", tmp_path / "p", migrations).returncode == 0


def with_second_revision(folder: Path) -> Path:
    migrations = folder / "migrations"
    shutil.copytree(MIGRATIONS, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    (migrations / "versions" / "0002_second.py").write_text(MIGRATION)
    return migrations


def killed_at_random(chance: random.Random, longest_s: float, *arguments: str | Path | int) -> tuple[bool, str]:
    """Start a victim, kill it after a random time; whether it was still alive, and what it acknowledged."""
    process = subprocess.Popen(
        [sys.executable, str(VICTIM), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + chance.uniform(0.0, longest_s)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    was_alive = process.poll() is None
    if was_alive:
        process.kill()
    output, errors = process.communicate()
    assert was_alive or process.returncode == 0, errors
    return was_alive, output


def measured(*arguments: str | Path | int) -> float:
    begun = time.monotonic()
    assert run(*arguments).returncode == 0
    return time.monotonic() - begun


@pytest.mark.slow
def test_a_first_start_killed_at_any_moment_always_comes_up(tmp_path: Path) -> None:
    chance = random.Random(1)
    longest = measured("open", tmp_path / "measure")
    hits = 0
    for number in range(int(os.environ.get("NORIA_KILLS", "30"))):
        root = tmp_path / str(number)
        was_alive, _ = killed_at_random(chance, longest, "open", root)
        hits += was_alive
        check(root, "")
        shutil.rmtree(root)
    assert hits > 0


@pytest.mark.slow
def test_a_migration_killed_at_any_moment_always_comes_up(tmp_path: Path) -> None:
    chance = random.Random(2)
    migrations = with_second_revision(tmp_path)
    assert run("work", tmp_path / "old", 1).returncode == 0
    shutil.copytree(tmp_path / "old", tmp_path / "measure")
    longest = measured("migrate", tmp_path / "measure", migrations)
    for number in range(int(os.environ.get("NORIA_KILLS", "30"))):
        root = tmp_path / str(number)
        shutil.copytree(tmp_path / "old", root)
        killed_at_random(chance, longest, "migrate", root, migrations)
        again = run("migrate", root, migrations)
        assert again.returncode == 0, again.stderr
        shutil.rmtree(root)


@pytest.mark.slow
def test_work_killed_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    chance = random.Random(3)
    longest = measured("work", tmp_path / "measure", 20)
    acknowledged = ""
    root = tmp_path / "p"
    for _ in range(int(os.environ.get("NORIA_KILLS", "20"))):
        _, output = killed_at_random(chance, longest, "work", root, 20)
        acknowledged += output
        check(root, acknowledged)
