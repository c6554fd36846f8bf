"""The table of routes: which loaded release answers what. Values; replaced as a whole, never changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from noria.core.errors import NotFound, UsageError, WorldError
from noria.core.frozen import frozen
from noria.serving.facts import Arm

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Model", "ModelUnavailable", "Route", "Routes", "Served"]


class Model(Protocol):
    """What serving needs of a loaded model; packaging.Predictor is one."""

    task: str
    labels: tuple[Any, ...]
    threshold: float

    def check(self, row: dict[str, Any]) -> None:
        """Refuse a row that does not fit. Raises: RowRefused."""
        ...

    def predict(self, data: Sequence[dict[str, Any]]) -> npt.NDArray[np.float64]:
        """One score a row."""
        ...


class Served:
    """A loaded release. `negative` and `positive` are its labels as JSON, "null" for a regression.

    Args:
        is_apart: whether the model answers in a process of its own, which may keep who asks it waiting.
    """

    __slots__ = ("bundle", "content", "is_apart", "is_binary", "model", "negative", "positive", "release", "threshold")

    def __init__(self, release: int, content: str, bundle: str, model: Model, *, is_apart: bool = False) -> None:
        self.release, self.content, self.bundle, self.model = release, content, bundle, model
        self.is_apart = is_apart
        self.is_binary = model.task == "binary"
        self.threshold = model.threshold
        labels = model.labels if self.is_binary else (None, None)
        self.negative, self.positive = (msgspec.json.encode(label).decode() for label in labels)

    def label(self, score: float) -> str:
        """The class of a score, as JSON."""
        return self.positive if score >= self.threshold else self.negative

    def is_valid(self, score: float) -> bool:
        """Whether a score is one that this kind of model may give."""
        return 0.0 <= score <= 1.0 if self.is_binary else math.isfinite(score)


@frozen
class Route:
    """How one model answers under one deployment: everything that is loaded for it. Immutable."""

    model: str
    seq: int
    seed: str
    arms: tuple[Arm, ...]
    served: Mapping[int, Served]
    shadow: Served | None = None
    kept: tuple[Served, ...] = ()

    @property
    def is_apart(self) -> bool:
        """Whether a model that may answer for a request is in a process of its own."""
        return any(served.is_apart for served in (*self.served.values(), *self.kept))


class ModelUnavailable(WorldError):
    """A model is deployed, and this server has nothing to answer with."""

    code = "model-unavailable"


@frozen
class Routes:
    """The table of routes. It is replaced as a whole, by one assignment."""

    by_model: Mapping[str, Route] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    """Models that are deployed and cannot be loaded, with the reason."""

    def of(self, model: str) -> Route:
        """The route of a model; of the only one if none is named. Raises: NotFound, UsageError."""
        if model:
            found = self.by_model.get(model)
            if found is None and model in self.failed:
                raise ModelUnavailable(f"{model} is deployed and cannot be loaded: {self.failed[model]}")
            if found is None:
                names = ", ".join(sorted(self.by_model)) or "none"
                raise NotFound(f"no model named {model[:80]!r} is deployed here", hint=f"deployed here: {names[:400]}")
            return found
        if len(self.by_model) == 1:
            return next(iter(self.by_model.values()))
        for name, reason in self.failed.items():
            raise ModelUnavailable(f"{name} is deployed and cannot be loaded: {reason}")
        if not self.by_model:
            raise NotFound("no model is deployed here", hint="noria deploy MODEL")
        raise UsageError("several models are deployed: name one", hint=f"/predict/{min(self.by_model)}")
