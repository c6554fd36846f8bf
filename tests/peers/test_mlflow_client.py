"""MLflow's own client, unchanged, against Noria: what it logs is Noria's like anything else, and back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow_servers import client, noria, noria_server

from noria.bootstrap import open_workspace

pytestmark = pytest.mark.peers
SCRIPT = Path(__file__).with_name("mlflow_script.py")


def test_a_script_of_mlflows_client_records_and_everything_is_a_fact(tmp_path: Path) -> None:
    with noria_server(tmp_path) as server:
        ids = client(SCRIPT, server.url, tmp_path)
        runs = {each["run"]: each for each in noria(tmp_path, "runs")}
        assert set(runs) == set(ids.values())
        outer = noria(tmp_path, "experiments", "show", ids["outer"])
        kinds = {fact.fact.kind for fact in open_workspace(tmp_path).ledger.facts(limit=500)}
        whole = noria(tmp_path, "experiments", "history", ids["many"], "m", "--points", "5000")
    assert runs[ids["outer"]]["experiment"] == "fraud 2"
    assert runs[ids["many"]]["status"] == "failed"
    assert {each["key"]: each["value"] for each in outer["metrics"]}["loss"] == 1 / 20
    assert [each["name"] for each in outer["datasets"]] == ["rows"]
    assert [each["run"] for each in outer["children"]] == [ids["inner"]]
    assert whole["total"] == 2500
    assert {"experiment.renamed", "run.deleted", "run.restored", "inputs.logged", "run.resumed"} <= kinds


def test_a_run_of_norias_own_recorder_is_found_by_mlflows_client(tmp_path: Path) -> None:
    script = (
        "import noria as nr\n"
        "with nr.start_run('own', experiment='shared', params={'lr': 0.5}, tags={'team': 'blue'}) as run:\n"
        "    for step in range(5):\n"
        "        nr.log(loss=1.0 / (step + 1), step=step)\n"
    )
    look = (
        "import json, mlflow\n"
        "found = mlflow.search_runs(experiment_names=['shared'], filter_string=\"params.lr = '0.5'\",\n"
        "    output_format='list')\n"
        "run = found[0]\n"
        "steps = [p.step for p in mlflow.MlflowClient().get_metric_history(run.info.run_id, 'loss')]\n"
        "print(json.dumps([run.info.run_name, run.info.status, run.data.metrics, run.data.tags, steps]))\n"
    )
    with noria_server(tmp_path) as server:
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=120)
        name, status, metrics, tags, steps = client(look, server.url, tmp_path)
    assert (name, status, metrics) == ("own", "FINISHED", {"loss": 0.2})
    assert tags["team"] == "blue"
    assert steps == [0, 1, 2, 3, 4]
