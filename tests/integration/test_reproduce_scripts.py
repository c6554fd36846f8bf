"""`noria reproduce` of unchanged scripts and notebooks: identical, or the first thing that differs and why."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from again_project import environ
from script_project import TABLE, last, made_in, notebook

import warm
from lacking import ANSWERS, COMMAND, lacking, linux
from noria.bootstrap import open_workspace
from noria.packaging.fence import can_fence
from noria.project.again import verdict as verdicts
from noria.testing.processes import is_running
from noria.tracking import records as tracking_records

pytestmark = pytest.mark.skipif(
    not can_fence(), reason="this kernel has no Landlock of the third interface (Linux 6.2)"
)
TRAIN = TABLE + (
    "import sys, json, joblib\n"
    "from pathlib import Path\n"
    "from helper import clean\n"
    "from sklearn.metrics import roc_auc_score\n"
    "model = LogisticRegression(C=float(sys.argv[1])).fit(clean(X_train), y_train)\n"
    "auc = roc_auc_score(y_test, model.predict_proba(X_test)[:, 1])\n"
    "Path('out').mkdir()\n"
    "Path('out/said.json').write_text(json.dumps({'auc': auc, 'c': sys.argv[1]}))\n"
    "joblib.dump(model, 'churn.joblib')\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = made_in(tmp_path)
    (made / "helper.py").write_text("def clean(rows):\n    return rows.dropna()\n")
    return made


def noria(folder: Path, *words: str, code: int | None = 0, **changes: str) -> dict[str, Any]:
    done = warm.noria(*words, cwd=folder, env=environ(changes))
    assert code is None or done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def ran(folder: Path, text: str, *words: str, code: int = 0, **changes: str) -> str:
    """The id of the run of a script of that text, with these arguments."""
    (folder / "train.py").write_text(text)
    given = ["--", *words] if words else []
    noria(folder, "run", "--json", "train.py", *given, code=None if code == 4 else code, **changes)
    return last(folder)[1].run


def again(folder: Path, *words: str, code: int = 0, **changes: str) -> dict[str, Any]:
    return noria(folder, "reproduce", *words, "--json", code=code, **changes)


def state(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but Noria's own, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {".noria", "__pycache__"} & set(path.parts)
    }


def verdict(found: dict[str, Any]) -> dict[str, str]:
    """By step. Not what is noted: where these tests lie in /dev/shm the place has no semaphores, and joblib says so."""
    return {each["step"]: each["verdict"] for each in found["steps"] if each["verdict"] != "noted"}


def test_a_training_is_bit_identical_by_its_run_and_by_its_model(folder: Path) -> None:
    run = ran(folder, TRAIN, "0.5")
    (folder / "train.py").write_text("raise SystemExit('edited since')\n")
    (folder / "helper.py").unlink()
    (folder / "data.csv").write_text("age,fee,churned\n1,2,0\n")
    shutil.rmtree(folder / "out")
    before = state(folder)
    found = again(folder, run)
    assert (found["verdict"], found["causes"], found["environment"]) == ("identical", [], "here")
    assert list(verdict(found)) == [
        "metric roc_auc_score", "out/said.json", "churn.joblib", "parameters", "exit code", "model churn",
    ]  # fmt: skip
    assert set(verdict(found).values()) == {"identical"}
    same = [step for step in found["steps"] if step["verdict"] != "noted"]
    assert all(each["then"] == each["now"] for step in same for each in step["outputs"])
    assert state(folder) == before, "nothing outside of the clean place is touched"
    ws, newest, _ = last(folder)
    assert newest.run == run, "what was done again is no run of the project"
    record, told = verdicts.read(ws, run)
    assert (record.verdict, told["verdict"], told["data"][0]["path"]) == ("identical", "identical", "data.csv")
    model = again(folder, "churn:1")
    assert (model["run"], model["model"], model["verdict"]) == (run, "churn:1", "identical")


def test_an_unseeded_number_is_located(folder: Path) -> None:
    text = (
        "import random\n"
        "import pandas as pd\n"
        "rows = pd.read_csv('data.csv')\n"
        "rows.describe().to_csv('described.csv')\n"
        "open('noise.txt', 'w').write(str(random.random()))\n"
        "open('after.txt', 'w').write('the same')\n"
    )
    ran(folder, text)
    found = again(folder, code=1)
    assert (found["verdict"], found["step"]) == ("different", "noise.txt")
    first = found["causes"][0]
    assert (first["kind"], first["sure"]) == ("unseeded random", "proved"), found["causes"]
    assert "random.random()" in first["evidence"]
    assert first["where"].startswith("train.py:5  open('noise.txt'"), first
    told = verdict(found)
    assert (told["described.csv"], told["after.txt"]) == ("identical", "identical")


def test_a_split_without_a_seed_is_found_by_the_first_metric(folder: Path) -> None:
    text = TABLE.replace(", random_state=0", "") + (
        "model = LogisticRegression().fit(X_train, y_train)\nprint(model.score(X_test, y_test))\n"
    )
    ran(folder, text)
    found = again(folder, code=1)
    assert found["step"] in ("metric score", "model model"), found["steps"]
    if found["step"] == "metric score":
        assert found["causes"][0]["kind"] == "unseeded random", found["causes"]


def test_an_input_that_the_script_overwrites_comes_as_it_was_opened(folder: Path) -> None:
    text = (
        "import pandas as pd\n"
        "rows = pd.read_csv('data.csv')\n"
        "rows['fee'] = rows['fee'] / rows['fee'].max()\n"
        "rows.to_csv('data.csv', index=False)\n"
        "open('log.txt', 'a').write(f'{len(rows)} rows\\n')\n"
    )
    (folder / "log.txt").write_text("begun\n")
    ran(folder, text)
    before = state(folder)
    found = again(folder)
    assert verdict(found) == {"data.csv": "identical", "log.txt": "identical", "exit code": "identical"}
    assert state(folder) == before


def test_a_notebook_is_done_again_in_a_clean_kernel(folder: Path) -> None:
    cells = [
        "import pandas as pd\nfrom sklearn.linear_model import LogisticRegression\nrows = pd.read_csv('data.csv')",
        "X, y = rows[['age', 'fee']], rows['churned']\nmodel = LogisticRegression(C=0.7).fit(X[:300], y[:300])",
        "rows.describe().to_csv('described.csv')\nmodel.score(X[300:], y[300:])",
    ]
    notebook(folder / "train.ipynb", cells)
    assert noria(folder, "run", "--json", "train.ipynb")["metrics"]["score"] > 0.5
    found = again(folder)
    told = verdict(found)
    assert told == dict.fromkeys(
        ("described.csv", "metric score", "parameters", "exit code", "model model"), "identical"
    )
    cells = ["import pandas as pd\npd.read_csv('data.csv').describe().to_csv('described.csv')"]
    notebook(folder / "train.ipynb", [*cells, "import numpy as np\nnp.savetxt('noise.csv', np.random.normal(size=3))"])
    noria(folder, "run", "--json", "train.ipynb")
    found = again(folder, code=1)
    assert (found["step"], found["causes"][0]["kind"]) == ("noise.csv", "unseeded random"), found["causes"]


def _distribution(folder: Path, version: str) -> None:
    """A package as an installer leaves it."""
    shutil.rmtree(folder, ignore_errors=True)
    notes = folder / f"tinyrates-{version}.dist-info"
    notes.mkdir(parents=True)
    (folder / "tinyrates.py").write_text(f"RATE = {version.replace('.', '')}\n")
    (notes / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tinyrates\nVersion: {version}\n")
    (notes / "RECORD").write_text(f"tinyrates.py,sha256=x{version},9\n{notes.name}/METADATA,sha256=y{version},9\n")


def test_a_package_of_another_version(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "site-packages"
    _distribution(place, "1.0")
    ran(folder, "import tinyrates\nopen('rate.txt', 'w').write(str(tinyrates.RATE))\n", PYTHONPATH=str(place))
    assert again(folder, PYTHONPATH=str(place))["verdict"] == "identical"
    _distribution(place, "2.0")
    found = again(folder, "--environment", "here", code=1, PYTHONPATH=str(place))
    assert (found["step"], found["causes"][0]["kind"]) == ("rate.txt", "package version")
    assert "tinyrates 1.0 -> 2.0" in found["causes"][0]["evidence"]
    assert {"section": "package", "name": "tinyrates", "a": "1.0", "b": "2.0"} in found["lines"]


def test_modules_and_files_beside_the_project_come_from_the_record(folder: Path, tmp_path: Path) -> None:
    library, beside = tmp_path / "library", tmp_path / "beside"
    for place in (library, beside):
        place.mkdir()
    (library / "shared.py").write_text("def factor():\n    return 3\n")
    (beside / "rates.txt").write_text("7")
    text = (
        "import shared\n"
        "from pathlib import Path\n"
        "rate = int(Path('../beside/rates.txt').read_text())\n"
        "Path('../beside/made.txt').write_text(str(rate * shared.factor()))\n"
    )
    ran(folder, text, PYTHONPATH=str(library))
    (library / "shared.py").write_text("def factor():\n    return 4\n")
    (beside / "rates.txt").unlink()
    (beside / "made.txt").write_text("mine now")
    found = again(folder, PYTHONPATH=str(library))
    assert verdict(found) == {str(beside / "made.txt"): "identical", "exit code": "identical"}
    assert (beside / "made.txt").read_text() == "mine now"


@pytest.mark.parametrize("way", ["python", "a program", "a compiled library"])
def test_what_is_written_by_a_whole_path_is_refused_and_not_touched(folder: Path, tmp_path: Path, way: str) -> None:
    target = tmp_path / "elsewhere.parquet"
    writes = {
        "python": f"open({str(target)!r}, 'w').write('made')",
        "a program": f"import subprocess\nsubprocess.run(['cp', 'data.csv', {str(target)!r}], check=True)",
        "a compiled library": "import pyarrow as pa, pyarrow.parquet as pq\n"
        f"pq.write_table(pa.table({{'a': [1]}}), {str(target)!r})",
    }
    run = ran(folder, writes[way] + "\n")
    target.write_text("mine now")
    found = again(folder, run, code=1)
    assert target.read_text() == "mine now"
    if way == "a program":  # it is not seen which file a program opens: it fails as it is refused
        assert (found["verdict"], found["step"]) == ("different", "exit code")
        assert any("cp data.csv" in note for note in found["notes"])
        return
    assert (found["verdict"], found["causes"][0]["kind"]) == ("impossible", "path outside of the place")
    assert str(target) in found["causes"][0]["evidence"]


def test_an_input_named_by_its_whole_path_is_used_as_long_as_it_is_what_it_was(folder: Path, tmp_path: Path) -> None:
    rates = tmp_path / "rates.txt"
    rates.write_text("5")
    ran(folder, f"open('made.txt', 'w').write(open({str(rates)!r}).read())\n")
    assert again(folder)["verdict"] == "identical"
    rates.write_text("6")
    found = again(folder, code=1)
    assert (found["verdict"], found["causes"][0]["kind"]) == ("impossible", "changed data")
    assert str(rates) in found["causes"][0]["evidence"]
    rates.unlink()
    found = again(folder, code=1)
    assert (found["verdict"], "it is gone" in found["causes"][0]["evidence"]) == ("impossible", True), found
    (folder / "made.txt").unlink()
    inside = folder / "data.csv"
    ran(folder, f"open('made.txt', 'w').write(open({str(inside)!r}).read())\n")
    inside.write_text("other")
    found = again(folder, code=1)
    assert (found["verdict"], str(inside) in found["causes"][0]["evidence"]) == ("impossible", True), found


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no /dev/shm to have a project in")
def test_a_project_in_shared_memory_has_its_semaphores_too(tmp_path: Path) -> None:
    """joblib warned that it works serially, and a lock of multiprocessing failed: both lie in /dev/shm."""
    text = (
        "import multiprocessing\n"
        "from joblib import Parallel, delayed\n"
        "def twice(n):\n    return 2 * n\n"
        "with multiprocessing.get_context('fork').Lock():\n"
        "    print(Parallel(n_jobs=2)(delayed(twice)(n) for n in range(4)))\n"
        "open('made.txt', 'w').write('x')\n"
    )
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        folder = made_in(Path(place))
        ran(folder, text)
        found = again(folder)
        assert (found["verdict"], verdict(found)["printed"]) == ("identical", "identical"), found
        (folder / "mine.txt").write_text("mine")
        (folder / "made.txt").unlink()
        ran(folder, f"open({str(folder / 'mine.txt')!r}, 'a').close()\nopen('made.txt', 'w').write('x')\n")
        (folder / "mine.txt").write_text("mine now")
        assert again(folder, code=1)["causes"][0]["kind"] == "path outside of the place"
        assert (folder / "mine.txt").read_text() == "mine now"


@linux
@ANSWERS
def test_where_the_system_has_no_landlock_nothing_is_run_and_that_is_the_verdict(folder: Path, answer: int) -> None:
    """What a user sees, and that it is on record: no word of paths, which are not to blame."""
    run = ran(folder, "open('made.txt', 'w').write('x')\n")
    (folder / "made.txt").write_text("mine now")
    before = state(folder)
    done = lacking(COMMAND, answer, folder, "reproduce", run, env=environ({}))
    assert done.returncode == 1, done.stderr
    assert "first  train.py: operating system" in done.stdout
    assert "nothing was run: this system has no Landlock" in done.stdout
    assert "on Linux 6.2 or newer with landlock in /sys/kernel/security/lsm" in done.stdout
    assert "CANNOT be reproduced" in done.stdout
    assert "folder (data/rows.csv" not in done.stdout + done.stderr
    assert (len(done.stdout.strip().splitlines()) <= 9, state(folder)) == (True, before)
    with open_workspace(folder).ledger.read() as tx:
        (kept,) = tracking_records.reproductions(tx, run)
    assert kept.verdict == "impossible"
    found = json.loads(lacking(COMMAND, answer, folder, "reproduce", run, "--json", env=environ({})).stdout)
    assert (found["verdict"], found["ok"], found["causes"][0]["kind"]) == ("impossible", False, "operating system")


def test_an_input_that_is_lost_is_named(folder: Path) -> None:
    text = (
        "import subprocess\n"
        "rows = open('data.csv').read()\n"
        "subprocess.run(['sh', '-c', 'echo other > data.csv'], check=True)\n"
        "open('made.txt', 'w').write(rows[:3])\n"
    )
    ran(folder, text)
    found = again(folder, code=1)
    assert (found["verdict"], found["step"], found["causes"][0]["kind"]) == ("impossible", "train.py", "changed data")
    assert "data.csv, which it read, cannot be had: it was changed by somebody else" in found["causes"][0]["evidence"]


def test_an_input_beyond_a_gibibyte_that_is_gone_is_named(folder: Path) -> None:
    with (folder / "large.bin").open("wb") as file:
        file.truncate((1 << 30) + 1)
    ran(folder, "open('made.txt', 'wb').write(open('large.bin', 'rb').read(3))\n")
    (folder / "large.bin").unlink()
    found = again(folder, code=1)
    assert found["verdict"] == "impossible"
    assert "large.bin, which it read, cannot be had: named by its content, not stored" in found["causes"][0]["evidence"]


def test_a_script_that_failed_fails_again_in_the_same_way(folder: Path) -> None:
    ran(folder, "import sys\nopen('made.txt', 'w').write('x')\nsys.exit(3)\n", code=4)
    found = again(folder)
    assert verdict(found) == {"made.txt": "identical", "exit code": "identical"}
    assert found["steps"][1]["outputs"][0]["then"] == "3"


def test_a_tolerance_holds_for_the_numbers_in_files_and_metrics(folder: Path) -> None:
    text = (
        "import pandas as pd, random\n"
        "rows = pd.read_csv('data.csv').head()\n"
        "rows['fee'] += random.random() * 1e-10\n"
        "rows.to_csv('made.csv', index=False)\n"
    )
    ran(folder, text)
    assert again(folder, code=1)["step"] == "made.csv"
    with (folder / "noria.toml").open("a") as settings:
        settings.write('[reproduce]\ntolerance = { "train.py" = 1e-9 }\n')
    found = again(folder)
    assert (found["verdict"], verdict(found)["made.csv"]) == ("tolerated", "tolerated")
    assert 0 < found["steps"][0]["outputs"][0]["largest"] < 1e-9


@pytest.fixture
def port() -> Iterator[int]:
    """A server that takes connections and answers with a number that grows."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        number = 0
        while True:
            try:
                made, _ = server.accept()
            except OSError:
                return
            number += 1
            made.sendall(str(number).encode())
            made.close()

    threading.Thread(target=serve, daemon=True).start()
    yield int(server.getsockname()[1])
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def test_connections_are_named_and_blamed_where_their_answer_differs(folder: Path, port: int) -> None:
    asked = (
        f"import socket\nwith socket.create_connection(('127.0.0.1', {port})) as s:\n    said = s.recv(9).decode()\n"
    )
    ran(folder, asked + "open('made.txt', 'w').write('the same')\n")
    found = again(folder)
    assert any(f"connected to 127.0.0.1:{port}" in note for note in found["notes"]), found["notes"]
    done = warm.noria("reproduce", cwd=folder, env=environ({}))
    assert f"connected to 127.0.0.1:{port}" in done.stdout
    ran(folder, asked + "open('made.txt', 'w').write(said)\n")
    found = again(folder, code=1)
    assert (found["step"], found["causes"][0]["kind"]) == ("made.txt", "network"), found["causes"]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_end_from_outside_leaves_nothing(folder: Path, tmp_path: Path, end: signal.Signals) -> None:
    text = (
        "import os, pathlib, time\n"
        "wait = pathlib.Path('wait').exists()\n"
        "pathlib.Path('made.txt').write_text(str(os.getpid()))\n"
        "while os.environ.get('STAY'):\n    time.sleep(0.05)\n"
    )
    ran(folder, text)
    place = tmp_path / "t"
    place.mkdir()
    words = [sys.executable, "-m", "noria", "reproduce"]  # anew: a fork of one that is loaded knows its folder already
    begun = subprocess.Popen(words, cwd=folder, env=environ({"STAY": "1", "TMPDIR": str(place)}))
    pattern = f"noria-held-again-*/place/work{folder}/made.txt"
    pid = _until(lambda: next((path.read_text() for path in place.glob(pattern)), ""))
    begun.send_signal(end)
    begun.wait(60)
    _until(lambda: not is_running(int(pid)))
    subprocess.run(words, cwd=folder, env=environ({"TMPDIR": str(place)}), check=False, capture_output=True)
    assert list(place.glob("noria-held-*")) == []


