"""MLflow's own client with a token of Noria's: as bearer, as name and password, as a viewer, and without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow_servers import client, noria, noria_server

from noria.bootstrap import open_workspace

pytestmark = pytest.mark.peers
SCRIPT = """
import json, os, sys
os.environ.update(json.loads(sys.argv[1]))
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
import mlflow
from mlflow.exceptions import MlflowException

told = {"name": "", "error": "", "found": -1}
try:
    told["found"] = len(mlflow.search_experiments())
    with mlflow.start_run(run_name="r") as run:
        mlflow.log_metric("loss", 0.5)
        mlflow.log_text("hello", "note.txt")
    told["name"] = mlflow.get_run(run.info.run_id).info.run_name
    told["text"] = mlflow.artifacts.load_text(run.info.artifact_uri + "/note.txt")
except MlflowException as error:
    told["error"] = str(error)
print(json.dumps(told))
"""


def test_a_client_comes_in_with_its_token_only_and_the_facts_name_its_holder(tmp_path: Path) -> None:
    with noria_server(tmp_path) as server:
        ci = noria(tmp_path, "token", "create", "--name", "ci", "--role", "editor", "--service")["secret"]
        ann = noria(tmp_path, "token", "create", "--name", "ann", "--role", "editor")["secret"]
        vic = noria(tmp_path, "token", "create", "--name", "vic")["secret"]

        def asked(**environ: str) -> dict[str, str]:
            return client(SCRIPT, server.url, tmp_path, json.dumps(environ))

        for environ in (
            {"MLFLOW_TRACKING_TOKEN": ci},
            {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": ann},
        ):
            assert {"name": "r", "error": "", "text": "hello"}.items() <= asked(**environ).items()
        looked = asked(MLFLOW_TRACKING_TOKEN=vic)
        assert looked["found"] == 1
        assert "experiments.write takes the role editor, and it is viewer" in looked["error"]
        for environ in ({}, {"MLFLOW_TRACKING_USERNAME": "bob", "MLFLOW_TRACKING_PASSWORD": ann}):
            refused = asked(**environ)
            assert "the token is missing or wrong" in refused["error"]
            assert refused["found"] == -1
            assert ann not in refused["error"]
    ws = open_workspace(tmp_path)
    kinds = {"run.started", "run.logged", "artifact.logged", "run.finished"}
    actors = {fact.actor for fact in ws.ledger.facts(limit=1000) if fact.fact.kind in kinds}
    assert {"service:ci", "user:ann"} <= actors
    assert "user:vic" not in actors
    ws.ledger.database.close()
