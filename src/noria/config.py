"""All settings of a project: noria.toml, then the environment, then arguments.

The file is the only configuration. Every key has one place in the dataclasses below, so an
unknown key is an error that names the nearest valid one, and nothing is ignored. Relative paths
are relative to the folder of noria.toml. Environment variables: NORIA_DATABASE, NORIA_OBJECTS,
NORIA_TOKEN, NORIA_HOST, NORIA_PORT, NORIA_ACTOR, NORIA_CLOCK.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from noria.core.clock import duration
from noria.core.consent import need
from noria.core.errors import ConfigError, NotAProject
from noria.core.size import size_bytes
from noria.identities import AccessConfig, require_sound
from noria.policies import (
    BehaviourConfig,
    ClientsConfig,
    DeployConfig,
    FairnessRule,
    GateConfig,
    GateRule,
    LabelsConfig,
    ModelConfig,
    MonitorConfig,
    RetrainConfig,
    RetrainLimits,
)

__all__ = [
    "AccessConfig",
    "BehaviourConfig",
    "ClientsConfig",
    "CostConfig",
    "DataConfig",
    "DeployConfig",
    "EnvironmentConfig",
    "FairnessRule",
    "GateConfig",
    "GateRule",
    "LabelsConfig",
    "ModelConfig",
    "MonitorConfig",
    "Project",
    "RemoteConfig",
    "ReproduceConfig",
    "RetrainConfig",
    "RetrainLimits",
    "RunConfig",
    "ScheduleConfig",
    "ServerConfig",
    "StoreConfig",
    "WebhooksConfig",
    "find_project",
    "load_project",
    "parse_project",
]

T = TypeVar("T")
CONFIG_NAME = "noria.toml"
_TABLES = ("project", "access", "data", "env", "model", "remote", "reproduce", "run", "schedule", "server", "store",
           "webhooks")  # fmt: skip
_DURATIONS = frozenset({"approve_within", "cooldown", "deadline", "delay", "every", "fresh", "grace", "read_timeout"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """`[data.NAME]`: where a data set comes from and what guards it."""

    source: str = ""
    checks: str = ""
    fresh: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """`[server]`: address and limits. A host that is not loopback needs a token.

    `max_body_bytes`, `max_queue_rows` and `max_batch_rows` bound what one server holds; `max_scheduled`
    is how many scheduled runs one `noria up` does at once. `read_timeout` is how long a request that has
    begun may keep silent.
    """

    host: str = "127.0.0.1"
    port: int = 4400
    token: str = ""
    max_body_bytes: int = 8 * 1024 * 1024
    max_queue_rows: int = 4096
    max_batch_rows: int = 256
    max_scheduled: int = 2
    read_timeout: str = "30s"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """`[store]`: the database URL and the object store URL; empty means inside `.noria/`.

    `cache` bounds what the local copies of objects in `.noria/cache` may hold together, such as "5GB".
    """

    database: str = ""
    objects: str = ""
    cache: str = "20GB"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentConfig:
    """`[env.NAME]`: a remote Noria server."""

    server: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConfig:
    """`[remote.NAME]`: where versions of data sets are pushed to: a folder, or `s3://bucket/prefix`.

    `endpoint` is the address of a server that speaks S3 and is not Amazon's. The remote that is the
    `default` is meant when none is named; a single remote always is. Credentials never stand here.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceConfig:
    """`[reproduce]`: `tolerance` maps a step to how far its numbers may be from those of the run.

    It goes before what the step itself declares. |a - b| <= tolerance * max(1, |a|, |b|).
    """

    tolerance: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostConfig:
    """`[run.cost]`: what a run is estimated to use and to cost. Prices of 0 are not known: then no cost is told.

    Energy is the sum of processor seconds times `core_watts`, held memory times `memory_watts_per_gib`
    and device seconds times `gpu_watts`, times `overhead` (cooling and conversion). Source of the
    defaults: Cloud Carbon Footprint's methodology (3.5 W a busy virtual core, 0.392 W a gigabyte,
    overhead 1.135), and 300 W for a data centre's accelerator. Prices are in `currency`.
    """

    core_watts: float = 3.5
    memory_watts_per_gib: float = 0.392
    gpu_watts: float = 300.0
    overhead: float = 1.135
    per_kwh: float = 0.0
    per_core_hour: float = 0.0
    per_gib_hour: float = 0.0
    per_gpu_hour: float = 0.0
    currency: str = "EUR"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """`[run]`: how pipelines are executed; none of it changes a result or a cache key.

    `executor` is "auto", "inline", "pool" or another that is installed; `on_failure` is "stop" (a
    failure ends what runs beside it) or "finish". `address` is where the executor's cluster is, for one
    that has a cluster; "" is one of its own, on this machine. `workers` steps run at once at most (0: as many as
    there are cores), and `window` items of one mapped step are under way (0: four for each worker).
    `grace` is how long steps may take to save what they have when the machine is needed. `nice`, 0 to 19, is how
    far the trainer of `noria up` stands back for what answers: at 10 a tenth of a core where both want it.
    """

    executor: str = "auto"
    address: str = ""
    on_failure: str = "stop"
    workers: int = 0
    window: int = 0
    grace: str = "8s"
    nice: int = 10
    cost: CostConfig = field(default_factory=CostConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """`[schedule.NAME]`: when something is done by itself, what, and what happens to a tick that comes late.

    One of `cron` (five fields, or six with seconds first) and `every` (a duration, counted from `start`,
    by default 1970-01-01 UTC). `do` items: "run", "data add NAME", "data check NAME", "data watch". Texts
    of `params` may hold {date}, {due}, {start}, {end} and {partition}. `catch_up` is "latest", "all" or
    "none", `overlap` "skip", "queue" or "allow"; `grace` is how late counts as on time.
    """

    cron: str = ""
    every: str = ""
    start: str = ""
    timezone: str = "UTC"
    do: tuple[str, ...] = ("run",)
    params: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    partitions: tuple[str, ...] = ()
    catch_up: str = "latest"
    overlap: str = "skip"
    grace: str = "5m"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhooksConfig:
    """`[webhooks]`: whom the server may call when a webhook says so; only an admin makes webhooks.

    `schemes` are those of URLs. `private` names hosts, addresses and networks that may be called although they are
    not on the internet, such as "hooks.internal" or "10.0.0.0/8". `hosts`, if any, are the only ones that may be
    called.
    """

    schemes: tuple[str, ...] = ("https",)
    private: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Everything noria.toml says. `root` is its folder; `clock` is "wall" or "events"."""

    name: str
    root: Path = Path()
    pipeline: str = "pipeline.py"
    clock: str = "wall"
    seed: int = 0
    data: Mapping[str, DataConfig] = field(default_factory=dict)
    models: Mapping[str, ModelConfig] = field(default_factory=dict)
    server: ServerConfig = field(default_factory=ServerConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    run: RunConfig = field(default_factory=RunConfig)
    remotes: Mapping[str, RemoteConfig] = field(default_factory=dict)
    schedules: Mapping[str, ScheduleConfig] = field(default_factory=dict)
    environments: Mapping[str, EnvironmentConfig] = field(default_factory=dict)
    reproduce: ReproduceConfig = field(default_factory=ReproduceConfig)
    webhooks: WebhooksConfig = field(default_factory=WebhooksConfig)
    access: AccessConfig = field(default_factory=AccessConfig)

    @property
    def state(self) -> Path:
        """The folder of Noria's own state."""
        return self.root / ".noria"

    def model(self, name: str) -> ModelConfig:
        """The policy of a model; the defaults where noria.toml says nothing of it."""
        return self.models.get(name, ModelConfig())


ENVIRONMENT = "the environment"
"""Where a setting is wrong that a variable gave."""


def find_project(start: Path) -> Path:
    """The folder of the nearest noria.toml at `start` or above. Raises: NotAProject."""
    folder = start.resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / CONFIG_NAME).is_file():
            return candidate
    raise NotAProject(
        f"there is no {CONFIG_NAME} in {folder} or above it",
        hint="noria init NAME makes a project, or cd into one; for data alone a noria.toml with [project] name will do",
    )


