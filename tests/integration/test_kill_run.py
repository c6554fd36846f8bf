"""`noria run` and `noria deploy` killed at each point where they commit something; a second try finishes the work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import warm

KILLS_OF_A_RUN = (
    "step.stored",
    "step.finished",
    "run.started",
    "run.finished",
    "model.bundled",
    "model.registered",
    "gate.judged",
    "release.made",
    "release.moved",
)
KILLS_OF_A_DEPLOY = ("release.moved", "deployment.changed")
PIPELINE = '''"""A small model."""

import pandas as pd
from sklearn.linear_model import LogisticRegression

import noria as nr

points = nr.dataset("points", key="name", time="at", label="is_high")


@nr.step
def split(rows: pd.DataFrame, holdout: str = "10d") -> tuple[pd.DataFrame, pd.DataFrame]:
    return nr.split_by_time(rows, holdout)


@nr.step
def train(rows: pd.DataFrame) -> LogisticRegression:
    x, y = nr.xy(rows)
    return LogisticRegression().fit(x, y)


@nr.pipeline
def small():
    learn, newest = split(points)
    return nr.model("small", train(learn), holdout=newest, metrics=["auc", "log_loss"])
'''
CONFIG = """[project]
name = "killed"

[data.points]
source = "points.csv"

[model.small.gate]
auc = { min = 0.6 }
"""


def noria(folder: Path, *words: str, kill_at: str = "") -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")}
    if kill_at:
        kept["NORIA_FAILPOINT"] = f"{kill_at}:1"
    return warm.noria(*words, cwd=folder, env=kept)


def require_sound(folder: Path) -> None:
    """The ledger verifies, its records are the fold of the facts, every object is whole, and no run is running."""
    audit = json.loads(noria(folder, "audit", "verify", "--json").stdout)
    assert (audit["ok"], audit["message"]) == (True, audit["message"])
    runs = json.loads(noria(folder, "runs", "--json").stdout)
    assert "running" not in {run["status"] for run in runs}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "project"
    folder.mkdir()
    (folder / "pipeline.py").write_text(PIPELINE, encoding="utf-8")
    (folder / "noria.toml").write_text(CONFIG, encoding="utf-8")
    lines = ["name,at,x,is_high"]
    for number in range(600):
        x = (number * 37 % 100) / 10
        high = int(x + (number * 13 % 7) - 3 > 5)
        lines.append(f"p{number},2026-01-{1 + number // 20:02d}T00:00:00Z,{x},{high}")
    (folder / "points.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "project"
    shutil.copytree(project, folder)
    done = noria(folder, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("name", KILLS_OF_A_RUN)
def test_a_run_killed_anywhere_is_finished_by_the_next(project: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "project"
    shutil.copytree(project, folder)
    assert noria(folder, "run", kill_at=name).returncode == -9
    require_sound(folder)
    done = noria(folder, "run", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["state"] == "validated"
    require_sound(folder)


@pytest.mark.parametrize("name", KILLS_OF_A_DEPLOY)
def test_a_deploy_killed_anywhere_is_finished_by_the_next(trained: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "project"
    shutil.copytree(trained, folder)
    assert noria(folder, "deploy", "small", kill_at=name).returncode == -9
    require_sound(folder)
    done = noria(folder, "deploy", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    status = json.loads(noria(folder, "status", "--json").stdout)
    (model,) = status["models"]
    assert (model["model"], model["release"]) == ("small", 1)
    require_sound(folder)
