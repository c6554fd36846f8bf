"""What can go wrong with folders: disks, kills, changes meanwhile, damage. Nothing half or lost, all of it named."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from stored_bytes import damaged

from noria.bootstrap import open_workspace
from noria.config import Project, RemoteConfig
from noria.core.errors import Conflict, Corrupt, NotFound, StoreFull, StoreUnavailable, UsageError
from noria.data import collect, lock, records, versions
from noria.data.folders.worktree import statuses
from noria.data.status import status
from noria.data.verify import verify
from noria.engines.objects.file import FileObjects
from noria.governance.audit import verify as audit
from noria.store.objects import Objects, Progress
from noria.store.tree import tree_nodes
from noria.store.workspace import Workspace

WORKER = """
import random, sys
from pathlib import Path
from noria.bootstrap import open_workspace
from noria.config import Project
from noria.data import collect, versions
root, act = Path(sys.argv[1]), sys.argv[2]
ws = open_workspace(project=Project(name="test", root=root), actor="user:worker")
print("ready", flush=True)
sys.stdin.readline()
if act == "add":
    print(versions.add(ws, sys.argv[3], sys.argv[4]).tree, flush=True)
elif act == "checkout":
    versions.checkout(ws, sys.argv[3], sys.argv[4])
elif act == "into":
    versions.checkout(ws, sys.argv[3], sys.argv[4], into=True)
elif act == "gc":
    collect.gc(ws, sweep=True, min_age="0s")
elif act == "mixed":
    chance = random.Random(int(sys.argv[3]))
    for turn in range(int(sys.argv[4])):
        place = root / f"in{sys.argv[3]}"
        place.mkdir(exist_ok=True)
        (place / f"{turn}.bin").write_bytes(chance.randbytes(chance.choice((10, 5_000, 200_000))))
        name = chance.choice(("one", "two", f"mine{sys.argv[3]}"))
        version = versions.add(ws, str(place), name)
        print(name, version.version, version.tree, flush=True)
        out = root / f"out{sys.argv[3]}-{turn}"
        done = versions.checkout(ws, f"{name}@{version.version}", str(out))
        assert done.files == turn + 1, done
        collect.gc(ws, sweep=True, min_age="0s")
