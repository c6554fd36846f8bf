"""Models of XGBoost and LightGBM in the libraries' own formats: XGBoost's UBJSON, LightGBM's text. No code is in them.

What is kept is the booster with the names of its inputs and the labels. An estimator of the libraries' scikit-learn
faces is kept so too: its answer is its booster's, so the number is the same bit for bit. How an estimator of XGBoost
asks it (the rounds that early stopping chose, the number that stands for a missing value) is kept with the names. Only
the label encoders and the other parameters stay behind, which predictions do not need.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noria.core.errors import Denied
from noria.engines.flavors.boosters import Boosted, BoostedBinary
from noria.packaging.flavor import NotMine
from noria.packaging.rows import Columns, Field

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

__all__ = ["LightGBMFlavor", "XGBoostFlavor"]

ABOUT = "about.json"
_OBJECTIVES = ("binary:logistic", "reg:logistic")


class _Booster:
    """What both have in common: a file of the library's own, and about.json beside it."""

    name: str
    runs_code = False

    def predict(self, model: Any, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """The positive class's probability, or the value. An estimator that was not saved yet is asked by itself."""
        if isinstance(model, Boosted):
            return np.asarray(model.predict(frame), dtype=np.float64)
        _, names, labels = _taken(model, self.name)
        rows = frame if names else frame.to_numpy()
        found = model.predict(rows) if labels is None else np.asarray(model.predict_proba(rows))[:, 1]
        return np.asarray(found, dtype=np.float64)

    def direct(self, model: Any, fields: Sequence[Field]) -> Callable[[Columns], npt.NDArray[np.float64]] | None:
        """None: the library takes frames fast enough, and its categories with them."""
        return None

    def levels(self, model: Any) -> Mapping[str, Sequence[Any]]:
        """Nothing: the libraries do not name them."""
        return {}


class XGBoostFlavor(_Booster):
    """`xgboost.Booster`, `XGBClassifier` of two classes, `XGBRegressor`."""

    name = "xgboost"
    packages = ("xgboost", "numpy")

    def __init__(self) -> None:
        self._library = importlib.import_module("xgboost")

    def save(self, model: object, folder: Path) -> Sequence[str]:
        """Write model.ubj and about.json. Raises: NotMine; Denied for what a booster alone does not answer."""
        inner, names, labels = _taken(model, "xgboost")
        manner = _manner(model)
        if labels is not None and inner is not None:
            objective = json.loads(inner.save_config())["learner"]["objective"]["name"]
            if objective not in _OBJECTIVES:
                raise Denied(f"a classifier with the objective {objective} gives no probability of two classes")
        inner.save_model(str(folder / "model.ubj"))
        _describe(folder, names, labels, manner)
        return ()

    def load(self, folder: Path) -> object:
        """The booster of a folder, as a model of rows."""
        inner = self._library.Booster()
        inner.load_model(str(folder / "model.ubj"))
        return _answering(inner, folder)


class LightGBMFlavor(_Booster):
    """`lightgbm.Booster`, `LGBMClassifier` of two classes, `LGBMRegressor`."""

    name = "lightgbm"
    packages = ("lightgbm", "numpy")

    def __init__(self) -> None:
        self._library = importlib.import_module("lightgbm")

    def save(self, model: object, folder: Path) -> Sequence[str]:
        """Write model.txt and about.json. Raises: NotMine."""
        inner, names, labels = _taken(model, "lightgbm")
        (folder / "model.txt").write_text(inner.model_to_string(), "utf-8")
        _describe(folder, names, labels)
        return ()

    def load(self, folder: Path) -> object:
        """The booster of a folder, as a model of rows."""
        return _answering(self._library.Booster(model_file=str(folder / "model.txt")), folder)


def _taken(model: object, library: str) -> tuple[Any, list[str], list[Any] | None]:
    """(the booster, the names of its inputs or [], the labels of a classifier). Raises: NotMine."""
    if isinstance(model, Boosted):
        inner, labels = model.booster, list(model.classes_) if isinstance(model, BoostedBinary) else None
    elif type(model).__module__ == f"{library}.sklearn":
        inner = model.get_booster() if hasattr(model, "get_booster") else getattr(model, "booster_", None)
        classes = getattr(model, "classes_", None)
        labels = None if classes is None else [each.item() if hasattr(each, "item") else each for each in classes]
    else:
        raise NotMine(f"{type(model).__name__} is not a model of {library}")
    if type(inner).__module__.partition(".")[0] != library:
        raise NotMine(f"{type(inner).__name__} is not a booster of {library}")
    kept = getattr(model, "feature_names_in_", None)
    return inner, [] if kept is None else [str(name) for name in kept], labels


def _manner(model: Any) -> dict[str, float]:
    """How an estimator of XGBoost asks its booster, where that is not how the booster answers by itself."""
    if isinstance(model, Boosted):
        return dict(model.manner)
    found: dict[str, float] = {}
    best = getattr(model, "best_iteration", None)  # there is none but after early stopping
    if best is not None and model.booster != "gblinear":
        found["rounds"] = int(best) + 1
    missing = getattr(model, "missing", None)
    if missing is not None and not math.isnan(missing):
        found["missing"] = float(missing)
    return found


def _describe(
    folder: Path, names: Sequence[str], labels: Sequence[Any] | None, manner: Mapping[str, float] | None = None
) -> None:
    about = {"labels": labels, "names": list(names), **(manner or {})}
    (folder / ABOUT).write_text(json.dumps(about, sort_keys=True) + "\n", "utf-8")


def _answering(inner: Any, folder: Path) -> Boosted:
    about = json.loads((folder / ABOUT).read_text("utf-8"))
    manner = {name: about[name] for name in ("rounds", "missing") if name in about}
    if about["labels"] is None:
        return Boosted(inner, about["names"], manner=manner)
    return BoostedBinary(inner, about["names"], tuple(about["labels"]), manner=manner)
