"""The policy of a model, as noria.toml states it under `[model.NAME]`. `config.py` reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "BehaviourConfig",
    "ClientsConfig",
    "DeployConfig",
    "FairnessRule",
    "GateConfig",
    "GateRule",
    "LabelsConfig",
    "ModelConfig",
    "MonitorConfig",
    "RetrainConfig",
    "RetrainLimits",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRule:
    """One metric's rule: an absolute floor or ceiling, and how it must compare with the champion.

    `champion` is "" (not compared), "not worse" (the interval of the loss excludes more than
    `margin`), or "better" (the interval of the gain excludes zero).
    """

    min: float | None = None
    max: float | None = None
    champion: str = ""
    margin: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessRule:
    """How far the rates of the groups of a column may lie apart: at least a ratio, or at most a difference.

    `group` are columns of the holdout. A group counts where its rate is a share of `min_rows` rows. With `proven`
    the worse end of the interval must keep the limit too.
    """

    group: tuple[str, ...] = ()
    demographic_parity: float | None = None
    equal_opportunity: float | None = None
    equalized_odds: float | None = None
    demographic_parity_difference: float | None = None
    equal_opportunity_difference: float | None = None
    equalized_odds_difference: float | None = None
    min_rows: int = 100
    proven: bool = False

    def limits(self) -> dict[str, float]:
        """The measures that have a limit."""
        fields = (each.name for each in dataclasses.fields(self) if each.name not in ("group", "min_rows", "proven"))
        return {name: getattr(self, name) for name in fields if getattr(self, name) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """`[model.NAME.gate]`: metric rules by name, and the rules that are not about one metric.

    `size_mb` is of the bundle, a MB a million bytes. `slices` maps a metric to `max_drop` against the champion, per
    level of each declared slice.
    `inputs` is "same" (a version that refuses requests which the champion takes does not pass) or "any".
    """

    metrics: Mapping[str, GateRule] = field(default_factory=dict)
    slices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fairness: FairnessRule | None = None
    latency_p99_ms: float | None = None
    size_mb: float | None = None
    level: float = 0.95
    inputs: str = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployConfig:
    """`[model.NAME.deploy]`: who must approve, the path of a rollout, and what aborts it.

    `path` items: "shadow 1h", "shadow 2000 requests", "canary 5% 30m", "canary 5% 2000 requests", "100%".
    `abort` keys: errors (share), p99_ms (milliseconds), invalid (share of outputs out of range),
    shadow_flips (share of answers that differ in class). `aliases` go to a version as its gates allow,
    where the model has rules.
    """

    approve: tuple[str, ...] = ()
    approve_within: str = "30d"
    path: tuple[str, ...] = ("shadow 200 requests", "canary 5% 200 requests", "canary 25% 500 requests", "100%")
    abort: Mapping[str, float] = field(default_factory=dict)
    deadline: str = "24h"
    aliases: tuple[str, ...] = ("champion", "production")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsConfig:
    """How long outcomes take to be complete. They come to the feedback endpoint."""

    delay: str = "0s"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorConfig:
    """`[model.NAME.monitor]`: window is "day", "week", "month" or a duration such as "7d"."""

    window: str = "week"
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    false_alarms: str = "1 per 365d"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainLimits:
    """What the loop may spend. Times are event time under an event clock."""

    cooldown: str = "0s"
    per_week: int = 7
    budget_per_week: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainConfig:
    """`[model.NAME.retrain]`: when to train a challenger, and what a better model is worth.

    `when` items: "drift", "quality", "new labels 20000", "age 90d". A challenger is promoted only
    when the lower bound of its gain in log loss, times `value_per_log_loss` (money per prediction
    and unit of log loss), times the expected predictions until the next review, is more than
    `cost` (of the retrain and rollout) plus `risk`. `expected_requests` 0 takes the last window's.
    """

    when: tuple[str, ...] = ()
    limits: RetrainLimits = field(default_factory=RetrainLimits)
    value_per_log_loss: float = 1.0
    cost: float = 0.0
    risk: float = 0.0
    expected_requests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourConfig:
    """`[model.NAME.behaviour]`: what `noria test` asks of a model beside what its schema gives.

    `invariant` are inputs that may not matter; `direction` maps an input to "up" or "down": the way in
    which more of it may push the score.
    """

    invariant: tuple[str, ...] = ()
    direction: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsConfig:
    """`[model.NAME.clients]`: how a model is judged that another tool's client logged, such as MLflow's.

    `holdout` is a data set of the project, `NAME` (its newest version) or `NAME@VERSION`, and `label` its
    outcome, by default the data set's own; without a holdout it is that of the newest run of the pipeline.
    `trust` is which files may be loaded: "safe" (formats that name no code: XGBoost's, LightGBM's, skops as
    far as skops itself trusts it), "listed" (also pickles and skops that name nothing but what fitted models
    of these libraries are made of) or "any" (whatever is in them runs, in a process of its own). With
    `must_tell` a version whose run did not say what it was trained on does not pass. `task` "binary" says
    that a model of no known library answers with a probability. `metrics` are measured, with slices.
    """

    holdout: str = ""
    label: str = ""
    trust: str = "safe"
    must_tell: bool = False
    task: str = ""
    metrics: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """`[model.NAME]`: the policy of one model. Its author cannot weaken it in pipeline.py.

    `allow_pickle` lets it be kept in forms that run code when they are loaded, and loaded from them in a process
    of its own; without it only formats that name no code are.
    """

    allow_pickle: bool = False
    gate: GateConfig = field(default_factory=GateConfig)
    deploy: DeployConfig = field(default_factory=DeployConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    clients: ClientsConfig = field(default_factory=ClientsConfig)
