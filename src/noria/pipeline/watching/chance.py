"""Where chance enters a step: seen, held still, or varied. For the diagnosis of a run that cannot be repeated.

`install` puts stand-ins in the place of what gives another answer each time: generators of random
numbers, clocks, uuids, threads, the process's own name. Outside of a watched step, and for Noria's own
code, they are what they stand for. Inside, each notes the line of the project that asked, and answers
as it is told: as always, the same each time, or something else on purpose. So that a step whose output
changes with one of them, and with none of the others, is known to depend on it: no guess from what its
code looks like.

Only for a process that exists for this: the stand-ins stay. What they cannot reach, compiled code with
a clock or a generator of its own, is not seen here.
"""

from __future__ import annotations

import builtins
import concurrent.futures as futures
import contextlib
import copyreg
import datetime
import functools
import hashlib
import linecache
import multiprocessing.pool
import os
import pkgutil
import platform
import random
import socket
import sys
import tempfile
import threading
import time
import types
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.pipeline.sources import is_own_file

__all__ = ["Chance", "Sight", "install"]

np = lazy("numpy")

RANDOM, UUID, TIME, PARALLEL, PROCESS, CORES = "random", "uuid", "time", "parallel", "process", "cores"
ADDRESS, FOLDER = "address", "folder"
URANDOM = "urandom"
_FRAMES = 60
_TICK_NS = 1_000
_JOIN_S = 10.0
_DRAWS = (
    *("random", "uniform", "randint", "randrange", "choice", "choices", "sample", "shuffle", "gauss", "normalvariate"),
    *("betavariate", "expovariate", "triangular", "getrandbits", "randbytes", "lognormvariate", "vonmisesvariate"),
    *("gammavariate", "paretovariate", "weibullvariate"),
)
_NUMPY_DRAWS = (
    *("random", "rand", "randn", "randint", "random_sample", "ranf", "sample", "choice", "bytes", "shuffle"),
    *("permutation", "normal", "uniform", "standard_normal", "poisson", "binomial", "exponential", "beta", "gamma"),
    *("lognormal", "laplace", "multinomial", "multivariate_normal", "dirichlet", "triangular", "logistic", "gumbel"),
)
_CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
_PROCESS_CLOCKS = ("process_time", "process_time_ns", "thread_time", "thread_time_ns")
_NOW = ("localtime", "gmtime", "ctime")


@frozen
class Sight:
    """One thing that a step asked for: its kind, what was called, and the line of the project that did."""

    kind: str
    what: str
    where: str


@dataclass
class Chance:
    """The stand-ins of this process. `settings` maps a kind to how it answers; one that is absent is as always.

    random, uuid: a seed; urandom: one of its own for what the system gives; time: nanoseconds since the epoch at the
    first look; parallel: "in order"; process, address: a number; cores: how many there are said to be. Who asks for the
    folder is seen; that it is another one is up to who starts the process.
    """

    root: Path
    settings: Mapping[str, str]
    seen: dict[tuple[str, str], Sight] = field(default_factory=dict)
    is_active: bool = False
    _draws: int = 0
    _looks: int = 0
    _skipped_ns: int = 0

    def set(self, kind: str) -> str:
        """How a kind is to answer now; "" for as always."""
        return self.settings.get(kind, "") if self.is_active else ""

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """For the block, the stand-ins are at work. The generators with a state begin with the seed, if one is set."""
        began = random.getstate(), _numpy_state()
        seed = self.settings.get(RANDOM, "")
        if seed:
            _seed_all(int(seed))
        first = random.getstate(), _numpy_state()
        self.is_active = True
        try:
            with _classes(self):
                yield
        finally:
            self.is_active = False
            for name, before, now in zip(
                ("random", "numpy.random"), first, (random.getstate(), _numpy_state()), strict=True
            ):
                if repr(before) != repr(now):
                    self._note(RANDOM, f"the state of {name}", "")
            if seed:
                random.setstate(began[0])

    def note(self, kind: str, what: str) -> bool:
        """Whether the project asked, be it through a library; the first time, its line is kept."""
        if not self.is_active:
            return False
        if (kind, what) not in self.seen:
            self._note(kind, what, _line_of(self.root))
        return True

    def stream(self, count: int, seed: str) -> bytes:
        """The next bytes of a stream that the seed decides."""
        made = b""
        while len(made) < count:
            self._draws += 1
            made += hashlib.sha256(f"{seed}/{self._draws}".encode()).digest()
        return made[:count]

    def now_ns(self) -> int:
        """The moment of a clock that is held: it goes on by a microsecond with each look, and by what was slept."""
        self._looks += 1
        start = int(self.settings[TIME])
        return start + self._looks * _TICK_NS * (1 + start % 7) + self._skipped_ns

    def slept(self, seconds: float) -> None:
        """A held clock goes on by what a step sleeps."""
        self._skipped_ns += int(seconds * 1e9)

    def _note(self, kind: str, what: str, where: str) -> None:
        self.seen.setdefault((kind, what), Sight(kind, what, where))