def _until(look: Any) -> Any:
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_times_that_workers_measure_are_located_in_files_and_in_models(folder: Path) -> None:
    text = (
        "import numpy as np, pandas as pd\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.model_selection import GridSearchCV\n"
        "X = np.random.RandomState(0).normal(size=(60, 2))\n"
        "y = (X[:, 0] > 0).astype(int)\n"
        "g = GridSearchCV(LogisticRegression(), {'C': [0.1, 1.0]}, n_jobs=2, cv=2).fit(X, y)\n"
    )
    ran(folder, text)  # the model is all that differs
    found = again(folder, code=1)
    assert (found["step"], found["causes"][0]["kind"]) == ("model g", "time"), found["causes"]
    ran(folder, text + "pd.DataFrame(g.cv_results_).to_csv('results.csv')\n")
    found = again(folder, code=1)
    assert found["step"] == "results.csv"
    assert [(each["kind"], each["sure"]) for each in found["causes"]] == [("time", "proved")], found["causes"]
    assert found["causes"][0]["where"].startswith("train.py:6  g = GridSearchCV("), found["causes"]


def test_what_is_printed_is_compared_and_counts_where_that_is_declared(folder: Path) -> None:
    ran(folder, "import datetime\nprint('begun', datetime.datetime.now())\nprint('5 rows')\n")
    assert verdict(again(folder)) == {"exit code": "identical", "printed": "identical"}
    ran(folder, "import random\nprint('5 rows')\nprint(random.random())\n")
    found = again(folder)
    assert (found["verdict"], found["ok"], found["step"]) == ("identical", True, "")
    assert [(each["step"], each["verdict"]) for each in found["steps"]] == [
        ("exit code", "identical"), ("printed", "noted"),
    ]  # fmt: skip
    assert found["steps"][-1]["text"].startswith("line 2: '0."), found["steps"]
    with (folder / "noria.toml").open("a") as settings:
        settings.write("[reproduce]\nprinted = true\n")
    found = again(folder, code=1)
    assert (found["verdict"], found["step"]) == ("different", "printed")
    first = found["causes"][0]
    assert (first["kind"], first["where"][:10]) == ("unseeded random", "train.py:3"), found["causes"]


