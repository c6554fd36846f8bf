"""Two models on the same rows: every figure against scikit-learn, scipy or a closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, log_loss, mean_absolute_error, roc_auc_score

from noria.registry.contrast import Contrast, Gap, Part, contrast
from noria.registry.evidence import Champion
from noria.registry.metrics import METRICS
from noria.registry.scored import Sample

Array = npt.NDArray[np.float64]
N = 4000


def world(seed: int = 0) -> tuple[pd.DataFrame, Array, Array]:
    """Rows with a group, labels, and the probabilities that they were drawn by."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=N)
    rows = pd.DataFrame({"x": x, "group": rng.choice(list("abcd"), N), "other": rng.choice(list("uv"), N)})
    truth = 1 / (1 + np.exp(-2 * x))
    return rows, (rng.uniform(size=N) < truth).astype(np.float64), truth


def compare(
    rows: pd.DataFrame, y: Array, a: Array, b: Array, *names: str, task: str = "binary", **options: Any
) -> Contrast:
    metrics = {name: METRICS[name] for name in names}
    sample = Sample(rows, y, b, options.pop("threshold", 0.5), task)
    chosen = {"declared": ["group", "other"], "min_rows": dict.fromkeys(names, 200), **options}
    return contrast(sample, Champion(1, a, 0.5), metrics, **chosen)


def gap(found: Contrast, name: str) -> Gap:
    return next(each for each in found.gaps if each.metric == name)


def part(found: Contrast, name: str, column: str, level: str) -> Part:
    return next(each for each in found.parts if (each.metric, each.column, each.level) == (name, column, level))


def delong(y: Array, a: Array, b: Array) -> tuple[float, float]:
    """The difference of two AUCs and its standard error, by the definition: all pairs."""
    sides = []
    for scores in (a, b):
        pairs = np.sign(scores[y == 1][:, None] - scores[y == 0][None, :]) / 2 + 0.5
        sides.append((pairs.mean(axis=1), pairs.mean(axis=0)))
    positive, negative = sides[1][0] - sides[0][0], sides[1][1] - sides[0][1]
    return positive.mean(), math.sqrt(positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative))


def test_metrics_and_differences_are_those_of_independent_implementations() -> None:
    rows, y, truth = world()
    rng = np.random.default_rng(1)
    b = np.clip(truth + rng.normal(0, 0.05, N), 0.01, 0.99)
    a = np.clip(truth + rng.normal(0, 0.20, N), 0.01, 0.99)
    found = compare(rows, y, a, b, "auc", "log_loss", "f1", "accuracy")
    assert (found.n, found.positives) == (N, int(y.sum()))
    for name, of in (
        ("auc", roc_auc_score),
        ("log_loss", log_loss),
        ("f1", lambda y, s: f1_score(y, s >= 0.5)),
        ("accuracy", lambda y, s: accuracy_score(y, s >= 0.5)),
    ):
        each = gap(found, name)
        assert each.a == pytest.approx(of(y, a))
        assert each.b == pytest.approx(of(y, b))
        assert each.difference == pytest.approx(of(y, b) - of(y, a))
        assert (each.a_low or 1) < of(y, a) < (each.a_high or 0)
    auc = gap(found, "auc")
    difference, error = delong(y, a, b)
    assert auc.low == pytest.approx(difference - 1.96 * error, abs=2e-5)
    assert auc.high == pytest.approx(difference + 1.96 * error, abs=2e-5)
    assert auc.is_beyond_chance
    losses = [-np.where(y == 1, np.log(s), np.log(1 - s)) for s in (a, b)]
    bounds = stats.ttest_rel(losses[1], losses[0]).confidence_interval(0.95)
    loss = gap(found, "log_loss")
    assert (loss.low, loss.high) == pytest.approx((bounds.low, bounds.high), rel=1e-5)
    assert loss.high is not None
    assert loss.high < 0, "b less a, in the metric's own sign: lower is better"


def test_the_interval_of_a_bootstrapped_difference_is_near_one_made_by_another_bootstrap() -> None:
    rows, y, truth = world(2)
    a, b = np.clip(truth + 0.2, 0, 1), truth
    found = gap(compare(rows, y, a, b, "f1"), "f1")
    rng = np.random.default_rng(5)
    drawn = [
        f1_score(y[pick], b[pick] >= 0.5) - f1_score(y[pick], a[pick] >= 0.5)
        for pick in (rng.integers(0, N, N) for _ in range(600))
    ]
    width = np.subtract(*np.quantile(drawn, [0.975, 0.025]))
    assert found.low is not None
    assert found.high is not None
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist(), abs=0.15 * width)


@pytest.mark.parametrize("name", ["auc", "log_loss", "accuracy", "f1", "calibration_error"])
def test_a_group_that_carries_the_whole_difference_is_named(name: str) -> None:
    rows, y, truth = world(3)
    spoiled = (rows["group"] == "c").to_numpy()
    a = np.where(spoiled, np.random.default_rng(4).uniform(0.01, 0.99, N), truth)
    found = compare(rows, y, a, truth, name)
    assert found.column == "group"
    one = part(found, name, "group", "c")
    assert one.share == pytest.approx(1.0)
    assert one.is_beyond_chance
    assert one.n == spoiled.sum()
    for level in "abd":
        assert part(found, name, "group", level).share == pytest.approx(0.0, abs=1e-9)
        assert not part(found, name, "group", level).is_beyond_chance


