"""scikit-learn models: kept as skops with every type listed, asked fast.

Most of the time of one small request is not the model: a ColumnTransformer re-checks, slices and
joins frames, 5 ms for 64 rows of 19 columns where 100 trees take 0.4 ms (2 cores, 2026-11). So
the leading column work of a fitted pipeline is compiled once into dictionaries and arrays, and
the rest of the pipeline is asked through its own public methods. What is not understood exactly
is not compiled; the caller proves the compiled way against the plain one before it is used.
"""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder
from sklearn.utils.validation import check_array

from noria.core.errors import Denied
from noria.engines.flavors import skopsfile
from noria.engines.flavors.listed import unlisted
from noria.packaging.flavor import NotMine
from noria.packaging.rows import Columns, Field

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

__all__ = ["SklearnFlavor"]

FILE, TYPES, OLD = "model.skops", "types.json", "model.pkl"
_BOOSTERS = ("xgboost", "lightgbm")
Source = Callable[[Columns], Any]
"""Checked columns to a float64 matrix, shape (n_rows, n_made)."""


class SklearnFlavor:
    """Fitted scikit-learn estimators and pipelines."""

    name = "sklearn"
    runs_code = False
    packages = ("scikit-learn", "skops", "numpy", "scipy")

    def save(self, model: object, folder: Path) -> Sequence[str]:
        """Write model.skops, and types.json: the types in it that skops does not trust by itself.

        Raises: NotMine for what is no estimator; Denied for one that holds a type which is not listed; UsageError
            without skops.
        """
        if not isinstance(model, BaseEstimator) or type(model).__module__.partition(".")[0] in _BOOSTERS:
            raise NotMine(f"{type(model).__name__} is not a scikit-learn estimator")
        content = skopsfile.dumped(model)
        types = skopsfile.named(content)
        (folder / FILE).write_bytes(content)
        (folder / TYPES).write_text(json.dumps(types, indent=1) + "\n", "utf-8")
        return types

    def load(self, folder: Path) -> object:
        """The estimator of a folder. Raises: Denied for a type that is not listed, here or in types.json."""
        if not (folder / FILE).is_file() and (folder / OLD).is_file():
            raise Denied(
                "the model is a pickle, as earlier versions of Noria wrote them, and is not loaded",
                hint="noria run makes it anew, as skops",
            )
        types = json.loads((folder / TYPES).read_text("utf-8"))
        foreign = sorted({*skopsfile.named(folder / FILE)} - {*types}) or unlisted(types)
        if foreign:
            raise Denied(f"the model's file holds {foreign[0]}, which the bundle does not list")
        return skopsfile.loaded(folder / FILE, types)

    def predict(self, model: Any, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """The positive class's probability, or a regression's value, by the model's own methods.

        A model that was fitted without names gets none.
        """
        return _scores(model, frame if hasattr(model, "feature_names_in_") else frame.to_numpy())

    def direct(self, model: Any, fields: Sequence[Field]) -> Callable[[Columns], npt.NDArray[np.float64]] | None:
        """The compiled way for a model of numbers, or one that begins with column work (a step, or its own)."""
        first, rest = _split(model)
        if first is None:
            rest, source = _unnamed(model), _numbers(fields)
        else:
            source = _columns(first, {field.name: field for field in fields})
        if source is None:
            return None
        return lambda columns: _scores(rest, source(columns))

    def levels(self, model: Any) -> Mapping[str, Sequence[Any]]:
        """The levels of every column that a one-hot or ordinal encoder of the model learned."""
        first, _ = _split(model)
        found: dict[str, Sequence[Any]] = {}
        for _, transformer, names in getattr(first, "transformers_", ()):
            categories = getattr(transformer, "categories_", None)
            picked = _names(first, names)
            if categories is not None and picked is not None:
                for name, learned in zip(picked, categories, strict=True):
                    found[name] = [level for level in learned.tolist() if level is not None and not _is_nan(level)]
        return found


def _scores(model: Any, data: Any) -> npt.NDArray[np.float64]:
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(data)[:, 1], dtype=np.float64)
    return np.asarray(model.predict(data), dtype=np.float64)


