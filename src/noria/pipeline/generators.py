"""The random generators that a process has one of: `random`'s, NumPy's old one, PyTorch's.

A project that seeds one where it is imported (`np.random.seed(42)` above its steps) means its results to
be the same each time. But what a step draws would then depend on who drew before it in the same process:
on the executor, on the order of what was ready at once, and on which steps came from the cache. So each
call of a step begins with a state of its own, made from what the import left and from what the step and
its inputs are. Whoever seeded nothing keeps what the system gave.

What state polars is in cannot be read, so neither can whether somebody seeded it: where it is loaded, each call of a
step begins with a seed of its own, made from what the step and its inputs are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sys
import types
from collections.abc import Iterator
from typing import Any

__all__ = [
    "NAMES",
    "UNSEEDED",
    "begin",
    "drawn",
    "environment",
    "forked",
    "importing",
    "is_seeding",
    "left",
    "put_back",
    "states",
]

NAMES = ("random", "numpy", "torch")
UNSEEDED = "missing"
_FRESH = (0x80000000, 623)
"""First word and place of a generator of NumPy that the system has seeded; a seed that is a number leaves others."""
_LARGEST_SEED = 2**32
"""PyTorch begins with 53 or 64 random bits: a smaller seed was chosen by somebody."""
_BLOCKS = 64
"""How many blocks of 624 numbers libraries may draw while they are imported and nobody seeds (joblib draws a few)."""

_left: dict[str, str] = {}
"""What the import of the project left in each generator that it seeded, as a digest."""


_began: dict[str, str | None] = {}
"""The variable PYTHONHASHSEED as it was before a project was imported: what the hashes here were made with."""
_HASH_SEED = "PYTHONHASHSEED"


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """For the block the project is imported; which generators that seeds is remembered until the next import."""
    _left.clear()
    _began.setdefault(_HASH_SEED, os.environ.get(_HASH_SEED))
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    secret = os.urandom(32)
    random.seed(secret)  # an import before this one may have left the very state that this one leaves
    given = None
    if numpy is not None:
        numpy.seed()
        given = numpy.get_state()
    if torch is not None:
        torch.seed()
    yield
    if not _is_drawn_from(random.getstate(), secret):
        _left["random"] = _digest(random.getstate())
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    if numpy is not None:
        state = numpy.get_state()
        if not (_is_fresh(state) if given is None else _is_drawn_by_numpy(state, given)):
            _left["numpy"] = _digest((state[1].tolist(), state[2:]))
    if torch is not None and torch.initial_seed() < _LARGEST_SEED:
        _left["torch"] = _digest(torch.get_rng_state().tolist())


def environment() -> dict[str, str]:
    """The variables for a process that steps are to run in: its hashes are not seeded by what the project sets here.

    Python reads that variable when it begins. So it has no effect in this process, and is to have none there.
    """
    found = dict(os.environ)
    seed = _began.get(_HASH_SEED, found.get(_HASH_SEED))
    if seed is None:
        found.pop(_HASH_SEED, None)
    else:
        found[_HASH_SEED] = seed
    return found


def left(name: str) -> str:
    """What the project's import left in a generator, as a digest; UNSEEDED where it seeded none."""
    return _left.get(name, UNSEEDED)


def begin(start: str) -> None:
    """Let each generator that the import seeded, and polars', begin for a call of a step, which `start` names."""
    for name, left in _left.items():
        mixed = hashlib.sha256(f"{left}/{start}".encode()).digest()
        if name == "random":
            random.seed(mixed)
        elif name == "numpy":
            sys.modules["numpy.random"].seed([int.from_bytes(mixed[at : at + 4], "big") for at in range(0, 32, 4)])
        else:
            sys.modules["torch"].manual_seed(int.from_bytes(mixed[:8], "big") >> 1)
    seed_polars = getattr(sys.modules.get("polars"), "set_random_seed", None)
    if seed_polars is not None:
        seed_polars(int.from_bytes(hashlib.sha256(f"polars/{start}".encode()).digest()[:8], "big"))


def forked() -> None:
    """This is a fork: generators that nobody seeded are not to give here what they give in its siblings.

    Python does this itself for `random`.
    """
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    if numpy is not None and "numpy" not in _left:
        numpy.seed()
    if torch is not None and "torch" not in _left:
        torch.seed()


def is_seeding(thing: object) -> bool:
    """Whether it is the function that seeds one of the generators.

    Those of devices count where PyTorch's own was seeded: then a call of a step begins with that, which seeds them.
    """
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    if isinstance(thing, types.MethodType):  # each look at `random.seed` gives the same one
        return thing == random.seed
    seeds = [getattr(numpy, "seed", None), getattr(torch, "manual_seed", None)]
    if "torch" in _left:
        places = [getattr(torch, name, None) for name in ("cuda", "mps", "xpu")]
        seeds += [getattr(place, name, None) for place in places for name in ("manual_seed", "manual_seed_all")]
    return thing is not None and any(thing is each for each in seeds)


def states() -> dict[str, Any]:
    """The states of the generators, of the libraries that are loaded."""
    found: dict[str, Any] = {"random": random.getstate()}
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    if numpy is not None:
        found["numpy"] = numpy.get_state()
    if torch is not None:
        found["torch"] = torch.get_rng_state()
        if torch.cuda.is_initialized():
            found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def drawn(before: dict[str, Any]) -> list[str]:
    """Which generators are not as they were: somebody drew from them, or seeded them."""
    now = states()
    found = [name for name, state in now.items() if not _is_same(before.get(name), state)]
    return list(dict.fromkeys("torch" if name == "cuda" else name for name in found))


def put_back(states: dict[str, Any]) -> None:
    """Let them go on as they would have. What drew in the cut-off process was loaded by its step, and so it is now."""
    random.setstate(states["random"])
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    if numpy is not None and "numpy" in states:
        numpy.set_state(states["numpy"])
    if torch is not None and "torch" in states:
        torch.set_rng_state(states["torch"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(states["cuda"])


def _is_same(before: Any, now: Any) -> bool:
    if isinstance(now, tuple) and not isinstance(now[1], tuple):  # NumPy's: name, words, place, two of a normal draw
        return _is_fresh(now) if before is None else before[2:] == now[2:] and bool((before[1] == now[1]).all())
    if isinstance(now, tuple):
        return bool(before == now)
    if isinstance(now, list):  # one of each CUDA device
        return before is not None and all(_is_same(*pair) for pair in zip(before, now, strict=True))
    return before is not None and bool((before == now).all())


def _is_fresh(state: tuple[Any, ...]) -> bool:
    return (int(state[1][0]), state[2]) == _FRESH


def _is_drawn_from(state: tuple[Any, ...], secret: bytes) -> bool:
    """Whether a state of `random` is one that the seed comes to by drawing alone."""
    other = random.Random(secret)
    for _ in range(_BLOCKS):
        if other.getstate()[1][:-1] == state[1][:-1]:
            return True
        other.getrandbits(32 * 624)
    return False


def _is_drawn_by_numpy(state: tuple[Any, ...], given: tuple[Any, ...]) -> bool:
    other = sys.modules["numpy.random"].RandomState()
    other.set_state(given)
    for _ in range(_BLOCKS):
        if (other.get_state()[1] == state[1]).all():
            return True
        other.bytes(4 * 624)
    return False


def _digest(state: object) -> str:
    return hashlib.sha256(repr(state).encode()).hexdigest()
