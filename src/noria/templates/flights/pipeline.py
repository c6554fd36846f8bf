"""Flights: which departures from New York will arrive more than 15 minutes late?

The question is asked in the hour of the scheduled departure. Steps are plain functions: pytest calls
them as they are, and `noria run` runs them as a graph, each only when its code or its input changed.
What a model must reach to go live is not here but in noria.toml.
"""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

import noria as nr

flights = nr.dataset("flights", key="flight_id", time="scheduled_at", label="late")

LEVELS = ["carrier", "origin", "dest"]
# Not the month: it only counts time, so it drifts by itself and teaches nothing of a month that is new.
NUMBERS = [
    # the schedule
    "weekday", "sched_dep", "sched_arr", "distance",
    # the weather of the hour, at the airport of departure
    "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib",
    # the plane
    "plane_year", "seats", "engines",
]  # fmt: skip
FEATURES = LEVELS + NUMBERS


@nr.step
def landed(rows: pd.DataFrame) -> pd.DataFrame:
    """Flights with an outcome, in time order. Cancelled and diverted ones never arrive, so they teach nothing."""
    kept = rows[rows["late"].notna()].sort_values("scheduled_at", kind="stable")
    return kept[["flight_id", "scheduled_at", "late", *FEATURES]].astype({"late": "int64"})


@nr.step
def split(rows: pd.DataFrame, holdout: str = "7d") -> tuple[pd.DataFrame, pd.DataFrame]:
    """All but the newest week to learn from, and that week to be judged on: never a random split."""
    return nr.split_by_time(rows, holdout)


@nr.step
def train(rows: pd.DataFrame, iterations: int = 80, learning_rate: float = 0.1, leaves: int = 15) -> Pipeline:
    """Boosted trees over everything so far. Small trees with big leaves: weather comes in days, not in rows.

    The 20,000 flights of a month are some thirty days of weather, so a leaf of a few flights would
    learn one afternoon by heart.
    """
    x, y = nr.xy(rows)
    encode = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), LEVELS),
        remainder="passthrough",
    )
    boost = HistGradientBoostingClassifier(
        max_iter=iterations,
        learning_rate=learning_rate,
        max_leaf_nodes=leaves,
        min_samples_leaf=100,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=nr.seed(),
    )
    return make_pipeline(encode, boost).fit(x[FEATURES], y)


@nr.metric(better="higher")
def caught_at_tenth(y, score) -> float:
    """Of the flights that were late, the share in the tenth with the highest scores: what a desk can call."""
    called = score >= np.quantile(score, 0.9)
    return float(y[called].sum() / max(y.sum(), 1))


@nr.pipeline
def late_flights():
    learn, newest = split(landed(flights))
    model = train(learn)
    return nr.model(
        "flights", model, holdout=newest, metrics=["auc", "log_loss", caught_at_tenth], slices=["origin", "carrier"]
    )
