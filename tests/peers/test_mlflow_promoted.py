"""What an unchanged MLflow script logged, gated by `noria promote models:/…`, served, and loaded back by MLflow.

Noria runs from its source in MLflow's environment, which has the libraries whose models these are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from client_models import made
from mlflow_servers import BIN, ROOT, Server, client, noria_server
from postgres_server import thrown_away

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(1200)]
SCRIPT = Path(__file__).with_name("mlflow_promoted_script.py")
TRUST = {"pickled": "listed", "forest": "listed", "lgb_estimator": "listed", "rule": "any"}
JOBS = [
    ["sklearn", "churn", 2, ""],
    ["sklearn", "churn", 1, ""],
    ["sklearn", "seen", 2, "held.csv"],
    ["pickle", "pickled", 2, ""],
    ["forest", "forest", 2, ""],
    ["xgboost estimator", "xgb_estimator", 2, ""],
    ["xgboost booster", "xgb_booster", 2, ""],
    ["lightgbm estimator", "lgb_estimator", 2, ""],
    ["lightgbm booster", "lgb_booster", 2, ""],
    ["pyfunc", "rule", 1, ""],
]
KINDS = [str(name) for _, name, _, _ in JOBS if name not in ("churn", "seen")]
LOADED = {
    "pickled": "from cloudpickle",
    "forest": "from skops",
    "xgb_estimator": "from XGBoost's own ubj",
    "xgb_booster": "from XGBoost's own ubj",
    "lgb_estimator": "from skops",
    "lgb_booster": "from LightGBM's own text",
    "rule": "MLflow 3.17.2's python_function",
}
BACK = """
import json, sys, mlflow, pandas as pd
model = mlflow.sklearn.load_model("models:/churn@champion")
print(json.dumps([float(each) for each in model.predict_proba(pd.DataFrame(json.loads(sys.argv[1])))[:, 1]]))
"""


def settings(names: set[str]) -> str:
    """noria.toml: the same holdout for every model, and how far each is trusted."""
    parts = ['[project]\nname = "wired"\n']
    for name in sorted(names):
        trust = f'trust = "{TRUST[name]}"\n' if name in TRUST else ""
        task = 'task = "binary"\n' if name == "rule" else ""
        parts.append(f'[model.{name}.clients]\nholdout = "held"\n{trust}{task}')
    return "\n".join(parts)


def noria(folder: Path, *words: str, python: str = sys.executable) -> tuple[int, Any]:
    """The exit code of a `noria` command, and what it said."""
    done = subprocess.run(
        [python, "-m", "noria", *words, "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def prepared(folder: Path) -> None:
    rows = made(3000, 99)
    plan = pd.Series(["basic", "pro"] * 1500)
    rows.assign(plan=plan)[["id", "age", "fee", "plan", "churned"]].to_csv(folder / "held.csv", index=False)
    (folder / "noria.toml").write_text(settings({str(name) for _, name, _, _ in JOBS}), encoding="utf-8")
    code, _ = noria(folder, "data", "add", "held.csv", "--key", "id", "--label", "churned")
    assert code == 0


def gates(found: Any) -> dict[str, Any]:
    return {each["gate"]: each for each in found["gates"]}


def scored(server: Server, model: str, rows: list[dict[str, Any]]) -> list[float]:
    """What Noria's own server answers."""
    request = urllib.request.Request(f"{server.url}/predict/{model}", json.dumps({"rows": rows}).encode())
    with urllib.request.urlopen(request, timeout=120) as answer:
        found: list[float] = json.load(answer)["score"]
        return found


