"""scikit-learn, and every library whose estimators are scikit-learn's: fits, scores, metrics, searches.

Each class that derives from `BaseEstimator` is looked at as it is defined, through `__init_subclass__`, so
that estimators of the project itself and of other libraries are seen too. Only the outermost call counts:
the fits inside a search or a pipeline are that search's and that pipeline's.
"""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any

from noria.engines.autolog.calls import After, Observed, caller_name, replace
from noria.engines.autolog.models import Models, models_of

if TYPE_CHECKING:
    from noria.scripts.recorder import Recorder

__all__ = ["base", "metrics", "model_selection"]

FITS = ("fit", "fit_transform", "fit_predict", "partial_fit")
ANSWERS = ("predict", "predict_proba", "decision_function")
CURVES = {"loss_curve_": "loss", "validation_scores_": "validation_score", "train_score_": "train_score"}
_NO_METRICS = ("get_", "make_", "check_")
_CROSS = ("cross_val_score", "cross_validate", "cross_val_predict", "learning_curve", "validation_curve")


def base(module: Any, recorder: Recorder) -> None:
    """Look at every class that will derive from BaseEstimator, and at the mixins' own methods."""
    models = models_of(recorder)
    owner = module.BaseEstimator
    before = owner.__init_subclass__

    def defined(cls: type, /, **named: Any) -> None:
        getattr(before, "__func__", lambda _, **more: before(**more))(cls, **named)
        recorder.guarded(_look_at, cls, recorder, models)

    owner.__init_subclass__ = classmethod(defined)
    for name in ("ClassifierMixin", "RegressorMixin", "TransformerMixin", "ClusterMixin", "OutlierMixin"):
        mixin = getattr(module, name, None)
        if mixin is not None:
            _look_at(mixin, recorder, models)


def _look_at(cls: type, recorder: Recorder, models: Models) -> None:
    """Observe the methods that a class itself defines."""
    for name in (*FITS, *ANSWERS, "score"):
        found = vars(cls).get(name)
        if found is None or isinstance(found, (staticmethod, classmethod, Observed)):
            continue
        if hasattr(found, "__get__"):
            setattr(cls, name, Observed(recorder, found, after=_after(name, recorder, models)))


def _after(name: str, recorder: Recorder, models: Models) -> After:
    def fitted(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        model, rows, label = given[0], *_rows_and_label(given, named)
        if name == "partial_fit" and models.number_of(model):
            return  # one more piece of the same fit
        told = {"params": _params(model), "curves": _curves(model), **_search(model)}
        models.fitted(model, rows, label, began=began, seconds=time.time() - began, told=told)
        if name == "fit_transform":
            models.transformed(model, result)

    def answered(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        rows = given[1] if len(given) > 1 else named.get("X")
        models.asked(given[0], rows, result)

    def scored(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        model, rows, label = given[0], *_rows_and_label(given, named)
        number = models.number_of(model)
        if number and label is not None:
            models.scored_on(number, rows, label)
        on, line = caller_name(rows, recorder.config["root"])
        recorder.tell(
            "metric", name="score", value=result, on=on, line=line, number=number, options={}, of=type(model).__name__
        )

    return fitted if name in FITS else scored if name == "score" else answered


def _rows_and_label(given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    rows = given[1] if len(given) > 1 else named.get("X")
    label = given[2] if len(given) > 2 else named.get("y")
    return rows, label


def _params(model: Any) -> dict[str, Any]:
    """The parameters of an estimator that are plain values; of its parts with their names before them."""
    get = getattr(model, "get_params", None)
    if get is None:
        return {}
    found = {}
    for name, value in get(deep=True).items():
        if value is None or isinstance(value, (bool, int, float, str, tuple, list, dict)):
            found[name] = value
        elif callable(value) or hasattr(value, "get_params"):
            found[name] = getattr(value, "__name__", type(value).__name__)
    return {name: found[name] for name in sorted(found)}


def _curves(model: Any) -> dict[str, list[float]]:
    """What an estimator that learns in steps keeps of its way."""
    found = {}
    for attribute, name in CURVES.items():
        values = vars(model).get(attribute) if hasattr(model, "__dict__") else None
        if values is not None and len(values):
            found[name] = [float(value) for value in list(values)[:10_000]]
    return found


def _search(model: Any) -> dict[str, Any]:
    """What a search over parameters found."""
    held = vars(model) if hasattr(model, "__dict__") else {}
    if "best_score_" not in held or "best_params_" not in held:
        return {}
    return {"best_params": held["best_params_"], "best_score": held["best_score_"]}


def metrics(module: Any, recorder: Recorder) -> None:
    """Observe every metric function that gives a number."""
    models = models_of(recorder)

    def wrap(function: Any) -> Any:
        def measured(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
            if isinstance(result, bool) or not _is_number(result):
                return
            truth = given[0] if given else named.get("y_true")
            answer = given[1] if len(given) > 1 else named.get("y_pred", named.get("y_score", named.get("y_prob")))
            on, line = caller_name(truth, recorder.config["root"])
            options = {key: value for key, value in named.items() if isinstance(value, (str, int, float, bool))}
            number = models.measured(truth, answer)
            recorder.tell(
                "metric", name=function.__name__, value=result, on=on, line=line, number=number, options=options, of=""
            )

        return Observed(recorder, function, after=measured)

    names = [name for name in module.__all__ if inspect.isfunction(getattr(module, name, None))]
    replace(module, tuple(name for name in names if not name.startswith(_NO_METRICS)), wrap)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (hasattr(value, "item") and getattr(value, "ndim", 1) == 0)


def model_selection(module: Any, recorder: Recorder) -> None:
    """Observe cross-validation: its fits are its own, its scores are metrics."""

    def wrap(function: Any) -> Any:
        def crossed(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
            estimator = given[0] if given else named.get("estimator")
            _, line = caller_name(estimator, recorder.config["root"])
            recorder.tell("span", began=began)
            parts = result.items() if isinstance(result, dict) else [("", result)]
            for key, values in parts:
                if getattr(values, "ndim", 0) == 1 and (not key or key.startswith("test_")):
                    name = f"{function.__name__} {key}".strip()
                    options: dict[str, Any] = {}
                    for what, value in (("mean", values.mean()), ("std", values.std())):
                        recorder.tell(
                            "metric",
                            name=f"{name} {what}",
                            value=value,
                            on="",
                            line=line,
                            number=0,
                            options=options,
                            of=type(estimator).__name__,
                        )

        return Observed(recorder, function, after=crossed)

    replace(module, _CROSS, wrap)
