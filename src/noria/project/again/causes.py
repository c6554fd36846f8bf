"""What can make a run come out otherwise, in words; and what the records alone say about it.

A cause has a kind from the list below, evidence, and how sure it is: "proved" if the output was seen to
follow it while all else was held; "differs" if it is on record that it is not what it was; "left" if
nothing else is left. Pure: what is compared was read before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.frozen import frozen
from noria.core.identity import short

__all__ = ["HINTS", "KINDS", "OTHERWISE", "PROVED", "Cause", "is_of_system", "on_record"]

PROVED, DIFFERS, LEFT = "proved", "differs", "left"
OTHERWISE = "otherwise"
"""Stands for the digest of what is known not to be what it was, though not what it was."""

RANDOM = "unseeded random"
TIME = "time"
HASH = "hash seed"
THREADS = "thread count"
VARIABLE = "environment variable"
FILE = "file outside the inputs"
NETWORK = "network"
UUID = "uuid"
ORDER = "order of parallel results"
REDUCTION = "floating point reduction order"
ZONE = "time zone"
LOCALE = "locale"
PACKAGE = "package version"
HARDWARE = "hardware"
DATA = "changed data"
CODE = "changed code"
PROCESS = "name of the process or machine"
STATE = "state left by another step"
PROCESSES = "another process"
FOLDER = "folder of the project"
ADDRESS = "address in memory"
OUTSIDE = "path outside of the place"
SYSTEM = "operating system"
UNKNOWN = "unknown"

HINTS: Mapping[str, str] = {
    RANDOM: "give every generator a seed: random_state=nr.seed(), np.random.default_rng(nr.seed())",
    TIME: "take moments from the data or from a parameter, not from the clock",
    HASH: "sort what comes out of a set before its order matters",
    THREADS: "declare a tolerance for the step, or fix the threads: OMP_NUM_THREADS=1",
    VARIABLE: "make it a parameter of the step, or an argument of the script: these are pinned with the run",
    FILE: "make it a data set, or extra_files=[…] of the step and part of the repository",
    NETWORK: "fetch it once into a data set: noria data add",
    UUID: "make names from what they name, such as a digest of the row",
    ORDER: "put results back into the order of their inputs, as executor.map does",
    REDUCTION: "add in a fixed order (math.fsum, one thread), or declare a tolerance for the step",
    ZONE: "use aware UTC times: datetime.now(UTC), tz='UTC'",
    LOCALE: "format and sort without the locale",
    PACKAGE: "noria env rebuild RUN DIR makes the environment of the run",
    HARDWARE: "declare a tolerance for the step, or fix the kernels: OPENBLAS_CORETYPE, MKL_CBWR",
    DATA: "noria data verify heals data from a remote",
    CODE: "commit the code that runs, and install what it imports from a pinned version",
    PROCESS: "leave process ids and host names out of results",
    STATE: "give each step its own generator and state; none of them may rely on another having run",
    PROCESSES: "what a program answers that a step starts is not pinned: make it an input",
    FOLDER: "leave the project's own folder out of results: paths relative to it are the same everywhere",
    ADDRESS: "leave id() and the repr() of plain objects out of results: name things by what they hold",
    OUTSIDE: "name files from the script's folder (data/rows.csv, ../data/rows.csv), or take a folder as an argument",
    SYSTEM: "on Linux 6.2 or newer with landlock in /sys/kernel/security/lsm; a container may forbid it (seccomp)",
    UNKNOWN: "look for an address of an object (<... at 0x7f...>), for the path of the code (__file__), "
    "and for compiled code with a clock or a generator of its own",
}
KINDS = tuple(HINTS)


@frozen(kw_only=True)
class Cause:
    """One thing that makes a step's output what it is, and is not pinned. `sure` is proved, differs or left."""

    kind: str
    evidence: str
    sure: str
    where: str = ""

    @property
    def hint(self) -> str:
        """What to do about it."""
        return HINTS[self.kind]