def test_what_a_folder_held_that_was_listed_is_in_the_place(folder: Path) -> None:
    (folder / "parts" / "deep").mkdir(parents=True)
    for number in range(3):
        (folder / "parts" / f"part{number}.csv").write_text("a\n" * (number + 1))
    (folder / "parts" / "deep" / "last.csv").write_text("a\n")
    text = (
        "import glob, os\n"
        "from pathlib import Path\n"
        "found = [sorted(os.listdir('parts')), sorted(glob.glob('parts/**/*.csv', recursive=True))]\n"
        "found += [os.path.exists('parts/part1.csv'), os.path.getsize('parts/part2.csv')]\n"
        "found += [sorted(each.name for each in Path('.').iterdir() if each.suffix == '.csv')]\n"
        "Path('parts/made.csv').write_text(repr(found))\n"
        "Path('out.txt').write_text(repr([*found, sorted(os.listdir('parts'))]))\n"
    )
    ran(folder, text)
    (folder / "parts" / "part1.csv").unlink()
    (folder / "parts" / "later.csv").write_text("")
    found = again(folder)
    assert set(verdict(found).values()) == {"identical"}, found["steps"]


@pytest.mark.parametrize(
    ("body", "evidence"),
    [
        ("Path('out.txt').write_text(str(os.path.exists('parts/one.csv')))", "parts/one.csv was only looked at"),
        ("Path('out.txt').write_text(str(os.path.getsize('parts/one.csv')))", "parts/one.csv was only looked at"),
    ],
    ids=["whether it is there", "its size"],
)
def test_a_file_that_is_only_looked_at_is_named(folder: Path, body: str, evidence: str) -> None:
    (folder / "parts").mkdir()
    (folder / "parts" / "one.csv").write_text("a\n")
    ran(folder, f"import os\nfrom pathlib import Path\n{body}\n")
    found = again(folder, code=1)
    first = found["causes"][0]
    assert first["kind"] == "file outside the inputs"
    assert evidence in first["evidence"]


