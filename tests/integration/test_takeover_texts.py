"""A store of MLflow's whose texts hold what PostgreSQL does not take is taken over all the same, and it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import Server, thrown_away

from noria.bootstrap import open_workspace
from noria.catalog.takeover.import_mlflow import import_mlflow
from noria.config import Project, StoreConfig
from noria.experiments import records

RUN = "0123456789abcdef0123456789abcdef"
EXPERIMENT = """artifact_location: {place}
creation_time: 1700000000000
experiment_id: '1'
last_update_time: 1700000000000
lifecycle_stage: active
name: "al\\0pha"
"""
META = """artifact_uri: {place}/artifacts
end_time: 1700000001000
experiment_id: '1'
lifecycle_stage: active
run_id: {run}
run_name: "o\\0ne"
source_name: ''
source_type: 4
source_version: ''
start_time: 1700000000000
status: 3
tags: []
user_id: me
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with thrown_away("texts") as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as MLflow writes it, with one run."""
    run = tmp_path / "mlruns" / "1" / RUN
    for name in ("params", "tags", "metrics", "artifacts"):
        (run / name).mkdir(parents=True)
    (run.parent / "meta.yaml").write_text(EXPERIMENT.format(place=run.parent))
    (run / "meta.yaml").write_text(META.format(place=run, run=RUN))
    (run / "params" / "lr").write_text("0\0.5")
    (run / "params" / "plain").write_text("as it is")
    (run / "tags" / "note").write_text("a\0b")
    (run / "metrics" / "loss").write_text("1700000000000 0.5 0\n")
    return tmp_path / "mlruns"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_text_with_u_0000_is_taken_with_the_character_replaced_and_said(
    tmp_path: Path, folder: Path, server: Server, kind: str
) -> None:
    store = StoreConfig(database=server.database("texts")) if kind == "postgresql" else StoreConfig()
    ws = open_workspace(project=Project(name="t", root=tmp_path / "p", store=store))
    try:
        for number in (1, 2):
            report = import_mlflow(ws, str(folder))
            told = {each.name: each.what for each in report.differences}
            assert set(told) == {"1", RUN}, told
            assert all("U+0000" in each and "U+FFFD" in each for each in told.values())
            assert report.new.get("run", 0) == (1 if number == 1 else 0), "doing it again adds nothing"
        with ws.ledger.read() as tx:
            found = records.params(tx, [RUN])[RUN], records.tags(tx, [RUN])[RUN]["note"]
            run = records.run(tx, RUN)
        assert found == ({"lr": "0\ufffd.5", "plain": "as it is"}, "a\ufffdb")
        assert run is not None
        assert (run.name, run.experiment) == ("o\ufffdne", "al\ufffdpha")
    finally:
        ws.ledger.database.close()
