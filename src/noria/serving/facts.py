"""What can happen to deployments, rollouts and logged predictions."""

from __future__ import annotations

from collections.abc import Mapping

from noria.core.fact import fact
from noria.core.frozen import frozen
from noria.core.identity import JSON

__all__ = [
    "FACTS",
    "Arm",
    "DeploymentChanged",
    "PredictionsSealed",
    "RolloutAdvanced",
    "RolloutFinished",
    "RolloutStarted",
    "SmokeFinished",
]


@frozen(kw_only=True)
class Arm:
    """A release and its share of the traffic, 0..1; the shares of a deployment sum to 1."""

    name: str
    release: int
    content: str
    weight: float


@fact("deployment.changed", subject="deployment/{environment}/{model}")
class DeploymentChanged:
    """The desired state: which releases answer, with which shares; `shadow` 0 means none.

    `seed` is hashed with the unit's key to choose the arm, so routing is sticky and replayable.
    `kept` are releases to hold warm for an instant way back.
    """

    model: str
    environment: str
    arms: tuple[Arm, ...]
    shadow: int
    seed: str
    kept: tuple[int, ...] = ()
    cause: str = ""


@fact("rollout.started", subject="deployment/{environment}/{model}")
class RolloutStarted:
    """A release began its way to production. `plan` is the resolved plan: steps, guards, levels."""

    rollout: str
    model: str
    environment: str
    before: int
    release: int
    plan: Mapping[str, JSON]


@fact("rollout.advanced", subject="deployment/{environment}/{model}")
class RolloutAdvanced:
    """A step of a rollout passed; `evidence` holds counts and e-values at that moment."""

    rollout: str
    model: str
    environment: str
    step: int
    evidence: Mapping[str, JSON]


@fact("rollout.finished", subject="deployment/{environment}/{model}")
class RolloutFinished:
    """A rollout ended: outcome is promoted, rolled back, or held."""

    rollout: str
    model: str
    environment: str
    release: int
    outcome: str
    reason: str
    evidence: Mapping[str, JSON]


@fact("smoke.finished", subject="model/{model}")
class SmokeFinished:
    """A release was loaded in a fresh process and asked its golden rows."""

    model: str
    release: int
    environment: str
    passed: bool
    rows: int
    seconds: float
    reason: str = ""


@fact("predictions.sealed", subject="deployment/{environment}/{model}")
class PredictionsSealed:
    """A segment of the prediction log became an object (Parquet, one row a prediction).

    `source` is the name of the log file it came from; ids and times bound the rows.
    """

    model: str
    environment: str
    segment: str
    source: str
    count: int
    first_id: str
    last_id: str
    event_min: str
    event_max: str
    releases: tuple[int, ...]


FACTS = (
    DeploymentChanged,
    RolloutStarted,
    RolloutAdvanced,
    RolloutFinished,
    SmokeFinished,
    PredictionsSealed,
)
