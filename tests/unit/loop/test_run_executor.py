"""A run has one executor: what a cluster is asked before anything begins is asked on the connection that is used."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from noria import plugins
from noria.core.errors import NoriaError, StepFailed, UsageError
from noria.engines.executors.inline import InlineExecutor
from noria.loop.run import Challenge, perform
from noria.pipeline.driving.execute import manner_of
from noria.store.workspace import Workspace
from noria.testing import open_memory

PIPELINE = """
    import noria as nr

    @nr.step(gpu=DEVICES)
    def one() -> int:
        return BODY

    @nr.pipeline
    def flow():
        one()
"""


class Counted(InlineExecutor):
    """The executor of this process, which says when it was opened and closed."""

    made: list[Counted]

    def __init__(self) -> None:
        super().__init__()
        self.closed = 0
        self.made.append(self)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Counted]:
    Counted.made = []
    load = plugins.load

    def counted(seam: str, name: str) -> Any:
        return Counted if seam == "executor" else load(seam, name)

    monkeypatch.setattr(plugins, "load", counted)
    return Counted.made


def project(folder: Path, *, body: str = "1", devices: str = "0") -> Workspace:
    text = textwrap.dedent(PIPELINE).replace("BODY", body).replace("DEVICES", devices)
    (folder / "pipeline.py").write_text(text, encoding="utf-8")
    (folder / "noria.toml").write_text('[project]\nname = "test"\n')
    return open_memory(root=folder)


def test_a_run_opens_one_executor_and_closes_it(tmp_path: Path, made: list[Counted]) -> None:
    ws = project(tmp_path)
    done = perform(ws, Challenge(cause="user"), manner=manner_of(ws, executor="inline"))
    assert [step.status for step in done.steps] == ["done"]
    (executor,) = made
    assert executor.closed


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"body": "1 // 0"}, StepFailed), ({"devices": "1"}, UsageError)],
)
def test_it_is_closed_whatever_ends_the_run(
    tmp_path: Path, made: list[Counted], options: dict[str, str], kind: type[NoriaError]
) -> None:
    ws = project(tmp_path, **options)
    with pytest.raises(kind):
        perform(ws, Challenge(cause="user"), manner=manner_of(ws, executor="inline"))
    assert made
    assert all(executor.closed for executor in made)


def test_what_is_refused_before_it_begins_opens_none(tmp_path: Path, made: list[Counted]) -> None:
    ws = project(tmp_path)
    with pytest.raises(UsageError):
        perform(ws, Challenge(cause="user"), params={"one.n": 1}, manner=manner_of(ws, executor="inline"))
    assert not made
