"""PyTorch: losses as they are computed, optimizers, the networks that they train, and what is written of them.

PyTorch has no `fit`, so the outermost module that ran forward in training mode is the network, the loss
function that was called is its loss, and an optimizer's step makes it a trained one. All of it by the
library's own global hooks.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

from noria.engines.autolog.calls import Observed, replace
from noria.engines.autolog.models import FIT_ROWS, Models, models_of

if TYPE_CHECKING:
    from noria.scripts.recorder import Recorder

__all__ = ["torch"]

LOSSES = (
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
)
EVERY_ON_DEVICE = 20
"""A loss on an accelerator is read at each so many steps only: reading one waits for the device."""


class Networks:
    """The networks of a process: each by a weak reference, with the first rows that it was trained on."""

    def __init__(self, recorder: Recorder, models: Models, library: Any) -> None:
        self._recorder = recorder
        self._models = models
        self._library = library
        self._inner = 0
        self._current: Any = None
        self._rows: dict[int, list[Any]] = {}
        self._refs: dict[int, Any] = {}
        self._loss = ""
        self._steps = 0
        self._optimizer: dict[str, Any] = {}
        self._began = time.time()

    def before(self, module: Any, given: tuple[Any, ...]) -> None:
        """A module is about to run."""
        self._inner += 1
        if self._inner == 1 and module.training:
            self._recorder.guarded(self._fed, module, given)

    def after(self, module: Any, given: Any, result: Any) -> None:
        """A module has run, or raised."""
        self._inner = max(0, self._inner - 1)

    def _fed(self, module: Any, given: tuple[Any, ...]) -> None:
        if next(module.parameters(), None) is None or _is_of_keras(module):
            return  # a loss, which is a module too; or a layer of Keras, whose fits are told of as such
        key = id(module)
        if key not in self._refs or self._refs[key]() is not module:
            self._refs[key] = weakref.ref(module)
            self._rows[key] = []
        self._current = self._refs[key]
        held = sum(len(part) for part in self._rows[key])
        rows = given[0] if given else None
        if held < FIT_ROWS and isinstance(rows, self._library.Tensor) and rows.ndim == 2:
            self._rows[key].append(rows.detach()[: FIT_ROWS - held].cpu().numpy().copy())

    def lost(self, result: Any, name: str) -> None:
        """A loss was computed."""
        if not getattr(result, "requires_grad", False) or result.ndim != 0:
            return
        self._loss = name
        self._steps += 1
        if result.device.type == "cpu" or self._steps % EVERY_ON_DEVICE == 1:
            self._recorder.tell("point", name="loss", value=float(result.detach()))

    def stepped(self, optimizer: Any, given: Any, named: Any) -> None:
        """An optimizer made a step."""
        if not self._optimizer:
            self._recorder.guarded(self._noted, optimizer)

    def _noted(self, optimizer: Any) -> None:
        group = optimizer.param_groups[0]
        self._optimizer = {"optimizer": type(optimizer).__name__}
        self._optimizer |= {key: value for key, value in group.items() if key != "params" and value is not None}

    def told(self) -> None:
        """Tell of every network that was trained, before one is written, or at the end."""
        if not self._optimizer:
            return
        for key, ref in list(self._refs.items()):
            module = ref()
            if module is None or self._models.number_of(module):
                continue
            parts = self._rows.get(key) or []
            rows = self._library.cat([self._library.as_tensor(part) for part in parts]) if parts else None
            params = {
                **self._optimizer,
                "loss": self._loss,
                "parameters": sum(each.numel() for each in module.parameters()),
            }
            told: dict[str, Any] = {"params": params, "curves": {}, "rows": None}
            seconds = time.time() - self._began
            self._models.fitted(module, rows, None, began=self._began, seconds=seconds, told=told)

    def saved(self, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """`torch.save(value, path)`: a network, or the state of one that is known."""
        value = given[0] if given else named.get("obj")
        path = given[1] if len(given) > 1 else named.get("f")
        self.told()
        if isinstance(path, (str, os.PathLike)):
            self._recorder.memory["files"].opened(path, os.O_WRONLY)
        self._models.dumped(self._owner(value), path)

    def _owner(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        places = {part.data_ptr() for part in value.values() if isinstance(part, self._library.Tensor)}
        for ref in self._refs.values():
            module = ref()
            if module is not None and places & {part.data_ptr() for part in module.parameters()}:
                return module
        return value


def _is_of_keras(module: Any) -> bool:
    """Whether a module is Keras' own, or of a class that derives from one."""
    return any(each.__module__.partition(".")[0] == "keras" for each in type(module).__mro__)


def torch(module: Any, recorder: Recorder) -> None:
    """Set the library's global hooks."""
    models = models_of(recorder)
    networks = Networks(recorder, models, module)
    forward = module.nn.modules.module
    forward.register_module_forward_pre_hook(networks.before)
    forward.register_module_forward_hook(networks.after, always_call=True)
    optimizers = sys.modules["torch.optim.optimizer"]  # the package takes the name out of itself
    optimizers.register_optimizer_step_post_hook(networks.stepped)

    def wrap(function: Any) -> Any:
        def lost(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
            networks.lost(result, function.__name__)

        return Observed(recorder, function, after=lost)

    replace(module.nn.functional, LOSSES, wrap)

    def saved(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        networks.saved(given, named)

    replace(module, ("save",), lambda function: Observed(recorder, function, after=saved, deep=True))
    recorder.at_end.insert(0, networks.told)
