"""A real MLflow store is taken over and given back; MLflow's own reader says whether it is the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow_servers import BIN

from noria.bootstrap import open_workspace
from noria.catalog import filing
from noria.catalog.filing import Begin
from noria.governance.audit import verify
from noria.store.replay import difference
from noria.tracking.facts import ArtifactLogged

pytestmark = pytest.mark.peers
SCRIPT = Path(__file__).with_name("mlflow_store_script.py")
KILLS_OF_AN_IMPORT = ("import.stored", "import.added", "import.filed", "import.evalset", "import.records")
MADE_S = 600


def mlflow(*words: str | Path) -> str:
    """Run the script in MLflow's environment; gives what it says."""
    env = {
        **os.environ,
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [BIN / "python", SCRIPT, *map(str, words)], check=False, capture_output=True, text=True, timeout=MADE_S, env=env
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def told(uri: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mlflow("tell", uri).splitlines()[-1])
    return found


def noria(folder: Path, *words: str | Path, code: int = 0, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "noria", *map(str, words)],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=MADE_S,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:{BIN}", **(env or {})},
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout if code >= 0 and not done.stderr else done.stdout + done.stderr


def taken(folder: Path, *words: str | Path, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(noria(folder, *words, "--json", code=code).splitlines()[0])
    return found


def facts(folder: Path) -> int:
    ws = open_workspace(folder)
    try:
        return len(ws.ledger.facts(limit=1_000_000))
    finally:
        ws.ledger.database.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "noria.toml").write_text('[project]\nname = "taken"\n', encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in SQLite, made once and not written again."""
    folder = tmp_path_factory.mktemp("mlflow")
    mlflow("make", f"sqlite:///{folder / 'm.db'}", folder / "artifacts")
    return folder


@pytest.fixture
def copy(database: Path, tmp_path: Path) -> Path:
    """A copy of the store that a test may write, whose artifacts lie where the database does not say."""
    return Path(shutil.copytree(database, tmp_path / "copy"))


def test_a_database_is_taken_over_and_twice_adds_nothing(database: Path, project: Path) -> None:
    done = taken(project, "import", "mlflow", f"sqlite:///{database / 'm.db'}")
    assert done["ok"], done
    assert done["new"]["run"] == done["seen"]["run"] == 5
    assert done["seen"]["registered model"] == 3
    assert done["seen"]["evaluation data set"] == done["new"]["evaluation data set"] == 2
    assert done["seen"]["evaluation record"] == done["new"]["evaluation record"] == 1201
    before = facts(project)
    again = taken(project, "import", "mlflow", f"sqlite:///{database / 'm.db'}")
    assert again["ok"]
    assert again["new"] == {}
    assert again["seen"] == done["seen"]
    assert facts(project) == before, "the ledger is what it was"
    ws = open_workspace(project)
    assert difference(ws.ledger) == []
    assert verify(ws).ok
    ws.ledger.database.close()


def test_a_folder_is_taken_over_as_a_database_is(tmp_path: Path, project: Path) -> None:
    mlruns = tmp_path / "mlruns"
    mlflow("make", mlruns.as_uri(), "-")
    done = taken(project, "import", "mlflow", mlruns)
    assert done["ok"], done
    assert taken(project, "import", "mlflow", mlruns)["new"] == {}


def test_what_was_taken_over_is_given_back_and_mlflow_reads_the_same(
    database: Path, project: Path, tmp_path: Path
) -> None:
    noria(project, "import", "mlflow", f"sqlite:///{database / 'm.db'}")
    out = tmp_path / "out"
    done = taken(project, "export", "mlflow", out)
    assert done["ok"], done
    assert done["new"] == {"run": 5, "logged model": 1, "version": 3, "evaluation data set": 2}
    again = taken(project, "export", "mlflow", out)
    assert again["ok"]
    assert again["new"] == {}
    before = facts(project)
    same = taken(project, "import", "mlflow", f"sqlite:///{out / 'mlflow.db'}")
    assert same["ok"], same
    assert same["new"] == {}
    assert facts(project) == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "noria.toml").write_text('[project]\nname = "other"\n', encoding="utf-8")
    fresh = taken(other, "import", "mlflow", f"sqlite:///{out / 'mlflow.db'}")
    assert fresh["ok"], fresh
    assert fresh["new"] == {key: count for key, count in fresh["seen"].items() if count}
    # last, for loading a model makes MLflow write a file (registered_model_meta) beside it
    there, back = told(f"sqlite:///{database / 'm.db'}"), told(f"sqlite:///{out / 'mlflow.db'}")
    assert there["loaded"] == [3.0]
    assert sum(key.startswith("dataset ") for key in there) == 2
    assert back == there


def test_a_file_whose_name_no_disk_takes_is_left_out_by_name_and_the_rest_is_written(
    project: Path, tmp_path: Path
) -> None:
    ws = open_workspace(project)
    filing.ensure_default(ws)
    owner = filing.begin_run(ws, Begin(experiment="Default", name="r", started_at="2026-01-01T00:00:00.000000Z")).run
    stored = ws.objects.put_bytes(b"x")
    odd = ["ok/under", "nul\0", "x" * 256, "../up"]
    with ws.ledger.transaction() as tx:
        for name in ["ok", *odd]:
            payload = ArtifactLogged(run=owner, name=name, digest=stored, size_bytes=1, type="file")
            tx.append(payload, outputs=[(name, stored)])
    ws.ledger.database.close()
    done = taken(project, "export", "mlflow", tmp_path / "out", code=1)
    assert [path.name for path in (tmp_path / "out" / "artifacts").rglob("*") if path.is_file()] == ["ok"]
    said = json.dumps(done["differences"])
    assert all(json.dumps(name[:40])[1:-1] in said for name in odd), said


@pytest.mark.parametrize("point", KILLS_OF_AN_IMPORT)
def test_an_import_that_was_killed_is_gone_on_with(database: Path, project: Path, point: str) -> None:
    noria(
        project,
        "import",
        "mlflow",
        f"sqlite:///{database / 'm.db'}",
        code=-signal.SIGKILL,
        env={"NORIA_FAILPOINT": point},
    )
    done = taken(project, "import", "mlflow", f"sqlite:///{database / 'm.db'}")
    assert done["ok"], done
    assert taken(project, "import", "mlflow", f"sqlite:///{database / 'm.db'}")["new"] == {}
    ws = open_workspace(project)
    assert difference(ws.ledger) == []
    ws.ledger.database.close()


def test_what_went_on_there_is_added_and_what_differs_is_named(database: Path, copy: Path, project: Path) -> None:
    noria(project, "import", "mlflow", f"sqlite:///{database / 'm.db'}")
    with sqlite3.connect(copy / "m.db") as rows:
        (run,) = rows.execute("SELECT run_uuid FROM runs WHERE name = 'going on'").fetchone()
        rows.execute("INSERT INTO metrics VALUES ('late', 0.5, 7, ?, 1, 0)", [run])
        rows.execute("INSERT INTO tags VALUES ('new', 'x', ?)", [run])
        rows.execute("UPDATE runs SET status = 'FINISHED', end_time = 1700000005000 WHERE run_uuid = ?", [run])
    moved = ("import", "mlflow", f"sqlite:///{copy / 'm.db'}", "--artifacts", database)
    done = taken(project, *moved)
    assert done["ok"], done
    assert done["new"] == {"metric": 1, "point": 1}
    assert taken(project, *moved)["new"] == {}
    with sqlite3.connect(copy / "m.db") as rows:
        rows.execute("UPDATE params SET value = 'other' WHERE key = 'p' AND run_uuid = ?", [run])
        rows.execute("UPDATE metrics SET value = 0.75 WHERE key = 'late'")
    differs = taken(project, *moved, code=1)
    named = {(each["kind"], each["name"]): each["what"] for each in differs["differences"]}
    assert named[("run", run)] == "params 'p': 'other' there, '1' here"
    assert named[("metric", f"{run} late")] == "1 points there, 2 here"
    assert len(named) == differs["differing"] == 2


def test_evaluation_records_that_came_there_are_added_and_those_that_differ_are_named(
    database: Path, copy: Path, project: Path
) -> None:
    noria(project, "import", "mlflow", f"sqlite:///{database / 'm.db'}")
    with sqlite3.connect(copy / "m.db") as rows:
        (of,) = rows.execute("SELECT dataset_id FROM evaluation_datasets WHERE name = 'questions'").fetchone()
        rows.execute(
            "INSERT INTO evaluation_dataset_records (dataset_record_id, dataset_id, inputs, created_time, "
            "last_update_time, input_hash) VALUES ('dr-later', ?, '{\"q\": 1}', 1900000000000, 1900000000000, 'h')",
            [of],
        )
        rows.execute("INSERT INTO evaluation_dataset_tags VALUES (?, 'more', 'y')", [of])
    moved = ("import", "mlflow", f"sqlite:///{copy / 'm.db'}", "--artifacts", database)
    done = taken(project, *moved)
    assert done["ok"], done
    assert done["new"] == {"evaluation record": 1}
    assert taken(project, *moved)["new"] == {}
    with sqlite3.connect(copy / "m.db") as rows:
        rows.execute(
            "UPDATE evaluation_dataset_records SET tags = '{\"other\": 1}' WHERE dataset_record_id = 'dr-later'"
        )
    differs = taken(project, *moved, code=1)
    assert [(each["kind"], each["name"], each["what"]) for each in differs["differences"]] == [
        ("evaluation record", f"{of}/dr-later", "tags 'other': 1 there, nothing here")
    ]


def test_bytes_that_differ_are_named_and_files_elsewhere_are_not_read(
    copy: Path, project: Path, tmp_path: Path
) -> None:
    with sqlite3.connect(copy / "m.db") as rows:
        (run,) = rows.execute("SELECT run_uuid FROM runs WHERE name = 'one'").fetchone()
        rows.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", [str(copy / "own"), run])
    (copy / "own").mkdir()
    (copy / "own" / "a.txt").write_text("first", encoding="utf-8")
    source = ("import", "mlflow", f"sqlite:///{copy / 'm.db'}", "--artifacts", copy)
    assert taken(project, *source)["ok"]
    (copy / "own" / "a.txt").write_text("other", encoding="utf-8")
    differs = taken(project, *source, code=1)
    assert [(each["kind"], each["name"]) for each in differs["differences"]] == [("artifact", f"{run}/a.txt")]
    secret = tmp_path / "secret"
    secret.write_text("s", encoding="utf-8")
    (copy / "own" / "a.txt").unlink()
    (copy / "own" / "a.txt").symlink_to(secret)
    refused = taken(project, *source, code=1)
    assert "is outside the folders that may be read" in refused["differences"][0]["what"]


def test_a_database_of_a_version_that_is_not_known_is_refused_by_its_name(copy: Path, project: Path) -> None:
    with sqlite3.connect(copy / "m.db") as rows:
        rows.execute("UPDATE alembic_version SET version_num = 'feedfacefeed'")
    said = noria(project, "import", "mlflow", f"sqlite:///{copy / 'm.db'}", code=2)
    assert "feedfacefeed" in said
    assert len(said.strip().splitlines()) <= 6
    assert facts(project) == 0


def test_the_tables_of_every_known_version_are_read_alike(tmp_path: Path, project: Path) -> None:
    from noria.engines.trackers.database import KNOWN

    mlflow("schemas", tmp_path)
    assert {path.stem for path in tmp_path.glob("*.db")} == {*KNOWN, "growing"}
    first = taken(project, "import", "mlflow", f"sqlite:///{tmp_path / KNOWN[0]}.db")
    assert first["ok"], first
    assert first["seen"]["run"] == 2
    assert first["seen"]["point"] == 3
    from noria.catalog.takeover.import_mlflow import import_mlflow

    ws = open_workspace(project)
    for revision in KNOWN[1:]:
        done = import_mlflow(ws, f"sqlite:///{tmp_path / revision}.db")
        assert done.ok, (revision, done)
        assert not done.new, revision
        assert done.seen == first["seen"], revision
    ws.ledger.database.close()


@pytest.mark.slow
def test_many_runs_are_taken_over_in_memory_that_does_not_grow(tmp_path: Path, project: Path) -> None:
    mlflow("many", f"sqlite:///{tmp_path / 'm.db'}", tmp_path / "artifacts", "200")
    code = (
        "import resource, sys; from pathlib import Path; from noria.bootstrap import open_workspace;"
        "from noria.catalog.takeover.import_mlflow import import_mlflow;"
        "ws = open_workspace(Path()); done = import_mlflow(ws, sys.argv[1]);"
        "assert done.ok, done; assert done.seen['run'] == 200, done;"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"sqlite:///{tmp_path / 'm.db'}"],
        cwd=project,
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 400_000, "kilobytes; the libraries alone are half of it"
