"""First starts and migrations: the tables, whichever way they came to be, are the same."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from noria.core.errors import Tampered
from noria.store import tables
from noria.store.database import Database, database_url
from noria.store.failpoint import NAMES, failpoint
from noria.store.jobs import Jobs
from noria.store.migrate import upgrade
from noria.store.sealed import altered_rows
from noria.store.seen import Seen
from noria.store.slices import load_slices
from noria.store.start import MIGRATIONS, SCHEMA, start
from noria.testing import TestClock


def schema(file: Path) -> dict[str, object]:
    """Columns, indexes and triggers of the ledger's own tables, as SQLite knows them."""
    connection = sqlite3.connect(file)
    found: dict[str, object] = {}
    for name in tables.LEDGER.tables:
        found[name] = connection.execute(f"PRAGMA table_info({name})").fetchall()
        indexes = connection.execute(f"PRAGMA index_list({name})").fetchall()
        found[f"{name} indexes"] = sorted(
            (index[1], index[2], connection.execute(f"PRAGMA index_info({index[1]})").fetchall()) for index in indexes
        )
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
    found["triggers"] = triggers.fetchall()
    connection.close()
    return found


def test_a_first_start_and_the_migrations_make_the_same_tables(tmp_path: Path) -> None:
    made = Database(f"sqlite:///{tmp_path}/made.db")
    start(made, load_slices(), Seen(None), "x")
    migrated = Database(f"sqlite:///{tmp_path}/migrated.db")
    with migrated.write() as connection:
        upgrade(connection, MIGRATIONS, SCHEMA)
    assert schema(tmp_path / "migrated.db") == schema(tmp_path / "made.db")
    made.close()
    migrated.close()


def test_a_queue_of_the_first_revision_is_kept_with_its_sums(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    old = Database(f"sqlite:///{file}")
    with old.write() as connection:
        upgrade(connection, MIGRATIONS, "0001")
        job = "'job_1', 'train', 'key é', '{\"n\": 1}', 'waiting', '', 0, 5, 0, '', ''"
        connection.exec_driver_sql(f"INSERT INTO job VALUES ({job})")
        connection.exec_driver_sql("INSERT INTO lease VALUES ('run/1', 'me', 99, '{}')")
        upgrade(connection, MIGRATIONS, SCHEMA)
    assert altered_rows(old) == []
    jobs = Jobs(old, TestClock())
    (found,) = jobs.waiting()
    assert (found.id, found.kind, found.key, found.payload) == ("job_1", "train", "key é", {"n": 1})
    assert [(lease.name, lease.owner) for lease in jobs.leases()] == [("run/1", "me")]
    old.close()


def test_a_migration_keeps_the_ledger_as_it_was_beside_itself(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    old = Database(f"sqlite:///{file}")
    with old.write() as connection:
        upgrade(connection, MIGRATIONS, "0001")
    assert list(tmp_path.glob("*.before-*")) == [], "there was nothing to keep"
    with old.write() as connection:
        connection.exec_driver_sql("INSERT INTO lease VALUES ('run/1', 'me', 99, '{}')")
    (tmp_path / f"ledger.db.before-{SCHEMA}").write_bytes(b"what a killed migration left")
    with old.write() as connection:
        upgrade(connection, MIGRATIONS, SCHEMA)
    old.close()
    assert [path.name for path in tmp_path.glob("*.before-*")] == [f"ledger.db.before-{SCHEMA}"]
    kept = sqlite3.connect(tmp_path / f"ledger.db.before-{SCHEMA}")
    assert kept.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
    assert kept.execute("SELECT name FROM lease").fetchall() == [("run/1",)]
    assert kept.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    kept.close()


def test_a_log_without_its_name_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    database = Database(f"sqlite:///{file}")
    start(database, load_slices(), Seen(None), "x")
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE setting SET name = 'origim' WHERE name = 'origin'")
    with pytest.raises(Tampered, match="the row 'origin' of the table setting was altered"):
        start(database, load_slices(), Seen(None), "x")
    database.close()


def test_the_newest_revision_is_the_one_that_the_code_names() -> None:
    revisions = sorted(file.name[:4] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    assert revisions[-1] == SCHEMA
    assert revisions == [f"{number:04}" for number in range(1, len(revisions) + 1)]


def test_many_first_starts_at_once_make_one_ledger(tmp_path: Path) -> None:
    url = database_url("", tmp_path / ".noria")

    def begin(_: int) -> str:
        database = Database(url)
        try:
            return start(database, load_slices(), Seen(None), "x")
        finally:
            database.close()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(begin, range(8)))) == 1


def test_a_project_name_makes_a_well_formed_origin(tmp_path: Path) -> None:
    database = Database(database_url("", tmp_path))
    origin = start(database, load_slices(), Seen(None), "Mein schönes Projekt + mehr " * 10)
    assert origin.startswith("noria/Mein-sch-nes-Projekt-mehr-")
    assert not set(" +\n") & set(origin)
    assert len(origin) < 100
    database.close()


def test_a_failpoint_outside_of_the_list_is_a_bug() -> None:
    assert len(NAMES) == len(set(NAMES))
    failpoint(NAMES[0])
    with pytest.raises(AssertionError):
        failpoint("not.listed")


def test_an_armed_failpoint_kills_at_the_given_pass() -> None:
    loop = "for n in range(9):\n print(n, flush=True)\n failpoint('append.fact')"
    program = "from noria.store.failpoint import failpoint\n" + loop
    killed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NORIA_FAILPOINT": "append.fact:4"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout.split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("value", ["x", "[1]", '{"a": 1}', '["fact"]'])
def test_an_altered_note_of_the_record_tables_is_named_and_drops_nothing(tmp_path: Path, value: str) -> None:
    file = tmp_path / "ledger.db"
    database = Database(f"sqlite:///{file}")
    start(database, load_slices(), Seen(None), "x")
    database.close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE setting SET value = ? WHERE name = 'tables'", (value,))
        connection.execute("UPDATE setting SET value = 'of another version' WHERE name = 'records'")
    again = Database(f"sqlite:///{file}")
    with pytest.raises(Tampered, match="the row 'tables' of the table setting was altered"):
        start(again, load_slices(), Seen(None), "x")
    again.close()
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM fact").fetchone() == (0,)
