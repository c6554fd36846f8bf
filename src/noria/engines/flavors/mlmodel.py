"""Models in MLflow's format: a folder with an `MLmodel` file, as a model object of a library that is here.

Formats that name no code are loaded by their own library: XGBoost's, LightGBM's text, and skops as far as skops
itself trusts what is in a file. A pickle is a program, and skops can name types that crash a process: those are
loaded only as far as `trust` goes. "listed" takes what names nothing but classes of these libraries and what
holds their numbers; "any" runs whatever is there. Which types a model's own MLmodel trusts is its author's word and
counts for nothing here. What no library of ours can load is asked through MLflow's own client.

Source: mlflow/sklearn, mlflow/xgboost, mlflow/lightgbm of MLflow 3.17 (names of files and keys).
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import pickle
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from noria.core.errors import Denied, ModelFailed, UsageError
from noria.core.lazy import lazy
from noria.engines.flavors import boosters, pyfunc
from noria.engines.flavors.listed import is_listed, split
from noria.store import pickles

yaml = lazy("yaml")
skops_io = lazy("skops.io")

__all__ = ["load"]

DESCRIPTION = "MLmodel"
DESCRIPTION_MAX = 1 << 20
VERSION_KEYS = {"sklearn": "sklearn_version", "xgboost": "xgb_version", "lightgbm": "lgb_version"}
PACKAGES = {"sklearn": "scikit-learn", "xgboost": "xgboost", "lightgbm": "lightgbm", "python_function": "mlflow"}
SHOWN = 3


def load(folder: Path, trust: str, task: str) -> tuple[object, str]:
    """The model of a folder, and how it was loaded: `scikit-learn 1.9.1 from skops`.

    Args:
        trust: "safe", "listed" or "any", as `[model.NAME.clients] trust` says.
        task: "binary" if a model of no known library answers with a probability.
    Raises: UsageError for what is no such folder, or needs a library that is not here; Denied for what `trust`
        does not cover; ModelFailed if its library cannot load it.
    """
    about = _described(folder)
    flavors: Mapping[str, Any] = about["flavors"]
    for name, taken in (("sklearn", _sklearn), ("xgboost", _xgboost), ("lightgbm", _lightgbm)):
        if name in flavors:
            return _of_library(name, taken, folder, flavors[name], trust)
    if "python_function" not in flavors:
        raise UsageError(f"it has no flavor that can be asked for rows: {', '.join(sorted(flavors))[:200]}")
    if trust != "any":
        raise Denied(
            "it is Python code of its author's (MLflow's python_function), which runs when it is loaded",
            hint='[model.NAME.clients] trust = "any" in noria.toml lets it, in a process of its own',
        )
    _require("python_function", about.get("mlflow_version"))
    kind = pyfunc.PyfuncBinary if task == "binary" else pyfunc.Pyfunc
    return kind(folder, _input_names(about)), f"MLflow {metadata.version('mlflow')}'s python_function"


def _of_library(name: str, taken: Any, folder: Path, conf: Mapping[str, Any], trust: str) -> tuple[object, str]:
    there = str(conf.get(VERSION_KEYS[name], ""))
    _require(name, there)
    model, form = taken(folder, conf, trust)
    here = metadata.version(PACKAGES[name] if name != "xgboost" else _xgboost_package())
    other = f", logged with {there}" if there and there != here else ""
    return model, f"{PACKAGES[name]} {here} from {form}{other}"


def _sklearn(folder: Path, conf: Mapping[str, Any], trust: str) -> tuple[object, str]:
    path = _inside(folder, conf.get("pickled_model", ""))
    form = str(conf.get("serialization_format", "pickle"))
    return _estimator(path, form, trust), form


def _lightgbm(folder: Path, conf: Mapping[str, Any], trust: str) -> tuple[object, str]:
    path = _inside(folder, conf.get("data", ""))
    if str(conf.get("model_class", "")).rpartition(".")[2] == "Booster":
        booster = importlib.import_module("lightgbm").Booster(model_file=str(path))
        return boosters.lightgbm(booster, {}), "LightGBM's own text"
    form = str(conf.get("serialization_format") or "cloudpickle")
    return _estimator(path, form, trust), form


def _xgboost(folder: Path, conf: Mapping[str, Any], trust: str) -> tuple[object, str]:
    path = _inside(folder, conf.get("data", ""))
    booster = importlib.import_module("xgboost").Booster()
    booster.load_model(str(path))
    return boosters.xgboost(booster, {}), f"XGBoost's own {path.suffix.lstrip('.') or 'format'}"


def _estimator(path: Path, form: str, trust: str) -> object:
    if form == "skops":
        return _skops(path, trust)
    if form not in ("pickle", "cloudpickle"):
        raise UsageError(f"it is stored as {form[:50]!r}, which is not known here")
    content = path.read_bytes()
    if trust == "any":
        return pickle.load(io.BytesIO(content))  # noqa: S301  # the project's own rules say so, of this model
    if trust == "listed":
        return pickles.loads(content, is_listed)
    raise Denied(
        f"it is a {form}, a program that runs when it is loaded",
        hint='[model.NAME.clients] trust = "listed" in noria.toml takes one that names nothing but its library',
    )


def _skops(path: Path, trust: str) -> object:
    if importlib.util.find_spec("skops") is None:
        raise UsageError("reading skops needs skops, which is not installed here", hint="pip install 'noria[mlflow]'")
    named: Sequence[str] = skops_io.get_untrusted_types(file=path)
    if trust != "any":
        foreign = [each for each in named if trust != "listed" or not is_listed(*split(each))]
        if foreign:
            names = ", ".join(sorted(foreign)[:SHOWN]) + (f" and {len(foreign) - SHOWN} more" * (len(foreign) > SHOWN))
            wider = "listed" if all(is_listed(*split(each)) for each in foreign) else "any"
            raise Denied(
                f"it holds types that skops does not trust: {names}",
                hint=f'[model.NAME.clients] trust = "{wider}" in noria.toml takes them',
            )
    return skops_io.load(path, trusted=list(named))


def _described(folder: Path) -> Mapping[str, Any]:
    """What the MLmodel file says. Raises: UsageError."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UsageError("its files have no MLmodel: it is no model in MLflow's format")
    if importlib.util.find_spec("yaml") is None:
        raise UsageError(
            "reading MLmodel needs pyyaml, which is not installed here", hint="pip install 'noria[mlflow]'"
        )
    if path.stat().st_size > DESCRIPTION_MAX:
        raise UsageError(f"its MLmodel has {path.stat().st_size} bytes, more than {DESCRIPTION_MAX}")
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"its MLmodel is no YAML: {str(error)[:200]}") from error
    flavors = found.get("flavors") if isinstance(found, Mapping) else None
    if not isinstance(flavors, Mapping) or not all(isinstance(each, Mapping) for each in flavors.values()):
        raise UsageError("its MLmodel names no flavors")
    return dict(found)


