"""Engines for SQLite: what is compiled is shared by a process, connections and their rows are not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy
from sqlalchemy import Column, Index, Integer, MetaData, String, Table, insert, select
from sqlalchemy.engine import Engine
from sqlalchemy.pool import QueuePool, StaticPool

from noria.store import tables
from noria.store.engines import create_table, sqlite_engine
from noria.store.slices import load_slices
from noria.testing.workspace import open_memory

MARK = Table(
    "mark", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(9)), Index("by", "text")
)


def made(path: Path) -> Engine:
    return sqlite_engine(sqlalchemy.make_url(f"sqlite:///{path}"), QueuePool, {"timeout": 5.0}, pool_size=2)


def test_every_table_is_created_as_sqlalchemy_itself_creates_it() -> None:
    ours = sqlite_engine(sqlalchemy.make_url("sqlite://"), StaticPool, {})
    theirs = sqlalchemy.create_engine("sqlite://", poolclass=StaticPool)
    every = (*tables.LEDGER.sorted_tables, *load_slices().tables, MARK)
    schemas = []
    for engine in (ours, theirs):
        with engine.begin() as connection:
            for table in every:
                if engine is ours:
                    create_table(connection, table)
                else:
                    table.create(connection, checkfirst=False)
            query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
            schemas.append(list(connection.exec_driver_sql(query)))
        engine.dispose()
    assert schemas[0] == schemas[1]
    assert len(schemas[0]) > len(every), "indexes too"


def test_a_statement_is_compiled_once_for_all_files_of_a_process(tmp_path: Path) -> None:
    engines = [made(tmp_path / f"{number}.db") for number in range(3)]
    found, compiled = [], []
    for number, engine in enumerate(engines):
        with engine.begin() as connection:
            create_table(connection, MARK)
            connection.execute(insert(MARK), {"id": number, "text": f"of {number}"})
            done = connection.execute(select(MARK.c.text).where(MARK.c.id >= 0))
            found.append(done.scalars().all())
            compiled.append(id(done.context.compiled))
        engine.dispose()
    assert found == [["of 0"], ["of 1"], ["of 2"]], "each file has rows of its own"
    assert len(set(compiled)) == 1


def test_many_threads_with_files_of_their_own_do_not_meet(tmp_path: Path) -> None:
    def work(number: int) -> list[str | None]:
        engine = made(tmp_path / f"{number}.db")
        with engine.begin() as connection:
            create_table(connection, MARK)
            for row in range(50):
                connection.execute(insert(MARK), {"id": row, "text": f"{number}.{row}"})
        with engine.connect() as connection:
            texts = connection.execute(select(MARK.c.text).order_by(MARK.c.id)).scalars().all()
        engine.dispose()
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
