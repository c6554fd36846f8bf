"""What every executor must do: the published conformance class of the seam, and what those with processes add.

    class TestMine(ExecutorConformance):
        @pytest.fixture
        def executor(self): return MyExecutor(...)

Needs pytest.
"""

from __future__ import annotations

import hashlib
import os
import random
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from noria.core.errors import StepFailed, StepKilled
from noria.pipeline.ambient import Ambient
from noria.pipeline.attempt import journal
from noria.pipeline.bindings import Stored
from noria.pipeline.define import load_pipeline
from noria.pipeline.executor import Done, Executor, Task
from noria.pipeline.outputs import values
from noria.pipeline.sources import project_on_path
from noria.store.workspace import Workspace
from noria.testing.processes import is_running
from noria.testing.workspace import open_memory

__all__ = ["ExecutorConformance", "IsolatedExecutorConformance"]

LIMIT_S = 60.0


class ExecutorConformance:
    """What every executor must do; give a fixture `executor`.

    The project of a test lies in `tmp_path`: an executor elsewhere needs a way to read it.
    """

    @pytest.fixture
    def executor(self) -> Executor:
        """An executor; each test closes the one that it was given."""
        raise NotImplementedError("give a fixture `executor`")

    @pytest.fixture(autouse=True)
    def _closed(self, executor: Executor) -> Iterator[None]:
        yield
        executor.close()
        executor.close()

    @pytest.fixture
    def ws(self, tmp_path: Path) -> Iterator[Workspace]:
        """The workspace of an empty project."""
        (tmp_path / "noria.toml").write_text('[project]\nname = "test"\n', encoding="utf-8")
        made = open_memory(root=tmp_path)
        yield made
        made.ledger.database.close()

    def test_outputs_are_stored_in_order_before_they_are_told(self, executor: Executor, ws: Workspace) -> None:
        """Each output is an object that reads back as what the function returned."""
        done = _done(executor, _task(ws, "def work(x: int = 3) -> tuple[int, list[str]]:\n    return x * 2, ['02139']"))
        assert done.error is None, done.error
        assert [values.load(ws, value) for value in done.outputs] == [6, ["02139"]]
        assert not done.is_killed
        assert done.usage.seconds >= 0.0
        assert done.usage.cpu_seconds >= 0.0
        assert done.usage.memory_peak_bytes > 0

    def test_arguments_of_every_sort_arrive_as_they_are(self, executor: Executor, ws: Workspace) -> None:
        """Plain values, stored ones, and what only the pipeline itself can say."""
        body = """
        def work(table, plain: tuple[int, str] = (1, "02139"), kind: type = dict) -> str:
            return f"{table.column_names} {table['zip'].to_pylist()} {plain!r} {kind.__name__}"
        """
        table = values.pa.table({"zip": ["02139", None]})
        task = _task(ws, body, call="work(table=made())", before="@nr.step\ndef made():\n    pass")
        value = values.store(ws.objects, table)
        stored = Stored(value.digest, value.type, value.size_bytes)
        done = _done(executor, replace(task, bindings={**task.bindings, "table": stored}))
        assert done.error is None, done.error
        assert values.load(ws, done.outputs[0]) == "['zip'] ['02139', None] (1, '02139') dict"

    def test_a_task_begun_again_gives_the_same_objects(self, executor: Executor, ws: Workspace) -> None:
        """The digests of a deterministic step are equal at every run, and the log is that of the last."""
        task = _task(ws, "def work() -> int:\n    print('once')\n    return nr.seed()", seed=77)
        first, second = _done(executor, task), _done(executor, task)
        assert first.outputs == second.outputs
        assert values.load(ws, first.outputs[0]) == 77
        assert task.log.read_text(encoding="utf-8") == "once\n"

    def test_a_seed_of_the_import_gives_each_call_draws_of_its_own(self, executor: Executor, ws: Workspace) -> None:
        """Whatever ran before it in the same process: the same on every executor."""
        body = """
        import random
        random.seed(3)

        def work() -> float:
            return random.random()
        """
        task = _task(ws, body)
        found = []
        for start in ("a", "b", "a"):
            done = _done(executor, replace(task, ambient=Ambient(0, start=start)))
            assert done.error is None, done.error
            found.append(values.load(ws, done.outputs[0]))
        left = hashlib.sha256(repr(random.Random(3).getstate()).encode()).hexdigest()
        mixed = [hashlib.sha256(f"{left}/{start}".encode()).digest() for start in "aba"]
        assert found == [random.Random(each).random() for each in mixed]

    def test_what_is_printed_is_in_the_log(self, executor: Executor, ws: Workspace) -> None:
        """Both streams, also of a step that fails after it."""
        body = """
        import sys

        def work() -> int:
            print("out é")
            print("err", file=sys.stderr)
            raise ValueError("no such plan")
        """
        task = _task(ws, body)
        assert _done(executor, task).error is not None
        text = task.log.read_text(encoding="utf-8")
        assert "out é\n" in text
        assert "err\n" in text

    def test_what_one_step_does_to_the_streams_is_not_the_next_ones(self, executor: Executor, ws: Workspace) -> None:
        """Closed descriptors, closed and replaced streams: the next step prints as ever, also what is no UTF-8."""
        for end in ("os.close(1)", "os.close(2)", "os.closerange(1, 3)", "sys.stdout = None", "sys.stderr.close()"):
            body = f"""
            import os, sys
            from pathlib import Path

            def work() -> int:
                mark = Path(__file__).with_name("ended")
                if mark.exists():
                    mark.unlink()
                    print("out", chr(0xdcff))
                else:
                    mark.touch()
                    {end}
                return 1
            """
            task = _task(ws, body)
            for printed in (b"", b"out \\udcff\n"):
                assert _done(executor, task).error is None, end
                assert task.log.read_bytes() == printed, end

    def test_a_failure_names_the_error_and_the_line_and_its_trace_is_in_the_log(
        self, executor: Executor, ws: Workspace
    ) -> None:
        """The error of the project's own code is a result, not an exception."""
        task = _task(ws, "def inner():\n    raise ValueError('no such plan')\n\ndef work() -> int:\n    return inner()")
        done = _done(executor, task)
        assert isinstance(done.error, StepFailed)
        assert not done.is_killed
        assert done.outputs == ()
        assert done.error.message == "step work raised ValueError: no such plan"
        assert "pipeline.py:" in done.error.where
        assert "in inner" in done.error.where
        text = task.log.read_text(encoding="utf-8")
        assert "Traceback (most recent call last)" in text
        assert "ValueError: no such plan" in text

    @pytest.mark.parametrize(
        ("ending", "said"),
        [
            ("SystemExit(3)", "SystemExit: 3"),
            ("KeyError('x')", "KeyError: 'x'"),
            ("RecursionError()", "RecursionError"),
            ("MemoryError()", "ran out of memory"),
            ("BaseException('base')", "BaseException: base"),
            ("GeneratorExit()", "GeneratorExit"),
            ("OSError('no ' + chr(0xdcff))", "OSError: no \\xff"),
            ("Mute()", "Mute: (its text cannot be made: RuntimeError)"),
        ],
    )
    def test_no_exception_of_a_step_passes(self, executor: Executor, ws: Workspace, ending: str, said: str) -> None:
        """Whatever a step raises is its failure, by name, and the executor takes the next task."""
        body = f"""
        class Mute(Exception):
            def __str__(self):
                raise RuntimeError("no")

        def work() -> int:
            raise {ending}
        """
        done = _done(executor, _task(ws, body))
        assert isinstance(done.error, StepFailed | StepKilled)
        assert done.error.message.endswith(said)
        assert done.error.hint
        assert f"raise {ending}" in done.error.where
        assert _done(executor, _task(ws, "def work() -> int:\n    return 1")).error is None

    @pytest.mark.parametrize(
        ("signature", "result"),
        [("-> int", "'text'"), ("-> int", "None"), ("-> tuple[int, int]", "(1, 2, 3)"), ("", "lambda: 1")],
    )
    def test_a_result_that_is_not_what_was_announced_is_a_failure(
        self, executor: Executor, ws: Workspace, signature: str, result: str
    ) -> None:
        """A wrong type, a wrong number of values, or what cannot be stored: named, with no outputs."""
        done = _done(executor, _task(ws, f"def work() {signature}:\n    return {result}"))
        assert isinstance(done.error, StepFailed)
        assert "work" in done.error.message
        assert done.outputs == ()

    def test_a_failed_task_can_be_tried_again(self, executor: Executor, ws: Workspace) -> None:
        """Nothing of the first try stands in the way of the second."""
        body = """
        from pathlib import Path

        def work() -> int:
            print(Path("there").exists())
            return int(Path(__file__).with_name("there").read_text())
        """
        task = _task(ws, body)
        assert isinstance(_done(executor, task).error, StepFailed)
        (ws.project.root / "there").write_text("5", encoding="utf-8")
        again = _done(executor, task)
        assert again.error is None, again.error
        assert values.load(ws, again.outputs[0]) == 5

    def test_a_later_attempt_continues_the_log_of_the_one_before(self, executor: Executor, ws: Workspace) -> None:
        """What the first attempt printed is still there."""
        task = _task(ws, "def work() -> int:\n    print('trying')\n    return 1")
        assert _done(executor, task).error is None
        assert _done(executor, replace(task, attempt=2)).error is None
        assert task.log.read_text(encoding="utf-8") == "trying\ntrying\n"

    def test_the_result_is_in_the_journal_before_it_is_told(self, executor: Executor, ws: Workspace) -> None:
        """A driver that dies on the way finds what its attempts have given, and of which call."""
        place = ws.project.state / "journal.jsonl"
        task = replace(_task(ws, "def work() -> int:\n    return 5"), journal=place, call="sha256:" + "0" * 64)
        done = _done(executor, task)
        call, written = journal.left_by(place).results["work"]
        assert call == task.call
        assert written.outputs == done.outputs
        assert written.trace == done.trace

    def test_peak_memory_is_that_of_the_attempt(self, executor: Executor, ws: Workspace) -> None:
        """A small step after a large one is small: the peak of a process that stays is not told again."""
        large = _done(executor, _task(ws, "def work() -> int:\n    return len(b'x' * (300 << 20))"))
        small = _done(executor, _task(ws, "def work() -> int:\n    return 1"))
        assert large.usage.memory_peak_bytes > 300 << 20
        assert small.usage.memory_peak_bytes < large.usage.memory_peak_bytes - (200 << 20)

    def test_who_waits_is_woken(self, executor: Executor, ws: Workspace) -> None:
        """`wake` is called when a task is over, and then there is a result."""
        woken = threading.Event()
        task = replace(_task(ws, "def work() -> int:\n    return 1"), wake=woken.set)
        with project_on_path(ws.project.root):
            handle = executor.submit(task)
            assert woken.wait(LIMIT_S)
            assert executor.poll(handle, 0.0) is not None

    def test_it_says_what_it_has(self, executor: Executor, ws: Workspace) -> None:
        """At least one task at a time, and some processor to run it."""
        has = executor.capacity()
        assert has.slots >= 1
        assert has.cpu > 0
        assert has.gpu >= 0

    def test_a_task_that_is_over_may_be_cancelled_and_that_changes_nothing(
        self, executor: Executor, ws: Workspace
    ) -> None:
        """cancel is idempotent; what was stored stays."""
        task = _task(ws, "def work() -> int:\n    return 1")
        handle = executor.submit(task)
        done = _polled(executor, handle)
        executor.cancel(handle)
        executor.cancel(handle)
        assert values.load(ws, done.outputs[0]) == 1


