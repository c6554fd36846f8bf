"""Trainings with PyTorch as steps: preempted and taken up to the same weights, and with two workers as with one.

PyTorch is in an environment of its own, in which Noria's source runs too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from steps_project import make, marks, seen, until

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-peers/torch/bin/python"
pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(
        not PYTHON.exists() and not os.environ.get("UV_FIND_LINKS") and not os.environ.get("PIP_FIND_LINKS"),
        reason="PyTorch for CPUs is on no index: UV_FIND_LINKS=LIST make peers, with PyTorch's own list of wheels",
    ),
]
LIMIT_S = 300.0
PASSES = 12
TRAINING = f"""
import numpy as np
import torch

def rows() -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(5)
    x = torch.randn(64, 3, generator=chance)
    return x, (x @ torch.tensor([[1.0], [-2.0], [0.5]])).relu() + 0.1 * torch.randn(64, 1, generator=chance)

def network() -> torch.nn.Module:
    torch.manual_seed(nr.seed())
    torch.set_num_threads(1)
    parts = torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)
    return torch.nn.Sequential(*parts)

def kept(net: torch.nn.Module) -> list[np.ndarray]:
    return [each.detach().numpy().copy() for each in net.parameters()]

@nr.step
def train(passes: int = {PASSES}) -> list:
    x, y = rows()
    net = network()
    steps = torch.optim.Adam(net.parameters(), lr=0.05)
    slower = torch.optim.lr_scheduler.StepLR(steps, step_size=4)
    for number in nr.checkpointed(range(passes), net, steps, slower):
        mark(f"pass{{number}}", keep=KEEP)
        for part in range(0, 64, 16):
            steps.zero_grad()
            torch.nn.functional.mse_loss(net(x[part:part + 16]), y[part:part + 16]).backward()
            steps.step()
        slower.step()
    return kept(net)

@nr.pipeline
def flow():
    train()
"""

TEAM = """
import contextlib, multiprocessing, tempfile
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

ROWS = 64

def rows(rank: int, world: int) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(5)
    x = torch.randn(ROWS, 3, generator=chance)
    y = (x @ torch.tensor([[1.0], [-2.0], [0.5]])).relu() + 0.1 * torch.randn(ROWS, 1, generator=chance)
    return x[rank::world], y[rank::world]

def begun(seed: int):
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    return net, torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

def one_pass(net, steps, rank: int, world: int) -> None:
    x, y = rows(rank, world)
    steps.zero_grad()
    (torch.nn.functional.mse_loss(net(x), y, reduction="sum") / ROWS).backward()
    if world > 1:
        for each in net.parameters():
            dist.all_reduce(each.grad)
    steps.step()

def join(meet: str, rank: int, world: int) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{meet}", rank=rank, world_size=world, timeout=timedelta(seconds=120)
    )

def follow(meet: str, rank: int, world: int, seed: int) -> None:
    join(meet, rank, world)
    net, steps = begun(seed)
    while True:
        told = [None]
        dist.broadcast_object_list(told, src=0)
        if told[0] is None:
            return
        net.load_state_dict(told[0][0])
        steps.load_state_dict(told[0][1])
        one_pass(net, steps, rank, world)

@contextlib.contextmanager
def team(world: int, seed: int):
    if world == 1:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        meet = f"{folder}/meet"
        others = [
            multiprocessing.get_context("fork").Process(target=follow, args=(meet, rank, world, seed), daemon=True)
            for rank in range(1, world)
        ]
        for each in others:
            each.start()
            note(f"pid {each.pid}")
        join(meet, 0, world)
        yield
        dist.broadcast_object_list([None], src=0)

@nr.step(retries=1, retry_wait="0s", isolated=True)
def train(world: int = 2, passes: int = 12) -> list:
    net, steps = begun(nr.seed())
    with team(world, nr.seed()):
        for number in nr.checkpointed(range(passes), net, steps, every="0s"):
            if world > 1:
                dist.broadcast_object_list([(net.state_dict(), steps.state_dict())], src=0)
            one_pass(net, steps, 0, world)
            mark(f"pass{number}", keep=KEEP)
    return [each.detach().numpy().copy() for each in net.parameters()]

