"""What can happen to steps."""

from __future__ import annotations

from noria.core.fact import fact
from noria.core.frozen import frozen

__all__ = ["FACTS", "Item", "ItemsFinished", "Output", "StepFinished", "item_name"]


@frozen(kw_only=True)
class Output:
    """One value that a step gave: its name, the object, and the serialiser that wrote it."""

    name: str
    digest: str
    type: str
    size_bytes: int = 0


@fact("step.finished", subject="run/{run}")
class StepFinished:
    """A step of a run ended: status is done, cached, failed, killed, cancelled, or skipped.

    `key` is the step's fingerprint and `document` the digest of what it was computed from;
    `because` says why it ran (or that it did not). A done step with a key is a cache entry.
    `reads` are files that the step opened beyond what the key covers, as (path, digest): the entry
    is good only while they are the same. `call` names what the step was given: a run that is resumed
    takes its own results by it, also those that cannot be cached. `attempts` counts those that
    were begun, `items` those of a mapped step; `energy_joules` and `cost` are estimates by the
    coefficients of noria.toml then, `cost` None where no price was set.
    """

    run: str
    step: str
    key: str
    document: str
    status: str
    because: str
    outputs: tuple[Output, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    log: str = ""
    error: str = ""
    cacheable: bool = True
    reads: tuple[tuple[str, str], ...] = ()
    call: str = ""
    attempts: int = 1
    items: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    energy_joules: float = 0.0
    cost: float | None = None


@frozen(kw_only=True)
class Item:
    """One item of a mapped step: its place from 0, and the rest as of a step."""

    item: int
    key: str
    status: str
    because: str
    outputs: tuple[Output, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    log: str = ""
    error: str = ""
    cacheable: bool = True
    reads: tuple[tuple[str, str], ...] = ()
    call: str = ""
    attempts: int = 1


@fact("items.finished", subject="run/{run}")
class ItemsFinished:
    """Some items of a mapped step ended. A done one with a key is a cache entry."""

    run: str
    step: str
    items: tuple[Item, ...]


FACTS = (StepFinished, ItemsFinished)


def item_name(step: str, item: int) -> str:
    """How an item is called where a step's name is wanted: `score.17`."""
    return f"{step}.{item}"