def _split(model: Any) -> tuple[Any, Any]:
    """(the column work, what takes its matrix), or (None, None) if the model is not of that shape."""
    if isinstance(model, Pipeline) and len(model.steps) > 1 and isinstance(model.steps[0][1], ColumnTransformer):
        rest = model.steps[1:]
        return model.steps[0][1], _nameless(rest[0][1]) if len(rest) == 1 else Pipeline(rest)
    if isinstance(model, Pipeline) and len(model.steps) == 1:
        return _split(model.steps[0][1])
    inner = getattr(model, "_preprocessor", None)
    if isinstance(inner, ColumnTransformer):
        bare = _nameless(model)
        bare._preprocessor = None
        return inner, bare
    return None, None


def _unnamed(model: Any) -> Any:
    """A model of numbers that takes a bare matrix; every step of a pipeline may compare names."""
    if isinstance(model, Pipeline):
        return Pipeline([(name, _nameless(step)) for name, step in model.steps])
    return _nameless(model)


def _nameless(estimator: Any) -> Any:
    """The same fitted estimator, without names to compare a bare matrix with."""
    bare = copy.copy(estimator)
    if "feature_names_in_" in vars(bare):
        del bare.feature_names_in_
    return bare


def _columns(transformer: ColumnTransformer, fields: Mapping[str, Field]) -> Source | None:
    """The whole column work as one source, or None if any part of it is not understood."""
    output = getattr(transformer, "_sklearn_output_config", {}).get("transform", "default")
    if output != "default" or transformer.transformer_weights:
        return None
    parts: list[Source] = []
    for _, part, names in transformer.transformers_:
        picked = _names(transformer, names)
        if picked is None or not all(name in fields for name in picked):
            return None
        if (isinstance(part, str) and part == "drop") or not picked:
            continue
        source = _part(part, [fields[name] for name in picked])
        if source is None:
            return None
        parts.append(source)
    return _joined(parts) if parts else None


def _names(transformer: ColumnTransformer, names: Any) -> list[str] | None:
    """The columns of one part by name, however the author wrote them: names, positions, a mask, a slice."""
    known = getattr(transformer, "feature_names_in_", None)
    if known is None:
        return None
    if isinstance(names, str):
        return None  # a single name hands the transformer a series, not a frame
    if isinstance(names, slice):
        return [str(name) for name in known[names]] if _is_positional(names) else None
    picked = np.asarray(names)
    if picked.dtype == bool or np.issubdtype(picked.dtype, np.integer):
        return [str(name) for name in known[picked]]
    return [str(name) for name in picked.tolist()]


def _is_positional(names: slice) -> bool:
    return all(bound is None or isinstance(bound, int) for bound in (names.start, names.stop, names.step))


def _part(part: Any, fields: Sequence[Field]) -> Source | None:
    if (isinstance(part, str) and part == "passthrough") or _is_identity(part):
        return _numbers(fields)
    if isinstance(part, OrdinalEncoder):
        return _codes(part, fields)
    if isinstance(part, OneHotEncoder):
        return _one_hot(part, fields)
    if isinstance(part, BaseEstimator) and not isinstance(part, FunctionTransformer):
        return _through(part, fields)
    return None


def _is_identity(part: Any) -> bool:
    """Whether a function transformer gives the numbers that it takes: no function, or only a check of them."""
    if not isinstance(part, FunctionTransformer) or part.validate:
        return False
    function = part.func.func if isinstance(part.func, functools.partial) else part.func
    return function is None or function is check_array


def _through(part: Any, fields: Sequence[Field]) -> Source | None:
    """Any fitted transformer of plain numbers (scaler, imputer, a chain of them), asked for a matrix."""
    numbers = _numbers(fields)
    if numbers is None:
        return None
    steps = [_nameless(step) for _, step in part.steps] if isinstance(part, Pipeline) else [_nameless(part)]
    if any(isinstance(step, str) or hasattr(step, "_preprocessor") for step in steps):
        return None

    def source(columns: Columns) -> Any:
        made = numbers(columns)
        for step in steps:
            made = step.transform(made)
        return made.toarray() if hasattr(made, "toarray") else made

    return source


