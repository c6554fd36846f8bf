"""XGBoost and LightGBM: each iteration's evaluation, and boosters that are trained without scikit-learn's face.

Their estimators derive from scikit-learn's, and are seen by its hooks. A callback of the library's own tells
each iteration as it ends, also of a training that is killed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from noria.engines.autolog.calls import Observed, arguments, replace
from noria.engines.autolog.models import models_of

if TYPE_CHECKING:
    from noria.scripts.recorder import Recorder

__all__ = ["lightgbm_data", "lightgbm_training", "xgboost_data", "xgboost_training"]

BEFORE_EARLY_STOPPING = 10
"""LightGBM calls callbacks by their `order`; early stopping, which raises, has 30."""


def xgboost_data(module: Any, recorder: Recorder) -> None:
    """`DMatrix(data, label)` keeps nothing that can be read again: remember what it was made of."""
    models = models_of(recorder)

    def made(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        told = dict(zip(("self", "data", "label"), given, strict=False)) | named
        models.wrapped(told["self"], told.get("data"), told.get("label"))

    replace(
        module,
        ("DMatrix.__init__", "QuantileDMatrix.__init__"),
        lambda function: Observed(recorder, function, after=made, deep=True),
    )
    _answers(module, recorder)


def xgboost_training(module: Any, recorder: Recorder) -> None:
    """`xgboost.train`, which its estimators call too."""
    owner: Any = __import__("xgboost.callback", fromlist=["TrainingCallback"])

    class Told(owner.TrainingCallback):  # type: ignore[misc]  # the library is not there when this is checked
        """Tells each iteration."""

        def after_iteration(self, model: Any, epoch: int, evals_log: dict[str, dict[str, list[Any]]]) -> bool:
            """Called by the library; True would stop the training."""
            for data, metrics in evals_log.items():
                for name, values in metrics.items():
                    recorder.tell("point", name=f"{data} {name}", value=values[-1])
            return False

    def begun(given: tuple[Any, ...], named: dict[str, Any]) -> None:
        named["callbacks"] = [*(named.get("callbacks") or ()), Told()]

    _training(module, recorder, begun, ("params", "dtrain", "num_boost_round"))


def lightgbm_data(module: Any, recorder: Recorder) -> None:
    """`Dataset(data, label)` may free its data: remember what it was made of."""
    models = models_of(recorder)

    def made(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        told = dict(zip(("self", "data", "label"), given, strict=False)) | named
        models.wrapped(told["self"], told.get("data"), told.get("label"))

    replace(module, ("Dataset.__init__",), lambda function: Observed(recorder, function, after=made, deep=True))
    _answers(module, recorder)


def lightgbm_training(module: Any, recorder: Recorder) -> None:
    """`lightgbm.train`, which its estimators call too."""

    def told(state: Any) -> None:
        for data, name, value, *_ in state.evaluation_result_list or ():
            recorder.tell("point", name=f"{data} {name}", value=value)

    told.order = BEFORE_EARLY_STOPPING  # type: ignore[attr-defined]  # the library reads it

    def begun(given: tuple[Any, ...], named: dict[str, Any]) -> None:
        named["callbacks"] = [*(named.get("callbacks") or ()), told]

    _training(module, recorder, begun, ("params", "train_set", "num_boost_round"))


def _training(module: Any, recorder: Recorder, begun: Any, names: tuple[str, str, str]) -> None:
    models = models_of(recorder)
    depth = recorder.depth

    def trained(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        if depth.calls:
            return  # inside an estimator's fit, which is told of as that
        known = dict(zip(names, given, strict=False)) | named
        rows, label = models.inside(known.get(names[1]))
        params = {**dict(known.get(names[0]) or {}), "num_boost_round": known.get("num_boost_round")}
        size = _size(known.get(names[1])) if rows is None else {}
        told = {"params": params, "curves": {}, **size}
        models.fitted(result, rows, label, began=began, seconds=time.time() - began, told=told)

    replace(
        module,
        ("train",),
        lambda function: Observed(recorder, function, before=begun, after=trained, deep=True),
    )


def _size(data: Any) -> dict[str, Any]:
    """How many rows and which columns a `DMatrix` or `Dataset` says that it has, whose rows are not held."""
    height = getattr(data, "num_row", None) or getattr(data, "num_data", None)
    width = getattr(data, "num_col", None) or getattr(data, "num_feature", None)
    if height is None or width is None:
        return {}
    names = getattr(data, "feature_names", None) or getattr(data, "feature_name", None)
    columns = [str(name) for name in names][:1000] if isinstance(names, list) else []
    return {"rows": height(), "width": width(), "columns": columns}


def _answers(module: Any, recorder: Recorder) -> None:
    """A booster's answers, so that a metric on them knows its rows; and the files that it writes by itself."""
    models = models_of(recorder)
    files = recorder.memory["files"]

    def answered(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        data = given[1] if len(given) > 1 else named.get("data")
        rows, _ = models.inside(data)
        models.asked(given[0], data if rows is None else rows, result)

    def target(given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        told = arguments(getattr(type(given[0]), "save_model", None), given, named)
        return told.get("fname", told.get("filename"))

    def writes(given: tuple[Any, ...], named: dict[str, Any]) -> None:
        path = target(given, named)
        if path is not None:  # told before: LightGBM appends a line of its own, and that reads no file of anybody's
            files.opened(path, 1)  # written, as by os.O_WRONLY

    def saved(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        path = target(given, named)
        if path is not None:
            models.dumped(given[0], path)

    predicts = ("Booster.predict", "Booster.inplace_predict")
    replace(module, predicts, lambda function: Observed(recorder, function, after=answered))
    replace(
        module,
        ("Booster.save_model",),
        lambda function: Observed(recorder, function, before=writes, after=saved, deep=True),
    )
