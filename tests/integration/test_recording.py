"""Recording a run: what a call has logged is there after a kill, an outage and a race, and is there once."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from noria.bootstrap import open_workspace
from noria.core.errors import StoreUnavailable
from noria.experiments import journal, records, search, sending
from noria.governance.audit import verify
from noria.packaging import bundle
from noria.registry import versions
from noria.store.replay import difference
from noria.store.workspace import Workspace

VICTIM = Path(__file__).with_name("recording_victim.py")
KILLS = ("batch.stored", "batch.sent", "recording.ended", "batch.stored:2", "batch.sent:2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "noria.toml").write_text('[project]\nname = "demo"\n')
    return tmp_path


def victim(folder: Path, kind: str, count: int, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(VICTIM), kind, str(count)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def noria(folder: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "noria", *arguments, "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def steady(folder: Path) -> subprocess.Popen[str]:
    """A process that logs and tells what it has logged, for long."""
    command = [sys.executable, str(VICTIM), "steady", "30000"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)


def require_whole(ws: Workspace, run: str, metric: str, count: int) -> None:
    """The metric has each step once, the records are the fold of the facts, and nothing waits."""
    found = search.history(ws, run, metric, points=100_000)
    assert list(found.steps) == list(range(count))
    assert list(found.values) == [float(step) for step in range(count)]
    with ws.ledger.read() as tx:
        assert [(each.points, each.step) for each in records.metrics(tx, [run])[run] if each.key == metric] == [
            (count, count - 1)
        ]
    assert difference(ws.ledger) == []
    report = verify(ws)
    assert report.ok, report
    assert sending.waiting(ws) == []


def test_a_run_is_recorded_whole_and_its_folder_goes(folder: Path) -> None:
    assert victim(folder, "whole", 50).returncode == 0
    ws = open_workspace(folder)
    [run] = search.search_runs(ws)
    assert (run.name, run.status, run.experiment, run.params) == ("whole", "finished", "demo", {"lr": "0.1"})
    require_whole(ws, run.run, "loss", 100)
    shown = search.show(ws, run.run)
    assert [each.text for each in shown.notes] == ["one"]
    assert ws.objects.get_bytes(shown.artifacts[0].digest) == b"content"
    assert list((folder / ".noria" / "recording").iterdir()) == []


@pytest.mark.parametrize("point", KILLS)
def test_a_kill_while_sending_loses_and_doubles_nothing(folder: Path, point: str) -> None:
    assert victim(folder, "whole", 50, NORIA_FAILPOINT=point).returncode == -signal.SIGKILL
    [left] = (folder / ".noria" / "recording").iterdir()
    [log] = journal.logs(left)
    logged = journal.parse(log, 0)
    has_ended = journal.document(left, "end") is not None
    [run] = noria(folder, "runs")
    ws = open_workspace(folder)
    assert run["status"] == ("finished" if has_ended else "lost")
    require_whole(ws, run["run"], "loss", len(logged.points["loss"]))
    assert len(ws.ledger.facts(kind="artifact.logged")) == len(logged.artifacts) == 1
    assert list((folder / ".noria" / "recording").iterdir()) == []


@pytest.mark.parametrize("after", [1, 40, 400])
def test_what_a_killed_process_was_told_is_logged_is_sent_by_the_next_command(folder: Path, after: int) -> None:
    with steady(folder) as process:
        told = [int(line) for line in itertools.islice(process.stdout, after)]  # type: ignore[arg-type]  # it is a pipe
        process.kill()
        told += [int(line) for line in process.stdout or () if line.strip()]
    status = noria(folder, "status")
    assert status["recordings"] == []
    ws = open_workspace(folder)
    [run] = search.search_runs(ws)
    assert (run.status, run.params) == ("lost", {"lr": "0.1"})
    found = search.history(ws, run.run, "loss", points=100_000)
    assert list(found.steps) == list(range(len(found.steps)))
    assert told[-1] < len(found.steps) <= told[-1] + 2


def test_a_forked_process_logs_into_the_run(folder: Path) -> None:
    assert victim(folder, "forked", 30).returncode == 0
    ws = open_workspace(folder)
    [run] = search.search_runs(ws)
    require_whole(ws, run.run, "loss", 30)


def test_two_senders_at_once_send_each_line_once(folder: Path) -> None:
    assert victim(folder, "whole", 50, NORIA_FAILPOINT="batch.stored").returncode == -signal.SIGKILL
    [left] = (folder / ".noria" / "recording").iterdir()
    logged = journal.parse(journal.logs(left)[0], 0)
    spaces = [open_workspace(folder) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(sending.send_left, spaces)) == 1
    [run] = search.search_runs(spaces[0])
    assert run.status == "lost"
    assert search.history(spaces[0], run.run, "loss").total == len(logged.points["loss"])
    require_whole(spaces[0], run.run, "loss", len(logged.points["loss"]))


def test_with_the_database_out_of_reach_training_goes_on_and_nothing_is_lost(folder: Path) -> None:
    (folder / ".noria").mkdir()
    blocked = folder / ".noria" / "ledger.db"
    blocked.mkdir()  # no database can be opened at a folder
    done = victim(folder, "blocked", 50)
    assert done.returncode == 0, done.stderr
    assert "the next noria command sends it" in done.stderr
    with pytest.raises(StoreUnavailable):
        open_workspace(folder)
    blocked.rmdir()
    assert noria(folder, "status")["recordings"] == []
    ws = open_workspace(folder)
    [run] = search.search_runs(ws)
    assert (run.status, run.name) == ("finished", "blocked")
    require_whole(ws, run.run, "loss", 100)


def test_a_run_in_progress_shows_and_says_what_waits(folder: Path) -> None:
    with steady(folder) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            deadline = time.monotonic() + 120
            while True:
                status = noria(folder, "status")
                shown = {each["run"]: each["status"] for each in status["runs"]}
                waits = [each for each in status["recordings"] if each["is_live"] and each["size_bytes"] > 0]
                if "running" in shown.values() and waits:
                    break
                assert time.monotonic() < deadline, status
        finally:
            process.kill()


MODELLED = """
import numpy as np, pandas as pd
from sklearn.linear_model import LogisticRegression
import noria as nr

x = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 3)), columns=list("abc"))
y = (x.a + x.b > 0).astype(int)
x.assign(y=y).to_csv("rows.csv", index=False)
nr.open().data.add("rows.csv", name="rows")
with nr.start_run("modelled", params={"C": 1}) as run:
    run.input("rows", context="training")
    model = LogisticRegression().fit(x, y)
    run.log(accuracy=model.score(x, y))
    run.model(model, "clf", rows=x, register=True)
nr.log(accuracy=0.5, params={"C": 2})
"""


OWN = """
import numpy as np, pandas as pd
import noria as nr

class Rule:
    classes_ = (0, 1)
    def predict(self, frame):
        return (frame["a"].to_numpy() > 0).astype(int)
    def predict_proba(self, frame):
        score = 1 / (1 + np.exp(-frame["a"].to_numpy()))
        return np.column_stack([1 - score, score])

x = pd.DataFrame({"a": [-1.0, 0.0, 2.0]})
with nr.start_run("ruled") as run:
    run.model(Rule(), "own", rows=x, register=True)
    run.model(Rule(), "other", rows=x, register=True)
"""


def test_a_model_of_its_own_class_is_recorded_where_its_rules_allow_it(folder: Path) -> None:
    with (folder / "noria.toml").open("a") as settings:
        settings.write("\n[model.own]\nallow_pickle = true\n")
    (folder / "own.py").write_text(OWN)
    done = subprocess.run([sys.executable, "own.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the model 'other' could not be kept" in done.stderr
    ws = open_workspace(folder)
    assert [each.model for each in versions.list_models(ws)] == ["own"]
    predictor = bundle.load(ws, versions.show(ws, "own:1").version.bundle)
    assert predictor.bundle.flavor == "python"
    assert predictor.predict([{"a": 0.0}]).tolist() == [0.5]


def test_a_model_is_registered_with_its_run_and_data_and_two_runs_are_compared(folder: Path) -> None:
    script = folder / "fit.py"
    script.write_text(MODELLED)
    done = subprocess.run([sys.executable, str(script)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loose, modelled = noria(folder, "runs", "attributes.status = 'FINISHED'")
    assert (loose["name"], modelled["name"]) == ("fit.py", "modelled")
    version = noria(folder, "registry", "show", "clf:1")["version"]
    assert version["run"] == modelled["run"]
    assert [(pin["dataset"], pin["version"]) for pin in version["pins"]] == [("rows", 1)]
    assert version["metrics"]["accuracy"] > 0.9
    lines = noria(folder, "diff", modelled["run"], loose["run"])["lines"]
    told = {(line["section"], line["name"]): (line["a"], line["b"]) for line in lines}
    assert told["parameter", "C"] == ("1", "2")
    assert told["data", "rows"][0].startswith("rows@1 ")
    assert told["metric", "accuracy"][1] == "0.5"
    links = noria(folder, "explain", "clf:1")["links"]
    texts = {link["what"]: link["text"] for link in links}
    assert texts["parameters"] == "C=1"
    assert texts["code"].endswith("fit.py")
    assert texts["data"].startswith("rows@1 ")
    found = noria(folder, "runs", "datasets.name = 'rows' and metrics.accuracy > 0.9 and params.C = '1'")
    assert [each["run"] for each in found] == [modelled["run"]]


def test_the_server_sends_what_a_killed_process_left(folder: Path) -> None:
    assert victim(folder, "whole", 50, NORIA_FAILPOINT="batch.sent").returncode == -signal.SIGKILL
    [left] = (folder / ".noria" / "recording").iterdir()
    logged = journal.parse(journal.logs(left)[0], 0)
    command = [sys.executable, "-m", "noria.faces.controller", "--root", str(folder)]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as controller:
        try:
            deadline = time.monotonic() + 120
            while left.exists():
                assert time.monotonic() < deadline, "the server did not send it"
                assert controller.poll() is None
                time.sleep(0.1)
        finally:
            controller.terminate()
    ws = open_workspace(folder)
    [run] = search.search_runs(ws)
    assert run.status == "lost"
    require_whole(ws, run.run, "loss", len(logged.points["loss"]))


def test_a_full_disk_does_not_stop_training_and_its_lines_wait_in_memory(small_disk: Path) -> None:
    (small_disk / "noria.toml").write_text('[project]\nname = "demo"\n')
    open_workspace(small_disk)
    script = small_disk / "train.py"
    script.write_text(FILLING)
    done = subprocess.run([sys.executable, str(script)], cwd=small_disk, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "they wait in memory" in done.stderr
    ws = open_workspace(small_disk)
    [run] = search.search_runs(ws)
    assert run.status == "finished"
    require_whole(ws, run.run, "loss", 3000)


FILLING = """
import os
import noria as nr

with nr.start_run("filling") as run:
    for step in range(1000):
        run.log(loss=float(step), step=step)
    with open("more", "wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(1 << 12))
        except OSError:
            pass
    for step in range(1000, 2000):
        run.log(loss=float(step), step=step)
    os.unlink("filler")
    os.unlink("more")
    for step in range(2000, 3000):
        run.log(loss=float(step), step=step)
"""
