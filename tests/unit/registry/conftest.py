"""Small real models and a workspace with a gate."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from noria.config import parse_project
from noria.packaging import bundle
from noria.registry import gates, versions
from noria.registry.gates import Judgement
from noria.registry.records import VersionRecord
from noria.store.workspace import Workspace
from noria.testing.samples import flights, lateness
from noria.testing.workspace import open_memory


@dataclass(frozen=True)
class Roles:
    """What the columns of `flights` are."""

    key: str = ""
    time: str = ""
    label: str = "late"


@pytest.fixture
def roles() -> Roles:
    """Only the label is known."""
    return Roles()


@pytest.fixture
def ws() -> Iterator[Workspace]:
    """A throw-away workspace whose model `m` has a gate on AUC and log loss."""
    made = open_memory()
    gate = {"auc": {"min": 0.55, "champion": "not worse", "margin": 0.01}, "inputs": "any"}
    yield with_policy(made, gate)
    shutil.rmtree(made.project.root)


def with_policy(ws: Workspace, gate: dict[str, Any], deploy: dict[str, Any] | None = None) -> Workspace:
    document = {
        "project": {"name": "test"},
        "model": {"m": {"gate": gate, "deploy": deploy or {}, "allow_pickle": True}},
    }
    project = parse_project(document, root=Path(), environment={})
    return replace(ws, project=replace(ws.project, models=project.models))


@pytest.fixture
def policy(ws: Workspace) -> Callable[..., Workspace]:
    """The same workspace under other rules: policy(gate, deploy)."""
    return lambda gate, deploy=None: with_policy(ws, gate, deploy)


@pytest.fixture(scope="session")
def holdout() -> pd.DataFrame:
    """3,000 labelled rows that no model was trained on."""
    rows = flights(3000, seed=2)
    return rows.assign(late=lateness(rows))


@pytest.fixture(scope="session")
def models() -> dict[str, Any]:
    """`weak` knows the wind, `strong` four columns, `backward` is strong with its labels turned round."""
    rows = flights(4000, seed=1)
    y = lateness(rows)
    four = rows[["hour", "distance", "wind", "seats"]]
    return {
        "weak": LogisticRegression().fit(rows[["wind"]], y),
        "strong": LogisticRegression(max_iter=5000).fit(four, y),
        "backward": LogisticRegression(max_iter=5000).fit(four, 1 - y),
    }


@pytest.fixture
def register(ws: Workspace, models: dict[str, Any], holdout: pd.DataFrame) -> Callable[..., VersionRecord]:
    """A model by name (or itself) as a version of `m`."""

    def act(model: Any, *, run: str = "run_1", **options: Any) -> VersionRecord:
        found = models[model] if isinstance(model, str) else model
        made = bundle.build(ws, found, holdout=holdout.head(400), run=run, label="late", name="m", **options)
        return versions.register(ws, made, model="m", run=run, metrics={"auc": 0.5}, pins=[])

    return act


@pytest.fixture
def judge(ws: Workspace, holdout: pd.DataFrame, roles: Roles) -> Callable[..., Judgement]:
    """The gates of a version of `m` on the holdout."""

    def act(version: int, champion: int | None = None, **options: Any) -> Judgement:
        place = options.pop("ws", ws)
        chosen = {"holdout": holdout, "roles": roles, **options}
        return gates.judge(place, "m", version, champion=champion, **chosen)

    return act
