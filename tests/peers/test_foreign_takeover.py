"""What Weights & Biases and Aim kept on a disk, written by the real tools, is taken over whole or named."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from noria.bootstrap import open_workspace
from noria.catalog.takeover.documents import RunDoc
from noria.catalog.takeover.ours import Ours
from noria.governance.audit import verify
from noria.store.replay import difference
from noria.store.workspace import Workspace

pytestmark = pytest.mark.peers
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WANDB = ROOT / ".venv-peers/wandb/bin/python"
AIM = ROOT / ".venv-peers/aim/bin/python"
TRACKERS = ROOT / "src/noria/engines/trackers"
KILLS_OF_A_WANDB_IMPORT = ("import.added",)
LONG_S = 600
OLD = (1_700_000_000, 1_700_000_000)
Points = dict[str, list[tuple[int, float]]]


def script(python: Path, name: str, folder: Path, *words: str | Path, code: int = 0) -> str:
    """Run a script in a peer's environment, in a folder; gives what it says last."""
    assert python.exists(), "make peers installs .venv-peers"
    env = {
        **os.environ,
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_DATA_DIR": str(folder / "staging"),
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_CONFIG_DIR": str(folder / "config"),
    }
    done = subprocess.run(
        [python, HERE / name, *map(str, words)],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        env=env,
    )
    assert done.returncode == code, done.stderr[-3000:]
    return (done.stdout.strip().splitlines() or [""])[-1]