@nr.pipeline
def flow():
    train()
"""

SPAWNED = """
import tempfile

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel

ROWS = 64

def worker(rank: int, world: int, folder: str, passes: int) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    note(f"pid {rank} {os.getpid()}")
    torch.manual_seed(nr.seed())
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    chance = torch.Generator().manual_seed(5)
    x = torch.randn(ROWS, 3, generator=chance)
    y = (x @ torch.tensor([[1.0], [-2.0], [0.5]])).relu() + 0.1 * torch.randn(ROWS, 1, generator=chance)
    x, y = x[rank::world], y[rank::world]
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    ddp = DistributedDataParallel(net)
    steps = torch.optim.SGD(ddp.parameters(), lr=0.05, momentum=0.9)
    for number in nr.checkpointed(range(passes), net, steps, every="0s"):
        steps.zero_grad()
        torch.nn.functional.mse_loss(ddp(x), y).backward()
        steps.step()
        note(f"pass {number} of {rank}")
        time.sleep(KEEP)
    if rank == 0:
        torch.save(net.state_dict(), f"{folder}/net.pt")
    dist.destroy_process_group()

@nr.step(isolated=True)
def train(world: int = 2, passes: int = 12) -> list:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(worker, (world, folder, passes), nprocs=world)
        return [each.numpy() for each in torch.load(f"{folder}/net.pt").values()]

@nr.pipeline
def flow():
    train()
