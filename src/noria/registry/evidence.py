"""What a gate is given: the policy, the candidate's scores, the champion's on the same rows, and a stopwatch.

A gate is a function of the evidence that gives verdicts, none if the policy has no such rule. It
reads nothing else, so a verdict can be computed again from what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from noria.config import GateConfig
from noria.core.lazy import lazy
from noria.core.schema import Column
from noria.registry.facts import Verdict
from noria.registry.metrics import Metric
from noria.registry.scored import Sample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.float64]
else:
    np = lazy("numpy")

__all__ = ["Champion", "Evidence", "Gate"]


@dataclass(frozen=True, slots=True)
class Champion:
    """The model in production, scored on the candidate's rows now."""

    version: int
    score: Array
    threshold: float
    inputs: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the gates of one version may use.

    `metrics` are those that the pipeline or the policy names and that exist; `latencies_ms` times
    single-row predictions when it is called. `blocks` is the hour of each row, None without times.
    `inputs` are the columns that the candidate takes; a champion has its own. `size_bytes` is that of its bundle.
    """

    policy: GateConfig
    sample: Sample
    champion: Champion | None
    metrics: Mapping[str, Metric]
    slices: Sequence[str]
    blocks: npt.NDArray[np.int64] | None
    latencies_ms: Callable[[], Sequence[float]]
    inputs: tuple[Column, ...] = ()
    size_bytes: int | None = None


Gate = Callable[[Evidence], Sequence[Verdict]]
"""One kind of gate. It may raise: a gate that crashes counts as a no."""
