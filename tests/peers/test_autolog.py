"""Unchanged scripts of XGBoost, LightGBM and PyTorch: captured, served, and answering as in the script.

The libraries are in an environment of their own, in which Noria's source runs too.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-peers/autolog/bin/python"
TORCH = ROOT / ".venv-peers/torch/bin/python"
pytestmark = pytest.mark.peers

HEAD = """
import json
import numpy as np, pandas as pd
rows = pd.read_csv("data.csv")
X, y = rows[["age", "fee"]], rows["churned"]
X_train, X_test, y_train, y_test = X[:300], X[300:], y[:300], y[300:]
def say(scores):
    print(json.dumps([X_test.head(3).to_dict("records"), [float(s) for s in np.ravel(scores)[:3]]]))
"""
SCRIPTS = {
    "xgboost estimator": (
        "from xgboost import XGBClassifier\n"
        "model = XGBClassifier(n_estimators=12, max_depth=3, n_jobs=1)\n"
        "model.fit(X_train, y_train, eval_set=[(X_test, y_test)], verbose=False)\n"
        "model.save_model('kept.ubj')\n"
        "say(model.predict_proba(X_test)[:, 1])\n"
        "assert len(model.evals_result()['validation_0']['logloss']) == 12\n",
        ("XGBClassifier", "n_estimators", 12, "validation_0 logloss", 12),
    ),
    "xgboost booster": (
        "import xgboost as xgb\n"
        "train, test = xgb.DMatrix(X_train, y_train), xgb.DMatrix(X_test, y_test)\n"
        "params = {'objective': 'binary:logistic', 'max_depth': 3, 'nthread': 1}\n"
        "kept = {}\n"
        "model = xgb.train(params, train, 9, evals=[(test, 'held')], evals_result=kept, verbose_eval=False)\n"
        "assert len(kept['held']['logloss']) == 9\n"
        "model.save_model('kept.json')\n"
        "say(model.predict(test))\n",
        ("Booster", "max_depth", 3, "held logloss", 9),
    ),
    "xgboost rows that nobody keeps": (
        "import xgboost as xgb\n"
        "train = xgb.DMatrix(X[:300], label=y[:300])\n"
        "params = {'objective': 'binary:logistic', 'nthread': 1}\n"
        "model = xgb.train(params, train, 9, evals=[(train, 'own')], verbose_eval=False)\n"
        "model.save_model('kept.json')\n"
        "say(model.predict(xgb.DMatrix(X[300:])))\n",
        ("Booster", "num_boost_round", 9, "own logloss", 9),
    ),
    "lightgbm estimator": (
        "import lightgbm as lgb\n"
        "model = lgb.LGBMClassifier(n_estimators=15, num_leaves=7, n_jobs=1, verbose=-1)\n"
        "stop = lgb.early_stopping(50, verbose=False)\n"
        "model.fit(X_train, y_train, eval_set=[(X_test, y_test)], eval_metric='auc', callbacks=[stop])\n"
        "import joblib; joblib.dump(model, 'kept.joblib')\n"
        "say(model.predict_proba(X_test)[:, 1])\n",
        ("LGBMClassifier", "num_leaves", 7, "valid_0 auc", 15),
    ),
    "lightgbm booster": (
        "import lightgbm as lgb\n"
        "train = lgb.Dataset(X_train, y_train)\n"
        "held = lgb.Dataset(X_test, y_test, reference=train)\n"
        "params = {'objective': 'binary', 'num_leaves': 5, 'num_threads': 1, 'verbose': -1}\n"
        "model = lgb.train(params, train, 11, valid_sets=[held])\n"
        "model.save_model('kept.txt')\n"
        "say(model.predict(X_test))\n",
        ("Booster", "num_leaves", 5, "valid_0 binary_logloss", 11),
    ),
    "lightgbm rows that nobody keeps": (
        "import lightgbm as lgb\n"
        "params = {'objective': 'binary', 'num_leaves': 5, 'num_threads': 1, 'verbose': -1}\n"
        "held = lgb.Dataset(X[300:], y[300:])\n"
        "model = lgb.train(params, lgb.Dataset(X[:300], y[:300]), 11, valid_sets=[held])\n"
        "model.save_model('kept.txt')\n"
        "say(model.predict(X[300:]))\n",
        ("Booster", "num_leaves", 5, "valid_0 binary_logloss", 11),
    ),
    "torch": (
        "import torch\n"
        "torch.manual_seed(0)\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.body = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))\n"
        "    def forward(self, rows):\n"
        "        return self.body(rows)\n"
        "def main():\n"
        "    a = torch.tensor(X_train.to_numpy(), dtype=torch.float32)\n"
        "    b = torch.tensor(y_train.to_numpy(), dtype=torch.float32)[:, None]\n"
        "    net, loss = Net(), torch.nn.BCEWithLogitsLoss()\n"
        "    steps = torch.optim.Adam(net.parameters(), lr=0.02)\n"
        "    for epoch in range(5):\n"
        "        for part in range(0, 300, 100):\n"
        "            steps.zero_grad()\n"
        "            loss(net(a[part:part + 100]), b[part:part + 100]).backward()\n"
        "            steps.step()\n"
        "    torch.save(net.state_dict(), 'kept.pt')\n"
        "    net.eval()\n"
        "    with torch.no_grad():\n"
        "        say(torch.sigmoid(net(torch.tensor(X_test.to_numpy(), dtype=torch.float32))).numpy())\n"
        "main()\n",
        ("Net", "lr", 0.02, "loss", 15),
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chance = np.random.default_rng(0)
    age, fee = chance.integers(18, 80, 400), chance.uniform(5, 60, 400).round(2)
    churned = ((age / 80 + fee / 60 + chance.normal(0, 0.3, 400)) > 1.2).astype(int)
    pd.DataFrame({"age": age, "fee": fee, "churned": churned}).to_csv(tmp_path / "data.csv", index=False)
    (tmp_path / "noria.toml").write_text(
        '[project]\nname = "autolog"\n[model.kept]\nallow_pickle = true\n'  # for the network with code of its own
    )
    return tmp_path


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")}
    return {**kept, "PYTHONPATH": str(ROOT / "src")}


def asked(folder: Path, *words: str, python: Path = PYTHON) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), *words], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )


@contextmanager
def serving(folder: Path, python: Path) -> Iterator[str]:
    """`noria up` on a free port: its address."""
    server = subprocess.Popen(
        [str(python), "-m", "noria", "up", "--port", "0"],
        cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while True:
            assert server.poll() is None
            assert time.monotonic() < deadline
            try:
                url = str(json.loads((folder / ".noria" / "up.json").read_text())["url"])
                with urllib.request.urlopen(f"{url}/healthz", timeout=2):
                    break
            except (OSError, ValueError):
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(60)


def predicted(url: str, row: dict[str, Any]) -> float:
    body = json.dumps({"row": row}).encode()
    request = urllib.request.Request(f"{url}/predict/kept", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return float(json.load(answer)["score"])


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_of_the_library_is_captured_and_its_model_is_served(folder: Path, name: str) -> None:
    library = name.split()[0]
    python = TORCH if library == "torch" else PYTHON
    if library == "torch" and not os.environ.get("UV_FIND_LINKS") and not os.environ.get("PIP_FIND_LINKS"):
        pytest.skip("PyTorch for CPUs is on no index: UV_FIND_LINKS names where its wheels are")
    assert python.exists(), "make peers installs .venv-peers"
    run = functools.partial(asked, folder, python=python)
    text, (kind, param, value, metric, points) = SCRIPTS[name]
    (folder / "train.py").write_text(HEAD + text)
    plain = run("train.py")
    assert plain.returncode == 0, plain.stderr
    done = run("-m", "noria", "run", "train.py", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert plain.stdout in done.stderr
    report = json.loads(done.stdout)
    assert [(fit["name"], fit["params"][param]) for fit in report["fits"]] == [(kind, value)]
    log = run(
        "-c",
        "import sys; from noria.bootstrap import open_workspace; from noria.tracking import records\n"
        "import pyarrow.parquet as pq\n"
        "ws = open_workspace()\n"
        "with ws.ledger.read() as tx:\n    parts = records.segments(tx, sys.argv[1])\n"
        "names = [n for p in parts for n in pq.read_table(ws.objects.path(p)).column('name').to_pylist()]\n"
        "print(names.count(sys.argv[2]))",
        report["run"], metric,
    )  # fmt: skip
    assert log.stdout.strip() == str(points), log.stdout + log.stderr
    (model,) = report["models"]
    assert (model["model"], model["version"]) == ("kept", 1), model
    assert run("-m", "noria", "deploy", "kept").returncode == 0
    rows, scores = json.loads(plain.stdout.splitlines()[0])
    names = ["age", "fee"] if library != "torch" else ["x0", "x1"]
    with serving(folder, python) as url:
        for row, score in zip(rows, scores, strict=True):
            asked_row = dict(zip(names, row.values(), strict=True))
            assert predicted(url, asked_row) == pytest.approx(score, abs=1e-6)


SCORED = {
    "xgboost": "from xgboost import XGBClassifier\nmodel = XGBClassifier(n_estimators=12, n_jobs=1)\n",
    "lightgbm": "from lightgbm import LGBMClassifier\nmodel = LGBMClassifier(n_estimators=12, n_jobs=1, verbose=-1)\n",
}


@pytest.mark.parametrize("library", SCORED)
def test_a_gate_is_judged_on_the_rows_of_a_column_of_the_probabilities(folder: Path, library: str) -> None:
    assert PYTHON.exists(), "make peers installs .venv-peers/autolog"
    with (folder / "noria.toml").open("a") as file:
        file.write("[model.kept.gate]\nauc = { min = 0.5 }\n")
    (folder / "train.py").write_text(
        HEAD + SCORED[library] + "from sklearn.metrics import roc_auc_score\n"
        "import joblib\n"
        "model.fit(X_train, y_train)\n"
        "chances = model.predict_proba(X_test)[:, 1]\n"
        "print(roc_auc_score(y_test, chances))\n"
        "joblib.dump(model, 'kept.joblib')\n"
    )
    done = asked(folder, "-m", "noria", "run", "train.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on the 100 rows that the script scored it on" in done.stdout


def test_a_model_file_that_lightgbm_appends_to_is_written_and_not_read(folder: Path) -> None:
    assert PYTHON.exists(), "make peers installs .venv-peers/autolog"
    (folder / "train.py").write_text(HEAD + SCRIPTS["lightgbm booster"][0])
    for _ in range(2):
        done = asked(folder, "-m", "noria", "run", "train.py", "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert [each["path"] for each in report["read"]] == ["data.csv"]
        assert [each["path"] for each in report["written"]] == ["kept.txt"]


def test_a_training_that_is_killed_leaves_its_iterations(folder: Path) -> None:
    assert PYTHON.exists(), "make peers installs .venv-peers/autolog"
    (folder / "train.py").write_text(
        HEAD + "import lightgbm as lgb, os\n"
        "def stop(state):\n    state.iteration == 6 and os.kill(os.getpid(), 9)\n"
        "stop.order = 40\n"
        "lgb.LGBMClassifier(n_estimators=50, n_jobs=1, verbose=-1).fit(\n"
        "    X_train, y_train, eval_set=[(X_test, y_test)], callbacks=[stop])\n"
    )
    done = asked(folder, "-m", "noria", "run", "train.py")
    assert done.returncode == 4
    runs = json.loads(asked(folder, "-m", "noria", "runs", "--json").stdout)
    assert runs[0]["reason"] == "killed by SIGKILL"
    assert runs[0]["metrics"]["valid_0 binary_logloss"] > 0
