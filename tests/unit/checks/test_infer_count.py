"""The number of rules that are written is the number of checks that are made with them."""

from __future__ import annotations

from pathlib import Path

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
