"""Whether a model that was loaded takes what its bundle's signature says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.errors import ModelFailed
from noria.packaging.rows import Field

__all__ = ["inputs_of", "require_same"]

_NUMBERS = ("bool", "int64", "float64")
SHOWN = 3


def inputs_of(model: object) -> dict[str, Any]:
    """What a model says of its inputs: `names` in order or [], `count` of columns or 0, `kinds` by name or {}.

    Names and counts are scikit-learn's attributes, which other libraries' estimators keep too; `input_kinds` maps
    a name to "number" or "text" where the format says it (ONNX).
    """
    names = getattr(model, "feature_names_in_", None)
    count = getattr(model, "n_features_in_", None)
    kinds = getattr(model, "input_kinds", None)
    return {
        "names": [] if names is None else [str(name) for name in names],
        "count": int(count) if isinstance(count, int) else 0,
        "kinds": {} if kinds is None else {str(name): str(kind) for name, kind in kinds.items()},
    }


def require_same(inputs: Mapping[str, Any], fields: Sequence[Field]) -> None:
    """The signature's columns are those of the model. Raises: ModelFailed naming the first that is not."""
    names = [field.name for field in fields]
    wanted = list(inputs["names"])
    if wanted and wanted != names:
        pairs = zip([*wanted, ""], [*names, ""], strict=False)
        theirs, ours = next((a, b) for a, b in pairs if a != b)
        raise ModelFailed(
            f"the model takes {len(wanted)} columns and its signature has {len(names)}: "
            f"{theirs or 'nothing'} stands where the signature says {ours or 'nothing'}",
            hint="the bundle's files do not belong together: log the model again",
        )
    if inputs["count"] and inputs["count"] != len(names):
        raise ModelFailed(
            f"the model takes {inputs['count']} columns and its signature has {len(names)}",
            hint="the bundle's files do not belong together: log the model again",
        )
    for field in fields:
        kind = inputs["kinds"].get(field.name)
        is_number = field.column.type in _NUMBERS
        if kind is not None and (kind == "number") != is_number:
            raise ModelFailed(f"the model takes a {kind} in column {field.name}, and its signature {field.column.type}")
