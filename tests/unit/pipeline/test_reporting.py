"""`nr.report`: free outside a search; inside it keeps the points and ends what is not worth going on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import noria as nr
from noria.core.errors import Pruned, UsageError
from noria.pipeline.attempt.reporting import VARIABLE


def trial(path: Path, monkeypatch: pytest.MonkeyPatch, pruner: str = "", history: list[Any] | None = None) -> Path:
    path.write_text(json.dumps({"pruner": pruner, "better": "higher", "history": history or []}))
    monkeypatch.setenv(VARIABLE, str(path))
    return path.with_suffix(".reports")


def test_outside_a_search_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    nr.report(1, 0.5)
    nr.report(0, float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_points_are_kept_in_order_and_steps_must_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = trial(tmp_path / "trial.json", monkeypatch)
    nr.report(1, 0.5)
    nr.report(4, 0.75)
    with pytest.raises(UsageError, match="step 4 after 4"):
        nr.report(4, 0.8)
    assert [json.loads(line) for line in lines.read_text().splitlines()] == [[1, 0.5], [4, 0.75]]


def test_steps_count_from_one_and_no_number_ends_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = trial(tmp_path / "a.json", monkeypatch)
    with pytest.raises(UsageError, match="step 0"):
        nr.report(0, 1.0)
    with pytest.raises(Pruned, match="the value is nan"):
        nr.report(1, float("nan"))
    assert json.loads(lines.read_text()) == [1, None]


def test_a_trial_that_is_behind_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = [
        {"number": n, "params": {}, "state": "done", "value": n, "reports": [[s, n * s] for s in range(1, 10)]}
        for n in range(1, 5)
    ]
    trial(tmp_path / "b.json", monkeypatch, "asha", history)
    with pytest.raises(Pruned, match="pruned at step 1 with -5"):
        nr.report(1, -5.0)
    trial(tmp_path / "c.json", monkeypatch, "asha", history)
    for step in range(1, 10):
        nr.report(step, 50.0 * step)
