"""An attempt that follows one that was cut off looks first whether that one has come to its end after all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from noria.core.errors import StepFailed
from noria.pipeline.ambient import Ambient
from noria.pipeline.attempt import call, journal
from noria.pipeline.define import load_pipeline
from noria.pipeline.executor import Done, Task
from noria.pipeline.outputs import values
from noria.store.held import HeldObjects
from noria.testing.workspace import open_memory

PIPELINE = """
import noria as nr

@nr.step
def work(place: str) -> str:
    from pathlib import Path
    Path(place).touch()
    return "anew"

@nr.pipeline
def flow():
    work("PLACE")
"""


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """A file that is there once the step has run."""
    return tmp_path / "ran"


@pytest.fixture
def task(tmp_path: Path, ran: Path) -> Task:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "noria.toml").write_text('[project]\nname = "test"\n')
    (folder / "pipeline.py").write_text(PIPELINE.replace("PLACE", str(ran)))
    ws = open_memory(root=folder)
    definition = load_pipeline(ws.project)
    node = definition.node("work")
    state = ws.project.state
    return Task(
        ws=ws, definition=definition, node=node, bindings=node.bindings, pins={}, ambient=Ambient(0),
        log=state / "log", name="work", key="sha256:" + "1" * 64, call="sha256:" + "2" * 64, attempt=2,
        is_doubtful=True, journal=state / "journal.jsonl",
    )  # fmt: skip


def ended(task: Task, **changed: object) -> Done:
    """Let an attempt before this one have ended: what it gave."""
    done = Done(outputs=(values.store(task.ws.objects, "before"),), where="process 1")
    assert task.journal is not None
    journal.ended(task.journal, replace(task, attempt=1, **changed), done)  # type: ignore[arg-type]  # fields of Task
    return done


def test_what_was_ended_is_taken_and_not_made_again(task: Task, ran: Path) -> None:
    before = ended(task)
    assert call.run(task) == before
    assert not ran.exists()


def test_without_a_doubt_nobody_looks(task: Task, ran: Path) -> None:
    ended(task)
    assert values.load(task.ws, call.run(replace(task, is_doubtful=False)).outputs[0]) == "anew"
    assert ran.exists()


@pytest.mark.parametrize("changed", [{"name": "other"}, {"call": "sha256:" + "3" * 64}])
def test_the_end_of_another_call_is_no_end(task: Task, ran: Path, changed: dict[str, str]) -> None:
    ended(task, **changed)
    assert values.load(task.ws, call.run(task).outputs[0]) == "anew"
    assert ran.exists()


def test_a_failure_and_a_result_that_is_gone_are_no_end(task: Task, ran: Path) -> None:
    assert task.journal is not None
    journal.ended(task.journal, replace(task, attempt=1), Done(error=StepFailed("no such plan")))
    gone = ended(task).outputs[0]
    path = task.ws.objects.path(gone.digest)
    path.chmod(0o600)
    path.unlink()
    assert values.load(task.ws, call.run(task).outputs[0]) == "anew"
    assert ran.exists()


def test_what_was_ended_and_is_in_the_journal_alone_is_stored_and_taken(task: Task, ran: Path) -> None:
    """The attempt before this one was of a process that died before it stored the small things that it had made."""
    face = HeldObjects(task.ws.objects)
    stored = values.store(face, "before", is_soon=True)
    assert task.journal is not None
    before = Done(outputs=(stored,), where="process 1", held=face.held([stored.digest]))
    journal.ended(task.journal, replace(task, attempt=1), before)
    assert not task.ws.objects.has(stored.digest)
    assert call.run(task) == before
    assert not ran.exists()
    assert values.read(task.ws.objects, stored, task.definition.root) == "before"


def test_bytes_that_were_altered_in_the_journal_are_no_end(task: Task, ran: Path) -> None:
    stored = values.store(HeldObjects(task.ws.objects), "before", is_soon=True)
    assert task.journal is not None
    before = Done(outputs=(stored,), where="process 1", held={stored.digest: b'"beford"'})
    journal.ended(task.journal, replace(task, attempt=1), before)
    assert values.load(task.ws, call.run(task).outputs[0]) == "anew"
    assert ran.exists()
