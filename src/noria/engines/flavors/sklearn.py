"""scikit-learn models: saved as a plain pickle, loaded under an allow-list, asked fast.

Most of the time of one small request is not the model: a ColumnTransformer re-checks, slices and
joins frames, 5 ms for 64 rows of 19 columns where 100 trees take 0.4 ms (2 cores, 2026-11). So
the leading column work of a fitted pipeline is compiled once into dictionaries and arrays, and
the rest of the pipeline is asked through its own public methods. What is not understood exactly
is not compiled; the caller proves the compiled way against the plain one before it is used.
"""

from __future__ import annotations

import copy
import functools
import math
import pickle
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
from noria.packaging.rows import Columns, Field
from noria.store import pickles

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

__all__ = ["SklearnFlavor", "is_allowed"]

FILE = "model.pkl"
Source = Callable[[Columns], Any]
"""Checked columns to a float64 matrix, shape (n_rows, n_made)."""

_EXACT = frozenset(
    {
        ("builtins", "set"),
        ("builtins", "frozenset"),
        ("builtins", "slice"),
        ("builtins", "range"),
        ("builtins", "complex"),
        ("builtins", "bytearray"),
        ("builtins", "object"),
        ("builtins", "bool"),
        ("builtins", "int"),
        ("builtins", "float"),
        ("builtins", "str"),
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
        ("copyreg", "_reconstructor"),
        ("_codecs", "encode"),
        ("datetime", "date"),
        ("datetime", "datetime"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("decimal", "Decimal"),
        ("functools", "partial"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.numeric", "_frombuffer"),
        ("numpy.random._pickle", "__bit_generator_ctor"),
        ("numpy.random._pickle", "__generator_ctor"),
        ("numpy.random._pickle", "__randomstate_ctor"),
        ("numpy.random._mt19937", "MT19937"),
        ("numpy.random._pcg64", "PCG64"),
        ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
        ("numpy.random.bit_generator", "SeedSequence"),
        ("sklearn.utils.validation", "check_array"),
        ("scipy.sparse._csr", "csr_matrix"),
        ("scipy.sparse._csc", "csc_matrix"),
        ("scipy.sparse._csr", "csr_array"),
        ("scipy.sparse._csc", "csc_array"),
        ("pandas.core.indexes.base", "_new_Index"),
        ("pandas.core.indexes.base", "Index"),
        ("pandas", "Index"),
        ("pandas._libs.internals", "_unpickle_block"),
    }
)
"""Names outside scikit-learn's own classes that fitted estimators are made of; none runs given code."""

_NUMPY_SCALARS = frozenset(
    f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64) if (kind, bits) != ("float", 8)
) | {"bool_", "bool", "str_", "object_", "longdouble", "complex128"}


def is_allowed(module: str, name: str) -> bool:
    """Whether a pickle of this flavor may name something: classes of scikit-learn, and what holds their numbers.

    A dotted name reaches through attributes and is never allowed. Of scikit-learn only names that
    look like classes are (or Cython's own makers of them), none from its tests or externals.
    """
    if "." in name:
        return False
    if (module, name) in _EXACT or (module == "numpy" and name in _NUMPY_SCALARS):
        return True
    parts = module.split(".")
    if parts[0] != "sklearn" or {"tests", "externals", "utils", "datasets"} & set(parts[:2]):
        return parts[:2] == ["sklearn", "utils"] and name in ("Bunch", "_MetadataRequester", "MetadataRequest")
    bare = name.lstrip("_")
    return "tests" not in parts and (name.startswith("__pyx_unpickle_") or name == "newObj" or bare[:1].isupper())


class SklearnFlavor:
    """Fitted scikit-learn estimators and pipelines."""

    name = "sklearn"

    def save(self, model: object, folder: Path) -> None:
        """Write model.pkl: plain pickle, protocol 5, which scikit-learn alone can load.

        Raises: Denied for what is no estimator, or names something outside the allow-list.
        """
        if not isinstance(model, BaseEstimator):
            raise Denied(f"{type(model).__name__} is not a scikit-learn estimator")
        try:
            content = _dumped(model)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise Denied(f"{type(model).__name__} cannot be pickled: {str(error)[:200]}") from error
        foreign = [f"{module}.{name}" for module, name in pickles.globals_of(content) if not is_allowed(module, name)]
        if foreign:
            raise Denied(f"the estimator holds {min(foreign)}, which is not scikit-learn's")
        (folder / FILE).write_bytes(content)

    def load(self, folder: Path) -> object:
        """The estimator of a folder. Raises: Denied for a name that is not allowed."""
        return pickles.loads((folder / FILE).read_bytes(), is_allowed)

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


def _dumped(model: object) -> bytes:
    """The pickle of a model, the same for equal models: once through, so that shared objects settle."""
    once = pickle.dumps(model, protocol=5)
    return pickle.dumps(pickle.loads(once), protocol=5)  # noqa: S301  # bytes made one line above


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
