"""Boosters of XGBoost and LightGBM that were trained without scikit-learn's face, as models that answer for rows.

A booster of a binary objective gives the positive class's probability, so it becomes a classifier of 0 and 1;
any other becomes a regression, and one of several classes is refused where the bundle is built.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["Boosted", "BoostedBinary", "lightgbm", "xgboost"]


class Boosted:
    """A booster behind `predict(frame)`. `names` are its columns; empty if it was trained without names."""

    def __init__(self, booster: Any, names: list[str], *, manner: Mapping[str, float] | None = None) -> None:
        self.booster = booster
        self.manner = dict(manner or {})
        if names:
            self.feature_names_in_ = np.asarray(names, dtype=object)

    def predict(self, frame: Any) -> Any:
        """The booster's own answer, one a row."""
        data = frame if hasattr(self, "feature_names_in_") or not hasattr(frame, "to_numpy") else frame.to_numpy()
        if not hasattr(self.booster, "inplace_predict"):
            return np.asarray(self.booster.predict(data), dtype=np.float64)
        rounds, missing = int(self.manner.get("rounds", 0)), self.manner.get("missing", np.nan)
        found = self.booster.inplace_predict(data, iteration_range=(0, rounds), missing=missing)
        return np.asarray(found, dtype=np.float64)


class BoostedBinary(Boosted):
    """A booster of a binary objective. `labels` are (negative, positive)."""

    def __init__(
        self,
        booster: Any,
        names: list[str],
        labels: tuple[Any, ...] = (0, 1),
        *,
        manner: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(booster, names, manner=manner)
        self.classes_ = labels

    def predict_proba(self, frame: Any) -> Any:
        """Probabilities of 0 and 1, shape (n_rows, 2)."""
        positive = self.predict(frame)
        return np.column_stack([1.0 - positive, positive])


def xgboost(model: Any, params: Mapping[str, Any]) -> Any:
    """An xgboost.Booster as a model of rows; an estimator as it is."""
    if type(model).__name__ != "Booster":
        return model
    objective = json.loads(model.save_config())["learner"]["objective"]["name"]
    kind = BoostedBinary if objective in ("binary:logistic", "reg:logistic") else Boosted
    return kind(model, list(model.feature_names or ()))


def lightgbm(model: Any, params: Mapping[str, Any]) -> Any:
    """A lightgbm.Booster as a model of rows; an estimator as it is."""
    if type(model).__name__ != "Booster":
        return model
    objective = str(params.get("objective") or model.params.get("objective") or "")
    kind = BoostedBinary if objective in ("binary", "cross_entropy", "xentropy") else Boosted
    names = list(model.feature_name())
    return kind(model, [] if all(name == f"Column_{place}" for place, name in enumerate(names)) else names)
