"""The machine of a run and how its process was set up: what an equal environment may still differ in.

Processor and its vector instructions, graphics driver, operating system; time zone, locale, seed of
hashes, and the variables that numeric libraries take their threads and kernels from. Not part of the
environment's lock, since a bundle is the same on every machine: a document of its own.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.core.frozen import frozen
from noria.core.identity import JSON

__all__ = ["VARIABLES", "Host", "from_document", "host"]

_FORMAT = "host/1"
VARIABLES = (
    *("OMP_NUM_THREADS", "OMP_SCHEDULE", "OMP_DYNAMIC", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE"),
    *("MKL_NUM_THREADS", "MKL_CBWR", "MKL_DYNAMIC", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    *("NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"),
    *("NPY_DISABLE_CPU_FEATURES", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "TF_DETERMINISTIC_OPS"),
)
"""Variables that change numbers without being named in anybody's code: threads, kernels, devices."""
_FLAGS = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni")
_ARM_FLAGS = ("asimd", "sve", "sve2", "fphp", "asimdhp", "asimddp")


@frozen(kw_only=True)
class Host:
    """`cores` are those that this process may use; `flags` the vector instructions that libraries choose by.

    `gpus` are models, `gpu_driver` its version, both empty where there is none. `hash_seed` is the value of
    PYTHONHASHSEED or "random"; `timezone` a zone's name or the TZ variable; `variables` are of `VARIABLES`,
    those that are set.
    """

    system: str
    kernel: str
    cpu: str
    cores: int
    memory_bytes: int
    flags: tuple[str, ...]
    gpus: tuple[str, ...]
    gpu_driver: str
    timezone: str
    locale: str
    encoding: str
    hash_seed: str
    variables: Mapping[str, str]

    def document(self) -> dict[str, JSON]:
        """As JSON: what is stored and named by each run."""
        found: dict[str, JSON] = {"format": _FORMAT, **dataclasses.asdict(self)}
        return found | {"flags": list(self.flags), "gpus": list(self.gpus), "variables": dict(self.variables)}


def from_document(document: Mapping[str, Any]) -> Host:
    """The host of a stored document; what an older format lacks is empty."""
    empty = dataclasses.asdict(_EMPTY)
    known = {name: document.get(name, value) for name, value in empty.items()}
    known |= {"flags": tuple(known["flags"]), "gpus": tuple(known["gpus"]), "variables": dict(known["variables"])}
    return Host(**known)


def host() -> Host:
    """This machine and this process, now."""
    model, flags = _cpu()
    gpus, driver = _gpu()
    return Host(
        system=_system(),
        kernel=f"{platform.system()} {platform.release()}",
        cpu=model,
        cores=_cores(),
        memory_bytes=_memory_bytes(),
        flags=flags,
        gpus=gpus,
        gpu_driver=driver,
        timezone=_timezone(),
        locale=_locale(),
        encoding=f"{sys.getfilesystemencoding()} {'utf8 mode' if sys.flags.utf8_mode else ''}".strip(),
        hash_seed=os.environ.get("PYTHONHASHSEED") or "random",
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
    )


_EMPTY = Host(
    system="",
    kernel="",
    cpu="",
    cores=0,
    memory_bytes=0,
    flags=(),
    gpus=(),
    gpu_driver="",
    timezone="",
    locale="",
    encoding="",
    hash_seed="",
    variables={},
)


def _system() -> str:
    """The distribution's own name for itself, or the system's."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "") or platform.platform()
    except OSError:
        return platform.platform()


def _cpu() -> tuple[str, tuple[str, ...]]:
    """The processor's name and the vector instructions that numeric libraries choose their kernels by.

    Source: proc(5), /proc/cpuinfo: `model name` and `flags` (x86), `Features` (ARM).
    """
    fields: dict[str, str] = {}
    for line in _text("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if not line.strip() and fields:
            break  # the first processor says it for all
        fields[name.strip().lower()] = value.strip()
    known = set((fields.get("flags") or fields.get("features") or "").split())
    model = fields.get("model name") or fields.get("hardware") or platform.processor() or platform.machine()
    return model, tuple(flag for flag in (*_FLAGS, *_ARM_FLAGS) if flag in known)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0  # a system that does not say


def _gpu() -> tuple[tuple[str, ...], str]:
    """Graphics processors and the driver's version, as the kernel modules say; no process is started."""
    models = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        told = [line.partition(":")[2].strip() for line in _text(path).splitlines() if line.startswith("Model")]
        models += told
    line = (_text("/proc/driver/nvidia/version").splitlines() or [""])[0]
    driver = next((word for word in line.split() if word[:1].isdigit() and "." in word), "")
    return tuple(models), f"nvidia {driver}" if driver else _text("/sys/module/amdgpu/version").strip()


def _timezone() -> str:
    if os.environ.get("TZ"):
        return os.environ["TZ"]
    try:
        _, found, zone = str(Path("/etc/localtime").readlink()).partition("zoneinfo/")
    except OSError:
        found = zone = ""
    return zone if found else "/".join(time.tzname)


def _locale() -> str:
    """What programs take the locale from, in order of precedence. Source: locale(7)."""
    for name in ("LC_ALL", "LANG"):
        if os.environ.get(name):
            return os.environ[name]
    return "C"


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # no such device here
