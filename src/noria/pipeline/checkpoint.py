"""`nr.checkpointed`: a long step saves how far it has come, and goes on from there in another process.

What is saved is working state, not history: an object in the store, named by a lease that goes when
the step is done, so that checkpoints are no facts and are collected with the rest. A checkpoint
belongs to the key of its step: after an edit, or with other inputs, none is found. The same state
and the same remaining items give the same result, so a resumed training ends with the same bytes if
everything that changes from pass to pass is handed over. The generators that a process has one of
(`random`, `numpy.random`, PyTorch's) are kept without being asked: dropout and shuffling draw from them.
"""

from __future__ import annotations

import contextlib
import contextvars
import random
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Any, TypeVar

from noria.core.clock import duration
from noria.core.errors import NotFound, StepFailed, UsageError, WorldError
from noria.core.frozen import slotted
from noria.core.identity import JSON, is_digest
from noria.pipeline import values
from noria.pipeline.ambient import Preempted
from noria.pipeline.leave import leaving
from noria.pipeline.values import Unstorable, Value
from noria.store.failpoint import failpoint
from noria.store.workspace import Workspace

__all__ = ["Keeper", "checkpointed", "keeping"]

T = TypeVar("T")
PREFIX = "checkpoint/"
KEPT_S = 30 * 86400.0
"""So long a checkpoint of a step that nobody finishes is kept, at least."""


@slotted
class Keeper:
    """Saves and finds the checkpoints of one attempt; `name` says whose they are: the key, and for some the run."""

    ws: Workspace
    name: str
    _loops: int = 0
    _used: set[int] = field(default_factory=set)

    def begin(self) -> int:
        """The number of a loop: the first that the step goes through is 0."""
        self._loops += 1
        return self._loops - 1

    def save(self, loop: int, passes: int, state: tuple[Any, ...]) -> None:
        """Keep the state after so many passes, in place of what was kept before.

        Raises: StepFailed if it cannot be kept without loss.
        """
        try:
            kept = [*(_taken(each) for each in state), _generators()]
            stored = values.store(self.ws.objects, kept, root=self.ws.project.root)
        except Unstorable as error:
            raise StepFailed(f"nr.checkpointed cannot keep that: {error.reason}", hint=error.hint) from error
        failpoint("checkpoint.stored")
        data: dict[str, JSON] = {"digest": stored.digest, "type": stored.type, "passes": passes}
        self.ws.jobs.acquire(self._lease(loop), owner=self.name, ttl_s=KEPT_S, data=data)
        self._used.add(loop)

    def restore(self, loop: int, state: tuple[Any, ...]) -> int:
        """Put the objects back into the state that was kept; how many passes that is after. 0: there is none."""
        found = next((each for each in self.ws.jobs.leases(self._lease(loop)) if each.name == self._lease(loop)), None)
        if found is None:
            return 0
        self._used.add(loop)
        name, kind, passes = found.data.get("digest"), found.data.get("type"), found.data.get("passes")
        if not is_digest(str(name)) or kind != "plain" or not isinstance(passes, int):
            return 0
        try:
            kept = values.read(self.ws.objects, Value(str(name), kind), self.ws.project.root)
        except (NotFound, WorldError):
            return 0  # gone or altered: never used, and the passes are made again
        if len(kept) != len(state) + 1:
            return 0
        for each, before in zip(state, kept[:-1], strict=True):
            _put_back(each, before)
        _put_back_generators(kept[-1])
        return passes

    def forget(self) -> None:
        """The step is done: nobody needs them any more."""
        for loop in self._used:
            self.ws.jobs.release(self._lease(loop), self.name)

    def _lease(self, loop: int) -> str:
        return f"{PREFIX}{self.name}/{loop}"


_KEEPER: contextvars.ContextVar[Keeper | None] = contextvars.ContextVar("noria_keeper", default=None)


@contextlib.contextmanager
def keeping(keeper: Keeper) -> Iterator[None]:
    """Let loops of the block keep their checkpoints with it."""
    token = _KEEPER.set(keeper)
    try:
        yield
    finally:
        _KEEPER.reset(token)


