"""Stores of other trackers: what may be read of this machine, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from noria.catalog.takeover.documents import RunDoc
from noria.catalog.takeover.import_mlflow import kind_of
from noria.core.errors import NoriaError, NotFound, UsageError
from noria.engines.trackers import database, folder
from noria.engines.trackers.local import LocalFiles, path_of
from noria.engines.trackers.server import Server


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
