"""The steps are plain functions, so the tests are plain pytest: `pytest`, or `noria test`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import feed
import pipeline
from story import months, story


@pytest.fixture
def rows() -> pd.DataFrame:
    """Forty days of made-up flights: those to ORD in the evening are late, one in ten is cancelled."""
    generator = np.random.default_rng(0)
    count = 4000
    made = pd.DataFrame({name: generator.normal(50, 10, count) for name in pipeline.NUMBERS})
    made["flight_id"] = [f"f{number}" for number in range(count)]
    made["scheduled_at"] = pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(np.arange(count) * 14.4, unit="min")
    made["carrier"] = generator.choice(["UA", "AA", "DL"], count)
    made["origin"] = generator.choice(["EWR", "JFK", "LGA"], count)
    made["dest"] = generator.choice(["ORD", "MIA", "SFO"], count)
    made["late"] = ((made["dest"] == "ORD") & (made["sched_dep"] > 50)).astype("float64")
    made.loc[generator.random(count) < 0.1, "late"] = np.nan
    return made.sample(frac=1, random_state=1)


def test_cancelled_flights_are_left_out_and_time_is_in_order(rows: pd.DataFrame) -> None:
    kept = pipeline.landed(rows)
    assert len(kept) == rows["late"].notna().sum()
    assert kept["scheduled_at"].is_monotonic_increasing
    assert set(kept["late"]) == {0, 1}


def test_no_feature_tells_the_future() -> None:
    future = {"late", "dep_delay", "arr_delay", "dep_time", "arr_time", "air_time", "landed_at"}
    assert not future & set(pipeline.FEATURES)
    assert set(feed.FEATURES) == set(pipeline.FEATURES)


def test_the_model_learns_and_answers_for_levels_it_never_saw(rows: pd.DataFrame) -> None:
    kept = pipeline.landed(rows)
    kept.attrs["noria"] = {"name": "flights", "key": "flight_id", "time": "scheduled_at", "label": "late"}
    model = pipeline.train(kept, iterations=20)
    score = model.predict_proba(kept[pipeline.FEATURES])[:, 1]
    assert score[kept["late"] == 1].mean() > score[kept["late"] == 0].mean() + 0.3
    strange = kept[pipeline.FEATURES].head(3).assign(dest="XXX", temp=np.nan)
    assert np.isfinite(model.predict_proba(strange)).all()


def test_the_best_tenth_of_a_perfect_score_holds_late_flights_only() -> None:
    y = np.array([0] * 80 + [1] * 20)
    assert pipeline.caught_at_tenth(y, np.linspace(0, 1, 100), None) == pytest.approx(0.5)


@pytest.mark.parametrize("wrong", ["2013-13", "2012-02", "2013-04..2013-02", "March"])
def test_a_month_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong.split("..")[0]):
        months(wrong)


def test_the_story_can_be_played() -> None:
    told = story()
    feed.check(told.breaks)
    assert not told.break_month or months(told.break_month) == [told.break_month]
    assert set(months(told.months)) <= set(months("2013-02..2013-12"))


def test_a_break_of_a_column_without_a_unit_is_refused() -> None:
    with pytest.raises(SystemExit, match="units"):
        feed.check(["units:carrier"])
