"""Steps on a real Ray: the published conformance class, the same keys, and everything killed with -9.

Ray is in an environment of its own, in which Noria's source runs too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray_cluster import PYTHON, ROOT, Cluster, cluster, end, environment, until
from steps_project import journal_lines, make, marks, seen

from noria.bootstrap import open_workspace
from noria.pipeline import records
from noria.pipeline.outputs import values

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(900)]
LIMIT_S = 400.0
DOUBLED = """
@nr.step
def first(n: int = 1) -> int:
    mark("first")
    return n + 1

@nr.step
def second(n: int) -> list[int]:
    mark("second")
    return [n, n * 10, n * 100]
"""
REST = """
@nr.step
def third(n: int) -> dict:
    mark(f"third{n}")
    return {"n": n}

@nr.step
def fourth(found: list) -> str:
    mark("fourth")
    return repr(found)
"""
HALF = DOUBLED + "\n@nr.pipeline\ndef flow():\n    second(first())\n"
WHOLE = DOUBLED + REST + "\n@nr.pipeline\ndef flow():\n    fourth(third.map(second(first())))\n"
WIDE = """
@nr.step(cache=False)
def each(n: int) -> int:
    mark(f"s{n}", pause=0.05, keep=KEEP)
    return n * n

@nr.step(cache=False)
def total(found: list) -> int:
    mark("total")
    return sum(found)

@nr.pipeline
def flow():
    total(each.map(list(range(ITEMS))))
