"""Models of Keras 3 as `.keras`: layers by name and weights. What the file names is read before Keras loads it.

A `.keras` file may name code (a Lambda, a class of one's own), so each class in it has to be of the lists below:
layers that compute on rows of numbers, and Keras' own initializers, regularizers and constraints. It is loaded without
being compiled, so its optimizer, loss and metrics are not made. What the output means is what the loss took it for;
with a loss that is not known the model is refused rather than guessed at.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from noria.core.errors import Denied, UsageError
from noria.packaging.flavor import NotMine
from noria.packaging.rows import Field
from noria.store.scratch import Scratch

__all__ = ["KerasBinary", "KerasFlavor", "KerasModel", "keras"]

FILE = "model.keras"
BATCH = 4096
CONFIG_MAX = 64 << 20
_PARTS = frozenset({"config.json", "metadata.json", "model.weights.h5"})
_LAYERS = frozenset(
    {
        *("Activation", "Add", "AlphaDropout", "Average", "BatchNormalization", "Concatenate", "Dense", "Dot"),
        *("Dropout", "ELU", "Flatten", "GaussianDropout", "GaussianNoise", "GroupNormalization", "InputLayer"),
        *("LayerNormalization", "LeakyReLU", "Maximum", "Minimum", "Multiply", "Normalization", "PReLU", "ReLU"),
        *("RMSNormalization", "Rescaling", "Reshape", "Softmax", "Subtract", "UnitNormalization"),
    }
)
_OWN = frozenset(
    {
        ("keras", "DTypePolicy"),
        ("keras", "Functional"),
        ("keras", "Model"),
        ("keras", "Sequential"),
        ("keras.src.models.functional", "Functional"),
    }
)
_MODULES = frozenset({"keras.constraints", "keras.initializers", "keras.regularizers"})
_PLAIN = frozenset({"__keras_tensor__", "__tuple__"})
_NUMBERS = frozenset({"mse", "mae", "meansquarederror", "meanabsoluteerror", "huber", "logcosh"})
_BINARY, _CLASSES = "binarycrossentropy", "sparsecategoricalcrossentropy"


class KerasModel:
    """A `.keras` file behind `predict(frame)`: one number a row. Loaded from a copy that is checked first."""

    def __init__(self, path: Path) -> None:
        self.loss, self.is_logits = _checked(path)
        _require_own_weights(path)
        self.content = path.read_bytes()
        self.inner = _library().saving.load_model(path, compile=False, safe_mode=True)

    def predict(self, frame: Any) -> Any:
        """Scores, shape (n_rows,), float64."""
        rows = np.ascontiguousarray(frame.to_numpy() if hasattr(frame, "to_numpy") else frame, dtype=np.float32)
        parts = [self.inner.predict_on_batch(rows[at : at + BATCH]) for at in range(0, len(rows), BATCH)]
        found = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts]) if parts else np.zeros(0)
        return self._meant(found)

    def _meant(self, found: Any) -> Any:
        if self.loss == _CLASSES:
            if self.is_logits:
                powers = np.exp(found - found.max(axis=1, keepdims=True))
                found = powers / powers.sum(axis=1, keepdims=True)
            return found[:, 1]
        values = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
        return 1.0 / (1.0 + np.exp(-values)) if self.is_logits and self.loss == _BINARY else values


class KerasBinary(KerasModel):
    """One that was trained with a loss of two classes."""

    classes_ = (0, 1)

    def predict_proba(self, frame: Any) -> Any:
        """Probabilities of 0 and 1, shape (n_rows, 2)."""
        positive = self.predict(frame)
        return np.column_stack([1.0 - positive, positive])


class KerasFlavor:
    """Models of Keras as `.keras`, with names of a list."""

    name = "keras"
    runs_code = False
    packages = ("keras", "torch")

    def __init__(self) -> None:
        if importlib.util.find_spec("keras") is None:  # it is imported only for a model of its own: it takes seconds
            raise ModuleNotFoundError("No module named 'keras'", name="keras")

    def save(self, model: object, folder: Path) -> Sequence[str]:
        """Write the model's own file. Raises: NotMine for a model of another library."""
        if not isinstance(model, KerasModel):
            raise NotMine(f"{type(model).__name__} is not a model of Keras")
        (folder / FILE).write_bytes(model.content)
        return ()

    def load(self, folder: Path) -> object:
        """The model of a folder. Raises: Denied for a file that names what is not listed; UsageError without Keras."""
        return _opened(folder / FILE)

    def predict(self, model: Any, frame: Any) -> Any:
        """Scores, shape (n_rows,), float64."""
        return model.predict(frame)

    def direct(self, model: Any, fields: Sequence[Field]) -> Any:
        """None: Keras takes arrays, and asking it costs more than the frame."""
        return None

    def levels(self, model: Any) -> Mapping[str, Sequence[Any]]:
        """None are known: its inputs are numbers."""
        return {}


