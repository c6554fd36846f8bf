"""Every library's models: kept in a safe format, answered in a fresh process as by the library, never altered.

The libraries stand in environments of their own, in which Noria's source runs too.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("flavors_script.py")
pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(600)]
NO_TORCH = pytest.mark.skipif(
    not (ROOT / ".venv-peers/torch/bin/python").exists()
    and not os.environ.get("UV_FIND_LINKS")
    and not os.environ.get("PIP_FIND_LINKS"),
    reason="PyTorch for CPUs is on no index: UV_FIND_LINKS=LIST make peers, with PyTorch's own list of wheels",
)
# kind: (flavor, the file that holds the model, task)
KINDS = {
    "xgboost classifier": ("xgboost", "model.ubj", "binary"),
    "xgboost regressor": ("xgboost", "model.ubj", "regression"),
    "xgboost stopped early": ("xgboost", "model.ubj", "binary"),
    "xgboost booster missing": ("xgboost", "model.ubj", "binary"),
    "lightgbm classifier missing": ("lightgbm", "model.txt", "binary"),
    "lightgbm regressor": ("lightgbm", "model.txt", "regression"),
    "lightgbm booster": ("lightgbm", "model.txt", "binary"),
    "sklearn with xgboost": ("sklearn", "model.skops", "binary"),
    "onnx columns": ("onnx", "model.onnx", "binary"),
    "onnx file": ("onnx", "model.onnx", "binary"),
    "onnx matrix": ("onnx", "model.onnx", "regression"),
    "torch classifier": ("torch", "weights.safetensors", "binary"),
    "torch double": ("torch", "weights.safetensors", "binary"),
    "torch regression": ("torch", "weights.safetensors", "regression"),
}


DAMAGED = ("xgboost classifier", "lightgbm booster", "sklearn with xgboost", "onnx columns", "torch classifier")


def run(folder: Path, act: str, told: dict[str, Any], environment: str) -> Any:
    """What the script says, in an environment."""
    python = ROOT / f".venv-peers/{environment}/bin/python"
    assert python.exists(), f"make peers installs .venv-peers/{environment}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")}
    done = subprocess.run(
        [str(python), str(SCRIPT), act],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT / "src")},
        input=json.dumps(told),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


class Case:
    """The models of the libraries of one environment, each process once for all of them."""

    def __init__(self, folder: Path, environment: str) -> None:
        self.folder, self.environment = folder, environment
        kinds = [*KINDS, "torch own"]
        self.kinds = [kind for kind in kinds if kind.startswith("torch") == (environment == "torch")]

    @cached_property
    def built(self) -> Any:
        return run(self.folder, "build", {kind: {} for kind in self.kinds}, self.environment)

    @cached_property
    def loaded(self) -> Any:
        told = {kind: self.built[kind] for kind in self.kinds if "digest" in self.built[kind]}
        return run(self.folder, "load", told, self.environment)

    @cached_property
    def damaged(self) -> Any:
        _ = self.loaded  # what is altered is altered after that
        told = {kind: self.built[kind] for kind in self.kinds if kind in DAMAGED}
        return run(self.folder, "damage", told, self.environment)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """The environment that has the library of a kind."""

    @functools.cache
    def of(environment: str) -> Case:
        return Case(tmp_path_factory.mktemp(environment), environment)

    return lambda kind: of("torch" if kind.startswith("torch") else "flavors")


def marked(kinds: Iterable[str]) -> list[Any]:
    return [pytest.param(kind, marks=NO_TORCH if kind.startswith("torch") else ()) for kind in kinds]


@pytest.mark.parametrize("kind", marked(KINDS))
def test_a_fresh_process_answers_bit_for_bit_as_the_live_model(kind: str, case: Callable[[str], Case]) -> None:
    told = case(kind).built[kind]
    flavor, file, task = KINDS[kind]
    assert (told.get("flavor"), told.get("task")) == (flavor, task), told
    assert file in told["files"]
    assert not any(name.endswith((".pkl", ".joblib", ".pt")) for name in told["files"])
    assert told["requires"]["python"]
    found = case(kind).loaded[kind]
    assert found["differences"] == []
    assert found["frame"] == told["answers"]
    assert found["rows"] == told["answers"]


@pytest.mark.parametrize("kind", marked(DAMAGED))
def test_one_other_byte_in_any_file_of_a_bundle_is_refused(kind: str, case: Callable[[str], Case]) -> None:
    found = case(kind).damaged[kind]
    assert {*case(kind).built[kind]["files"], "(manifest)"} == {*found}
    assert set(found.values()) == {"corrupt"}


@NO_TORCH
def test_a_network_with_code_of_its_own_is_not_kept_without_permission(case: Callable[[str], Case]) -> None:
    told = case("torch own").built["torch own"]
    assert told["error"] == "denied"
    assert "Own, which cannot be rebuilt without its code" in told["message"]
    assert "[model.kept] allow_pickle = true" in told["hint"]


@NO_TORCH
def test_a_library_that_is_not_here_is_named_with_its_extra(case: Callable[[str], Case]) -> None:
    kind = "xgboost classifier"
    mine = case(kind)
    found = run(mine.folder, "load", {kind: mine.built[kind]}, "torch")[kind]
    assert found["error"] == "usage"
    assert "needs XGBoost, which is not installed here" in found["message"]
    assert found["hint"] == "pip install 'noria[xgboost]'"
