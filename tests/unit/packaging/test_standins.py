"""Harmless stand-ins for what model files are attacked with: each is refused before it runs, and clean ones are not.

Each would make a file if it ran. They are what scanners of block-lists miss: other names for running a command, and
files that a scanner cannot read to their end while pickle begins to run them.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from noria.core.errors import Denied
from noria.engines.flavors.listed import is_listed
from noria.engines.flavors.python import PythonFlavor
from noria.store import pickles


class Stated:
    """The opcodes of a call, written as text: nothing is imported to make it."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        pushed = b"".join(pickle.dumps(each, protocol=0)[:-1] for each in arguments)
        self.content = f"c{module}\n{name}\n".encode() + b"(" + pushed + b"tR."


def called(module: str, name: str, *arguments: Any) -> Callable[[Path], bytes]:
    return lambda mark: Stated(module, name, *(str(each).replace("MARK", str(mark)) for each in arguments)).content


def stacked(module: str, name: str) -> Callable[[Path], bytes]:
    """The same by STACK_GLOBAL, as protocol 4 names things."""
    head = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode()
    return lambda mark: head + b"\x93\x8c" + bytes([len(f"touch {mark}")]) + f"touch {mark}".encode() + b"\x85R."


def zipped(mark: Path) -> bytes:
    """A pickle in a zip, as PyTorch writes them, whose checksum is wrong."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", called("os", "system", "touch MARK")(mark))
    content = bytearray(made.getvalue())
    place = content.rfind(b"PK\x01\x02") + 16
    content[place] ^= 0xFF
    return bytes(content)


PYTHON = "import pathlib; pathlib.Path('MARK').touch()"
STANDINS: dict[str, Callable[[Path], bytes]] = {
    "os": called("os", "system", "touch MARK"),
    "subprocess": called("subprocess", "getoutput", "touch MARK"),
    "its old name": called("commands", "getoutput", "touch MARK"),
    "eval": called("builtins", "eval", "open('MARK', 'w')"),
    "a renamed file": stacked("posix", "system"),
    "a zip with a wrong checksum": zipped,
    "a broken tail": lambda mark: called("os", "system", "touch MARK")(mark)[:-1] + b"\xff\xff",
    "something behind the end": lambda mark: pickle.dumps([1]) + called("os", "system", "touch MARK")(mark),
    "pip": called("pip._internal.cli.main", "main", "MARK"),
    "timeit": called("timeit", "timeit", PYTHON),
    "cProfile": called("cProfile", "run", PYTHON),
    "idlelib": called("idlelib.pyshell", "ModifiedInterpreter.runcommand", PYTHON),
    "numpy runstring": called("numpy.testing._private.utils", "runstring", PYTHON, "{}"),
    "importlib": called("importlib", "import_module", "antigravity"),
    "runpy": called("runpy", "run_path", "MARK"),
    "an attribute's attribute": called("sklearn.linear_model", "LogisticRegression.fit.__globals__", "MARK"),
    "torch's own loader": called("torch.storage", "_load_from_bytes", "MARK"),
}


@pytest.mark.parametrize("name", STANDINS)
def test_a_stand_in_is_refused_before_it_runs(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    content = STANDINS[name](mark)
    try:
        listed = sorted(pickles.globals_of(content))
    except Denied:
        listed = []
    (tmp_path / "model.pkl").write_bytes(content)
    (tmp_path / "names.json").write_text(json.dumps(listed), encoding="utf-8")
    with pytest.raises(Denied):
        pickles.loads(content, is_listed)
    with pytest.raises(Denied):
        PythonFlavor().load(tmp_path)  # though the file beside it lists whatever it names
    assert not mark.exists()


def test_a_stand_in_would_run_if_nobody_looked(tmp_path: Path) -> None:
    for name in ("os", "a renamed file", "timeit"):
        mark = tmp_path / name.replace(" ", "-")
        pickle.loads(STANDINS[name](mark))
        assert mark.exists(), name


def clean() -> dict[str, tuple[bytes, Any]]:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), np.arange(50) % 2
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    weights = OrderedDict(coef=rng.normal(size=(4, 2)).astype("float32"), bias=np.zeros(2))
    return {
        "a pipeline": (pickle.dumps(model), model.predict_proba(x)),
        "a pipeline by cloudpickle": (cloudpickle.dumps(model), model.predict_proba(x)),
        "arrays by name": (pickle.dumps(weights), weights),
        "plain values": (pickle.dumps({"threshold": 0.5, "labels": ["no", "yes"], "seen": {1, 2}}), None),
    }


@pytest.mark.parametrize("name", ["a pipeline", "a pipeline by cloudpickle", "arrays by name", "plain values"])
def test_a_clean_file_is_taken(name: str) -> None:
    content, expected = clean()[name]
    found = pickles.loads(content, is_listed)
    if name.startswith("a pipeline"):
        assert np.array_equal(found.predict_proba(np.random.default_rng(0).normal(size=(50, 3))), expected)
    elif expected is not None:
        assert all(np.array_equal(found[key], expected[key]) for key in expected)
    else:
        assert found == pickle.loads(content)


def test_raw_arrays_of_joblib_lie_beside_the_pickle_and_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "arrays.joblib"
    joblib.dump({"weights": np.arange(1000.0)}, path)
    with pytest.raises(Denied):
        pickles.loads(path.read_bytes(), is_listed)
