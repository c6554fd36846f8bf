"""The objects of SQLAlchemy that stand for ours."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from noria.store.sql import alchemy
from noria.store.sql.schema import Column, MetaData, Table
from noria.store.sql.types import String

THREADS = 8


@pytest.fixture
def restless() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_threads_that_need_a_table_first_get_the_same_one() -> None:
    """Else a statement is of two tables with one name, and each of its columns is ambiguous."""
    for _ in range(20):
        table = Table("t", MetaData(), *(Column(f"c{number}", String) for number in range(20)))
        together = threading.Barrier(THREADS)
        found: list[int] = []

        def ask(table: Table = table, together: threading.Barrier = together, found: list[int] = found) -> None:
            together.wait()
            found.append(id(alchemy.built(table)))

        threads = [threading.Thread(target=ask) for _ in range(THREADS)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(found) == THREADS
        assert len(set(found)) == 1