def noria(folder: Path, *words: str | Path, code: int = 0, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "noria", *map(str, words)],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def taken(folder: Path, *words: str | Path, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(noria(folder, *words, "--json", code=code).splitlines()[0])
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "noria.toml").write_text('[project]\nname = "taken"\n', encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of wandb's, made once: one with everything, and two projects whose runs have one id, one in two parts."""
    folder = tmp_path_factory.mktemp("wandb")
    script(WANDB, "wandb_runs_script.py", folder, "whole")
    script(WANDB, "wandb_runs_script.py", folder, "short", "churn", "1.5")
    for value in ("2.5", "9.5"):
        script(WANDB, "wandb_runs_script.py", folder, "short", "price", value)
    return folder


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A repository of Aim's, made once, and the ids of its two runs."""
    folder = tmp_path_factory.mktemp("aim")
    subprocess.run([AIM.with_name("aim"), "init"], cwd=folder, check=True, capture_output=True)
    one, other = script(AIM, "aim_repository_script.py", folder, "whole", folder).split()
    return folder, one, other


@pytest.fixture
def opened(project: Path) -> Iterator[list[Workspace]]:
    """Workspaces that a test opened: each is sound at its end."""
    found: list[Workspace] = []
    yield found
    for ws in found:
        assert difference(ws.ledger) == []
        assert verify(ws).ok
        ws.ledger.database.close()


def run_of(ws: Workspace, run: str) -> tuple[RunDoc, Points]:
    ours = Ours(ws)
    doc = ours.found([run]).get(run)
    assert doc is not None, run
    return doc, {
        key: list(zip(found.steps.tolist(), found.values.tolist(), strict=True)) for key, found in ours.points(run)
    }


def content(ws: Workspace, doc: RunDoc, name: str) -> bytes:
    with Ours(ws).open(doc, name) as stream:
        return stream.read()


def lines(ws: Workspace, doc: RunDoc, name: str) -> list[Any]:
    return [json.loads(line) for line in content(ws, doc, name).splitlines()]


def wandb_words(offline: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return ("import", "wandb", offline, "--python", WANDB, "--artifacts", offline, *more)


def test_runs_of_wandb_are_taken_over_and_twice_adds_nothing(
    offline: Path, project: Path, opened: list[Workspace]
) -> None:
    done = taken(project, *wandb_words(offline))
    assert done["ok"], done
    assert done["new"]["run"] == done["seen"]["run"] == 3
    ws = open_workspace(project)
    opened.append(ws)
    facts = len(ws.ledger.facts(limit=1_000_000))
    again = taken(project, "import", "wandb", offline / "wandb", *wandb_words(offline)[3:])
    assert (again["ok"], again["new"], again["seen"]) == (True, {}, done["seen"])
    assert len(ws.ledger.facts(limit=1_000_000)) == facts, "the ledger is what it was"

    doc, points = run_of(ws, "abc")
    assert (doc.experiment, doc.name, doc.status) == ("churn", "first", "FINISHED")
    assert doc.started_ms is not None
    assert doc.ended_ms is not None
    assert doc.ended_ms > doc.started_ms
    assert doc.params == {"lr": "0.1", "net.depth": "3", "sizes": "[1, 2]"}
    for key, value in (("base", "true"), ("try", "true"), ("mlflow.note.content", "a note"), ("wandb.group", "g")):
        assert doc.tags[key] == value
    assert points["loss"] == [(step, 1 / (step + 1)) for step in range(40)]
    assert points["deep.er"] == [(step, float(step)) for step in range(40)]
    assert points["is_good"] == [(step, float(step % 2 == 0)) for step in range(40)]
    assert all(math.isnan(value) for _, value in points["nan"])
    assert points["inf"] == [(step, math.inf) for step in range(40)]
    assert [value for _, value in points["best"]] == [0.9]
    assert any(key.startswith("system/") for key in points)
    assert [each["value"] for each in lines(ws, doc, "wandb/history/said.jsonl")] == [f"s{step}" for step in range(40)]
    assert lines(ws, doc, "wandb/history/shape.jsonl")[0]["value"]["bins"] == [0, 0.5, 1]
    (table,) = lines(ws, doc, "wandb/history/rows.jsonl")
    assert json.loads(content(ws, doc, table["value"]["path"]))["data"] == [[1], [2]]
    (page,) = lines(ws, doc, "wandb/history/page.jsonl")
    assert b"<b>x</b>" in content(ws, doc, page["value"]["path"])
    assert json.loads(content(ws, doc, "wandb/summary.json"))["word"] == "w"
    assert content(ws, doc, "note.txt") == b"saved"
    (weights,) = (each.name for each in Ours(ws).listing(doc) if each.name.endswith("deep/note.txt"))
    assert content(ws, doc, weights) == b"saved"
    said = json.loads(content(ws, doc, weights.replace("deep/note.txt", "artifact.json")))
    assert (said["name"], said["type"], [each["path"] for each in said["entries"]]) == (
        "weights",
        "model",
        ["deep/note.txt"],
    )
    assert b"a printed line" in content(ws, doc, "output.log")


def test_runs_of_two_wandb_projects_with_one_id_stay_apart(
    offline: Path, project: Path, opened: list[Workspace]
) -> None:
    done = taken(project, *wandb_words(offline))
    assert done["notes"] == ["run same was gone on with: 2 folders are one run"]
    ws = open_workspace(project)
    opened.append(ws)
    ours = Ours(ws)
    found = {
        each.name: [run for run in ours.runs(each) if run.tags.get("wandb.id") == "same"] for each in ours.experiments()
    }
    (churn,), (price,) = found["churn"], found["price"]
    assert churn.id == "same"
    assert price.id.startswith("same-")
    assert (churn.status, price.status) == ("FINISHED", "FAILED")
    assert run_of(ws, churn.id)[1]["loss"] == [(0, 1.5)]
    assert sorted(run_of(ws, price.id)[1]["loss"]) == [(0, 2.5), (0, 9.5)]
    assert {"requirements.txt", "part-2/requirements.txt"} <= {each.name for each in ours.listing(price)}


def test_files_of_wandb_that_may_not_be_read_or_changed_are_named(offline: Path, project: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(offline, tmp_path / "copy", symlinks=True))
    staged = next(path for path in (copy / "staging").rglob("*") if path.is_file() and path.read_bytes() == b"saved")
    words = ("import", "wandb", copy / "wandb", "--python", WANDB)
    named = [each["what"] for each in taken(project, *words, code=1)["differences"] if each["name"] == "abc"]
    assert any("note.txt" in what and "outside the folders that may be read" in what for what in named), named
    assert str(offline) in " ".join(named), "the paths that the store says are elsewhere"
    original = Path(str(staged).replace(str(copy), str(offline)))
    original.write_bytes(b"other")
    try:
        done = taken(project, *words, "--artifacts", offline, code=1)
    finally:
        original.write_bytes(b"saved")
    whats = [each["what"] for each in done["differences"]]
    assert len([what for what in whats if "its bytes are not those that were logged" in what]) == 1, whats
    assert taken(project, *words, "--artifacts", offline)["new"] == {"artifact": 1}


@pytest.mark.parametrize("point", KILLS_OF_A_WANDB_IMPORT)
def test_an_import_that_was_killed_is_gone_on_with(offline: Path, project: Path, point: str) -> None:
    noria(project, *wandb_words(offline), code=-signal.SIGKILL, env={"NORIA_FAILPOINT": point})
    done = taken(project, *wandb_words(offline))
    assert done["ok"], done
    assert done["seen"]["run"] == 3
    assert taken(project, *wandb_words(offline))["new"] == {}


def test_a_run_of_wandb_that_was_killed_is_read_as_far_as_it_goes(
    tmp_path: Path, project: Path, opened: list[Workspace]
) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    script(WANDB, "wandb_runs_script.py", folder, "killed", code=-signal.SIGKILL)
    (file,) = folder.glob("wandb/offline-run-*/run-dead.wandb")
    cut = Path(shutil.copytree(file.parent, tmp_path / "cut" / file.parent.name))
    (cut / file.name).write_bytes(file.read_bytes()[:500_001])
    done = taken(project, "import", "wandb", cut.parent, "--python", WANDB)
    assert done["ok"], done
    assert any("ends in the middle of a record" in note for note in done["notes"]), done
    assert any("its files come with an import after its end" in note for note in done["notes"]), done
    ws = open_workspace(project)
    opened.append(ws)
    doc, points = run_of(ws, "dead")
    assert doc.status == "RUNNING", "its file was written a moment ago"
    assert len(points["loss"]) > 100
    assert points["loss"] == [(step, float(step)) for step in range(len(points["loss"]))]
    assert not Ours(ws).listing(doc)
    os.utime(file, OLD)
    whole = taken(project, "import", "wandb", folder, "--python", WANDB)
    assert whole["ok"], whole
    assert whole["new"]["point"] > 0, "more of it was found since"
    doc, later = run_of(ws, "dead")
    assert doc.status == "KILLED"
    assert later["loss"] == [(step, float(step)) for step in range(len(later["loss"]))]
    assert len(lines(ws, doc, "wandb/history/text.jsonl")) == len(later["loss"]) > len(points["loss"])
    assert taken(project, "import", "wandb", folder, "--python", WANDB)["new"] == {}


def test_a_file_of_wandb_cut_anywhere_gives_the_beginning_of_its_points(offline: Path) -> None:
    (file,) = offline.glob("wandb/offline-run-*/run-abc.wandb")
    told = json.loads(script(WANDB, "wandb_runs_script.py", offline, "cuts", file, TRACKERS))
    whole = [[step, 1 / (step + 1)] for step in range(40)]
    lengths = []
    for each in told["cuts"]:
        assert each["losses"] == whole[: len(each["losses"])]
        assert each["runs"] or each["notes"]
        lengths.append(len(each["losses"]))
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert lengths[-1] == 40
    assert told["cuts"][-1]["notes"] == []
    assert told["damaged"]["left_out"], "what could not be read is named"
    assert "damaged" in told["headless"]["lost"][0][1]
    assert told["foreign"]["lost"] == [["offline-run-x/run-x.wandb", "it is no file of wandb's"]]
    assert not any(each["lost"] for each in told["cuts"])


def test_without_the_library_one_error_names_the_extra(offline: Path, project: Path) -> None:
    for tool, store in (("wandb", offline), ("aim", offline)):
        (offline / ".aim").mkdir(exist_ok=True)
        said = noria(project, "import", tool, store, "--python", AIM if tool == "wandb" else WANDB, code=2)
        assert f"noria[{tool}]" in said
        assert len(said.strip().splitlines()) <= 6
    (offline / ".aim").rmdir()
    assert "there is no interpreter" in noria(project, "import", "wandb", offline, "--python", "/no/python", code=2)
    assert "no run of Weights & Biases" in noria(project, "import", "wandb", project, "--python", WANDB, code=2)
    assert "no repository of Aim's" in noria(project, "import", "aim", project, "--python", AIM, code=2)


def test_a_repository_of_aim_is_taken_over_and_twice_adds_nothing(
    repository: tuple[Path, str, str], project: Path, opened: list[Workspace]
) -> None:
    folder, one, other = repository
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = taken(project, "import", "aim", folder, "--python", AIM)
    assert done["ok"], done
    assert done["new"]["run"] == done["seen"]["run"] == 2
    again = taken(project, "import", "aim", folder / ".aim", "--python", AIM)
    assert (again["ok"], again["new"], again["seen"]) == (True, {}, done["seen"])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before, "it is not written"

    ws = open_workspace(project)
    opened.append(ws)
    doc, points = run_of(ws, one)
    assert (doc.experiment, doc.name, doc.status) == ("churn", "first", "FINISHED")
    assert doc.params == {
        "hparams.lr": "0.1",
        "hparams.layers": "[1, 2]",
        "hparams.deep.er": "x",
        "seed": "3",
        "text.data": "a param",
    }
    assert doc.tags["base"] == "true"
    assert doc.tags["mlflow.note.content"] == "a note"
    assert points["loss{subset=train}"] == [(step, 1 / (step + 1)) for step in range(30)]
    assert points["loss{subset=val}"] == [(step, 2 / (step + 1)) for step in range(30)]
    assert points["loss.epoch{subset=train}"] == [(step, float(step // 10)) for step in range(30)]
    assert math.isnan(points["odd"][0][1])
    assert points["odd"][1] == (1, math.inf)
    (shape,) = lines(ws, doc, "aim/sequences/shape.jsonl")
    assert (shape["value"][0]["weights"], shape["value"][0]["range"]) == ([1, 2], [0.0, 1.0])
    assert lines(ws, doc, "aim/sequences/words.jsonl")[0]["value"][0]["data"] == "hello"
    (pictures,) = lines(ws, doc, "aim/sequences/pictures{fold=1}.jsonl")
    assert pictures["value"][0]["caption"] == "c"
    for each in pictures["value"]:
        assert content(ws, doc, each["file"]).startswith(b"\x89PNG")
    assert lines(ws, doc, "aim/sequences/__log_records.jsonl")[0]["value"][0]["message"] == "a record"
    assert content(ws, doc, "artifacts/model.bin") == b"weights"
    archived, counted = run_of(ws, other)
    assert (archived.experiment, archived.tags["aim.archived"], counted) == ("price", "true", {"count": [(0, 5.0)]})


def test_a_run_of_aim_that_has_no_end_goes_on_or_was_killed(
    repository: tuple[Path, str, str], project: Path, tmp_path: Path, opened: list[Workspace]
) -> None:
    folder = Path(shutil.copytree(repository[0], tmp_path / "copy"))
    run = script(AIM, "aim_repository_script.py", folder, "going", folder)
    assert taken(project, "import", "aim", folder, "--python", AIM, "--artifacts", repository[0])["ok"]
    ws = open_workspace(project)
    opened.append(ws)
    assert run_of(ws, run)[0].status == "RUNNING"
    for path in folder.glob(f".aim/*/chunks/{run}/*"):
        os.utime(path, OLD)
    assert taken(project, "import", "aim", folder, "--python", AIM, "--artifacts", repository[0])["ok"]
    doc, points = run_of(ws, run)
    assert (doc.status, points["loss"]) == ("KILLED", [(0, 1.0)])
