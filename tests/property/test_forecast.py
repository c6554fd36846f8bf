"""How long steps still take: never less than the work or the longest way through it, and exact where it can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.pipeline.driving.forecast import Ahead, seconds_left

seconds = st.floats(0.0, 1000.0, allow_nan=False)


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Ahead]:
    """Steps in the order of a pipeline: each waits for some before it, or for ones that are over."""
    made: dict[str, Ahead] = {}
    for number in range(draw(st.integers(0, 12))):
        parents = tuple(draw(st.lists(st.sampled_from([*made, "over"]), unique=True, max_size=3)))
        is_ready = not any(parent in made for parent in parents)
        pieces = tuple(draw(st.lists(seconds, max_size=5)))
        running = draw(st.integers(0, len(pieces))) if is_ready else 0
        made[f"s{number}"] = Ahead(parents, pieces, running)
    return made


def longest_way(graph: dict[str, Ahead]) -> float:
    """The critical path: each step takes its longest piece."""
    ends: dict[str, float] = {}
    for name, step in graph.items():
        ends[name] = max((ends.get(parent, 0.0) for parent in step.parents), default=0.0) + max(step.pieces, default=0)
    return max(ends.values(), default=0.0)


@given(graphs(), st.integers(1, 6))
def test_it_is_between_the_least_and_all_of_the_work(graph: dict[str, Ahead], slots: int) -> None:
    work = sum(sum(step.pieces) for step in graph.values())
    begun = sum(step.running for step in graph.values())
    told = seconds_left(graph, slots)
    slack = 1e-6 * (1 + work)
    assert max(longest_way(graph), work / max(slots, begun, 1)) - slack <= told <= work + slack


@given(graphs())
def test_with_room_for_all_it_is_the_longest_way(graph: dict[str, Ahead]) -> None:
    assert seconds_left(graph, 1000) == pytest.approx(longest_way(graph))


@given(graphs())
def test_one_after_the_other_it_is_all_of_the_work(graph: dict[str, Ahead]) -> None:
    waiting = {name: Ahead(step.parents, step.pieces) for name, step in graph.items()}
    assert seconds_left(waiting, 1) == pytest.approx(sum(sum(step.pieces) for step in graph.values()))
