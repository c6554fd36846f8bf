"""Records equal the fold of the facts: after any sequence of facts of every kind of every slice."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.governance.audit import verify
from noria.store.replay import difference, rebuild
from noria.store.slices import load_slices
from noria.store.sql.words import select
from noria.store.workspace import Workspace
from noria.testing import open_memory, random_payload

KINDS = sorted(load_slices().kinds)


@pytest.fixture(scope="module")
def fresh() -> Iterator[Path]:
    """A new project that each example copies: a copy is ten times cheaper than a first start."""
    folder = Path(tempfile.mkdtemp())
    open_memory(root=folder / "p").ledger.database.close()
    yield folder
    shutil.rmtree(folder)


def rows(ws: Workspace) -> dict[str, list[str]]:
    with ws.ledger.read() as reader:
        return {
            table.name: sorted(json.dumps(dict(row._mapping), default=str) for row in reader.rows(select(table)))
            for table in ws.ledger.slices.tables
        }


def append(ws: Workspace, chance: random.Random, kinds: list[str]) -> None:
    """The facts in one to a few transactions, with edges among them."""
    while kinds:
        with ws.ledger.transaction() as tx:
            for _ in range(chance.randint(1, 5)):
                if not kinds:
                    break
                payload = random_payload(chance, ws.ledger.slices.kinds, kinds.pop(0))
                tx.append(payload, inputs=[("thing", f"thing/{chance.randrange(4)}")], actor="user:someone")


@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=40), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_are_the_fold_of_the_facts_after_any_sequence(fresh: Path, kinds: list[str], seed: int) -> None:
    root = fresh / "example"
    shutil.copytree(fresh / "p", root)
    ws = open_memory(root=root)
    try:
        append(ws, random.Random(seed), list(kinds))
        before = rows(ws)
        assert difference(ws.ledger) == []
        assert rebuild(ws.ledger) == len(kinds)
        assert rows(ws) == before
        report = verify(ws)
        assert report.ok, report
    finally:
        ws.ledger.database.close()
        shutil.rmtree(root)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_folded_alone_and_after_itself(kind: str, tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    append(ws, random.Random(kind), [kind] * 8)
    assert difference(ws.ledger) == []
    assert [stored.fact.kind for stored in ws.ledger.facts()] == [kind] * 8
    ws.ledger.database.close()


def test_a_record_that_was_changed_behind_the_projections_is_found(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    append(ws, random.Random(1), KINDS * 2)
    filled = {name: found for name, found in rows(ws).items() if found}
    assert filled, "the slices have record tables"
    for name in filled:
        table: Any = next(table for table in ws.ledger.slices.tables if table.name == name)
        with ws.ledger.database.write() as connection:
            connection.execute(table.delete())
        found = difference(ws.ledger)
        assert {where for where, _ in found} == {name}
        assert all(row.startswith("+ ") for _, row in found)
        rebuild(ws.ledger)
        assert difference(ws.ledger) == []
    ws.ledger.database.close()
