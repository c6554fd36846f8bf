"""Which steps may begin, how much at once, and what follows an attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.errors import GateClosed, StepFailed, StepKilled, StoreUnavailable, UsageError
from noria.pipeline.driving import attempts
from noria.pipeline.driving.schedule import Schedule
from noria.pipeline.executor import Done, Usage
from noria.pipeline.options import StepOptions
from noria.pipeline.room import Capacity, Need, Room, lacking, need_of


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Up to twelve nodes, each with parents among those before it."""
    count = draw(st.integers(1, 12))
    return {f"n{place}": [f"n{above}" for above in range(place) if draw(st.booleans())] for place in range(count)}


@given(graphs(), st.randoms(use_true_random=False))
def test_every_node_begins_once_and_only_after_its_parents(graph: dict[str, list[str]], chance: object) -> None:
    schedule, opened, begun = Schedule(graph), [], []
    while not schedule.is_over:
        while schedule.has_ready:
            name = schedule.take()
            assert all(parent in schedule.over for parent in graph[name])
            opened.append(name)
            begun.append(name)
        assert opened, "something is always ready or open"
        name = opened.pop(chance.randrange(len(opened)))  # type: ignore[attr-defined]  # a random.Random
        schedule.settle(name, "done")
    assert sorted(begun) == sorted(graph)
    assert schedule.rest() == []


def test_a_node_without_one_of_its_inputs_says_which() -> None:
    schedule = Schedule({"a": [], "b": ["a"], "c": ["a", "b"]})
    for name, status in (("a", "done"), ("b", "skipped")):
        assert schedule.take() == name
        schedule.settle(name, status)
    assert schedule.take() == "c"
    assert schedule.missing("c") == "b"
    assert schedule.missing("b") == ""


@given(st.lists(st.tuples(st.floats(0, 4), st.integers(0, 40), st.floats(0, 2), st.booleans()), max_size=60))
def test_the_room_is_never_oversubscribed(asked: list[tuple[float, int, float, bool]]) -> None:
    has = Capacity(cpu=4, memory_bytes=100, gpu=2, slots=5)
    room, held = Room(has), dict[str, Need]()
    for number, (cpu, memory, gpu, gives_back) in enumerate(asked):
        need = Need(cpu=cpu, memory_bytes=memory, gpu=gpu)
        if room.take(str(number), need):
            held[str(number)] = need
        assert sum(each.cpu for each in held.values()) <= 4 + 1e-6
        assert sum(each.memory_bytes for each in held.values()) <= 100
        assert sum(each.gpu for each in held.values()) <= 2 + 1e-6
        assert len(held) <= 5
        if gives_back and held:
            name = next(iter(held))
            room.give(name)
            room.give(name)
            del held[name]
    assert room.running == len(held)


def test_whatever_a_machine_can_run_at_all_fits_into_an_empty_room() -> None:
    has = Capacity(cpu=2, memory_bytes=100, slots=3)
    options = StepOptions(cpu=64, memory_bytes=100)
    assert lacking(options, has) == ""
    assert Room(has).take("a", need_of(options, has))


def test_a_step_runs_on_one_machine_however_many_there_are() -> None:
    has = Capacity(cpu=8, memory_bytes=400, gpu=4, slots=8, each=Need(cpu=2, memory_bytes=100, gpu=1))
    assert lacking(StepOptions(cpu=64, memory_bytes=100, gpu=1), has) == ""
    assert need_of(StepOptions(cpu=64), has).cpu == 2
    assert "gpu=2, and there are 1" in lacking(StepOptions(gpu=2), has)
    assert "memory" in lacking(StepOptions(memory_bytes=101), has)
    room = Room(has)
    assert [room.take(name, need_of(StepOptions(cpu=64), has)) for name in "abcde"] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (StepOptions(gpu=1), "gpu=1, and there is none"),
        (StepOptions(memory_bytes=2**40), "memory of 1024.0 GiB"),
        (StepOptions(timeout_s=1), "a process of its own"),
        (StepOptions(isolated=True), "a process of its own"),
    ],
)
def test_what_an_executor_lacks_is_named(options: StepOptions, said: str) -> None:
    has = Capacity(cpu=2, memory_bytes=2**30, keeps_limits=False)
    assert said in lacking(options, has)
    assert lacking(StepOptions(), has) == ""


