"""Groups are compared as Fairlearn compares them, with intervals that hold, and no gate passes on too little."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import fairlearn.metrics as fair
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import FairnessRule, GateConfig, load_project
from noria.core.errors import ConfigError
from noria.registry.evaluate import measured
from noria.registry.evidence import Champion, Evidence
from noria.registry.facts import Verdict
from noria.registry.gates import decide
from noria.registry.groups import gap_of, groups_of
from noria.registry.kinds import fairness
from noria.registry.report import render
from noria.registry.scored import Sample

THEIRS = {
    "demographic_parity": (fair.demographic_parity_ratio, fair.demographic_parity_difference),
    "equal_opportunity": (fair.equal_opportunity_ratio, fair.equal_opportunity_difference),
    "equalized_odds": (fair.equalized_odds_ratio, fair.equalized_odds_difference),
}


def sample_of(group: Any, y: Any, score: Any, *, threshold: float = 0.5, task: str = "binary") -> Sample:
    rows = pd.DataFrame({"group": group})
    return Sample(rows, np.asarray(y, float), np.asarray(score, float), threshold, task)


def drawn(seed: int, n: int = 4000) -> Sample:
    """Three groups of which one is called positive less often than its labels say."""
    generator = np.random.default_rng(seed)
    group = generator.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    y = (generator.random(n) < 0.4).astype(float)
    score = np.clip(0.3 + 0.35 * y + generator.normal(0, 0.2, n) - 0.12 * (group == "c"), 0, 1)
    return sample_of(group, y, score)


def evidence(sample: Sample, rule: FairnessRule, champion: Champion | None = None) -> Evidence:
    policy = GateConfig(fairness=rule)
    return Evidence(
        policy=policy, sample=sample, champion=champion, metrics={}, slices=(), blocks=None, latencies_ms=list
    )


def verdict(sample: Sample, champion: Champion | None = None, **rule: Any) -> Verdict:
    [found] = fairness.judge(evidence(sample, FairnessRule(group=("group",), **rule), champion))
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from([0.1, 0.5, 0.9])), min_size=4, max_size=80
    )
)
@pytest.mark.filterwarnings("ignore")
def test_values_are_those_of_fairlearn(rows: list[tuple[str, bool, float]]) -> None:
    group, y, score = (list(part) for part in zip(*rows, strict=True))
    sample = sample_of(group, y, score)
    groups = groups_of(sample, "group")
    called = (sample.score >= 0.5).astype(int)
    for measure, functions in THEIRS.items():
        for is_difference, function in zip((False, True), functions, strict=True):
            gap = gap_of(groups, measure, is_difference=is_difference, min_rows=1)
            has_all = all(each.hits.trials and each.false_alarms.trials for each in groups)
            if len(groups) < 2 or (not has_all and measure != "demographic_parity"):
                continue  # a rate without a row counts as 0 there, and leaves its group out here
            theirs = function(sample.y.astype(int), called, sensitive_features=sample.rows["group"])
            if math.isfinite(gap.value):
                assert gap.value == pytest.approx(theirs, abs=1e-9), (measure, is_difference)
                assert gap.low - 1e-12 <= gap.value <= gap.high + 1e-12
            else:
                assert not any(each.called.successes for each in groups) or measure != "demographic_parity"


@pytest.mark.parametrize("is_difference", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0.24, 0.30), (0.3, 0.3), (0.05, 0.1)])
def test_intervals_hold_the_truth_as_often_as_they_say(low: float, high: float, is_difference: bool) -> None:
    generator = np.random.default_rng(7)
    truth = high - low if is_difference else low / high
    sizes, held = (700, 500), 0
    for _ in range(1000):
        group = np.repeat(["a", "b"], sizes)
        called = np.concatenate(
            [np.arange(n) < generator.binomial(n, p) for n, p in zip(sizes, (low, high), strict=True)]
        )
        groups = groups_of(sample_of(group, called, called), "group")
        gap = gap_of(groups, "demographic_parity", is_difference=is_difference, min_rows=1, level=0.9)
        held += gap.low <= truth <= gap.high
    # the standard error of the share is 0.0095; equal groups may only be held more often
    assert held / 1000 >= 0.9 - 3 * 0.0095
    assert held / 1000 <= 0.9 + 3 * 0.0095 or low == high


def test_a_group_that_is_treated_worse_closes_the_gate_and_is_named() -> None:
    found = verdict(drawn(1), equal_opportunity=0.95)
    assert not found.passed
    assert "c 52.4% of 311 against a 76.8% of 796 (positives found); 3 groups" in found.text
    assert found.limit == 0.95
    assert found.low is not None
    assert found.high is not None
    assert found.value is not None
    assert found.low <= found.value <= found.high
    assert verdict(drawn(1), equal_opportunity=found.value - 0.01).passed
    assert not verdict(drawn(1), equal_opportunity=found.value - 0.001, proven=True).passed
    assert verdict(drawn(1), equal_opportunity=found.low - 0.001, proven=True).passed


def test_a_difference_is_bounded_from_above() -> None:
    found = verdict(drawn(2), demographic_parity_difference=0.01)
    assert not found.passed
    assert found.value is not None
    assert found.high is not None
    assert verdict(drawn(2), demographic_parity_difference=found.value + 0.001).passed
    assert not verdict(drawn(2), demographic_parity_difference=found.value + 0.001, proven=True).passed
    assert verdict(drawn(2), demographic_parity_difference=found.high + 0.001, proven=True).passed


def test_the_champion_is_measured_on_the_same_rows_and_decides_nothing() -> None:
    sample = drawn(3)
    even = Champion(4, np.where(sample.y == 1, 0.9, 0.1), 0.5)
    found = verdict(sample, even, equal_opportunity=0.99)
    assert not found.passed
    assert found.champion == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (sample_of(["a"] * 300, [0, 1] * 150, [0.9, 0.1] * 150), "1 of 1 groups"),
        (sample_of(["a"] * 290 + ["b"] * 10, [0, 1] * 150, [0.9, 0.1] * 150), "b (5)"),
        (sample_of(["a", "b"] * 150, [0] * 300, [0.9] * 300), "0 of 2 groups"),
        (sample_of(["a", "b"] * 150, [1] * 300, [0.1] * 300), "no group has any"),
        (sample_of([], [], []), "0 of 0 groups"),
        (sample_of(["a", "b"] * 150, [1, 2] * 150, [0.1] * 300, task="regression"), "binary"),
    ],
)
def test_too_little_to_judge_is_a_no(sample: Sample, said: str) -> None:
    found = verdict(sample, equal_opportunity=0.5)
    assert not found.passed
    assert said in found.text


def test_scores_that_are_no_numbers_and_a_column_that_is_not_there_are_a_no() -> None:
    sample = sample_of(["a", "b"] * 300, [0, 1, 1, 0] * 150, [math.nan] * 600)
    assert not verdict(sample, demographic_parity=0.1).passed
    assert "not finite" in verdict(sample, demographic_parity_difference=0.9).text
    assert not verdict(sample, demographic_parity_difference=0.9).passed
    other = FairnessRule(group=("nowhere",), demographic_parity=0.1)
    [found] = fairness.judge(evidence(sample, other))
    assert not found.passed
    assert "no column nowhere" in found.text


def test_rows_without_a_group_are_a_group() -> None:
    sample = sample_of([None] * 200 + ["a"] * 400, [1] * 600, [0.1] * 200 + [0.9] * 400)
    found = verdict(sample, equal_opportunity=0.8)
    assert not found.passed
    assert "null 0.0% of 200" in found.text


def test_the_rule_is_one_of_the_gates_and_its_groups_are_in_the_report() -> None:
    sample = drawn(5)
    rule = FairnessRule(group=("group",), equal_opportunity=0.9, demographic_parity=0.5)
    found = [each for each in decide(evidence(sample, rule)) if each.gate == "fairness group"]
    assert [each.passed for each in found] == [True, False] or [each.passed for each in found] == [False, True]
    made = measured(sample, {}, groups=rule.group)
    by_level = {each.level: each for each in made.groups}
    mask = (sample.rows["group"] == "c").to_numpy()
    assert by_level["c"].hits.value == pytest.approx((sample.score[mask & (sample.y == 1)] >= 0.5).mean())
    assert by_level["c"].n == int(mask.sum())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fairness = { equal_opportunity = 0.8 }", "names no group"),
        ('fairness = { group = "" , equal_opportunity = 0.8 }', "names no group"),
        ('fairness = { group = "sex" }', "states no limit"),
        ('fairness = { group = "sex", equal_opportunity = 80 }', "between 0 and 1"),
        ('fairness = { group = "sex", equal_opportunity = nan }', "finite"),
        ('fairness = { group = "sex", equal_oportunity = 0.8 }', "equal_opportunity"),
        ('fairness = { group = "sex", equal_opportunity = 0.8, min_rows = 0 }', "at least 1"),
        ('fairness = "sex"', "fairness"),
    ],
)
def test_a_rule_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "noria.toml").write_text(f'[project]\nname = "t"\n[model.m.gate]\n{text}\n')
    with pytest.raises(ConfigError) as error:
        load_project(tmp_path)
    assert said in f"{error.value.message} {error.value.hint}"


def test_one_group_or_several_may_be_named(tmp_path: Path) -> None:
    rule = 'fairness = { group = ["sex", "age"], equalized_odds_difference = 0.1 }'
    (tmp_path / "noria.toml").write_text(f'[project]\nname = "t"\n[model.m.gate]\n{rule}\n')
    made = load_project(tmp_path).models["m"].gate.fairness
    assert made == FairnessRule(group=("sex", "age"), equalized_odds_difference=0.1)


@pytest.mark.parametrize(("size", "passed"), [(900_000, True), (1_000_000, True), (1_000_001, False), (None, False)])
def test_the_size_of_a_bundle_is_bounded(size: int | None, passed: bool) -> None:
    given_ = Evidence(
        policy=GateConfig(size_mb=1.0),
        sample=drawn(6),
        champion=None,
        metrics={},
        slices=(),
        blocks=None,
        latencies_ms=list,
        size_bytes=size,
    )
    [found] = [each for each in decide(given_) if each.gate == "size"]
    assert found.passed is passed


def test_the_report_draws_each_groups_rates() -> None:
    sample = drawn(8)
    document = {"order": [], **dataclasses.asdict(measured(sample, {}, groups=("group",)))}
    page = render(document)
    assert page.count("group = ") == 3
    assert page.partition("<h2>Groups</h2>")[2].count('<circle class="dot"') == 9