class IsolatedExecutorConformance(ExecutorConformance):
    """What an executor must do besides if it runs steps in processes of their own on this machine."""

    def test_a_running_task_gives_nothing_yet_and_its_log_can_be_read(self, executor: Executor, ws: Workspace) -> None:
        """poll waits no longer than it is told; the log is live."""
        handle = executor.submit(task := _task(ws, SLEEPER))
        try:
            _until(lambda: "sleeping" in task.log.read_text(encoding="utf-8"))
            began = time.monotonic()
            assert executor.poll(handle, 0.05) is None
            assert time.monotonic() - began < 5.0
        finally:
            executor.cancel(handle)

    def test_cancel_ends_a_task_with_all_that_it_started(self, executor: Executor, ws: Workspace) -> None:
        """The process of the step and its children are gone; the task ends as killed, without outputs."""
        handle = executor.submit(task := _task(ws, SLEEPER))
        _until(lambda: "sleeping" in task.log.read_text(encoding="utf-8"))
        pids = [int(text) for text in task.log.read_text(encoding="utf-8").split() if text.isdigit()]
        executor.cancel(handle)
        executor.cancel(handle)
        done = _polled(executor, handle)
        assert done.is_killed
        assert isinstance(done.error, StepKilled)
        assert done.outputs == ()
        assert len(pids) == 2
        _until(lambda: not any(map(is_running, pids)))

    def test_a_process_that_a_task_has_to_itself_goes_when_the_task_is_over(
        self, executor: Executor, ws: Workspace
    ) -> None:
        """Nothing of it stays while the executor is open: neither memory nor a device is held by it."""
        body = "import os\n\ndef work() -> int:\n    return os.getpid()"
        done = _done(executor, _task(ws, body, options="isolated=True"))
        assert done.error is None, done.error
        pid = values.load(ws, done.outputs[0])
        assert pid != os.getpid()
        _until(lambda: not is_running(pid))

    def test_tasks_run_beside_each_other(self, executor: Executor, ws: Workspace) -> None:
        """The second is over while the first still runs; a cancelled one takes no other with it."""
        slow = executor.submit(task := _task(ws, SLEEPER))
        try:
            _until(lambda: "sleeping" in task.log.read_text(encoding="utf-8"))
            assert _done(executor, _task(ws, "def work() -> int:\n    return 1")).error is None
            assert executor.poll(slow, 0.0) is None
        finally:
            executor.cancel(slow)

    @pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM"])
    def test_a_step_that_is_killed_is_told_and_can_be_tried_again(
        self, executor: Executor, ws: Workspace, name: str
    ) -> None:
        """The signal is named; the caller lives; a second try of the same task succeeds."""
        body = f"""
        import os, signal
        from pathlib import Path

        def work() -> int:
            mark = Path(__file__).with_name("mark")
            if not mark.exists():
                mark.touch()
                print("dying", flush=True)
                os.kill(os.getpid(), signal.{name})
            return 8
        """
        task = _task(ws, body)
        done = _done(executor, task)
        assert done.is_killed
        assert isinstance(done.error, StepKilled)
        assert name in done.error.message
        assert "dying" in task.log.read_text(encoding="utf-8")
        again = _done(executor, task)
        assert again.error is None, again.error
        assert values.load(ws, again.outputs[0]) == 8

    def test_a_step_that_is_asked_to_leave_is_told_as_preempted(self, executor: Executor, ws: Workspace) -> None:
        """SIGTERM is no failure; SIGKILL is one."""
        body = "import os, signal\n\ndef work() -> int:\n    os.kill(os.getpid(), signal.{})\n    return 1"
        asked = _done(executor, _task(ws, body.format("SIGTERM")))
        killed = _done(executor, _task(ws, body.format("SIGKILL")))
        assert (asked.is_preempted, asked.is_killed) == (True, True)
        assert (killed.is_preempted, killed.is_killed) == (False, True)

    def test_a_task_is_ended_with_a_grace(self, executor: Executor, ws: Workspace) -> None:
        """cancel with a grace asks first; what does not leave is ended."""
        body = SLEEPER.replace("def work", "import signal\n\ndef work").replace(
            "    child =", "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    child ="
        )
        handle = executor.submit(task := _task(ws, body))
        _until(lambda: "sleeping" in task.log.read_text(encoding="utf-8"))
        executor.cancel(handle, grace_s=0.3)
        assert _polled(executor, handle).is_killed

    def test_a_step_past_its_time_is_stopped(self, executor: Executor, ws: Workspace) -> None:
        """`timeout=` is kept, and named."""
        done = _done(executor, _task(ws, "def work() -> int:\n    while True: pass", options='timeout="3s"'))
        assert done.is_killed
        assert isinstance(done.error, StepKilled)
        assert "limit of 3 s" in done.error.message

    def test_a_step_beyond_its_memory_is_stopped(self, executor: Executor, ws: Workspace) -> None:
        """`memory=` is kept, and named; the caller's own memory is not touched."""
        body = "def work() -> int:\n    return len(bytearray(2**31))"
        done = _done(executor, _task(ws, body, options='memory="300MiB"'))
        assert done.is_killed
        assert isinstance(done.error, StepKilled)
        assert "300 MiB" in done.error.message

    def test_what_nobody_seeded_is_another_in_each_process(self, executor: Executor, ws: Workspace) -> None:
        """Forks of one process do not share its generators."""
        body = f"""
        import os, pathlib, time
        import numpy.random

        def work() -> float:
            drawn = float(numpy.random.rand())
            folder = pathlib.Path({str(ws.project.root)!r})
            (folder / f"drawn.{{os.getpid()}}").touch()
            give_up = time.monotonic() + 10.0  # the other one may have to wait until this one is over
            while len(list(folder.glob("drawn.*"))) < 2 and time.monotonic() < give_up:
                time.sleep(0.01)
            return drawn
        """
        task = _task(ws, body)
        names = [f"work{number}" for number in range(2)]
        handles = [executor.submit(replace(task, name=name, log=task.log.with_name(f"{name}.log"))) for name in names]
        done = [_polled(executor, handle) for handle in handles]
        assert [each.error for each in done] == [None, None]
        assert len({values.load(ws, each.outputs[0]) for each in done}) == 2

    def test_a_step_does_not_outlive_the_process_that_asked_for_it(self, executor: Executor, ws: Workspace) -> None:
        """kill -9 of the caller ends the step: nobody would take its result, and the next run begins it again."""
        log = _task(ws, SLEEPER).log
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: the child only submits
            caller = os.fork()
        if caller == 0:
            try:
                held = executor.submit(_task(ws, SLEEPER))
                os.write(writing, b"s" if held is not None else b"")
                time.sleep(LIMIT_S)
            finally:
                os._exit(1)
        os.read(reading, 1)
        os.close(reading)
        os.close(writing)
        _until(lambda: "sleeping" in log.read_text(encoding="utf-8"))
        pids = [int(text) for text in log.read_text(encoding="utf-8").split() if text.isdigit()]
        assert all(map(is_running, pids))
        os.kill(caller, 9)
        os.waitpid(caller, 0)
        _until(lambda: not any(map(is_running, pids)))


