"""A model in MLflow's format that only MLflow's own client can ask: its `python_function`, whatever is inside.

The bundle holds the whole folder as it was logged. Loading it runs code of that folder, so one is made only where
noria.toml trusts any file of the model, and it answers only where `mlflow` is installed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noria.core.errors import ModelFailed
from noria.core.lazy import lazy
from noria.packaging.flavor import NotMine
from noria.packaging.rows import Columns, Field
from noria.store.scratch import Scratch

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

mlflow_pyfunc = lazy("mlflow.pyfunc")

__all__ = ["Pyfunc", "PyfuncBinary", "PyfuncFlavor"]

FOLDER, ABOUT = "mlflow", "about.json"


class Pyfunc:
    """A folder in MLflow's format behind `predict(frame)`. `names` are its inputs, if it says them."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.place = Scratch("pyfunc")  # its code may read its files at any time
        self.folder = self.place.path / FOLDER
        shutil.copytree(folder, self.folder)
        self.inner = mlflow_pyfunc.load_model(str(self.folder))
        if names:
            self.feature_names_in_ = np.asarray(names, dtype=object)

    def predict(self, frame: Any) -> Any:
        """One number a row. Raises: ModelFailed if it gives anything else."""
        found = np.asarray(self.inner.predict(frame))
        if found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        if found.shape != (len(frame),) or found.dtype.kind not in "biuf":
            raise ModelFailed(
                f"it gave {found.dtype} of shape {found.shape} for {len(frame)} rows, not one number a row"
            )
        return found.astype(np.float64)


class PyfuncBinary(Pyfunc):
    """One whose answer is the probability of the positive label, 1."""

    classes_ = (0, 1)

    def predict_proba(self, frame: Any) -> Any:
        """Probabilities of 0 and 1, shape (n_rows, 2)."""
        positive = self.predict(frame)
        return np.column_stack([1.0 - positive, positive])


class PyfuncFlavor:
    """Folders in MLflow's format, asked by MLflow's own client."""

    name = "pyfunc"
    runs_code = True
    packages = ("mlflow",)

    def save(self, model: object, folder: Path) -> Sequence[str]:
        """Write the folder as it was logged. Raises: NotMine for what is no such model."""
        if not isinstance(model, Pyfunc):
            raise NotMine(f"{type(model).__name__} is not a model of MLflow's format")
        shutil.copytree(model.folder, folder / FOLDER, ignore=shutil.ignore_patterns("__pycache__"))
        names = [str(name) for name in getattr(model, "feature_names_in_", ())]
        about = {"binary": isinstance(model, PyfuncBinary), "names": names}
        (folder / ABOUT).write_text(json.dumps(about, sort_keys=True) + "\n", "utf-8")
        return ()

    def load(self, folder: Path) -> object:
        """The model of a folder. Raises: ModuleNotFoundError where mlflow is not installed."""
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        return (PyfuncBinary if about["binary"] else Pyfunc)(folder / FOLDER, about["names"])

    def predict(self, model: Any, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """The model's own answer, one number a row."""
        return np.asarray(model.predict(frame), dtype=np.float64)

    def direct(self, model: Any, fields: Sequence[Field]) -> Callable[[Columns], npt.NDArray[np.float64]] | None:
        """None: nothing is known of the model."""
        return None

    def levels(self, model: Any) -> Mapping[str, Sequence[Any]]:
        """Nothing: nothing is known of the model."""
        return {}
