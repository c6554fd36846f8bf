"""The right to make a key: one at a time, given back by the death of its owner."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from noria.pipeline.caching.flight import Flights
from noria.store.workspace import Workspace
from noria.testing import open_memory

KEY = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
HOLD = """
import os, sys, time
from pathlib import Path
from noria.config import Project
from noria.testing import open_memory
from noria.pipeline.caching.flight import Flights
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


def test_what_is_given_back_while_rights_are_renewed_stays_given_back(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws.ledger.database, "is_sqlite", False)  # leases in the database, as on a server
    flights, over, raised = Flights(ws, "r1"), threading.Event(), []
    monkeypatch.undo()
    keys = [f"sha256:{number:064x}" for number in range(12)]

    def renew() -> None:
        while not over.is_set():
            try:
                flights.renew()
            except Exception as error:  # noqa: BLE001  # a thread's own are seen by nobody
                raised.append(error)
                return

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        for _ in range(10):
            for key in keys:
                assert flights.take(key)
            held = {lease.name for lease in ws.jobs.leases("step/")}
            assert held == {f"step/{key}" for key in keys}
            for key in keys:
                flights.release(key)
            assert ws.jobs.leases("step/") == []
    finally:
        over.set()
        thread.join()
    assert raised == []
