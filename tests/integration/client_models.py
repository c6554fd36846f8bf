"""A project whose models another tool's client logged, and models as MLflow's client lays them out."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from sklearn.linear_model import LogisticRegression

from noria.bootstrap import open_workspace
from noria.catalog import filing as runs
from noria.catalog import keeping
from noria.catalog.keeping import LogModel
from noria.data import versions as datasets
from noria.registry import filing
from noria.registry.filing import Filed
from noria.store.workspace import Workspace

MODEL = "churn"
CLIENTS = f'[project]\nname = "clients"\n\n[model.{MODEL}.clients]\nholdout = "held"\n'


def made(count: int, seed: int) -> pd.DataFrame:
    """Rows whose label follows from two numbers, with chance in it."""
    rng = np.random.default_rng(seed)
    age, fee = rng.normal(40, 12, count).round(1), rng.gamma(2.0, 20.0, count).round(2)
    odds = 0.08 * (age - 40) + 0.04 * (fee - 40)
    label = (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(int)
    return pd.DataFrame({"id": np.arange(count), "age": age, "fee": fee, "churned": label})


def make_project(folder: Path, config: str = CLIENTS) -> Workspace:
    """A project with a labelled data set `held`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "noria.toml").write_text(config, encoding="utf-8")
    ws = open_workspace(folder, actor="user:ann")
    made(1500, 99).to_csv(folder / "held.csv", index=False)
    datasets.add(ws, str(folder / "held.csv"), "held", key="id", label="churned")
    return ws


def fitted(strength: float) -> LogisticRegression:
    """A model; a weak one is close to saying the same of everybody."""
    rows = made(800, 7)
    return LogisticRegression(C=strength).fit(rows[["age", "fee"]], rows["churned"])


def log(
    ws: Workspace, model: Any, *, form: str = "skops", name: str = MODEL, described: str = "", run: str = ""
) -> int:
    """Log a model and register it as MLflow's client does; gives the number of its version."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = f"model.{'skops' if form == 'skops' else 'pkl'}"
        if form == "skops":
            skops.io.dump(model, folder / data)
        else:
            (folder / data).write_bytes(model if isinstance(model, bytes) else pickle.dumps(model))
        flavor = (
            f"  sklearn:\n    pickled_model: {data}\n    serialization_format: {form}\n    sklearn_version: 1.0.0\n"
        )
        (folder / "MLmodel").write_text(described or f"flavors:\n{flavor}", encoding="utf-8")
        return log_folder(ws, folder, name=name, run=run)


def log_folder(ws: Workspace, folder: Path, *, name: str = MODEL, run: str = "") -> int:
    """Log the files of a folder as a model and register it."""
    with ws.ledger.read() as tx:
        runs.ensure_default(ws)
        known = {each.model for each in filing.records.named(tx)}
    if name not in known:
        filing.file_model(ws, name)
    logged = keeping.create_model(ws, LogModel(experiment=0, name="model", run=run))
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            keeping.keep_file(ws, logged, path.relative_to(folder).as_posix(), path)
    keeping.end_model(ws, logged, "ready")
    storage = f"mlflow-artifacts:/0/models/{logged}/artifacts"
    return filing.file_version(ws, name, Filed(source=f"models:/{logged}", storage=storage, logged=logged, run=run))
