"""Databases side by side: plans are shared by a process, connections and their rows are not."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy

from noria.core.errors import StoreUnavailable
from noria.store import database as databases
from noria.store import tables
from noria.store.database import Database
from noria.store.engines import create_table, drop_table, has_table, in_memory, of_sqlalchemy
from noria.store.slices import load_slices
from noria.store.sql.alchemy import built
from noria.store.sql.connection import Exhausted, Pool
from noria.store.sql.words import Column, Index, Integer, MetaData, String, Table, insert, select
from noria.testing.workspace import open_memory

MARK = Table(
    "mark", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(9)), Index("by", "text")
)
SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"


def made(path: Path) -> Database:
    return Database(f"sqlite:///{path}", wait_s=5.0)


def test_every_table_is_created_as_sqlalchemy_itself_creates_it() -> None:
    every = (*tables.LEDGER.sorted_tables, *load_slices().tables, MARK)
    with in_memory() as connection:
        for table in every:
            create_table(connection, table)
        ours = [tuple(row) for row in connection.exec_driver_sql(SCHEMA)]
    theirs = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.pool.StaticPool)
    with theirs.begin() as foreign:
        for table in every:
            built(table).create(foreign, checkfirst=False)  # type: ignore[arg-type]  # at run time a table of our own
        assert ours == [tuple(row) for row in foreign.exec_driver_sql(SCHEMA)]
    theirs.dispose()
    assert len(ours) > len(every), "indexes too"


def test_a_table_is_there_until_it_is_dropped() -> None:
    with in_memory() as connection:
        assert not has_table(connection, "mark")
        create_table(connection, MARK)
        assert has_table(connection, "mark")
        drop_table(connection, "mark")
        assert not has_table(connection, "mark")
        assert connection.exec_driver_sql(SCHEMA).all() == [], "its index went, too"


def test_many_threads_with_files_of_their_own_do_not_meet(tmp_path: Path) -> None:
    def work(number: int) -> list[str | None]:
        database = made(tmp_path / f"{number}.db")
        with database.write() as connection:
            create_table(connection, MARK)
            for row in range(50):
                connection.execute(insert(MARK), {"id": row, "text": f"{number}.{row}"})
        with database.read() as connection:
            texts = connection.execute(select(MARK.c.text).order_by(MARK.c.id)).scalars().all()
        database.close()
        return list(texts)

    with ThreadPoolExecutor(8) as pool:
        for number, texts in enumerate(pool.map(work, range(24))):
            assert texts == [f"{number}.{row}" for row in range(50)]


def test_a_ledger_that_is_closed_and_used_again_connects_anew() -> None:
    ws = open_memory()
    head = ws.ledger.head()
    ws.ledger.database.close()
    assert ws.ledger.head() == head
    ws.ledger.database.close()


def test_what_is_lent_to_sqlalchemy_stays_in_the_lenders_transaction(tmp_path: Path) -> None:
    database = made(tmp_path / "a.db")
    with database.write() as connection:
        create_table(connection, MARK)
    with pytest.raises(ZeroDivisionError), database.write() as connection:  # noqa: PT012
        with of_sqlalchemy(connection) as lent:
            lent.execute(sqlalchemy.text("INSERT INTO mark VALUES (1, 'a')"))
            lent.commit()
        assert connection.execute(select(MARK.c.text)).scalar() == "a"
        raise ZeroDivisionError
    with database.read() as connection:
        assert connection.execute(select(MARK.c.text)).all() == []
    with pytest.raises(sqlite3.IntegrityError), database.write() as connection, of_sqlalchemy(connection) as lent:
        lent.execute(sqlalchemy.text("INSERT INTO mark VALUES (1, 'a'), (1, 'b')"))
    database.close()


def test_the_connection_used_last_comes_first_and_only_some_are_kept() -> None:
    pool = Pool(lambda: sqlite3.connect(":memory:"), kept=2, most=3, wait_s=0.01)
    one, two, three = pool.take(), pool.take(), pool.take()
    with pytest.raises(Exhausted):
        pool.take()
    for each in (one, two, three):
        pool.give(each)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        three.execute("SELECT 1")
    assert [pool.take(), pool.take()] == [two, one]
    pool.give(one)
    pool.close()
    pool.give(two)
    for each in (one, two):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            each.execute("SELECT 1")


def test_a_connection_that_cannot_be_opened_takes_no_place_in_the_pool() -> None:
    def refuse() -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    pool = Pool(refuse, kept=1, most=1, wait_s=0.01)
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError):
            pool.take()


def test_more_readers_than_connections_are_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("POOL_SIZE", 1), ("POOL_OVERFLOW", 0), ("POOL_WAIT_S", 0.01)):
        monkeypatch.setattr(databases, name, value)
    database = made(tmp_path / "a.db")
    with (
        database.read(),
        pytest.raises(StoreUnavailable, match="every connection to the database is in use"),
        database.read(),
    ):
        pass
    database.close()
