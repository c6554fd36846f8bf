"""How long steps that are known will still take, when as many of them run at once as there is room for. Pure.

It goes through the graph as the scheduler does: what is ready begins in the pipeline's order, each
piece when a slot is free. It knows nothing of cores and memory that steps ask for, and of what turns
out to be cached or not chosen; so it is an estimate, and mostly one that is too long.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping

from noria.core.frozen import frozen

__all__ = ["Ahead", "seconds_left"]


@frozen
class Ahead:
    """A step that is not over: those that it waits for, and how many seconds each of its pieces still takes.

    A step is one piece; a mapped one has one for each item, or as many as fit beside each other.
    `running` of the pieces, the first ones, are under way.
    """

    parents: tuple[str, ...]
    pieces: tuple[float, ...]
    running: int = 0


def seconds_left(ahead: Mapping[str, Ahead], slots: int) -> float:
    """Seconds until the last of these steps is over; 0 for none.

    Parents that are not among them are over. What is under way is never waited with.
    """
    open_pieces = {name: len(step.pieces) for name, step in ahead.items()}
    waits_for = {name: sum(parent in ahead for parent in set(step.parents)) for name, step in ahead.items()}
    children: dict[str, list[str]] = {name: [] for name in ahead}
    for name, step in ahead.items():
        for parent in set(step.parents):
            if parent in ahead:
                children[parent].append(name)
    busy = [(piece, name) for name, step in ahead.items() for piece in step.pieces[: step.running]]
    heapq.heapify(busy)
    waiting: deque[tuple[float, str]] = deque()
    ready = [name for name, count in waits_for.items() if not count]
    now = 0.0
    while ready or waiting or busy:
        while ready:
            name = ready.pop(0)
            waiting.extend((piece, name) for piece in ahead[name].pieces[ahead[name].running :])
            if not open_pieces[name]:
                ready.extend(_freed(name, children, waits_for))
        while waiting and len(busy) < max(1, slots):
            piece, name = waiting.popleft()
            heapq.heappush(busy, (now + piece, name))
        if busy:
            now, name = heapq.heappop(busy)
            open_pieces[name] -= 1
            if not open_pieces[name]:
                ready.extend(_freed(name, children, waits_for))
    return now


def _freed(name: str, children: Mapping[str, list[str]], waits_for: dict[str, int]) -> list[str]:
    """The steps that waited for this one alone."""
    found = []
    for child in children[name]:
        waits_for[child] -= 1
        if not waits_for[child]:
            found.append(child)
    return found
