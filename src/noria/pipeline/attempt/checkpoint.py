"""`nr.checkpointed`: a long step saves how far it has come, and goes on from there in another process.

What is saved is working state, not history: an object in the store, named by a lease that goes when
the step is done, so that checkpoints are no facts and are collected with the rest. A checkpoint
belongs to the key of its step: after an edit, or with other inputs, none is found. The same state
and the same remaining items give the same result, so a resumed training ends with the same bytes if
everything that changes from pass to pass is handed over. The generators that a process has one of
(`random`, `numpy.random`, PyTorch's) are kept without being asked: dropout and shuffling draw from them.

Processes that a step starts and that train together (`torch.distributed`) go on from one point: rank 0
saves, tells the others by the store of their group where it begins, and all take up what it kept. Other
processes of a step keep nothing, since nobody could tell which of them a checkpoint is of.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from typing import Any, TypeVar

from noria.core.clock import duration
from noria.core.errors import NotFound, StepFailed, UsageError, WorldError
from noria.core.frozen import frozen, slotted
from noria.core.identity import JSON, is_digest
from noria.pipeline import generators
from noria.pipeline.ambient import Preempted
from noria.pipeline.attempt.leave import leaving
from noria.pipeline.outputs import values
from noria.pipeline.outputs.values import Unstorable, Value
from noria.store.failpoint import failpoint
from noria.store.workspace import Workspace

__all__ = ["Group", "Keeper", "checkpointed", "keep_with", "keeping", "kept", "kept_with"]

T = TypeVar("T")
PREFIX = "checkpoint/"
KEPT_S = 30 * 86400.0
"""So long a checkpoint of a step that nobody finishes is kept, at least."""


@slotted
class Keeper:
    """Saves and finds the checkpoints of one attempt; `name` says whose they are: the key, and for some the run.

    `reach` gives the workspace, and is called when one is needed. `process` is "" in the step's own, else which
    of those that were started this is, in order: "2" is the second that the step started.
    """

    reach: Callable[[], Workspace]
    name: str
    process: str = ""
    _loops: int = 0
    _used: set[str] = field(default_factory=set)
    _started: int = 0
    _pid: int = field(default_factory=os.getpid)

    def starts(self) -> str:
        """A process is started from this one: what it is to be called."""
        self._started += 1
        return f"{self.here()}.{self._started}".removeprefix(".")

    def here(self) -> str:
        """`process` of the process that asks, which may be a fork of the one that this was made in."""
        return self.process if os.getpid() == self._pid else f"{self.process}.{self._started}".removeprefix(".")

    def begin(self) -> str:
        """The name of a loop: the first that a process goes through is 0."""
        self._loops += 1
        return f"{self.here()}/{self._loops - 1}".removeprefix("/")

    def save(self, loop: str, passes: int, state: tuple[Any, ...]) -> None:
        """Keep the state after so many passes, in place of what was kept before.

        Raises: StepFailed if it cannot be kept without loss.
        """
        ws = self.reach()
        try:
            kept = [*(_taken(each) for each in state), generators.states()]
            stored = values.store(ws.objects, kept, root=ws.project.root)
        except Unstorable as error:
            raise StepFailed(f"nr.checkpointed cannot keep that: {error.reason}", hint=error.hint) from error
        failpoint("checkpoint.stored")
        data: dict[str, JSON] = {"digest": stored.digest, "type": stored.type, "passes": passes}
        ws.jobs.acquire(self._lease(loop), owner=self.name, ttl_s=KEPT_S, data=data)
        self._used.add(loop)

    def restore(self, loop: str, state: tuple[Any, ...]) -> int:
        """Put the objects back into the state that was kept; how many passes that is after. 0: there is none."""
        passes, kept = self._found(loop)
        if not passes or len(kept) != len(state) + 1:
            return 0
        self._used.add(loop)
        _put_all_back(state, kept)
        return passes

    def restore_all(self, loop: str, state: tuple[Any, ...], group: Group) -> int:
        """As `restore`, in each process of a group that trains together: all go on from where rank 0 does.

        Raises: StepFailed if what rank 0 goes on from cannot be read here, or is of other objects.
        """
        place = f"noria/checkpoint/{self._loops}"
        if group.rank == 0:
            passes = self.restore(loop, state)
            group.store.set(place, json.dumps([loop, passes]))
            return passes
        told = json.loads(group.store.get(place))
        leads, passes = str(told[0]), int(told[1])
        if not passes:
            return 0
        found, kept = self._found(leads)
        if found != passes or len(kept) != len(state) + 1:
            text = f"rank {group.rank} cannot go on after pass {passes} as rank 0 does: it finds another checkpoint"
            raise StepFailed(text, hint="every rank hands the same objects to nr.checkpointed, in the same order")
        _put_all_back(state, kept)
        return passes

    def forget(self) -> None:
        """The step is done: nobody needs them any more."""
        ws = self.reach()
        names = {self._lease(loop) for loop in self._used}
        if self._started:
            names |= {each.name for each in ws.jobs.leases(self._lease(""))}
        for name in names:
            ws.jobs.release(name, self.name)

    def _found(self, loop: str) -> tuple[int, list[Any]]:
        """After how many passes the newest checkpoint of a loop was kept, and its content; (0, []) without one."""
        ws, wanted = self.reach(), self._lease(loop)
        found = next((each for each in ws.jobs.leases(wanted) if each.name == wanted), None)
        if found is None:
            return 0, []
        name, kind, passes = found.data.get("digest"), found.data.get("type"), found.data.get("passes")
        if not is_digest(str(name)) or kind != "plain" or not isinstance(passes, int):
            return 0, []
        try:
            return passes, values.read(ws.objects, Value(str(name), kind), ws.project.root)
        except (NotFound, WorldError):
            return 0, []  # gone or altered: never used, and the passes are made again

    def _lease(self, loop: str) -> str:
        return f"{PREFIX}{self.name}/{loop}"


def kept(ws: Workspace, name: str) -> str:
    """What is kept under a name by now: another text once an attempt has come further; "" for nothing."""
    leases = ws.jobs.leases(f"{PREFIX}{name}/")
    return "\n".join(sorted(f"{each.name} {each.data.get('passes')} {each.data.get('digest')}" for each in leases))


@frozen
class Group:
    """Which of the processes that train together this is, and the store that they share (`torch.distributed`)."""

    rank: int
    store: Any


_KEEPER: contextvars.ContextVar[Keeper | None] = contextvars.ContextVar("noria_keeper", default=None)


def kept_with() -> Keeper | None:
    """The keeper of the running step; None outside of one."""
    return _KEEPER.get()


def keep_with(keeper: Keeper) -> None:
    """Let loops keep their checkpoints with it, for the rest of this process."""
    _KEEPER.set(keeper)


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
    In processes that the step starts: see the module; all ranks go through it, each with its own objects.

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
    group = None
    if keeper is not None and keeper.here():
        group = _group()
        if group is None:
            print(_KEPT_NOWHERE, file=sys.stderr, flush=True)
            keeper = None
    if keeper is None:
        yield from items
        return
    loop = keeper.begin()
    before = done = keeper.restore(loop, state) if group is None else keeper.restore_all(loop, state, group)
    saved, saved_at = before, time.monotonic()
    is_saving = group is None or group.rank == 0
    with leaving().passing():
        for number, item in enumerate(items):
            if number < before:
                continue
            yield item
            done = number + 1
            is_asked = leaving().is_asked
            if is_saving and (is_asked or time.monotonic() - saved_at >= pause_s):
                keeper.save(loop, done, state)
                saved, saved_at = done, time.monotonic()
            if is_asked:
                raise Preempted
    if is_saving and saved and saved != done:
        keeper.save(loop, done, state)  # a later loop may be cut off, and this one is not to be gone through again


_KEPT_NOWHERE = (
    "nr.checkpointed keeps nothing here: this is a process that the step started, and none of a group of "
    "torch.distributed. Go through it in the step itself, or after init_process_group"
)


def _group() -> Group | None:
    """That of `torch.distributed` which this process is of, if it is."""
    found = sys.modules.get("torch.distributed")
    if found is None or not found.is_available() or not found.is_initialized():
        return None
    return Group(found.get_rank(), found.distributed_c10d._get_default_store())


def _put_all_back(state: tuple[Any, ...], kept: list[Any]) -> None:
    for each, before in zip(state, kept[:-1], strict=True):
        _put_back(each, before)
    generators.put_back(kept[-1])


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