def on_record(
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    reads: tuple[Mapping[str, str], Mapping[str, str]],
    packages: Mapping[str, tuple[str, str]],
    roots: Mapping[str, str],
) -> list[Cause]:
    """What a step is known to have read or reached that is not what it was.

    Args:
        then, now: the documents that the step's keys were computed from; empty if there is none.
        reads: what it was seen to read, then and now, as {what: digest}.
        packages: every package whose version or content differs, as {name: (then, now)}.
        roots: import names with the packages that they belong to.
    """
    found: list[Cause] = []
    old, new = _names(then), _names(now)
    reached = {**_part(then, "env", "packages"), **_part(now, "env", "packages")}
    for name, (was, is_) in packages.items():
        if name in reached and was != is_:
            found.append(_cause(PACKAGE, f"{name} {was or 'absent'} -> {is_ or 'absent'}, which the step uses"))
    for name in dict.fromkeys([*old, *new]) if then and now else ():
        if old.get(name) != new.get(name):
            owner = name.partition(" ")[2].partition(".")[0]
            owner = roots.get(owner, owner)
            if owner in packages:
                was, is_ = packages[owner]
                found.append(_cause(PACKAGE, f"{owner} {was or 'absent'} -> {is_ or 'absent'}: {name} changed"))
                continue
            kind, text = _named(name, old.get(name), new.get(name))
            found.append(_cause(kind, text))
    was_read, is_read = reads
    for what in dict.fromkeys([*was_read, *is_read]):
        is_known = (what in was_read and what in is_read) or is_read.get(what) == OTHERWISE
        if is_known and not _is_alike(was_read.get(what, ""), is_read[what]):
            kind, text = _named(what, was_read.get(what), is_read[what])
            if not any(cause.evidence == text for cause in found):
                found.append(_cause(kind, text))
    return found


def _cause(kind: str, evidence: str) -> Cause:
    return Cause(kind=kind, evidence=evidence, sure=DIFFERS)


def _named(what: str, was: str | None, now: str | None) -> tuple[str, str]:
    """The kind of something that was read, and how it changed. Values of variables stay unseen."""
    kind, _, name = what.removeprefix("environment ").partition(" ")
    if kind == "variable":
        return VARIABLE, f"the variable {name} has another value"
    if kind == "absent":
        return FILE, f"{name} was only looked at (whether it is there, its size), never opened: it is not on record"
    if kind in ("file", "folder", "there", "stat"):
        if now in ("missing", "gone") or now is None:
            return FILE, f"{name} is not there any more"
        if was in ("missing", None):
            return FILE, f"{name} was not there then"
        how = "other bytes" if kind == "file" else "other files" if kind == "folder" else "another size or time"
        digests = f" ({short('sha256:' + was)[:12]} -> {short('sha256:' + now)[:12]})" if kind == "file" and was else ""
        return FILE, f"{name} has {how}{digests}"
    if kind == "package":
        return PACKAGE, f"{name} {was or 'absent'} -> {now or 'absent'}, which the step uses"
    change = "is new" if was is None else "is gone" if now is None else "changed"
    return CODE, f"{what} {change}"


def _is_alike(was: str, now: str) -> bool:
    """Whether two digests are of one thing; a key keeps only the first digits of some."""
    length = min(len(was), len(now))
    return was == now or (length >= 16 and was[:length] == now[:length])


def _names(document: Mapping[str, Any]) -> Mapping[str, str]:
    found = document.get("names")
    return found if isinstance(found, Mapping) else {}


def _part(document: Mapping[str, Any], *path: str) -> Mapping[str, str]:
    found: Any = document
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def packages_of(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The packages that differ between two locks, by version, or by content where versions are equal."""
    found: dict[str, tuple[str, str]] = {}
    old, new = then.get("packages", {}), now.get("packages", {})
    had, has = then.get("records", {}), now.get("records", {})
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            found[name] = (old.get(name, ""), new.get(name, ""))
        elif name in had and name in has and had[name] != has[name]:
            found[name] = (f"{old[name]} {short(had[name])}", f"{new[name]} {short(has[name])}")
    return found


def connections(reads: Mapping[str, str]) -> list[str]:
    """Where a step was seen to connect to, or what it started."""
    return [what.removeprefix("note ") for what in reads if what.startswith("note ")]


def first_where(seen: Sequence[Mapping[str, str]], kind: str) -> tuple[str, str]:
    """(what was called, the line that did) of the sights of a kind; the first that has a line."""
    of_kind = [each for each in seen if each["kind"] == kind]
    placed = [each for each in of_kind if each["where"]]
    telling = [each for word in _TELLING for each in placed if word in each["what"]]
    best = (telling or placed or of_kind or [{"what": "", "where": ""}])[0]
    return best["what"], best["where"]


_TELLING = ("tempfile", "as_completed", "unordered", "without a seed", "urandom")
"""Of several calls of a kind, those that are chance by themselves come before those that may be under control."""


def is_of_system(what: str) -> bool:
    """Whether chance comes from the system there. Libraries ask for it also where they then take a given seed."""
    return "urandom" in what or "without a seed" in what
