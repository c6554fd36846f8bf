"""A network of PyTorch that was trained on rows of numbers, as a model that answers for rows.

What its output means is what its loss took it for: logits of a binary loss become probabilities, the output
under a squared or absolute loss is the number itself. With any other loss the meaning is not known, and the
network is refused rather than guessed at.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from noria.core.errors import UsageError

__all__ = ["Network", "NetworkBinary", "torch"]

LOGITS = ("binary_cross_entropy_with_logits",)
SHARES = ("binary_cross_entropy",)
CLASSES = ("cross_entropy",)
NUMBERS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


class Network:
    """A module behind `predict(frame)`, in evaluation mode and without gradients."""

    def __init__(self, module: Any, loss: str) -> None:
        self.module = module.eval()
        self.loss = loss

    def __getstate__(self) -> dict[str, Any]:
        """Weights as arrays beside a module without any: PyTorch's own pickle of a tensor holds another pickle."""
        tensors = (*self.module.named_parameters(), *self.module.named_buffers())
        weights = {name: each.detach().numpy().copy() for name, each in tensors}
        return {"module": copy.deepcopy(self.module).to("meta"), "weights": weights, "loss": self.loss}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        library = importlib.import_module("torch")
        module = state["module"].to_empty(device="cpu")
        with library.no_grad():
            for name, each in (*module.named_parameters(), *module.named_buffers()):
                each.copy_(library.from_numpy(np.array(state["weights"][name])))
        self.module, self.loss = module.eval(), state["loss"]

    def predict(self, frame: Any) -> Any:
        """One number a row."""
        library = importlib.import_module("torch")
        first = next(iter(self.module.parameters()))
        rows = np.ascontiguousarray(frame.to_numpy() if hasattr(frame, "to_numpy") else frame)
        with library.no_grad():
            found = self.module(library.as_tensor(rows).to(first.dtype))
            if self.loss in LOGITS:
                found = library.sigmoid(found)
            elif self.loss in CLASSES:
                found = library.softmax(found, dim=-1)[..., 1]
        values = found.double().numpy()
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


class NetworkBinary(Network):
    """A module that was trained with a binary loss."""

    classes_ = (0, 1)

    def predict_proba(self, frame: Any) -> Any:
        """Probabilities of 0 and 1, shape (n_rows, 2)."""
        positive = self.predict(frame)
        return np.column_stack([1.0 - positive, positive])


def torch(model: Any, params: Mapping[str, Any]) -> Any:
    """A torch.nn.Module as a model of rows; anything else as it is. Raises: UsageError for an unknown meaning."""
    if not hasattr(model, "forward") or hasattr(model, "predict"):
        return model
    loss = str(params.get("loss") or "")
    if loss in NUMBERS:
        return Network(model.cpu(), loss)
    if loss in (*LOGITS, *SHARES, *CLASSES):
        return NetworkBinary(model.cpu(), loss)
    raise UsageError(f"what the network's output means is not known: its loss is {loss or 'not one of PyTorch'}")
