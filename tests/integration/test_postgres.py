"""The ledger on a real Postgres, through the same code as on SQLite."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from postgres_server import Server, thrown_away
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from noria.bootstrap import open_workspace
from noria.config import Project, StoreConfig
from noria.core.errors import StoreUnavailable, Tampered
from noria.governance import records
from noria.governance.audit import verify
from noria.governance.facts import ApprovalGiven
from noria.store.replay import difference, rebuild
from noria.store.workspace import Workspace
from noria.testing import random_payload
from noria.tracking import records as runs
from noria.tracking import run as tracking

WRITER = """
import sys
from pathlib import Path
from noria.bootstrap import open_workspace
from noria.config import Project, StoreConfig
from noria.governance.facts import ApprovalGiven
url, root, name, count = sys.argv[1:]
ws = open_workspace(project=Project(name="pg", root=Path(root), store=StoreConfig(database=url)))
for number in range(int(count)):
    with ws.ledger.transaction() as tx:
        given = tx.append(ApprovalGiven(about=name, digest="d", role=str(number)))
    print(given.seq, flush=True)
    job = ws.jobs.claim(["k"], owner=name)
    if job is not None:
        print("job", job.key, flush=True)
        ws.jobs.finish(job.id, name)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with thrown_away("ledger") as made:
        yield made


