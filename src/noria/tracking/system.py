"""What a run takes of its machine while it goes on: processor, memory, disk, network, graphics processors.

Read from /proc and from `nvidia-smi`, so nothing has to be installed; where the system has no /proc, the
interpreter's own clocks and the disk are what is left. A sample is a mapping of names to numbers, with the names
that MLflow's clients give system metrics; those of the run's own processes are Noria's. Nothing here writes.

Source of the names: mlflow/system_metrics of MLflow 3.17. Of the numbers: proc(5), getrusage(2), statvfs(3).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import logging
    import shutil
    import subprocess
else:
    logging = lazy("logging")
    subprocess = lazy("subprocess")
    shutil = lazy("shutil")

__all__ = ["EVERY_S", "FIRST_S", "PREFIX", "PROCESS", "Sampler", "is_system", "used_of_gpus"]

PREFIX = "system/"
PROCESS = f"{PREFIX}process_"
"""What the names of metrics of the run's own processes begin with."""
FIRST_S = 1.0
EVERY_S = 10.0
"""When the first sample of a run is taken, and how far apart the others are."""
GPU_TIMEOUT_S = 5.0
_MEGABYTE = 1e6
_GPU_FIELDS = "index,utilization.gpu,memory.used,memory.total,power.draw,enforced.power.limit"
_MEBIBYTE = 1 << 20
"""The unit of memory that nvidia-smi tells."""


def is_system(name: str) -> bool:
    """Whether a metric is one of the machine's, not of what was trained."""
    return name.startswith(PREFIX)


@frozen
class _Tree:
    """What a process and all that it started have used up to now; memory is what they hold."""

    ticks: int
    memory_bytes: int
    processes: int
    read_bytes: int
    written_bytes: int