"""


def begin(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A command in the environment that has PyTorch."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")}
    return subprocess.Popen(
        [str(PYTHON), "-m", "noria", *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT / "src"), "MARKS": str(seen(folder))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *words: str) -> list[np.ndarray]:
    """`noria run` on the pool: the weights that it gave."""
    with begin(folder, "run", "--executor", "pool", *words) as process:
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, out + err
    return given(folder)


def given(folder: Path) -> list[np.ndarray]:
    """The weights that the newest run's step gave."""
    read = (
        "import json, sys; from noria.bootstrap import open_workspace; from noria.pipeline import records\n"
        "from noria.pipeline.outputs import values\n"
        "from noria.tracking import records as runs\n"
        "ws = open_workspace()\n"
        "with ws.ledger.read() as tx:\n    (step,) = records.steps(tx, sys.argv[1])\n"
        "out = step.outputs[0]\n"
        "found = values.load(ws, values.Value(out.digest, out.type, out.size_bytes))\n"
        "print(json.dumps([[each.shape, each.ravel().tolist()] for each in found]))\n"
    )
    with begin(folder, "runs", "--json") as process:
        newest = json.loads(process.communicate(timeout=LIMIT_S)[0])[0]["run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    told = subprocess.run(
        [str(PYTHON), "-c", read, newest], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return [np.array(numbers, "float32").reshape(shape) for shape, numbers in json.loads(told.stdout)]


def test_a_preempted_training_is_taken_up_to_the_same_weights(tmp_path: Path) -> None:
    assert PYTHON.exists(), "make peers installs .venv-peers/torch"
    undisturbed = run(make(tmp_path / "plain", TRAINING.replace("KEEP", "0.0")))
    folder = make(tmp_path / "p", TRAINING.replace("KEEP", "0.3"))
    for reached in (2, 7):
        words = ("run", "--executor", "pool", *(["--resume"] if reached > 2 else []))
        with begin(folder, *words) as driver:
            until(lambda reached=reached: f"begin pass{reached}" in marks(folder) or driver.poll() is not None)
            driver.send_signal(signal.SIGTERM)
            out, err = driver.communicate(timeout=LIMIT_S)
        assert driver.returncode == 3, out + err
    again = run(folder, "--resume")
    assert len({line for line in Counter(marks(folder)) if line.startswith("begin")}) == PASSES
    assert set(Counter(marks(folder)).values()) == {1}, "no pass is made twice"
    assert [each.tobytes() for each in again] == [each.tobytes() for each in undisturbed]


def test_two_workers_train_as_one_and_one_of_them_is_killed(tmp_path: Path) -> None:
    assert PYTHON.exists(), "make peers installs .venv-peers/torch"
    alone = run(make(tmp_path / "alone", TEAM.replace("KEEP", "0.0")), "--param", "train.world=1")
    two = run(make(tmp_path / "two", TEAM.replace("KEEP", "0.0")))
    for one, other in zip(alone, two, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    folder = make(tmp_path / "p", TEAM.replace("KEEP", "0.3"))
    with begin(folder, "run", "--executor", "pool") as driver:
        until(lambda: "end pass3" in marks(folder) or driver.poll() is not None)
        (follower,) = [int(line.split()[1]) for line in marks(folder) if line.startswith("pid")]
        os.kill(follower, signal.SIGKILL)
        out, err = driver.communicate(timeout=LIMIT_S)
    assert driver.returncode == 0, out + err
    said = marks(folder)
    assert len([line for line in said if line.startswith("pid")]) == 2, "another worker has come in its place"
    assert Counter(line for line in said if line.startswith("end")) == {f"end pass{n}": 1 for n in range(PASSES)}
    assert [each.tobytes() for each in given(folder)] == [each.tobytes() for each in two]


@pytest.mark.parametrize("rank", [0, 1])
def test_spawned_workers_go_on_from_one_checkpoint_whichever_was_killed(tmp_path: Path, rank: int) -> None:
    assert PYTHON.exists(), "make peers installs .venv-peers/torch"
    alone = run(make(tmp_path / "alone", SPAWNED.replace("KEEP", "0")), "--param", "train.world=1")
    two = run(make(tmp_path / "two", SPAWNED.replace("KEEP", "0")))
    for one, other in zip(alone, two, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    folder = make(tmp_path / "p", SPAWNED.replace("KEEP", "0.3"))
    with begin(folder, "run", "--executor", "pool") as driver:
        until(lambda: f"pass 4 of {rank}" in marks(folder) or driver.poll() is not None)
        (pid,) = [int(line.split()[2]) for line in marks(folder) if line.startswith(f"pid {rank} ")]
        os.kill(pid, signal.SIGKILL)
        out, err = driver.communicate(timeout=LIMIT_S)
    assert driver.returncode == 4, out + err
    assert f"process {rank} terminated with signal SIGKILL" in err
    before = len(marks(folder))
    again = run(folder, "--resume")
    passes = [line for line in marks(folder)[before:] if line.startswith("pass")]
    assert not {f"pass {number} of {each}" for number in range(3) for each in range(2)} & set(passes)
    assert {f"pass {PASSES - 1} of {each}" for each in range(2)} <= set(passes)
    assert [each.tobytes() for each in again] == [each.tobytes() for each in two]


TENSORS = """
import torch
from collections import OrderedDict
from noria.pipeline.outputs import values
from noria.testing.workspace import open_memory

ws = open_memory()
net = torch.nn.BatchNorm1d(3)
for each in (
    torch.tensor(3.5), torch.arange(6).reshape(2, 3).t(), torch.ones(2, dtype=torch.bool), torch.zeros(0, 4),
    torch.tensor([1 + 2j]).conj(), torch.tensor([float("nan"), -0.0], dtype=torch.float64), torch.ones(2).half(),
):
    stored = values.store(ws.objects, each)
    again = values.read(ws.objects, stored, ws.project.root)
    assert (again.dtype, again.shape) == (each.dtype, each.shape), each
    assert torch.equal(torch.nan_to_num(again), torch.nan_to_num(each.resolve_conj())), each
    assert values.store(ws.objects, each.clone()) == stored
again = values.read(ws.objects, values.store(ws.objects, net.state_dict()), ws.project.root)
assert type(again) is OrderedDict and list(again) == list(net.state_dict())
net.load_state_dict(again)
for each, hint in (
    (torch.nn.Parameter(torch.ones(2)), "tensor.detach()"), (torch.ones(2).to_sparse(), "tensor.detach()"),
    (torch.ones(2, requires_grad=True), "tensor.detach()"), (torch.ones(2).bfloat16(), "tensor.float()"),
):
    try:
        values.store(ws.objects, each)
    except values.Unstorable as error:
        assert hint in error.hint, error.hint
    else:
        raise AssertionError(each)
"""


def test_tensors_are_kept_as_they_are_or_refused_by_name(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)}
    done = subprocess.run([str(PYTHON), "-c", TENSORS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
