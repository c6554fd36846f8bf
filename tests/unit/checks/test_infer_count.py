"""The number of rules that are written is the number of checks that are made with them."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.checks.infer import infer
from noria.checks.suite import run
from noria.config import DataConfig, Project
from noria.data.versions import add
from noria.testing import open_memory

ROWS = "id,at,size,place\n" + "".join(f"k{i},2026-01-{i % 28 + 1:02d},{i / 4},{'ab'[i % 2]}\n" for i in range(400))


@pytest.mark.parametrize("clock", ["wall", "events"])
@pytest.mark.parametrize("fresh", ["", "36500d"])
@pytest.mark.parametrize("roles", [{}, {"time": "at"}, {"time": "at", "key": "id"}])
def test_as_many_checks_as_rules(clock: str, fresh: str, roles: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS, encoding="utf-8")
    project = Project(name="p", root=tmp_path, clock=clock, data={"rows": DataConfig(fresh=fresh)})
    ws = open_memory(project, root=tmp_path)
    add(ws, str(tmp_path / "rows.csv"), name="rows", **roles)
    assert infer(ws, "rows").rules == run(ws, "rows").total


def test_the_rules_of_a_column_of_infinite_values_can_be_read(tmp_path: Path) -> None:
    """The file was refused as soon as it was written: it asked for a unit, of which there are no quantiles."""
    ws = open_memory(Project(name="p", root=tmp_path), root=tmp_path)
    pq.write_table(pa.table({"x": [math.inf] * 300, "y": [1] * 300}), tmp_path / "rows.parquet")
    add(ws, str(tmp_path / "rows.parquet"), name="rows")
    infer(ws, "rows")
    bad = [(each.column, each.message) for each in run(ws, "rows").findings if not each.passed]
    assert bad == [("x", "values are infinite")]
