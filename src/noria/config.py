"""All settings of a project: noria.toml, then the environment, then arguments.

The file is the only configuration. Every key has one place in the dataclasses below, so an
unknown key is an error that names the nearest valid one, and nothing is ignored. Relative paths
are relative to the folder of noria.toml. Environment variables: NORIA_DATABASE, NORIA_OBJECTS,
NORIA_TOKEN, NORIA_HOST, NORIA_PORT, NORIA_ACTOR, NORIA_CLOCK, NORIA_SYSTEM_METRICS.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

from noria.core.errors import ConfigError, NotAProject
from noria.core.frozen import frozen
from noria.core.settings import named, require_one_of, struct, table_of, unknown_key, value_of
from noria.identities import AccessConfig, require_sound
from noria.policies import (
    BehaviourConfig,
    CardConfig,
    ClientsConfig,
    CostRule,
    DeployConfig,
    DriftRule,
    FairnessRule,
    GateConfig,
    GateRule,
    LabelsConfig,
    ModelConfig,
    MonitorConfig,
    RetrainConfig,
    RetrainLimits,
    model_of,
)

__all__ = [
    "AccessConfig",
    "BehaviourConfig",
    "CardConfig",
    "ClientsConfig",
    "CostConfig",
    "CostRule",
    "DataConfig",
    "DeployConfig",
    "DriftRule",
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


@frozen(kw_only=True)
class DataConfig:
    """`[data.NAME]`: where a data set comes from and what guards it."""

    source: str = ""
    checks: str = ""
    fresh: str = ""


@frozen(kw_only=True)
class ServerConfig:
    """`[server]`: address and limits. A host that is not loopback needs a token.

    `max_body_bytes`, `max_queue_rows` and `max_batch_rows` bound what one server holds; `max_scheduled`
    is how many scheduled runs one `noria up` does at once. `read_timeout` is how long a request that has
    begun may keep silent, `answer_timeout` how long a model in a process of its own may take. `realtime` is "auto"
    (the threads that answer come before everything else that shares the machine, where the system permits it) or
    "off". `artifacts` is "server" (files of clients go through the server) or "direct" (large ones go to and from the
    object store by signed addresses).
    """

    host: str = "127.0.0.1"
    port: int = 4400
    token: str = ""
    max_body_bytes: int = 8 * 1024 * 1024
    max_queue_rows: int = 4096
    max_batch_rows: int = 256
    max_scheduled: int = 2
    read_timeout: str = "30s"
    answer_timeout: str = "30s"
    realtime: str = "auto"
    artifacts: str = "server"


@frozen(kw_only=True)
class StoreConfig:
    """`[store]`: the database URL and the object store URL; empty means inside `.noria/`.

    `cache` bounds what the local copies of objects in `.noria/cache` may hold together, such as "5GB".
    """

    database: str = ""
    objects: str = ""
    cache: str = "20GB"


@frozen(kw_only=True)
class EnvironmentConfig:
    """`[env.NAME]`: a remote Noria server."""

    server: str = ""


@frozen(kw_only=True)
class RemoteConfig:
    """`[remote.NAME]`: where versions of data sets are pushed to: a folder, or `s3://bucket/prefix`.

    `endpoint` is the address of a server that speaks S3 and is not Amazon's. The remote that is the
    `default` is meant when none is named; a single remote always is. Credentials never stand here.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    default: bool = False


@frozen(kw_only=True)
class ReproduceConfig:
    """`[reproduce]`: `tolerance` says how far numbers may be from those of the run.

    It maps a step, a script, or a file, metric or model that a script makes, and goes before what the step itself
    declares. |a - b| <= tolerance * max(1, |a|, |b|). `printed` says whether what a script prints counts as a
    result; else a difference in it is told and changes no verdict.
    """

    tolerance: Mapping[str, float] = field(default_factory=dict)
    printed: bool = False


@frozen(kw_only=True)
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


