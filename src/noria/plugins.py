"""The one table of names: seam -> name -> "module:attribute". Built-ins go through it too.

Third parties add to it with entry points in the group `noria.<seam>`. Nothing is imported before
it is asked for by name.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from noria.core.errors import NotFound
from noria.core.lazy import lazy

if TYPE_CHECKING:
    from importlib import metadata
else:
    metadata = lazy("importlib.metadata")  # it brings the whole of `email` along: 15 ms of every start

__all__ = ["BUILTIN", "keep_zones", "load", "names", "target"]

BUILTIN: Mapping[str, Mapping[str, str]] = {
    # a slice is a capability with facts.py (FACTS) and records.py (TABLES, PROJECTIONS)
    "slice": {
        "catalog": "noria.catalog",
        "takeover": "noria.catalog.takeover",
        "data": "noria.data",
        "checks": "noria.checks",
        "tracking": "noria.tracking",
        "experiments": "noria.experiments",
        "pipeline": "noria.pipeline",
        "scripts": "noria.scripts",
        "registry": "noria.registry",
        "serving": "noria.serving",
        "monitoring": "noria.monitoring",
        "loop": "noria.loop",
        "schedule": "noria.schedule",
        "search": "noria.search",
        "governance": "noria.governance",
        "webhooks": "noria.webhooks",
        "traces": "noria.traces",
        "evalsets": "noria.evalsets",
    },
    "objects": {
        "file": "noria.engines.objects.file:FileObjects",
        "memory": "noria.engines.objects.memory:MemoryObjects",
        "s3": "noria.engines.objects.s3:S3Objects",
        "over": "noria.engines.objects.over:OverObjects",
    },
    "bucket": {
        "file": "noria.engines.objects.folder:FolderBucket",
        "s3": "noria.engines.objects.bucket:S3Bucket",
    },
    "source": {
        "sqlite": "noria.engines.sources.sql:read",
        "postgresql": "noria.engines.sources.sql:read",
        "postgres": "noria.engines.sources.sql:read",
    },
    # tracking stores of other tools: read, and written
    "tracker": {
        "database": "noria.engines.trackers.database:read",
        "folder": "noria.engines.trackers.folder:read",
        "server": "noria.engines.trackers.server:read",
    },
    # stores that are written out first, by the tool's own library or by ours
    "foreign_tracker": {
        "aim": "noria.engines.trackers.foreign:read_aim",
        "neptune": "noria.engines.trackers.neptune:read_neptune",
        "wandb": "noria.engines.trackers.foreign:read_wandb",
    },
    # what capabilities above the catalog take over, and give back, of the same stores
    "takeover_part": {
        "evalsets": "noria.evalsets.takeover",
    },
    "tracker_writer": {
        "database": "noria.engines.trackers.writing:write",
    },
    "executor": {
        "auto": "noria.engines.executors.auto:AutoExecutor",
        "inline": "noria.engines.executors.inline:InlineExecutor",
        "pool": "noria.engines.executors.pool:PoolExecutor",
        "ray": "noria.engines.executors.raycluster:RayExecutor",
    },
    "sampler": {
        "random": "noria.engines.samplers.by_optuna:random",
        "tpe": "noria.engines.samplers.by_optuna:tpe",
    },
    "pruner": {"asha": "noria.engines.samplers.by_optuna:asha"},
    "flavor": {
        "sklearn": "noria.engines.flavors.sklearn:SklearnFlavor",
        "xgboost": "noria.engines.flavors.trees:XGBoostFlavor",
        "lightgbm": "noria.engines.flavors.trees:LightGBMFlavor",
        "keras": "noria.engines.flavors.keras:KerasFlavor",
        "torch": "noria.engines.flavors.layers:TorchFlavor",
        "onnx": "noria.engines.flavors.graphs:OnnxFlavor",
        "pyfunc": "noria.engines.flavors.pyfunc:PyfuncFlavor",
        "python": "noria.engines.flavors.python:PythonFlavor",
    },
    # the name is the module after whose import the hook is called, in a captured process
    "autolog": {
        "pickle": "noria.engines.autolog.files:dumps",
        "cloudpickle": "noria.engines.autolog.files:dumps",
        "IPython.core.interactiveshell": "noria.engines.autolog.files:shell",
        "joblib.numpy_pickle": "noria.engines.autolog.files:dumps",
        "keras.src.callbacks.history": "noria.engines.autolog.keras:history",
        "keras.src.models.model": "noria.engines.autolog.keras:model",
        "keras.src.saving.saving_api": "noria.engines.autolog.keras:saving",
        "lightgbm.basic": "noria.engines.autolog.boosting:lightgbm_data",
        "lightgbm.engine": "noria.engines.autolog.boosting:lightgbm_training",
        "polars": "noria.engines.autolog.files:polars",
        "pyarrow.csv": "noria.engines.autolog.files:arrow",
        "pyarrow.dataset": "noria.engines.autolog.files:arrow",
        "pyarrow.feather": "noria.engines.autolog.files:arrow",
        "pyarrow.json": "noria.engines.autolog.files:arrow",
        "pyarrow.parquet.core": "noria.engines.autolog.files:arrow",
        "sklearn.base": "noria.engines.autolog.sklearn:base",
        "sklearn.metrics": "noria.engines.autolog.sklearn:metrics",
        "sklearn.model_selection": "noria.engines.autolog.sklearn:model_selection",
        "torch": "noria.engines.autolog.torch:torch",
        "xgboost.core": "noria.engines.autolog.boosting:xgboost_data",
        "xgboost.training": "noria.engines.autolog.boosting:xgboost_training",
    },
    # a folder of files as another tool's client logged a model -> the model, and how it was loaded
    "logged": {"mlflow": "noria.engines.flavors.mlmodel:load"},
    # from a library's own model to one that answers for rows; the name is the library's import name
    "adapter": {
        "keras": "noria.engines.flavors.keras:keras",
        "lightgbm": "noria.engines.flavors.boosters:lightgbm",
        "onnx": "noria.engines.flavors.graphs:onnx",
        "torch": "noria.engines.flavors.networks:torch",
        "xgboost": "noria.engines.flavors.boosters:xgboost",
    },
    "drift": {
        "ks": "noria.monitoring.drift.ks:ks",
        "psi": "noria.monitoring.drift.psi:psi",
        "chi2": "noria.monitoring.drift.chi2:chi2",
        "wasserstein": "noria.monitoring.drift.wasserstein:wasserstein",
    },
    # who says who somebody is: f(issuer, hosts) -> governance.claims.Issuer
    "issuer": {"oidc": "noria.engines.identity.oidc:OidcIssuer"},
    "routes": {
        "api": "noria.faces.http.api:routes",
        "pages": "noria.faces.ui.pages:routes",
        "runs": "noria.faces.ui.runs:routes",
        "mlflow": "noria.faces.protocols.mlflow.routes:routes",
        "login": "noria.faces.http.login:routes",
    },
    # a function (rule, rows) -> False, or a mask of the rows that break the rule
    "check": {
        "not_null": "noria.checks.kinds.columns:is_there",
        "null": "noria.checks.kinds.columns:is_missing",
        "range": "noria.checks.kinds.columns:within",
        "length": "noria.checks.kinds.columns:is_length",
        "in": "noria.checks.kinds.columns:inside",
        "not_in": "noria.checks.kinds.columns:outside",
        "pattern": "noria.checks.kinds.columns:matches",
        "not_pattern": "noria.checks.kinds.columns:matches_not",
        "format": "noria.checks.kinds.columns:reads_as",
        "json": "noria.checks.kinds.columns:is_json",
        "row": "noria.checks.kinds.rows:condition",
        "unique_within_row": "noria.checks.kinds.rows:are_different",
    },
    "gate": {
        "metric": "noria.registry.kinds.metric:judge",
        "champion": "noria.registry.kinds.champion:judge",
        "slices": "noria.registry.kinds.slices:judge",
        "fairness": "noria.registry.kinds.fairness:judge",
        "size": "noria.registry.kinds.size:judge",
        "latency": "noria.registry.kinds.latency:judge",
        "inputs": "noria.registry.kinds.inputs:judge",
        "drift": "noria.registry.kinds.drift:judge",
        "cost": "noria.registry.kinds.cost:judge",
        "behaviour": "noria.registry.kinds.behaviour:judge",
    },
}


def names(seam: str) -> list[str]:
    """Every name of a seam, built-in or from an entry point, sorted."""
    return sorted({*BUILTIN.get(seam, {}), *(point.name for point in _points(seam))})


def target(seam: str, name: str) -> str:
    """The "module:attribute" that a name stands for; imports nothing. Raises: NotFound naming the valid names."""
    found = BUILTIN.get(seam, {}).get(name)
    if found is not None:
        return found
    for point in _points(seam):
        if point.name == name:
            return point.value
    raise NotFound(f"there is no {seam} named {name!r}", hint=f"one of: {', '.join(names(seam))}")


def load(seam: str, name: str) -> Any:
    """Import and give what a name stands for. Raises: NotFound naming the valid names."""
    module, _, attribute = target(seam, name).partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def _points(seam: str) -> list[metadata.EntryPoint]:
    return list(metadata.entry_points(group=f"noria.{seam}")) if _may_be_there() else []


def _may_be_there() -> bool:
    """Whether any distribution could add to the table: surely none does where no list of entry points has our groups.

    A look at the lists costs a tenth of parsing those of every distribution, which each command would wait for.
    What is installed in an archive, or found by a finder of its own, is left to the parser.
    """
    if any(hasattr(each, "find_distributions") for each in sys.meta_path if each is not importlib.machinery.PathFinder):
        return True
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208  # a Path for each name costs more than the look
        except FileNotFoundError:
            continue
        except OSError:
            return True
        for name in names:
            if name.lower().endswith((".dist-info", "egg-info")) and _declares(f"{folder or '.'}/{name}"):
                return True
    return False


def _declares(distribution: str) -> bool:
    try:
        with open(f"{distribution}/entry_points.txt", "rb") as stream:  # noqa: PTH123  # as above
            return b"[noria." in stream.read()
    except OSError:
        return False  # it has none, or is a file


def keep_zones() -> None:
    """Take back PYARROW_IGNORE_TIMEZONE, after code that is not Noria's own was imported.

    Where it is set pyarrow drops the offset of each aware datetime, so 10:00+02:00 is stored as
    10:00 UTC. Importing pandera sets it for the whole process (pandera/external_config.py).
    """
    os.environ.pop("PYARROW_IGNORE_TIMEZONE", None)
