"""Stores of other trackers: what may be read of this machine, and what is refused."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from noria.catalog.takeover.documents import RunDoc
from noria.catalog.takeover.import_mlflow import import_mlflow, kind_of
from noria.core.errors import NoriaError, NotFound, UsageError
from noria.engines.trackers import database, folder
from noria.engines.trackers import server as tracking_server
from noria.engines.trackers.local import LocalFiles, path_of
from noria.engines.trackers.server import Server
from noria.experiments import records
from noria.testing import open_memory


def run(place: str) -> RunDoc:
    return RunDoc(
        id="a1",
        experiment="e",
        name="",
        user="",
        status="FINISHED",
        stage="active",
        started_ms=0,
        ended_ms=0,
        params={},
        tags={},
        place=place,
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store's folder with the artifacts of one run."""
    root = tmp_path / "store"
    kept = root / "mlartifacts" / "1" / "a1" / "artifacts" / "deep"
    kept.mkdir(parents=True)
    (kept / "x.txt").write_text("x", encoding="utf-8")
    return root


def names(files: LocalFiles, place: str) -> list[str]:
    return [each.name for each in files.listing(run(place))]


@pytest.mark.parametrize("place", ["mlflow-artifacts:/1/a1/artifacts", "/somewhere/else/1/a1/artifacts"])
def test_files_that_moved_are_found_by_the_layout(store: Path, place: str) -> None:
    assert names(LocalFiles(store, []), place) == ["deep/x.txt"]
    assert names(LocalFiles(None, [store / "mlartifacts"]), place) == ["deep/x.txt"]


@pytest.mark.parametrize("place", ["s3://bucket/1/a1/artifacts", "/no/such/folder/1/a2/artifacts"])
def test_files_that_are_not_here_are_not_taken_for_none(store: Path, place: str) -> None:
    with pytest.raises(NotFound):
        LocalFiles(store, []).listing(run(place))


def test_a_run_without_files_has_none_where_they_would_be(store: Path) -> None:
    assert names(LocalFiles(store, []), "mlflow-artifacts:/1/a2/artifacts") == []
    assert names(LocalFiles(store, []), "") == [], "a run that has no place for them"
    assert names(LocalFiles(store, []), str(store / "mlartifacts" / "1" / "a2" / "artifacts")) == []


