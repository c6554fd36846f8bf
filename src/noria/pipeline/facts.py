"""What can happen to steps."""

from __future__ import annotations

from dataclasses import dataclass

from noria.core.fact import fact

__all__ = ["FACTS", "Output", "StepFinished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One value that a step gave: its name, the object, and the serialiser that wrote it."""

    name: str
    digest: str
    type: str
    size_bytes: int = 0


@fact("step.finished", subject="run/{run}")
class StepFinished:
    """A step of a run ended: status is done, cached, failed, killed, or skipped.

    `key` is the step's fingerprint and `document` the digest of what it was computed from;
    `because` says why it ran (or that it did not). A done step with a key is a cache entry.
    `reads` are files that the step opened beyond what the key covers, as (path, digest): the entry
    is good only while they are the same.
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


FACTS = (StepFinished,)
