"""What becomes of the models that a script leaves: versions, verdicts, releases; served, and explained back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from script_project import TABLE, both, environment, last, made_in, noria, predicted, serving

from noria.registry import records as registry

FIT = TABLE + "model = LogisticRegression(C=0.3).fit(X_train, y_train)\n"
SCORED = FIT + "print(model.score(X_test, y_test))\n"
ASKED = (
    '[project]\nname = "scripts"\n\n[model.model]\nallow_pickle = true\n[model.model.gate]\nauc = {{ min = {least} }}\n'
)


OWNED = (
    TABLE + "import numpy as np\n"
    "from sklearn.metrics import roc_auc_score\n"
    "class Own(LogisticRegression):\n"
    "    def predict_proba(self, X):\n"
    "        whole = np.vstack([*super().predict_proba(X).T, np.arange(len(X))])\n"
    "        spare[:] = [whole[2]]\n"
    "        return whole[:2].transpose()\n"
    "spare = []\n"
    "model = Own().fit(X_train, y_train)\n"
    "found = model.predict_proba(X_test)[:, 1]\n"
    "print(roc_auc_score(y_test, {answer}))\n"
)
"""A model that answers, as those of XGBoost and LightGBM do, with a view of an array that it holds itself."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_in(tmp_path)


def report(folder: Path, text: str, *words: str, name: str = "train.py") -> tuple[int, dict[str, Any]]:
    """Run a script with --json; the exit code and the report."""
    (folder / name).write_text(text)
    done = noria(folder, "run", "--json", name, *words)
    assert done.stdout.strip(), done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return done.returncode, found


def test_the_same_script_again_makes_no_second_version(folder: Path) -> None:
    text = TABLE + (
        "import joblib\n"
        "from sklearn.ensemble import RandomForestClassifier\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "forest = RandomForestClassifier(n_estimators=5, random_state=0)\n"
        "joblib.dump(make_pipeline(StandardScaler(), forest).fit(X_train, y_train), 'trees.joblib')\n"
        "print(hash('differs from process to process'))\n"
    )
    made = [report(folder, text)[1]["models"][0] for _ in range(2)]
    assert [(each["model"], each["version"], each["release"]) for each in made] == [("trees", 1, 1)] * 2
    shipped = noria(folder, "deploy", "trees.joblib", "--dry-run")
    assert (shipped.returncode, "trees r1" in shipped.stdout) == (0, True), shipped.stdout + shipped.stderr


def test_a_name_that_no_model_can_have_is_refused_and_not_cut(folder: Path) -> None:
    text = TABLE + "import joblib\njoblib.dump(LogisticRegression().fit(X_train, y_train), 'größe.joblib')\n"
    _, found = report(folder, text)
    (line,) = found["models"]
    assert (line["model"], line["version"]) == ("größe", 0)
    assert "'größe' cannot be a model's name" in line["note"]
    assert "--model NAME" in line["note"]
    _, found = report(folder, text, "--model", "size")
    assert [(each["model"], each["version"]) for each in found["models"]] == [("size", 1)]
    done = noria(folder, "run", "--model", "größe", "train.py")
    assert (done.returncode, "'größe' cannot be a model's name" in done.stderr) == (2, True), "before it runs"


