"""`noria test`: one verdict over a project as it is, JUnit for any CI, and production as it was, byte for byte."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from again_project import environ

import warm
from noria.bootstrap import open_workspace

CONFIG = """
[project]
name = "churn"
[data.customers]
source = "customers.parquet"
checks = "checks/customers.toml"
"""
PIPELINE = '''"""Churn."""
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import noria as nr

customers = nr.dataset("customers", key="id", time="at", label="churned")


@nr.step
def split(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return nr.split_by_time(rows, "20d")


@nr.step
def train(rows: pd.DataFrame):
    x, y = nr.xy(rows)
    return make_pipeline(StandardScaler(), LogisticRegression(MORE)).fit(x, y)


@nr.pipeline
def churn():
    learn, newest = split(customers)
    return nr.model("churn", train(learn), holdout=newest, metrics=["auc", "log_loss"])
'''
TESTS = "def test_one():\n    assert 1 + 1 == 2\n"


def customers(rows: int = 900) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    fee, calls = rng.normal(30, 8, rows), rng.integers(0, 6, rows)
    churned = (fee / 8 + calls + rng.normal(size=rows) > 6).astype("int64")
    at = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(rows) * 3, unit="h")
    ids = [f"c{i:05d}" for i in range(rows)]
    return pd.DataFrame({"id": ids, "at": at, "fee": fee, "calls": calls, "churned": churned})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "churn"
    (folder / "tests").mkdir(parents=True)
    (folder / "noria.toml").write_text(CONFIG)
    (folder / "pipeline.py").write_text(PIPELINE.replace("MORE", "random_state=nr.seed()"))
    (folder / "tests" / "test_churn.py").write_text(TESTS)
    customers().to_parquet(folder / "customers.parquet")
    return folder


def noria(root: Path, *words: str, code: int = 0) -> dict[str, Any]:
    done = warm.noria(*words, "--json", cwd=root, env=environ({}))
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def production(root: Path) -> tuple[int, dict[str, bytes]]:
    """The ledger's head, and every file of the objects, the pins and the project itself."""
    state = root / ".noria"
    head = open_workspace(root).ledger.head() if (state / "ledger.db").is_file() else 0
    kept = [path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    own = [path for path in kept if not path.is_relative_to(state) or path.is_relative_to(state / "objects")]
    own = [path for path in own if not path.name.endswith(".db-shm")]  # who reads writes there that they read
    return head, {str(path.relative_to(root)): path.read_bytes() for path in own}


def junit(path: Path) -> dict[str, bool]:
    """Every case as `suite/name`, and whether it passed."""
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return {f"{case.get('classname')}/{case.get('name')}": case.find("failure") is None for case in cases}


def stages(found: dict[str, Any]) -> dict[str, bool]:
    return {stage["name"]: stage["ok"] for stage in found["stages"]}


def test_a_sound_project_passes_and_production_is_as_it_was(root: Path) -> None:
    noria(root, "run")
    frame = customers(1000)  # the source has grown: it is tested as a run would find it, and not added
    frame.to_parquet(root / "customers.parquet")
    before = production(root)
    found = noria(root, "test", "--junit", "out/test.xml")
    assert found["ok"], found
    assert stages(found) == dict.fromkeys(("tests", "data", "pipeline", "model", "again"), True)
    told = {stage["name"]: stage["text"] for stage in found["stages"]}
    assert told["data"].startswith("customers@2 ")
    assert "identical" in told["again"]
    cases = junit(root / "out" / "test.xml")
    assert all(cases.values())
    assert {"noria/tests", "noria/again", "noria.training/one row", "noria.behaviour/the same twice"} <= set(cases)
    assert any(name.endswith("/test_one") for name in cases)
    (root / "out" / "test.xml").unlink()
    after = production(root)
    assert after == before
    assert not list(root.rglob("sample/*.parquet"))


def test_a_project_that_never_ran_is_tested_too_and_stays_so(root: Path) -> None:
    before = production(root)
    found = noria(root, "test", "--sample", "600")
    assert found["ok"], found
    head, files = production(root)
    assert head == 0, "opening made a ledger, and nothing is in it"
    assert files == before[1]


@pytest.mark.parametrize("sample", ["0", "-5"])
def test_a_sample_of_no_rows_is_refused(root: Path, sample: str) -> None:
    done = warm.noria("test", "--sample", sample, cwd=root, env=environ({}))
    assert (done.returncode, "one row at least" in done.stderr) == (2, True), done.stderr


def test_each_stage_says_no(root: Path) -> None:
    noria(root, "run")
    before = production(root)
    (root / "tests" / "test_churn.py").write_text("def test_one():\n    assert 1 + 1 == 3\n")
    frame = customers()
    frame["fee"] *= 100.0
    frame.to_parquet(root / "customers.parquet")
    (root / "pipeline.py").write_text(
        PIPELINE.replace("MORE", "C=__import__('random').uniform(0.1, 9)").replace(
            "x, y = nr.xy(rows)", "x, y = nr.xy(rows, label='churned')\n    x = x.assign(calls=x['calls'])"
        )
    )
    (root / "noria.toml").write_text(
        CONFIG + '[model.churn.behaviour]\ndirection = { fee = "down" }\ninvariant = ["calls"]\n'
    )
    found = noria(root, "test", code=1)
    assert stages(found) == {"tests": False, "data": False, "pipeline": True, "model": False, "again": False}
    told = {stage["name"]: stage for stage in found["stages"]}
    assert "0 of 1" in told["tests"]["text"]
    assert "fee" in told["data"]["output"]
    assert "more fee, down" in told["model"]["text"]
    assert "calls does not matter" in told["model"]["text"]
    assert told["again"]["text"] == "train comes out otherwise: unseeded random"
    cases = junit(root / ".noria" / "test.xml")
    assert not cases["noria.behaviour/more fee, down"]
    assert cases["noria.training/one row"]
    head, files = production(root)
    assert head == before[0]
    changed = {name for name in files if files[name] != before[1].get(name)}
    assert changed == {"tests/test_churn.py", "customers.parquet", "pipeline.py", "noria.toml"}, "what this test wrote"


def test_a_gate_that_says_no_on_the_sample_is_named(root: Path) -> None:
    """So few rows that the holdout is of one class."""
    found = {stage["name"]: stage for stage in noria(root, "test", "--sample", "5", code=1)["stages"]}
    assert not found["pipeline"]["ok"]
    assert "gates said no: " in found["pipeline"]["text"]
    assert found["pipeline"]["output"]
    assert "{" not in found["pipeline"]["output"], "no document of a machine"


def test_code_that_fails_says_where(root: Path) -> None:
    (root / "pipeline.py").write_text(PIPELINE.replace("MORE", "C='no number'"))
    found = noria(root, "test", code=1)
    assert stages(found)["pipeline"] is False
    assert "train" in next(stage["text"] for stage in found["stages"] if stage["name"] == "pipeline")
    (root / "pipeline.py").write_text("raise RuntimeError('broken')\n")
    assert stages(noria(root, "test", code=1))["pipeline"] is False


ODD = """
class Odd:
    \"\"\"A class of the project's own, which no safe format holds.\"\"\"

    def __init__(self, inner):
        self.inner, self.classes_ = inner, inner.classes_

    def predict_proba(self, x):
        return weighed(self.inner.predict_proba(x))

    def predict(self, x):
        return self.inner.predict(x)


def weighed(found):
    return found


@nr.step
def train("""


@pytest.mark.parametrize("rules", ["allow_pickle = true", 'clients = { trust = "any" }', ""])
def test_a_model_of_the_projects_own_class_is_tested_as_far_as_a_run_may_keep_it(root: Path, rules: str) -> None:
    made = PIPELINE.replace("MORE", "random_state=nr.seed()").replace("@nr.step\ndef train(", ODD.lstrip())
    (root / "pipeline.py").write_text(
        made.replace("return make_pipeline(", "return Odd(make_pipeline(").replace(".fit(x, y)", ".fit(x, y))")
    )
    (root / "noria.toml").write_text(f"{CONFIG}[model.churn]\n{rules}\n")
    found = noria(root, "test", code=0 if rules else 1)
    told = {stage["name"]: stage for stage in found["stages"]}
    if rules:
        assert found["ok"], found
        assert "identical" in told["again"]["text"], "the same bytes in another folder and process"
        assert found["next"] == "noria run"
        return
    assert stages(found) == {"tests": True, "data": True, "pipeline": False, "model": False}
    assert "nothing allows that" in told["pipeline"]["text"]
    assert found["next"] == "mend pipeline, model (above), then: noria test"


CHANGES = """
    def __getstate__(self):
        return {**self.__dict__, **FORGETS}

    def __setstate__(self, state):
        LOADS
        self.__dict__.update(state)

    def predict_proba(self, x):
        found = self.inner.predict_proba(x)
        return found if self.fitted else found * 0 + 0.5
"""


OTHERWISE = "the model (Odd) answers otherwise after it was saved and loaded"


@pytest.mark.parametrize(
    ("forgets", "loads", "said", "executor"),
    [
        ('{"fitted": False}', "pass", OTHERWISE, ""),  # loading it again changes nothing more
        ("{}", 'state["inner"][-1].coef_ *= 2', OTHERWISE, ""),
        ("{}", 'state["inner"][-1].coef_ *= 2', OTHERWISE, 'timeout="600s"'),
        ("{}", 'raise TypeError("no way back")', "Odd cannot be loaded: TypeError: no way back", ""),
    ],
)
def test_a_model_that_is_another_once_it_was_loaded_is_no_model(
    root: Path, forgets: str, loads: str, said: str, executor: str
) -> None:
    own = ODD.split("def weighed")[0].replace("self.inner, self.classes_", "self.fitted, self.inner, self.classes_")
    own = own.replace("= inner, inner", "= True, inner, inner").split("    def predict_proba")[0].rstrip()
    own += "\n" + CHANGES.replace("FORGETS", forgets).replace("LOADS", loads)
    own += "\n    def predict(self, x):\n        return self.inner.predict(x)\n"
    step = f"@nr.step({executor})\ndef train(" if executor else "@nr.step\ndef train("
    made = PIPELINE.replace("MORE", "random_state=nr.seed()").replace("@nr.step\ndef train(", f"{own}\n\n{step}")
    made = made.replace("return make_pipeline(", "return Odd(make_pipeline(").replace(".fit(x, y)", ".fit(x, y))")
    (root / "pipeline.py").write_text(made)
    (root / "noria.toml").write_text(f"{CONFIG}[model.churn]\nallow_pickle = true\n")
    told = {stage["name"]: stage for stage in noria(root, "test", code=1)["stages"]}
    assert said in told["pipeline"]["text"], told["pipeline"]
    if "TypeError" in said:
        assert f"where: {root.resolve() / 'pipeline.py'}:" in told["pipeline"]["output"]
    ran = warm.noria("run", cwd=root, env=environ({}))
    assert ran.returncode == 4
    assert said in ran.stderr
    assert "noria itself" not in ran.stderr


def test_what_a_failed_step_left_is_still_there_when_the_test_is_over(root: Path) -> None:
    (root / "pipeline.py").write_text(PIPELINE.replace("x, y = nr.xy(rows)", 'raise ValueError("the step says no")'))
    (root / "tests" / "test_churn.py").write_text(
        "from pathlib import Path\n\n\ndef test_one():\n    raise OSError(str(Path(__file__).resolve()))\n"
    )
    told = {stage["name"]: stage for stage in noria(root, "test", code=1)["stages"]}
    output = told["pipeline"]["output"]
    line = PIPELINE[: PIPELINE.index("x, y = nr.xy(rows)")].count("\n") + 1
    assert f"where: {root.resolve() / 'pipeline.py'}:{line} in train" in output
    log = Path(output.partition("the whole trace: ")[2].splitlines()[0])
    assert log.is_relative_to(root.resolve() / ".noria" / "test")
    trace = log.read_text()
    assert trace.startswith("Traceback")
    assert f'File "{root.resolve() / "pipeline.py"}", line {line}, in train' in trace
    report = (root / ".noria" / "test.xml").read_text()
    assert str(root.resolve() / "tests" / "test_churn.py") in report
    said = trace + report + json.dumps(told)  # pytest cuts the lines of its summary, in the middle of a place too
    assert not re.search(r"noria-held-test-\w+/(tests/project|project|pytest)", said)


@pytest.mark.parametrize("mark", ["skip(reason='later')", "xfail"])
def test_tests_that_were_skipped_have_not_passed(root: Path, mark: str) -> None:
    skipped = f"import pytest\n\n\n@pytest.mark.{mark}\ndef test_two():\n    assert False\n"
    (root / "tests" / "test_skipped.py").write_text(skipped)
    told = noria(root, "test")["stages"][0]
    assert told["text"] == "1 of 2 passed, 1 skipped or expected to fail"
    (root / "tests" / "test_churn.py").write_text(skipped)
    told = noria(root, "test", code=1)["stages"][0]
    assert told["text"] == "0 of 2 passed, 2 skipped or expected to fail"


def test_rows_that_the_model_refuses_are_told_in_the_line_and_in_the_report(root: Path) -> None:
    frame = customers()
    frame["plan"] = np.where(frame["calls"] > 3, "pro", "basic")
    frame.to_parquet(root / "customers.parquet")
    strict = """from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OrdinalEncoder
"""
    made = PIPELINE.replace("from sklearn.pipeline", strict + "from sklearn.pipeline").replace("MORE", "")
    columns = 'make_column_transformer((OrdinalEncoder(), ["plan"]), remainder="passthrough")'
    (root / "pipeline.py").write_text(made.replace("make_pipeline(Standard", f"make_pipeline({columns}, Standard"))
    told = {stage["name"]: stage for stage in noria(root, "test", "--junit", "../j.xml")["stages"]}
    assert "it refuses rows with a value never seen in plan" in told["model"]["text"]
    said = {
        case.get("name"): case.findtext("system-out")
        for case in ElementTree.parse(root.parent / "j.xml").iter("testcase")
    }
    assert "1 refused by name: plan" in str(said["values never seen"])


def test_tests_may_open_the_project_and_run_it_and_production_stays(root: Path) -> None:
    noria(root, "run")
    (root / "tests" / "test_store.py").write_text(
        "import noria as nr\n\n\ndef test_runs():\n"
        "    project = nr.open('.')\n    assert project.run().model == 'churn'\n    assert project.run().ok\n"
    )
    before = production(root)
    found = {stage["name"]: stage for stage in noria(root, "test")["stages"]}
    assert found["tests"]["text"] == "2 of 2 passed", found["tests"]["output"]
    assert production(root) == before


def test_a_test_that_ends_the_process_is_not_told_as_no_test(root: Path) -> None:
    (root / "tests" / "test_churn.py").write_text("import os\n\n\ndef test_one():\n    os._exit(0)\n")
    found = noria(root, "test", "--junit", "../reports/j.xml", code=1)
    told = {stage["name"]: stage["text"] for stage in found["stages"]}
    assert "exit code 0 before it had a report" in told["tests"]
    assert found["junit"] == str(root.parent.resolve() / "reports" / "j.xml")
    assert found["next"] == "mend tests (above), then: noria test"
