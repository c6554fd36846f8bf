"""Whether a model is what it was after it was saved and loaded: asked of the object itself, row by row.

A class of the project's own may make anything of what its file holds, and a library's format may leave something
out. What is scored, judged and served is what was loaded, so it has to answer as the model does that was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from noria.core.errors import ModelFailed
from noria.core.lazy import lazy
from noria.packaging.flavor import Flavor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
else:
    np = lazy("numpy")

__all__ = ["require"]

TOLERANCE = 1e-6
"""Scores may be this far apart, as a share of the largest: what single precision makes of sums in another order."""


def require(flavor: Flavor, model: Any, frame: pd.DataFrame, loaded: Sequence[float]) -> None:
    """Ask the model itself what it gives for rows that gave `loaded` once it was saved and loaded.

    A model that gives itself other scores when it is asked again is let pass: that is no matter of its file, and
    what asks a model twice tells it. Raises: ModelFailed.
    """
    own = _scores(flavor, model, frame)
    found = np.asarray(loaded, dtype=np.float64)
    if own.shape != found.shape:
        raise ModelFailed(f"{_named(model)} gives {own.shape} scores for {len(found)} rows")
    apart = _apart(own, found)
    if not apart.any() or _apart(own, _scores(flavor, model, frame)).any():
        return
    far = np.abs(own - found)
    worst = int(np.argmax(np.where(np.isnan(far), np.inf, far)))
    raise ModelFailed(
        f"{_named(model)} answers otherwise after it was saved and loaded: {int(apart.sum())} of {len(own)} rows "
        f"of the holdout have other scores, one {own[worst]:.6g} before and {found[worst]:.6g} after",
        hint="pickle.loads(pickle.dumps(model)) must predict as model does: see its __getstate__ and __setstate__"
        if flavor.runs_code
        else f"a file of {flavor.name} does not hold all of it: return a model that its library saves whole",
    )


def _named(model: Any) -> str:
    return f"the model ({type(model).__name__})"


def _scores(flavor: Flavor, model: Any, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    return np.asarray(flavor.predict(model, frame.copy()), dtype=np.float64)


def _apart(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which scores differ; one that is no number differs from all."""
    scale = max(float(np.abs(each[np.isfinite(each)]).max(initial=0.0)) for each in (one, other))
    return ~(np.abs(one - other) <= TOLERANCE * scale)
