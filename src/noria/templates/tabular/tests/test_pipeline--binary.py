"""The steps are plain functions, so the tests are plain pytest: `pytest`, or `noria test`."""

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pipeline


@pytest.fixture
def rows() -> pd.DataFrame:
    """A hundred made-up days: the label follows `size`; every tenth has no outcome, every seventh no `place`."""
    count = 100
    made = pd.DataFrame({"size": [number % 10 for number in range(count)]})
    made["place"] = [None if number % 7 == 0 else "north" if number % 2 else "south" for number in range(count)]
    made["nothing"] = None
    made[pipeline.TIME] = pd.date_range("2026-01-01", periods=count, tz="UTC")[::-1]
    made[pipeline.LABEL] = [pipeline.POSITIVE if number % 10 > 4 else "other" for number in range(count)]
    made.loc[made.index % 10 == 3, pipeline.LABEL] = None
    if pipeline.KEY:
        made[pipeline.KEY] = [f"k{number}" for number in range(count)]
    return made


def test_rows_without_an_outcome_are_left_out(rows):
    kept = pipeline.labelled(rows)
    assert len(kept) == 90
    assert set(kept[pipeline.LABEL]) == {0, 1}
    assert "nothing" not in kept


def test_the_holdout_is_the_newest_part(rows):
    learn, newest = pipeline.split(pipeline.labelled(rows))
    assert len(newest) == 18
    assert learn[pipeline.TIME].max() < newest[pipeline.TIME].min()


def test_the_model_takes_nulls_and_texts_it_never_saw(rows):
    kept = pipeline.labelled(rows).drop(columns=[name for name in (pipeline.TIME, pipeline.KEY) if name])
    x = kept.drop(columns=pipeline.LABEL)
    model = pipeline.train(pipeline.labelled(rows), iterations=5)
    scores = model.predict_proba(x.assign(place="nowhere"))[:, 1]
    assert ((scores >= 0) & (scores <= 1)).all()
