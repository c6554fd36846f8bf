"""What only names rows or only grows has no range and no unit: larger numbers in the next version are no fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.checks.infer import infer
from noria.checks.suite import run
from noria.checks.suites.rules import ColumnRules
from noria.checks.suites.suitefile import load
from noria.config import Project
from noria.data.tabular.incremental import append, upsert
from noria.data.versions import add
from noria.store.workspace import Workspace
from noria.testing import open_memory

ROWS = 1000


def table(first: int, rows: int = ROWS) -> pa.Table:
    dice = np.random.default_rng(first)
    numbers = np.arange(first, first + rows)
    return pa.table(
        {
            "order": numbers,
            "shuffled": dice.permutation(numbers) + 7,
            "written": numbers * 60 + dice.integers(0, 60, rows),
            "customer_id": dice.integers(first // 2, first // 2 + 200, rows),
            "amount": np.round(dice.gamma(2.0, 30.0, rows), 2),
            "pieces": dice.integers(1, 90, rows),
        }
    )


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return open_memory(Project(name="p", root=tmp_path), root=tmp_path)


def put(ws: Workspace, rows: pa.Table, name: str) -> str:
    path = ws.project.root / name
    pq.write_table(rows, path)
    return str(path)


def rules(ws: Workspace) -> dict[str, ColumnRules]:
    infer(ws, "orders")
    return dict(load(ws.project.root / "checks" / "orders.toml").columns)


def is_bounded(found: ColumnRules) -> bool:
    return found.unit or found.min is not None or found.max is not None or bool(found.seen) or found.step is not None


def test_what_is_counted_out_or_so_called_is_not_bounded_and_measures_are(ws: Workspace) -> None:
    add(ws, put(ws, table(0), "a.parquet"), "orders")
    found = rules(ws)
    assert {name for name, each in found.items() if is_bounded(each)} == {"amount", "pieces"}
    assert {each.type for each in found.values()} == {"number"}
    assert all(each.nulls is not None for each in found.values())
    add(ws, put(ws, table(900_000), "a.parquet"), "orders")
    later = run(ws, "orders")
    assert later.ok, later.findings
    assert not later.findings


def test_the_columns_of_a_key_and_the_one_that_appends_go_by_are_not_bounded(ws: Workspace) -> None:
    rows = table(0).set_column(4, "amount", pa.array(np.arange(ROWS) / 4))
    append(ws, "orders", put(ws, rows, "a.parquet"), watermark="amount")
    assert not is_bounded(rules(ws)["amount"])
    changed = rows.slice(0, 9).set_column(3, "customer_id", pa.array(range(9)))
    assert upsert(ws, "orders", put(ws, changed, "b.parquet"), key="pieces,written").updated == 9
    (ws.project.root / "checks" / "orders.toml").unlink()
    found = rules(ws)
    assert found["pieces"] == ColumnRules(type="number", nulls=0.0)
    assert not is_bounded(found["written"])


def test_whole_numbers_that_repeat_or_lie_far_apart_are_measures(ws: Workspace) -> None:
    dice = np.random.default_rng(1)
    people = dice.permutation(np.unique(dice.integers(10**3, 10**7, 2 * ROWS))[:ROWS])
    add(ws, put(ws, pa.table({"people": people, "paid": dice.integers(0, 5, ROWS)}), "a.parquet"), "orders")
    assert all(is_bounded(each) for each in rules(ws).values())
