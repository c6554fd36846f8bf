"""Directed graphs as plain mappings: order, ancestors, cycles. For plans and for lineage."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

__all__ = ["ancestors", "find_cycle", "topological"]

N = TypeVar("N", bound=Hashable)


def topological(parents: Mapping[N, Iterable[N]]) -> list[N]:
    """Nodes in an order where every parent comes before its children; ties keep insertion order.

    Complexity: linear in nodes and edges. Raises: ValueError if there is a cycle.
    Source: Kahn (1962), Topological sorting of large networks.
    """
    nodes: dict[N, list[N]] = {node: list(dict.fromkeys(above)) for node, above in parents.items()}
    for above in list(nodes.values()):
        for node in above:
            nodes.setdefault(node, [])
    waiting = {node: len(above) for node, above in nodes.items()}
    children: dict[N, list[N]] = {node: [] for node in nodes}
    for node, above in nodes.items():
        for parent in above:
            children[parent].append(node)
    ready = [node for node in nodes if waiting[node] == 0]
    order: list[N] = []
    for node in ready:
        order.append(node)
        for child in children[node]:
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    if len(order) != len(nodes):
        cycle = " -> ".join(str(node) for node in find_cycle(nodes) or ())
        raise ValueError(f"the graph has a cycle: {cycle}")
    return order


def ancestors(start: Iterable[N], parents: Mapping[N, Iterable[N]]) -> list[N]:
    """Every node above the start nodes, nearest first, without the start nodes themselves."""
    beginning = list(start)
    seen = set(beginning)
    found: list[N] = []
    queue = list(beginning)
    for node in queue:
        for parent in parents.get(node, ()):
            if parent not in seen:
                seen.add(parent)
                found.append(parent)
                queue.append(parent)
    return found


def find_cycle(parents: Mapping[N, Iterable[N]]) -> list[N] | None:
    """One cycle as a list whose first and last node are the same, or None. Iterative: no depth limit."""
    done: set[N] = set()
    for root in parents:
        if root in done:
            continue
        path: list[N] = [root]
        on_path = {root}
        stack = [iter(parents.get(root, ()))]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
                left = path.pop()
                on_path.discard(left)
                done.add(left)
            elif following in on_path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                path.append(following)
                on_path.add(following)
                stack.append(iter(parents.get(following, ())))
    return None
