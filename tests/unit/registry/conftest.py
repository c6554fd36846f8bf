"""Small real models and a workspace with a gate, made once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression

from noria.config import Project, parse_project
from noria.packaging import bundle
from noria.packaging.flavor import Bundle
from noria.registry import versions
from noria.registry.records import VersionRecord
from noria.store.workspace import Workspace
from noria.testing.workspace import open_memory
from noria.testing.samples import flights, lateness

GATE: dict[str, Any] = {
    "auc": {"min": 0.55, "champion": "not worse", "margin": 0.01},
    "log_loss": {"champion": "better"},
}


@dataclass(frozen=True)
class Roles:
    """The label is `late`."""

    key: str = ""
    time: str = ""
    label: str = "late"


def project(gate: dict[str, Any] | None = None, deploy: dict[str, Any] | None = None) -> Project:
    """A project with one model, `m`."""
    document = {
        "project": {"name": "test"},
        "model": {"m": {"gate": GATE if gate is None else gate, "deploy": deploy or {}}},
    }
    return parse_project(document, root=Path(), environment={})


@pytest.fixture
def ws() -> Iterator[Workspace]:
    """A throw-away workspace with the default gate."""
    made = open_memory(project())
    yield made
    shutil.rmtree(made.project.root)


@pytest.fixture(scope="session")
def models() -> dict[str, Any]:
    """`weak` knows one column, `strong` four; both are logistic regressions on numbers without nulls."""
    rows = flights(4000, seed=1)
    y = lateness(rows)
    return {
        "weak": LogisticRegression().fit(rows[["hour"]], y),
        "strong": LogisticRegression(max_iter=500).fit(rows[["hour", "distance", "wind", "seats"]], y),
    }


def holdout(n: int = 3000, seed: int = 2) -> Any:
    """Labelled rows that no model was trained on."""
    rows = flights(n, seed=seed)
    rows["late"] = lateness(rows)
    return rows


def stored(ws: Workspace, model: object, *, run: str = "run_1", name: str = "m") -> tuple[Bundle, VersionRecord]:
    """A model as a registered version."""
    made = bundle.build(ws, model, holdout=holdout(400), run=run, label="late")
    return made, versions.register(ws, made, model=name, run=run, metrics={"auc": 0.5}, pins=[])
