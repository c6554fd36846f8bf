"""Networks of PyTorch without code: the weights as safetensors, the layers by name and arguments.

A network that is a tree of known layers is rebuilt from what its layers say of themselves, and it is kept only if what
was rebuilt answers as it did, bit for bit. PyTorch's other files are programs: `torch.save` is a pickle,
an exported program falls back to one, TorchScript is code. A network with code of its own is exported to ONNX, or
kept as a pickle by permission.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noria.core.errors import Denied, ModelFailed
from noria.engines.flavors.networks import Network, NetworkBinary
from noria.packaging.flavor import NotMine
from noria.packaging.rows import Columns, Field

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

__all__ = ["LAYERS", "TorchFlavor"]

WEIGHTS, LAYERS_FILE = "weights.safetensors", "layers.json"
LAYERS = frozenset(
    {
        *("AlphaDropout", "BatchNorm1d", "Bilinear", "CELU", "Dropout", "ELU", "Embedding", "Flatten", "GELU", "GLU"),
        *("Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LayerNorm", "LeakyReLU", "Linear", "LogSigmoid"),
        *("LogSoftmax", "Mish", "PReLU", "RMSNorm", "RReLU", "ReLU", "ReLU6", "SELU", "Sequential", "SiLU", "Sigmoid"),
        *("Softmax", "Softmin", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", "Threshold", "Unflatten"),
    }
)
"""Layers of torch.nn whose answer follows from their arguments and weights."""
_ELSEWHERE = frozenset({"device", "dtype", "inplace", "_weight", "_freeze", "sparse"})
_TRIAL_ROWS, DEPTH_MAX = 8, 100


class TorchFlavor:
    """Networks that answer for rows of numbers (`networks.py`) and are made of known layers."""

    name = "torch"
    runs_code = False
    packages = ("torch", "safetensors", "numpy")

    def __init__(self) -> None:
        self._torch = importlib.import_module("torch")
        self._files = importlib.import_module("safetensors.torch")

    def save(self, model: object, folder: Path) -> Sequence[str]:
        """Write weights.safetensors and layers.json. Raises: NotMine; Denied for a layer that is not known."""
        if not isinstance(model, Network):
            raise NotMine(f"{type(model).__name__} is not a network of PyTorch")
        layers = self._described(model.module)
        weights = {name: each.detach().contiguous().clone() for name, each in model.module.state_dict().items()}
        self._require_same(model.module, self._rebuilt(layers, weights))
        about = {"layers": layers, "loss": model.loss, "binary": isinstance(model, NetworkBinary)}
        (folder / LAYERS_FILE).write_text(json.dumps(about, sort_keys=True, indent=1) + "\n", "utf-8")
        self._files.save_file(weights, str(folder / WEIGHTS))
        return ()

    def load(self, folder: Path) -> object:
        """The network of a folder. Raises: Denied for a layer that is not known."""
        about = json.loads((folder / LAYERS_FILE).read_text("utf-8"))
        module = self._rebuilt(about["layers"], self._files.load_file(str(folder / WEIGHTS)))
        return (NetworkBinary if about["binary"] else Network)(module, str(about["loss"]))

    def predict(self, model: Any, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """The positive class's probability, or the value."""
        return np.asarray(model.predict(frame), dtype=np.float64)

    def direct(self, model: Any, fields: Sequence[Field]) -> Callable[[Columns], npt.NDArray[np.float64]] | None:
        """None: a frame of numbers becomes a matrix at once."""
        return None

    def levels(self, model: Any) -> Mapping[str, Sequence[Any]]:
        """Nothing: a network takes numbers."""
        return {}

    def _described(self, module: Any, depth: int = 0) -> dict[str, Any]:
        """A layer with its arguments and its children. Raises: Denied."""
        name = type(module).__name__
        known = getattr(self._torch.nn, name, None) if name in LAYERS else None
        if known is not type(module) or depth > DEPTH_MAX:
            raise Denied(
                f"the network holds a {type(module).__module__}.{name}, which cannot be rebuilt without its code",
                hint="torch.onnx.export makes an ONNX model of it, which needs no code",
            )
        children = {key: self._described(each, depth + 1) for key, each in module.named_children()}
        arguments = {} if name == "Sequential" else _arguments(module)
        return {"type": name, "arguments": arguments, "layers": children}

    def _rebuilt(self, layers: Mapping[str, Any], weights: Mapping[str, Any]) -> Any:
        module = self._made(layers)
        first = next((each for each in weights.values() if each.is_floating_point()), None)
        if first is not None:
            module = module.to(first.dtype)
        module.load_state_dict(dict(weights), strict=True)
        return module.eval()

    def _made(self, told: Mapping[str, Any], depth: int = 0) -> Any:
        name = str(told["type"])
        if name not in LAYERS or depth > DEPTH_MAX:
            raise Denied(f"the network's file names a layer {name[:80]!r}, which is not known")
        kind = getattr(self._torch.nn, name)
        if name == "Sequential":
            made = kind()
            for key, each in told["layers"].items():
                made.add_module(str(key), self._made(each, depth + 1))
            return made
        # tuples became lists on their way through JSON
        values = {key: tuple(each) if isinstance(each, list) else each for key, each in told["arguments"].items()}
        return kind(**values)

    def _require_same(self, module: Any, rebuilt: Any) -> None:
        """What was rebuilt answers as the network does, on rows of chance. Raises: Denied, ModelFailed."""
        first = next(module.parameters(), None)
        width = getattr(
            next((each for each in module.modules() if hasattr(each, "in_features")), None), "in_features", 0
        )
        if first is None or not width:
            raise ModelFailed("the network has no layer of weights that says how many columns it takes")
        chance = self._torch.Generator().manual_seed(0)
        rows = self._torch.randn(_TRIAL_ROWS, width, generator=chance).to(first.dtype)
        with self._torch.no_grad():
            one, other = module.eval()(rows), rebuilt(rows)
        if not self._torch.equal(self._torch.nan_to_num(one), self._torch.nan_to_num(other)):
            raise Denied(
                "the network does not answer the same when it is rebuilt from its layers: it has hooks or code"
            )


def _arguments(module: Any) -> dict[str, Any]:
    """What the layer's maker takes, as the layer keeps it. Raises: Denied for what it does not keep."""
    found = {}
    for name in inspect.signature(type(module).__init__).parameters:
        if name == "self" or name in _ELSEWHERE:
            continue
        if not hasattr(module, name):
            raise Denied(f"the layer {type(module).__name__} does not keep its argument {name}")
        value = getattr(module, name)
        if name == "bias":
            value = value is not None and value is not False
        elif isinstance(value, tuple):
            value = list(value)
        if not isinstance(value, bool | int | float | str | list | None):
            raise Denied(f"the argument {name} of the layer {type(module).__name__} is a {type(value).__name__}")
        found[name] = value
    return found
