"""The rollout's fold and verdicts on made-up logs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from noria.serving.line import INVALID, RAISED, REJECTED, Line
from noria.serving.plan import Plan, Step
from noria.serving.rollout import State, evidence, frozen_slow_us, observe, verdict

STEPS = {10: 0, 11: 1, 12: 2}
PLAN = Plan(
    steps=(
        Step("shadow", requests=50),
        Step("canary", share=0.2, requests=100),
        Step("canary", share=0.5, requests=200),
        Step("full", share=1.0),
    ),
    slow_us=10_000,
)
_ids = itertools.count()


def row(dep: int, share: float, is_candidate: bool, batch: int, *, us: int = 5_000, st: int = 200, e: str = "") -> Line:
    number = next(_ids)
    arm = "candidate" if is_candidate else "stable"
    pi = share if is_candidate else 1 - share
    # One row a second, so that one bad event a key and minute never binds: keys are all different.
    return Line(
        t=number * 1_000_000,
        dep=dep,
        rel=2 if is_candidate else 1,
        st=st,
        us=us,
        id=f"pred_{number}",
        key=f"k{number}",
        arm=arm,
        pi=pi,
        b=batch,
        e=e,
    )


def canary(
    count: int,
    share: float,
    dep: int,
    *,
    bad: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
    rows: int = 8,
    e: str = RAISED,
) -> Iterator[tuple[str, Line]]:
    """`count` rows in batches; `bad` are the rates of (candidate, stable) failures."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        is_candidate = bool(rng.random() < share)
        failed = rng.random() < bad[0 if is_candidate else 1]
        st = (400 if e == REJECTED else 500) if failed else 200
        yield "f", row(dep, share, is_candidate, number // rows, st=st, e=e if failed else "")


def shadowed(count: int, *, flips: int = 0, failed: int = 0) -> Iterator[tuple[str, Line]]:
    for number in range(count):
        yield (
            "f",
            Line(
                t=number,
                dep=10,
                rel=2,
                st=500 if number < failed else 200,
                us=1,
                sh=f"pred_{number}",
                arm="stable",
                c=1 if number >= flips else 0,
                lc=1,
            ),
        )


def go(lines: Iterator[tuple[str, Line]], state: State | None = None, plan: Plan = PLAN) -> State:
    return observe(plan, state or State(), lines, steps=STEPS, slow_us=plan.slow_us)


def test_a_shadow_step_waits_for_its_answers_then_goes_on() -> None:
    state = go(shadowed(49))
    assert verdict(PLAN, 0, state, waited_s=0, total_s=0).action == "wait"
    state = go(shadowed(1), state)
    assert verdict(PLAN, 0, state, waited_s=0, total_s=0).action == "advance"
    assert state.compared == 50


def test_a_shadow_that_fails_where_the_real_one_answers_is_rolled_back() -> None:
    state = go(shadowed(50, failed=20))
    assert state.alarm == "shadow errors"
    found = verdict(PLAN, 0, state, waited_s=0, total_s=0)
    assert found.action == "roll back"
    assert "shadow" in found.reason


def test_flips_alarm_only_where_a_limit_is_set() -> None:
    lines = list(shadowed(200, flips=60))
    assert go(iter(lines)).alarm == ""
    limited = replace(PLAN, flips=0.05)
    assert observe(limited, State(), lines, steps=STEPS, slow_us=None).alarm == "shadow flips"


def test_a_healthy_canary_is_promoted_through_every_step() -> None:
    state = go(canary(800, 0.2, 11))
    assert verdict(PLAN, 1, state, waited_s=0, total_s=0).action == "advance"
    assert verdict(PLAN, 2, state, waited_s=0, total_s=0).action == "wait"
    state = go(canary(600, 0.5, 12, seed=1), state)
    assert verdict(PLAN, 2, state, waited_s=0, total_s=0).action == "promote"


@pytest.mark.parametrize("why", [RAISED, REJECTED, INVALID])
def test_a_canary_that_fails_is_rolled_back(why: str) -> None:
    state = go(canary(800, 0.2, 11, bad=(0.5, 0.0), e=why))
    assert state.alarm in ("errors", "invalid")
    assert verdict(PLAN, 1, state, waited_s=0, total_s=0).action == "roll back"


def test_failures_that_both_arms_share_are_no_alarm() -> None:
    state = go(canary(4000, 0.2, 11, bad=(0.1, 0.1)))
    assert state.alarm == ""


def test_no_data_never_passes_and_the_deadline_holds() -> None:
    state = go(canary(10, 0.2, 11))
    assert verdict(PLAN, 1, state, waited_s=1e9, total_s=10).action == "wait"
    found = verdict(PLAN, 1, state, waited_s=1e9, total_s=1e6)
    assert found.action == "hold"
    assert "inconclusive" in found.reason


def test_a_step_in_time_needs_the_time_and_the_requests() -> None:
    timed = replace(PLAN, steps=(Step("canary", share=0.5, requests=100, seconds=60), Step("full", share=1.0)))
    state = observe(timed, State(), canary(100, 0.5, 10), steps={10: 0}, slow_us=None)
    assert verdict(timed, 0, state, waited_s=100, total_s=0).action == "wait"
    state = observe(timed, state, canary(200, 0.5, 10, seed=3), steps={10: 0}, slow_us=None)
    assert verdict(timed, 0, state, waited_s=59, total_s=59).action == "wait"
    assert verdict(timed, 0, state, waited_s=61, total_s=61).action == "promote"


def test_many_events_need_evidence_not_silence() -> None:
    # 4 % on both sides: no alarm, but 20 events are not yet proof that the ratio is below 1.5.
    state = go(canary(1200, 0.5, 12, bad=(0.04, 0.04), seed=5))
    assert state.errors.total >= PLAN.least_events
    waiting = verdict(PLAN, 2, state, waited_s=0, total_s=0)
    assert (waiting.action, waiting.reason.partition(":")[0]) == ("wait", "errors")
    state = go(canary(30_000, 0.5, 12, bad=(0.04, 0.04), seed=6), state)
    assert verdict(PLAN, 2, state, waited_s=0, total_s=0).action == "promote"


def test_few_events_need_a_bound_below_the_limit() -> None:
    strict = replace(PLAN, errors=0.01, steps=(Step("canary", share=0.5, requests=100), Step("full", share=1.0)))
    state = observe(strict, State(), canary(300, 0.5, 10), steps={10: 0}, slow_us=None)
    found = verdict(strict, 0, state, waited_s=0, total_s=0)
    assert (found.action, found.reason.startswith("errors: 0 of")) == ("wait", True)
    state = observe(strict, state, canary(800, 0.5, 10, seed=2), steps={10: 0}, slow_us=None)
    assert verdict(strict, 0, state, waited_s=0, total_s=0).action == "promote"


def slow_batches(count: int, *, candidate: float, stable: float, seed: int = 0) -> Iterator[tuple[str, Line]]:
    """Batches of 20 rows; a slow group makes all its rows slow at once."""
    rng = np.random.default_rng(seed)
    for batch in range(count):
        slow = {True: rng.random() < candidate, False: rng.random() < stable}
        for _ in range(20):
            mine = bool(rng.random() < 0.2)
            yield "f", row(11, 0.2, mine, batch, us=50_000 if slow[mine] else 5_000)


def test_a_slow_candidate_is_rolled_back_soon() -> None:
    state = go(slow_batches(60, candidate=0.9, stable=0.05))
    assert state.alarm == "slow"


def test_pauses_of_the_machine_are_not_held_against_the_candidate() -> None:
    # Each pause makes all rows of one group slow; by row that would be hundreds of "events" an arm.
    alarms = [bool(go(slow_batches(300, candidate=0.1, stable=0.1, seed=seed)).alarm) for seed in range(40)]
    assert sum(alarms) <= 4


def test_a_retry_storm_of_one_key_is_one_event_a_minute() -> None:
    storm = [
        (
            "f",
            Line(
                t=i * 1000, dep=11, rel=2, st=500, us=1, id=f"p{i}", key="same", arm="candidate", pi=0.2, b=i, e=RAISED
            ),
        )
        for i in range(500)
    ]
    state = go(iter(storm))
    assert state.errors.total == 1
    assert state.alarm == ""


def test_traffic_that_does_not_split_as_planned_is_an_alarm() -> None:
    lines = [("f", row(11, 0.2, number % 2 == 0, number)) for number in range(600)]
    assert go(iter(lines)).alarm == "sample ratio"


def test_rows_by_hand_and_of_other_deployments_are_no_evidence() -> None:
    pinned = [("f", Line(t=1, dep=11, rel=2, st=500, us=1, id="p", arm="pinned", pi=1.0, e=RAISED))] * 50
    other = [("f", row(99, 0.2, True, 0, st=500, e=RAISED)) for _ in range(50)]
    assert go(iter(pinned + other)).candidate.requests == 0


def test_the_portions_in_which_a_log_is_read_do_not_matter() -> None:
    lines = list(canary(3000, 0.2, 11, bad=(0.05, 0.03), seed=8))
    whole = go(iter(lines))
    pieces = State()
    for start in range(0, len(lines), 37):
        pieces = go(iter(lines[start : start + 37]), pieces)
    assert pieces == whole
    assert evidence(PLAN, pieces, slow_us=1) == evidence(PLAN, whole, slow_us=1)


def test_the_slow_limit_is_frozen_from_the_baseline() -> None:
    assert frozen_slow_us(range(199)) is None
    assert frozen_slow_us([1000] * 900 + [4000] * 100) == 5000
    assert frozen_slow_us(range(1, 1001)) == int(1.25 * 901)
