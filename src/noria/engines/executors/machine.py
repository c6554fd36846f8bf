"""What this machine lends to steps: its cores, memory and devices, as far as this process may use them.

`NORIA_CPUS`, `NORIA_MEMORY` and `NORIA_GPUS` lend less, or more; 0 devices hides those there are.
Source: sched_getaffinity(2); cgroups(7), version 2: cpu.max, memory.max; proc(5): MemTotal.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from noria.core.errors import UsageError
from noria.core.size import size_bytes
from noria.pipeline.room import Capacity

__all__ = ["capacity", "devices", "memory_kills"]

_GROUP = Path("/sys/fs/cgroup")


def capacity(*, slots: int = 0, keeps_limits: bool) -> Capacity:
    """The whole machine, or the part that was set; `slots` tasks at once, by default one for each core."""
    cores = _number("NORIA_CPUS") or _cores()
    return Capacity(
        cpu=cores,
        memory_bytes=_bytes("NORIA_MEMORY") or _memory(),
        gpu=float(len(devices())),
        slots=slots or max(1, math.ceil(cores)),
        keeps_limits=keeps_limits,
    )


def devices() -> list[str]:
    """The devices that may be given to steps, by the names that CUDA_VISIBLE_DEVICES takes."""
    stated = os.environ.get("NORIA_GPUS")
    if stated is not None:
        return (
            [name for name in stated.split(",") if name] if not stated.isdigit() else list(map(str, range(int(stated))))
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name and name != "-1"]
    return sorted(
        found[1] for path in Path("/dev").glob("nvidia*") if (found := re.fullmatch(r"nvidia(\d+)", path.name))
    )


def memory_kills() -> int:
    """How many processes the kernel has ended for want of memory, here since it started; 0 if it does not tell.

    Source: Linux, mm/oom_kill.c, count_vm_event(OOM_KILL), in /proc/vmstat since 4.13; of a control group too.
    """
    try:
        text = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)


def _cores() -> float:
    cores = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(os.cpu_count() or 1)
    try:
        quota, period = (_GROUP / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else min(cores, int(quota) / int(period))


def _memory() -> int:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0
    total = int(next(line for line in text.splitlines() if line.startswith("MemTotal:")).split()[1]) * 1024
    try:
        limit = (_GROUP / "memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return total if limit == "max" else min(total, int(limit))


def _number(variable: str) -> float:
    text = os.environ.get(variable, "")
    try:
        found = float(text or 0)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise UsageError(f"{variable}={text} is not a number of cores", hint=f"{variable}=2, or leave it out")
    return found


def _bytes(variable: str) -> int:
    try:
        return size_bytes(os.environ.get(variable) or "0")
    except ValueError as error:
        raise UsageError(f"{variable}: {error}", hint=f"{variable}=2GiB, or leave it out") from error
