"""What a model's file may name without anybody's permission: classes of known libraries, and what holds their numbers.

An allow-list, never a block-list: what is not here is refused, whatever it does. It is asked of every name that a
pickle can import and of every type of a skops file that skops itself does not trust.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["is_allowed", "is_listed", "split", "unlisted"]

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

_BOOSTERS = frozenset(
    {
        ("lightgbm.basic", "Booster"),
        ("lightgbm.sklearn", "LGBMClassifier"),
        ("lightgbm.sklearn", "LGBMRegressor"),
        ("xgboost.core", "Booster"),
        ("xgboost.sklearn", "XGBClassifier"),
        ("xgboost.sklearn", "XGBRegressor"),
    }
)


def is_allowed(module: str, name: str) -> bool:
    """Whether a file may name something: classes of scikit-learn, and what holds their numbers.

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


def is_listed(module: str, name: str) -> bool:
    """`is_allowed`, and the estimators and boosters of XGBoost and LightGBM."""
    return (module, name) in _BOOSTERS or is_allowed(module, name)


def split(name: str) -> tuple[str, str]:
    """A full name as (module, last part)."""
    module, _, last = name.rpartition(".")
    return module, last


def unlisted(names: Iterable[str]) -> list[str]:
    """The full names of these that are not listed, sorted."""
    return sorted(name for name in names if not is_listed(*split(name)))