print("done", flush=True)
"""


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    workspace = opened(root)
    yield workspace
    workspace.ledger.database.close()


def opened(root: Path, **more: object) -> Workspace:
    return open_workspace(project=Project(name="test", root=root, **more), actor="user:test")  # type: ignore[arg-type]  # as named


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def held(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def start(root: Path, *words: object, failpoint: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "NORIA_FAILPOINT": failpoint}
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(root), *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=root,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, errors = process.communicate("go\n", timeout=240)
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode, output


# -- files that change, or cannot be part of a data set


class Meddling(FileObjects):
    """A store whose disk is slow: while it stores, something happens to the files."""

    def __init__(self, root: Path, happens: Sequence[tuple[Path, bytes | None]]) -> None:
        super().__init__(root)
        self.happens = happens

    def put_files(self, paths: Sequence[str | Path], progress: Progress) -> list:  # type: ignore[type-arg]  # as the store's
        """First something happens, or last; both must be seen."""
        found = super().put_files(paths, progress)
        for place, content in self.happens:
            if content is None:
                place.unlink()
            else:
                place.write_bytes(content)
        return found


@pytest.mark.parametrize("content", [b"another", b"longer than before", None], ids=["same size", "longer", "gone"])
def test_a_file_that_changes_while_it_is_added_is_named_and_nothing_is_versioned(
    ws: Workspace, content: bytes | None
) -> None:
    place = fill(ws.project.root / "d", {"a.bin": b"initial", "sub/b.bin": b"b"})
    store = Meddling(ws.project.state / "objects", [(place / "a.bin", content)])
    slow = Workspace(
        objects=Objects(store, ws.project.state / "cache"),
        **{name: getattr(ws, name) for name in ("ledger", "series", "jobs", "clock", "actor", "project")},
    )
    with pytest.raises(Conflict, match=r"a\.bin") as caught:
        versions.add(slow, "d")
    assert caught.value.hint
    assert ws.ledger.head() == 0
    assert not (ws.project.root / "noria.lock").exists()
    store.happens = ()
    fill(place, {"a.bin": b"at rest"})
    assert versions.add(slow, "d").files == 2


@pytest.mark.parametrize("name", [b"\xff.bin", b"new\nline", b"back\\slash", b"tab\there"])
def test_a_fault_at_a_name_in_an_odd_encoding_names_it_and_nothing_is_versioned(ws: Workspace, name: bytes) -> None:
    place = fill(ws.project.root / "d", {"deep/good.bin": b"x"})
    (place / "deep" / os.fsdecode(name)).symlink_to("nowhere")
    with pytest.raises(UsageError) as caught:
        versions.add(ws, "d")
    assert "deep/" in caught.value.message
    caught.value.message.encode("utf-8")
    assert len(str(caught.value).splitlines()) <= 6
    assert ws.ledger.head() == 0
    assert next(ws.objects.names(), None) is None


def test_a_link_that_leaves_the_tree_is_named_and_nothing_of_it_is_read(ws: Workspace, tmp_path: Path) -> None:
    fill(tmp_path, {"secret/key": b"secret"})
    place = fill(ws.project.root / "d", {"x": b"x"})
    (place / "sub").mkdir()
    (place / "sub/key").symlink_to(tmp_path / "secret/key")
    with pytest.raises(UsageError, match="the link sub/key leaves the folder"):
        versions.add(ws, "d")
    (place / "sub/key").unlink()
    (place / "sub/key").symlink_to("../x")
    version = versions.add(ws, "d")
    assert {entry.path for entry in versions.show(ws, version.ref).entries} == {"x", "sub/key"}
    (place / "sub/key").unlink()
    (place / "sub/key").symlink_to(tmp_path / "secret/key")
    with pytest.raises(UsageError, match="leaves the folder"):
        status(ws)


# -- disks


@pytest.mark.parametrize("size", [10_000, 300_000, 20_000_000], ids=["packed", "loose", "chunked"])
def test_a_full_disk_is_said_keeps_every_file_and_the_work_goes_on_when_there_is_space(
    small_disk: Path, tmp_path: Path, size: int
) -> None:
    files = {f"{number:04d}.bin": os.urandom(size) for number in range(max(1, 12_000_000 // size))}
    source = fill(tmp_path / "source", files)
    ws = opened(small_disk / "p")
    with pytest.raises(StoreFull) as caught:
        versions.add(ws, str(source), "d")
    assert len(str(caught.value).splitlines()) <= 6
    assert "noria data gc --sweep moves it to the trash after a day" in caught.value.hint
    assert held(source) == files, "the user's files are there"
    with ws.ledger.read() as tx:
        assert records.names(tx) == []
    (small_disk / "filler").unlink()
    few = dict(list(files.items())[: 1_000_000 // size]) or {"small": b"small"}
    for name in files.keys() - few.keys():
        (source / name).unlink()
    fill(source, few)
    assert versions.add(ws, str(source), "d").files == len(few)
    versions.checkout(ws, "d", str(tmp_path / "out"))
    assert held(tmp_path / "out") == few
    assert audit(ws).ok
    ws.ledger.database.close()


def test_a_checkout_onto_a_full_disk_leaves_nothing_of_it(ws: Workspace, small_disk: Path) -> None:
    files = {f"{number}.bin": os.urandom(500_000) for number in range(30)}
    fill(ws.project.root / "d", files)
    versions.add(ws, "d")
    with pytest.raises(StoreFull):
        versions.checkout(ws, "d", str(small_disk / "out"))
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    mine = fill(small_disk / "there", {"mine": b"mine"})
    with pytest.raises(StoreFull):
        versions.checkout(ws, "d", str(mine), into=True)
    assert held(mine) == {"mine": b"mine"}


def test_a_read_only_disk_is_said_and_can_still_be_compared(small_disk: Path) -> None:
    place = fill(small_disk / "p/d", {"a": b"a", "b": b"b"})
    finish(start(small_disk / "p", "add", "d", "d"))  # by another process, which leaves no file open
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreUnavailable) as caught:
        versions.add(opened(small_disk / "p"), str(place), anew=True)
    assert len(str(caught.value).splitlines()) <= 6
    project = Project(name="test", root=small_disk / "p")
    assert [each.state for each in statuses(project, no_objects, lambda _pin: 1)] == ["same"], "by the stat cache alone"
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    fill(place, {"b": b"c"})
    assert [each.paths for each in statuses(project, no_objects, lambda _pin: 1)] == [("~ b",)]
    ws = opened(small_disk / "p")
    assert versions.add(ws, str(place)).version == 2
    ws.ledger.database.close()


def no_objects() -> Objects:
    """The status must not need them here."""
    raise AssertionError("the object store was opened")


# -- damage


def test_every_altered_and_missing_object_is_named_and_healed_from_a_remote(ws: Workspace, tmp_path: Path) -> None:
    contents = {"small": b"small file" * 10, "loose": os.urandom(100_000), "sub/large": os.urandom(20_000_000)}
    place = fill(ws.project.root / "d", contents)
    version = versions.add(ws, str(place))
    again = opened(ws.project.root, remotes={"origin": RemoteConfig(url=str(tmp_path / "remote"))})
    copy_all(ws.objects, FileObjects(tmp_path / "remote/objects"))
    by_path = {entry.path: entry.digest for entry in versions.show(ws, "d").entries}
    assert verify(ws).ok
    for name, content in contents.items():
        damaged(
            ws.project.state / "objects", content[20:52], bytes(32)
        ) if name != "loose" else ws.objects.store.delete(
            by_path[name]  # type: ignore[arg-type]  # a digest
        )
    found = verify(opened(ws.project.root))
    assert (found.ok, found.bad, found.healed) == (False, 3, 0)
    named = {each.path: each for each in found.findings}
    assert set(named) == set(contents)
    for path, each in named.items():
        assert (each.dataset, each.version, each.expected) == ("d", version.version, by_path[path])
        assert each.found != each.expected
        assert "no remote" in each.why
    assert named["loose"].found == "missing"
    with pytest.raises((Corrupt, NotFound)):
        versions.checkout(opened(ws.project.root), "d", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    healed = verify(again)
    assert (healed.ok, healed.bad, healed.healed) == (True, 3, 3)
    assert {each.healed for each in healed.findings} == {"origin"}
    assert verify(again).bad == 0
    again.ledger.database.close()


def test_a_checkout_heals_what_it_needs(ws: Workspace, tmp_path: Path) -> None:
    contents = {"a": b"the first file" * 9, "b": b"the second file" * 9}
    versions.add(ws, str(fill(ws.project.root / "d", contents)))
    copy_all(ws.objects, FileObjects(tmp_path / "remote/objects"))
    damaged(ws.project.state / "objects", contents["b"], b"\0" * len(contents["b"]))
    again = opened(ws.project.root, remotes={"origin": RemoteConfig(url=str(tmp_path / "remote"))})
    versions.checkout(again, "d", str(tmp_path / "out"))
    assert held(tmp_path / "out") == contents
    again.ledger.database.close()


@pytest.mark.parametrize("count", [2, 3000], ids=["one list", "lists of lists"])
def test_a_checkout_heals_the_lists_of_files_too(ws: Workspace, tmp_path: Path, count: int) -> None:
    contents = {f"{number % 7}/{number:05d}": b"file %d" % number for number in range(count)}
    version = versions.add(ws, str(fill(ws.project.root / "d", contents)))
    copy_all(ws.objects, FileObjects(tmp_path / "remote/objects"))
    nodes = [ws.objects.get_bytes(name) for name in tree_nodes(ws.objects, version.tree)]
    for node in nodes:
        damaged(ws.project.state / "objects", node, b"\0" * len(node))
    with pytest.raises(Corrupt) as caught:
        versions.checkout(opened(ws.project.root), "d", str(tmp_path / "out"))
    assert "there is no remote to ask" in str(caught.value)
    again = opened(ws.project.root, remotes={"origin": RemoteConfig(url=str(tmp_path / "remote"))})
    found = verify(again, look_only=True)
    assert (found.bad, len(found.findings), found.findings[0].path) == (1, 1, ""), "what it lists cannot be looked at"
    versions.checkout(again, "d", str(tmp_path / "out"))
    assert held(tmp_path / "out") == contents
    assert verify(again).bad == 0
    for node in nodes:
        damaged(ws.project.state / "objects", node, b"\0" * len(node))
    healed = verify(opened(ws.project.root, remotes={"origin": RemoteConfig(url=str(tmp_path / "remote"))}))
    assert (healed.bad, healed.healed, len(healed.findings)) == (len(nodes),) * 3, "each is told once"
    again.ledger.database.close()


def test_adding_anew_puts_right_what_is_damaged(ws: Workspace) -> None:
    contents = {"a": b"the first file" * 9, "b": os.urandom(100_000)}
    place = fill(ws.project.root / "d", contents)
    versions.add(ws, str(place))
    for content in contents.values():
        damaged(ws.project.state / "objects", content, b"\0" * len(content))
    assert verify(opened(ws.project.root)).bad == 2
    versions.add(opened(ws.project.root), str(place), anew=True)
    assert verify(opened(ws.project.root)).bad == 0


def copy_all(objects: Objects, other: FileObjects) -> None:
    for name in objects.names():
        with objects.open(name) as stream:
            assert other.put(stream) == name


# -- kills


KILLS_OF_AN_ADD = (
    "lease.written", "object.temp", "object.synced", "object.renamed", "pack.appended", "pack.synced", "pack.indexed",
    "chunks.stored", "recipe.synced", "recipe.renamed", "data.copied", "append.fact", "commit.before", "commit.after",
    "data.committed",
)  # fmt: skip


@pytest.mark.parametrize("point", KILLS_OF_AN_ADD)
def test_an_add_killed_at_any_point_leaves_all_or_nothing_and_the_next_finishes_it(ws: Workspace, point: str) -> None:
    contents = {
        "small": b"s",
        "sub/small2": b"s2",
        "loose": os.urandom(100_000),
        "large": b"chunk by chunk " * 1_500_000,
    }
    place = fill(ws.project.root / "d", contents)
    code, _ = finish(start(ws.project.root, "add", "d", "d", failpoint=f"{point}:1"))
    assert code == -signal.SIGKILL, f"{point} was never passed"
    assert held(place) == contents
    with ws.ledger.read() as tx:
        there = records.versions(tx, "d")
    assert len(there) <= 1
    assert verify(ws).ok
    finished = versions.add(ws, "d")
    assert (finished.version, lock.pinned(ws.project.root, "d")) == (1, finished.tree)
    assert not there or there[0].tree == finished.tree
    out = ws.project.root / "out"
    versions.checkout(ws, "d", str(out))
    assert held(out) == contents
    assert audit(ws).ok


KILLS_OF_A_CHECKOUT = ("checkout.staged", "checkout.removed", "checkout.placed:1", "checkout.placed:2")


@pytest.mark.parametrize("point", KILLS_OF_A_CHECKOUT)
def test_a_checkout_killed_at_any_point_is_finished_by_the_next(ws: Workspace, tmp_path: Path, point: str) -> None:
    one = {"same": b"same", "changed": b"one", "gone/x": b"gone", "more": b"1"}
    two = {"same": b"same", "changed": b"two", "new/y": b"new", "more": b"2"}
    place = fill(ws.project.root / "d", one)
    versions.add(ws, "d")
    (place / "gone/x").unlink()
    (place / "gone").rmdir()
    fill(place, two)
    versions.add(ws, "d")
    code, _ = finish(start(ws.project.root, "into", "d@1", str(place), failpoint=point))
    assert code == -signal.SIGKILL
    for name, content in held(place).items():
        assert name.startswith(".") or content in (one.get(name), two.get(name)), f"{name} is half"
    versions.checkout(ws, "d@1")
    assert held(place) == one, "and nothing is left of the killed one"
    if point in ("checkout.staged", "checkout.placed:1"):
        code, _ = finish(start(ws.project.root, "checkout", "d@2", str(tmp_path / "fresh/out"), failpoint=point))
        assert code == -signal.SIGKILL
        assert not (tmp_path / "fresh/out").exists() or held(tmp_path / "fresh/out") == two
        versions.checkout(ws, "d@2", str(tmp_path / "fresh/out2"))
        assert {path.name for path in (tmp_path / "fresh").iterdir()} <= {"out", "out2"}
        assert held(tmp_path / "fresh/out2") == two


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_adds_checkouts_and_collections_killed_at_random_moments_lose_nothing(ws: Workspace) -> None:
    chance = random.Random(7)
    place = fill(ws.project.root / "d", {f"{i}/{j}": chance.randbytes(3000) for i in range(5) for j in range(60)})
    kept = versions.add(ws, "d")
    wanted = held(place)
    hits = 0
    longest_s = 1.0
    for turn in range(60):
        act = chance.choice(("add", "gc", "checkout"))
        words: list[object] = {
            "add": ["d", "d"],
            "gc": [],
            "checkout": ["d@1", ws.project.root / f"out{turn}"],
        }[act]
        if act == "add":
            fill(place, {f"{turn}/new": chance.randbytes(5000)})
        process = start(ws.project.root, act, *words)
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        try:
            process.wait(chance.uniform(0, longest_s))
            longest_s = max(longest_s * 0.8, 0.02)
        except subprocess.TimeoutExpired:
            process.kill()
            hits += 1
            longest_s *= 1.1
        process.communicate()
        if hits == 25:
            break
    assert hits == 25
    report = verify(ws)
    assert report.ok, report
    assert audit(ws).ok
    versions.checkout(ws, kept.ref, str(ws.project.root / "out"))
    assert held(ws.project.root / "out") == wanted
    finished = versions.add(ws, "d")
    assert status(ws)[0].state == "same"
    assert lock.pinned(ws.project.root, "d") == finished.tree
    assert verify(ws).ok


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_eight_processes_add_check_out_and_collect_while_one_is_killed(ws: Workspace) -> None:
    turns = 6
    running = [start(ws.project.root, "mixed", number, turns) for number in range(8)]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    victim = running[3]
    assert victim.stdout is not None
    first = victim.stdout.readline()
    time.sleep(random.Random(3).uniform(0.05, 0.4))
    victim.kill()
    outputs = [process.communicate(timeout=600) for process in running]
    codes = [process.returncode for process in running]
    errors = [text for (_, text), code in zip(outputs, codes, strict=True) if code not in (0, -signal.SIGKILL)]
    assert errors == []
    assert codes == [0] * 3 + [-signal.SIGKILL] + [0] * 4
    told = [line.split() for line in first.splitlines()]
    told += [line.split() for output, _ in outputs for line in output.splitlines() if line != "done"]
    with ws.ledger.read() as tx:
        for name, number, tree in told:
            found = records.by_number(tx, name, int(number))
            assert found is not None
            assert found.tree == tree, "an acknowledged version is there"
        for name in records.names(tx):
            numbers = [version.version for version in records.versions(tx, name)]
            assert numbers == list(range(1, len(numbers) + 1)), "no version was lost or made twice"
    report = verify(ws)
    assert report.ok, report
    collect.gc(ws, sweep=True, min_age="0s")
    assert verify(ws).ok
    assert audit(ws).ok
