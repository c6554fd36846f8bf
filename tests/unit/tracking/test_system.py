"""What a run takes of its machine: read from /proc as the kernel writes it, and checked against another reader."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from noria.config import Project
from noria.experiments import records, search
from noria.experiments.curves import curves_of, names_of
from noria.testing import open_memory
from noria.tracking import run as tracking
from noria.tracking import system
from noria.tracking.system import Sampler, used_of_gpus

STAT = "cpu  {busy} 0 0 {idle} 50 0 0 0 0 0\ncpu0 1 1 1 1\n"
MEMORY = "MemTotal:  1000000 kB\nMemFree: 1 kB\nMemAvailable:  250000 kB\n"
NETWORK = (
    "Inter-|   Receive                            |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n"
    "    lo: 9999999 1 0 0 0 0 0 0 9999999 1 0 0 0 0 0 0\n"
    "  eth0:{received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n"
)


def write(proc: Path, pid: int, parent: int, *, ticks: int, pages: int, read: int, name: str = "python") -> None:
    """A process as proc(5) shows it: user, system, and those of children that were waited for are `ticks` together."""
    words = ["S", str(parent), *["0"] * 9, str(ticks - 3), "1", "1", "1", *["0"] * 6, str(pages), "0"]
    folder = proc / str(pid)
    folder.mkdir(exist_ok=True)
    (folder / "stat").write_text(f"{pid} ({name}) {' '.join(words)}\n")
    (folder / "io").write_text(f"rchar: 1\nread_bytes: {read}\nwrite_bytes: {2 * read}\n")


def machine(proc: Path, *, busy: int, idle: int, received: int) -> None:
    """The machine's own files."""
    (proc / "net").mkdir(exist_ok=True)
    (proc / "stat").write_text(STAT.format(busy=busy, idle=idle))
    (proc / "meminfo").write_text(MEMORY)
    (proc / "net" / "dev").write_text(NETWORK.format(received=received, sent=2 * received))


def test_a_sample_counts_the_process_and_all_below_it_and_nobody_else(tmp_path: Path) -> None:
    machine(tmp_path, busy=100, idle=100, received=1_000_000)
    for pid, parent, name in ((10, 1, "python"), (11, 10, "a (b) c"), (12, 11, "x"), (13, 1, "other")):
        write(tmp_path, pid, parent, ticks=100, pages=1000, read=1_000_000, name=name)
    sampler = Sampler(tmp_path, proc=tmp_path, pid=10)
    machine(tmp_path, busy=130, idle=170, received=4_000_000)
    for pid, parent in ((10, 1), (11, 10), (12, 11), (13, 1)):
        write(tmp_path, pid, parent, ticks=200, pages=2000, read=3_000_000)
    found = sampler.sample()
    page = os.sysconf("SC_PAGE_SIZE")
    assert found["system/cpu_utilization_percentage"] == pytest.approx(30.0)
    assert found["system/system_memory_usage_percentage"] == pytest.approx(75.0)
    assert found["system/system_memory_usage_megabytes"] == pytest.approx(768.0)
    assert found["system/network_receive_megabytes"] == pytest.approx(3.0)
    assert found["system/network_transmit_megabytes"] == pytest.approx(6.0)
    assert found["system/process_count"] == 3
    assert found["system/process_memory_megabytes"] == pytest.approx(3 * 2000 * page / 1e6, abs=1e-3)
    assert found["system/disk_read_megabytes"] == pytest.approx(6.0)
    assert found["system/disk_write_megabytes"] == pytest.approx(12.0)
    assert found["system/process_cpu_percentage"] > 0
    assert all(name.startswith("system/") for name in found)


def test_memory_and_processes_are_those_that_psutil_counts() -> None:
    held = "import sys; x = bytearray(40_000_000); sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.read(1) == b"."
        sampler = Sampler(Path("/"))
        found = sampler.sample()
        own = psutil.Process()
        expected = sum(each.memory_info().rss for each in (own, *own.children(recursive=True)))
        assert found["system/process_memory_megabytes"] == pytest.approx(expected / 1e6, rel=0.05)
        assert found["system/process_count"] >= 2
        assert found["system/system_memory_usage_percentage"] == pytest.approx(psutil.virtual_memory().percent, abs=5)
    finally:
        child.communicate()


def test_a_system_without_proc_tells_what_the_interpreter_knows(tmp_path: Path) -> None:
    found = Sampler(tmp_path, proc=tmp_path / "none").sample()
    assert set(found) == {
        "system/process_cpu_percentage",
        "system/disk_usage_percentage",
        "system/disk_usage_megabytes",
        "system/disk_available_megabytes",
    }


def test_graphics_processors_are_told_by_nvidia_smi_and_what_a_device_does_not_know_is_left_out() -> None:
    told = "0, 40, 1000, 4000, 75.5, 150.00\n1, [N/A], 2000, 8000, [Not Supported], 0\nnonsense\n"
    assert used_of_gpus(told) == pytest.approx(
        {
            "gpu_0_utilization_percentage": 40.0,
            "gpu_0_memory_usage_megabytes": 1048.576,
            "gpu_0_memory_usage_percentage": 25.0,
            "gpu_0_power_usage_watts": 75.5,
            "gpu_0_power_usage_percentage": 75.5 / 150 * 100,
            "gpu_1_memory_usage_megabytes": 2097.152,
            "gpu_1_memory_usage_percentage": 25.0,
        }
    )


def test_a_tool_that_fails_is_told_once_and_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = tmp_path / "asked"
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho x >> {asked}\nexit 9\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    sampler = Sampler(tmp_path)
    with caplog.at_level(logging.WARNING, logger="noria.system"):
        for _ in range(3):
            assert not any("gpu" in name for name in sampler.sample())
    assert asked.read_text() == "x\n"
    assert len(caplog.records) == 1


def test_a_run_that_is_watched_has_the_metrics_of_its_machine_and_they_are_no_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled = threading.Event()

    class Told(Sampler):
        def sample(self) -> dict[str, float]:
            if self.samples:
                sampled.set()  # the one before is written by now
            self.samples += 1
            return super().sample()

        samples = 0

    monkeypatch.setattr(tracking, "Sampler", Told)
    monkeypatch.setattr(tracking, "FIRST_S", 0.01)
    monkeypatch.setattr(tracking, "EVERY_S", 0.01)
    ws = open_memory(Project(name="test"), root=tmp_path)
    with tracking.start(ws, "p") as handle:
        handle.watch()
        handle.log(loss=0.5)
        assert sampled.wait(20)
        assert "system/process_count" in names_of(ws, handle.run), "while it goes on"
    (drawn,) = curves_of(ws, handle.run, ["system/process_count"], 100)
    assert drawn.total >= 1
    assert drawn.curve.steps.tolist() == list(range(drawn.total))
    with ws.ledger.read() as tx:
        assert "system/process_count" in {each.key for each in records.metrics(tx, [handle.run])[handle.run]}
    assert tracking.resolve(ws, handle.run).metrics == {"loss": 0.5}
    assert search.search_runs(ws)[0].metrics == {"loss": 0.5}
    assert not system.is_system("systems/x")
    ws.ledger.database.close()
