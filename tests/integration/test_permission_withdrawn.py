"""What lets a model's code run is read anew: taken back it ends the model's answers, given it starts them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.integration.serving_project import MODEL, TOML, make_project, make_release

from noria.core.errors import ConfigError, Denied
from noria.packaging import bundle as bundles
from noria.serving.deployment import deploy
from noria.serving.follow import Follower
from noria.serving.routes import ModelUnavailable
from noria.serving.runtime import Runtime

ALLOWED = f"[model.{MODEL}]\nallow_pickle = true\n"
LIMIT_S = 60.0


class Half:
    """A model of the project's own, which only a pickle holds."""

    classes_ = np.array([0, 1])

    def predict(self, frame: pd.DataFrame) -> Any:
        return np.ones(len(frame))

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        return np.full((len(frame), 2), 0.5)


def until(follower: Follower, holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < limit
        follower.step()


def test_a_server_that_runs_heeds_a_permission_that_is_taken_back_and_given_again(tmp_path: Path) -> None:
    ws = make_project(tmp_path / "p", ALLOWED)
    found = make_release(ws, model=Half())
    deploy(ws, MODEL)
    rules = ws.project.root / "noria.toml"
    runtime = Runtime(ws.project.state, now_us=lambda: 0)
    follower = Follower(ws, runtime)
    follower.step()
    process = runtime.routes.of(MODEL).served[found.release].model.model._running[0]  # type: ignore[attr-defined]

    rules.write_text(TOML, encoding="utf-8")
    reason = "nothing allows that"
    with pytest.raises(Denied, match=reason):
        bundles.load(ws, found.bundle)
    until(follower, lambda: MODEL not in runtime.routes.by_model)
    with pytest.raises(ModelUnavailable, match=reason):
        runtime.routes.of(MODEL)
    assert process.poll() is not None

    rules.write_text(TOML + ALLOWED, encoding="utf-8")
    until(follower, lambda: MODEL in runtime.routes.by_model)

    rules.write_text("[model", encoding="utf-8")  # as while an editor writes it
    assert follower._loader.denied() == {}
    assert follower.step() is False
    with pytest.raises(ConfigError, match="not valid TOML"):
        bundles.load(ws, found.bundle)
    follower.stop()


def test_a_server_without_the_library_of_a_model_names_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = make_project(tmp_path / "p")
    make_release(ws)
    deploy(ws, MODEL)
    runtime = Runtime(ws.project.state, now_us=lambda: 0)
    follower = Follower(ws, runtime)
    # As where skops is not installed: importing it fails.
    for name in [each for each in sys.modules if each.partition(".")[0] == "skops"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "skops", None)
    follower.step()
    follower.stop()
    with pytest.raises(ModelUnavailable, match=r"skops.*pip install 'noria\[sklearn\]'"):
        runtime.routes.of(MODEL)