def test_models_of_many_kinds_are_served_and_answer_as_in_the_script(folder: Path) -> None:
    with (folder / "noria.toml").open("a") as settings:  # those that hold classes of the script's own
        settings.write("[model.own]\nallow_pickle = true\n[model.chain]\nallow_pickle = true\n")
    (folder / "steps.py").write_text(
        "from sklearn.base import BaseEstimator, TransformerMixin\n"
        "class Doubled(BaseEstimator, TransformerMixin):\n"
        "    def fit(self, X, y=None):\n        return self\n"
        "    def transform(self, X):\n        return X * 2\n"
    )
    text = TABLE + (
        "import json, pickle, joblib\n"
        "from sklearn.base import BaseEstimator, ClassifierMixin\n"
        "from sklearn.ensemble import GradientBoostingRegressor\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "from steps import Doubled\n"
        "class Own(ClassifierMixin, BaseEstimator):\n"
        "    def fit(self, X, y):\n"
        "        self.classes_ = [0, 1]\n        self.mean_ = float(X['age'].mean())\n        return self\n"
        "    def predict_proba(self, X):\n"
        "        import numpy as np\n        p = 1 / (1 + np.exp(-(X['age'] - self.mean_) / 10))\n"
        "        return np.column_stack([1 - p, p])\n"
        "    def predict(self, X):\n        return (self.predict_proba(X)[:, 1] > 0.5).astype(int)\n"
        "made = {\n"
        "    'plain': LogisticRegression().fit(X_train, y_train),\n"
        "    'bare': LogisticRegression().fit(X_train.to_numpy(), y_train.to_numpy()),\n"
        "    'chain': make_pipeline(StandardScaler(), Doubled(), LogisticRegression()).fit(X_train, y_train),\n"
        "    'number': GradientBoostingRegressor(random_state=0).fit(X_train, rows['fee'].loc[X_train.index] * 2.0),\n"
        "    'own': Own().fit(X_train, y_train),\n"
        "}\n"
        "said = {}\n"
        "for name, model in made.items():\n"
        "    data = X_test if name != 'bare' else X_test.to_numpy()\n"
        "    score = model.predict_proba(data)[:, 1] if hasattr(model, 'predict_proba') else model.predict(data)\n"
        "    said[name] = [float(value) for value in list(score)[:3]]\n"
        "    joblib.dump(model, f'{name}.joblib') if name != 'own' else pickle.dump(model, open('own.pkl', 'wb'))\n"
        "print(json.dumps([X_test.head(3).to_dict('records'), said]))\n"
    )
    found = both(folder, text)
    assert found.returncode == 0, found.stdout + found.stderr
    rows, said = json.loads(found.stdout.splitlines()[0])
    for name in said:
        assert f"{name}:1" in found.stdout
        shipped = noria(folder, "deploy", name)
        assert shipped.returncode == 0, shipped.stderr
    with serving(folder) as url:
        for name, scores in said.items():
            for number, (row, score) in enumerate(zip(rows, scores, strict=True)):
                asked = {"x0": row["age"], "x1": row["fee"]} if name == "bare" else row
                assert predicted(url, name, asked, f"{name}-{number}") == pytest.approx(score, abs=1e-12), name
        chain = json.loads(noria(folder, "explain", "own-0", "--json").stdout)
    links = {link["what"]: link for link in reversed(chain["links"])}
    assert links["script"]["text"].startswith("python train.py: exit code 0")
    assert links["input"]["details"]["path"] == "data.csv"
    assert links["run"]["ref"] == f"run/{last(folder)[1].run}"
    assert {"prediction", "release", "gates", "model", "code", "environment"} <= set(links)
    assert noria(folder, "audit", "verify").returncode == 0


@pytest.mark.parametrize(
    ("least", "text", "code", "said"),
    [
        (0.5, SCORED, 0, "PASS"),
        (0.999, SCORED, 1, "min 0.999"),
        (0.5, FIT, 1, "scored it on no labelled rows"),
        (0.5, FIT + "print(model.score(X_train, y_train))\n", 1, "only on the rows that it was trained on"),
        (0.5, FIT + "print(model.score(X_train.copy(), y_train))\n", 1, "of its training rows are among the rows"),
        (
            0.5,
            FIT + "from sklearn.metrics import roc_auc_score\n"
            "print(roc_auc_score(y_test, model.predict_proba(X_test)[:, 1]))\n",
            0,
            "PASS",
        ),
        (
            0.5,
            FIT + "from sklearn.metrics import roc_auc_score\nC = ['age', 'fee']\n"
            "print(roc_auc_score(y_test[:], model.predict_proba(X_test[C])[:, 1]))\n"
            "print(roc_auc_score(y_train[:], model.predict_proba(X_train[C])[:, 1]))\n",
            0,
            "PASS",
        ),
        (0.5, OWNED.format(answer="model.predict_proba(X_test)[:, 1]"), 0, "on the 100 rows"),
        (0.5, OWNED.format(answer="model.predict_proba(X_test[['age', 'fee']])[:, 1]"), 0, "on the 100 rows"),
        (0.5, OWNED.format(answer="spare[0]"), 1, "the script scored it on no labelled rows"),
    ],
    ids=[
        *("passes", "too low", "no holdout", "training rows", "a copy of the training rows", "by a metric"),
        "on a part of a table that nobody keeps, and then on training rows",
        *("a view of what the library holds", "such a view, of a part of a table", "another piece of that memory"),
    ],
)
def test_gates_that_are_asked_for_are_judged_on_the_rows_that_the_script_held_out(
    folder: Path, least: float, text: str, code: int, said: str
) -> None:
    (folder / "noria.toml").write_text(ASKED.format(least=least))
    found = both(folder, text)
    assert found.returncode == code, found.stdout + found.stderr
    assert said in found.stdout
    assert "none asked" not in found.stdout
    ws, run, _ = last(folder)
    assert run.status == ("stopped" if code else "finished")
    with ws.ledger.read() as tx:
        (release,) = registry.releases(tx, "model")
    assert release.state == ("rejected" if code else "validated")
    assert noria(folder, "deploy", "model").returncode == code