def test_a_worse_model_is_refused_with_numbers_and_the_champion_is_served(tmp_path: Path) -> None:
    prepared(tmp_path)
    with noria_server(tmp_path) as server:
        strong, weak, seen = client(SCRIPT, server.url, tmp_path, json.dumps(JOBS[:3]))
        code, tried = noria(tmp_path, "promote", "models:/churn/1", "--dry-run")
        assert (code, tried["ok"], tried["is_dry_run"]) == (0, True, True)
        assert server.call("GET", "registered-models/alias?name=churn&alias=champion")[0] == 400
        code, first = noria(tmp_path, "promote", "models:/churn/1")
        assert (code, first["ok"], first["alias"]) == (0, True, "champion")
        status, told = server.call("GET", "registered-models/alias?name=churn&alias=champion")
        assert (status, told["model_version"]["version"]) == (200, "1")
        code, refused = noria(tmp_path, "promote", "models:/churn@challenger")
        assert (code, refused["ok"], refused["champion"]) == (1, False, 1)
        worse = gates(refused)["champion log_loss"]
        assert worse["high"] < 0, worse
        assert gates(refused)["unseen rows"]["text"].startswith("not proven")
        code, leaky = noria(tmp_path, "promote", "models:/seen/1")
        assert code == 1
        assert "by content" in gates(leaky)["unseen rows"]["text"]
        assert noria(tmp_path, "deploy", "models:/churn@champion")[0] == 0
        rows = strong["rows"]
        assert scored(server, "churn", rows) == pytest.approx(strong["scores"], abs=1e-12)
        back = client(BACK, server.url, tmp_path, json.dumps(rows))
    assert back == pytest.approx(strong["scores"], abs=1e-12)
    assert weak["version"] == "2"
    assert seen["version"] == "1"


def test_every_kind_is_loaded_as_its_format_allows(tmp_path: Path) -> None:
    prepared(tmp_path)
    with noria_server(tmp_path) as server:
        logged = dict(zip(KINDS, client(SCRIPT, server.url, tmp_path, json.dumps(JOBS[3:])), strict=True))
    for name in KINDS:
        code, found = noria(tmp_path, "promote", f"models:/{name}/1", python=str(BIN / "python"))
        assert (code, found["ok"]) == (0, True), (name, found)
        assert LOADED[name] in found["loaded"], name
        assert noria(tmp_path, "deploy", f"models:/{name}/1", python=str(BIN / "python"))[0] == 0, name
    told = asked_in_this_environment(tmp_path, {name: logged[name]["rows"] for name in KINDS})
    for name in KINDS:
        assert told[name] == pytest.approx(logged[name]["scores"], abs=1e-6), name


def asked_in_this_environment(folder: Path, rows: dict[str, Any]) -> dict[str, list[float]]:
    """What the bundles of version 1 answer, loaded as a server does."""
    code = (
        "import json, sys\nfrom noria.bootstrap import open_workspace\n"
        "from noria.packaging.bundle import load\nfrom noria.registry.versions import show\n"
        "ws = open_workspace()\nasked = json.loads(sys.argv[1])\nfound = {}\n"
        "for name, rows in asked.items():\n"
        "    model = load(ws, show(ws, name + ':1').version.bundle)\n"
        "    names = [field.name for field in model.rows.fields]\n"
        "    found[name] = model.predict([{key: row[key] for key in names if key in row} for row in rows]).tolist()\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [str(BIN / "python"), "-c", code, json.dumps(rows)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[float]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_what_is_not_permitted_is_told_in_six_lines(tmp_path: Path) -> None:
    prepared(tmp_path)
    config = settings({"rule"}).replace('"any"', '"listed"')
    (tmp_path / "noria.toml").write_text(config, encoding="utf-8")
    with noria_server(tmp_path) as server:
        client(SCRIPT, server.url, tmp_path, json.dumps(JOBS[9:]))
    done = subprocess.run(
        [sys.executable, "-m", "noria", "promote", "models:/rule/1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    assert "Python code of its author's" in done.stderr
    assert 'trust = "any"' in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 6


def test_the_same_on_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with thrown_away("promoted") as database:
        monkeypatch.setenv("NORIA_DATABASE", database.database("promoted"))
        prepared(tmp_path)
        with noria_server(tmp_path) as server:
            client(SCRIPT, server.url, tmp_path, json.dumps(JOBS[:2]))
            server.kill()
        assert noria(tmp_path, "promote", "models:/churn/1")[0] == 0
        code, refused = noria(tmp_path, "promote", "models:/churn/2")
    assert (code, refused["ok"]) == (1, False)
