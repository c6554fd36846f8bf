"""A full disk, a read-only one, and many processes at once: clear errors, nothing half-written, nobody starved."""

from __future__ import annotations

import gc
import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.core.errors import Corrupt, NoriaError, StoreFull, StoreUnavailable, Tampered
from noria.engines.objects.file import FileObjects
from noria.governance.audit import verify
from noria.governance.facts import ApprovalGiven
from noria.project.init import init
from noria.store.objects import Objects
from noria.store.workspace import Workspace
from noria.tracking.code import snapshot

WRITER = """
import sys, time
from pathlib import Path
from noria.bootstrap import open_workspace
from noria.config import Project
from noria.governance.facts import ApprovalGiven
root, name, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
ws = open_workspace(project=Project(name="p", root=root))
with ws.ledger.transaction():
    pass
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + seconds
while time.monotonic() < end:
    with ws.ledger.transaction() as tx:
        given = tx.append(ApprovalGiven(about=name, digest="d", role="r"))
    print(given.seq)
"""


def opened(root: Path) -> Workspace:
    return open_workspace(project=Project(name="p", root=root))


def append(ws: Workspace, comment: str = "") -> int:
    with ws.ledger.transaction() as tx:
        return tx.append(ApprovalGiven(about="a", digest="d", role="r", comment=comment)).seq