def test_where_no_gate_is_asked_for_the_run_says_so_and_the_verdict_is_a_check_that_was_made(folder: Path) -> None:
    code, found = report(folder, FIT)
    (model,) = found["models"]
    assert code == 0
    assert (model["asked"], model["state"]) == (False, "validated")
    assert [(verdict["gate"], verdict["passed"]) for verdict in model["gates"]] == [("same answers", True)]
    assert "none asked" in noria(folder, "run", "train.py").stdout


def test_a_second_model_is_compared_with_the_live_one_and_may_not_refuse_its_callers(folder: Path) -> None:
    assert report(folder, SCORED)[0] == 0
    assert noria(folder, "deploy", "model").returncode == 0
    code, found = report(folder, SCORED.replace("0.3", "30.0"))
    assert (code, found["models"][0]["champion"]) == (0, 1)
    assert found["next"] == "noria promote model:2"
    narrow = FIT.replace("X_train, y_train)", "X_train[['age']], y_train)")
    code, found = report(folder, narrow)
    assert code == 1
    assert "knows no fee" in found["models"][0]["note"]
    assert found["models"][0]["state"] == "rejected"


def test_a_model_s_name_is_that_of_one_script(folder: Path) -> None:
    assert report(folder, SCORED)[0] == 0
    code, found = report(folder, SCORED, name="other.py")
    assert code == 1
    assert "is made by train.py" in found["models"][0]["note"]
    assert found["models"][0]["version"] == 0
    code, found = report(folder, SCORED, "--model", "second", name="other.py")
    assert (code, found["models"][0]["model"], found["models"][0]["version"]) == (0, "second", 1)


def test_rules_under_another_name_bind_somebody(folder: Path) -> None:
    (folder / "noria.toml").write_text(ASKED.format(least=0.999).replace("model.model", "model.churn"))
    code, found = report(folder, SCORED)
    assert code == 1
    assert "rules for churn" in found["models"][0]["note"]
    code, found = report(folder, SCORED, "--model", "churn")
    assert (code, found["models"][0]["state"]) == (1, "rejected")


def test_data_that_fail_their_checks_make_no_release(folder: Path) -> None:
    (folder / "noria.toml").write_text('[project]\nname = "s"\n[data.customers]\nsource = "data.csv"\n')
    assert noria(folder, "data", "add", "data.csv", "--name", "customers").returncode == 0
    assert noria(folder, "data", "check", "customers", "--infer").returncode == 0
    text = (folder / "data.csv").read_text().splitlines()
    (folder / "data.csv").write_text("\n".join([text[0], *["900,900,1" for _ in text[1:50]], *text[50:]]) + "\n")
    assert noria(folder, "data", "add", "data.csv", "--name", "customers").returncode == 0
    code, found = report(folder, SCORED)
    assert code == 1
    assert "checks of customers@2 failed" in found["models"][0]["note"]
    assert found["models"][0]["version"] == 0


@pytest.mark.parametrize(
    ("text", "why", "way"),
    [
        (
            TABLE + "model = LogisticRegression().fit(X_train, rows['age'].loc[X_train.index] // 30)\n",
            "two are supported",
            "",
        ),
        (
            "from sklearn.pipeline import make_pipeline\n"
            "from sklearn.feature_extraction.text import TfidfVectorizer\n"
            "from sklearn.linear_model import LogisticRegression\n"
            "model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(['a cat', 'a dog'] * 9, [0, 1] * 9)\n",
            "lists, texts or arrays",
            "fit it on a DataFrame",
        ),
        (
            TABLE + "import pickle\nclass Mean:\n    def predict(self, X):\n        return X.mean()\n"
            "pickle.dump(Mean(), open('mean.pkl', 'wb'))\n",
            "it was not seen how it was fitted",
            "fit it in this script",
        ),
        (
            TABLE + "class Own(LogisticRegression):\n    pass\nmodel = Own().fit(X_train, y_train)\n",
            "which no list of known types has",
            "[model.model] allow_pickle = true in noria.toml",
        ),
        (
            TABLE + "import os\nclass Bad(LogisticRegression):\n"
            "    def __setstate__(self, state):\n        os.abort()\nmodel = Bad().fit(X_train, y_train)\n",
            "killed by SIGABRT",
            "",
        ),
    ],
    ids=["three classes", "texts", "never fitted", "a class of its own", "kills who loads it"],
)
def test_a_model_that_cannot_be_served_is_kept_and_the_run_says_why(
    folder: Path, text: str, why: str, way: str
) -> None:
    code, found = report(folder, text)
    assert code == 0
    (model,) = found["models"]
    assert model["version"] == 0
    assert why in model["note"]
    assert way in model["note"]
    assert last(folder)[1].status == "finished"
    assert found["next"].startswith("noria explain run_")