def install(root: Path, settings: Mapping[str, str]) -> Chance:
    """Put the stand-ins in place, before the project is imported. They stay as long as the process."""
    made = Chance(root, dict(settings))
    if settings.get(TIME) or settings.get(RANDOM):
        os.environ["JOBLIB_MULTIPROCESSING"] = "0"  # no workers, whose clocks and generators are their own
    _install_random(made)
    _install_numpy(made)
    _install_uuid(made)
    _install_time(made)
    _install_parallel(made)
    _install_process(made)
    _install_addresses(made)
    return made


class _StandIn:
    """Lets `answer(real, *args)` speak for a function while a step is watched, but not to Noria's own code.

    It is pickled as the name of what it stands for: in another process that is the real one.
    """

    def __init__(self, chance: Chance, owner: Any, name: str, answer: Callable[..., Any]) -> None:
        self._chance, self._answer, self._real = chance, answer, getattr(owner, name)
        self._is_method = isinstance(owner, type)
        self._name = (
            f"{owner.__module__}:{owner.__qualname__}.{name}" if self._is_method else f"{owner.__name__}:{name}"
        )
        with contextlib.suppress(AttributeError, TypeError):  # a builtin has fewer names to copy
            functools.update_wrapper(self, self._real)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._chance.is_active or _is_ours(sys._getframe(1)):
            return self._real(*args, **kwargs)
        return self._answer(self._real, *args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None or not self._is_method else types.MethodType(self, instance)

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return pkgutil.resolve_name, (self._name,)


def _stand_in(chance: Chance, owner: Any, name: str, answer: Callable[..., Any]) -> None:
    if getattr(owner, name, None) is not None:
        setattr(owner, name, _StandIn(chance, owner, name, answer))


def _is_ours(frame: types.FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("noria.")


def _line_of(root: Path) -> str:
    """`file:line  text` of the nearest line of the project that is being run; "" for a thread without one."""
    frame: types.FrameType | None = sys._getframe(2)
    for _ in range(_FRAMES):
        if frame is None:
            return ""
        file = frame.f_code.co_filename
        if not file.startswith("<") and not _is_ours(frame) and is_own_file(file, root):
            text = linecache.getline(file, frame.f_lineno).strip()
            with contextlib.suppress(ValueError):
                file = str(Path(file).relative_to(root))
            return f"{file}:{frame.f_lineno}  {text[:100]}".rstrip()
        frame = frame.f_back
    return ""


# generators


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def _numpy_state() -> Any:
    kind, keys, *rest = np.random.get_state()
    return kind, hashlib.sha256(keys.tobytes()).hexdigest(), *rest


def _install_random(chance: Chance) -> None:
    for name in _DRAWS:
        what = f"random.{name}()"

        def draw(real: Any, *args: Any, _what: str = what, **kwargs: Any) -> Any:
            chance.note(RANDOM, _what)
            return real(*args, **kwargs)

        _stand_in(chance, random, name, draw)

    def urandom(real: Any, count: int) -> bytes:
        chance.note(RANDOM, "os.urandom()")
        seed = chance.set(URANDOM) or chance.set(RANDOM)
        return chance.stream(count, seed) if seed else bytes(real(count))

    _stand_in(chance, os, "urandom", urandom)
    _stand_in(chance, random, "_urandom", urandom)
    seed_of = random.Random.seed

    def seeded(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None and chance.is_active and not isinstance(self, random.SystemRandom):
            chance.note(RANDOM, "random.Random() without a seed")
            set_to = chance.set(URANDOM) or chance.set(RANDOM)
            if set_to:
                a = chance.stream(16, set_to)
        seed_of(self, a, version)

    random.Random.seed = seeded  # type: ignore[method-assign]  # the stand-in

    def names(real: Any) -> Any:
        chance.note(RANDOM, "a name by tempfile")
        # What gives the names is made once: it may have its seed already, from before.
        return vars(tempfile)["_RandomNameSequence"]() if chance.set(RANDOM) else real()

    _stand_in(chance, tempfile, "_get_candidate_names", names)


def _install_numpy(chance: Chance) -> None:
    for name in _NUMPY_DRAWS:
        what = f"numpy.random.{name}()"

        def draw(real: Any, *args: Any, _what: str = what, **kwargs: Any) -> Any:
            chance.note(RANDOM, _what)
            return real(*args, **kwargs)

        _stand_in(chance, np.random, name, draw)

    def default_rng(real: Any, seed: Any = None) -> Any:
        if seed is None:
            chance.note(RANDOM, "numpy.random.default_rng() without a seed")
        return real(seed)

    _stand_in(chance, np.random, "default_rng", default_rng)


def _install_uuid(chance: Chance) -> None:
    for name in ("uuid1", "uuid4", "uuid6", "uuid7"):
        what = f"uuid.{name}()"

        def make(real: Any, *args: Any, _what: str = what, **kwargs: Any) -> Any:
            chance.note(UUID, _what)
            seed = chance.set(UUID)
            return uuid.UUID(bytes=chance.stream(16, f"uuid{seed}"), version=4) if seed else real(*args, **kwargs)

        _stand_in(chance, uuid, name, make)


# clocks


def _install_time(chance: Chance) -> None:
    for name in (*_CLOCKS, *_PROCESS_CLOCKS):
        what, unit = f"time.{name}()", 1 if name.endswith("_ns") else 1e9
        is_wall = name.startswith("time")

        def look(real: Any, _what: str = what, _unit: float = unit, _is_wall: bool = is_wall) -> Any:
            chance.note(TIME, _what)
            if not chance.set(TIME):
                return real()
            ns = chance.now_ns() if _is_wall else chance.now_ns() % 10**15
            return ns if _unit == 1 else ns / _unit

        _stand_in(chance, time, name, look)
    for name in _NOW:
        what = f"time.{name}()"

        def at(real: Any, *args: Any, _what: str = what) -> Any:
            if args and args[0] is not None:
                return real(*args)
            chance.note(TIME, _what)
            return real(chance.now_ns() / 1e9) if chance.set(TIME) else real()

        _stand_in(chance, time, name, at)

    def strftime(real: Any, form: str, *args: Any) -> Any:
        if args:
            return real(form, *args)
        chance.note(TIME, "time.strftime()")
        return real(form, time.localtime())

    def sleep(real: Any, seconds: float) -> None:
        real(seconds)
        if chance.set(TIME):
            chance.slept(seconds)

    _stand_in(chance, time, "strftime", strftime)
    _stand_in(chance, time, "sleep", sleep)


class _Kind(type):
    """The type of the stand-ins for `date` and `datetime`: whatever is one of the real ones is one of them."""

    real: type

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.real)


def _clock_classes(chance: Chance) -> dict[str, type]:
    """Stand-ins for `datetime.datetime` and `datetime.date`: they make real ones, and ask the held clock for now."""
    real_datetime, real_date = datetime.datetime, datetime.date

    def now(tz: Any = None) -> Any:
        if _is_ours(sys._getframe(2)) or not chance.note(TIME, "datetime.now()") or not chance.set(TIME):
            return real_datetime.now(tz)
        return real_datetime.fromtimestamp(chance.now_ns() / 1e9, tz)

    class Datetime(real_datetime, metaclass=_Kind):  # type: ignore[misc,valid-type]  # a stand-in for the class
        """`datetime.datetime` while a step is watched."""

        real = real_datetime

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return (real_datetime if cls is Datetime else super().__new__)(*_own(cls, Datetime, args), **kwargs)

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return now(tz)

        @classmethod
        def today(cls) -> Any:
            return now()

        @classmethod
        def utcnow(cls) -> Any:
            return now(datetime.UTC).replace(tzinfo=None)

    class Date(real_date, metaclass=_Kind):  # type: ignore[misc,valid-type]  # a stand-in for the class
        """`datetime.date` while a step is watched."""

        real = real_date

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return (real_date if cls is Date else super().__new__)(*_own(cls, Date, args), **kwargs)

        @classmethod
        def today(cls) -> Any:
            return now().date()

    found: dict[str, type] = {"datetime": Datetime, "date": Date}
    for name, made in found.items():
        made.__module__ = "datetime"
        made.__qualname__ = str(name.encode(), "ascii")  # no interned text: a pickle tells what is one and the same
    return found


def _reduced(moment: datetime.date) -> tuple[Any, ...]:
    """A real date or datetime as its own pickle, which finds its class by name, and so the one that is there now."""
    _, *rest = cast("tuple[Any, ...]", moment.__reduce_ex__(4))
    return getattr(datetime, type(moment).__name__), *rest


def _own(cls: type, stand_in: type, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a constructor: a subclass of the stand-in makes its own instances."""
    return args if cls is stand_in else (cls, *args)


@contextlib.contextmanager
def _classes(chance: Chance) -> Iterator[None]:
    """The clock's classes stand in while a step runs only: a pickle names the real ones.

    Names that the project's modules took by `from datetime import datetime` are changed too.
    """
    made = _clock_classes(chance)
    real = {name: getattr(datetime, name) for name in made}
    changed: list[tuple[Any, str, Any]] = [(datetime, name, real[name]) for name in made]
    for module in sys.modules.copy().values():
        file = getattr(module, "__file__", None)
        if not file or not isinstance(module, types.ModuleType):
            continue
        taken = [
            (module, name, value)
            for name, value in list(vars(module).items())
            if value is real["datetime"] or value is real["date"]
        ]
        # few take them; to ask of each file where it lies takes far longer
        if taken and is_own_file(file, chance.root):
            changed += taken
    stamp = getattr(sys.modules.get("pandas"), "Timestamp", None)
    own = vars(stamp) if stamp is not None else {}
    kept = {name: own[name] for name in ("now", "today", "utcnow") if name in own}
    for owner, name, value in changed:
        setattr(owner, name, made["datetime" if value is real["datetime"] else "date"])
    for name in kept:
        setattr(stamp, name, _stamp_now(chance, stamp, name))
    for kind in real.values():
        copyreg.pickle(kind, _reduced)
    try:
        yield
    finally:
        for kind in real.values():
            copyreg.dispatch_table.pop(kind, None)
        for owner, name, value in changed:
            setattr(owner, name, value)
        for name, value in kept.items():
            setattr(stamp, name, value)


def _stamp_now(chance: Chance, stamp: Any, name: str) -> Any:
    real = getattr(stamp, name)

    def now(_cls: Any, tz: Any = None) -> Any:
        arguments = () if name == "utcnow" else (tz,)
        if not chance.note(TIME, f"pandas.Timestamp.{name}()") or not chance.set(TIME):
            return real(*arguments)
        return stamp(chance.now_ns(), tz="UTC").tz_convert("UTC" if name == "utcnow" else tz)

    return classmethod(now)


# threads and processes


def _install_parallel(chance: Chance) -> None:
    def submit(real: Any, self: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        chance.note(PARALLEL, f"{type(self).__name__}.submit()")
        if not chance.set(PARALLEL):
            return real(self, function, *args, **kwargs)
        made: futures.Future[Any] = futures.Future()
        try:
            made.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # as an executor does: it is raised where the result is asked for
            made.set_exception(error)
        return made

    def as_completed(real: Any, several: Iterable[Any], timeout: float | None = None) -> Any:
        chance.note(PARALLEL, "concurrent.futures.as_completed()")
        return iter(list(several)) if chance.set(PARALLEL) else real(several, timeout)

    def unordered(real: Any, self: Any, function: Any, items: Any, chunksize: int = 1) -> Any:
        chance.note(PARALLEL, "Pool.imap_unordered()")
        return self.imap(function, items, chunksize) if chance.set(PARALLEL) else real(self, function, items, chunksize)

    def begin(real: Any, self: threading.Thread) -> None:
        owner = sys._getframe(2).f_globals.get("__name__", "")
        if str(owner).startswith(("concurrent.futures", "multiprocessing")):
            real(self)
            return
        chance.note(PARALLEL, "Thread.start()")
        real(self)
        if chance.set(PARALLEL):
            self.join(_JOIN_S)  # one after the other, unless they wait for each other

    for pool in (futures.ThreadPoolExecutor, futures.ProcessPoolExecutor):
        _stand_in(chance, pool, "submit", submit)
    _stand_in(chance, futures, "as_completed", as_completed)
    _stand_in(chance, multiprocessing.pool.Pool, "imap_unordered", unordered)
    _stand_in(chance, threading.Thread, "start", begin)


def _install_process(chance: Chance) -> None:
    def named(what: str, value: Callable[[str], Any]) -> Callable[..., Any]:
        def answer(real: Any, *args: Any) -> Any:
            chance.note(PROCESS, what)
            return value(chance.set(PROCESS)) if chance.set(PROCESS) else real(*args)

        return answer

    _stand_in(chance, os, "getpid", named("os.getpid()", int))
    _stand_in(chance, socket, "gethostname", named("socket.gethostname()", lambda text: f"host{text}"))
    _stand_in(chance, platform, "node", named("platform.node()", lambda text: f"host{text}"))

    def folder(real: Any) -> Any:
        chance.note(FOLDER, "os.getcwd()")
        return real()

    _stand_in(chance, os, "getcwd", folder)

    def cores(real: Any) -> Any:
        chance.note(CORES, "os.cpu_count()")
        return int(chance.set(CORES)) if chance.set(CORES) else real()

    _stand_in(chance, os, "cpu_count", cores)


def _install_addresses(chance: Chance) -> None:
    """Names of objects and threads that are places in memory. Only for the project's own lines: libraries look up by
    them what they have kept by the real ones."""
    base = 0x7F00_0000_0000
    asked: dict[int, tuple[int, Any]] = {}
    threads: dict[int, int] = {}

    def address(real: Any, thing: Any) -> Any:
        if not _is_asked_by_project(chance) or not chance.note(ADDRESS, "id()") or not chance.set(ADDRESS):
            return real(thing)
        number = asked.setdefault(real(thing), (len(asked), thing))[0]  # kept: another would get its address
        return base + int(chance.set(ADDRESS)) * 0x135_7910 + number * 64

    _stand_in(chance, builtins, "id", address)
    for name in ("get_ident", "get_native_id"):
        what = f"threading.{name}()"

        def ident(real: Any, _what: str = what) -> Any:
            if not _is_asked_by_project(chance) or not chance.note(PROCESS, _what) or not chance.set(PROCESS):
                return real()
            return int(chance.set(PROCESS)) * 1_000 + threads.setdefault(real(), len(threads))

        _stand_in(chance, threading, name, ident)


def _is_asked_by_project(chance: Chance) -> bool:
    """Whether the line that called a stand-in is one of the project."""
    file = sys._getframe(3).f_code.co_filename
    return not file.startswith("<") and _is_own(file, chance.root)


_is_own = functools.lru_cache(maxsize=10_000)(is_own_file)
