"""A small real project for serving tests: a scikit-learn model of ten columns, as releases that may ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from noria.bootstrap import open_workspace
from noria.packaging import bundle as bundles
from noria.registry import records
from noria.registry import release as releases
from noria.registry.facts import GateJudged
from noria.registry.gates import policy_digest
from noria.registry.release import Release
from noria.registry.versions import register
from noria.store.workspace import Workspace
from noria.tracking.facts import Pin

MODEL = "late"
TOML = """
[project]
name = "late"
[server]
port = 0
"""


def make_project(root: Path, extra: str = "") -> Workspace:
    """A project folder with a noria.toml, and its workspace."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "noria.toml").write_text(TOML + extra, encoding="utf-8")
    return open_workspace(root, actor="user:ann")


def frame(rows: int, seed: int = 0, numbers: int = 8) -> pd.DataFrame:
    """Rows with `numbers` numeric columns, two categories, and a label that follows from them."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {f"n{i}": np.round(rng.normal(size=rows), 3) for i in range(numbers)}
    columns["carrier"] = rng.choice(["AA", "UA", "DL", "B6"], rows)
    columns["origin"] = rng.choice(["JFK", "LGA", "EWR"], rows)
    table = pd.DataFrame(columns)
    logit = table["n0"] + 0.5 * table["n1"] + (table["carrier"] == "B6") * 0.8
    table["late"] = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    return table


def make_release(
    ws: Workspace, seed: int = 0, numbers: int = 8, iterations: int = 20, model: object | None = None
) -> Release:
    """A validated release of a freshly trained model, or of the one that is given."""
    table = frame(600, seed, numbers)
    inputs = [name for name in table.columns if name != "late"]
    encode = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["carrier", "origin"]),
        remainder="passthrough",
    )
    boost = HistGradientBoostingClassifier(max_iter=iterations, random_state=seed)
    model = model or make_pipeline(encode, boost).fit(table[inputs], table["late"])
    run = f"run_{seed}"
    bundle = bundles.build(ws, model, holdout=table, run=run, label="late", name=MODEL)
    pins: tuple[Pin, ...] = ()
    version = register(ws, bundle, model=MODEL, run=run, metrics={"auc": 0.7}, pins=pins)
    with ws.ledger.transaction() as tx:
        live = records.production(tx, MODEL)
        tx.append(
            GateJudged(
                model=MODEL,
                version=version.version,
                champion=live.version if live is not None else 0,
                passed=True,
                verdicts=(),
                policy=policy_digest(ws, MODEL),
                report="",
            )
        )
    return releases.make(ws, MODEL, version.version)


def rows(count: int, seed: int = 1, numbers: int = 8) -> list[dict[str, Any]]:
    """Request rows."""
    table = frame(count, seed, numbers).drop(columns=["late"])
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
