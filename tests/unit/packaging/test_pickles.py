"""What a pickle may name is decided before a byte of it runs."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from noria.core.errors import Denied
from noria.engines.flavors.listed import is_allowed, is_listed
from noria.engines.flavors.python import PythonFlavor
from noria.engines.flavors.sklearn import SklearnFlavor
from noria.store import pickles


class Bomb:
    """Unpickles as a call of something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


BOMBS = [
    Bomb(os.system, "touch /tmp/noria-bomb"),
    Bomb(subprocess.Popen, ["touch", "/tmp/noria-bomb"]),
    Bomb(builtins.eval, "1"),
    Bomb(builtins.getattr, "", "join"),
    Bomb(np.load, "x"),
]


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: getattr(bomb.call[0], "__name__", "call"))
@pytest.mark.parametrize("protocol", range(6))
def test_a_bomb_is_refused_before_it_runs(bomb: Bomb, protocol: int, tmp_path: Path) -> None:
    marker = Path("/tmp/noria-bomb")
    marker.unlink(missing_ok=True)
    content = pickle.dumps({"model": bomb}, protocol=protocol)
    (tmp_path / "model.pkl").write_bytes(content)
    (tmp_path / "names.json").write_text(json.dumps(sorted(pickles.globals_of(content))))
    with pytest.raises(Denied, match="does not allow"):
        pickles.loads(content, is_listed)
    with pytest.raises(Denied, match="does not allow"):
        PythonFlavor().load(tmp_path)
    with pytest.raises(Denied, match="is not loaded"):
        SklearnFlavor().load(tmp_path)
    assert not marker.exists()


def test_the_names_that_a_stream_imports_are_all_found() -> None:
    for protocol in range(6):
        content = pickle.dumps([OrderedDict(a=1), OrderedDict(b=2), Bomb(os.system, "true")], protocol=protocol)
        found = pickles.globals_of(content)
        assert ("collections", "OrderedDict") in found
        assert (os.system.__module__, "system") in found


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"junk",
        pickle.dumps([1, 2])[:-1],
        pickle.dumps([1, 2]) + b"x",
        b"cos\nsystem\n(S'true'\ntR",
        pickle.dumps([1]) + pickle.dumps([2]),
        b"Pposix\n.",
    ],
)
def test_a_stream_that_cannot_be_read_to_its_end_is_refused(content: bytes) -> None:
    with pytest.raises(Denied):
        pickles.loads(content, lambda module, name: True)


def test_a_name_that_is_computed_is_refused() -> None:
    # 'os' and 'system' swapped into place by tuple and index would hide them; only plain pushes count
    content = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x85\x30\x93."
    with pytest.raises(Denied, match="cannot be checked"):
        pickles.globals_of(content)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy.testing._private.utils", "runstring"),
        ("sklearn.datasets", "Bunch"),
        ("sklearn.utils", "os.system"),
        ("sklearn.utils._testing", "SkipTest"),
        ("sklearn.base", "clone"),
        ("sklearn.externals.array_api_compat", "Thing"),
        ("sklearn.linear_model", "LogisticRegression.fit"),
        ("joblib", "load"),
        ("pandas", "read_pickle"),
        ("sklearnx", "Model"),
    ],
)
def test_only_classes_of_scikit_learn_and_holders_of_numbers_are_allowed(module: str, name: str) -> None:
    assert not is_allowed(module, name)


def test_the_estimators_of_scikit_learn_pass(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
    models = [
        LogisticRegression(),
        RandomForestClassifier(n_estimators=3),
        GradientBoostingClassifier(n_estimators=3, init=LogisticRegression()),
        HistGradientBoostingRegressor(max_iter=3),
        IsolationForest(n_estimators=3),
        KNeighborsClassifier(),
        SVC(),
        make_pipeline(make_column_transformer((OneHotEncoder(), [0]), (StandardScaler(), [1])), LogisticRegression()),
    ]
    for number, model in enumerate(models):
        data = np.round(x) if number == 7 else x
        folder = tmp_path / str(number)
        folder.mkdir()
        SklearnFlavor().save(model.fit(data, y), folder)
        loaded: Any = SklearnFlavor().load(folder)
        assert np.array_equal(loaded.predict(data), model.predict(data))


def test_find_class_is_a_second_lock() -> None:
    stream = pickle.dumps(Bomb(os.system, "true"))
    with pytest.raises(Denied):
        pickles._unpickler(stream, lambda module, name: False).load()
    assert io.BytesIO(stream).read() == stream


CODE = """
import math

class Shifted:
    def __init__(self, by):
        self.by = by

    def predict(self, x):
        return [moved(each, self.by) for each in x]


def moved(value, by):
    return (lambda added: math.fsum((value, added)))(by)
"""


def test_a_class_of_the_project_is_the_same_bytes_in_any_folder_and_process(tmp_path: Path) -> None:
    """Neither the path of its file nor the number by which a process knows it is in the file."""
    save = """
import copy, pickle, sys
from pathlib import Path
from noria.engines.flavors.python import PythonFlavor
import shifted
model = shifted.Shifted(2.0)
pickle.dumps(model) if sys.argv[1] == "1" else None  # leaves a note in the class
out = Path("out"); out.mkdir()
PythonFlavor().save(model, out)
print(PythonFlavor().predict(PythonFlavor().load(out), [1.0, 2.5]).tolist())
"""
    written = []
    for name in ("0", "1"):
        folder = tmp_path / name / "project"
        folder.mkdir(parents=True)
        (folder / "shifted.py").write_text(CODE)
        done = subprocess.run(
            [sys.executable, "-c", save, name], cwd=folder, capture_output=True, text=True, check=True, timeout=120
        )
        assert json.loads(done.stdout) == [3.0, 4.5]
        written.append((folder / "out" / "model.pkl").read_bytes())
    assert written[0] == written[1]
    assert str(tmp_path).encode() not in written[0]
