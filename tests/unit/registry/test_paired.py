"""Paired tests: against closed forms, against R's published DeLong example, and by simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from noria.core.errors import UsageError
from noria.registry.metrics import METRICS
from noria.registry.paired import COUNTED, bootstrap, compare, delong, log_loss_gain, mean_gain, too_few

RNG = np.random.default_rng(3)
N = 600
Y = (RNG.random(N) < 0.4).astype(float)
A = np.clip(0.4 + 0.2 * (Y - 0.4) + RNG.normal(0, 0.2, N), 0.01, 0.99)
B = np.clip(0.4 + 0.4 * (Y - 0.4) + RNG.normal(0, 0.2, N), 0.01, 0.99)


def test_delong_is_the_covariance_of_all_pairs() -> None:
    def pairs(score: np.ndarray) -> np.ndarray:
        positive, negative = score[Y == 1][:, None], score[Y == 0][None, :]
        return np.asarray((positive > negative) + 0.5 * (positive == negative))

    first, second = pairs(A), pairs(B)
    rows, columns = np.cov(first.mean(1), second.mean(1)), np.cov(first.mean(0), second.mean(0))
    covariance = rows / len(first) + columns / first.shape[1]
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    gain = second.mean() - first.mean()
    found = delong(Y, A, B)
    moved = second.mean(1) - first.mean(1), second.mean(0) - first.mean(0)
    parts = [part.var(ddof=1) / len(part) for part in moved]
    freedom = sum(parts) ** 2 / sum(part**2 / (np.count_nonzero(m) - 1) for part, m in zip(parts, moved, strict=True))
    assert found.gain == pytest.approx(gain, abs=1e-12)
    assert (found.error, found.freedom) == pytest.approx((error, freedom))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(gain) / error, freedom))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, freedom, gain, error))


def test_log_loss_gain_is_the_paired_test_of_per_row_losses() -> None:
    def losses(score: np.ndarray) -> np.ndarray:
        return np.asarray(-np.where(Y == 1, np.log(score), np.log(1 - score)))

    gains = losses(A) - losses(B)
    found = log_loss_gain(Y, A, B, 0.9)
    assert found.gain == pytest.approx(gains.mean())
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.9, N - 1, gains.mean(), stats.sem(gains)))
    assert found.champion - found.challenger == pytest.approx(found.gain)
    assert found.n == N


def test_a_gain_is_positive_when_the_challenger_is_better_whatever_the_metric() -> None:
    for name in ("auc", "log_loss", "brier", "accuracy", "f1", "average_precision", "calibration_error"):
        forth, back = compare(METRICS[name], Y, A, B), compare(METRICS[name], Y, B, A)
        assert forth.gain == pytest.approx(-back.gain), name
        assert (forth.challenger > forth.champion) == (METRICS[name].better == "higher") or name == "calibration_error"
        assert forth.low <= forth.gain <= forth.high


@pytest.mark.parametrize("name", ["auc", "log_loss", "f1"])
def test_a_model_against_itself_gains_exactly_nothing(name: str) -> None:
    found = compare(METRICS[name], Y, A, A)
    assert (found.gain, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [(name, spoil) for name in ("auc", "log_loss", "f1", "accuracy") for spoil in ("nan", "empty")]
    + [("auc", "one class")],
)
def test_what_is_undefined_is_never_a_gain(name: str, spoil: str) -> None:
    b = B.copy()
    b[0] = math.nan
    y, a, b = {"nan": (Y, A, b), "empty": (Y[:0], A[:0], B[:0]), "one class": (np.zeros(N), A, B)}[spoil]
    found = compare(METRICS[name], y, a, b)
    assert not found.is_defined
    assert not found.low > 0
    assert not found.low >= -1e9


def test_different_rows_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="same rows"):
        compare(METRICS["auc"], Y, A[:-1], B)


@pytest.mark.parametrize("method", ["delong", "mean", "bootstrap"])
def test_equal_models_are_called_different_as_seldom_as_the_level_says(method: str) -> None:
    rng = np.random.default_rng(11)
    trials, alarms = (120, 0) if method == "bootstrap" else (600, 0)
    for _ in range(trials):
        truth = rng.random(300)
        y = (rng.random(300) < truth).astype(float)
        a, b = (np.clip(truth + rng.normal(0, 0.15, 300), 0.01, 0.99) for _ in range(2))
        if method == "delong":
            found = delong(y, a, b)
        elif method == "mean":
            found = log_loss_gain(y, a, b)
        else:
            found = bootstrap(METRICS["average_precision"], y, a, b, replicates=100)
        alarms += not found.low <= 0 <= found.high
    assert alarms / trials <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / trials)


def test_blocks_of_one_row_each_change_next_to_nothing() -> None:
    alone = np.arange(N)
    for name in ("auc", "log_loss"):
        free, blocked = compare(METRICS[name], Y, A, B), compare(METRICS[name], Y, A, B, blocks=alone)
        assert blocked.blocks == N
        assert blocked.gain == free.gain
        assert blocked.high - blocked.low == pytest.approx(free.high - free.low, rel=0.01)


def test_copied_rows_in_a_block_prove_no_more_than_one_of_them() -> None:
    blocks = np.repeat(np.arange(N), 5)
    for name in ("auc", "log_loss"):
        once = compare(METRICS[name], Y, A, B)
        copied = [np.repeat(values, 5) for values in (Y, A, B)]
        blocked = compare(METRICS[name], *copied, blocks=blocks)
        naive = compare(METRICS[name], *copied)
        assert blocked.high - blocked.low == pytest.approx(once.high - once.low, rel=0.01)
        assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_blocks_keep_the_level_where_rows_share_a_shock() -> None:
    rng = np.random.default_rng(5)
    blocks = np.repeat(np.arange(40), 25)
    naive = honest = 0
    for _ in range(300):
        shock = rng.normal(0, 0.15, (2, 40))[:, blocks]
        y = (rng.random(1000) < 0.5).astype(float)
        a, b = (np.clip(0.5 + 0.1 * (y - 0.5) + s, 0.02, 0.98) for s in shock)
        naive += log_loss_gain(y, a, b).p < 0.05
        honest += log_loss_gain(y, a, b, blocks=blocks).p < 0.05
    assert honest / 300 < 0.1
    assert naive > honest


def test_one_block_proves_nothing() -> None:
    found = mean_gain(METRICS["brier"], Y, A, B, blocks=np.zeros(N, dtype=np.int64))
    assert not found.is_defined


def test_the_bootstrap_is_the_same_every_time() -> None:
    first, second = (bootstrap(METRICS["f1"], Y, A, B) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", ["precision", "recall", "f1", "balanced_accuracy", "calibration_error", "rmse", "r2"])
@pytest.mark.parametrize("is_blocked", [False, True], ids=["rows", "blocks"])
def test_counted_resamples_say_what_resampled_rows_say(name: str, is_blocked: bool) -> None:
    metric = METRICS[name]
    assert metric.totals is not None
    y = Y if metric.task == "binary" else Y + A
    for score in (A, B):
        assert metric.totals.value(metric.totals.of(y, score, 0.5).sum(axis=0)) == pytest.approx(metric.of(y, score))
    blocks = np.arange(N) // 10 if is_blocked else None
    counted = bootstrap(metric, y, A, B, blocks=blocks, replicates=COUNTED)
    drawn = bootstrap(replace(metric, totals=None), y, A, B, blocks=blocks, replicates=COUNTED)
    assert counted.gain == drawn.gain
    assert counted.error == pytest.approx(drawn.error, rel=0.12)
    assert counted.low == pytest.approx(drawn.low, abs=0.4 * drawn.error)
    assert counted.high == pytest.approx(drawn.high, abs=0.4 * drawn.error)


def test_the_detectable_gain_is_the_closed_form_of_the_standard_error() -> None:
    gains = np.log(np.where(Y == 1, B, 1 - B)) - np.log(np.where(Y == 1, A, 1 - A))
    whole = (stats.t.ppf(0.975, N - 1) + stats.t.ppf(0.8, N - 1)) * stats.sem(gains)
    found = log_loss_gain(Y, A, B)
    assert found.detectable() == pytest.approx(whole)
    assert found.detectable(-0.05) == pytest.approx(whole - 0.05)
    blocks = np.arange(N) // 20
    sums = np.bincount(blocks, weights=gains - gains.mean()) / N
    error = math.sqrt(30 / 29 * float(sums @ sums))
    blocked = log_loss_gain(Y, A, B, blocks=blocks).detectable()
    assert blocked == pytest.approx((stats.t.ppf(0.975, 29) + stats.t.ppf(0.8, 29)) * error)


@pytest.mark.parametrize("name", ["auc", "log_loss", "accuracy", "f1", "average_precision"])
def test_rows_that_show_no_spread_give_no_detectable_gain(name: str) -> None:
    metric, half = METRICS[name], np.full(N, 0.5)
    for a, b in ((A, A), (half, half), (np.full(N, math.nan), B)):
        assert compare(metric, Y, a, b).detectable() is None
    assert compare(metric, Y[:0], A[:0], B[:0]).detectable() is None


@pytest.mark.parametrize("name", ["accuracy", "f1", "auc", "average_precision"])
def test_four_rows_that_differ_and_all_say_better_prove_nothing(name: str) -> None:
    a = np.where(Y == 1, 0.7, 0.3) + 0.01 * A
    a[np.flatnonzero(Y == 1)[:4]] = 0.2
    b = a.copy()
    b[np.flatnonzero(Y == 1)[:4]] = 0.8
    found = compare(METRICS[name], Y, a, b)
    assert found.gain > 0
    assert not found.low > 0


@pytest.mark.parametrize("name", ["accuracy", "recall"])
def test_models_that_call_every_row_alike_may_differ_on_as_many_as_none_of_n_leaves_open(name: str) -> None:
    units = N if name == "accuracy" else int(min(Y.sum(), N - Y.sum(), (A >= 0.5).sum()))
    a = np.where(A >= 0.5, 0.8, 0.2)
    b = np.where(A >= 0.5, 0.9, 0.1)
    found = compare(METRICS[name], Y, a, b)
    assert found.gain == 0
    # the largest share of flips under which none is seen as often as in 2.5 % of the cases, save that (1 - p)^n < e^-np
    assert -found.low == pytest.approx(1 - 0.025 ** (1 / units), rel=0.02)
    assert -found.low >= 1 - 0.025 ** (1 / units)
    assert found.detectable() is None
    same = compare(METRICS[name], Y, a, a)
    assert (same.low, same.high) == (0, 0)


def test_few_rows_of_a_class_are_too_few() -> None:
    y = np.repeat([0.0, 1.0], [90, 9])
    assert "9 rows of one class decide nothing" in too_few(y, "binary")
    assert too_few(np.append(y, 1.0), "binary") == ""
    assert "9 rows decide nothing" in too_few(y[:9], "regression")
    assert too_few(y, "regression") == ""
