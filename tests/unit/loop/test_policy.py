"""The policy: what asks for a challenger, what holds it back, and what a challenger must be worth."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from noria.config import RetrainConfig, RetrainLimits
from noria.core.errors import ConfigError
from noria.loop.policy import Evidence, Gain, Quality, Training, decide, describe, worth

NOW = datetime(2013, 4, 2, 12, tzinfo=UTC)


def evidence(**changes: Any) -> Evidence:
    base = Evidence(
        window="2013-03",
        as_of=NOW,
        data="flights@4",
        failures=(),
        drifted=(),
        persistent=(),
        quality=(),
        labelled=26_000,
        rows=27_000,
        new_rows=50_000,
        is_tried=False,
        champion_at=NOW - timedelta(days=60),
        trainings=(),
        is_rolling=False,
    )
    return dataclasses.replace(base, **changes)


def quality(value: float, half: float, before: float, *, higher: bool = True, metric: str = "auc") -> Quality:
    return Quality(
        metric=metric,
        higher=higher,
        value=value,
        low=value - half,
        high=value + half,
        before=before,
        before_low=before - half,
        before_high=before + half,
    )


def policy(*when: str, **changes: Any) -> RetrainConfig:
    return RetrainConfig(when=when, **changes)


def gain(low: float, high: float, *, champion: float = 0.52) -> Gain:
    middle = (low + high) / 2
    return Gain(champion=champion, challenger=champion - middle, gain=middle, low=low, high=high, n=6_000)


def test_without_a_trigger_nothing_is_trained() -> None:
    found = decide(evidence(), policy())
    assert (found.decision, found.triggers) == ("wait", ())


def test_broken_data_stop_everything_whatever_else_is_true() -> None:
    found = decide(
        evidence(failures=("distance (units): 1.6 times",), persistent=("distance",), drifted=("distance",)),
        policy("drift", "new labels 1", "age 1d"),
    )
    assert found.decision == "stopped"
    assert found.triggers == ()
    assert "distance" in found.reason


def test_drift_in_one_window_is_noted_and_in_two_running_proposes() -> None:
    once = decide(evidence(drifted=("temp",)), policy("drift"))
    assert once.decision == "wait"
    assert any("not in the window before" in line for line in describe(once.rules))
    assert decide(evidence(drifted=("temp",), persistent=("temp",)), policy("drift")).triggers == ("drift",)


@pytest.mark.parametrize(
    ("item", "fired"),
    [
        (quality(0.64, 0.005, 0.70), True),
        (quality(0.69, 0.005, 0.70), False),  # the intervals touch
        (quality(0.685, 0.002, 0.70), False),  # proven, but below the tolerance
        (quality(0.75, 0.005, 0.70), False),  # better
        (quality(0.60, 0.005, 0.50, higher=False, metric="log_loss"), True),
        (quality(0.40, 0.005, 0.50, higher=False, metric="log_loss"), False),
    ],
)
def test_quality_asks_when_the_gap_is_proven_and_large_enough(item: Quality, fired: bool) -> None:
    assert (decide(evidence(quality=(item,)), policy("quality")).decision == "train") is fired


def test_quality_without_labels_is_no_reason() -> None:
    unknown = dataclasses.replace(quality(0.6, 0.01, 0.7), value=None, low=None, high=None)
    found = decide(evidence(quality=(unknown,), labelled=0), policy("quality"))
    assert found.decision == "wait"
    assert "0 of 27,000 labelled" in describe(found.rules)[0]


def test_new_labels_and_age_ask() -> None:
    assert decide(evidence(new_rows=19_999), policy("new labels 20000")).decision == "wait"
    assert decide(evidence(new_rows=20_000), policy("new labels 20000")).triggers == ("new labels",)
    assert decide(evidence(), policy("age 60d")).triggers == ("age",)
    assert decide(evidence(), policy("age 61d")).decision == "wait"


def test_a_limit_of_a_metric_asks_only_when_the_interval_is_beyond_it() -> None:
    assert decide(evidence(quality=(quality(0.60, 0.01, 0.7),)), policy("auc < 0.62")).decision == "train"
    assert decide(evidence(quality=(quality(0.615, 0.01, 0.7),)), policy("auc < 0.62")).decision == "wait"
    assert decide(evidence(), policy("auc < 0.62")).decision == "wait"


@pytest.mark.parametrize("text", ["sometimes", "new labels", "age soon", "drifting"])
def test_a_trigger_that_nobody_knows_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError):
        decide(evidence(), policy(text))


def test_the_same_data_are_tried_once() -> None:
    found = decide(evidence(is_tried=True), policy("new labels 1"))
    assert found.decision == "wait"
    assert found.triggers == ("new labels",)
    assert "tried already" in found.reason


def test_without_new_data_nothing_is_trained() -> None:
    assert decide(evidence(new_rows=0, persistent=("temp",)), policy("drift")).decision == "wait"


def test_a_rollout_under_way_is_not_disturbed() -> None:
    assert decide(evidence(is_rolling=True), policy("new labels 1")).decision == "wait"


def test_the_cooldown_counts_in_the_time_of_the_evidence() -> None:
    limits = RetrainLimits(cooldown="14d", per_week=7)
    for days, decision in ((13, "wait"), (14, "train")):
        last = (Training(at=NOW - timedelta(days=days), cost=1.0),)
        assert decide(evidence(trainings=last), policy("new labels 1", limits=limits)).decision == decision


def test_the_week_has_so_many_trainings_and_so_much_money() -> None:
    recent = tuple(Training(at=NOW - timedelta(days=day), cost=10.0) for day in (1, 3, 8))
    few = policy("new labels 1", limits=RetrainLimits(per_week=2))
    assert decide(evidence(trainings=recent), few).decision == "wait"
    assert decide(evidence(trainings=recent[1:]), few).decision == "train"
    poor = policy("new labels 1", cost=10.0, limits=RetrainLimits(budget_per_week=29.0))
    assert decide(evidence(trainings=recent), poor).decision == "wait"
    assert decide(evidence(trainings=recent[1:]), poor).decision == "train"


def test_every_rule_is_on_record_with_its_numbers() -> None:
    found = decide(evidence(), policy("drift", "quality", "new labels 20000", "age 90d"))
    assert [rule.name for rule in found.rules[:4]] == ["drift", "quality", "new labels", "age"]
    assert all(rule.text for rule in found.rules)
    assert "50,000" in describe(found.rules)[2]


def test_a_challenger_is_promoted_only_if_its_least_gain_pays() -> None:
    money = policy("drift", value_per_log_loss=0.5, cost=30, risk=250)
    assert worth(gain(0.025, 0.045), money, traffic=28_000).promote
    almost = worth(gain(0.012, 0.034), money, traffic=28_000)
    assert not almost.promote
    assert almost.worth == pytest.approx(0.012 * 28_000 * 0.5)
    assert almost.cost == 280
    assert "not worth it" in almost.reason
    assert worth(gain(0.012, 0.034), money, traffic=60_000).promote


def test_a_gain_that_is_not_proven_is_refused_even_for_nothing() -> None:
    free = policy("drift")
    assert not worth(gain(-0.001, 0.05), free, traffic=10**9).promote
    assert not worth(gain(0.0, 0.05), free, traffic=10**9).promote
    assert worth(gain(-0.05, -0.01), free, traffic=1).reason.startswith("worse")
    assert worth(gain(1e-6, 0.05), free, traffic=1).promote


def test_the_policy_s_own_traffic_goes_before_the_window_s() -> None:
    money = policy("drift", cost=100, expected_requests=1_000)
    assert not worth(gain(0.05, 0.06), money, traffic=10**6).promote


def test_a_judgement_says_which_gain_it_would_have_promoted() -> None:
    seen = replace(gain(-0.001, 0.05), detectable=0.02)
    free, priced = (worth(seen, policy("drift", cost=cost), traffic=10_000) for cost in (0.0, 50.0))
    assert free.detectable == 0.02
    assert free.reason.endswith("; sees gains from 0.0200")
    assert priced.detectable == pytest.approx(0.02 + 50 / 10_000)
    nothing = worth(seen, policy("drift", value_per_log_loss=0.0), traffic=10_000)
    unknown = worth(gain(-0.001, 0.05), policy("drift"), traffic=10_000)
    assert nothing.detectable is unknown.detectable is None
    assert "sees" not in nothing.reason + unknown.reason


@pytest.mark.parametrize("low", [math.nan, -math.inf])
def test_a_gain_that_cannot_be_computed_promotes_nothing(low: float) -> None:
    assert not worth(
        Gain(champion=0.5, challenger=0.5, gain=math.nan, low=low, high=0.1, n=0), policy(), traffic=1
    ).promote
