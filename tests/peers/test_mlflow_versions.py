"""Clients of MLflow, the newest and two minors before it, whole and skinny: one script, unchanged, against Noria."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mlflow_servers import ENVIRONMENTS, client, noria, noria_server

pytestmark = pytest.mark.peers
SCRIPT = Path(__file__).with_name("mlflow_versions_script.py")
REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
CLIENTS = sorted(path.stem.removeprefix("peer-") for path in REQUIREMENTS.glob("peer-mlflow*.in"))


def test_there_are_three_minors_of_clients_whole_and_skinny() -> None:
    told = {name: _version(name) for name in CLIENTS}
    whole = {version for name, version in told.items() if "skinny" not in name}
    skinny = {version for name, version in told.items() if "skinny" in name}
    assert whole == skinny
    assert len({version.rpartition(".")[0] for version in whole}) >= 3


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_of_that_version_does_all_that_a_team_does(name: str, tmp_path: Path) -> None:
    with noria_server(tmp_path) as server:
        told = client(SCRIPT, server.url, tmp_path, environment=name)
        runs = {each["run"] for each in noria(tmp_path, "runs")}
        models = [each["model"] for each in noria(tmp_path, "registry", "list")]
    assert told["version"] == _version(name)
    assert {told["run"], told["auto"]} <= runs
    assert models == ["kept"]
    assert (ENVIRONMENTS / name).is_dir()


def _version(name: str) -> str:
    text = (REQUIREMENTS / f"peer-{name}.in").read_text(encoding="utf-8")
    found = re.search(r"^mlflow(?:-skinny)?==(\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return found[1]
