"""Why a step came out otherwise: by experiment, not by the look of its code.

The step runs again and again in fresh processes, from the same inputs. First as it is: does it agree
with itself? If not, everything that chance can enter by is held still, and then one thing at a
time is varied: what the output follows is a cause. If it agrees with itself but not with the
record, what the record says of machine and moment is put back, one thing at a time: what makes the
output the recorded one is the cause. What cannot be put back (a file, a variable, an answer from
elsewhere) is told from what the step was seen to read, then and now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from noria.core.frozen import frozen
from noria.core.progress import task
from noria.project.again import causes
from noria.project.again.causes import DIFFERS, LEFT, PROVED, Cause
from noria.project.again.child import Died
from noria.project.again.names import aligned

__all__ = ["Evidence", "Probe", "Prober", "diagnose"]

HELD_NS = 1_600_000_000_000_000_000
"""A moment for clocks that are held (2020-09-13T12:26:40Z); the varied one is another year, day, hour and minute."""
VARIED_NS = HELD_NS + int(timedelta(days=400, hours=5, minutes=17, seconds=13).total_seconds() * 1e9) + 123_456_789
HELD: Mapping[str, str] = {
    **{"random": "1", "uuid": "1", "time": str(HELD_NS), "parallel": "in order", "process": "1", "address": "1"},
}
VARIED: Mapping[str, Sequence[str]] = {
    "random": ("2", "3", "4"),
    "uuid": ("2", "3"),
    "time": (str(VARIED_NS), str(VARIED_NS + 40_000_000_000_000_000)),
    "process": ("2", "3"),
    "address": ("2", "3"),
}
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    *("NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"),
)
KERNEL_VARIABLES = ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "MKL_CBWR", "CUBLAS_WORKSPACE_CONFIG")
KINDS: Mapping[str, str] = {
    "random": causes.RANDOM,
    "uuid": causes.UUID,
    "time": causes.TIME,
    "process": causes.PROCESS,
    "address": causes.ADDRESS,
    "parallel": causes.ORDER,
}
_SAID: Mapping[str, str] = {
    "random": "with another seed for every generator",
    "uuid": "with other uuids",
    "time": "with another time on every clock",
    "process": "with another process id, thread id and host name",
    "address": "with other addresses of objects",
    "parallel": "when its threads end in another order",
}
NATURAL = 3
SEEDS = ("1", "2", "3", "4")


@frozen(kw_only=True)
class Probe:
    """What one run of a step gave: the digests of its outputs, what it asked for and read, or its error."""

    outputs: tuple[str, ...]
    types: tuple[str, ...] = ()
    seen: tuple[Mapping[str, str], ...] = ()
    reads: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


Prober = Callable[[Mapping[str, str], Mapping[str, str | None]], Probe]
"""(settings of chance, variables) -> what the step gave in a fresh process. Raises: Died."""


@frozen(kw_only=True)
class Evidence:
    """What is known of a step that came out otherwise.

    `recorded` are the digests of its outputs then, `made` those of the whole run now (empty if it
    failed, with `error`). `then` and `now` are key documents, `reads` what it read then and now. `hosts` and
    `locks` are documents, then and now. `at` is when it ended then (UTC text), `seconds` how long it took;
    `roots` are import names with the packages that they belong to.
    """

    step: str
    recorded: tuple[str, ...]
    made: tuple[str, ...]
    error: str
    then: Mapping[str, Any]
    now: Mapping[str, Any]
    reads: tuple[Mapping[str, str], Mapping[str, str]]
    hosts: tuple[Mapping[str, Any], Mapping[str, Any]]
    locks: tuple[Mapping[str, Any], Mapping[str, Any]]
    at: str
    seconds: float
    roots: Mapping[str, str] = field(default_factory=dict)


def diagnose(
    evidence: Evidence,
    probe: Prober,
    is_near: Callable[[tuple[Probe, Probe]], bool],
    roots: tuple[Path, Path] = (Path("/"), Path("/")),
) -> list[Cause]:
    """The causes, the surest first; never empty.

    Args:
        probe: runs the step once more under some conditions.
        is_near: whether two results differ in numbers only, and by little.
        roots: the folder of the project then, and now, by which what it read is one file or another.
    """
    look = _Look(evidence, probe, is_near, roots)
    try:
        found = look.causes()
    except Died as died:
        found = [Cause(kind=causes.UNKNOWN, evidence=f"the step could not be run again alone: {died}", sure=LEFT)]
        found = look.direct() + found
    order = {PROVED: 0, DIFFERS: 1, LEFT: 2}
    return sorted(found, key=lambda cause: order[cause.sure])


class _Look:
    """One diagnosis under way; remembers the probes that more than one question needs."""

    def __init__(
        self,
        evidence: Evidence,
        probe: Prober,
        is_near: Callable[[tuple[Probe, Probe]], bool],
        roots: tuple[Path, Path],
    ) -> None:
        self.evidence, self.is_near, self._roots = evidence, is_near, roots
        self.natural: list[Probe] = []
        self._prober, self._runs = probe, 0

    def probe(self, settings: Mapping[str, str], variables: Mapping[str, str | None], how: str = "") -> Probe:
        """One more run; whoever waits is told which, and how."""
        self._runs += 1
        with task(f"why {self.evidence.step} differs: run {self._runs}, {how or 'as it is'}", unit=""):
            return self._prober(settings, variables)

    def causes(self) -> list[Cause]:
        """What the experiments say, then what the records say, then what is left."""
        known = self.evidence
        self.natural.append(self.probe({}, {}))
        if known.error or self.natural[0].error:
            return self._failed()
        while len(self.natural) < NATURAL and self._agrees():
            self.natural.append(self.probe({}, {}))
        if not self._agrees():
            return self._varying()
        if self.natural[0].outputs == known.recorded:
            self.natural += [self.probe({}, {}) for _ in range(2)]
            if not self._agrees():
                return self._varying()
            text = "alone it gives what is on record, and after the other steps it does not"
            return [Cause(kind=causes.STATE, evidence=text, sure=PROVED)]
        return self._steady()

    def direct(self) -> list[Cause]:
        """What is on record as not being what it was."""
        known = self.evidence
        then, now = known.reads
        seen = self.natural[0].reads if self.natural else {}
        reads = aligned(then, {**seen, **now}, self._roots)
        documents = _renamed(known.then, known.now, self._roots)
        return causes.on_record(*documents, reads, causes.packages_of(*known.locks), known.roots)

    def _agrees(self) -> bool:
        outputs = {each.outputs for each in self.natural}
        if self.natural[0].outputs != self.evidence.recorded:
            outputs.add(self.evidence.made)
        return len(outputs) == 1

    # it failed, where it did not then

    def _failed(self) -> list[Cause]:
        error = self.evidence.error or self.natural[0].error
        found = [replace(cause, evidence=f"{cause.evidence}; it fails: {error}"[:400]) for cause in self.direct()]
        started = self._elsewhere()
        if started is not None and not found:
            found.append(replace(started, evidence=f"{started.evidence}; it fails: {error}"[:400]))
        return found or [*self._left(f"it fails: {error}"[:300])]

    # it does not agree with itself

    def _varying(self) -> list[Cause]:
        held = [self._held(), self._held()]
        if held[0].error or held[0].outputs != held[1].outputs:
            return self._uncontrolled(held)
        seen = self._kinds(held[0])
        found = [cause for kind in seen if (cause := self._varied(kind, held[0])) is not None]
        if not found:
            found = [cause for look in (self._hashes, self._threads) if (cause := look(held[0])) is not None]
        if not found:
            found = [self._line(kind, held[0], DIFFERS, "its output differs from run to run") for kind in seen]
        return found or list(self._left("its output differs from run to run"))

    def _uncontrolled(self, held: Sequence[Probe]) -> list[Cause]:
        """It varies although everything is held: what comes from outside, or from compiled code."""
        if held[0].error:
            return [*self.direct(), *self._left(f"with clocks and generators held it fails: {held[0].error}"[:300])]
        changing = [what for what, value in held[0].reads.items() if held[1].reads.get(what, value) != value]
        found = [
            Cause(kind=causes.FILE, evidence=f"{what.partition(' ')[2]} changes from run to run", sure=PROVED)
            for what in changing
            if what.startswith("file ")
        ]
        started = self._elsewhere()
        if not found and started is not None:
            found = [replace(started, evidence=f"{started.evidence}, and its output differs from run to run")]
        return found or list(self._left("its output differs from run to run, also with clocks and generators held"))

    def _kinds(self, probe: Probe) -> list[str]:
        asked = {each["kind"] for run in (probe, *self.natural) for each in run.seen}
        return [kind for kind in KINDS if kind in asked]

    def _varied(self, kind: str, held: Probe) -> Cause | None:
        """The cause of that kind, if the output follows it while all else is held."""
        if kind == "parallel":
            settings = {name: value for name, value in HELD.items() if name != kind}
            tries = [settings] * NATURAL
        else:
            tries = [{**HELD, kind: value} for value in VARIED[kind]]
        for settings in tries:
            other = self._held(settings, how=_SAID[kind])
            if not other.error and other.outputs != held.outputs:
                found = self._line(kind, held, PROVED, f"its output is another {_SAID[kind]}")
                if causes.is_of_system(found.evidence) and not self._follows_system(held):
                    found = self._line(kind, held, PROVED, f"its output is another {_SAID[kind]}", is_seeded=True)
                is_sum = kind == "parallel" and self.is_near((held, other))
                return replace(found, kind=causes.REDUCTION) if is_sum else found
        return None

    def _follows_system(self, held: Probe) -> bool:
        """Whether what the system gives makes the difference, or only seeded generators do."""
        other = self._held({**HELD, "urandom": "2"})
        return bool(other.error) or other.outputs != held.outputs

    def _hashes(self, held: Probe) -> Cause | None:
        for seed in SEEDS:
            other = self._held(HELD, {"PYTHONHASHSEED": seed}, f"with PYTHONHASHSEED={seed}")
            if not other.error and other.outputs != held.outputs:
                text = f"its output is another with PYTHONHASHSEED={seed} than with 0: the order of a set, or hash()"
                return Cause(kind=causes.HASH, evidence=text, sure=PROVED)
        return None

    def _threads(self, held: Probe) -> Cause | None:
        for _ in range(NATURAL):
            other = self._held(HELD, dict.fromkeys(THREAD_VARIABLES), "with all threads")
            if not other.error and other.outputs != held.outputs:
                is_order = self._differs_again(other)
                kind = causes.REDUCTION if is_order and self.is_near((held, other)) else causes.THREADS
                text = "its output is another with the threads of numeric libraries than with one"
                return Cause(kind=kind, evidence=text, sure=PROVED)
        return None

    def _differs_again(self, one: Probe) -> bool:
        other = self._held(HELD, dict.fromkeys(THREAD_VARIABLES))
        return not other.error and other.outputs != one.outputs

    def _follows_any(self, held: Probe) -> bool:
        """Whether the output is another when all that chance can enter by is another, at once: mostly it is not.

        Then nobody needs to wait until each was varied by itself.
        """
        for number in range(NATURAL):
            settings = {kind: values[number % len(values)] for kind, values in VARIED.items()}
            variables = {"PYTHONHASHSEED": SEEDS[number], **dict.fromkeys(THREAD_VARIABLES)}
            other = self._held(settings, variables, "with all chance another")
            if other.error or other.outputs != held.outputs:
                return True
        return False

    def _held(
        self,
        settings: Mapping[str, str] = HELD,
        variables: Mapping[str, str | None] | None = None,
        how: str = "with clocks, generators and threads held",
    ) -> Probe:
        still: dict[str, str | None] = {"PYTHONHASHSEED": "0", **dict.fromkeys(THREAD_VARIABLES, "1")}
        return self.probe(settings, {**still, **(variables or {})}, how)

    def _line(self, kind: str, held: Probe, sure: str, text: str, *, is_seeded: bool = False) -> Cause:
        seen = [*held.seen, *(each for run in self.natural for each in run.seen)]
        what, where = causes.first_where(
            [each for each in seen if not (is_seeded and causes.is_of_system(each["what"]))], kind
        )
        asked = f": {what}" if what else ""
        return Cause(kind=KINDS[kind], evidence=f"{text}{asked}", sure=sure, where=where)

    # it agrees with itself, and not with the record

    def _steady(self) -> list[Cause]:
        found = [cause for settings, variables, cause in self._restores() if self._is_restored(settings, variables)]
        if found:
            return found
        found = self.direct()
        if found:
            return found
        moved = self.probe({"folder": "another"}, {}, "in another folder")
        if not moved.error and moved.outputs != self.natural[0].outputs:
            return [self._of_folder()]
        held = self._held()
        if not held.error and self._follows_any(held):
            kinds = self._kinds(held)
            found = [cause for kind in kinds if (cause := self._varied(kind, held)) is not None]
            found = found or [cause for look in (self._hashes, self._threads) if (cause := look(held)) is not None]
        started = self._elsewhere()
        if not found and started is not None:
            found = [started]
        return found or list(self._left("it gives the same each time, and not what is on record"))

    def _of_folder(self) -> Cause:
        """The output follows the folder that the project is in, which is another one here."""
        what, where = causes.first_where([each for run in self.natural for each in run.seen], "folder")
        text = f"its output is another when its folder is another: {what or 'a path of the code, such as __file__'}"
        return Cause(kind=causes.FOLDER, evidence=text, sure=PROVED, where=where)

    def _is_restored(self, settings: Mapping[str, str], variables: Mapping[str, str | None]) -> bool:
        other = self.probe(settings, variables, "with what was otherwise then")
        return not other.error and other.outputs == self.evidence.recorded

    def _restores(self) -> list[tuple[Mapping[str, str], Mapping[str, str | None], Cause]]:
        """What of machine and moment can be put back, and the cause that it would prove."""
        then, now = self.evidence.hosts
        found: list[tuple[Mapping[str, str], Mapping[str, str | None], Cause]] = []

        def add(kind: str, text: str, settings: Mapping[str, str], variables: Mapping[str, str | None]) -> None:
            found.append((settings, variables, Cause(kind=kind, evidence=text, sure=PROVED)))

        same = "it gives the recorded output again with"
        if then.get("timezone") and then.get("timezone") != now.get("timezone"):
            zone = str(then["timezone"])
            add(causes.ZONE, f"{same} TZ={zone}, as it was; it is {now.get('timezone')}", {}, {"TZ": zone})
        if then.get("locale") and then.get("locale") != now.get("locale"):
            name = str(then["locale"])
            add(causes.LOCALE, f"{same} LC_ALL={name}, as it was; it is {now.get('locale')}", {}, {"LC_ALL": name})
        if then.get("hash_seed") not in ("", None, "random") and then.get("hash_seed") != now.get("hash_seed"):
            seed = str(then["hash_seed"])
            add(causes.HASH, f"{same} PYTHONHASHSEED={seed}, as it was", {}, {"PYTHONHASHSEED": seed})
        for names, kind in ((THREAD_VARIABLES, causes.THREADS), (KERNEL_VARIABLES, causes.HARDWARE)):
            changed = _changed(then, now, names)
            if changed:
                shown = ", ".join(f"{name}={value}" if value else f"no {name}" for name, value in changed.items())
                add(kind, f"{same} {shown}, as it was", {}, changed)
        if then.get("cores") and then.get("cores") != now.get("cores"):
            cores = str(then["cores"])
            threads = dict.fromkeys(THREAD_VARIABLES, cores)
            add(
                causes.THREADS,
                f"{same} {cores} cores, as it had; there are {now.get('cores')}",
                {"cores": cores},
                threads,
            )
        kernels = _kernels(then, now)
        if kernels:
            shown = ", ".join(f"{name}={value}" for name, value in kernels.items())
            add(causes.HARDWARE, f"{same} the instructions of {then.get('cpu')} ({shown})", {}, kernels)
        seen = [each for run in self.natural for each in run.seen]
        if any(each["kind"] == "time" for each in seen) and self.evidence.at:
            what, where = causes.first_where(seen, "time")
            cause = Cause(
                kind=causes.TIME,
                evidence=f"{same} the clock at {self.evidence.at[:19]}Z, when it ran: {what}",
                sure=PROVED,
                where=where,
            )
            found.append(({"time": str(self._began_ns())}, {}, cause))
        return found

    def _began_ns(self) -> int:
        ended = datetime.fromisoformat(self.evidence.at.replace("Z", "+00:00"))
        return int((ended.timestamp() - self.evidence.seconds) * 1e9)

    # what is left

    def _elsewhere(self) -> Cause | None:
        """What the step fetched or started, which is not pinned."""
        reads: dict[str, str] = {**self.evidence.reads[0], **self.evidence.reads[1]}
        for run in self.natural:
            reads |= run.reads
        told = causes.connections(reads)
        reached = [each for each in told if each.startswith("connects to")]
        if reached:
            return Cause(kind=causes.NETWORK, evidence=f"it {reached[0]}", sure=DIFFERS)
        started = [each for each in told if each.startswith("starts")]
        return Cause(kind=causes.PROCESSES, evidence=f"it {started[0]}", sure=LEFT) if started else None

    def _left(self, text: str) -> Sequence[Cause]:
        """The machine or the packages, if they are others; else nothing that is known."""
        then, now = self.evidence.hosts
        packages = causes.packages_of(*self.evidence.locks)
        found = []
        if packages:
            name, (was, is_) = next(iter(packages.items()))
            more = f" and {len(packages) - 1} more" if len(packages) > 1 else ""
            change = f"{name} {was or 'absent'} -> {is_ or 'absent'}{more}"
            found.append(Cause(kind=causes.PACKAGE, evidence=f"{text}; {change}", sure=LEFT))
        machine = ("cpu", "flags", "gpus", "gpu_driver")
        changed = [name for name in machine if then and now and then.get(name) != now.get(name)]
        if changed:
            shown = ", ".join(f"{name} {then.get(name)} -> {now.get(name)}" for name in changed)
            found.append(Cause(kind=causes.HARDWARE, evidence=f"{text}; {shown}"[:400], sure=LEFT))
        return found or [Cause(kind=causes.UNKNOWN, evidence=text, sure=LEFT)]


def _renamed(
    then: Mapping[str, Any], now: Mapping[str, Any], roots: tuple[Path, Path]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Two documents of keys, with one name for each file that the code names."""
    if not then or not now:
        return then, now
    was, is_ = aligned(then.get("names", {}), now.get("names", {}), roots)
    return {**then, "names": was}, {**now, "names": is_}


def _changed(then: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str]) -> dict[str, str | None]:
    """Those of some variables that are set otherwise than they were, with the value then."""
    old, new = then.get("variables", {}), now.get("variables", {})
    return {name: old.get(name) for name in names if then and old.get(name) != new.get(name)}


def _kernels(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str | None]:
    """Variables that let numpy and OpenBLAS take the instructions of an older processor than this one."""
    lacking = [flag for flag in now.get("flags", ()) if then.get("flags") and flag not in then["flags"]]
    if not any(flag.startswith("avx") for flag in lacking):
        return {}
    cores = "Nehalem" if "avx2" in lacking else "Haswell"
    features = " ".join(flag.upper() for flag in lacking if flag.startswith(("avx512", "avx2", "fma")))
    return {"OPENBLAS_CORETYPE": cores, "NPY_DISABLE_CPU_FEATURES": features}
