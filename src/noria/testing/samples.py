"""Sample rows with every kind of column that a model may take, for tests of plug-ins and of Noria itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["flights", "lateness"]

CARRIERS = ["UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E"]


def flights(n: int, *, seed: int) -> pd.DataFrame:
    """`n` rows like a month of flights, the same for a seed.

    Texts (one with None), a category, whole numbers with and without null, float64 with null,
    float32, a boolean, a time in UTC.
    """
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
            "engines": pd.Series(rng.integers(1, 5, n), dtype="Int64").mask(rng.random(n) < 0.1),
            "weekend": rng.random(n) < 0.3,
            "at": pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 10**6, n), unit="s"),
        }
    )


def lateness(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """A label of 0 or 1 for each row of `flights`: late in the day, in the wind and on long ways is later."""
    rng = np.random.default_rng(len(rows))
    risk = (rows["hour"] - 14) / 4 + (rows["wind"] - 10) / 15 + (rows["distance"] - 1500) / 2500
    found: Any = (risk + rng.normal(size=len(rows)) * 1.5) > 0.8
    return np.asarray(found, dtype=np.int64)
