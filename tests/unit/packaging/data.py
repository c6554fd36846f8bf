"""Rows like the flights of a month: nullable numbers, texts, a category, whole numbers, a boolean, a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

CARRIERS = ["UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E"]


def flights(n: int, *, seed: int) -> pd.DataFrame:
    """`n` rows, the same for a seed."""
    rng = np.random.default_rng(seed)
    maker = np.array(["BOEING", "AIRBUS", "EMBRAER", None], dtype=object)[rng.integers(0, 4, n)]
    return pd.DataFrame(
        {
            "carrier": pd.Series(np.array(CARRIERS, dtype=object)[rng.integers(0, len(CARRIERS), n)]).astype("str"),
            "maker": pd.Series(maker, dtype="object"),
            "dest": pd.Categorical(np.array(["ORD", "LAX", "BOS", "ATL"])[rng.integers(0, 4, n)]),
            "hour": rng.integers(5, 24, n),
            "distance": rng.integers(80, 3000, n),
            "wind": rng.gamma(2.0, 5.0, n),
            "seats": rng.integers(2, 400, n).astype("float32"),
            "gust": np.where(rng.random(n) < 0.6, np.nan, rng.gamma(3.0, 8.0, n)),
            "engines": pd.array(np.where(rng.random(n) < 0.1, None, rng.integers(1, 5, n)), dtype="Int64"),
            "weekend": rng.random(n) < 0.3,
            "at": pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 10**6, n), unit="s"),
        }
    )


def labels_of(rows: pd.DataFrame) -> Any:
    """0 or 1: later in the day, in the wind and on long ways is later."""
    rng = np.random.default_rng(len(rows))
    risk = (rows["hour"] - 14) / 4 + (rows["wind"] - 10) / 15 + (rows["distance"] - 1500) / 2500
    return ((risk + rng.normal(size=len(rows)) * 1.5) > 0.8).astype(int).to_numpy()
