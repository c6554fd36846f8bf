"""Unchanged scripts under `noria run`: they behave as under python, and what is on record of them is true.

Each script runs twice, by python and by Noria, and what both printed is compared.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from script_project import TABLE, both, environment, last, made_in, noria, sha

from noria.scripts import records as scripts
from noria.testing.processes import is_running

KILLS = ("script.ended",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_in(tmp_path)


def test_a_script_is_captured_with_files_code_parameters_metrics_and_its_model(folder: Path) -> None:
    (folder / "helper.py").write_text("def clean(rows):\n    return rows.dropna()\n")
    text = TABLE + (
        "import sys, json, joblib\n"
        "from helper import clean\n"
        "from sklearn.metrics import accuracy_score, roc_auc_score\n"
        "def main(c):\n"
        "    model = LogisticRegression(C=c).fit(clean(X_train), y_train)\n"
        "    p = model.predict_proba(X_test)[:, 1]\n"
        "    print('auc', roc_auc_score(y_test, p), model.score(X_test, y_test))\n"
        "    print(accuracy_score(y_test, model.predict(X_test)), accuracy_score(y_train, model.predict(X_train)))\n"
        "    joblib.dump(model, 'churn.joblib')\n"
        "    open('said.json', 'w').write(json.dumps({'c': c}))\n"
        "if __name__ == '__main__':\n"
        "    main(float(sys.argv[1]))\n"
    )
    found = both(folder, text, "0.5")
    assert found.returncode == 0, found.stderr
    ws, run, document = last(folder)
    assert run.status == "finished"
    assert document["command"] == ["python", "train.py", "0.5"]
    assert [(f["path"], f["digest"]) for f in document["read"]] == [
        ("data.csv", sha((folder / "data.csv").read_bytes()))
    ]
    assert {f["path"]: f["digest"] for f in document["written"]} == {
        name: sha((folder / name).read_bytes()) for name in ("churn.joblib", "said.json")
    }
    assert {f["path"] for f in document["code"]} == {"train.py", "helper.py"}
    assert [(fit["name"], fit["rows"], fit["columns"]) for fit in document["fits"]] == [
        ("LogisticRegression", 300, ["age", "fee"])
    ]
    with ws.ledger.read() as tx:
        record = scripts.captured(tx, run.run)
    assert record is not None
    assert record.params["C"] == 0.5
    said = found.stdout.splitlines()
    assert f"auc {run.metrics['roc_auc_score']} {run.metrics['score']}" == said[0]
    assert f"{run.metrics['accuracy_score y_test']} {run.metrics['accuracy_score y_train']}" == said[1]
    assert ws.objects.has(run.environment)
    assert "scikit-learn" in ws.objects.get_json(run.environment)["packages"]
    log = noria(folder, "tracking", "log").stdout
    assert log.rstrip("\n").splitlines() == said[:2]
    shown = next(line.split() for line in said if line.split()[:2] == ["run", run.run])
    assert shown[2:4] == [f"{run.seconds:.1f}", "s,"], "the same time as on record"
    assert float(shown[-2]) <= float(shown[2]), "the script's own is a part of it"
    assert noria(folder, "audit", "verify").returncode == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def f():\n    return 1 / 0\nprint('before')\nf()\n", "exit code 1: ZeroDivisionError: division by zero"),
        ("import sys\nprint('a')\nsys.exit(3)\n", "exit code 3"),
        ("import sys\nsys.exit('no data today')\n", "exit code 1"),
        ("import os, sys\nsys.stdout.write('x')\nos._exit(7)\n", "exit code 7"),
        ("def f(:\n", "exit code 1"),
        ("from .other import thing\n", "exit code 1: ImportError: attempted relative import"),
        (TABLE + "LogisticRegression().fit(X_train, None)\n", "exit code 1: ValueError"),
        (
            "import sys\nsys.excepthook = lambda *a: print('mine', a[0].__name__, file=sys.stderr)\n1/0\n",
            "exit code 1",
        ),
    ],
    ids=["raises", "exit 3", "exit with a text", "os._exit", "syntax", "relative import", "inside a fit", "own hook"],
)  # fmt: skip
def test_a_script_that_fails_does_so_as_under_python_and_is_on_record(folder: Path, text: str, reason: str) -> None:
    found = both(folder, text)
    assert found.returncode == 4
    assert found.stderr.rstrip().splitlines()[-1].startswith("next:  noria pipeline logs run_")
    own = [line for line in found.stderr.splitlines() if line.startswith(("error:", "where:", "next:"))]
    assert len(own) == 2, "the traceback is long enough"
    _, run, _ = last(folder)
    assert run.status == "failed"
    assert run.reason.startswith(reason)


@pytest.mark.parametrize(
    "text",
    [
        "import sys\nsys.exit(0)\n",
        "print(__name__, __file__, __doc__, __spec__, __package__)\nimport sys\nprint(sys.argv, sys.path[0])\n",
        "import os\nos.chdir('/')\nprint(os.getcwd())\nopen('/dev/null').read()\n",
        "import atexit\natexit.register(print, 'last words')\nprint('first')\n",
        "import sys\nprint(sys.stdin.read(), sys.flags, sys.executable)\n",
        "import warnings\nwarnings.warn('careful')\n",
        "import traceback\ntry:\n    {}['a']\nexcept KeyError:\n    traceback.print_exc()\n",
        "import threading\nt = threading.Thread(target=lambda: print('thread'))\nt.start()\nt.join()\n",
        "import sys\nprint('out', flush=True)\nprint('err', file=sys.stderr)\n",
    ],
    ids=["exit 0", "names", "chdir", "atexit", "stdin", "warning", "printed traceback", "thread", "both"],
)
def test_a_script_sees_what_it_sees_under_python(folder: Path, text: str) -> None:
    found = both(folder, text)
    assert found.returncode == 0
    assert last(folder)[1].status == "finished"


def test_a_script_is_not_given_what_noria_sets_for_itself(folder: Path) -> None:
    (folder / "train.py").write_text("import os\nprint(os.environ.get('OMP_WAIT_POLICY'), os.environ['GIVEN'])\n")
    given = {key: value for key, value in environment(GIVEN="1").items() if key != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-m", "noria", "run", "train.py"]
    found = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[0] == "None 1"


def test_processes_of_a_script_are_seen_too(folder: Path) -> None:
    text = (
        "import multiprocessing as mp\n"
        "def work(n):\n"
        "    open(f'out-{n}.txt', 'w').write(str(n))\n"
        "    return len(open('data.csv').read()) + n\n"
        "if __name__ == '__main__':\n"
        "    for way in ('fork', 'spawn'):\n"
        "        with mp.get_context(way).Pool(2) as pool:\n"
        "            print(way, pool.map(work, [1, 2]))\n"
    )
    both(folder, text)
    _, run, document = last(folder)
    assert run.status == "finished"
    assert document["processes"] >= 3
    assert [f["path"] for f in document["read"]] == ["data.csv"]
    assert {f["path"] for f in document["written"]} == {"out-1.txt", "out-2.txt"}


def test_a_search_in_two_processes_is_one_fit(folder: Path) -> None:
    text = TABLE + (
        "from sklearn.model_selection import GridSearchCV, cross_val_score\n"
        "search = GridSearchCV(LogisticRegression(), {'C': [0.1, 1.0]}, n_jobs=2, cv=3).fit(X_train, y_train)\n"
        "print(search.best_params_, round(search.score(X_test, y_test), 6))\n"
        "print(cross_val_score(LogisticRegression(), X_train, y_train, n_jobs=2, cv=3).round(6).tolist())\n"
    )
    found = both(folder, text)
    assert found.returncode == 0, found.stderr
    _, run, document = last(folder)
    assert [fit["name"] for fit in document["fits"]] == ["GridSearchCV"]
    assert "best_score" in run.metrics
    assert "cross_val_score mean" in run.metrics
    assert "search:1" in found.stdout


def test_fits_in_two_processes_that_the_script_asks_for_are_fits(folder: Path) -> None:
    text = TABLE + (
        "from joblib import Parallel, delayed\n"
        "def one(c):\n"
        "    return LogisticRegression(C=c).fit(X_train, y_train).coef_.shape\n"
        "if __name__ == '__main__':\n"
        "    print(Parallel(n_jobs=2)(delayed(one)(c) for c in (0.1, 1.0, 10.0)))\n"
    )
    found = both(folder, text)
    _, _, document = last(folder)
    assert sorted(fit["params"]["C"] for fit in document["fits"]) == [0.1, 1.0, 10.0]
    assert "model  none" in found.stdout


def test_an_input_that_the_script_overwrites_is_on_record_as_it_was_read(folder: Path) -> None:
    before = (folder / "data.csv").read_bytes()
    text = (
        "import os\n"
        "rows = open('data.csv').read().splitlines()\n"
        "open('data.csv', 'w').write('\\n'.join(rows[:10]))\n"
        "other = open('other.csv').read()\n"
        "open('new.csv', 'w').write('new')\n"
        "os.replace('new.csv', 'other.csv')\n"
        "third = open('third.csv').read()\n"
        "os.remove('third.csv')\n"
    )
    (folder / "train.py").write_text(text)
    (folder / "other.csv").write_text("old")
    (folder / "third.csv").write_text("gone")
    assert noria(folder, "run", "train.py").returncode == 0
    ws, _, document = last(folder)
    read = {f["path"]: f["digest"] for f in document["read"]}
    assert read == {"data.csv": sha(before), "other.csv": sha(b"old"), "third.csv": sha(b"gone")}
    assert ws.objects.get_bytes(read["third.csv"]) == b"gone"
    written = {f["path"]: f["digest"] for f in document["written"]}
    assert written["data.csv"] == sha((folder / "data.csv").read_bytes())
    assert written["other.csv"] == sha(b"new")


def test_a_file_that_a_compiled_library_has_just_written_is_no_input(folder: Path) -> None:
    """pyarrow writes out of sight, as boosters do; what is then appended by Python is an update of its own file."""
    text = (
        "import pyarrow as pa, pyarrow.csv as pc\n"
        "pc.write_csv(pa.table({'a': [1]}), 'made.csv')\n"
        "open('made.csv', 'a').write('2\\n')\n"
        "open('log.txt', 'a').write('one more\\n')\n"
    )
    (folder / "train.py").write_text(text)
    (folder / "made.csv").write_text("of the run before")
    (folder / "log.txt").write_text("first\n")
    assert noria(folder, "run", "train.py").returncode == 0
    _, _, document = last(folder)
    assert [f["path"] for f in document["read"]] == ["log.txt"]
    assert {f["path"] for f in document["written"]} == {"made.csv", "log.txt"}


def test_an_input_that_somebody_else_changes_is_not_claimed(folder: Path) -> None:
    text = (
        "import subprocess, sys\n"
        "open('data.csv').read()\n"
        "subprocess.run(['sh', '-c', 'echo other > data.csv'], check=True)\n"
    )
    both(folder, text)
    _, _, document = last(folder)
    (file,) = document["read"]
    assert file["digest"] == ""
    assert "changed by somebody else" in file["note"]
    assert any("started sh -c" in note for note in document["notes"])


def test_parquet_that_pyarrow_and_polars_open_by_themselves_is_seen(folder: Path) -> None:
    pd.read_csv(folder / "data.csv").to_parquet(folder / "data.parquet")
    text = (
        "import pyarrow.parquet as pq, polars as pl, pyarrow.dataset as ds\n"
        "print(pq.read_table('data.parquet').num_rows)\n"
        "print(pl.scan_csv('data.csv').collect().height)\n"
        "pl.read_csv('data.csv').write_parquet('made.parquet')\n"
        "try:\n"
        "    pq.read_table('absent.parquet')\n"
        "except FileNotFoundError as error:\n"
        "    print(str(error)[:10])\n"
    )
    both(folder, text)
    _, _, document = last(folder)
    assert {f["path"] for f in document["read"]} == {"data.csv", "data.parquet"}
    assert [f["path"] for f in document["written"]] == ["made.parquet"]


def test_a_data_set_of_the_project_is_named_with_its_version(folder: Path) -> None:
    assert noria(folder, "data", "add", "data.csv", "--name", "customers").returncode == 0
    found = both(folder, TABLE + "model = LogisticRegression().fit(X_train, y_train)\n")
    assert "customers@1" in found.stdout
    ws, run, document = last(folder)
    assert document["read"][0]["dataset"] == "customers@1"
    version = ws.ledger.facts(kind="version.registered")[0].payload
    assert [(pin.dataset, pin.version) for pin in version.pins] == [("customers", 1)]
    assert version.run == run.run


def test_a_script_that_is_killed_is_on_record_with_what_it_read(folder: Path) -> None:
    (folder / "train.py").write_text("import os\nopen('data.csv').read()\nprint('x')\nos.kill(os.getpid(), 9)\n")
    found = noria(folder, "run", "train.py")
    assert found.returncode == 4
    assert "SIGKILL" in found.stderr
    _, run, document = last(folder)
    assert (run.status, run.reason) == ("failed", "killed by SIGKILL")
    assert document["exit_code"] == -9
    assert [f["path"] for f in document["read"]] == ["data.csv"]
    assert not document["is_whole"]


def started(folder: Path, text: str) -> subprocess.Popen[str]:
    """`noria run` of a script that writes `ready` when it is under way."""
    (folder / "train.py").write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-m", "noria", "run", "train.py"],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (folder / "ready").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


WAITING = "import time, os\nopen('ready', 'w').write(str(os.getpid()))\n"


def test_an_interrupted_script_ends_as_under_python_and_the_run_says_so(folder: Path) -> None:
    process = started(folder, WAITING + "try:\n    time.sleep(600)\nfinally:\n    print('tidied', flush=True)\n")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "tidied" in out
    assert err.count("KeyboardInterrupt") == 1
    _, run, _ = last(folder)
    assert (run.status, run.reason) == ("failed", "interrupted (SIGINT)")


def test_a_script_that_takes_the_interrupt_as_its_end_has_succeeded(folder: Path) -> None:
    process = started(folder, WAITING + "try:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    print('enough')\n")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out.splitlines()[0]) == (0, "enough")
    assert last(folder)[1].status == "finished"


def test_a_script_does_not_outlive_noria_and_its_run_is_lost(folder: Path) -> None:
    process = started(folder, WAITING + "time.sleep(600)\n")
    child = int((folder / "ready").read_text())
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    runs = json.loads(noria(folder, "runs", "--json").stdout)
    assert [each["status"] for each in runs] == ["lost"]


@pytest.mark.parametrize("point", KILLS)
def test_a_kill_before_the_record_loses_the_run_and_nothing_else(folder: Path, point: str) -> None:
    (folder / "train.py").write_text("open('made.txt', 'w').write('made')\n")
    assert noria(folder, "run", "train.py", NORIA_FAILPOINT=f"{point}:1").returncode == -9
    assert (folder / "made.txt").read_text() == "made"
    assert noria(folder, "run", "train.py").returncode == 0
    runs = json.loads(noria(folder, "runs", "--json").stdout)
    assert [each["status"] for each in runs] == ["finished", "lost"]
    assert not list((folder / ".noria" / "runs").glob("*/capture"))
    assert noria(folder, "audit", "verify").returncode == 0


def test_a_folder_without_a_project_becomes_one(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("print('hello')\n")
    found = noria(tmp_path, "run", "hello.py")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("hello\n")
    assert (tmp_path / "noria.toml").is_file()
    assert noria(tmp_path, "run", "absent.py").returncode == 2


def test_with_json_the_script_prints_beside_the_result(folder: Path) -> None:
    (folder / "train.py").write_text("print('hello')\n")
    found = noria(folder, "run", "--json", "train.py")
    assert json.loads(found.stdout)["script"] == "train.py"
    assert "hello" in found.stderr


def test_what_travels_to_another_process_does_not_carry_the_watch_along(folder: Path) -> None:
    text = TABLE + (
        "import copy, pickle, inspect, cloudpickle\n"
        "from sklearn.base import BaseEstimator, ClassifierMixin\n"
        "from sklearn.metrics import accuracy_score, make_scorer, accuracy_score as fit_score\n"
        "from sklearn.model_selection import GridSearchCV\n"
        "from joblib import Parallel, delayed\n"
        "class Own(ClassifierMixin, BaseEstimator):\n"
        "    def __init__(self, cut=40):\n        self.cut = cut\n"
        "    def fit(self, X, y):\n        self.classes_ = [0, 1]\n        return self\n"
        "    def predict(self, X):\n        return (X['age'] > self.cut).astype(int)\n"
        "if __name__ == '__main__':\n"
        "    grid = GridSearchCV(Own(), {'cut': [30, 50]}, n_jobs=2, cv=2, scoring=make_scorer(accuracy_score))\n"
        "    print(grid.fit(X_train, y_train).best_params_)\n"
        "    grid = GridSearchCV(Own(), {'cut': [30, 50]}, n_jobs=2, cv=2, scoring='accuracy').fit(X_train, y_train)\n"
        "    made = Own()\n"
        "    print(Parallel(n_jobs=2)(delayed(made.fit)(X_train, y_train) for _ in range(2)))\n"
        "    print(inspect.signature(accuracy_score), inspect.isfunction(Own.fit), Own.fit.__qualname__)\n"
        "    print(pickle.loads(pickle.dumps(accuracy_score))([1, 0], [1, 1]), copy.deepcopy(fit_score).__name__)\n"
        "    fitted = LogisticRegression().fit(X_train, y_train)\n"
        "    print(b'noria' in cloudpickle.dumps(Own), b'noria' in pickle.dumps(fitted))\n"
        "    print(Own.fit(made, X_train, y_train).score(X_test, y_test))\n"
    )
    found = both(folder, text)
    assert found.returncode == 0, found.stderr
    assert "False False" in found.stdout


def test_files_of_a_script_that_opens_noria_are_seen_too(folder: Path) -> None:
    text = (
        "import noria as nr\nprint(nr.open().status().models)\nopen('copy.csv', 'w').write(open('data.csv').read())\n"
    )
    found = both(folder, text)
    assert found.returncode == 0, found.stderr
    _, _, document = last(folder)
    assert [[each["path"] for each in document[what]] for what in ("read", "written")] == [["data.csv"], ["copy.csv"]]


def test_why_tells_what_changed_since_the_run_before_of_the_script(folder: Path) -> None:
    text = "import sys\ndef double(x):\n    return 2 * x\n\nopen('data.csv').read()\nprint(double(3))\n"
    (folder / "calm.py").write_text(text)
    (folder / "fine.py").write_text("print(1)\n")
    assert noria(folder, "run", "calm.py").returncode == 0
    first = json.loads(noria(folder, "why", "--json").stdout)
    assert (first["script"], first["since"], first["changes"]) == ("calm.py", "", [])
    assert noria(folder, "run", "calm.py").returncode == 0
    same = json.loads(noria(folder, "why", "--json").stdout)
    assert (same["since"], same["changes"]) == (first["run"], [])
    assert "nothing that is on record changed" in noria(folder, "why").stdout
    (folder / "calm.py").write_text(text.replace("2 * x", "3 * x"))
    (folder / "data.csv").write_text("age,fee,churned\n1,2,0\n")
    assert noria(folder, "run", "calm.py", "--", "--fast").returncode == 0
    told = json.loads(noria(folder, "why", "--json").stdout)
    assert [(each["what"], each["how"]) for each in told["changes"]] == [
        ("calm.py function double", "changed"),
        ("command", "python calm.py -> python calm.py --fast"),
        ("file data.csv", "changed"),
    ]
    assert told["changes"][0]["lines"] == [" def double(x):", "-    return 2 * x", "+    return 3 * x"]
    assert "calm.py function double changed" in noria(folder, "why").stdout
    assert noria(folder, "run", "fine.py").returncode == 0
    assert json.loads(noria(folder, "why", "calm.py", "--json").stdout) == told
