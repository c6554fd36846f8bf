"""Leases: seen by every process, gone with their owner."""

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
from noria.core.identity import digest
from noria.store.leases import LOST_S, Leases

HOLDER = """
import sys, time
from pathlib import Path
from noria.store.leases import Leases
with Leases(Path(sys.argv[1])).hold("a long push", ["sha256:" + "0" * 64]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lease_is_there_from_the_beginning_of_its_block_to_the_end(tmp_path: Path) -> None:
    leases = Leases(tmp_path / "leases")
    assert leases.active() == []
    begun = time.time()
    with leases.hold("data add flights", [digest(b"1")]) as held, leases.hold("push"):
        held.add([digest(b"2"), digest(b"3")])
        held.add([])
        held.beat()
        found = {lease.what: lease for lease in leases.active()}
        assert found.keys() == {"data add flights", "push"}
        assert found["data add flights"].digests == {digest(b"1"), digest(b"2"), digest(b"3")}
        assert begun - 1 <= found["push"].since <= time.time()
        assert str(os.getpid()) in found["push"].owner
    assert leases.active() == []
    assert list((tmp_path / "leases").iterdir()) == []


def test_a_lease_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        (lease,) = Leases(tmp_path).active()
        assert (lease.what, len(lease.digests)) == ("a long push", 1)
        process.send_signal(signal.SIGKILL)
    assert Leases(tmp_path).active() == []
    assert list(tmp_path.glob("*.lease")) == []


def test_an_owner_on_another_machine_lives_as_long_as_his_heart_beats(tmp_path: Path) -> None:
    path = tmp_path / "1.lease"
    header = {"boot": "another machine", "owner": "process 1 on far", "since": time.time() - 9000, "what": "push"}
    path.write_text(json.dumps(header) + "\n" + digest(b"1") + "\nsha256:tor", encoding="utf-8")
    (lease,) = Leases(tmp_path).active()
    assert lease.owner == "process 1 on far"
    assert lease.digests == {digest(b"1")}
    os.utime(path, (time.time() - LOST_S - 5,) * 2)
    assert Leases(tmp_path).active() == []
    assert not path.exists()


def test_a_lease_that_is_held_and_not_understood_began_with_time(tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    with leases.hold("push"):
        (path,) = tmp_path.glob("*.lease")
        path.write_bytes(b"\xff{torn")
        (lease,) = leases.active()
        assert lease.since == 0.0


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable), Leases(tmp_path / "file" / "leases").hold("push"):
        pass
