"""Notebooks in a real, clean kernel: run, recorded, failing in a named place; their steps tracked, cached, exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from script_project import last, made_in, noria, notebook, predicted, serving, sha

from noria.scripts import records as scripts
from noria.tracking import records as tracking

FIT = [
    "import pandas as pd\nfrom sklearn.linear_model import LogisticRegression\nrows = pd.read_csv('data.csv')",
    "X, y = rows[['age', 'fee']], rows['churned']\nmodel = LogisticRegression(C=0.7).fit(X[:300], y[:300])",
    "print('fitted')\nmodel.score(X[300:], y[300:])",
]
PIPELINE = [
    "import pandas as pd\nfrom sklearn.linear_model import LogisticRegression\nimport noria as nr",
    "%time 1\npoints = nr.dataset('points', key='name', time='at', label='is_high')\nSCALE = 2.0  # kept\n"
    "pd.read_csv('points.csv').head()",
    "def widen(rows):\n    # doubles\n    return rows.assign(x=rows['x'] * SCALE)\n\n"
    "@nr.step\ndef split(rows: pd.DataFrame, holdout: str = '30d') -> tuple[pd.DataFrame, pd.DataFrame]:\n"
    "    return nr.split_by_time(widen(rows), holdout)",
    "@nr.step\ndef train(rows: pd.DataFrame, C: float = 1.0) -> LogisticRegression:\n"
    "    x, y = nr.xy(rows)\n    return LogisticRegression(C=C).fit(x, y)\n\n"
    "@nr.pipeline\ndef small():\n    learn, newest = split(points)\n"
    "    return nr.model('small', train(learn), holdout=newest, metrics=['auc', 'log_loss'])",
    "report = nr.run(small)\nprint([(s.step, s.status) for s in report.steps])",
    "report = nr.run(small)\nprint([(s.step, s.status) for s in report.steps], report.version)",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_in(tmp_path)


@pytest.fixture
def project(folder: Path) -> Path:
    chance = np.random.default_rng(0)
    x = chance.normal(size=600)
    table = {
        "name": [f"k{number}" for number in range(600)],
        "at": pd.date_range("2024-01-01", periods=600, freq="6h"),
        "x": x,
        "is_high": (x + chance.normal(size=600) > 0).astype(int),
    }
    pd.DataFrame(table).to_csv(folder / "points.csv", index=False)
    (folder / "noria.toml").write_text('[project]\nname = "n"\n\n[data.points]\nsource = "points.csv"\n')
    return folder


def test_a_notebook_runs_in_a_clean_kernel_and_is_recorded_like_a_script(folder: Path) -> None:
    before = notebook(folder / "train.ipynb", FIT)
    done = noria(folder, "run", "train.ipynb")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "fitted"
    assert "model:1" in done.stdout
    assert (folder / "train.ipynb").read_bytes() == before
    ws, run, document = last(folder)
    assert run.status == "finished"
    assert [(f["path"], f["digest"]) for f in document["read"]] == [
        ("data.csv", sha((folder / "data.csv").read_bytes()))
    ]
    assert [(f["path"], f["digest"]) for f in document["code"]] == [("train.ipynb", sha(before))]
    assert [(fit["name"], fit["params"]["C"]) for fit in document["fits"]] == [("LogisticRegression", 0.7)]
    assert str(run.metrics["score"]) == said[1]
    with ws.ledger.read() as tx:
        kept = {each.name: each for each in tracking.artifacts(tx, run.run)}
    executed = json.loads(ws.objects.get_bytes(kept["executed/train.ipynb"].digest))
    assert executed["cells"][3]["outputs"][0]["text"] == "fitted\n"
    assert executed["cells"][3]["execution_count"] == 3
    assert noria(folder, "deploy", "model").returncode == 0


def test_a_model_of_a_notebook_is_served_and_answers_as_in_the_notebook(folder: Path) -> None:
    row = {"age": 33, "fee": 41.5}
    notebook(folder / "train.ipynb", [*FIT, f"print(model.predict_proba(pd.DataFrame([{row}]))[0, 1])"])
    done = noria(folder, "run", "train.ipynb")
    assert done.returncode == 0, done.stderr
    expected = float(done.stdout.splitlines()[2])
    assert noria(folder, "deploy", "model").returncode == 0
    with serving(folder) as url:
        assert predicted(url, "model", row, "q1") == pytest.approx(expected, rel=1e-12)
    explained = noria(folder, "explain", "q1")
    assert explained.returncode == 0, explained.stderr
    assert last(folder)[1].run in explained.stdout, "the answer leads back to the notebook's run"


@pytest.mark.parametrize(
    ("cell", "place", "error"),
    [
        ("def f(a):\n    return a / 0\n\nf(1)", "cell 3 (In [2]), line 2", "ZeroDivisionError"),
        ("x = 1\ny = (", "cell 3 (In [2]), line 2", "SyntaxError"),
        ("x = 1\n\nundefined_name", "cell 3 (In [2]), line 3", "NameError"),
    ],
    ids=["raises", "syntax", "name"],
)
def test_a_failing_cell_is_named_with_its_line_and_nothing_after_it_runs(
    folder: Path, cell: str, place: str, error: str
) -> None:
    before = notebook(folder / "bad.ipynb", ["open('data.csv').read()", cell, "print('never')"])
    done = noria(folder, "run", "bad.ipynb")
    assert done.returncode == 4
    assert "never" not in done.stdout
    assert f"{place}: {error}" in done.stderr
    assert done.stderr.count(f"{error}: ") == 2  # the traceback, once, and what Noria says
    assert (folder / "bad.ipynb").read_bytes() == before
    ws, run, document = last(folder)
    assert run.status == "failed"
    assert place in run.reason
    assert [f["path"] for f in document["read"]] == ["data.csv"]
    with ws.ledger.read() as tx:
        assert "executed/bad.ipynb" in {each.name for each in tracking.artifacts(tx, run.run)}


def test_a_kernel_that_dies_fails_the_run_and_its_cell_is_named(folder: Path) -> None:
    notebook(folder / "dies.ipynb", ["import os", "os.kill(os.getpid(), 9)", "1"])
    done = noria(folder, "run", "dies.ipynb")
    assert done.returncode == 4
    assert "exit code 1: cell 3: the kernel died" in done.stderr
    assert last(folder)[1].status == "failed"


def test_steps_of_cells_are_tracked_and_cached_and_are_the_same_in_the_exported_file(project: Path) -> None:
    notebook(project / "explore.ipynb", PIPELINE)
    done = noria(project, "run", "explore.ipynb")
    assert done.returncode == 0, done.stderr
    assert "[('split', 'done'), ('train', 'done')]" in done.stdout
    assert "[('split', 'cached'), ('train', 'cached')] 1" in done.stdout
    assert "small:1 validated" in done.stdout, "the runs that it made, with their model"
    assert "holds a fitted model" not in done.stdout
    assert "next: noria deploy small:1" in done.stdout + done.stderr
    runs = json.loads(noria(project, "runs", "--json").stdout)
    assert [each["pipeline"] for each in runs] == ["small", "small", "explore.ipynb"]
    ws = last(project)[0]
    with ws.ledger.read() as tx:
        captured = scripts.captured(tx, runs[2]["run"])
    assert captured is not None
    assert [f["path"] for f in ws.objects.get_json(captured.document)["read"]] == ["points.csv"]
    exported = noria(project, "export", "notebook", "explore.ipynb")
    assert exported.returncode == 0, exported.stderr
    text = (project / "pipeline.py").read_text()
    assert "# doubles" in text
    assert "SCALE = 2.0  # kept" in text
    assert "nr.run" not in text
    assert "head()" not in text
    report = json.loads(noria(project, "run", "--json").stdout)
    assert {step["step"]: step["status"] for step in report["steps"]} == {"split": "cached", "train": "cached"}
    assert report["model"] == "small"
    (project / "pipeline.py").write_text(text.replace("SCALE = 2.0", "SCALE = 3.0"))
    changed = json.loads(noria(project, "run", "--json").stdout)
    assert {step["step"]: step["status"] for step in changed["steps"]}["split"] == "done"
    assert noria(project, "export", "notebook", "explore.ipynb").returncode == 2
    assert noria(project, "export", "notebook", "explore.ipynb", "--force").returncode == 0
    again = json.loads(noria(project, "run", "--json").stdout)
    assert {step["status"] for step in again["steps"]} == {"cached"}


def test_a_step_that_opens_a_file_is_the_same_in_the_exported_file(project: Path) -> None:
    body = "    open('effects.txt', 'a').write('once ')\n    if rows is None:\n        exit(1)\n    return nr.split"
    cells = [cell.replace("    return nr.split", body) for cell in PIPELINE]
    notebook(project / "explore.ipynb", cells)
    done = noria(project, "run", "explore.ipynb")
    assert done.returncode == 0, done.stderr
    assert noria(project, "export", "notebook", "explore.ipynb").returncode == 0
    report = json.loads(noria(project, "run", "--json").stdout)
    assert {step["status"] for step in report["steps"]} == {"cached"}
    assert (project / "effects.txt").read_text() == "once "


def test_a_cell_exports_the_cells_that_have_run(project: Path) -> None:
    notebook(project / "explore.ipynb", [*PIPELINE[:4], "nr.export('made.py')"])
    done = noria(project, "run", "explore.ipynb")
    assert done.returncode == 0, done.stderr
    text = (project / "made.py").read_text()
    assert "def small():" in text
    assert "nr.export" not in text


def test_cells_without_ids_are_no_cause_for_a_warning(folder: Path) -> None:
    cell = {"cell_type": "code", "metadata": {}, "source": "print(3)", "outputs": [], "execution_count": None}
    told = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "plain.ipynb").write_text(json.dumps(told), encoding="utf-8")
    done = noria(folder, "run", "plain.ipynb")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def test_what_is_no_notebook_is_refused(folder: Path) -> None:
    (folder / "none.ipynb").write_text("{}")
    assert noria(folder, "export", "notebook", "none.ipynb").returncode == 2
    asked = noria(folder, "run", "none.ipynb")
    assert asked.returncode == 2
    assert asked.stderr.startswith("error: none.ipynb is no notebook\n")
    assert "Traceback" not in asked.stderr
    notebook(folder / "plain.ipynb", ["x = 1"])
    refused = noria(folder, "export", "notebook", "plain.ipynb")
    assert refused.returncode == 2
    assert "defines no step" in refused.stderr
    assert noria(folder, "run", "plain.ipynb", "--", "argument").returncode == 2


def test_a_result_of_a_class_of_a_cell_is_cached_until_the_class_is_another(folder: Path) -> None:
    made = "class Held:\n    def __init__(self, values):\n        self.values = values\n\n"
    held = made + "    def total(self):\n        return {}"
    cells = [
        "import noria as nr",
        held.format("sum(self.values)"),
        "@nr.step\ndef make() -> Held:\n    return Held([1, 2, 3])\n\n"
        "@nr.step\ndef use(held: Held) -> int:\n    return held.total()\n\n"
        "@nr.pipeline\ndef small():\n    use(make())",
        "print([(s.step, s.status) for s in nr.run(small).steps])",
    ]
    said = []
    for text in ("sum(self.values)", "sum(self.values)", "1 + sum(self.values)"):
        cells[1] = held.format(text)
        notebook(folder / "classes.ipynb", cells)
        done = noria(folder, "run", "classes.ipynb")
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines()[0])
    first = "[('make', 'done'), ('use', 'done')]"
    assert said == [first, "[('make', 'cached'), ('use', 'cached')]", first]
