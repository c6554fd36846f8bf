"""Records equal the fold of the facts, and the ledger verifies, after any sequence of verbs.

Verbs that a user can ask for in an order that makes no sense must answer with an error of the tree,
and leave nothing behind.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.checks import infer, suite
from noria.core.errors import NoriaError
from noria.data import versions as data
from noria.governance.approvals import approve
from noria.governance.audit import verify
from noria.monitoring import alerts
from noria.registry import filing, release
from noria.store.workspace import Workspace, acting
from noria.testing import open_memory
from noria.tracking import run as tracking
from noria.tracking.facts import Code

TABLES = (
    "id,day,y\n1,2026-01-01,0\n2,2026-01-02,1\n",
    "id,day,y\n1,2026-01-01,0\n2,2026-01-02,1\n3,2026-02-01,\n",
    "id,day,y,extra\n1,2026-03-01,1,é\n",
    "id,day\n",
)

Act = Callable[[Workspace, int], object]


def add(ws: Workspace, which: int) -> object:
    file = ws.project.root / "flights.csv"
    file.write_text(TABLES[which % len(TABLES)], encoding="utf-8")
    return data.add(ws, str(file), "flights" if which < 6 else "planes")


def a_run(ws: Workspace, which: int) -> object:
    with tracking.start(ws, "p", code=Code()) as run:
        run.log(loss=0.5, step=which)
        run.artifact("note", b"content %d" % which)
        if which % 3 == 0:
            raise NoriaError("the run failed")
    return run


def a_lost_run(ws: Workspace, which: int) -> object:
    handle = tracking.start(ws, "p", code=Code())
    handle._stop.set()
    handle._beat.join()
    ws.jobs.release(f"run/{handle.run}", handle.owner)
    return tracking.reap(ws)


ACTS: dict[str, Act] = {
    "add": add,
    "tag": lambda ws, which: data.tag(ws, f"flights@{1 + which % 3}", f"tag{which % 2}"),
    "describe": lambda ws, which: data.describe(
        ws, "flights", key=("id", "", "none")[which % 3], time=("day", "")[which % 2], label="y"
    ),
    "infer": lambda ws, which: infer.infer(ws, "flights"),
    "check": lambda ws, which: suite.run(ws, "flights"),
    "run": a_run,
    "lose": a_lost_run,
    "alias": lambda ws, which: filing.move_alias(ws, "m", "live", which % 3),
    "reject": lambda ws, which: release.reject(ws, "m", which % 3, "no"),
    "approve": lambda ws, which: approve(
        acting(ws, f"user:{which}"), f"dataset/flights@{1 + which % 2}", comment="fine"
    ),
    "acknowledge": lambda ws, which: alerts.acknowledge(ws, "m", f"alert-{which}", "seen"),
}


@pytest.fixture(scope="module")
def fresh() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    open_memory(root=folder / "p").ledger.database.close()
    yield folder
    shutil.rmtree(folder)


def done(ws: Workspace, name: str, which: int) -> bool:
    before = ws.ledger.head()
    try:
        ACTS[name](ws, which)
    except NoriaError:
        assert name in ("run", "lose") or ws.ledger.head() == before, f"{name} failed and left a fact"
        return False
    return True


@given(steps=st.lists(st.tuples(st.sampled_from(sorted(ACTS)), st.integers(0, 8)), min_size=1, max_size=14))
@settings(max_examples=25)
def test_records_are_the_fold_of_the_facts_after_any_verbs(fresh: Path, steps: list[tuple[str, int]]) -> None:
    root = fresh / "example"
    shutil.copytree(fresh / "p", root)
    ws = open_memory(root=root)
    try:
        for name, which in steps:
            done(ws, name, which)
        report = verify(ws)
        assert report.ok, report
    finally:
        ws.ledger.database.close()
        shutil.rmtree(root)


def test_every_act_can_succeed(tmp_path: Path) -> None:
    """Else the property above would prove nothing."""
    ws = open_memory(root=tmp_path)
    order = ["add", "tag", "describe", "infer", "check", "run", "lose", "approve"]
    assert [name for name in order if not done(ws, name, 1 if name == "run" else 0)] == []
    assert verify(ws).ok
    ws.ledger.database.close()