def test_nothing_outside_the_named_folders_is_read(store: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s", encoding="utf-8")
    with pytest.raises(NotFound, match="outside the folders"):
        LocalFiles(store, []).listing(run(str(outside)))
    with pytest.raises(NotFound, match="outside the folders"):
        LocalFiles(store, []).listing(run(f"{store}/../outside"))
    inside = run(str(store / "mlartifacts/1/a1/artifacts"))
    (store / "mlartifacts/1/a1/artifacts/link").symlink_to(outside / "secret")
    for name in ("link", "../../../../../outside/secret"):
        with pytest.raises(NotFound):
            LocalFiles(store, []).open(inside, name)


def test_an_address_says_what_kind_of_store_it_is() -> None:
    kinds = ["mlruns", "file:///x/mlruns", "sqlite:///m.db", "postgresql://h/d", "http://h", "https://h:5000/x"]
    assert [kind_of(each) for each in kinds] == ["folder", "folder", "database", "database", "server", "server"]
    assert path_of("file:///a%20b") == Path("/a b")
    assert path_of("s3://bucket/x") is None


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.db").write_bytes(b"")
    (tmp_path / "text.db").write_text("no database at all" * 100, encoding="utf-8")
    for address in (f"sqlite:///{tmp_path}/file.db", f"sqlite:///{tmp_path}/text.db", "mysql://h/d", "sqlite://"):
        with pytest.raises(NoriaError), database.read(address, []):
            pass
    for place in (tmp_path / "file.db", tmp_path):
        with pytest.raises(UsageError), folder.read(str(place), []):
            pass


def test_an_address_is_shown_without_its_password() -> None:
    assert database.shown("postgresql://me:secret@host/db") == "postgresql://host/db"
    assert Server("http://me:secret@host:5000/x").shown == "http://host:5000/x"


class _Elsewhere(BaseHTTPRequestHandler):
    """Sends everybody to another address."""

    def do_POST(self) -> None:
        """A redirect."""
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.1:9/stolen")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of a server that redirects."""
    server = HTTPServer(("127.0.0.1", 0), _Elsewhere)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_redirect_is_refused_so_that_credentials_stay(elsewhere: str) -> None:
    with pytest.raises(UsageError, match="answers 302"):
        Server(elsewhere).experiments()


EXPERIMENT = {"experiment_id": "1", "name": "e", "lifecycle_stage": "active", "creation_time": 1, "last_update_time": 1}
TOLD: dict[str, dict[str, object]] = {}
"""What the server of these tests answers, by the end of the path."""


class _Told(BaseHTTPRequestHandler):
    """Answers what the test says, whatever is asked."""

    def do_GET(self) -> None:
        """An answer."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        place = self.path.partition("?")[0]
        content = json.dumps(next((TOLD[end] for end in TOLD if place.endswith(end)), {})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""


@pytest.fixture
def telling() -> Iterator[Callable[..., str]]:
    """Set what a server answers; gives its address."""
    server = HTTPServer(("127.0.0.1", 0), _Told)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def tell(**said: dict[str, object]) -> str:
        TOLD.clear()
        TOLD.update({name.replace("_", "/", 1).replace("_", "-"): each for name, each in said.items()})
        return f"http://127.0.0.1:{server.server_port}"

    yield tell
    server.shutdown()
    server.server_close()


def test_a_server_that_gives_the_same_page_for_ever_is_told(telling: Callable[..., str]) -> None:
    address = telling(experiments_search={"experiments": [EXPERIMENT], "next_page_token": "same"})
    with pytest.raises(UsageError, match="gives a page again"), tracking_server.read(address, []):
        pass
    answer = {"metrics": [{"key": "m", "value": 1, "timestamp": 1, "step": 0}], "next_page_token": "same"}
    found = {"run": {"info": {}, "data": {"metrics": [{"key": "m"}]}}}
    address = telling(metrics_get_history=answer, runs_get=found)
    with pytest.raises(UsageError, match="gives a page again"):
        list(Server(address).points("a1"))


def test_a_folder_that_holds_itself_is_told(telling: Callable[..., str]) -> None:
    address = telling(artifacts_list={"files": [{"path": "d", "is_dir": True}]})
    with pytest.raises(UsageError, match="the folder 'd' of a1 is told a second time"):
        Server(address).listing(run(""))


@pytest.mark.parametrize(
    "said",
    [
        {"experiments": "abc"},
        {"experiments": [{"experiment_id": 5}]},
        {"experiments": [None]},
        {"experiments": [{**EXPERIMENT, "creation_time": "yesterday"}]},
        {"experiments": [{**EXPERIMENT, "tags": {"a": "b"}}]},
        {"experiments": 7},
    ],
)
def test_an_answer_of_another_shape_is_the_servers_fault(telling: Callable[..., str], said: dict[str, object]) -> None:
    address = telling(experiments_search=said)
    wrong = pytest.raises(UsageError, match="what the store tells of its experiments")
    with wrong, tracking_server.read(address, []):
        pass


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"runs_search": {"runs": [{"info": {}}]}}, "KeyError: 'run_id'"),
        ({"runs_search": {"runs": [{"info": {"run_id": "a"}}]}, "runs_get": {}}, "KeyError: 'run'"),
        ({"registered_models_search": {"registered_models": [{}]}}, "KeyError: 'name'"),
        ({"logged_models_search": {"models": ["x"]}}, "string indices"),
    ],
)
def test_a_takeover_ends_with_what_the_server_told_amiss(
    telling: Callable[..., str], tmp_path: Path, said: dict[str, dict[str, object]], wrong: str
) -> None:
    address = telling(experiments_search={"experiments": [EXPERIMENT]})
    TOLD.update({name.replace("_models", "-models").replace("_search", "/search").replace("_get", "/get"): each
                 for name, each in said.items()})  # fmt: skip
    ws = open_memory(root=tmp_path)
    with pytest.raises(UsageError, match=wrong):
        import_mlflow(ws, address)
    ws.ledger.database.close()


SCHEMA = """
CREATE TABLE alembic_version (version_num);
CREATE TABLE experiments (experiment_id INTEGER, name, artifact_location, lifecycle_stage, creation_time BIGINT,
  last_update_time BIGINT);
CREATE TABLE runs (run_uuid, name, user_id, status, start_time BIGINT, end_time BIGINT, lifecycle_stage, artifact_uri,
  experiment_id INTEGER);
CREATE TABLE metrics (key, value DOUBLE, timestamp BIGINT, run_uuid, step BIGINT, is_nan BOOLEAN);
CREATE TABLE latest_metrics (key, value DOUBLE, timestamp BIGINT, run_uuid, step BIGINT, is_nan BOOLEAN);
CREATE TABLE params (key, value, run_uuid);
CREATE TABLE tags (key, value, run_uuid);
CREATE TABLE experiment_tags (key, value, experiment_id INTEGER);
CREATE TABLE registered_models (name, creation_time BIGINT, last_updated_time BIGINT, description);
CREATE TABLE registered_model_tags (key, value, name);
CREATE TABLE model_versions (name, version INTEGER, creation_time BIGINT, last_updated_time BIGINT, description,
  user_id, current_stage, source, run_id, status, status_message, run_link);
CREATE TABLE model_version_tags (key, value, name, version INTEGER);
INSERT INTO experiments VALUES (1, 'e', '', 'active', 1, 1);
INSERT INTO metrics SELECT 'm', 0.5, 1, each.value, 0, 0 FROM json_each('["sound", "other"]') AS each;
INSERT INTO params SELECT 'p', 'v', each.value FROM json_each('["sound", "other"]') AS each;
INSERT INTO runs SELECT each.value, 'n', 'u', 'FINISHED', 1, 2, 'active', '', 1
  FROM json_each('["sound", "other"]') AS each;
"""


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE runs SET start_time = 'yesterday' WHERE run_uuid = 'other'", "run other: is left out"),
        ("UPDATE params SET value = x'fffe' WHERE run_uuid = 'other'", "run other: is left out"),
        ("UPDATE metrics SET value = 'abc' WHERE run_uuid = 'other'", "run other: is left out"),
        ("UPDATE metrics SET step = 'abc' WHERE run_uuid = 'other'", "run other: is left out"),
        (
            "UPDATE runs SET experiment_id = 99 WHERE run_uuid = 'other'",
            "run other: is left out: there is no experiment",
        ),
        ("UPDATE runs SET experiment_id = NULL WHERE run_uuid = 'other'", "there is no experiment None"),
    ],
)
def test_what_a_database_holds_amiss_is_left_out_by_name_and_the_rest_is_taken(
    tmp_path: Path, damage: str, told: str
) -> None:
    place = tmp_path / "store" / "mlflow.db"
    place.parent.mkdir()
    with sqlite3.connect(place) as connection:
        connection.executescript(SCHEMA)
        connection.execute("INSERT INTO alembic_version VALUES (?)", (database.KNOWN[0],))
        connection.execute(damage)
    connection.close()
    ws = open_memory(root=tmp_path / "project")
    report = import_mlflow(ws, f"sqlite:///{place}")
    (different,) = report.differences
    assert told in f"{different.kind} {different.name}: {different.what}".replace("store run", "run")
    with ws.ledger.read() as tx:
        assert records.run(tx, "sound") is not None
        assert records.run(tx, "other") is None
    ws.ledger.database.close()
