"""The right to make a key: one at a time, given back by the death of its owner."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from noria.pipeline.flight import Flights
from noria.store.workspace import Workspace
from noria.testing import open_memory

KEY = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
HOLD = """
import os, sys, time
from pathlib import Path
from noria.config import Project
from noria.testing import open_memory
from noria.pipeline.flight import Flights
flights = Flights(open_memory(root=Path(sys.argv[1])), "other")
assert flights.take(sys.argv[2])
if os.fork() == 0:
    time.sleep(60)  # a child that its parent leaves behind
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return open_memory(root=tmp_path)


def test_two_runs_of_one_process_exclude_each_other(ws: Workspace) -> None:
    one, two = Flights(ws, "r1"), Flights(ws, "r2")
    assert one.take(KEY)
    assert one.take(KEY)
    assert not two.take(KEY)
    assert two.take(OTHER)
    one.release(KEY)
    one.release(KEY)
    assert two.take(KEY)
    two.release_all()
    assert one.take(KEY)
    one.release_all()


def test_the_death_of_an_owner_gives_its_keys_back_though_its_child_lives(ws: Workspace) -> None:
    words = [sys.executable, "-c", HOLD, str(ws.project.root), KEY]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        flights = Flights(ws, "r1")
        assert not flights.take(KEY)
        owner.kill()
        began = time.monotonic()
        flights.wait(KEY)
        assert time.monotonic() - began < 10
        flights.release_all()
        subprocess.run(["/bin/kill", "-9", "--", f"-{owner.pid}"], check=False)


def test_waiting_while_holding_is_a_bug(ws: Workspace) -> None:
    flights = Flights(ws, "r1")
    assert flights.take(KEY)
    with pytest.raises(AssertionError):
        flights.wait(OTHER)
    flights.release_all()
