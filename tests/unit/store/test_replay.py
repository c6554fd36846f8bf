from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.core.fact import Kinds, Stored, fact
from noria.store.checkpoint import open_signer
from noria.store.database import Database, database_url
from noria.store.ledger import Ledger, Transaction
from noria.store.log import get_setting
from noria.store.replay import difference, rebuild
from noria.store.seen import Seen
from noria.store.slices import Slices, load_slices
from noria.store.sql.words import Column, Integer, Table, Text, select
from noria.store.start import start
from noria.store.tables import RECORDS, project, projected, record_table
from noria.testing import TestClock


@fact("counter.moved", subject="counter/{name}")
class CounterMoved:
    """A counter goes up, or is taken away."""

    name: str
    by: int


@pytest.fixture(scope="module")
def counter() -> Iterator[Table]:
    made = record_table(
        "test_counter", Column("name", Text, primary_key=True), Column("value", Integer, nullable=False)
    )
    yield made
    RECORDS.remove(made)


@pytest.fixture(scope="module")
def mark() -> Iterator[Table]:
    made = record_table("test_mark", Column("name", Text, primary_key=True))
    yield made
    RECORDS.remove(made)


def slices_of(table: Table, *projections: object, fingerprint: str = "1") -> Slices:
    return Slices(Kinds([CounterMoved]), (table,), {"counter.moved": tuple(projections)}, fingerprint)  # type: ignore[arg-type]  # projections


def opened(root: Path, slices: Slices) -> Ledger:
    database = Database(database_url("", root))
    seen = Seen(root / "seen")
    origin = start(database, slices, seen, "test")
    return Ledger(
        database,
        slices=slices,
        signer=lambda: open_signer(root / "key", origin),
        seen=seen,
        clock=TestClock(),
        actor="t",
    )


def counting(table: Table) -> object:
    @project(CounterMoved)
    def count(tx: Transaction, moved: Stored[CounterMoved]) -> None:
        before = tx.scalar(select(table.c.value).where(table.c.name == moved.payload.name))
        if moved.payload.by == 0:
            tx.delete(table, name=moved.payload.name)
        elif before is None:
            tx.upsert(table, name=moved.payload.name, value=moved.payload.by)
        else:
            tx.update(table, {"name": moved.payload.name}, value=before + moved.payload.by)

    assert projected(count) is CounterMoved
    return count


def move(ledger: Ledger, *moves: tuple[str, int]) -> None:
    with ledger.transaction() as tx:
        for name, by in moves:
            tx.append(CounterMoved(name=name, by=by))


def values(ledger: Ledger, table: Table) -> dict[str, int]:
    with ledger.read() as reader:
        return {row.name: row.value for row in reader.rows(select(table))}


def test_a_projection_may_read_what_it_wrote_and_replay_gives_the_same(tmp_path: Path, counter: Table) -> None:
    ledger = opened(tmp_path, slices_of(counter, counting(counter)))
    move(ledger, ("a", 1), ("a", 2), ("b", 5), ("b", 0), ("c", 1))
    assert values(ledger, counter) == {"a": 3, "c": 1}
    assert difference(ledger) == []
    assert rebuild(ledger) == 5
    assert values(ledger, counter) == {"a": 3, "c": 1}
    with ledger.read() as reader:
        assert reader.first(select(counter).where(counter.c.name == "none")) is None


def test_a_projection_that_depends_on_anything_but_the_facts_is_found(tmp_path: Path, counter: Table) -> None:
    moments = itertools.count()

    @project(CounterMoved)
    def clock(tx: Transaction, moved: Stored[CounterMoved]) -> None:
        tx.upsert(counter, name=moved.payload.name, value=next(moments))

    ledger = opened(tmp_path, slices_of(counter, clock))
    move(ledger, ("a", 1))
    found = difference(ledger)
    assert [table for table, _ in found] == ["test_counter", "test_counter"]
    assert {row[0] for _, row in found} == {"-", "+"}
    assert len(difference(ledger, limit=1)) == 1