"""


@pytest.fixture(scope="module")
def one() -> Iterator[Cluster]:
    """A cluster of one node with two cores and, it says, a device."""
    assert PYTHON.exists(), "make peers installs .venv-peers/ray"
    with cluster(gpus=1) as made:
        yield made


def wide(items: int, keep: float) -> str:
    return WIDE.replace("ITEMS", str(items)).replace("KEEP", str(keep))


def begin(folder: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """A command in the environment that has Ray."""
    return subprocess.Popen(
        [str(PYTHON), "-m", "noria", *words],
        cwd=folder,
        env=environment(MARKS=str(seen(folder)), **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def noria(folder: Path, *words: str, code: int = 0, **more: str) -> str:
    """What a command printed; its exit code must be the one given."""
    with begin(folder, *words, **more) as process:
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
    return out if not code else out + err


def run(folder: Path, *words: str, **more: str) -> dict[str, str]:
    """`noria run`: the status of each step."""
    told = json.loads(noria(folder, "run", *words, "--json", **more))
    assert told["ok"], told
    return {step["step"]: step["status"] for step in told["steps"]}


def ended(folder: Path) -> int:
    """How many attempts have come to the end of their function."""
    return len([line for line in marks(folder) if line.startswith("end")])


def ends(folder: Path) -> Counter[str]:
    """How often each attempt has a good end in the journal of the only run."""
    (place,) = (folder / ".noria" / "runs").glob("*/journal.jsonl")
    lines = journal_lines(place)
    return Counter(line["ended"] for line in lines if "ended" in line and "outputs" in line["done"])


def require_once(folder: Path, items: int) -> None:
    """Every item came to one end, none ran in two places, and what has an end was not begun again."""
    said = marks(folder)
    assert [line for line in said if line.startswith("overlap")] == []
    assert ends(folder) == Counter({**{f"each.{n}": 1 for n in range(items)}, "total": 1})
    finished: set[str] = set()
    for line in said:
        what, _, name = line.partition(" ")
        assert (what, name in finished) != ("begin", True), f"{name} was begun after it had come to its end"
        if what == "end":
            finished.add(name)
    assert finished == {*(f"s{n}" for n in range(items)), "total"}


def outputs(folder: Path) -> list[tuple[str, object]]:
    """What the steps of the newest run gave: the digest and the value of each output."""
    ws = open_workspace(folder)
    try:
        with ws.ledger.read() as tx:
            found = records.steps(tx, json.loads(noria(folder, "runs", "--json"))[0]["run"])
        given = [values.Value(each.digest, each.type, each.size_bytes) for step in found for each in step.outputs]
        return [(value.digest, values.load(ws, value)) for value in given]
    finally:
        ws.ledger.database.close()


def running_steps(folder: Path) -> list[int]:
    """The processes of steps that belong to a project."""
    found = []
    for each in psutil.process_iter():
        try:
            if "noria.faces.step" in (words := each.cmdline()) and str(folder) in words:
                found.append(each.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def of_ray(driver: int, name: str) -> list[int]:
    """The processes below a driver that are called so."""
    found = []
    for each in psutil.Process(driver).children(recursive=True):
        try:
            if name in " ".join(each.cmdline()):
                found.append(each.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def conformance(folder: Path, *words: str, **more: str) -> str:
    done = subprocess.run(
        [str(PYTHON), "-m", "pytest", "-q", "-rs", "--noconftest", "-c", os.devnull, "-p", "no:cacheprovider",
         f"--rootdir={ROOT / 'tests'}", f"--basetemp={folder / 'c'}", str(ROOT / "tests/peers/ray_conformance.py"),
         *words],
        env=environment(**more), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout


def test_the_conformance_class_passes_unchanged_on_a_cluster(one: Cluster, tmp_path: Path) -> None:
    said = conformance(tmp_path, RAY_ADDRESS=one.address, **one.variables)
    assert "skipped" not in said
    assert "deselected" not in said


def test_a_cluster_of_its_own_conforms_and_goes_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    assert PYTHON.exists(), "make peers installs .venv-peers/ray"
    conformance(tmp_path, "-k", "outputs_are_stored or outlive", TMPDIR=str(tmp_path))


def test_half_on_the_pool_and_half_on_ray_hit_across(one: Cluster, tmp_path: Path) -> None:
    folders = {name: make(tmp_path / name, HALF) for name in ("pool", "ray")}
    settings: dict[str, Any] = {"RAY_ADDRESS": one.address, **one.variables}
    for name, folder in folders.items():
        other = "ray" if name == "pool" else "pool"
        assert run(folder, "--executor", name, **settings) == {"first": "done", "second": "done"}
        make(folder, WHOLE)
        found = run(folder, "--executor", other, **settings)
        assert found == {"first": "cached", "second": "cached", "third": "done", "fourth": "done"}
        assert set(run(folder, "--executor", name, **settings).values()) == {"cached"}
        assert Counter(line.split()[0] for line in marks(folder)) == {"begin": 6, "end": 6}


def test_nodes_of_another_place_are_let_in_with_the_same_packages(one: Cluster, tmp_path: Path) -> None:
    """As from another machine: the environment's path is another, so that packages are compared one by one."""
    (tmp_path / "environment").symlink_to(PYTHON.parents[1])
    folder = make(tmp_path / "p", HALF)
    settings = environment(MARKS=str(seen(folder)), RAY_ADDRESS=one.address, **one.variables)
    done = subprocess.run(
        [str(tmp_path / "environment" / "bin" / "python"), "-m", "noria", "run", "--executor", "ray"],
        cwd=folder, env=settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_drivers_on_one_cluster_make_each_result_once(one: Cluster, tmp_path: Path) -> None:
    folder = make(tmp_path / "p", WHOLE.replace('mark("second")', 'mark("second", keep=1.5)'))
    settings = {"RAY_ADDRESS": one.address, **one.variables}
    drivers = [begin(folder, "run", "--executor", "ray", "--json", **settings) for _ in range(2)]
    for driver in drivers:
        out, err = driver.communicate(timeout=LIMIT_S)
        assert driver.returncode == 0, out + err
    assert Counter(marks(folder)) == Counter(
        {f"{what} {name}": 1 for what in ("begin", "end") for name in
         ("first", "second", "third2", "third20", "third200", "fourth")}
    )  # fmt: skip


def test_a_device_is_given_where_there_is_one_and_else_refused_before_anything_begins(
    one: Cluster, tmp_path: Path
) -> None:
    asks = "\n@nr.step(gpu=GPU, cpu=64, memory='200MiB')\ndef shown() -> str:\n    mark('shown')\n"
    flow = "    return os.environ.get('CUDA_VISIBLE_DEVICES', 'none')\n\n@nr.pipeline\ndef flow():\n    shown()\n"
    at = f'[run]\naddress = "{one.address}"\n'
    folder = make(tmp_path / "p", (asks + flow).replace("GPU", "1"), at)
    here = {"NORIA_GPUS": "0", **one.variables}
    refused = noria(folder, "run", "--executor", "pool", code=2, **here)
    assert "gpu=1, and there is none on the executor pool" in refused
    assert "noria run --executor ray" in refused
    assert marks(folder) == []
    assert run(folder, "--executor", "ray", **here) == {"shown": "done"}
    assert [value for _, value in outputs(folder)] == ["0"]
    make(folder, (asks + flow).replace("GPU", "2"), at)
    refused = noria(folder, "run", "--executor", "ray", code=2, **here)
    assert "gpu=2, and there are 1 on the executor ray" in refused
    assert "no executor that is installed has that" in refused


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", HALF, '[run]\nexecutor = "ray"\naddress = "127.0.0.1:9"\n')
    said = noria(folder, "run", code=3)
    assert "the Ray cluster at 127.0.0.1:9 is not reached" in said
    assert marks(folder) == []


def test_workers_and_the_head_of_an_own_cluster_are_killed_and_the_run_goes_to_its_end(tmp_path: Path) -> None:
    folder, brokers = make(tmp_path / "p", wide(12, 0.4)), set[int]()
    with begin(folder, "run", "--executor", "ray", "--json", TMPDIR=str(tmp_path)) as driver:
        for name in ("ray::Host", "gcs_server", "raylet/raylet", "raybroker"):
            reached = ended(folder)
            until(lambda reached=reached: ended(folder) > reached + 1 or driver.poll() is not None)
            assert driver.poll() is None, driver.communicate()
            (pid, *_) = of_ray(driver.pid, name)
            brokers |= set(of_ray(driver.pid, "raybroker"))
            os.kill(pid, signal.SIGKILL)
        out, err = driver.communicate(timeout=LIMIT_S)
    assert driver.returncode == 0, out + err
    require_once(folder, 12)
    until(lambda: not running_steps(folder), "every process of a step is gone")
    left = [path.name for pid in brokers for path in Path("/tmp").glob(f"noria-ray-{pid}-*")]
    assert left == [], "the next cluster clears what a killed one left"


def test_a_driver_that_is_killed_leaves_nothing_and_is_resumed_from_what_is_done(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", wide(8, 0.5))
    with begin(folder, "run", "--executor", "ray", TMPDIR=str(tmp_path)) as driver:
        until(lambda: ended(folder) >= 3 or driver.poll() is not None)
        family = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        driver.communicate()
    before = len(ends(folder))
    until(lambda: not any(each.is_running() and each.status() != "zombie" for each in family), "Ray and steps go too")
    run(folder, "--executor", "ray", "--resume", TMPDIR=str(tmp_path))
    require_once(folder, 8)
    assert len(ends(folder)) > before >= 3


def test_two_nodes_lose_one_and_then_the_head(tmp_path: Path) -> None:
    """The run goes on without the node; without its head it ends, and is resumed on another cluster."""
    assert PYTHON.exists(), "make peers installs .venv-peers/ray"
    folder = make(tmp_path / "p", wide(24, 0.5))

    with cluster(nodes=2, cpus=1) as two:
        settings = {"RAY_ADDRESS": two.address, **two.variables}
        with begin(folder, "run", "--executor", "ray", **settings) as driver:
            until(lambda: ended(folder) >= 3 or driver.poll() is not None)
            hosts = {each: psutil.Process(each.pid).children(recursive=True) for each in two.nodes}
            at_work = [any("noria.faces.step" in one.cmdline() for one in family) for family in hosts.values()]
            assert at_work == [True, True], "both nodes run steps"
            end(two.nodes[1].pid)
            reached = ended(folder)
            until(lambda: ended(folder) >= reached + 4 or driver.poll() is not None, "the other node goes on")
            assert driver.poll() is None, driver.communicate()
            end(two.nodes[0].pid)
            out, err = driver.communicate(timeout=LIMIT_S)
        assert driver.returncode == 3, out + err
        assert "is not reached" in out + err
    done = ended(folder)
    with cluster() as another:
        run(folder, "--executor", "ray", "--resume", RAY_ADDRESS=another.address, **another.variables)
    require_once(folder, 24)
    assert done >= 7


TRAINING = """
import numpy as np

@nr.step
def train(passes: int = 12) -> dict:
    weights, chance = np.zeros(4), np.random.default_rng(3)
    for number in nr.checkpointed(range(passes), weights, chance):
        mark(f"pass{number}", keep=KEEP)
        weights += chance.normal(size=4)
    return {"weights": weights.tolist()}

@nr.pipeline
def flow():
    train()
"""


def test_a_preempted_training_goes_on_elsewhere_to_the_same_result(one: Cluster, tmp_path: Path) -> None:
    settings = {"RAY_ADDRESS": one.address, **one.variables}
    plain = make(tmp_path / "plain", TRAINING.replace("KEEP", "0.0"))
    run(plain, "--executor", "pool")
    folder = make(tmp_path / "p", TRAINING.replace("KEEP", "0.4"))
    with begin(folder, "run", "--executor", "ray", **settings) as driver:
        until(lambda: "end pass3" in marks(folder))
        driver.send_signal(signal.SIGTERM)
        out, err = driver.communicate(timeout=LIMIT_S)
    assert driver.returncode == 3, out + err
    run(folder, "--executor", "ray", "--resume", **settings)
    assert Counter(line for line in marks(folder) if line.startswith("end")) == {f"end pass{n}": 1 for n in range(12)}
    assert outputs(folder) == outputs(plain)
