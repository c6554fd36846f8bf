"""An unchanged script of Keras 3 on PyTorch: captured, its model kept as `.keras` and served, its result unchanged."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from test_autolog import HEAD, ROOT, asked, folder, predicted, serving

PYTHON = ROOT / ".venv-peers/keras/bin/python"
pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(
        not os.environ.get("UV_FIND_LINKS") and not os.environ.get("PIP_FIND_LINKS"),
        reason="PyTorch for CPUs is on no index: UV_FIND_LINKS names where its wheels are",
    ),
]
__all__ = ["folder"]  # the fixture

TRAINING = (
    "import os\nos.environ['KERAS_BACKEND'] = 'torch'\n"
    + HEAD
    + """
import hashlib, keras
keras.utils.set_random_seed(7)
model = keras.Sequential([
    keras.layers.Input((2,)), keras.layers.Normalization(mean=[49, 32], variance=[320, 250]),
    keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.1), LAST])
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.02), loss="binary_crossentropy", metrics=["accuracy"])
slower = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
told = model.fit(
    X_train, y_train, epochs=4, batch_size=50, validation_data=(X_test, y_test), verbose=0, callbacks=[slower])
say(model.predict(X_test, verbose=0))
print(json.dumps(told.history))
print(json.dumps(model.evaluate(X_test, y_test, verbose=0)))
print(hashlib.sha256(b"".join(each.tobytes() for each in model.get_weights())).hexdigest())
"""
)
SIGMOID = 'keras.layers.Dense(1, activation="sigmoid")'
POINTS = """
import sys; from noria.bootstrap import open_workspace; from noria.tracking import records
import json, pyarrow.parquet as pq
ws = open_workspace()
with ws.ledger.read() as tx:
    parts = records.segments(tx, sys.argv[1])
found = {}
for part in parts:
    table = pq.read_table(ws.objects.path(part)).to_pydict()
    for name, value in zip(table["name"], table["value"]):
        found.setdefault(name, []).append(value)
print(json.dumps(found))
"""
FILES = """
import sys; from noria.bootstrap import open_workspace; from noria.packaging import bundle
from noria.registry import versions
ws = open_workspace()
found = bundle.read(ws, versions.show(ws, "kept").version.bundle)
(entry,) = [each for each in found.files.entries if each.path == "model.keras"]
open("from_bundle.keras", "wb").write(ws.objects.get_bytes(entry.digest))
print(found.flavor)
"""


def run(folder: Path, text: str) -> tuple[str, dict[str, Any]]:
    """What a script prints by itself, and the report of its run, which prints the same."""
    (folder / "train.py").write_text(text)
    plain = asked(folder, "train.py", python=PYTHON)
    assert plain.returncode == 0, plain.stderr
    done = asked(folder, "-m", "noria", "run", "train.py", "--json", python=PYTHON)
    assert done.returncode == 0, done.stdout + done.stderr
    assert plain.stdout in done.stderr, "history, evaluation and every bit of the weights are those without Noria"
    return plain.stdout, json.loads(done.stdout)


def test_a_script_of_keras_is_captured_and_its_model_is_served(folder: Path) -> None:
    assert PYTHON.exists(), "make peers installs .venv-peers"
    printed, report = run(folder, TRAINING.replace("LAST", SIGMOID) + 'model.save("kept.keras")\n')
    (rows, scores), history, evaluated = (json.loads(line) for line in printed.splitlines()[:3])
    (fit,) = report["fits"]
    assert (fit["name"], fit["rows"]) == ("Sequential", 300)
    wanted = {"optimizer": "Adam", "learning_rate": 0.02, "epochs": 4, "batch_size": 50, "loss": "binary_crossentropy"}
    assert {name: fit["params"][name] for name in wanted} == wanted, "as they were when the fit began"
    assert report["metrics"]["evaluate loss"] == pytest.approx(evaluated[0])
    assert not [note for note in report["notes"] if note.startswith("not recorded")], report["notes"]
    points = json.loads(asked(folder, "-c", POINTS, report["run"], python=PYTHON).stdout)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert points[name] == pytest.approx(history[name]), "one point an epoch"
    (model,) = report["models"]
    assert (model["model"], model["version"], model["holdout"]) == ("kept", 1, 100), model
    assert asked(folder, "-c", FILES, python=PYTHON).stdout.strip() == "keras"
    with zipfile.ZipFile(folder / "from_bundle.keras") as kept:
        assert set(kept.namelist()) == {"config.json", "metadata.json", "model.weights.h5"}
    assert asked(folder, "-m", "noria", "deploy", "kept", python=PYTHON).returncode == 0
    with serving(folder, PYTHON) as url:
        for row, score in zip(rows, scores, strict=True):
            assert predicted(url, row) == pytest.approx(score, abs=1e-6)


def test_a_model_that_only_a_variable_held_is_kept_too(folder: Path) -> None:
    assert PYTHON.exists(), "make peers installs .venv-peers"
    _, report = run(folder, TRAINING.replace("LAST", SIGMOID))
    (model,) = report["models"]
    assert (model["model"], model["version"], model["source"]) == ("model", 1, "variable model"), report


def test_a_model_that_names_code_is_refused_by_name(folder: Path) -> None:
    assert PYTHON.exists(), "make peers installs .venv-peers"
    last = f"{SIGMOID}, keras.layers.Lambda(lambda x: x)"
    _, report = run(folder, TRAINING.replace("LAST", last) + 'model.save("kept.keras")\n')
    (model,) = report["models"]
    assert model["version"] == 0
    assert "names keras.layers: Lambda, which may run code" in model["note"], model


OUTSIDE = """
import io, shutil, sys, zipfile
import h5py
from noria.core.errors import Denied
from noria.engines.flavors.keras import keras
from pathlib import Path

with zipfile.ZipFile("kept.keras") as kept:
    parts = {each: kept.read(each) for each in kept.namelist()}
Path("secret").write_bytes(bytes(64))

def linked(file):
    file["other"] = h5py.ExternalLink("secret", "/a")

def stored(file):
    file.create_dataset("other", shape=(64,), dtype="u1", external=[("secret", 0, 64)])

def viewed(file):
    layout = h5py.VirtualLayout(shape=(4,), dtype="u1")
    layout[:] = h5py.VirtualSource("secret", "a", shape=(4,))
    file.create_virtual_dataset("other", layout)

def sound(file):
    file.create_dataset("more", shape=(1,), dtype="u1")

for change in (sound, linked, stored, viewed):
    weights = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        change(file)
    with zipfile.ZipFile("changed.keras", "w") as changed:
        for name, content in (parts | {"model.weights.h5": weights.getvalue()}).items():
            changed.writestr(name, content)
    try:
        keras(Path("changed.keras"), {})
        print(change.__name__, "taken")
    except Denied as error:
        print(change.__name__, error)
"""


def test_weights_that_lie_in_other_files_are_refused(folder: Path) -> None:
    assert PYTHON.exists(), "make peers installs .venv-peers"
    (folder / "train.py").write_text(TRAINING.replace("LAST", SIGMOID) + 'model.save("kept.keras")\n')
    assert asked(folder, "train.py", python=PYTHON).returncode == 0
    told = asked(folder, "-c", OUTSIDE, python=PYTHON)
    why = "the weights of the .keras file lie in another file: other"
    assert told.stdout.splitlines() == ["sound taken", f"linked {why}", f"stored {why}", f"viewed {why}"], told.stderr