SLEEPER = """
import os, subprocess, sys

def work() -> int:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(os.getpid(), child.pid, "sleeping", flush=True)
    return child.wait()
"""


def _task(
    ws: Workspace, body: str, *, call: str = "work()", before: str = "", options: str = "", seed: int = 0
) -> Task:
    """The task of the step `work` of a pipeline that holds `body`, with its defaults as arguments."""
    body = textwrap.dedent(body).replace("def work(", f"@nr.step({options})\ndef work(")
    text = f"import noria as nr\n{before}\n{body}\n\n@nr.pipeline\ndef flow():\n    {call}\n"
    (ws.project.root / "pipeline.py").write_text(text, encoding="utf-8")
    definition = load_pipeline(ws.project)
    node = definition.node("work")
    number = len(list((ws.project.state / "runs").glob("*")))
    return Task(
        ws=ws,
        definition=definition,
        node=node,
        bindings=node.bindings,
        pins={},
        ambient=Ambient(seed),
        log=ws.project.state / "runs" / f"run{number}" / "work.log",
        name="work",
    )


def _done(executor: Executor, task: Task) -> Done:
    with project_on_path(task.definition.root):
        return _polled(executor, executor.submit(task))


def _polled(executor: Executor, handle: Any) -> Done:
    give_up = time.monotonic() + LIMIT_S
    while time.monotonic() < give_up:
        done = executor.poll(handle, 0.2)
        if done is not None:
            return done
    raise AssertionError(f"the task did not end within {LIMIT_S:.0f} s")


def _until(is_true: Any) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not is_true():
        assert time.monotonic() < give_up, f"it did not come true within {LIMIT_S:.0f} s"
        time.sleep(0.02)