@pytest.mark.parametrize("name", ["auc", "log_loss", "accuracy"])
def test_the_parts_of_a_column_sum_to_the_whole(name: str) -> None:
    rows, y, truth = world(6)
    rng = np.random.default_rng(7)
    a = np.clip(truth + rng.normal(0, np.where(rows["group"] == "a", 0.4, 0.15)), 0.01, 0.99)
    found = compare(rows, y, a, truth, name)
    assert found.is_exact
    for column in ("group", "other"):
        shares = [each.share for each in found.parts if each.column == column]
        assert sum(share or 0 for share in shares) == pytest.approx(1.0)


def test_intervals_of_groups_are_as_wide_as_for_all_of_them_at_once() -> None:
    rows, y, truth = world(8)
    a = np.clip(truth + np.random.default_rng(9).normal(0, 0.2, N), 0.01, 0.99)
    found = compare(rows, y, a, truth, "log_loss")
    assert {each.confidence for each in found.parts} == {1 - 0.05 / 6}
    mask = (rows["group"] == "b").to_numpy()
    losses = [-np.where(y == 1, np.log(s), np.log(1 - s))[mask] for s in (a, truth)]
    bounds = stats.ttest_rel(losses[1], losses[0]).confidence_interval(1 - 0.05 / 6)
    one = part(found, "log_loss", "group", "b")
    assert (one.low, one.high) == pytest.approx((bounds.low, bounds.high))


def test_columns_nobody_declared_are_counted_and_only_the_telling_ones_shown() -> None:
    rows, y, truth = world(10)
    rows = rows.assign(**{f"z{n}": np.random.default_rng(n).choice(list("pq"), N) for n in range(6)})
    a = np.where(rows["group"] == "c", 0.5, truth)
    columns = ["group", "other", *(f"z{n}" for n in range(6))]
    found = compare(rows, y, a, truth, "log_loss", declared=[], columns=columns)
    assert found.column == "group"
    shown = list(dict.fromkeys(each.column for each in found.parts))
    assert len(shown) == 3
    assert "group" in shown
    assert found.parts[0].confidence == 1 - 0.05 / (4 + 7 * 2)


def test_a_small_group_has_its_values_and_no_interval() -> None:
    rows, y, truth = world(11)
    rows.loc[:49, "group"] = "rare"
    found = compare(rows, y, np.clip(truth + 0.1, 0.01, 0.99), truth, "log_loss")
    one = part(found, "log_loss", "group", "rare")
    assert (one.n, one.low, one.is_beyond_chance) == (50, None, None)
    assert one.b == pytest.approx(log_loss(y[:50], truth[:50]))
    assert one.note == "fewer than 200 rows"


def test_what_is_within_chance_is_not_shared_out() -> None:
    rows, y, truth = world(12)
    a = np.clip(truth + np.random.default_rng(13).normal(0, 0.002, N), 0.001, 0.999)
    found = compare(rows, y, a, truth, "auc")
    assert gap(found, "auc").is_beyond_chance is False
    assert {each.share for each in found.parts} == {None}


def test_the_same_scores_differ_in_nothing() -> None:
    rows, y, truth = world(14)
    found = compare(rows, y, truth, truth, "auc", "log_loss", "f1", "calibration_error")
    assert [each.difference for each in found.gaps] == [0.0] * 4
    assert not any(each.is_beyond_chance for each in found.gaps)
    assert not any(each.is_beyond_chance for each in found.parts)
    assert (found.column, found.flips.count) == ("", 0)


def test_flipped_rows_are_counted_each_at_its_own_threshold() -> None:
    rows, y, truth = world(15)
    found = compare(rows, y, truth, truth, "accuracy", threshold=0.6)
    between = (truth >= 0.5) & (truth < 0.6)
    assert found.flips.count == between.sum()
    ways = {way: (n, right) for way, n, right in found.flips.ways}
    assert ways["called no more"] == (between.sum(), (between & (y == 0)).sum())
    assert gap(found, "accuracy").difference == pytest.approx(
        accuracy_score(y, truth >= 0.6) - accuracy_score(y, truth >= 0.5)
    )


def test_scores_that_are_no_numbers_compare_to_nothing_and_say_so() -> None:
    rows, y, truth = world(16)
    broken = truth.copy()
    broken[3] = math.nan
    found = compare(rows, y, truth, broken, "auc", "log_loss")
    for each in found.gaps:
        assert (each.b, each.difference, each.low, each.is_beyond_chance) == (None, None, None, None)
        assert each.a is not None
        assert "not finite" in each.note
    assert "not finite" in found.flips.note
    assert found.column == ""


def test_one_class_has_no_auc() -> None:
    rows, _, truth = world(17)
    found = compare(rows, np.ones(N), truth, truth**2, "auc", "log_loss")
    assert gap(found, "auc").difference is None
    assert "0 rows of one class" in gap(found, "auc").note
    assert gap(found, "log_loss").difference is not None
    assert gap(found, "log_loss").is_beyond_chance is None


def test_no_rows_are_no_error() -> None:
    rows, y, truth = world(18)
    found = compare(rows.head(0), y[:0], truth[:0], truth[:0], "auc", "log_loss")
    assert (found.n, found.parts) == (0, ())
    assert {each.note for each in found.gaps} == {"there is no labelled row"}


def test_a_regression_is_compared_by_its_errors() -> None:
    rows, _, _ = world(19)
    rng = np.random.default_rng(20)
    y = rows["x"].to_numpy() + rng.normal(0, 0.1, N)
    a, b = rows["x"].to_numpy() + 0.3 * (rows["group"] == "a").to_numpy(), rows["x"].to_numpy()
    found = compare(rows, y, a, b, "mae", "rmse", "r2", task="regression")
    assert gap(found, "mae").difference == pytest.approx(mean_absolute_error(y, b) - mean_absolute_error(y, a))
    assert found.column == "group"
    assert part(found, "mae", "group", "a").share == pytest.approx(1.0)
    assert found.flips.count == (rows["group"] == "a").sum()
