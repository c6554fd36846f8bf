"""A version is compared with what production receives, and with what it took to make it, before it may go live."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from loop_project import World, month_rows

from noria.loop.report import RunReport
from noria.loop.run import run
from noria.pipeline import records as steps
from noria.registry.facts import Verdict
from noria.serving import deployment


@pytest.fixture(scope="module")
def january(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A project whose January model is live. Copied by each test."""
    world = World(tmp_path_factory.mktemp("loop") / "project")
    world.first()
    return world


@pytest.fixture
def world(january: World, tmp_path: Path) -> World:
    return january.copy(tmp_path / "project")


def ask(world: World, rule: str) -> None:
    config = world.root / "noria.toml"
    config.write_text(config.read_text().replace("[model.m.gate]\n", f"[model.m.gate]\n{rule}\n"))
    world.open()


def told(report: RunReport, gate: str) -> Verdict:
    [found] = [each for each in report.gates if each.gate == gate]
    return found


def moved(number: int, **shift: float) -> pd.DataFrame:
    rows = month_rows(number)
    for column, by in shift.items():
        rows[column] = rows[column] + by
    return rows


def test_training_data_that_production_has_left_behind_do_not_pass(world: World) -> None:
    ask(world, 'drift = { window = "28d" }')
    world.serve(moved(2, c=0.3))
    report = run(world.ws)
    found = told(report, "drift")
    assert not report.ok
    assert not found.passed
    assert (found.value, found.limit) == (1.0, 0.0)
    assert "1 of 3 inputs of events@1 differs" in found.text
    assert "c (values by 0.3" in found.text
    # What the model would have to learn from: the month that looks as production does.
    (world.root / "data" / "2013-01.parquet").unlink()
    world.send_data(2, moved(2, c=0.3))
    again = run(world.ws)
    assert told(again, "drift").passed, told(again, "drift").text


def test_only_the_window_counts_and_what_is_ignored_does_not(world: World) -> None:
    world.serve(moved(2, c=0.3))
    world.serve(month_rows(3))
    ask(world, 'drift = { window = "20d" }')
    assert told(run(world.ws), "drift").passed, "February is further back than that"
    ask(world, "")
    config = world.root / "noria.toml"
    config.write_text(config.read_text().replace('window = "20d"', 'window = "50d"'))
    world.open()
    assert not told(run(world.ws), "drift").passed
    config.write_text(config.read_text().replace('window = "50d"', 'window = "50d", ignore = ["c"]'))
    world.open()
    assert told(run(world.ws), "drift").passed


def test_a_live_model_without_requests_proves_nothing(world: World) -> None:
    ask(world, "drift = {}")
    silent = told(run(world.ws), "drift")
    assert not silent.passed
    world.serve(month_rows(2).head(120))
    few = told(run(world.ws), "drift")
    assert not few.passed
    assert "120 requests" in few.text
    assert "too few" in few.text


def test_a_cached_training_costs_what_it_cost(world: World) -> None:
    ask(world, "cost = { per_core_hour = 3600.0, training = 0.000001 }")
    first = run(world.ws)
    assert {step.status for step in first.steps} == {"cached"}, "nothing was trained for this run"
    found = told(first, "training cost")
    with world.ws.ledger.read() as tx:
        made = steps.entries(tx, [step.key for step in steps.steps(tx, first.run)])
    spent = sum(entries[0].cpu_seconds for entries in made.values())
    assert spent > 0
    assert found.value == pytest.approx(spent)
    assert not found.passed


def test_what_gates_refused_once_and_let_through_now_is_a_release_that_may_go(world: World) -> None:
    ask(world, "drift = {}")
    world.send_data(2, month_rows(2))
    refused = run(world.ws)
    assert (refused.ok, refused.state) == (False, "rejected")
    world.serve(month_rows(2))
    passed = run(world.ws)
    assert (passed.ok, passed.state) == (True, "validated"), passed.gates
    assert passed.version == refused.version
    assert passed.release == refused.release + 1
    assert run(world.ws).release == passed.release, "once"
    assert deployment.promote(world.ws, f"m:{passed.version}").release == passed.release
