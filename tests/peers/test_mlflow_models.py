"""Models with MLflow's own client: logged, registered, aliased, loaded back; and Noria's like anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow_servers import client, noria, noria_server
from postgres_server import thrown_away

from noria.bootstrap import open_workspace
from noria.governance.audit import verify
from noria.store.replay import difference

pytestmark = pytest.mark.peers
SCRIPT = Path(__file__).with_name("mlflow_model_script.py")
KINDS = {
    "logged_model.created",
    "logged_model.ended",
    "logged_model.measured",
    "logged_model.file",
    "model.filed",
    "model.renamed",
    "version.filed",
    "version.staged",
    "version.removed",
    "alias.moved",
    "alias.removed",
    "model.tagged",
    "model.described",
}


def test_a_script_logs_registers_and_loads_models_and_everything_is_a_fact(tmp_path: Path) -> None:
    with noria_server(tmp_path) as server:
        ids = client(SCRIPT, server.url, tmp_path)
        listed = {each["model"]: each for each in noria(tmp_path, "registry", "list")}
        versions = noria(tmp_path, "registry", "versions", "fraud")
        shown = noria(tmp_path, "registry", "show", "fraud@champion")
        chain = noria(tmp_path, "explain", "fraud:1")
        behind = noria(tmp_path, "governance", "ancestors", "fraud:1")
        models = {each["model"]: each for each in noria(tmp_path, "status")["models"]}
    assert set(listed) == {"fraud", "fraud kept", "greeting"}
    assert listed["fraud"]["aliases"] == {"champion": 1}
    assert [each["version"] for each in versions] == [2, 1]
    assert shown["version"]["run"] == ids["run"]
    assert shown["version"]["description"] == "the first"
    assert shown["version"]["tags"] == {"checked": "yes", "made": "here"}
    assert {link["what"] for link in chain["links"]} >= {"model", "run"}
    refs = {link["ref"] for link in behind}
    assert {f"logged-model/{ids['model']}", f"run/{ids['run']}"} <= refs
    assert models["fraud"]["files"] == 2
    ws = open_workspace(tmp_path)
    facts = ws.ledger.facts(limit=5000)
    assert {fact.fact.kind for fact in facts} >= KINDS
    assert {fact.fact.actor for fact in facts if fact.fact.kind in KINDS} == {"user:mlflow"}
    assert verify(ws).ok
    assert difference(ws.ledger) == []


def test_a_version_that_is_no_bundle_cannot_be_released_or_deployed(tmp_path: Path) -> None:
    with noria_server(tmp_path) as server:
        assert server.call("POST", "registered-models/create", {"name": "kept"})[0] == 200
        given = {"name": "kept", "source": "s3://bucket/model"}
        assert server.call("POST", "model-versions/create", given)[0] == 200
        told = noria_refusal(tmp_path, "deploy", "kept")
    assert "kept" in told


def noria_refusal(folder: Path, *words: str) -> str:
    """What a `noria` command says when it refuses."""
    with pytest.raises(AssertionError) as refused:
        noria(folder, *words)
    return str(refused.value)


def test_the_same_on_postgres(tmp_path: Path) -> None:
    with thrown_away("models") as database:
        environ = {"NORIA_DATABASE": database.database("models")}
        with noria_server(tmp_path, environ) as server:
            client(SCRIPT, server.url, tmp_path)
            status, found = server.call("GET", "registered-models/get?name=fraud")
    assert status == 200
    assert found["registered_model"]["aliases"] == [{"alias": "champion", "version": "1"}]