class Sampler:
    """Samples a process, with all that it started, and its machine. To be asked from one thread.

    What counts since the beginning (disk, network) does so from when this was made; shares of the processor are
    those since the sample before.
    """

    def __init__(self, folder: Path, *, proc: Path = Path("/proc"), pid: int = 0) -> None:
        self._folder = folder
        self._proc = proc
        self._pid = pid or os.getpid()
        self._ticks_s = float(os.sysconf("SC_CLK_TCK"))
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._gpus = shutil.which("nvidia-smi") or ""
        self._at = time.monotonic()
        self._machine = self._processor()
        self._network = self._sent()
        self._tree = self._first = self._used()
        self._own_s = sum(os.times()[:4])

    def sample(self) -> dict[str, float]:
        """The metrics of now by name, each with the prefix `system/`. What the machine does not tell is left out."""
        found = {**self._of_processor(), **self._of_memory(), **self._of_disk(), **self._of_network(), **self._of_run()}
        if self._gpus:
            found |= self._of_gpus()
        return {f"{PREFIX}{name}": round(value, 3) for name, value in found.items()}

    def _of_processor(self) -> dict[str, float]:
        before, self._machine = self._machine, self._processor()
        busy, whole = self._machine[0] - before[0], self._machine[1] - before[1]
        return {"cpu_utilization_percentage": 100 * busy / whole} if whole > 0 else {}

    def _processor(self) -> tuple[int, int]:
        """(busy, all) ticks of all cores since the machine began; waiting for a disk is not busy."""
        words = self._text("stat").partition("\n")[0].split()[1:9]
        ticks = [int(word) for word in words]
        return (sum(ticks) - sum(ticks[3:5]), sum(ticks)) if ticks else (0, 0)

    def _of_memory(self) -> dict[str, float]:
        told = dict(line.partition(":")[::2] for line in self._text("meminfo").splitlines())
        if "MemTotal" not in told or "MemAvailable" not in told:
            return {}
        whole, free = (int(told[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        return {
            "system_memory_usage_megabytes": (whole - free) / _MEGABYTE,
            "system_memory_usage_percentage": 100 * (whole - free) / whole,
        }

    def _of_disk(self) -> dict[str, float]:
        """Of the file system that the project lies on."""
        found = shutil.disk_usage(self._folder)
        return {
            "disk_usage_percentage": 100 * found.used / (found.used + found.free),
            "disk_usage_megabytes": found.used / _MEGABYTE,
            "disk_available_megabytes": found.free / _MEGABYTE,
        }

    def _of_network(self) -> dict[str, float]:
        now = self._sent()
        if now is None or self._network is None:
            return {}
        return {
            "network_receive_megabytes": (now[0] - self._network[0]) / _MEGABYTE,
            "network_transmit_megabytes": (now[1] - self._network[1]) / _MEGABYTE,
        }

    def _sent(self) -> tuple[int, int] | None:
        """Bytes that came in and went out over all interfaces but the loopback; None where that is not told."""
        lines = [line.partition(":") for line in self._text("net/dev").splitlines() if ":" in line]
        found = [words.split() for name, _, words in lines if name.strip() != "lo"]
        return (sum(int(each[0]) for each in found), sum(int(each[8]) for each in found)) if lines else None

    def _of_run(self) -> dict[str, float]:
        """Of the run's own processes: 100 % is one core."""
        now, moment = self._used(), time.monotonic()
        elapsed, self._at = max(1e-9, moment - self._at), moment
        if now is None or self._tree is None or self._first is None:
            own_s = sum(os.times()[:4])
            before_s, self._own_s = self._own_s, own_s
            return {"process_cpu_percentage": 100 * (own_s - before_s) / elapsed}
        before, self._tree = self._tree, now
        return {
            # What a process leaves behind that nobody waited for is gone from the sum.
            "process_cpu_percentage": max(0.0, 100 * (now.ticks - before.ticks) / self._ticks_s / elapsed),
            "process_memory_megabytes": now.memory_bytes / _MEGABYTE,
            "process_count": float(now.processes),
            "disk_read_megabytes": max(0, now.read_bytes - self._first.read_bytes) / _MEGABYTE,
            "disk_write_megabytes": max(0, now.written_bytes - self._first.written_bytes) / _MEGABYTE,
        }

    def _used(self) -> _Tree | None:
        """The process and its descendants. What ended and was waited for is told by who waited, so nothing is lost."""
        parents: dict[int, int] = {}
        told: dict[int, list[str]] = {}
        for each in self._proc.iterdir() if (self._proc / "stat").is_file() else ():
            if each.name.isdigit():
                # The name of a process may hold blanks and brackets; what follows the last one does not.
                words = self._text(f"{each.name}/stat").rpartition(")")[2].split()
                if len(words) > 21:
                    parents[int(each.name)], told[int(each.name)] = int(words[1]), words
        if self._pid not in told:
            return None
        own = _descendants(self._pid, parents)
        disk = [self._disk_of(pid) for pid in own]
        return _Tree(
            ticks=sum(int(word) for pid in own for word in told[pid][11:15]),
            memory_bytes=sum(int(told[pid][21]) for pid in own) * self._page_bytes,
            processes=len(own),
            read_bytes=sum(each[0] for each in disk),
            written_bytes=sum(each[1] for each in disk),
        )

    def _disk_of(self, pid: int) -> tuple[int, int]:
        lines = (line.partition(":") for line in self._text(f"{pid}/io").splitlines())
        found = {name: int(value) for name, _, value in lines}
        return found.get("read_bytes", 0), found.get("write_bytes", 0)

    def _of_gpus(self) -> dict[str, float]:
        try:
            asked = subprocess.run(
                [self._gpus, f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=GPU_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            logging.getLogger("noria.system").warning(
                "nvidia-smi does not answer, so the run has no metrics of graphics processors: %s", error
            )
            self._gpus = ""
            return {}
        return used_of_gpus(asked.stdout)

    def _text(self, name: str) -> str:
        try:
            return (self._proc / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""  # the process is gone, it is another user's, or this system does not tell


def _descendants(root: int, parents: Mapping[int, int]) -> list[int]:
    """A process and all below it, by who started whom."""
    below: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        below.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found += below.get(pid, ())
    return found


def used_of_gpus(text: str) -> dict[str, float]:
    """What nvidia-smi tells of each device as metrics; a field that a device does not know is left out."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) != len(_GPU_FIELDS.split(",")):
            continue
        used, memory, whole, watts, most = (_number(word) for word in words[1:])
        values = {
            "utilization_percentage": used,
            "memory_usage_megabytes": None if memory is None else memory * _MEBIBYTE / _MEGABYTE,
            "memory_usage_percentage": None if memory is None or not whole else 100 * memory / whole,
            "power_usage_watts": watts,
            "power_usage_percentage": None if watts is None or not most else 100 * watts / most,
        }
        found |= {f"gpu_{words[0]}_{name}": value for name, value in values.items() if value is not None}
    return found


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None  # "[N/A]", "[Not Supported]"