def keras(model: Any, params: Mapping[str, Any]) -> Any:
    """A model of Keras, or the Path of a `.keras` file, as a model of rows; anything else as it is.

    Raises: Denied for what names code; UsageError for an unknown meaning.
    """
    if isinstance(model, Path):
        return _opened(model)
    if not hasattr(model, "get_config") or not hasattr(model, "predict"):
        return model
    with Scratch("keras") as folder:
        model.save(folder / FILE)
        return _opened(folder / FILE)


def _opened(path: Path) -> KerasModel:
    loss, _ = _checked(path)
    return (KerasModel if loss in _NUMBERS else KerasBinary)(path)


def _library() -> Any:
    """Keras. On PyTorch if nobody chose a backend, and TensorFlow, its own choice, is not installed."""
    if importlib.util.find_spec("keras") is None:
        raise UsageError("the model needs Keras, which is not installed here", hint="pip install 'noria[keras]'")
    unset = "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ
    if unset and importlib.util.find_spec("tensorflow") is None and importlib.util.find_spec("torch") is not None:
        os.environ["KERAS_BACKEND"] = "torch"
    return importlib.import_module("keras")


def _checked(path: Path) -> tuple[str, bool]:
    """(The loss, whether it took logits) of a file that names only what is listed. Raises: Denied; UsageError."""
    try:
        with zipfile.ZipFile(path) as file:
            sizes = {each.filename: each.file_size for each in file.infolist()}
            if set(sizes) != _PARTS or len(file.infolist()) != len(_PARTS) or sizes["config.json"] > CONFIG_MAX:
                raise Denied(f"the .keras file holds other parts than {', '.join(sorted(_PARTS))}")
            config = json.loads(file.read("config.json"))
    except (zipfile.BadZipFile, ValueError) as error:
        raise Denied(f"the .keras file cannot be read: {error}") from error
    for module, name in _named({key: value for key, value in config.items() if key != "compile_config"}):
        listed = module == "keras.layers" and name in _LAYERS
        if not (listed or (module, name) in _OWN or module in _MODULES or (not module and name in _PLAIN)):
            raise Denied(
                f"the .keras file names {module or 'something of no module'}: {name[:80]}, which may run code",
                hint="layers of rows of numbers, without Lambda and classes of one's own; or export it as ONNX",
            )
    return _meaning((config.get("compile_config") or {}).get("loss"))


def _require_own_weights(path: Path) -> None:
    """Weights lie in the file: HDF5 may also name other files of this machine, and reads them as numbers.

    Raises: Denied.
    """
    with zipfile.ZipFile(path) as file:
        content = io.BytesIO(file.read("model.weights.h5"))
    try:
        with importlib.import_module("h5py").File(content, "r") as found:
            outside = found.visititems_links(_outside) or found.visititems(_outside)
    except OSError as error:
        raise Denied(f"the weights of the .keras file cannot be read: {error}") from error
    if outside:
        raise Denied(f"the weights of the .keras file lie in another file: {outside[:80]}")


def _outside(name: str, item: Any) -> str | None:
    """The name of a link, a data set or a view of other data sets that may lead out of the file; None for others."""
    is_link = type(item).__name__ == "ExternalLink"
    return name if is_link or getattr(item, "external", None) or getattr(item, "is_virtual", False) else None


def _named(value: Any) -> Iterator[tuple[str, str]]:
    """Every class and function that a configuration names: (module, name)."""
    if isinstance(value, dict):
        if "class_name" in value:
            module = value.get("module")
            yield "" if module is None else str(module), str(value["class_name"])
            if value.get("registered_name") not in (None, "", value["class_name"]):
                yield "registered", str(value["registered_name"])
        for each in value.values():
            yield from _named(each)
    elif isinstance(value, list):
        for each in value:
            yield from _named(each)


def _meaning(loss: Any) -> tuple[str, bool]:
    name, is_logits = loss, False
    if isinstance(loss, dict):
        name, is_logits = loss.get("class_name"), bool((loss.get("config") or {}).get("from_logits"))
    plain = str(name or "").replace("_", "").lower()
    if plain in _NUMBERS or plain in (_BINARY, _CLASSES):
        return plain, is_logits
    told = str(name or "none that the file says")[:80]
    raise UsageError(f"what the model's output means is not known: its loss is {told}", hint="compile it before saving")
