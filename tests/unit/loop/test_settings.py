"""A policy that could not be carried out is refused when the project is opened, with its place and a hint."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.config import parse_project
from noria.core.errors import ConfigError
from noria.loop import settings
from noria.monitoring.performance import BY_TASK

HEAD = '[project]\nname = "m"\n'


@pytest.mark.parametrize(
    ("table", "line", "said", "hint"),
    [
        ("monitor", 'window = "fortnight"', "window: ", '"14d"'),
        ("monitor", 'window = "0d"', "window: ", '"14d"'),
        ("monitor", 'false_alarms = "few"', "false_alarms: ", "1 per 365d"),
        ("monitor", 'false_alarms = "0 per 365d"', "false_alarms: ", "1 per 365d"),
        ("retrain", 'when = ["drift", "wekly"]', "'wekly'", "new labels 20000"),
        ("retrain", 'when = ["age old"]', "'age old'", ""),
        ("retrain", 'when = ["acu < 0.7"]', "'acu'", "did you mean 'auc'?"),
        ("deploy", 'path = ["canary 5%"]', "canary 5%", ""),
    ],
)
def test_opening_a_project_names_the_wrong_policy(table: str, line: str, said: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "noria.toml").write_text(f"{HEAD}[model.m.{table}]\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as found:
        open_workspace(tmp_path)
    assert said in found.value.message
    assert found.value.where.endswith(f"noria.toml [model.m.{table}]")
    assert hint in found.value.hint
    assert not (tmp_path / ".noria").exists(), "nothing was made for a project that cannot be opened"


def test_every_documented_form_is_accepted(tmp_path: Path) -> None:
    for window in ("day", "week", "month", "14d", "12h"):
        model = {"monitor": {"window": window, "false_alarms": "2 per 90d"}}
        when = ["drift", "quality", "new labels 20000", "age 90d", "auc < 0.7", "skill<0.1"]
        document = {"project": {"name": "m"}, "model": {"m": {**model, "retrain": {"when": when}}}}
        settings.require(parse_project(document, root=tmp_path, environment={}))


def test_the_metrics_of_a_trigger_are_those_that_windows_are_measured_by() -> None:
    assert set(settings.WATCHED) == {name for names in BY_TASK.values() for name in names} | {"skill"}