@pytest.fixture
def project(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Project:
    name = f"noria_{abs(hash(request.node.nodeid)) % 10**10}"
    return Project(name="pg", root=tmp_path, store=StoreConfig(database=server.database(name)))


@pytest.fixture
def ws(project: Project) -> Iterator[Workspace]:
    made = open_workspace(project=project)
    yield made
    made.ledger.database.close()


def append(ws: Workspace, *roles: str) -> None:
    with ws.ledger.transaction() as tx:
        for role in roles:
            tx.append(ApprovalGiven(about="model/m", digest="d", role=role), inputs=[("thing", f"x/{role}")])


def test_facts_records_and_checkpoints_are_as_on_sqlite(ws: Workspace) -> None:
    append(ws, "one", "two")
    append(ws, "three")
    with ws.ledger.read() as reader:
        assert [record.role for record in records.approvals(reader, "model/m")] == ["one", "two", "three"]
    assert [stored.seq for stored in ws.ledger.facts(ref="x/two")] == [2]
    report = verify(ws)
    assert report.ok, report
    assert report.size == 3


def test_an_exception_takes_everything_back(ws: Workspace) -> None:
    def work() -> None:
        with ws.ledger.transaction() as tx:
            tx.append(ApprovalGiven(about="a", digest="d", role="lost"))
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        work()
    assert ws.ledger.head() == 0
    append(ws, "kept")
    assert verify(ws).ok


def test_records_of_every_slice_are_the_fold_of_the_facts(ws: Workspace) -> None:
    chance = random.Random(11)
    kinds = list(ws.ledger.slices.kinds)
    with ws.ledger.transaction() as tx:
        for _ in range(300):
            tx.append(random_payload(chance, ws.ledger.slices.kinds, chance.choice(kinds)))
    assert difference(ws.ledger) == []
    assert rebuild(ws.ledger) == 300
    assert difference(ws.ledger) == []


@pytest.mark.parametrize("table", ["fact", "edge", "node", "checkpoint"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {}", "UPDATE {} SET {column} = {column}"])
def test_the_database_refuses_to_change_what_was_said(ws: Workspace, table: str, statement: str) -> None:
    append(ws, "one", "two")
    column = {"fact": "seq", "edge": "seq", "node": "level", "checkpoint": "size"}[table]
    with pytest.raises(DBAPIError, match="immutable"), ws.ledger.database.write() as connection:
        connection.execute(text(statement.format(table, column=column)))


def test_an_edit_by_an_administrator_is_named(ws: Workspace) -> None:
    append(ws, *"abcdefgh")
    with ws.ledger.database.write() as connection:
        connection.execute(text("ALTER TABLE fact DISABLE TRIGGER ALL"))
        connection.execute(text("UPDATE fact SET body = replace(body, '\"c\"', '\"z\"') WHERE seq = 3"))
    report = verify(ws)
    assert (report.kind, report.first_bad) == ("edited", 3)
    with ws.ledger.database.write() as connection:
        connection.execute(text("DELETE FROM fact WHERE seq > 5"))
    with pytest.raises(Tampered, match="was cut"):
        append(ws, "more")


def test_four_processes_write_and_claim_without_losing_or_repeating_anything(ws: Workspace, project: Project) -> None:
    for number in range(40):
        ws.jobs.enqueue("k", {}, key=f"job-{number}")
    command = [sys.executable, "-c", WRITER, project.store.database, str(project.root)]
    processes = [
        subprocess.Popen([*command, f"writer-{n}", "30"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    outputs = []
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        outputs.append(output.split("\n"))
    lines = [line for output in outputs for line in output if line]
    assert sorted(int(line) for line in lines if line.isdigit()) == list(range(1, 121))
    claimed = [line for line in lines if line.startswith("job")]
    assert sorted(claimed) == sorted(f"job job-{number}" for number in range(40))
    assert verify(ws).ok


def test_a_killed_writer_leaves_nothing_half_done(ws: Workspace, project: Project) -> None:
    command = [sys.executable, "-c", WRITER, project.store.database, str(project.root), "victim", "10"]
    size = 0
    points = {"append.fact": 1, "append.projected": 1, "commit.before": 1, "commit.after": 2, "seen.written": 2}
    for name, committed in points.items():
        environment = {**os.environ, "NORIA_FAILPOINT": f"{name}:2"}
        killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert len(killed.stdout.split()) == 1
        size += committed
        report = verify(ws)
        assert report.ok, report
        assert report.size == size


def test_two_first_starts_at_once_make_one_ledger(project: Project) -> None:
    def begin() -> str:
        ws = open_workspace(project=project)
        append(ws, "x")
        ws.ledger.database.close()
        return ws.ledger.signer.origin

    with ThreadPoolExecutor(4) as pool:
        found = [future.result(60) for future in [pool.submit(begin) for _ in range(4)]]
    assert len(set(found)) == 1


def test_a_server_that_restarts_is_unavailable_and_then_used_again(server: Server, ws: Workspace) -> None:
    append(ws, "before")
    server.stop("immediate")
    try:
        with pytest.raises(StoreUnavailable) as caught:
            append(ws, "down")
        assert caught.value.is_retry_safe
        assert len(str(caught.value).splitlines()) <= 6
    finally:
        server.start()
    append(ws, "after")
    assert [stored.payload.role for stored in ws.ledger.facts()] == ["before", "after"]
    assert verify(ws).ok


def test_a_run_keeps_its_lease_over_a_restart_of_the_server(
    server: Server, ws: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "BEAT_S", 0.1)
    monkeypatch.setattr(tracking, "RETRY_S", 0.1)
    (ws.project.root / "noria.toml").write_text('[project]\nname = "pg"\n')
    (ws.project.root / "pipeline.py").write_text("")
    with tracking.start(ws, "train") as run:
        server.stop("immediate")
        time.sleep(1)
        server.start()
        [known] = ws.jobs.leases("run/")
        later = known
        until = time.monotonic() + 60
        while later.expires_at <= known.expires_at and time.monotonic() < until:
            time.sleep(0.1)
            [later] = ws.jobs.leases("run/")
        assert later.expires_at > known.expires_at, "it was renewed after the restart"
        assert later.name == f"run/{run.run}"
    assert "Traceback" not in capfd.readouterr().err
    with ws.ledger.read() as tx:
        ended = runs.run(tx, run.run)
    assert ended is not None
    assert ended.status == "finished"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.rpartition("/")[0] + "/nowhere", "createdb"),
        (lambda url: url.replace("postgres@", "nobody:secret@"), "createuser"),
        (lambda url: url.replace("127.0.0.1", "no-such-host.invalid"), "host"),
        (lambda url: url.replace("127.0.0.1", "127.0.0.2"), "is it running?"),
    ],
)
def test_a_database_that_lets_nobody_in_says_what_to_look_at(
    project: Project, change: Callable[[str], str], said: str
) -> None:
    wrong = dataclasses.replace(project, store=StoreConfig(database=change(project.store.database)))
    with pytest.raises(StoreUnavailable) as caught:
        open_workspace(project=wrong)
    assert said in caught.value.hint
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 6


def test_a_database_that_became_read_only_is_unavailable(ws: Workspace) -> None:
    append(ws, "one")
    with ws.ledger.database.write() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar()
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    ws.ledger.database.close()
    with pytest.raises(StoreUnavailable, match="read-only"):
        append(ws, "two")
    assert ws.ledger.head() == 1
