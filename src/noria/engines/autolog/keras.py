"""Keras 3: fits with their optimizer and epochs, metrics of each epoch, evaluations, and models that are written.

What an epoch gave is read where Keras itself writes it down, in its own History, so no callback is added and no
argument changed. On PyTorch the losses inside a `fit` are part of it, as everywhere.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from noria.engines.autolog.calls import Observed, arguments, caller_name, replace
from noria.engines.autolog.models import models_of

if TYPE_CHECKING:
    from noria.scripts.recorder import Recorder

__all__ = ["history", "model", "saving"]

DEFAULT_BATCH = 32
"""What Keras takes for arrays when no batch size is given."""
_BEGUN = "keras begun"


def history(module: Any, recorder: Recorder) -> None:
    """`History.on_epoch_end(epoch, logs)`, which Keras calls at the end of each epoch of every fit."""

    def ended(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        logs = given[2] if len(given) > 2 else named.get("logs")
        for name, value in dict(logs or {}).items():
            recorder.tell("point", name=name, value=value)

    replace(module, ("History.on_epoch_end",), lambda function: Observed(recorder, function, after=ended, deep=True))


def model(module: Any, recorder: Recorder) -> None:
    """`fit`, `predict` and `evaluate` of every model, in the class of the backend that has them."""
    models = models_of(recorder)
    models.keepers["keras"] = _kept

    def ended() -> None:
        if os.getpid() == recorder.memory["pid"]:
            for act in recorder.at_end:
                recorder.guarded(act)
            recorder.at_end.clear()

    if recorder.is_main:
        # Exit handlers run last in, first out: HDF5, which writes the weights, closes itself before the recorder ends.
        atexit.register(ended)

    def begun(given: tuple[Any, ...], named: dict[str, Any]) -> None:
        # Before the fit: a callback may change the learning rate on the way.
        recorder.memory[_BEGUN] = _params(given[0], arguments(type(given[0]).fit, given, named))

    def fitted(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        told = arguments(type(given[0]).fit, given, named)
        params = recorder.memory.pop(_BEGUN, {})
        params = {**params, "parameters": given[0].count_params()}
        models.fitted(
            given[0], told.get("x"), _column(told.get("y")),
            began=began, seconds=time.time() - began, told={"params": params, "curves": {}},
        )  # fmt: skip

    def answered(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        models.asked(given[0], arguments(type(given[0]).predict, given, named).get("x"), result)

    def evaluated(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        told = arguments(type(given[0]).evaluate, given, named)
        rows, label = told.get("x"), told.get("y")
        number = models.number_of(given[0])
        if number and label is not None:
            models.scored_on(number, rows, _column(label))
        on, line = caller_name(rows, recorder.config["root"])
        for name, value in _measured(given[0], result).items():
            recorder.tell(
                "metric",
                name=f"evaluate {name}",
                value=value,
                on=on,
                line=line,
                number=number,
                options={},
                of=type(given[0]).__name__,
            )

    told: dict[str, dict[str, Any]] = {
        "fit": {"before": begun, "after": fitted},
        "predict": {"after": answered},
        "evaluate": {"after": evaluated},
    }
    for name, acts in told.items():
        owner = next((each for each in module.Model.__mro__ if name in vars(each)), None)
        if owner is not None and not isinstance(vars(owner)[name], Observed):
            setattr(owner, name, Observed(recorder, vars(owner)[name], **acts))


def saving(module: Any, recorder: Recorder) -> None:
    """`model.save(path)` and `keras.saving.save_model`: the model, and files that HDF5 writes by itself."""
    models = models_of(recorder)

    def saved(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        known = dict(zip(("model", "filepath"), given, strict=False)) | named
        path = known.get("filepath")
        if isinstance(path, (str, os.PathLike)):
            models.dumped(known.get("model"), path)

    def writes(given: tuple[Any, ...], named: dict[str, Any]) -> None:  # told before: what is there then is lost
        path = given[1] if len(given) > 1 else named.get("filepath")
        if isinstance(path, (str, os.PathLike)):
            recorder.memory["files"].opened(path, os.O_WRONLY)

    # Not inside a fit: what a checkpoint writes on the way is a file of the run, not the model that it left.
    replace(module, ("save_model",), lambda function: Observed(recorder, function, before=writes, after=saved))
    replace(module, ("save_weights",), lambda function: Observed(recorder, function, before=writes, deep=True))


def _kept(value: Any, place: str) -> str:
    """Write a model of a class of Keras as Keras does; gives the file."""
    sys.modules["keras.src.saving.saving_lib"].save_model(value, f"{place}.keras")
    return f"{place}.keras"


def _params(value: Any, told: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a fit as they are when it begins."""
    optimizer = getattr(value, "optimizer", None)
    config = optimizer.get_config() if optimizer is not None else {}
    rate = config.pop("learning_rate", None)
    found: dict[str, Any] = {"optimizer": type(optimizer).__name__} if optimizer is not None else {}
    # A rate is held as float32: 0.02 comes back as 0.0199999995.
    found["learning_rate"] = rate["class_name"] if isinstance(rate, dict) else rate and float(f"{rate:.7g}")
    if isinstance(rate, dict):
        found |= {f"learning_rate.{name}": each for name, each in rate.get("config", {}).items()}
    plain = {name: each for name, each in config.items() if isinstance(each, (bool, int, float, str))}
    found |= {f"optimizer.{name}": each for name, each in plain.items() if name != "name"}
    rows = told.get("x")
    batch = told.get("batch_size") or getattr(rows, "batch_size", None)
    if batch is None and hasattr(rows, "shape"):
        batch = DEFAULT_BATCH
    loss = getattr(value, "loss", None)
    named = loss if isinstance(loss, str) else getattr(loss, "__name__", None) or type(loss).__name__
    return {**found, "loss": named, "epochs": told.get("epochs", 1), "batch_size": batch}


def _measured(value: Any, result: Any) -> dict[str, Any]:
    """What `evaluate` gave, by name: it gives a number, a list or a dict."""
    if isinstance(result, dict):
        return result
    values = result if isinstance(result, (list, tuple)) else [result]
    # The names of a compiled model's metrics are found in the dict alone.
    found = value.get_metrics_result()
    return found if len(found) == len(values) else dict(zip(value.metrics_names, values, strict=False))


def _column(label: Any) -> Any:
    """A label as one column, where it is a matrix of one; the same object else."""
    return (
        label[:, 0] if getattr(label, "ndim", 1) == 2 and label.shape[1] == 1 and not hasattr(label, "iloc") else label
    )
