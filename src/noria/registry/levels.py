"""The groups of rows that a column makes: what slices and fairness are measured on."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["levels_of"]

MAX_LEVELS = 30
"""Levels of one slice column in a report, the largest first; the rest are together as `other`."""
SLICE_BINS = 4
"""A numeric slice column is cut at its quartiles."""


def levels_of(series: pd.Series[Any]) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """The slices of a column: its levels, the largest first, or its quartiles if it is a fine number; null apart."""
    missing = series.isna().to_numpy()
    found: list[tuple[str, npt.NDArray[np.bool_]]] = []
    numeric = pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series.dtype)
    if numeric and series.nunique() > MAX_LEVELS:
        values = series.to_numpy(dtype=np.float64, na_value=math.nan)
        edges = np.unique(np.nanquantile(values, np.linspace(0, 1, SLICE_BINS + 1)))
        for index, (low, high) in enumerate(itertools.pairwise(edges)):
            inside = (values >= low) & ((values <= high) if index == len(edges) - 2 else (values < high))
            found.append((f"{low:.4g} to {high:.4g}", inside))
    else:
        texts = series.astype("object").map(str).to_numpy()
        names, counts = np.unique(texts[~missing], return_counts=True)
        ordered = [names[index] for index in np.argsort(-counts, kind="stable")]
        found = [(str(name), (texts == name) & ~missing) for name in ordered[:MAX_LEVELS]]
        if len(ordered) > MAX_LEVELS:
            found.append((f"{len(ordered) - MAX_LEVELS} others", ~missing & ~np.isin(texts, ordered[:MAX_LEVELS])))
    if missing.any():
        found.append(("null", missing))
    return found