@pytest.mark.parametrize("error", [StepFailed("x"), StepKilled("x"), StoreUnavailable("x")])
def test_a_failure_is_tried_again_as_often_as_was_said(error: Exception) -> None:
    options = StepOptions(retries=2, retry_wait_s=1.0)
    done = Done(error=error)  # type: ignore[arg-type]  # each is a NoriaError
    pauses = [attempts.following(done, options, failures=count, preemptions=0, chance=1.0) for count in (1, 2, 3)]
    assert [each.is_again for each in pauses] == [True, True, False]
    assert [each.pause_s for each in pauses] == [1.0, 2.0, 0.0]


@pytest.mark.parametrize("error", [UsageError("x"), GateClosed("x")])
def test_what_was_refused_is_not_tried_again(error: Exception) -> None:
    done = Done(error=error)  # type: ignore[arg-type]  # each is a NoriaError
    assert not attempts.following(done, StepOptions(retries=5), failures=1, preemptions=0, chance=0.5).is_again


def test_being_asked_to_leave_costs_no_retry_but_not_for_ever() -> None:
    done = Done(error=StepKilled("x"), is_killed=True, is_preempted=True)
    first = attempts.following(done, StepOptions(), failures=0, preemptions=1, chance=0.5)
    assert (first.is_again, first.pause_s) == (True, 0.0)
    later = [attempts.following(done, StepOptions(), failures=0, preemptions=n, chance=1.0) for n in (2, 3, 4, 5)]
    assert [(each.is_again, each.pause_s) for each in later] == [(True, 0.0), (True, 1.0), (True, 2.0), (True, 4.0)]
    last = attempts.PREEMPTIONS_MAX + 1
    assert [attempts.is_failure(done, 0, count) for count in (1, last - 1, last)] == [False, False, True]
    assert not attempts.following(done, StepOptions(), failures=1, preemptions=last, chance=0.5).is_again
    told = attempts.counted(StepKilled("step x was asked to leave"), 1, StepOptions(), preemptions=last)
    assert told.message == f"step x was asked to leave, {last} times in a row"


def test_a_lost_process_costs_no_retry_but_not_for_ever() -> None:
    done = Done(error=StepKilled("x"), is_killed=True, is_lost=True)
    for losses in range(1, attempts.LOSSES_MAX + 1):
        then = attempts.following(done, StepOptions(), failures=0, preemptions=0, chance=0.5, losses=losses)
        assert (then.is_again, then.pause_s, attempts.is_failure(done, losses)) == (True, 0.0, False)
    last = attempts.LOSSES_MAX + 1
    assert attempts.is_failure(done, last)
    assert not attempts.following(done, StepOptions(), failures=1, preemptions=0, chance=0.5, losses=last).is_again


def test_the_last_failure_says_which_attempt_it_was() -> None:
    error = StepKilled("step x was stopped", where="here", hint="do this")
    told = attempts.counted(error, 3, StepOptions(retries=2))
    assert isinstance(told, StepKilled)
    assert (told.message, told.where, told.hint) == ("step x was stopped (attempt 3 of 3)", "here", "do this")
    assert attempts.counted(error, 1, StepOptions()) is error
    assert attempts.counted(error, 1, StepOptions(retries=2)) is error, "it was not tried again"


@given(st.floats(0.001, 1000), st.integers(1, 200), st.floats(0, 1))
def test_pauses_grow_to_a_limit_and_are_spread(first_s: float, failures: int, chance: float) -> None:
    pause = attempts.pause_s(first_s, failures, chance)
    whole = min(first_s * 2.0 ** min(failures - 1, 30), attempts.PAUSE_MAX_S)
    assert whole / 2 <= pause <= whole
    assert attempts.pause_s(first_s, failures + 1, 1.0) >= attempts.pause_s(first_s, failures, 1.0)


def test_the_word_for_an_end_is_that_of_the_states() -> None:
    assert attempts.status_of(Done(usage=Usage())) == "done"
    assert attempts.status_of(Done(error=StepFailed("x"))) == "failed"
    assert attempts.status_of(Done(error=StepKilled("x"), is_killed=True)) == "killed"
