"""`noria env`: what a run ran in, how that differs from another run or from here, and the same environment anew.

An environment is a lock (Python and every distribution, with its content) and a host (machine, driver,
time zone, threads). Only the lock can be rebuilt; of the host a difference can only be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.identity import canonical, digest, short
from noria.core.verb import verb
from noria.project import rebuild as rebuilding
from noria.project.named_run import named_run
from noria.project.rebuild import Rebuilt
from noria.store.workspace import Workspace
from noria.tracking import environment as locks
from noria.tracking import host as hosts

__all__ = ["EnvironmentDiff", "EnvironmentLine", "EnvironmentView", "Package", "differences"]

HERE = "here"
_HOST_NAMES = {"memory_bytes": "memory in bytes", "gpu_driver": "GPU driver", "gpus": "GPUs", "hash_seed": "hash seed"}


@frozen(kw_only=True)
class Package:
    """One distribution: its version, the digest of its files ("" if nobody keeps one), where it came from."""

    name: str
    version: str
    record: str = ""
    origin: str = ""


@frozen(kw_only=True)
class EnvironmentView:
    """An environment: of a run, or the present one (`ref` is then "here").

    `lock` and `host_digest` name the objects; `differences` counts what is not so here.
    """

    ref: str
    lock: str
    host_digest: str
    python: str
    implementation: str
    machine: str
    abi: str
    libc: str
    host: Mapping[str, Any]
    packages: tuple[Package, ...]
    differences: int
    next: str


@frozen(kw_only=True)
class EnvironmentLine:
    """One thing that is not the same: `section` is python, package, content or host; empty where it is absent."""

    section: str
    name: str
    a: str
    b: str


@frozen(kw_only=True)
class EnvironmentDiff:
    """What differs between two environments; `is_same_lock` if Python and every package are equal."""

    a: str
    b: str
    is_same: bool
    is_same_lock: bool
    lines: tuple[EnvironmentLine, ...]
    next: str


@frozen
class _Found:
    """A lock and a host as they were stored, with the ref that they are shown under."""

    ref: str
    lock: Mapping[str, Any]
    host: Mapping[str, Any]


@verb(permission="project.read", changes=False, name="environment")
def show_environment(ws: Workspace, ref: str = "") -> EnvironmentView:
    """What a run, or the run behind a model, ran in: Python, every distribution with its content, the machine.

    Args:
        ref: a run, or a model, version or release; what is here without one.
    Raises: NotFound.
    Example: noria env show churn:14
    """
    found, here = _found(ws, ref), _here(ws)
    lock = found.lock
    records, origins = lock.get("records", {}), lock.get("origins", {})
    packages = tuple(
        Package(name=name, version=version, record=records.get(name, ""), origin=origins.get(name, ""))
        for name, version in sorted(lock.get("packages", {}).items())
    )
    return EnvironmentView(
        ref=found.ref,
        lock=digest(canonical(dict(lock))),
        host_digest=digest(canonical(dict(found.host))) if found.host else "",
        python=str(lock.get("python", "")),
        implementation=str(lock.get("implementation", "")),
        machine=str(lock.get("machine", "")),
        abi=str(lock.get("abi", "")),
        libc=str(lock.get("libc", "")),
        host={name: value for name, value in found.host.items() if name != "format"},
        packages=packages,
        differences=len(_lines(found, here)),
        next="noria env diff RUN" if found.ref == HERE else f"noria env diff {ref or 'last'}",
    )


@verb(permission="project.read", changes=False, name="environment-diff")
def diff_environments(ws: Workspace, a: str, b: str = "") -> EnvironmentDiff:
    """How the environment of a run differs from another's, or from what is here.

    Args:
        a: a run, or a model, version or release.
        b: another; what is here without one.
    Raises: NotFound.
    Example: noria env diff churn:14
    """
    one, other = _found(ws, a), _found(ws, b)
    lines = _lines(one, other)
    is_same_lock = not any(line.section != "host" for line in lines)
    return EnvironmentDiff(
        a=one.ref,
        b=other.ref,
        is_same=not lines,
        is_same_lock=is_same_lock,
        lines=tuple(lines),
        next=f"noria reproduce {a}" if is_same_lock else f"noria env rebuild {a} rebuilt",
    )


@verb(permission="project.rebuild", name="environment-rebuild", where="project")
def rebuild_environment(ws: Workspace, ref: str, to: str) -> Rebuilt:
    """Make the environment of a run anew: a virtual environment whose files are those of the run, byte for byte.

    pip installs exactly the versions of the lock. Then every installed file is compared with its hash, and
    every distribution with what the run recorded of it; what could not be had, or is not the same, is named.

    Args:
        ref: a run, or a model, version or release.
        to: a folder that is not there yet, or is empty.
    Raises: NotFound; UsageError if the folder holds something; WorldError without a fitting Python.
    Example: noria env rebuild churn:14 rebuilt
    """
    run, _ = named_run(ws, ref)
    lock = _stored(ws, run.environment, f"the environment of {run.run}")
    return rebuilding.rebuild(locks.from_document(lock), Path(to), ref=run.run)


def differences(wanted: Mapping[str, Any], now: Mapping[str, Any]) -> list[EnvironmentLine]:
    """What differs between two locks: Python and its kind, packages by version, then by content."""
    names = ("python", "implementation", "system", "machine", "abi", "libc")
    # a lock of an older format does not know them all
    lines = [
        EnvironmentLine(section="python", name=name, a=str(wanted[name]), b=str(now.get(name, "")))
        for name in names
        if name in wanted and wanted[name] != now.get(name, "")
    ]
    old, new = wanted.get("packages", {}), now.get("packages", {})
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            lines.append(EnvironmentLine(section="package", name=name, a=old.get(name, ""), b=new.get(name, "")))
    had, has = wanted.get("records", {}), now.get("records", {})
    are_of_one_format = wanted.get("format") == now.get("format")  # older ones do not know every content
    for name in sorted({*had, *has} if are_of_one_format else {*had} & {*has}):
        was, is_now = had.get(name, ""), has.get(name, "")
        is_known = bool(was and is_now) or not (name in old or name in new)  # a project does not name itself
        if was != is_now and is_known and old.get(name) == new.get(name):
            lines.append(
                EnvironmentLine(section="content", name=name, a=was and short(was), b=is_now and short(is_now))
            )
    return lines


def host_differences(wanted: Mapping[str, Any], now: Mapping[str, Any]) -> list[EnvironmentLine]:
    """What differs between two hosts; nothing if one is not on record."""
    if not wanted or not now:
        return []
    one, other = _flat(wanted), _flat(now)
    return [
        EnvironmentLine(section="host", name=_HOST_NAMES.get(name, name), a=one.get(name, ""), b=other.get(name, ""))
        for name in dict.fromkeys([*one, *other])
        if name != "format" and one.get(name, "") != other.get(name, "")
    ]


def _lines(one: _Found, other: _Found) -> list[EnvironmentLine]:
    return [*differences(one.lock, other.lock), *host_differences(one.host, other.host)]


def _found(ws: Workspace, ref: str) -> _Found:
    if not ref or ref == HERE:
        return _here(ws)
    run, version = named_run(ws, ref)
    lock = _stored(ws, run.environment, f"the environment of {run.run}")
    host = _stored(ws, run.host, f"the host of {run.run}") if run.host else {}
    return _Found(run.run if version is None else version.ref, lock, host)


def _here(ws: Workspace) -> _Found:
    return _Found(HERE, locks.lock(ws.project.state), hosts.host().document())


def _stored(ws: Workspace, name: str, what: str) -> Mapping[str, Any]:
    if not name:
        raise NotFound(f"{what} was not recorded")
    found: Mapping[str, Any] = ws.objects.get_json(name)
    return found


def _flat(host: Mapping[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in host.items():
        if isinstance(value, Mapping):
            flat |= {str(key): str(item) for key, item in value.items()}
        elif isinstance(value, Sequence) and not isinstance(value, str):
            flat[name] = " ".join(map(str, value))
        else:
            flat[name] = str(value)
    return flat