def fill(folder: Path) -> Path:
    """Take all the space that is left."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as sink:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    sink.write(b"\0" * size)
            except OSError:
                continue
    return filler


def test_a_full_disk_is_said_and_the_work_goes_on_when_there_is_space(small_disk: Path) -> None:
    ws = opened(small_disk / "p")
    append(ws)
    filler = fill(small_disk)
    acknowledged, refused = 1, 0
    for _ in range(40):
        try:
            acknowledged = append(ws, comment="x" * 20_000)
        except StoreFull as error:
            refused += 1
            last = error
    assert refused > 0
    assert len(str(last).splitlines()) <= 6
    assert last.exit_code == 3
    with pytest.raises(StoreFull):
        ws.objects.put_bytes(os.urandom(200_000))
    assert list((small_disk / "p" / ".noria" / "objects" / "tmp").iterdir()) == []
    assert list(ws.objects.store.list()) == []
    filler.unlink()
    append(ws)
    name = ws.objects.put_bytes(b"there is space again")
    assert ws.objects.get_bytes(name)
    report = verify(ws)
    assert report.ok, report
    assert report.size == acknowledged + 1
    ws.ledger.database.close()


def test_packs_and_chunks_on_a_full_disk_are_whole_or_not_there(small_disk: Path) -> None:
    ws = opened(small_disk / "p")
    kept = ws.objects.put_many([b"kept %d" % number * 50 for number in range(50)])
    large = small_disk.parent / "large.csv"
    large.write_bytes(b"".join(b"%d,%d\n" % (row, row * row) for row in range(150_000)))
    many = [small_disk.parent / f"small{number}" for number in range(90)]
    for number, path in enumerate(many):
        path.write_bytes(random.Random(number).randbytes(50_000))
    filler = fill(small_disk)
    calls = (
        lambda: ws.objects.put_many([os.urandom(60_000) for _ in range(20)]),
        lambda: ws.objects.put_file(large),
        lambda: ws.objects.put_files(many),
    )
    for call in calls:
        with pytest.raises(StoreFull) as caught:
            call()
        assert len(str(caught.value).splitlines()) <= 6
        for name in ws.objects.names():
            ws.objects.verify(name)
    assert set(kept) <= set(ws.objects.names())
    os.truncate(filler, 11 << 20)
    with pytest.raises(StoreFull):
        ws.objects.put_files([*many, large])
    for path in many[:20]:
        path.unlink()
    names = ws.objects.put_files(many[20:40])
    assert dict(ws.objects.get_many([*kept, *names])).keys() == {*kept, *names}
    with pytest.raises(StoreFull):
        ws.objects.copy_many(
            [(name, small_disk / "out" / f"{number}{name[7:]}") for number in range(9) for name in names]
        )
    assert verify(ws).ok
    ws.ledger.database.close()


def test_packs_on_a_read_only_disk_are_read(small_disk: Path) -> None:
    ws = opened(small_disk / "p")
    names = ws.objects.put_many([b"kept %d" % number for number in range(50)])
    ws.ledger.database.close()
    del ws
    gc.collect()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    objects = Objects(FileObjects(small_disk / "p" / ".noria" / "objects"), small_disk / "cache")
    assert dict(objects.get_many(names))[names[7]] == b"kept 7"
    assert objects.has_many(names) == set(names)
    with pytest.raises(StoreUnavailable):
        objects.put_many([b"new"])
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert objects.put_many([b"new"])


def test_a_first_start_on_a_full_disk_is_said_and_succeeds_later(small_disk: Path) -> None:
    filler = fill(small_disk)
    with pytest.raises(StoreFull):
        opened(small_disk / "p")
    filler.unlink()
    ws = opened(small_disk / "p")
    append(ws)
    assert verify(ws).ok
    ws.ledger.database.close()


def test_a_read_only_disk_is_said(small_disk: Path) -> None:
    ws = opened(small_disk / "p")
    append(ws)
    name = ws.objects.put_bytes(b"kept")
    ws.ledger.database.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreUnavailable) as caught:
        append(opened(small_disk / "p"))
    assert len(str(caught.value).splitlines()) <= 6
    with pytest.raises(StoreUnavailable):
        ws.objects.put_bytes(b"new")
    assert ws.objects.get_bytes(name) == b"kept"
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    ws = opened(small_disk / "p")
    append(ws)
    assert verify(ws).ok
    ws.ledger.database.close()


def test_a_database_with_damaged_pages_is_named_and_never_taken_for_well(tmp_path: Path) -> None:
    ws = opened(tmp_path / "p")
    for number in range(60):
        append(ws, comment=str(number) * 50)
    ws.ledger.database.close()
    file = tmp_path / "p" / ".noria" / "ledger.db"
    content = file.read_bytes()
    chance = random.Random(4)
    noticed, errors = 0, list[NoriaError]()
    filled = [at for at in range(100, len(content) - 64, 8) if content[at : at + 64].count(0) < 32]
    for number in range(40):
        root = tmp_path / f"damaged{number}"
        shutil.copytree(tmp_path / "p", root)
        at = chance.choice(filled)
        damaged = content[:at] + chance.randbytes(64) + content[at + 64 :]
        (root / ".noria" / "ledger.db").write_bytes(damaged)
        try:
            found = opened(root)
            report = verify(found)
            noticed += not report.ok
            if report.ok:
                assert found.ledger.head() == 60
                assert [fact.payload.comment for fact in found.ledger.facts()] == [str(n) * 50 for n in range(60)]
            found.ledger.database.close()
        except (Corrupt, Tampered, StoreUnavailable) as error:
            errors.append(error)
    assert all(len(str(error).splitlines()) <= 6 for error in errors)
    assert noticed + len(errors) > 30


def test_a_client_that_opens_while_others_write_sees_nothing_wrong(tmp_path: Path) -> None:
    """A checkpoint that is newer than a reader's snapshot is no sign of a cut ledger."""
    opened(tmp_path).ledger.database.close()
    command = [sys.executable, "-c", WRITER, str(tmp_path), "w", "4"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        writer.stdin.write("\n")
        writer.stdin.flush()
        count = 0
        while writer.poll() is None and count < 2000:
            ws = opened(tmp_path)
            ws.ledger.facts(limit=1)
            ws.ledger.database.close()
            count += 1
        writer.stdout.read()
    assert writer.returncode == 0
    assert count > 5


@pytest.mark.slow
def test_eight_processes_write_at_once_and_nobody_starves(tmp_path: Path) -> None:
    opened(tmp_path).ledger.database.close()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), f"w{number}", "6"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    begun = time.monotonic()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    seqs: list[int] = []
    counts: list[int] = []
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        mine = [int(line) for line in output.split()]
        counts.append(len(mine))
        seqs.extend(mine)
    assert sorted(seqs) == list(range(1, len(seqs) + 1))
    assert min(counts) >= 0.5 * sum(counts) / len(counts), counts
    print(f"{len(seqs) / (time.monotonic() - begun):.0f} acknowledged facts/s from 8 processes, shares {counts}")
    report = verify(opened(tmp_path))
    assert report.ok, report


def test_a_new_project_on_a_full_disk_has_no_repository_by_halves(small_disk: Path) -> None:
    """Whatever git had no more space for is taken away, so that runs go on when there is space again."""
    filler = fill(small_disk)
    with pytest.raises(StoreFull, match="no space is left"):
        init(small_disk / "none")
    assert not list(small_disk.glob("*none*"))
    made = None
    for _ in range(100):
        os.truncate(filler, filler.stat().st_size - (16 << 10))
        with suppress(StoreFull):
            made = init(small_disk / "p")
            break
    assert made is not None
    assert made.commit == ""
    assert "there is no git repository, since git " in made.notes[-1]
    assert not (small_disk / "p" / ".git").exists()
    filler.unlink()
    assert snapshot(small_disk / "p", opened(small_disk / "p").objects, entry="pipeline.py").source