def checkpointed(items: Iterable[T], *state: Any, every: str = "30s") -> Iterator[T]:
    """Go through items so that a step which is cut off goes on where it was, also on another worker.

    After a pass the state is saved if `every` has gone by, or if the process was asked to leave
    (SIGTERM), which it then does. When the step is begun again, the state is put back into the
    objects and the passes that were made are left out. In a test or a notebook it only goes through.

    Args:
        items: the same in every attempt, such as `range(100)`.
        state: everything that passes change: estimators with `partial_fit`, arrays, dictionaries and
            lists (changed in place), `numpy.random.Generator`, `random.Random`, `torch.Generator`, objects
            with `state_dict` and `load_state_dict`. Each by itself: what two of them share is doubled. The
            generators of `random`, `numpy.random` and PyTorch themselves are kept in any case.
        every: "0s" saves after each pass.
    Raises: UsageError for a state that cannot be changed in place; StepFailed if it cannot be kept.
    Example: for epoch in nr.checkpointed(range(20), model, shuffler): model.partial_fit(x, y)
    """
    try:
        pause_s = duration(every).total_seconds()
    except ValueError as error:
        raise UsageError(f"nr.checkpointed: {error}") from error
    for each in state:
        if each is None or isinstance(each, str | bytes | int | float | complex | tuple | frozenset):
            raise UsageError(
                f"nr.checkpointed cannot put a {type(each).__name__} back in place",
                hint="hand over what holds it: an object, a dictionary, an array",
            )
    return _passes(items, state, pause_s)


def _passes(items: Iterable[T], state: tuple[Any, ...], pause_s: float) -> Iterator[T]:
    keeper = _KEEPER.get()
    if keeper is None:
        yield from items
        return
    loop = keeper.begin()
    before = done = keeper.restore(loop, state)
    saved, saved_at = before, time.monotonic()
    with leaving().passing():
        for number, item in enumerate(items):
            if number < before:
                continue
            yield item
            done = number + 1
            is_asked = leaving().is_asked
            if is_asked or time.monotonic() - saved_at >= pause_s:
                keeper.save(loop, done, state)
                saved, saved_at = done, time.monotonic()
            if is_asked:
                raise Preempted
    if saved and saved != done:
        keeper.save(loop, done, state)  # a later loop may be cut off, and this one is not to be gone through again


def _taken(thing: Any) -> Any:
    """The state of an object as a value that can be stored."""
    if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        return thing.state_dict()
    if isinstance(thing, random.Random):
        return thing.getstate()
    if _is_generator(thing):
        return thing.bit_generator.state
    if _is_torch_generator(thing):
        return thing.get_state()
    return thing


def _put_back(thing: Any, state: Any) -> None:
    """Make an object what it was."""
    if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        thing.load_state_dict(state)
    elif isinstance(thing, random.Random):
        thing.setstate(state)
    elif _is_generator(thing):
        thing.bit_generator.state = state
    elif _is_torch_generator(thing):
        thing.set_state(state)
    elif isinstance(thing, dict | set):
        thing.clear()
        thing.update(state)
    elif isinstance(thing, list | bytearray):
        thing[:] = state
    elif type(thing).__module__ == "numpy" and type(thing).__name__ == "ndarray":
        thing[...] = state
    else:
        vars(thing).clear()
        vars(thing).update(vars(state))


def _is_generator(thing: Any) -> bool:
    return type(thing).__name__ == "Generator" and type(thing).__module__.startswith("numpy.random")


def _is_torch_generator(thing: Any) -> bool:
    return type(thing).__name__ == "Generator" and type(thing).__module__.startswith("torch")


def _generators() -> dict[str, Any]:
    """The states of the generators that a process has one of, of the libraries that are loaded."""
    found: dict[str, Any] = {"random": random.getstate()}
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    if numpy is not None:
        found["numpy"] = numpy.get_state()
    if torch is not None:
        found["torch"] = torch.get_rng_state()
        if torch.cuda.is_initialized():
            found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def _put_back_generators(states: dict[str, Any]) -> None:
    """Let them go on as they would have. What drew in the cut-off process was loaded by its step, and so it is now."""
    random.setstate(states["random"])
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    if numpy is not None and "numpy" in states:
        numpy.set_state(states["numpy"])
    if torch is not None and "torch" in states:
        torch.set_rng_state(states["torch"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(states["cuda"])
