"""Every metric equals scikit-learn's; undefined is NaN; intervals are those of their sources."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from noria.core.errors import UsageError
from noria.registry.metrics import METRICS, Metric, measure, placements, resolve, z_of

RNG = np.random.default_rng(7)
CASES = [
    (RNG.integers(0, 2, 400).astype(float), RNG.random(400)),
    ((RNG.random(500) < 0.03).astype(float), np.round(RNG.random(500), 1)),
    (np.array([0.0, 1.0]), np.array([0.2, 0.9])),
    (np.array([0.0, 1.0, 1.0]), np.array([0.5, 0.5, 0.5])),
    (RNG.integers(0, 2, 50).astype(float), RNG.integers(0, 2, 50).astype(float)),
]
ORACLES: dict[str, Any] = {
    "auc": lambda y, s, t: oracle.roc_auc_score(y, s),
    "average_precision": lambda y, s, t: oracle.average_precision_score(y, s),
    "log_loss": lambda y, s, t: oracle.log_loss(y, s, labels=[0, 1]),
    "brier": lambda y, s, t: oracle.brier_score_loss(y, s),
    "accuracy": lambda y, s, t: oracle.accuracy_score(y, s >= t),
    "balanced_accuracy": lambda y, s, t: oracle.balanced_accuracy_score(y, s >= t),
    "precision": lambda y, s, t: oracle.precision_score(y, s >= t, zero_division=np.nan),
    "recall": lambda y, s, t: oracle.recall_score(y, s >= t, zero_division=np.nan),
    "f1": lambda y, s, t: oracle.f1_score(y, s >= t, zero_division=np.nan),
    "mae": lambda y, s, t: oracle.mean_absolute_error(y, s),
    "mse": lambda y, s, t: oracle.mean_squared_error(y, s),
    "rmse": lambda y, s, t: oracle.root_mean_squared_error(y, s),
    "r2": lambda y, s, t: oracle.r2_score(y, s),
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("threshold", [0.5, 0.15])
def test_a_metric_equals_scikit_learns(name: str, case: int, threshold: float) -> None:
    y, score = CASES[case]
    found = METRICS[name].of(y, score, threshold=threshold)
    assert found == pytest.approx(ORACLES[name](y, score, threshold), abs=1e-12, nan_ok=True)


def test_every_metric_has_an_oracle_or_a_closed_form() -> None:
    assert set(METRICS) - set(ORACLES) == {"calibration_error"}


def test_calibration_error_is_the_weighted_gap_of_ten_bins() -> None:
    y = np.array([0.0, 1.0, 1.0, 0.0])
    score = np.array([0.05, 0.05, 0.95, 1.0])
    gaps = abs(0.1 - 1.0) + abs(1.95 - 1.0)
    assert METRICS["calibration_error"].of(y, score) == pytest.approx(gaps / 4)


@pytest.mark.parametrize("name", [n for n in METRICS if METRICS[n].task == "binary"])
def test_a_score_that_is_nan_makes_a_metric_undefined(name: str) -> None:
    y, score = CASES[0]
    spoilt = score.copy()
    spoilt[3] = math.nan
    assert math.isnan(METRICS[name].of(y, spoilt)), name
    assert measure(METRICS[name], y, spoilt).value is None


@pytest.mark.parametrize("name", METRICS)
def test_no_rows_are_undefined(name: str) -> None:
    found = measure(METRICS[name], np.empty(0), np.empty(0))
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("name", ["auc", "balanced_accuracy"])
def test_one_class_has_no_ranking(name: str, value: float) -> None:
    assert measure(METRICS[name], np.full(20, value), RNG.random(20)).value is None


def test_placements_are_the_ranks_of_scipy() -> None:
    y, score = (RNG.random(200) < 0.3).astype(float), RNG.integers(0, 9, 200).astype(float)
    ranks, is_positive = stats.rankdata(score), y == 1
    of_positive, of_negative = placements(y, score)
    below = ranks[is_positive] - stats.rankdata(score[is_positive])
    assert np.array_equal(of_positive, below / (~is_positive).sum())
    below = ranks[~is_positive] - stats.rankdata(score[~is_positive])
    assert np.array_equal(of_negative, 1 - below / is_positive.sum())


def test_placements_mean_the_auc_and_are_the_pairwise_comparisons() -> None:
    y, score = CASES[1]
    positive, negative = score[y == 1], score[y == 0]
    pairs = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    of_positive, of_negative = placements(y, score)
    assert np.allclose(of_positive, pairs.mean(axis=1), atol=1e-12)
    assert np.allclose(of_negative, pairs.mean(axis=0), atol=1e-12)


def test_share_intervals_are_wilsons() -> None:
    y = np.array([1.0] * 37 + [0.0] * 63)
    found = measure(METRICS["accuracy"], y, np.ones(100))
    expected = stats.binomtest(37, 100).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_mean_intervals_are_the_normal_ones() -> None:
    y, score = CASES[0]
    found = measure(METRICS["brier"], y, score, level=0.9)
    each = (y - score) ** 2
    assert (found.low, found.high) == pytest.approx(stats.norm.interval(0.9, each.mean(), stats.sem(each)))


@pytest.mark.parametrize("name", ["auc", "log_loss", "brier", "accuracy", "f1", "average_precision"])
def test_intervals_cover_the_truth_about_as_often_as_they_say(name: str) -> None:
    rng = np.random.default_rng(1)

    def draw(n: int) -> Any:
        score = rng.beta(2, 3, n)
        return (rng.random(n) < score).astype(float), score

    truth = METRICS[name].of(*draw(400_000))
    trials, hits = 150, 0
    for _ in range(trials):
        found = measure(METRICS[name], *draw(400), level=0.9)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    # 0.9 of 150 = 135; five standard errors of sampling and some slack for the bootstrap
    assert 115 <= hits <= 149, hits


def test_an_unknown_metric_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no metric 'auk'"):
        resolve(["auk"], "binary")
    with pytest.raises(UsageError, match="for a regression model"):
        resolve(["auc"], "regression")


def test_a_metric_of_the_projects_own_sees_the_rows() -> None:
    class Own:
        name, better, takes_rows = "earned", "higher", True

        @staticmethod
        def function(y: Any, score: Any, rows: Any) -> float:
            return float((rows["price"] * (score > 0.5)).sum())

    import pandas as pd

    metric: Metric = resolve(["auc", Own], "binary")["earned"]  # type: ignore[list-item]  # a class stands for an instance
    rows = pd.DataFrame({"price": [1.0, 2.0, 4.0] * 40})
    y, score = np.tile([0.0, 1.0, 1.0], 40), np.tile([0.1, 0.9, 0.8], 40)
    found = measure(metric, y, score, rows=rows)
    assert found.value == 240.0
    assert found.low is not None
    assert found.low < 240.0 < (found.high or 0)


def test_levels_are_shares() -> None:
    assert z_of(0.95) == pytest.approx(1.959964, abs=1e-6)
    with pytest.raises(UsageError):
        z_of(95)
