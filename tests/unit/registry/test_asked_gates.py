"""Gates on drift, cost and behaviour: what is not known is a no, and the numbers are those of the rule."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.config import CostRule, DriftRule, GateConfig, load_project
from noria.core.errors import ConfigError
from noria.core.schema import Column
from noria.registry import timings
from noria.registry.evidence import Differs, Evidence, Known, Recent
from noria.registry.facts import Verdict
from noria.registry.gates import Judgement, decide
from noria.registry.kinds import behaviour, cost, drift
from noria.registry.records import VersionRecord
from noria.registry.scored import Sample
from noria.store.workspace import Workspace

WHEN = {"start": "2013-02-01T00:00:00Z", "end": "2013-03-01T00:00:00Z", "source": "events@1"}
FAR = Differs(column="a", effect=0.4, floor=0.05, reason="values")
NEARER = Differs(column="b", effect=0.2, floor=0.05, reason="nulls")
UNKNOWN = Differs(column="c", effect=None, floor=None, reason="too few values")


def evidence(policy: GateConfig, **known: Any) -> Evidence:
    rows = pd.DataFrame({"x": [0.0, 1.0]})
    sample = Sample(rows, np.array([0.0, 1.0]), np.array([0.2, 0.8]), 0.5, "binary")
    made = Evidence(policy=policy, sample=sample, champion=None, metrics={}, slices=(), blocks=None, latencies_ms=list)
    return dataclasses.replace(made, **known)


def seen(recent: Recent, **rule: Any) -> Verdict:
    [found] = drift.judge(evidence(GateConfig(drift=DriftRule(**rule)), recent=lambda: recent))
    return found


def test_without_a_rule_nothing_is_asked() -> None:
    def never() -> Any:
        raise AssertionError("nobody asked for it")

    bare = evidence(GateConfig(), recent=never, spent_s=never, work_s=never)
    assert [*drift.judge(bare), *cost.judge(bare), *behaviour.judge(bare)] == []


def test_what_nobody_can_tell_is_a_no() -> None:
    policy = GateConfig(
        drift=DriftRule(), cost=CostRule(per_core_hour=1.0, training=1.0, per_million=1.0), behaviour=True
    )
    found = decide(evidence(policy))
    assert {each.gate for each in found} == {"drift", "training cost", "prediction cost", "behaviour"}
    assert not any(each.passed for each in found)


def test_before_anything_is_live_there_is_nothing_to_differ_from() -> None:
    found = seen(Recent(is_live=False))
    assert found.passed
    assert "nothing of this model is in production" in found.text


@pytest.mark.parametrize("rows", [0, 1, 199])
def test_too_few_requests_prove_nothing(rows: int) -> None:
    found = seen(Recent(is_live=True, rows=rows, compared=3, **WHEN))
    assert not found.passed
    assert seen(Recent(is_live=True, rows=max(rows, 50), compared=3, **WHEN), min_rows=50).passed


def test_nothing_that_could_be_compared_is_a_no() -> None:
    assert not seen(Recent(is_live=True, rows=500, compared=0, **WHEN)).passed


def test_inputs_that_differ_are_named_the_worst_first() -> None:
    recent = Recent(is_live=True, rows=500, compared=3, differing=(UNKNOWN, NEARER, FAR), **WHEN)
    found = seen(recent)
    assert (found.passed, found.value, found.limit, found.n) == (False, 3.0, 0.0, 500)
    assert "3 of 3 inputs of events@1 differ from the 500 requests from 2013-02-01T00:00" in found.text
    assert found.text.index("a (values by 0.40, up to 0.05") < found.text.index("b (nulls by 0.20")
    assert "c (too few values)" in found.text
    assert seen(recent, max_columns=3).passed
    assert not seen(recent, max_columns=2).passed
    assert seen(recent, ignore=("a", "b", "c")).text == (
        "none of 3 inputs of events@1 differs from the 500 requests from 2013-02-01T00:00 to 2013-03-01T00:00"
    )
    assert not seen(recent, ignore=("a", "b")).passed


def test_an_ignored_input_has_to_be_one() -> None:
    policy = GateConfig(drift=DriftRule(ignore=("aa", "b")))
    inputs = (Column("a", "float64"), Column("b", "float64"))
    [found] = drift.judge(evidence(policy, inputs=inputs, recent=lambda: Recent(is_live=False)))
    assert not found.passed
    assert "ignores aa, and" in found.text


def test_a_comparison_that_crashes_is_a_no() -> None:
    def crash() -> Recent:
        raise OSError("no space left")

    [found] = decide(evidence(GateConfig(drift=DriftRule()), recent=crash))
    assert (found.gate, found.passed) == ("drift", False)
    assert "no space left" in found.text


money = st.floats(0.001, 1000)


@given(price=money, spent=st.floats(0, 1e6), each=st.floats(0, 10), limit=money)
def test_cost_is_core_seconds_times_the_price(price: float, spent: float, each: float, limit: float) -> None:
    rule = CostRule(per_core_hour=price, training=limit, per_million=limit)
    training, prediction = cost.judge(
        evidence(GateConfig(cost=rule), spent_s=lambda: spent, work_s=lambda: [each / 2, each * 1.5])
    )
    assert training.value == pytest.approx(spent * price / 3600)
    assert prediction.value == pytest.approx(each * price * 1e6 / 3600)
    assert training.passed == ((training.value or 0) <= limit)
    assert prediction.passed == ((prediction.value or 0) <= limit)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_cost_that_is_no_number_is_a_no(broken: float) -> None:
    rule = CostRule(per_core_hour=1.0, training=1e9, per_million=1e9)
    made = evidence(GateConfig(cost=rule), spent_s=lambda: broken, work_s=lambda: [1e-9, broken])
    assert [each.passed for each in cost.judge(made)] == [False, False]
    assert [each.passed for each in cost.judge(dataclasses.replace(made, work_s=list))] == [False, False]


def by_gate(found: Judgement) -> dict[str, Verdict]:
    return {verdict.gate: verdict for verdict in found.judged.verdicts}


def with_rules(ws: Workspace, gate: dict[str, Any], declared: dict[str, Any], tmp_path: Path) -> Workspace:
    lines = [f"{key} = {value}" for key, value in gate.items()]
    more = [f"{key} = {value}" for key, value in declared.items()]
    text = "\n".join(['[project]\nname = "t"\n[model.m.gate]', *lines, "[model.m.behaviour]", *more])
    (tmp_path / "noria.toml").write_text(text)
    models = load_project(tmp_path).models
    return dataclasses.replace(ws, project=dataclasses.replace(ws.project, models=models))


def test_a_model_is_asked_how_it_behaves(
    ws: Workspace, register: Callable[..., VersionRecord], judge: Callable[..., Judgement], tmp_path: Path
) -> None:
    version = register("strong").version
    gate = {"auc": "{ min = 0.55 }", "behaviour": "true"}
    sound = judge(version, ws=with_rules(ws, gate, {"direction": '{ wind = "up" }'}, tmp_path))
    asked = {name: each for name, each in by_gate(sound).items() if name.startswith("behaviour")}
    assert sound.passed, [each.text for each in asked.values() if not each.passed]
    assert {"behaviour: one row", "behaviour: order of rows", "behaviour: more wind, up"} < set(asked)
    assert ws.objects.get_json(sound.judged.policy)["behaviour"] is True
    broken = judge(version, ws=with_rules(ws, gate, {"invariant": '["wind", "colour"]'}, tmp_path))
    said = by_gate(broken)
    assert not broken.passed
    assert "scores change with wind" in said["behaviour: wind does not matter"].text
    assert "no input 'colour'" in said["behaviour: colour does not matter"].text


def test_a_version_is_judged_by_what_it_costs(
    ws: Workspace, register: Callable[..., VersionRecord], judge: Callable[..., Judgement], tmp_path: Path
) -> None:
    version = register("weak").version
    dear = with_rules(ws, {"cost": "{ per_core_hour = 3600.0, per_million = 1.0, training = 5.0 }"}, {}, tmp_path)
    found = by_gate(judge(version, ws=dear, known=Known(spent_s=lambda: 4.0)))
    assert found["training cost"].passed
    assert found["training cost"].value == pytest.approx(4.0)
    assert not found["prediction cost"].passed, "no prediction takes a microsecond"
    assert (found["prediction cost"].value or 0) > 1
    unknown = by_gate(judge(version, ws=dear))
    assert not unknown["training cost"].passed
    assert "not known" in unknown["training cost"].text


def test_processor_time_is_that_of_the_model() -> None:
    class Rows:
        def plain(self, frame: pd.DataFrame) -> list[dict[str, Any]]:
            return [dict(row) for row in frame.to_dict("records")]

    class Slow:
        rows = Rows()

        def predict(self, rows: list[dict[str, Any]]) -> Any:
            end = time.process_time() + 0.002
            while time.process_time() < end:
                pass
            return np.zeros(len(rows))

    sample = Sample(pd.DataFrame({"x": range(5)}), np.zeros(5), np.zeros(5), 0.5, "binary")
    slow: Any = Slow()
    found = timings.quickest(slow, sample, time.process_time)
    assert len(found) == 5
    assert min(found) >= 0.002


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('drift = { windw = "7d" }', "window"),
        ('drift = { window = "soon" }', "not a duration"),
        ('drift = { window = "0s" }', "longer than nothing"),
        ("drift = { max_columns = -1 }", "must not be below 0"),
        ("level = 95", "between 0 and 1"),
        ("level = 0", "between 0 and 1"),
        ("size_mb = -1", "more than 0"),
        ("latency_p99_ms = 0", "more than 0"),
        ("drift = { min_rows = 10 }", "at least 50"),
        ("drift = true", "drift"),
        ("cost = { training = 5.0 }", "states no price"),
        ("cost = { per_core_hour = 0.04 }", "states no limit"),
        ("cost = { per_core_hour = 0.04, training = -1.0 }", "at least 0"),
        ("cost = { per_core_hour = nan, training = 1.0 }", "finite"),
        ("cost = { per_core_hour = 0.04, training = nan }", ""),
        ('behaviour = "yes"', "behaviour"),
        ("behavior = true", "behaviour"),
    ],
)
def test_a_rule_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "noria.toml").write_text(f'[project]\nname = "t"\n[model.m.gate]\n{text}\n')
    with pytest.raises(ConfigError) as error:
        load_project(tmp_path)
    assert said in f"{error.value.message} {error.value.hint}"


def test_the_shortest_rule_compares_with_the_monitors_window(tmp_path: Path) -> None:
    (tmp_path / "noria.toml").write_text('[project]\nname = "t"\n[model.m.gate]\ndrift = {}\n')
    assert load_project(tmp_path).models["m"].gate.drift == DriftRule(window="", max_columns=0, min_rows=200, ignore=())
