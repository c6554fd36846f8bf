"""One published class per seam: what every implementation must do, ours and third parties'.

Subclass in a test module and give what is asked for; pytest then runs every test on it:

    class TestMyStore(ObjectStoreConformance):
        @pytest.fixture
        def store(self, tmp_path): return MyStore(...)

Needs pytest.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import textwrap
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from noria.core.errors import NotFound, StepFailed, StepKilled
from noria.core.identity import Digest, digest
from noria.pipeline import values
from noria.pipeline.ambient import Ambient
from noria.pipeline.define import load_pipeline
from noria.pipeline.executor import Done, Executor, Task
from noria.pipeline.sources import project_on_path
from noria.store.objects import HasBatches, HasChunks, HasTrash, ObjectStore
from noria.store.workspace import Workspace
from noria.testing.workspace import open_memory

__all__ = ["ExecutorConformance", "IsolatedExecutorConformance", "ObjectStoreConformance"]

LIMIT_S = 60.0


class _Zeros(io.RawIOBase):
    """A stream of zero bytes that is never in memory as a whole; fails after `fails_after` bytes."""

    def __init__(self, size: int, fails_after: int = -1) -> None:
        self._left = size
        self._fuse = fails_after

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        count = min(self._left, size if size >= 0 else self._left)
        if 0 <= self._fuse < count:
            raise ConnectionResetError("the source broke")
        self._fuse -= count if self._fuse >= 0 else 0
        self._left -= count
        return bytes(count)


class ObjectStoreConformance:
    """What every object store must do; give a fixture `store` that makes an empty one.

    `large_bytes` is the size of the large object: lower it for a store that is paid by the byte.
    """

    large_bytes = 64 << 20

    @pytest.fixture
    def store(self) -> ObjectStore:
        """An empty store."""
        raise NotImplementedError("give a fixture `store` that makes an empty object store")

    @pytest.mark.parametrize("content", [b"", b"x", b"\0" * 65536, bytes(range(256)) * 1000])
    def test_bytes_come_back_under_their_sha256(self, store: ObjectStore, content: bytes) -> None:
        """put names, has knows, get gives, list lists."""
        name = store.put(io.BytesIO(content))
        assert name == digest(content)
        assert store.has(name)
        assert _read(store, name) == content
        assert list(store.list()) == [(name, len(content))]

    def test_a_put_begins_where_the_stream_stands(self, store: ObjectStore) -> None:
        """What was read before is not part of the object."""
        stream = io.BytesIO(b"head and tail")
        stream.seek(9)
        assert store.put(stream) == digest(b"tail")

    def test_a_put_is_idempotent(self, store: ObjectStore) -> None:
        """The same bytes again are the same object."""
        assert len({store.put(io.BytesIO(b"same")) for _ in range(3)}) == 1
        assert len(list(store.list())) == 1

    def test_what_is_not_there_is_not_found(self, store: ObjectStore) -> None:
        """get and delete raise NotFound; has says no."""
        name = digest(b"never stored")
        assert not store.has(name)
        with pytest.raises(NotFound):
            store.get(name)
        with pytest.raises(NotFound):
            store.delete(name)

    def test_a_deleted_object_is_gone_and_can_be_stored_again(self, store: ObjectStore) -> None:
        """delete takes away exactly one object."""
        name, other = store.put(io.BytesIO(b"one")), store.put(io.BytesIO(b"two"))
        store.delete(name)
        assert not store.has(name)
        assert [found for found, _ in store.list()] == [other]
        assert store.put(io.BytesIO(b"one")) == name
        assert _read(store, name) == b"one"

    def test_a_source_that_breaks_leaves_no_object(self, store: ObjectStore) -> None:
        """A put that fails half way is not visible, and its error is passed on."""
        with pytest.raises(Exception, match="the source broke"):
            store.put(_stream(4 << 20, fails_after=3 << 20))
        assert list(store.list()) == []

    def test_a_large_object_is_streamed(self, store: ObjectStore) -> None:
        """An object larger than a comfortable buffer."""
        hasher = hashlib.sha256()
        for _ in range(self.large_bytes >> 20):
            hasher.update(bytes(1 << 20))
        name = store.put(_stream(self.large_bytes))
        assert name == "sha256:" + hasher.hexdigest()
        assert dict(store.list()) == {name: self.large_bytes}
        with store.get(name) as stream:
            assert sum(len(block) for block in _blocks(stream)) == self.large_bytes

    def test_batches_are_as_good_as_one_at_a_time(self, store: ObjectStore) -> None:
        """put_many names in order, has_many and get_many know what put stored, and the other way round."""
        if not isinstance(store, HasBatches):
            return  # an optional part of the seam
        contents = [bytes([number % 256]) * (number * 37 % 5000) for number in range(300)]
        alone = store.put(io.BytesIO(contents[7]))
        names = store.put_many(iter(contents))
        assert names == [digest(content) for content in contents]
        assert names[7] == alone
        assert store.put_many([]) == []
        absent = digest(b"never stored")
        assert store.has_many([*names, absent]) == set(names)
        assert dict(store.get_many(names)) == dict(zip(names, contents, strict=True))
        assert list(store.get_many([])) == []
        with pytest.raises(NotFound):
            list(store.get_many([names[0], absent]))
        assert {name: _read(store, name) for name in set(names)} == dict(zip(names, contents, strict=True))
        assert dict(store.list()) == {name: len(content) for name, content in zip(names, contents, strict=True)}
        assert len(list(store.list())) == len(set(names))
        assert store.put(io.BytesIO(contents[9])) == names[9]
        assert store.put_many(contents[:20]) == names[:20]
        store.delete(names[9])
        assert not store.has(names[9])
        assert store.has_many(names) == set(names) - {names[9]}
        with pytest.raises(NotFound):
            store.get(names[9])

    def test_an_object_of_chunks_is_an_object_like_others(self, store: ObjectStore) -> None:
        """put_chunked joins what is there, and refuses what is not."""
        if not isinstance(store, HasChunks) or not isinstance(store, HasBatches):
            return  # an optional part of the seam
        parts = [bytes([number]) * (70_000 + number) for number in range(20)]
        chunks = [(name, len(part)) for name, part in zip(store.put_many(parts), parts, strict=True)]
        whole = b"".join(parts)
        store.put_chunked(digest(whole), chunks)
        assert store.has(digest(whole))
        assert _read(store, digest(whole)) == whole
        assert store.chunks_of(digest(whole)) == tuple(chunks)
        assert store.chunks_of(chunks[0][0]) is None
        assert dict(store.list())[digest(whole)] == len(whole)
        with store.get(digest(whole)) as stream:
            stream.seek(700_000)
            assert stream.read(10) == whole[700_000:700_010]
        with pytest.raises(NotFound):
            store.chunks_of(digest(b"never stored"))
        store.delete(digest(whole))
        assert not store.has(digest(whole))
        assert store.has(chunks[0][0])

    def test_the_trash_takes_what_is_old_and_gives_it_back(self, store: ObjectStore) -> None:
        """trash, restore and purge move exactly what they are told to, and only what is as old as that."""
        if not isinstance(store, HasTrash) or not isinstance(store, HasBatches):
            return  # an optional part of the seam
        now = time.time()
        names = [store.put(io.BytesIO(b"alone")), *store.put_many([b"one", b"two", b"three"])]
        assert {name: size for name, size, _ in store.ages()} == dict(store.list())
        assert all(abs(seen - now) < 60 for _, _, seen in store.ages())
        assert store.trash(names, at=int(now), unseen_since=now - 100) == [], "they are younger than that"
        assert set(store.trash(names[:3], at=int(now), unseen_since=now + 100)) == set(names[:3])
        assert store.has_many(names) == {names[3]}
        assert [name for name, _ in store.list()] == [names[3]]
        assert {item.digest for item in store.trashed()} == set(names[:3])
        assert _read(store, names[0]) == b"alone"
        store.restore([names[0], names[3]])
        assert store.put_many([b"one"]) == [names[1]]
        assert store.has_many(names) == {names[0], names[1], names[3]}
        (item,) = [each for each in store.trashed() if each.digest == names[2]]
        assert store.purge([item._replace(since=item.since - 1)]) == [], "it went there at another time"
        assert store.purge([item]) == [names[2]]
        assert store.purge([item]) == []
        with pytest.raises(NotFound):
            store.get(names[2])
        assert store.compact() >= 0
        assert {name: _read(store, name) for name in (names[0], names[1], names[3])}

    def test_many_threads_put_get_and_list_at_once(self, store: ObjectStore) -> None:
        """Equal and different objects from eight threads: every read gives whole, right bytes."""
        contents = [bytes([number]) * (1000 + number) for number in range(20)]

        def work(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(30):
                content = chance.choice(contents)
                name = store.put(io.BytesIO(content))
                assert _read(store, name) == content
                for found, size in store.list():
                    assert store.has(found)
                    assert size >= 1000

        with ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(work, seed) for seed in range(8)]:
                future.result()
        assert len(list(store.list())) <= len(contents)


def _read(store: ObjectStore, name: Digest) -> bytes:
    with store.get(name) as stream:
        return stream.read()


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    while block := stream.read(1 << 20):
        yield block


def _stream(size: int, *, fails_after: int = -1) -> BinaryIO:
    return _Zeros(size, fails_after)  # type: ignore[return-value]  # a binary stream in all that is used


class ExecutorConformance:
    """What every executor must do; give a fixture `executor`.

    The project of a test lies in `tmp_path`: an executor elsewhere needs a way to read it.
    """

    @pytest.fixture
    def executor(self) -> Executor:
        """An executor."""
        raise NotImplementedError("give a fixture `executor`")

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
        assert done.seconds >= 0.0
        assert done.cpu_seconds >= 0.0
        assert done.memory_peak_bytes > 0

    def test_arguments_of_every_sort_arrive_as_they_are(self, executor: Executor, ws: Workspace) -> None:
        """Plain values, stored ones, and what only the pipeline itself can say."""
        body = """
        def work(table, plain: tuple[int, str] = (1, "02139"), kind: type = dict) -> str:
            return f"{table.column_names} {table['zip'].to_pylist()} {plain!r} {kind.__name__}"
        """
        table = values.pa.table({"zip": ["02139", None]})
        task = _task(ws, body, call="work(table=made())", before="@nr.step\ndef made():\n    pass")
        done = _done(executor, replace(task, arguments={**task.arguments, "table": table}))
        assert done.error is None, done.error
        assert values.load(ws, done.outputs[0]) == "['zip'] ['02139', None] (1, '02139') dict"

    def test_a_task_begun_again_gives_the_same_objects(self, executor: Executor, ws: Workspace) -> None:
        """The digests of a deterministic step are equal at every run, and the log is that of the last."""
        task = _task(ws, "def work() -> int:\n    print('once')\n    return nr.seed()", seed=77)
        first, second = _done(executor, task), _done(executor, task)
        assert first.outputs == second.outputs
        assert values.load(ws, first.outputs[0]) == 77
        assert task.log.read_text(encoding="utf-8") == "once\n"

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

    @pytest.mark.parametrize("ending", ["SystemExit(3)", "KeyError('x')", "RecursionError()", "MemoryError()"])
    def test_no_exception_of_a_step_passes(self, executor: Executor, ws: Workspace, ending: str) -> None:
        """Whatever a step raises is its failure, and the executor takes the next task."""
        done = _done(executor, _task(ws, f"def work() -> int:\n    raise {ending}"))
        assert isinstance(done.error, StepFailed | StepKilled)
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
        _until(lambda: not any(map(_is_running, pids)))

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
        assert all(map(_is_running, pids))
        os.kill(caller, 9)
        os.waitpid(caller, 0)
        _until(lambda: not any(map(_is_running, pids)))


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
        arguments={name: binding.value for name, binding in node.bindings.items() if hasattr(binding, "value")},
        ambient=Ambient(seed),
        log=ws.project.state / "runs" / f"run{number}" / "work.log",
        memory={},
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


def _is_running(pid: int) -> bool:
    """Whether a process is there and not only waits to be collected. Source: proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
