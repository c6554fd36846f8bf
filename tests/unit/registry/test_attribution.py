"""Attributions: they sum to the score less the base, and are Shapley's values by independent computations."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from noria.core.errors import UsageError
from noria.packaging import bundle
from noria.packaging.predictor import Predictor
from noria.packaging.rows import RowRefused
from noria.registry import attribution
from noria.registry.attribution import ASKED_MAX, attribute
from noria.store.workspace import Workspace


def table(columns: int, n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(columns)
    made = pd.DataFrame({f"x{index}": rng.normal(size=n) for index in range(columns)})
    return made.assign(late=made["x0"] * made["x1"] + 2 * made["x2"] + np.where(made["x3"] > 0, made["x1"], 0.0))


def built(ws: Workspace, model: Any, rows: pd.DataFrame) -> Predictor:
    names = [name for name in rows.columns if name != "late"]
    fitted = model.fit(rows[names], rows["late"])
    return bundle.opened(ws, bundle.build(ws, fitted, holdout=rows, run="r", label="late", name="m").digest)


def by_every_order(predictor: Predictor, row: dict[str, Any], background: list[dict[str, Any]]) -> dict[str, float]:
    """Shapley's own definition: the mean over all orders of what a column adds when it comes in."""
    names = list(row)
    worth: dict[frozenset[str], float] = {}
    for size in range(len(names) + 1):
        for given in itertools.combinations(names, size):
            mixed = [{**other, **{name: row[name] for name in given}} for other in background]
            worth[frozenset(given)] = float(predictor.predict(mixed).mean())
    found = dict.fromkeys(names, 0.0)
    for order in itertools.permutations(names):
        there: frozenset[str] = frozenset()
        for name in order:
            found[name] += worth[there | {name}] - worth[there]
            there |= {name}
    return {name: value / math.factorial(len(names)) for name, value in found.items()}


def by_every_subset(predictor: Predictor, row: dict[str, Any], background: list[dict[str, Any]]) -> dict[str, float]:
    """The same by subsets with their weights, for columns whose orders are too many."""
    names = list(row)
    worth = {}
    for size in range(len(names) + 1):
        for given in itertools.combinations(names, size):
            mixed = [{**other, **{name: row[name] for name in given}} for other in background]
            worth[frozenset(given)] = float(predictor.predict(pd.DataFrame(mixed)).mean())
    found = {}
    for name in names:
        parts = [
            (worth[given | {name}] - worth[given]) / math.comb(len(names) - 1, len(given)) / len(names)
            for given in worth
            if name not in given
        ]
        found[name] = math.fsum(parts)
    return found


@pytest.mark.parametrize("columns", [4, 12])
def test_of_a_linear_model_each_part_is_its_weight_times_the_way_from_the_mean(ws: Workspace, columns: int) -> None:
    rows = table(columns)
    model = LinearRegression()
    predictor = built(ws, model, rows)
    golden = [dict(row) for row in predictor.bundle.golden_rows]
    row = golden[5]
    found = attribute(predictor, row, golden)
    means = pd.DataFrame(golden).mean()
    for part in found.parts:
        weight = model.coef_[int(part.column[1:])]
        assert part.adds == pytest.approx(weight * (row[part.column] - means[part.column]), abs=1e-9)
        assert part.error == pytest.approx(0, abs=1e-9)
    assert found.base == pytest.approx(np.mean(predictor.bundle.golden_scores))
    assert found.is_exact == (columns == 4)


def test_few_columns_are_exact_by_the_definition_over_all_orders(ws: Workspace) -> None:
    predictor = built(ws, HistGradientBoostingRegressor(max_iter=20, random_state=0), table(5))
    golden = [dict(row) for row in predictor.bundle.golden_rows]
    found = attribute(predictor, golden[9], golden)
    truth = by_every_order(predictor, golden[9], golden)
    assert {part.column: part.adds for part in found.parts} == pytest.approx(truth, abs=1e-9)
    assert [abs(part.adds) for part in found.parts] == sorted((abs(part.adds) for part in found.parts), reverse=True)


def test_many_columns_are_sampled_within_their_stated_error_and_still_sum_up(ws: Workspace) -> None:
    predictor = built(ws, HistGradientBoostingRegressor(max_iter=20, random_state=0), table(10))
    golden = [dict(row) for row in predictor.bundle.golden_rows]
    found = attribute(predictor, golden[9], golden)
    truth = by_every_subset(predictor, golden[9], golden)
    assert not found.is_exact
    assert found.asked <= ASKED_MAX + len(golden) + 1
    assert found.background == 64
    for part in found.parts:
        assert abs(part.adds - truth[part.column]) <= 5 * part.error + 1e-12
    assert sum(part.error for part in found.parts) > 0
    assert math.fsum(part.adds for part in found.parts) == pytest.approx(found.score - found.base, abs=1e-9)
    assert found.score == pytest.approx(predictor.predict([golden[9]])[0], abs=1e-12)
    assert found == attribute(predictor, golden[9], golden), "the same question has the same answer"


def test_what_is_asked_of_a_wide_model_is_bounded_and_a_wider_one_is_refused(ws: Workspace) -> None:
    for columns in (9, 24, 100, 156):
        rows, pairs = attribution._size(columns, 64)
        assert rows >= 8
        assert 2 * pairs * rows * columns <= ASKED_MAX
    assert attribution._size(1_000, 64) == (8, 2)
    rows_of = table(6)
    predictor = built(ws, LinearRegression(), rows_of)
    with pytest.raises(UsageError, match="a row to compare with"):
        attribute(predictor, dict(predictor.bundle.golden_rows[0]), [])
    with pytest.raises(RowRefused, match="x0"):
        attribute(predictor, {**predictor.bundle.golden_rows[0], "x0": "high"}, predictor.bundle.golden_rows)
