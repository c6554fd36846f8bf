from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from noria.core.errors import StoreUnavailable
from noria.data import lock

HOLDER = """
import sys, time
from pathlib import Path
from noria.data.lock import file_lock
with file_lock(Path(sys.argv[1]), "the data set flights"):
    print("held", flush=True)
    sys.stdin.readline()
"""
FORKER = """
import os, sys, time
from pathlib import Path
from noria.data.lock import file_lock
with file_lock(Path(sys.argv[1]), "the data set flights"):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)
"""


def started(program: str, path: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def ended(process: subprocess.Popen[str]) -> None:
    """Kill and reap; a child of it may keep the pipes open."""
    process.kill()
    process.wait(30)
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def test_a_waiter_is_told_who_holds_the_lock_and_gets_it_when_they_have_ended(tmp_path: Path) -> None:
    path = tmp_path / "locks/flights.lock"
    holder, word = started(HOLDER, path)
    assert word == "held"
    told = rf"the data set flights is in use by process {holder.pid} "
    with (
        pytest.raises(StoreUnavailable, match=told) as caught,
        lock.file_lock(path, "the data set flights", wait_s=0.3),
    ):
        pass
    assert caught.value.is_retry_safe
    assert len(str(caught.value).splitlines()) <= 6
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    with lock.file_lock(path, "the data set flights", wait_s=30):
        assert json.loads(path.read_text())[0] == os.getpid()
    assert holder.wait(30) == 0
    holder.communicate()


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "flights.lock"
    holder, _ = started(HOLDER, path)
    ended(holder)
    begun = time.monotonic()
    with lock.file_lock(path, "flights", wait_s=5):
        assert time.monotonic() - begun < 2


def test_a_lock_that_outlives_its_owner_in_a_child_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "flights.lock"
    holder, child = started(FORKER, path)
    ended(holder)
    try:
        os.kill(int(child), 0)  # the child lives, and has the kernel's lock
        with (
            lock.file_lock(path, "flights", wait_s=10),
            pytest.raises(StoreUnavailable),
            lock.file_lock(path, "flights", wait_s=0.2),
        ):
            pass
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_the_lock_of_a_stopped_process_is_not_taken_from_it(tmp_path: Path) -> None:
    path = tmp_path / "flights.lock"
    holder, _ = started(HOLDER, path)
    holder.send_signal(signal.SIGSTOP)
    os.utime(path, (1, 1))  # it has not beaten for long
    try:
        with pytest.raises(StoreUnavailable, match=str(holder.pid)), lock.file_lock(path, "flights", wait_s=0.3):
            pass
    finally:
        ended(holder)


def test_the_owner_on_another_machine_is_dead_when_it_has_been_silent_for_long() -> None:
    elsewhere = lock.Owner(os.getpid(), "1", "another boot", "noria data add")
    assert not lock.is_dead(elsewhere, 5.0)
    assert lock.is_dead(elsewhere, lock.STALE_S + 1)
    assert not lock.is_dead(lock.me(), 10_000)
    assert lock.is_dead(lock.Owner(os.getpid(), "another start", lock.me().boot, ""), 0.0), "the number was used again"


def test_two_locks_at_once_never_both_hold(tmp_path: Path) -> None:
    """The number in the file is never lost, though some are killed while they hold, one with a living child."""
    program = """
import os, signal, sys, time
from pathlib import Path
from noria.data.lock import file_lock
folder, dies_at = Path(sys.argv[1]), int(sys.argv[2])
for turn in range(12):
    with file_lock(folder / "x.lock", "x", wait_s=60):
        number = int((folder / "number").read_text())
        if turn == dies_at:
            if turn % 2 and os.fork() == 0:
                os.closerange(0, 3)
                time.sleep(10)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "number").write_text(str(number + 1))
"""
    (tmp_path / "number").write_text("0")
    deaths = [99, 99, 99, 99, 2, 3, 4, 7]
    running = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(turn)]) for turn in deaths]
    codes = [process.wait(120) for process in running]
    assert codes == [0] * 4 + [-9] * 4
    assert int((tmp_path / "number").read_text()) == 4 * 12 + 2 + 3 + 4 + 7


def test_the_mark_of_a_process_is_left_when_the_process_is_gone() -> None:
    mine = lock.mark()
    assert not lock.is_left(mine, 10_000_000)
    pid, start, boot = mine.split("-")
    assert lock.is_left(f"{pid}-{int(start) + 1}-{boot}", 0)
    assert not lock.is_left(f"{pid}-{start}-00000000", 60)
    assert lock.is_left(f"{pid}-{start}-00000000", lock.DAY_S + 1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data", "add", "postgresql://shop:secret@db/shop?password=also"], "noria data add postgresql://db/shop"),
        (["data", "add", "s3://bucket/a@b"], "noria data add s3://bucket/a@b"),
        (["run", "-p", "x=1"], "noria run -p x=1"),
    ],
)
def test_who_waits_is_told_the_command_and_no_secret(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/noria", *words])
    assert lock.me().words == told
