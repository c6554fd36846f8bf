"""The policy of a model, as noria.toml states it under `[model.NAME]`, and how it is read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from noria.core.clock import duration
from noria.core.consent import need
from noria.core.errors import ConfigError
from noria.core.frozen import frozen
from noria.core.settings import numbers, require_one_of, struct, table_of, unknown_key

__all__ = [
    "MIN_COMPARED_ROWS",
    "BehaviourConfig",
    "CardConfig",
    "ClientsConfig",
    "CostRule",
    "DeployConfig",
    "DriftRule",
    "FairnessRule",
    "GateConfig",
    "GateRule",
    "LabelsConfig",
    "ModelConfig",
    "MonitorConfig",
    "RetrainConfig",
    "RetrainLimits",
    "model_of",
]

MIN_COMPARED_ROWS = 50
"""Fewer requests than these are compared with nothing."""


@frozen(kw_only=True)
class GateRule:
    """One metric's rule: an absolute floor or ceiling, and how it must compare with the champion.

    `champion` is "" (not compared), "not worse" (the interval of the loss excludes more than
    `margin`), or "better" (the interval of the gain excludes zero).
    """

    min: float | None = None
    max: float | None = None
    champion: str = ""
    margin: float = 0.0


@frozen(kw_only=True)
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


@frozen(kw_only=True)
class DriftRule:
    """How far the rows that a model learned from may be from what production receives.

    The requests of the last `window` (by default that of the monitor) are compared with the training data as
    monitoring compares them; at most `max_columns` inputs may differ, those of `ignore` do not count. Fewer than
    `min_rows` requests prove nothing.
    """

    window: str = ""
    max_columns: int = 0
    min_rows: int = 200
    ignore: tuple[str, ...] = ()


@frozen(kw_only=True)
class CostRule:
    """What a model may cost, in money: its training, and a million predictions, at a price of a core for an hour."""

    per_core_hour: float = 0.0
    training: float | None = None
    per_million: float | None = None


@frozen(kw_only=True)
class GateConfig:
    """`[model.NAME.gate]`: metric rules by name, and the rules that are not about one metric.

    `size_mb` is of the bundle, a MB a million bytes. `slices` maps a metric to `max_drop` against the champion, per
    level of each declared slice. With `behaviour` the model must behave as any must and as `[model.NAME.behaviour]`
    declares.
    `inputs` is "same" (a version that refuses requests which the champion takes does not pass) or "any".
    """

    metrics: Mapping[str, GateRule] = field(default_factory=dict)
    slices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fairness: FairnessRule | None = None
    drift: DriftRule | None = None
    cost: CostRule | None = None
    behaviour: bool = False
    latency_p99_ms: float | None = None
    size_mb: float | None = None
    level: float = 0.95
    inputs: str = "same"


@frozen(kw_only=True)
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


@frozen(kw_only=True)
class LabelsConfig:
    """How long outcomes take to be complete. They come to the feedback endpoint."""

    delay: str = "0s"


@frozen(kw_only=True)
class MonitorConfig:
    """`[model.NAME.monitor]`: window is "day", "week", "month" or a duration such as "7d"."""

    window: str = "week"
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    false_alarms: str = "1 per 365d"


@frozen(kw_only=True)
class RetrainLimits:
    """What the loop may spend. Times are event time under an event clock."""

    cooldown: str = "0s"
    per_week: int = 7
    budget_per_week: float | None = None


@frozen(kw_only=True)
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


@frozen(kw_only=True)
class BehaviourConfig:
    """`[model.NAME.behaviour]`: what `noria test` asks of a model beside what its schema gives.

    `invariant` are inputs that may not matter; `direction` maps an input to "up" or "down": the way in
    which more of it may push the score.
    """

    invariant: tuple[str, ...] = ()
    direction: Mapping[str, str] = field(default_factory=dict)


@frozen(kw_only=True)
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


@frozen(kw_only=True)
class CardConfig:
    """`[model.NAME.card]`: what only people know of a model, for its card. Nothing of it decides anything.

    `units` maps an input, or `score`, to what it is counted in. `not_for` and `limits` are sentences.
    """

    owners: tuple[str, ...] = ()
    intended_use: str = ""
    not_for: tuple[str, ...] = ()
    licence: str = ""
    limits: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)


@frozen(kw_only=True)
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
    card: CardConfig = field(default_factory=CardConfig)


def model_of(value: Any, where: str, path: str) -> ModelConfig:
    """The policy that a table `[model.NAME]` states. Raises: ConfigError."""
    table = dict(table_of(value, where, path))
    gate = _gate(table.pop("gate", {}), where, f"{path}.gate")
    rest = struct(ModelConfig, table, where, path)
    for column, way in rest.behaviour.direction.items():
        if way not in ("up", "down"):
            raise ConfigError(f'{path}.behaviour.direction.{column} is "{way}", not "up" or "down"', where=where)
    try:
        list(map(need, rest.deploy.approve))
    except ValueError as error:
        raise ConfigError(f"{path}.deploy.approve: {error}", where=where) from error
    limits = rest.retrain.limits
    for name, number in (("per_week", limits.per_week), ("budget_per_week", limits.budget_per_week)):
        if number is not None and number < 0:
            raise ConfigError(f"{path}.retrain.limits.{name} must not be below 0, not {number}", where=where)
    require_one_of(rest.clients.trust, ("safe", "listed", "any"), where, f"{path}.clients.trust")
    require_one_of(rest.clients.task, ("", "binary", "regression"), where, f"{path}.clients.task")
    return dataclasses.replace(rest, gate=gate)


def _gate(value: Any, where: str, path: str) -> GateConfig:
    """Metric rules share the table with the named rules; what is a table with rule keys is a metric."""
    table = dict(table_of(value, where, path))
    named = {f.name for f in dataclasses.fields(GateConfig)} - {"metrics"}
    rules = {key: table.pop(key) for key in list(table) if key not in named}
    for key, rule in rules.items():
        if not isinstance(rule, Mapping):
            raise unknown_key(key, tuple(named), where, path, "a metric's rule is a table, such as { min = 0.7 }")
    slices = {
        metric: numbers(rule, where, f"{path}.slices.{metric}", ("max_drop", "min_rows"))
        for metric, rule in table_of(table.pop("slices", {}), where, f"{path}.slices").items()
    }
    readers: dict[str, Callable[[Any, str, str], Any]] = {"fairness": _fairness, "drift": _drift, "cost": _cost}
    found: dict[str, Any] = {
        name: read(table.pop(name), where, f"{path}.{name}") for name, read in readers.items() if name in table
    }
    rest = struct(GateConfig, table, where, path)
    if rest.inputs not in ("same", "any"):
        raise ConfigError(f'{path}.inputs is "{rest.inputs}", not "same" or "any"', where=where)
    if not 0 < rest.level < 1:
        raise ConfigError(f"{path}.level must be between 0 and 1, not {rest.level:g}", where=where, hint="0.95 is 95 %")
    for name, limit in (("latency_p99_ms", rest.latency_p99_ms), ("size_mb", rest.size_mb)):
        if limit is not None and limit <= 0:
            raise ConfigError(f"{path}.{name} must be more than 0, not {limit:g}", where=where)
    metrics = {key: _rule(rule, where, f"{path}.{key}") for key, rule in rules.items()}
    return dataclasses.replace(rest, metrics=metrics, slices=slices, **found)


def _fairness(value: Any, where: str, path: str) -> FairnessRule:
    table = dict(table_of(value, where, path))
    if isinstance(table.get("group"), str):
        table["group"] = [table["group"]]
    rule = struct(FairnessRule, table, where, path)
    if not rule.group or not all(rule.group):
        raise ConfigError(f"{path} names no group", where=where, hint='group = "COLUMN" of the holdout')
    if not rule.limits():
        raise ConfigError(f"{path} states no limit", where=where, hint="such as equal_opportunity = 0.8")
    for name, limit in rule.limits().items():
        if not 0 <= limit <= 1:
            raise ConfigError(f"{path}.{name} must be between 0 and 1, not {limit:g}", where=where)
    if rule.min_rows < 1:
        raise ConfigError(f"{path}.min_rows must be at least 1, not {rule.min_rows}", where=where)
    return rule


def _drift(value: Any, where: str, path: str) -> DriftRule:
    rule = struct(DriftRule, value, where, path)
    if rule.window:
        try:
            length = duration(rule.window)
        except ValueError as error:
            raise ConfigError(f"{path}.window: {error}", where=where) from error
        if not length:
            raise ConfigError(f"{path}.window must be longer than nothing", where=where, hint='such as "28d"')
    if rule.max_columns < 0:
        raise ConfigError(f"{path}.max_columns must not be below 0, not {rule.max_columns}", where=where)
    if rule.min_rows < MIN_COMPARED_ROWS:
        raise ConfigError(f"{path}.min_rows must be at least {MIN_COMPARED_ROWS}, not {rule.min_rows}", where=where)
    return rule


def _cost(value: Any, where: str, path: str) -> CostRule:
    rule = struct(CostRule, value, where, path)
    if not 0 < rule.per_core_hour < math.inf:
        raise ConfigError(f"{path} states no price", where=where, hint="per_core_hour = 0.04, in your currency")
    limits = [limit for limit in (rule.training, rule.per_million) if limit is not None]
    if not limits:
        raise ConfigError(f"{path} states no limit", where=where, hint="training = 5.0 or per_million = 0.5")
    if not all(0 <= limit < math.inf for limit in limits):
        raise ConfigError(f"{path}: a limit must be a finite number of at least 0", where=where)
    return rule


def _rule(value: Any, where: str, path: str) -> GateRule:
    rule = struct(GateRule, value, where, path)
    if rule.champion not in ("", "not worse", "better"):
        raise ConfigError(f'{path}.champion is "{rule.champion}", not "not worse" or "better"', where=where)
    if rule.min is None and rule.max is None and not rule.champion:
        raise ConfigError(f"{path} states no rule", where=where, hint='give min, max or champion = "not worse"')
    return rule