def _numbers(fields: Sequence[Field]) -> Source | None:
    """Number columns as they are, through their dtype of training; null is NaN."""
    if any(field.column.type not in ("float64", "int64", "bool") or field.dtype == "object" for field in fields):
        return None
    narrow = {i: field.dtype for i, field in enumerate(fields) if field.dtype in ("float32", "float16")}
    names = [field.name for field in fields]

    def source(columns: Columns) -> Any:
        made = np.array([columns[name] for name in names], dtype=np.float64)
        for index, dtype in narrow.items():
            made[index] = made[index].astype(dtype)
        return made.T

    return source


def _codes(encoder: OrdinalEncoder, fields: Sequence[Field]) -> Source | None:
    """An ordinal encoder as dictionaries; None where it would raise instead of giving a code."""
    if getattr(encoder, "_infrequent_enabled", False):
        return None
    unknown = encoder.unknown_value if encoder.handle_unknown == "use_encoded_value" else None
    tables: list[tuple[str, dict[Any, float], float]] = []
    for field, categories in zip(fields, encoder.categories_, strict=True):
        if field.column.type not in ("text", "category", "int64", "bool"):
            return None
        levels = categories.tolist()
        # None is a level like any other to this encoder; only NaN has the code of the missing.
        codes: dict[Any, float] = {level: float(code) for code, level in enumerate(levels) if not _is_nan(level)}
        outside = math.nan if unknown is None else float(unknown)
        if _is_marked_by_nan(field):
            codes[None] = float(encoder.encoded_missing_value) if any(map(_is_nan, levels)) else outside
        missing = codes.setdefault(None, outside)
        if field.column.type == "category":
            codes = {level: code for level, code in codes.items() if level is None or level in field.levels}
        fallback = missing if field.column.type == "category" else outside
        tables.append((field.name, codes, fallback))

    def source(columns: Columns) -> Any:
        made = []
        for name, codes, fallback in tables:
            get = codes.get
            made.append([get(value, fallback) for value in columns[name]])
        return np.array(made, dtype=np.float64).T

    return source


def _one_hot(encoder: OneHotEncoder, fields: Sequence[Field]) -> Source | None:
    """A one-hot encoder as places to put a one; unknown levels are all zeros, where it takes them."""
    if getattr(encoder, "_infrequent_enabled", False) or encoder.drop is not None:
        return None
    if encoder.handle_unknown not in ("error", "ignore") or getattr(encoder, "_sklearn_output_config", {}):
        return None
    tables: list[tuple[str, dict[Any, int]]] = []
    width = 0
    for field, categories in zip(fields, encoder.categories_, strict=True):
        if field.column.type not in ("text", "int64", "bool"):
            return None
        levels = categories.tolist()
        places = {level: width + place for place, level in enumerate(levels) if not _is_nan(level)}
        if _is_marked_by_nan(field):
            places.pop(None, None)
            if any(map(_is_nan, levels)):
                places[None] = width + list(map(_is_nan, levels)).index(True)
        tables.append((field.name, places))
        width += len(levels)

    def source(columns: Columns) -> Any:
        made = np.zeros((len(columns[tables[0][0]]), width))
        for name, places in tables:
            at = [places.get(value, -1) for value in columns[name]]
            rows = [row for row, place in enumerate(at) if place >= 0]
            made[rows, [place for place in at if place >= 0]] = 1.0
        return made

    return source


def _is_nan(level: Any) -> bool:
    return isinstance(level, float) and math.isnan(level)


def _is_marked_by_nan(field: Field) -> bool:
    """Whether a frame marks this column's missing values by NaN; an object column may do it by None."""
    return field.dtype != "object" or field.nan


def _joined(parts: Sequence[Source]) -> Source:
    if len(parts) == 1:
        return parts[0]
    return lambda columns: np.concatenate([part(columns) for part in parts], axis=1)
