"""The reference: what a column differs from itself by is ordinary."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from noria.core.schema import Column
from noria.monitoring.dependence import INDEPENDENT
from noria.monitoring.reference import MIN_EFFECT, build

DAY_US = 86_400_000_000


def test_a_column_that_changes_by_the_week_has_a_floor_of_its_own() -> None:
    rng = np.random.default_rng(1)
    days = np.repeat(np.arange(28), 500)
    season = np.sin(days / 28 * 2 * np.pi)
    found = build(
        pa.table({"weather": rng.normal(season), "plain": rng.normal(size=len(days))}),
        [Column("weather", "float64"), Column("plain", "float64")],
        source="d@1",
        time=days * DAY_US,
        days=7.0,
    )
    weather, plain = found.columns
    assert weather.floor > 0.3
    assert plain.floor < 0.06
    assert weather.spread.scale > 3
    assert plain.spread == INDEPENDENT


def test_windows_come_from_time_where_there_is_enough_of_it() -> None:
    rng = np.random.default_rng(2)
    time = np.sort(rng.integers(0, 60 * DAY_US, 6_000))
    columns = [Column("x", "float64")]
    table = pa.table({"x": rng.normal(size=6_000)})
    assert build(table, columns, source="d", time=time, days=7.0).windows == 9
    assert build(table, columns, source="d", time=time, days=30.4).windows == 4
    assert build(table, columns, source="d").windows == 4
    assert build(table.slice(0, 80), columns, source="d").windows == 1


def test_a_column_that_is_all_null_or_constant_is_no_trouble() -> None:
    table = pa.table({"none": pa.nulls(500, pa.float64()), "one": np.ones(500), "text": ["a"] * 500})
    columns = [Column("none", "float64"), Column("one", "float64"), Column("text", "category")]
    for item in build(table, columns, source="d").columns:
        assert item.floor == MIN_EFFECT
        assert item.spread == INDEPENDENT


def test_columns_that_the_table_lacks_are_left_out() -> None:
    table = pa.table({"x": [1.0, 2.0], "raw": [b"1", b"2"]})
    columns = [Column("x", "float64"), Column("y", "float64"), Column("raw", "bytes")]
    assert [item.column.name for item in build(table, columns, source="d").columns] == ["x"]


def test_more_nulls_in_some_weeks_raise_the_floor_of_nulls() -> None:
    rng = np.random.default_rng(4)
    share = np.repeat([0.0, 0.2, 0.0, 0.2], 1_000)
    values = pa.array(rng.normal(size=4_000), mask=rng.uniform(size=4_000) < share)
    (item,) = build(pa.table({"x": values}), [Column("x", "float64", nullable=True)], source="d").columns
    assert item.null_floor == pytest.approx(0.2, abs=0.03)