def _input_names(about: Mapping[str, Any]) -> list[str]:
    """The names of the inputs as the signature has them; none if it has no named columns."""
    signature = about.get("signature")
    text = signature.get("inputs") if isinstance(signature, Mapping) else None
    columns = yaml.safe_load(text) if isinstance(text, str) else None  # JSON, which is YAML
    if not isinstance(columns, list) or not all(isinstance(each, Mapping) and each.get("name") for each in columns):
        return []
    return [str(each["name"]) for each in columns]


def _inside(folder: Path, name: Any) -> Path:
    """A file of the folder that its MLmodel names. Raises: UsageError."""
    parts = str(name).split("/") if isinstance(name, str) else []
    if not parts or any(part in ("", ".", "..") for part in parts) or "\\" in str(name):
        raise UsageError(f"its MLmodel names {str(name)[:100]!r}, which is no file of it")
    path = folder.joinpath(*parts)
    if not path.is_file() or path.is_symlink():
        raise UsageError(f"its MLmodel names {str(name)[:100]!r}, which is not among its files")
    return path


def _xgboost_package() -> str:
    """XGBoost without GPUs is a distribution of another name."""
    try:
        metadata.version("xgboost")
    except metadata.PackageNotFoundError:
        return "xgboost-cpu"
    return "xgboost"


def _require(flavor: str, there: Any) -> None:
    """The library that a flavor needs is installed. Raises: UsageError naming it; ModelFailed if it is broken."""
    module = "mlflow" if flavor == "python_function" else flavor
    wanted = PACKAGES[flavor] + (f"=={there}" if isinstance(there, str) and there else "")
    if importlib.util.find_spec(module) is None:
        raise UsageError(f"it needs {PACKAGES[flavor]}, which is not installed here", hint=f"pip install '{wanted}'")
    try:
        importlib.import_module(module)
    except Exception as error:
        raise ModelFailed(f"{PACKAGES[flavor]} cannot be imported here: {str(error)[:200]}") from error