def load_project(root: Path, *, environment: Mapping[str, str] | None = None) -> Project:
    """Read `root`/noria.toml and the environment. Raises: ConfigError naming the line or the key."""
    path = root / CONFIG_NAME
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark before the text
        document = tomllib.loads(text)
    except FileNotFoundError as error:
        raise NotAProject(f"{path} does not exist", hint="noria init NAME makes a project") from error
    except UnicodeDecodeError as error:
        raise ConfigError("the file is not UTF-8 text", where=str(path)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the file is not valid TOML: {error}", where=str(path)) from error
    return parse_project(document, root=root, environment=os.environ if environment is None else environment)


def parse_project(document: Mapping[str, Any], *, root: Path, environment: Mapping[str, str]) -> Project:
    """The project that a parsed noria.toml and an environment describe. Raises: ConfigError."""
    where = str(root / CONFIG_NAME)
    for key in document:
        if key not in _TABLES:
            raise _unknown(key, _TABLES, where, "")
    head = _table(document.get("project", {}), where, "project")
    scalars = ("name", "pipeline", "clock", "seed")
    for key in head:
        if key not in scalars:
            raise _unknown(key, scalars, where, "project")
    if not isinstance(head.get("name"), str) or not head["name"]:
        hint = f'write [project] and under it name = "{Path(where).parent.name or "team"}"; no other key is needed'
        raise ConfigError('[project] needs name = "…"', where=where, hint=hint)
    server = dict(_table(document.get("server", {}), where, "server"))
    store = dict(_table(document.get("store", {}), where, "store"))
    _from_environment(environment, server, store)
    return Project(
        name=head["name"],
        root=root,
        pipeline=_value(str, head.get("pipeline", "pipeline.py"), where, "project.pipeline"),
        clock=_clock(environment, head, where),
        seed=_value(int, head.get("seed", 0), where, "project.seed"),
        data=_named(DataConfig, document.get("data", {}), where, "data"),
        models={
            name: _model(value, where, f"model.{name}")
            for name, value in _table(document.get("model", {}), where, "model").items()
        },
        server=_struct(ServerConfig, server, where, "server"),
        store=_struct(StoreConfig, store, where, "store"),
        run=_run(document.get("run", {}), where),
        remotes=_remotes(document.get("remote", {}), where),
        schedules={
            name: _schedule(value, where, f"schedule.{name}")
            for name, value in _table(document.get("schedule", {}), where, "schedule").items()
        },
        environments=_named(EnvironmentConfig, document.get("env", {}), where, "env"),
        reproduce=_reproduce(document.get("reproduce", {}), where),
        webhooks=_webhooks(document.get("webhooks", {}), where),
        access=_access(document.get("access", {}), where),
    )


def _access(value: Any, where: str) -> AccessConfig:
    found = _struct(AccessConfig, value, where, "access")
    try:
        require_sound(found)
    except ValueError as error:
        message, *hint = error.args
        raise ConfigError(message, where=where, hint="".join(hint)) from error
    return found


def _webhooks(value: Any, where: str) -> WebhooksConfig:
    found = _struct(WebhooksConfig, value, where, "webhooks")
    for scheme in found.schemes:
        _one_of(scheme, ("https", "http"), where, "webhooks.schemes")
    return found


def _reproduce(value: Any, where: str) -> ReproduceConfig:
    found = _struct(ReproduceConfig, value, where, "reproduce")
    for step, tolerance in found.tolerance.items():
        if not 0 <= tolerance < 1:
            raise ConfigError(f"reproduce.tolerance.{step} is {tolerance}, not a number from 0 to below 1", where=where)
    return found


def _from_environment(environment: Mapping[str, str], server: dict[str, Any], store: dict[str, Any]) -> None:
    for variable, table, key in (
        ("NORIA_DATABASE", store, "database"),
        ("NORIA_OBJECTS", store, "objects"),
        ("NORIA_TOKEN", server, "token"),
        ("NORIA_HOST", server, "host"),
    ):
        if environment.get(variable):
            table[key] = environment[variable]
    if environment.get("NORIA_PORT"):
        try:
            server["port"] = int(environment["NORIA_PORT"])
        except ValueError as error:
            given = environment["NORIA_PORT"][:40]
            raise ConfigError(f"NORIA_PORT={given} is not a number", where=ENVIRONMENT) from error


def _run(value: Any, where: str) -> RunConfig:
    found = _struct(RunConfig, value, where, "run")
    if found.on_failure not in ("stop", "finish"):
        raise ConfigError(f'run.on_failure is "{found.on_failure}", not "stop" or "finish"', where=where)
    for name in ("workers", "window"):
        if getattr(found, name) < 0:
            raise ConfigError(f"run.{name} is {getattr(found, name)}, less than none", where=where)
    if not 0 <= found.nice <= 19:
        raise ConfigError(f"run.nice is {found.nice}, not from 0 to 19", where=where)
    for field_ in dataclasses.fields(CostConfig):
        amount = getattr(found.cost, field_.name)
        if not isinstance(amount, str) and amount < 0:
            raise ConfigError(f"run.cost.{field_.name} is {amount:g}, less than nothing", where=where)
    return found


def _remotes(value: Any, where: str) -> dict[str, RemoteConfig]:
    """Every remote; at most one may be the default."""
    for name, table in _table(value, where, "remote").items():
        if not _table(table, where, f"remote.{name}").get("url"):
            raise ConfigError(
                f"[remote.{name}] has no url", where=where, hint='url = "s3://BUCKET/PREFIX", or a folder'
            )
    found = _named(RemoteConfig, value, where, "remote")
    chosen = [name for name, remote in found.items() if remote.default]
    if len(chosen) > 1:
        raise ConfigError(f"{len(chosen)} remotes are the default: {', '.join(chosen)}", where=where)
    return found


def _schedule(value: Any, where: str, path: str) -> ScheduleConfig:
    """One schedule; `do` may be a single text, and the values of `params` are plain ones of any kind."""
    table = dict(_table(value, where, path))
    params = dict(_table(table.pop("params", {}), where, f"{path}.params"))
    for name, item in params.items():
        if not isinstance(item, str | int | float) or (isinstance(item, float) and not math.isfinite(item)):
            raise ConfigError(f"{path}.params.{name} must be a text, a finite number, true or false", where=where)
    if isinstance(table.get("do"), str):
        table["do"] = [table["do"]]
    return dataclasses.replace(_struct(ScheduleConfig, table, where, path), params=params)


def _model(value: Any, where: str, path: str) -> ModelConfig:
    table = dict(_table(value, where, path))
    gate = _gate(table.pop("gate", {}), where, f"{path}.gate")
    rest = _struct(ModelConfig, table, where, path)
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
    _one_of(rest.clients.trust, ("safe", "listed", "any"), where, f"{path}.clients.trust")
    _one_of(rest.clients.task, ("", "binary", "regression"), where, f"{path}.clients.task")
    return dataclasses.replace(rest, gate=gate)


def _one_of(value: str, known: tuple[str, ...], where: str, path: str) -> None:
    if value not in known:
        raise ConfigError(f'{path} is "{value}"', where=where, hint=f"one of: {', '.join(filter(None, known))}")


def _gate(value: Any, where: str, path: str) -> GateConfig:
    """Metric rules share the table with the named rules; what is a table with rule keys is a metric."""
    table = dict(_table(value, where, path))
    named = {f.name for f in dataclasses.fields(GateConfig)} - {"metrics"}
    rules = {key: table.pop(key) for key in list(table) if key not in named}
    for key, rule in rules.items():
        if not isinstance(rule, Mapping):
            raise _unknown(key, tuple(named), where, path, "a metric's rule is a table, such as { min = 0.7 }")
    slices = {
        metric: _struct_numbers(rule, where, f"{path}.slices.{metric}", ("max_drop", "min_rows"))
        for metric, rule in _table(table.pop("slices", {}), where, f"{path}.slices").items()
    }
    fairness = _fairness(table.pop("fairness"), where, f"{path}.fairness") if "fairness" in table else None
    rest = _struct(GateConfig, table, where, path)
    if rest.inputs not in ("same", "any"):
        raise ConfigError(f'{path}.inputs is "{rest.inputs}", not "same" or "any"', where=where)
    metrics = {key: _rule(rule, where, f"{path}.{key}") for key, rule in rules.items()}
    return dataclasses.replace(rest, metrics=metrics, slices=slices, fairness=fairness)


def _fairness(value: Any, where: str, path: str) -> FairnessRule:
    table = dict(_table(value, where, path))
    if isinstance(table.get("group"), str):
        table["group"] = [table["group"]]
    rule = _struct(FairnessRule, table, where, path)
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


def _rule(value: Any, where: str, path: str) -> GateRule:
    rule = _struct(GateRule, value, where, path)
    if rule.champion not in ("", "not worse", "better"):
        raise ConfigError(f'{path}.champion is "{rule.champion}", not "not worse" or "better"', where=where)
    if rule.min is None and rule.max is None and not rule.champion:
        raise ConfigError(f"{path} states no rule", where=where, hint='give min, max or champion = "not worse"')
    return rule


def _struct_numbers(value: Any, where: str, path: str, known: tuple[str, ...]) -> dict[str, float]:
    table = _table(value, where, path)
    for key in table:
        if key not in known:
            raise _unknown(key, known, where, path)
    return {key: _value(float, item, where, f"{path}.{key}") for key, item in table.items()}


def _named(kind: type[Any], value: Any, where: str, path: str) -> dict[str, Any]:
    return {name: _struct(kind, item, where, f"{path}.{name}") for name, item in _table(value, where, path).items()}


def _struct(kind: type[T], value: Any, where: str, path: str) -> T:
    table = _table(value, where, path)
    hints = typing.get_type_hints(kind)
    for key in table:
        if key not in hints:
            raise _unknown(key, tuple(hints), where, path)
    return kind(**{key: _value(hints[key], item, where, f"{path}.{key}") for key, item in table.items()})


def _value(expected: Any, value: Any, where: str, path: str) -> Any:
    """Check one value against a field's type; the only types in use are those handled here."""
    origin = typing.get_origin(expected)
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return _struct(expected, value, where, path)
    if origin in (typing.Union, types.UnionType):
        return _value(typing.get_args(expected)[0], value, where, path)
    if origin is tuple and dataclasses.is_dataclass(typing.get_args(expected)[0]):
        if not isinstance(value, list):
            raise ConfigError(f"{path} must be a list of tables, each under [[{path}]]", where=where)
        return tuple(_struct(typing.get_args(expected)[0], each, where, path) for each in value)
    if origin is tuple:
        if isinstance(value, str) and ".match." in path:  # one pattern stands for a list of one
            value = [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{path} must be a list of texts", where=where)
        return tuple(value)
    if origin is not None:
        kind = typing.get_args(expected)[1]
        return {key: _value(kind, item, where, f"{path}.{key}") for key, item in _table(value, where, path).items()}
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ConfigError(f"{path} must be {_word(expected)}, not {value!r}", where=where)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} must be a finite number, not {value}", where=where)
    if value and path.rpartition(".")[2] in _DURATIONS and isinstance(value, str):
        try:
            duration(value)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}", where=where) from error
        if path == "server.read_timeout" and not duration(value):
            raise ConfigError(f"{path} must be longer than nothing", where=where)
    if path == "store.cache":
        try:
            size_bytes(value)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}", where=where) from error
    return value


def _clock(environment: Mapping[str, str], head: Mapping[str, Any], where: str) -> str:
    given = environment.get("NORIA_CLOCK")
    value = given or head.get("clock", "wall")
    if value not in ("wall", "events"):
        key, place = ("NORIA_CLOCK", ENVIRONMENT) if given else ("project.clock", where)
        raise ConfigError(f'{key} is "{value}", not "wall" or "events"', where=place)
    return str(value)


def _table(value: Any, where: str, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path} must be a table, not {value!r}", where=where)
    return value


def _word(kind: Any) -> str:
    return {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}.get(kind, str(kind))


def _unknown(key: str, known: tuple[str, ...], where: str, path: str, hint: str = "") -> ConfigError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    place = f"[{path}] " if path else ""
    return ConfigError(
        f"{place}has no key {key!r}" if place else f"there is no table [{key}]",
        where=where,
        hint=f"did you mean {near[0]!r}?" if near else hint or f"valid keys: {', '.join(sorted(known))}",
    )
