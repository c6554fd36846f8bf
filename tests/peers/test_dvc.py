"""Take a real DVC repository over and give it back; the real dvc says whether it is right."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dvc_repository import as_version_2, commit, dvc, make, run

from noria.data.takeover.dvc import outputs_of

if TYPE_CHECKING:
    from s3_server import S3Server

pytestmark = pytest.mark.peers
DATASETS = {"prices", "images", "notes.txt", "count.txt", "a-copy", "m"}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository, made once."""
    return make(tmp_path_factory.mktemp("dvc") / "repo", "../store")


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of the repository."""
    return Path(shutil.copytree(made, tmp_path / "repo", symlinks=True))


def noria(folder: Path, *words: str | Path, code: int | None = 0, **env: str) -> str:
    return run(folder, sys.executable, "-m", "noria", *words, code=code, env=env)


def taken_over(folder: Path, *words: str, code: int = 0, **env: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(noria(folder, "import", "dvc", "--json", *words, code=code, **env))
    return found


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def snapshot(folder: Path) -> dict[str, str]:
    """Everything of DVC's and the user's, to see that nothing was touched."""
    skipped = (".git/", ".noria/", "noria.lock/", ".dvc/tmp/")
    return {
        name: hashlib.sha256(content).hexdigest()
        for name, content in bytes_of(folder).items()
        if not name.startswith(skipped) and name not in ("noria.toml", ".gitignore")
    }


def test_a_repository_is_taken_over_in_place_with_its_history_and_twice_adds_nothing(
    root: Path, tmp_path: Path
) -> None:
    before = snapshot(root)
    done = taken_over(root, "--history")
    assert done["ok"], done
    assert {each["dataset"] for each in done["versions"]} == DATASETS
    prices = [each for each in done["versions"] if each["dataset"] == "prices"]
    assert [(each["version"], each["is_new"]) for each in prices] == [(1, True), (2, True)]
    commits = run(root, "git", "log", "--reverse", "--format=%H").split()
    assert [each["commit"] for each in prices] == commits[:2]
    assert snapshot(root) == before
    again = taken_over(root, "--history")
    assert again["ok"]
    assert again["new"] == 0
    assert len(again["versions"]) == len(done["versions"])
    assert dvc(root, "status").strip().endswith("up to date.")
    noria(root, "data", "checkout", "images", tmp_path / "images")
    assert bytes_of(tmp_path / "images") == bytes_of(root / "data" / "images")
    noria(root, "data", "checkout", "prices@1", tmp_path / "prices")
    assert (tmp_path / "prices" / "prices.csv").read_text() == "id,price\n1,2.5\n2,3.5\n"
    assert json.loads(noria(root, "data", "show", "prices", "--json"))["dataset"]["rows"] == 3


def test_the_history_is_in_order_also_where_the_present_was_taken_over_first(root: Path) -> None:
    first = taken_over(root)
    assert [each["version"] for each in first["versions"] if each["dataset"] == "prices"] == [1]
    done = taken_over(root, "--history")
    prices = [each for each in done["versions"] if each["dataset"] == "prices"]
    assert [(each["version"], each["is_new"]) for each in prices] == [(2, True), (3, True)]
    log = json.loads(noria(root, "data", "log", "prices", "--json"))
    assert {each["version"]: each["rows"] for each in log} == {3: 3, 1: 3, 2: 2}
    assert [each["note"].endswith("what prices@1 says, in its place in the history") for each in log] == [
        each["version"] == 3 for each in log
    ]
    moments = [(each["at"], each["version"]) for each in log]
    assert moments == sorted(moments, reverse=True), "by the dates of the commits, which may be of one second"
    dates = run(root, "git", "log", "--reverse", "--format=%cI", "--", "data/prices.csv.dvc").split()
    told = [next(each["at"] for each in log if each["version"] == version) for version in (2, 3)]
    assert [datetime.fromisoformat(each) for each in told] == [datetime.fromisoformat(each) for each in dates]
    assert json.loads(noria(root, "data", "show", "prices@latest", "--json"))["dataset"]["rows"] == 3
    assert taken_over(root, "--history")["new"] == 0
    assert "version = 3" in (root / "noria.lock" / "prices.toml").read_text()


def test_what_is_taken_over_is_the_version_that_an_add_of_the_same_files_makes(root: Path, tmp_path: Path) -> None:
    taken_over(root)
    pinned = (root / "noria.lock" / "prices.toml").read_text()
    noria(root, "data", "add", "data/prices.csv", "--name", "prices")
    assert (root / "noria.lock" / "prices.toml").read_text() == pinned
    images = (root / "noria.lock" / "images.toml").read_text()
    noria(root, "data", "add", "data/images", "--name", "images")
    assert (root / "noria.lock" / "images.toml").read_text() == images, "names with a dot first are content, as of DVC"


@pytest.mark.parametrize("version", [2, 3])
def test_the_bytes_come_from_the_remote_where_the_cache_is_empty(root: Path, tmp_path: Path, version: int) -> None:
    if version == 2:
        as_version_2(root)
        commit(root, "as DVC 2")
        shutil.copytree(root / ".dvc" / "cache", tmp_path / "store")
        assert dvc(root, "status").strip().endswith("up to date.")
    else:
        dvc(root, "remote", "modify", "--local", "store", "url", tmp_path / "store")  # dvc mistakes a relative one
        dvc(root, "push", "--quiet", "--all-commits")
    shutil.rmtree(root / ".dvc" / "cache")
    done = taken_over(root, "--history") if version == 3 else taken_over(root)
    assert done["ok"], done
    assert {each["dataset"] for each in done["versions"]} == DATASETS
    assert any(line.startswith("[remote.store]") for line in done["remotes"])
    noria(root, "data", "checkout", "notes.txt", tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_bytes() == b"one\r\ntwo\r\n"


def test_a_remote_on_s3_is_read_as_dvc_wrote_it(root: Path, tmp_path: Path, s3_server: S3Server) -> None:
    url = s3_server.new_bucket()
    dvc(root, "remote", "modify", "--local", "store", "url", url)
    dvc(root, "remote", "modify", "--local", "store", "endpointurl", s3_server.endpoint)
    dvc(root, "push", "--quiet", "--all-commits")
    shutil.rmtree(root / ".dvc" / "cache")
    done = taken_over(root, "--history")
    assert done["ok"], done
    assert {each["dataset"] for each in done["versions"]} == DATASETS
    noria(root, "data", "push")
    shutil.rmtree(root / ".noria")
    noria(root, "data", "pull")
    noria(root, "data", "checkout", "images", tmp_path / "images")
    assert bytes_of(tmp_path / "images") == bytes_of(root / "data" / "images")


def test_what_is_altered_missing_or_changed_closes_the_report(root: Path, tmp_path: Path) -> None:
    md5 = hashlib.md5((root / "notes.txt").read_bytes(), usedforsecurity=False).hexdigest()
    altered = root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    altered.chmod(0o644)
    altered.write_bytes(b"other")
    md5 = hashlib.md5((root / "data" / "images" / "3.png").read_bytes(), usedforsecurity=False).hexdigest()
    (root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]).unlink()
    (root / "data" / "prices.csv").write_text("id,price\n9,9\n")
    done = taken_over(root, code=1)
    assert not done["ok"]
    assert {line.partition(":")[0] for line in done["left_out"]} == {"notes.txt", "data/images"}
    assert "the bytes of" in next(line for line in done["left_out"] if line.startswith("notes.txt"))
    assert "is nowhere; asked" in next(line for line in done["left_out"] if line.startswith("data/images"))
    assert [line.partition(" ")[0] for line in done["differences"]] == ["data/prices.csv"]
    assert "data/prices.csv" in dvc(root, "status")
    assert {each["dataset"] for each in done["versions"]} == DATASETS - {"notes.txt", "images"}


def test_it_is_given_back_so_that_dvc_reads_it_with_the_same_md5s(root: Path, tmp_path: Path) -> None:
    taken_over(root)
    noria(root, "export", "dvc", tmp_path / "back")
    back = tmp_path / "back"
    for name in ("data/prices.csv.dvc", "data/images.dvc", "notes.txt.dvc"):
        was, now = (outputs_of((place / name).read_text(), name) for place in (root, back))
        assert was == now
    dvc(back, "checkout")
    assert dvc(back, "status").strip().endswith("up to date.")
    assert bytes_of(back / "data" / "images") == bytes_of(root / "data" / "images")
    assert (back / "a copy.csv").read_bytes() == (root / "a copy.csv").read_bytes()
    shutil.rmtree(back / ".git", ignore_errors=True)
    done = taken_over(back)
    assert done["ok"], done
    assert {each["dataset"] for each in done["versions"]} == DATASETS


def test_plain_files_are_given_back_with_sums_that_other_tools_check(root: Path, tmp_path: Path) -> None:
    taken_over(root, "--history")
    noria(root, "export", "files", tmp_path / "plain", "--history")
    run(tmp_path / "plain", "sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS")
    assert (tmp_path / "plain" / "prices" / "v1" / "prices.csv").read_text() == "id,price\n1,2.5\n2,3.5\n"
    assert bytes_of(tmp_path / "plain" / "images" / "v1") == bytes_of(root / "data" / "images")
    told = noria(root, "export", "files", tmp_path / "plain", code=2)
    assert "not an empty folder" in told
