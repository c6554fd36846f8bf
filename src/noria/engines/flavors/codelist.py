"""What a pickle may name that is signed and allowed: what models with code of their own are made of.

An allow-list: a way to run a command that nobody has thought of is not in it either. Code by value is made by
cloudpickle's own makers, which run what the file holds; against that stands the signature, not this list.
"""

from __future__ import annotations

import sys
from _compat_pickle import IMPORT_MAPPING
from collections.abc import Mapping

import numpy as np

from noria.engines.flavors.listed import is_listed

__all__ = ["may_be_named"]

_MAKERS = frozenset(
    {
        ("cloudpickle.cloudpickle", name)
        for name in (
            "_builtin_type",
            "_class_setstate",
            "_function_setstate",
            "_make_cell",
            "_make_empty_cell",
            "_make_function",
            "_make_skeleton_class",
            "_make_skeleton_enum",
            "_make_typevar",
            "subimport",
        )
    }
)
"""What cloudpickle makes code by value with. They run what the file holds: therefore the signature."""
_PLAIN = frozenset(
    {
        ("_operator", "itemgetter"),
        ("abc", "ABCMeta"),
        ("builtins", "dict"),
        ("builtins", "list"),
        ("builtins", "property"),
        ("builtins", "classmethod"),
        ("builtins", "staticmethod"),
        ("builtins", "super"),
        ("builtins", "tuple"),
        ("builtins", "bytes"),
        ("builtins", "type"),
        ("collections", "Counter"),
        ("collections", "deque"),
        ("copyreg", "__newobj__"),
        ("dataclasses", "Field"),
        ("dataclasses", "_DataclassParams"),
        ("dataclasses", "_FIELD_BASE"),
        ("dataclasses", "_HAS_DEFAULT_FACTORY_CLASS"),
        ("dataclasses", "_MISSING_TYPE"),
        ("fractions", "Fraction"),
        ("pathlib", "PosixPath"),
        ("pathlib", "PurePosixPath"),
        ("re", "_compile"),
        ("types", "CellType"),
        ("types", "CodeType"),
        ("types", "FunctionType"),
        ("types", "MappingProxyType"),
        ("types", "MethodType"),
        ("types", "ModuleType"),
        ("types", "SimpleNamespace"),
        ("uuid", "UUID"),
    }
)
"""Of the standard library what data and classes are made of; nothing that runs a command, a text or a file."""
_FUNCTIONS: Mapping[str, frozenset[str]] = {
    "collections": frozenset({"namedtuple"}),
    "functools": frozenset({"cached_property", "partialmethod", "reduce"}),
    "numpy": frozenset(
        [
            "all",
            "allclose",
            "any",
            "append",
            "arange",
            "argmax",
            "argmin",
            "argsort",
            "array",
            "array_equal",
            "asarray",
            "ascontiguousarray",
            "average",
            "bincount",
            "broadcast_to",
            "clip",
            "column_stack",
            "concatenate",
            "corrcoef",
            "cov",
            "cumprod",
            "cumsum",
            "diff",
            "digitize",
            "dot",
            "einsum",
            "empty",
            "empty_like",
            "expand_dims",
            "eye",
            "flip",
            "full",
            "full_like",
            "gradient",
            "histogram",
            "hstack",
            "identity",
            "inner",
            "interp",
            "isclose",
            "isin",
            "linspace",
            "logspace",
            "mean",
            "median",
            "meshgrid",
            "nan_to_num",
            "nanmax",
            "nanmean",
            "nanmedian",
            "nanmin",
            "nanquantile",
            "nanstd",
            "nansum",
            "ones",
            "ones_like",
            "outer",
            "percentile",
            "prod",
            "ptp",
            "quantile",
            "ravel",
            "repeat",
            "reshape",
            "roll",
            "round",
            "searchsorted",
            "sort",
            "split",
            "squeeze",
            "stack",
            "std",
            "sum",
            "take",
            "tile",
            "transpose",
            "unique",
            "var",
            "vstack",
            "where",
            "zeros",
            "zeros_like",
        ]
    ),
    "numpy.linalg": frozenset({"cholesky", "det", "inv", "lstsq", "norm", "pinv", "qr", "solve", "svd"}),
    "pandas.core.dtypes.missing": frozenset({"isna", "notna"}),
    "pandas.core.reshape.concat": frozenset({"concat"}),
    "pandas.core.reshape.encoding": frozenset({"get_dummies"}),
    "pandas.core.reshape.merge": frozenset({"merge"}),
    "pandas.core.reshape.tile": frozenset({"cut", "qcut"}),
    "pandas.core.tools.datetimes": frozenset({"to_datetime"}),
    "pandas.core.tools.numeric": frozenset({"to_numeric"}),
    "sklearn.base": frozenset({"clone", "is_classifier", "is_regressor"}),
    "sklearn.utils._available_if": frozenset({"available_if"}),
    "sklearn.utils._metadata_requests": frozenset({"_routing_enabled", "process_routing"}),
    "sklearn.utils._set_output": frozenset({"_wrap_data_with_container", "_wrap_method_output"}),
    "sklearn.utils.extmath": frozenset({"safe_sparse_dot", "softmax", "stable_cumsum", "weighted_mode"}),
    "sklearn.utils.multiclass": frozenset({"check_classification_targets", "type_of_target", "unique_labels"}),
    "sklearn.utils.validation": frozenset(
        [
            "_check_feature_names",
            "_check_n_features",
            "_check_sample_weight",
            "_num_features",
            "_num_samples",
            "check_array",
            "check_consistent_length",
            "check_is_fitted",
            "check_random_state",
            "check_X_y",
            "column_or_1d",
            "validate_data",
        ]
    ),
}
"""Functions of libraries, by the module that they say they are of."""
_WHOLE = ("math", "scipy.special", "sklearn.metrics", "statistics")
"""Modules, with those inside them, whose functions only compute."""
_WHOLE_OF = tuple(f"{module}." for module in _WHOLE)
_NETWORKS = frozenset(
    {
        ("noria.engines.flavors.networks", "Network"),
        ("noria.engines.flavors.networks", "NetworkBinary"),
        ("torch._utils", "_rebuild_meta_tensor_no_storage"),
        ("torch._utils", "_rebuild_parameter"),
        *(("torch", f"{kind}{bits}") for kind in ("int", "float") for bits in (16, 32, 64)),
        *(("torch", name) for name in ("bool", "int8", "uint8")),
    }
)
"""What networks of PyTorch with code of their own are made of; their tensors hold no bytes (`networks.py`)."""
_NEVER = frozenset({"pip", "setuptools", "pkg_resources", "distutils", "_pytest", "pytest", "IPython", "noria"})
_OLD = frozenset(name.partition(".")[0] for name in IMPORT_MAPPING)
"""What modules of the standard library were called in Python 2."""


def may_be_named(module: str, name: str) -> bool:
    """Whether a pickle that is signed and allowed may name something. Imports nothing.

    What is listed for every model; what cloudpickle makes code with; plain data of the standard library; functions
    that compute, by name; ufuncs that are loaded; and of other libraries what looks like a class. No other function
    of a library, no name that reaches through attributes.
    """
    if is_listed(module, name) or (module, name) in _MAKERS or (module, name) in _PLAIN | _NETWORKS:
        return True
    root = module.partition(".")[0]
    if "." not in name and (name in _FUNCTIONS.get(module, ()) or f"{module}.".startswith(_WHOLE_OF)):
        return "tests" not in module.split(".")
    if "." in name or root in sys.stdlib_module_names or root in _NEVER | _OLD or "tests" in module.split("."):
        return False
    if root in ("numpy", "scipy"):
        return isinstance(getattr(sys.modules.get(module), name, None), np.ufunc) or _is_generator(module, name)
    return name.lstrip("_")[:1].isupper()


def _is_generator(module: str, name: str) -> bool:
    return module.startswith(("numpy.random.", "scipy.sparse.", "scipy.interpolate.")) and name[:1].isupper()