def test_records_are_folded_anew_when_the_code_that_folds_them_changed(tmp_path: Path, counter: Table) -> None:
    ledger = opened(tmp_path, slices_of(counter))
    move(ledger, ("a", 1), ("a", 2))
    assert values(ledger, counter) == {}
    ledger.database.close()
    again = opened(tmp_path, slices_of(counter, counting(counter), fingerprint="2"))
    assert values(again, counter) == {"a": 3}
    again.database.close()


def test_a_table_that_no_slice_declares_any_more_is_dropped_and_no_other(
    tmp_path: Path, counter: Table, mark: Table
) -> None:
    ledger = opened(tmp_path, slices_of(counter, counting(counter)))
    move(ledger, ("a", 1))
    with ledger.database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE somebody_elses (id INTEGER)")
    ledger.database.close()

    @project(CounterMoved)
    def marking(tx: Transaction, moved: Stored[CounterMoved]) -> None:
        tx.upsert(mark, name=moved.payload.name)

    again = opened(tmp_path, slices_of(mark, marking, fingerprint="2"))
    move(again, ("a", 1), ("b", 1))
    with again.database.read() as connection:
        names = [row.name for row in connection.exec_driver_sql("SELECT name FROM sqlite_master")]
        assert get_setting(connection, "tables") == '["test_mark"]'
        assert [row.name for row in connection.execute(select(mark).order_by(mark.c.name))] == ["a", "b"]
    assert "test_counter" not in names
    assert {"test_mark", "somebody_elses", "fact", "job"} <= set(names)
    again.database.close()


def test_a_failing_projection_takes_the_fact_back(tmp_path: Path, counter: Table) -> None:
    @project(CounterMoved)
    def refuse(tx: Transaction, moved: Stored[CounterMoved]) -> None:
        tx.upsert(counter, name=moved.payload.name, value=1)
        if moved.payload.by < 0:
            raise ArithmeticError("below zero")

    ledger = opened(tmp_path, slices_of(counter, refuse))
    move(ledger, ("a", 1))
    with pytest.raises(ArithmeticError):
        move(ledger, ("b", 1), ("c", -1))
    assert ledger.head() == 1
    assert list(values(ledger, counter)) == ["a"]
    ledger.database.close()


def test_a_projection_may_not_append(tmp_path: Path, counter: Table) -> None:
    @project(CounterMoved)
    def again(tx: Transaction, moved: Stored[CounterMoved]) -> None:
        tx.append(moved.payload)

    ledger = opened(tmp_path, slices_of(counter, again))
    with pytest.raises(AssertionError, match="may not append"):
        move(ledger, ("a", 1))
    ledger.database.close()


def test_an_upsert_needs_the_whole_key(tmp_path: Path, counter: Table) -> None:
    @project(CounterMoved)
    def keyless(tx: Transaction, moved: Stored[CounterMoved]) -> None:
        tx.upsert(counter, value=moved.payload.by)

    ledger = opened(tmp_path, slices_of(counter, keyless))
    with pytest.raises(AssertionError, match="needs its key"):
        move(ledger, ("a", 1))
    ledger.database.close()


def test_a_record_table_has_a_key_and_a_name_of_its_own() -> None:
    with pytest.raises(AssertionError, match="no primary key"):
        RECORDS.remove(record_table("test_keyless", Column("name", Text)))
    RECORDS.remove(RECORDS.tables["test_keyless"])
    with pytest.raises(AssertionError, match="table of the ledger"):
        record_table("fact", Column("name", Text, primary_key=True))


def test_every_slice_is_found_with_its_records() -> None:
    slices = load_slices()
    assert load_slices() is slices
    assert {"approval.given", "dataset.committed", "release.moved"} <= set(slices.kinds)
    assert {"approval", "run"} <= {table.name for table in slices.tables}
    assert set(slices.projections) <= set(slices.kinds)
