"""The name of a lease's holder: seen to be gone when it is, and never taken for another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from noria.store.owner import is_dead, is_stopped, owner_id

SAY = "from noria.store.owner import owner_id; print(owner_id(), flush=True); input()"
WAIT_S = 60.0


@contextmanager
def another() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that has said its name."""
    process = subprocess.Popen([sys.executable, "-c", SAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def altered(place: int, value: object) -> str:
    """This process's name with one part of it changed."""
    parts = json.loads(owner_id())
    parts[place] = value
    return json.dumps(parts)


def test_a_process_is_dead_once_it_was_killed_and_not_before() -> None:
    with another() as (process, name):
        assert not is_dead(name)
        process.kill()
        process.wait()
        assert is_dead(name)
    assert not is_dead(owner_id())


def test_one_that_nobody_has_waited_for_is_dead_too() -> None:
    with another() as (process, name):
        os.kill(process.pid, signal.SIGKILL)
        give_up = time.monotonic() + WAIT_S
        while not is_dead(name):
            assert time.monotonic() < give_up
            time.sleep(0.01)


def test_a_process_number_that_was_given_again_is_another_process() -> None:
    assert is_dead(altered(3, "1"))


def test_this_machine_before_it_was_started_again_holds_nothing_any_more() -> None:
    assert is_dead(altered(1, "another boot"))


@pytest.mark.parametrize("place", [0, 5], ids=["host", "space of process ids"])
def test_of_a_process_elsewhere_nothing_is_claimed(place: int) -> None:
    parts = json.loads(altered(place, "elsewhere"))
    parts[3] = "1"
    assert not is_dead(json.dumps(parts))


def test_another_machine_of_the_same_name_is_not_taken_for_this_one() -> None:
    parts = json.loads(owner_id())
    has_id = bool(parts[4])  # a container may have none: then a boot of the same host is taken for this machine's
    parts[1], parts[4] = "another boot", "another machine"
    assert is_dead(json.dumps(parts)) is not has_id


@pytest.mark.parametrize("name", ["", "server", "[1, 2]", "12345", '"abcd"', "null", '["h", "b", "x", "s"]'])
def test_what_is_no_name_of_a_process_is_not_known_to_be_dead(name: str) -> None:
    assert not is_dead(name)


def test_a_name_of_an_older_form_is_understood() -> None:
    with another() as (process, name):
        older = json.dumps(json.loads(name)[:4])
        assert not is_dead(older)
        process.kill()
        process.wait()
        assert is_dead(older)


def test_a_stopped_process_is_told_from_one_that_goes_on() -> None:
    with another() as (process, name):
        assert not is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        give_up = time.monotonic() + WAIT_S
        while not is_stopped(process.pid):
            assert time.monotonic() < give_up
            time.sleep(0.01)
        assert not is_dead(name)
        process.send_signal(signal.SIGCONT)
        while is_stopped(process.pid):
            assert time.monotonic() < give_up
            time.sleep(0.01)
    assert not is_stopped(process.pid), "it is gone"