def test_several_models_are_several_and_a_file_that_is_none_is_only_a_file(folder: Path) -> None:
    text = TABLE + (
        "import joblib\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "joblib.dump({'a': 1}, 'settings.joblib')\n"
        "joblib.dump(LogisticRegression(C=1.0).fit(X_train, y_train), 'one.joblib')\n"
        "joblib.dump(LogisticRegression(C=2.0).fit(X_train, y_train), 'two.joblib')\n"
        "joblib.dump(LogisticRegression(C=3.0).fit(X_train, y_train), 'two.joblib')\n"
        "left = LogisticRegression(C=4.0).fit(X_train, y_train)\n"
        "scaler = StandardScaler().fit(X_train)\n"
    )
    code, found = report(folder, text)
    assert code == 0
    assert [(m["model"], m["version"], m["source"]) for m in found["models"]] == [
        ("one", 1, "one.joblib"), ("two", 1, "two.joblib"),
    ]  # fmt: skip
    assert {f["path"] for f in found["written"]} == {"settings.joblib", "one.joblib", "two.joblib"}
    assert noria(folder, "run", "train.py", "--model", "both").returncode != 0
    again = report(folder, text.split("import joblib")[0] + "left = LogisticRegression().fit(X_train, y_train)\n")[1]
    assert [(m["model"], m["source"]) for m in again["models"]] == [("left", "variable left")]


def test_a_model_that_takes_what_a_transformer_made_says_so(folder: Path) -> None:
    text = TABLE + (
        "from sklearn.preprocessing import StandardScaler\n"
        "scaled = StandardScaler().fit_transform(X_train)\n"
        "model = LogisticRegression().fit(scaled, y_train)\n"
    )
    _, found = report(folder, text)
    assert "what StandardScaler gave" in found["models"][0]["note"]


def test_the_environment_of_a_script_says_where_it_is_watched(folder: Path) -> None:
    (folder / "train.py").write_text("import os, json\nprint(json.dumps(dict(os.environ)))\n")
    plain = json.loads(
        subprocess.run(
            [sys.executable, "train.py"], cwd=folder, env=environment(), capture_output=True, check=True
        ).stdout
    )
    told = json.loads(noria(folder, "run", "train.py").stdout.splitlines()[0])
    assert set(told) - set(plain) <= {"NORIA_CAPTURE", "PYTHONPATH"}
    assert {key: value for key, value in told.items() if key in plain and key != "PYTHONPATH"} == {
        key: value for key, value in plain.items() if key != "PYTHONPATH"
    }
    assert os.pathsep not in told["PYTHONPATH"] or "PYTHONPATH" in plain


def test_a_file_stands_for_the_version_that_it_was_registered_as(folder: Path) -> None:
    text = FIT + "import joblib\njoblib.dump(model, 'churn.joblib')\njoblib.dump(model, 'other.joblib')\n"
    assert report(folder, text)[0] == 0
    shipped = noria(folder, "deploy", "churn.joblib", "--json")
    assert (json.loads(shipped.stdout)["model"], json.loads(shipped.stdout)["version"]) == ("churn", 1)
    refused = noria(folder, "deploy", "data.csv")
    assert refused.returncode == 2
    assert "no run on record wrote" in refused.stderr
    with (folder / "churn.joblib").open("ab") as file:
        file.write(b"changed")
    assert noria(folder, "deploy", "churn.joblib").returncode == 2


def test_thousands_of_fits_by_hand_leave_the_rows_of_the_one_that_is_kept(folder: Path) -> None:
    (folder / "noria.toml").write_text(ASKED.format(least=0.5))
    text = TABLE + (
        "import os, glob, numpy as np\n"
        "from sklearn.dummy import DummyClassifier\n"
        "most = 0\n"
        "for n in range(1500):\n"
        "    part = rows[n % 350 : n % 350 + 50]\n"
        "    held = rows[n % 380 : n % 380 + 20]\n"
        "    made = DummyClassifier(random_state=n).fit(part[['age', 'fee']], part['churned'])\n"
        "    made.score(held[['age', 'fee']], held['churned'])\n"
        "    if n % 300 == 0:\n"
        "        most = max(most, len(os.listdir(os.environ.get('NORIA_CAPTURE', '.'))))\n"
        "del made\n"
        "assert most < 30, most\n"
        "model = LogisticRegression().fit(X_train, y_train)\n"
        "print(model.score(X_test, y_test))\n"
    )
    done = both(folder, text)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "model:1" in done.stdout
    document = last(folder)[2]
    assert document["fits_in_all"] == 1501
    assert document["fits"][-1]["name"] == "LogisticRegression"