@pytest.mark.parametrize(
    ("look", "then", "now"),
    [
        ("os.environ.get('REGION', 'none')", "north", "south"),
        ("os.environ['REGION']", "north", ""),
        ("os.getenv('REGION', 'none')", "", "south"),
        ("'REGION' in os.environ", "north", ""),
    ],
)
def test_a_variable_of_the_environment_with_another_value(folder: Path, look: str, then: str, now: str) -> None:
    text = f"import os\nopen('out.txt', 'w').write(str({look}))\n"
    ran(folder, text, **({"REGION": then} if then else {}))
    found = again(folder, code=1, **({"REGION": now} if now else {}))
    (first,) = found["causes"]
    assert (first["kind"], first["evidence"].partition(";")[0]) == (
        "environment variable",
        "the variable REGION has another value",
    )
    ran(folder, text, REGION="north", OTHER="1")
    assert again(folder, REGION="north", OTHER="2")["verdict"] == "identical"


def test_a_secret_in_a_variable_leaves_nothing_on_record(folder: Path) -> None:
    ran(folder, "print('done')\n", REGION="north", DB_PASSWORD="hunter22", PLACE="postgres://me:hunter22@host/db")
    kept = last(folder)[2]["variables"]
    assert "REGION" in kept
    assert not {"DB_PASSWORD", "PLACE"} & set(kept)