@frozen(kw_only=True)
class RunConfig:
    """`[run]`: how pipelines are executed; none of it changes a result or a cache key.

    `executor` is "auto", "inline", "pool" or another that is installed; `on_failure` is "stop" (a
    failure ends what runs beside it) or "finish". `address` is where the executor's cluster is, for one
    that has a cluster; "" is one of its own, on this machine. `workers` steps run at once at most (0: as many as
    there are cores), and `window` items of one mapped step are under way (0: four for each worker).
    `system_metrics` says whether runs that are recorded, or carried out, are sampled for what they take of the machine.
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
    system_metrics: bool = True
    cost: CostConfig = field(default_factory=CostConfig)


@frozen(kw_only=True)
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


@frozen(kw_only=True)
class WebhooksConfig:
    """`[webhooks]`: whom the server may call when a webhook says so; only an admin makes webhooks.

    `schemes` are those of URLs. `private` names hosts, addresses and networks that may be called although they are
    not on the internet, such as "hooks.internal" or "10.0.0.0/8". `hosts`, if any, are the only ones that may be
    called.
    """

    schemes: tuple[str, ...] = ("https",)
    private: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@frozen(kw_only=True)
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
            raise unknown_key(key, _TABLES, where, "")
    head = table_of(document.get("project", {}), where, "project")
    scalars = ("name", "pipeline", "clock", "seed")
    for key in head:
        if key not in scalars:
            raise unknown_key(key, scalars, where, "project")
    if not isinstance(head.get("name"), str) or not head["name"]:
        hint = f'write [project] and under it name = "{Path(where).parent.name or "team"}"; no other key is needed'
        raise ConfigError('[project] needs name = "…"', where=where, hint=hint)
    server = dict(table_of(document.get("server", {}), where, "server"))
    store = dict(table_of(document.get("store", {}), where, "store"))
    _from_environment(environment, server, store)
    return Project(
        name=head["name"],
        root=root,
        pipeline=value_of(str, head.get("pipeline", "pipeline.py"), where, "project.pipeline"),
        clock=_clock(environment, head, where),
        seed=value_of(int, head.get("seed", 0), where, "project.seed"),
        data=named(DataConfig, document.get("data", {}), where, "data"),
        models={
            name: model_of(value, where, f"model.{name}")
            for name, value in table_of(document.get("model", {}), where, "model").items()
        },
        server=_server(server, where),
        store=struct(StoreConfig, store, where, "store"),
        run=_run(document.get("run", {}), where, environment),
        remotes=_remotes(document.get("remote", {}), where),
        schedules={
            name: _schedule(value, where, f"schedule.{name}")
            for name, value in table_of(document.get("schedule", {}), where, "schedule").items()
        },
        environments=named(EnvironmentConfig, document.get("env", {}), where, "env"),
        reproduce=_reproduce(document.get("reproduce", {}), where),
        webhooks=_webhooks(document.get("webhooks", {}), where),
        access=_access(document.get("access", {}), where),
    )


def _server(value: Any, where: str) -> ServerConfig:
    found = struct(ServerConfig, value, where, "server")
    require_one_of(found.realtime, ("auto", "off"), where, "server.realtime")
    require_one_of(found.artifacts, ("server", "direct"), where, "server.artifacts")
    return found


def _access(value: Any, where: str) -> AccessConfig:
    found = struct(AccessConfig, value, where, "access")
    try:
        require_sound(found)
    except ValueError as error:
        message, *hint = error.args
        raise ConfigError(message, where=where, hint="".join(hint)) from error
    return found


def _webhooks(value: Any, where: str) -> WebhooksConfig:
    found = struct(WebhooksConfig, value, where, "webhooks")
    for scheme in found.schemes:
        require_one_of(scheme, ("https", "http"), where, "webhooks.schemes")
    return found


def _reproduce(value: Any, where: str) -> ReproduceConfig:
    found = struct(ReproduceConfig, value, where, "reproduce")
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


def _run(value: Any, where: str, environment: Mapping[str, str]) -> RunConfig:
    found = struct(RunConfig, value, where, "run")
    wanted = environment.get("NORIA_SYSTEM_METRICS")
    if wanted:
        if wanted not in ("true", "false"):
            raise ConfigError(f'NORIA_SYSTEM_METRICS is "{wanted[:40]}", not "true" or "false"', where=ENVIRONMENT)
        found = dataclasses.replace(found, system_metrics=wanted == "true")
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
    for name, table in table_of(value, where, "remote").items():
        if not table_of(table, where, f"remote.{name}").get("url"):
            raise ConfigError(
                f"[remote.{name}] has no url", where=where, hint='url = "s3://BUCKET/PREFIX", or a folder'
            )
    found = named(RemoteConfig, value, where, "remote")
    chosen = [name for name, remote in found.items() if remote.default]
    if len(chosen) > 1:
        raise ConfigError(f"{len(chosen)} remotes are the default: {', '.join(chosen)}", where=where)
    return found


def _schedule(value: Any, where: str, path: str) -> ScheduleConfig:
    """One schedule; `do` may be a single text, and the values of `params` are plain ones of any kind."""
    table = dict(table_of(value, where, path))
    params = dict(table_of(table.pop("params", {}), where, f"{path}.params"))
    for name, item in params.items():
        if not isinstance(item, str | int | float) or (isinstance(item, float) and not math.isfinite(item)):
            raise ConfigError(f"{path}.params.{name} must be a text, a finite number, true or false", where=where)
    if isinstance(table.get("do"), str):
        table["do"] = [table["do"]]
    return dataclasses.replace(struct(ScheduleConfig, table, where, path), params=params)


def _clock(environment: Mapping[str, str], head: Mapping[str, Any], where: str) -> str:
    given = environment.get("NORIA_CLOCK")
    value = given or head.get("clock", "wall")
    if value not in ("wall", "events"):
        key, place = ("NORIA_CLOCK", ENVIRONMENT) if given else ("project.clock", where)
        raise ConfigError(f'{key} is "{value}", not "wall" or "events"', where=place)
    return str(value)
