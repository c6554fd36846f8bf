"""What a gate is given: the policy, the candidate's scores, the champion's on the same rows, and a stopwatch.

A gate is a function of the evidence that gives verdicts, none if the policy has no such rule. It
reads nothing else, so a verdict can be computed again from what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from noria.config import BehaviourConfig, GateConfig
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.schema import Column
from noria.packaging.predictor import Predictor
from noria.registry.facts import Verdict
from noria.registry.metrics import Metric
from noria.registry.scored import HasRoles, Sample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.float64]
else:
    np = lazy("numpy")

__all__ = ["Champion", "Differs", "Evidence", "Gate", "Known", "Recent"]


@frozen
class Champion:
    """The model in production, scored on the candidate's rows now."""

    version: int
    score: Array
    threshold: float
    inputs: tuple[Column, ...] = ()


@frozen(kw_only=True)
class Differs:
    """An input whose values in production are not those that the model learned from.

    `effect` is the Kolmogorov distance or the total variation and `floor` what is ordinary; both None, with a
    `reason`, where the two could not be compared.
    """

    column: str
    effect: float | None
    floor: float | None
    reason: str


@frozen(kw_only=True)
class Recent:
    """What production received of late beside what a model was trained on.

    `is_live` is False where nothing of the model has ever answered. `rows` are requests in [start, end), UTC.
    """

    is_live: bool
    rows: int = 0
    start: str = ""
    end: str = ""
    source: str = ""
    compared: int = 0
    differing: tuple[Differs, ...] = ()


@frozen(kw_only=True)
class Known:
    """What only the caller can find out of a version that is judged, each asked where a rule needs it.

    `recent` compares what the model of a predictor learned from with what production receives; `spent_s` gives the
    processor seconds of its training, NaN where they are not on record.
    """

    recent: Callable[[Predictor], Recent] | None = None
    spent_s: Callable[[], float] | None = None


@frozen
class Evidence:
    """Everything that the gates of one version may use.

    `metrics` are those that the pipeline or the policy names and that exist; `latencies_ms` times
    single-row predictions when it is called. `blocks` is the hour of each row, None without times.
    `inputs` are the columns that the candidate takes; a champion has its own. `size_bytes` is that of its bundle.
    `predictor` asks the candidate, `declared` is what noria.toml says of its behaviour. What only the caller knows is
    None if it does not: `recent` compares production with the training data, `spent_s` gives the processor seconds
    of training, `work_s` those of single-row predictions, each.
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
    predictor: Predictor | None = None
    roles: HasRoles | None = None
    declared: BehaviourConfig | None = None
    recent: Callable[[], Recent] | None = None
    spent_s: Callable[[], float] | None = None
    work_s: Callable[[], Sequence[float]] | None = None


Gate = Callable[[Evidence], Sequence[Verdict]]
"""One kind of gate. It may raise: a gate that crashes counts as a no."""
