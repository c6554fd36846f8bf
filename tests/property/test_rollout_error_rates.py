"""Error rates of the rollout's tests, by simulation: the table of the design, with other random numbers.

The paths are computed with numpy, beside the product's own code, and one path of each setting is
checked against it. Bounds are the level plus three standard errors of the simulation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from noria.serving.evidence import BETTER, WORSE, Shares, log_mean, log_ratio
from noria.serving.line import Line
from noria.serving.plan import Plan, Step
from noria.serving.rollout import State, observe

REPLICATIONS = 600
REQUESTS = 40_000
ALPHA = 0.05
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def crossing(
    bad: Bools, arm: Bools, share: Floats, null: float, alternatives: Sequence[float], limit: float
) -> npt.NDArray[np.int64]:
    """The first request at which each replication's e-process reaches the limit; REQUESTS if never.

    Only bad events move the process, so only they are summed.
    """
    found = np.full(len(bad), bad.shape[1], dtype=np.int64)
    ratio = null * np.asarray(alternatives)[:, None]
    for path in range(len(bad)):
        places = np.flatnonzero(bad[path])
        pi, mine = share[places], arm[path, places]
        was, would = pi * null / (1 - pi + pi * null), pi * ratio / (1 - pi + pi * ratio)
        steps = np.where(mine, np.log(would / was), np.log((1 - would) / (1 - was)))
        mixed = np.logaddexp.reduce(np.cumsum(steps, axis=1)) - math.log(len(alternatives))
        hits = np.flatnonzero(mixed >= math.log(limit))
        if len(hits):
            found[path] = places[hits[0]]
    return found


def simulate(
    rate: Floats | float, ratio: float, share: Floats | float, *, seed: int, replications: int = REPLICATIONS
) -> tuple[Bools, Bools, Floats]:
    """(bad events, candidate arm, share) of every request; the baseline's rate may drift."""
    rng = np.random.default_rng(seed)
    shares = np.broadcast_to(np.asarray(share, dtype=np.float64), (REQUESTS,))
    arm = rng.random((replications, REQUESTS), dtype=np.float32) < shares
    chance = np.broadcast_to(np.asarray(rate, dtype=np.float64), (REQUESTS,)) * np.where(arm, ratio, 1.0)
    return rng.random((replications, REQUESTS), dtype=np.float32) < chance, arm, shares


RAMP = np.repeat([0.01, 0.05, 0.25, 0.5], REQUESTS // 4)
DRIFT = 0.01 * (1 + 0.8 * np.sin(np.linspace(0, 6 * math.pi, REQUESTS)))


@pytest.mark.parametrize(
    ("rate", "share"),
    [(0.001, 0.1), (0.01, 0.05), (0.01, 0.5), (DRIFT, RAMP), (DRIFT, 0.1)],
    ids=["0.1% at 10%", "1% at 5%", "1% at 50%", "drift and ramp", "drift at 10%"],
)
def test_no_difference_is_rolled_back_at_most_at_the_level(rate: Floats | float, share: Floats | float) -> None:
    bad, arm, shares = simulate(rate, 1.0, share, seed=11)
    alarms = crossing(bad, arm, shares, 1.0, WORSE, 1 / ALPHA) < REQUESTS
    assert alarms.mean() <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / REPLICATIONS)
    # What the design measured is far below the level; a test that never fires would be no test.
    assert alarms.mean() <= 0.06


@pytest.mark.parametrize(
    ("rate", "ratio", "share", "power", "median"),
    [
        (0.02, 2.0, 0.1, 0.98, 6000),
        (0.01, 5.0, 0.05, 0.99, 2600),
        (0.001, 10.0, 0.1, 0.99, 5200),
        (0.01, 2.0, 0.05, 0.75, 19_000),
    ],
)
def test_a_worse_candidate_is_rolled_back_in_time(
    rate: float, ratio: float, share: float, power: float, median: int
) -> None:
    bad, arm, shares = simulate(rate, ratio, share, seed=12, replications=300)
    found = crossing(bad, arm, shares, 1.0, WORSE, 1 / ALPHA)
    assert (found < REQUESTS).mean() >= power
    assert np.median(found) <= median


@pytest.mark.parametrize(("rate", "share"), [(0.01, 0.5), (0.05, 0.25), (DRIFT, 0.5)], ids=["1%", "5%", "drift"])
def test_a_candidate_at_the_margin_is_promoted_at_most_at_the_level(rate: Floats | float, share: float) -> None:
    bad, arm, shares = simulate(rate, 1.5, share, seed=13)
    promoted = crossing(bad, arm, shares, 1.5, BETTER, 1 / 0.05) < REQUESTS
    assert promoted.mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / REPLICATIONS)


@pytest.mark.parametrize(
    ("ratio", "rate", "share", "power"), [(1.0, 0.01, 0.5, 0.85), (1.0, 0.05, 0.25, 0.99), (0.5, 0.01, 0.5, 0.99)]
)
def test_an_equal_or_better_candidate_can_prove_it(ratio: float, rate: float, share: float, power: float) -> None:
    bad, arm, shares = simulate(rate, ratio, share, seed=14, replications=300)
    assert (crossing(bad, arm, shares, 1.5, BETTER, 1 / 0.05) < REQUESTS).mean() >= power


def test_shadow_flips_at_the_limit_alarm_at_most_at_the_level_and_above_it_soon() -> None:
    rng = np.random.default_rng(15)
    for truth, most, least in ((0.02, 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400), 0.0), (0.03, 1.0, 0.97)):
        flips = rng.random((400, 20_000)) < truth
        alarms = 0
        for path in flips:
            places = np.flatnonzero(path)
            alarms += any(log_mean(int(p) + 1, k + 1, 0.02) >= math.log(20) for k, p in enumerate(places))
        assert least <= alarms / 400 <= most


def test_the_product_computes_the_path_that_was_simulated() -> None:
    bad, arm, shares = simulate(0.02, 1.3, RAMP, seed=16, replications=3)
    for path in range(3):
        places = np.flatnonzero(bad[path])
        events = Shares()
        total = dict.fromkeys(WORSE, 0.0)
        for place in places:
            share, mine = float(shares[place]), bool(arm[path, place])
            events = events.plus(share, is_candidate=mine)
            for a in WORSE:
                would, was = share * a / (1 - share + share * a), share
                total[a] += math.log(would / was) if mine else math.log((1 - would) / (1 - was))
        expected = np.logaddexp.reduce(list(total.values())) - math.log(len(WORSE))
        assert log_ratio(events, 1.0, WORSE) == pytest.approx(float(expected), abs=1e-9)


def batches(count: int, *, per_batch: int, share: float, pause: float, seed: int) -> list[tuple[str, Line]]:
    """Equal releases; a pause of the machine makes one group's rows slow, or both when the first group meets it.

    The groups of a batch run in random order and the second waits for the first, as in the server.
    """
    rng = np.random.default_rng(seed)
    lines = []
    for batch in range(count):
        arms = rng.random(per_batch) < share
        own = {True: 4000 + 50_000 * (rng.random() < pause), False: 4000 + 50_000 * (rng.random() < pause)}
        is_first = bool(rng.random() < 0.5)
        took = {
            is_first: own[is_first],
            (not is_first): own[is_first] * bool((arms == is_first).any()) + own[not is_first],
        }
        for place, mine in enumerate(arms):
            name = f"{seed}-{batch}-{place}"
            arm = "candidate" if mine else "stable"
            pi = share if mine else 1 - share
            lines.append(
                (
                    "f",
                    Line(
                        t=batch * 10_000,
                        dep=1,
                        rel=1,
                        st=200,
                        us=took[bool(mine)],
                        id=name,
                        key=name,
                        arm=arm,
                        pi=pi,
                        b=batch,
                    ),
                )
            )
    return lines


@pytest.mark.parametrize(("per_batch", "share"), [(16, 0.05), (16, 0.25), (1, 0.25), (4, 0.5)])
def test_pauses_of_the_machine_roll_back_equal_releases_at_most_at_the_level(per_batch: int, share: float) -> None:
    plan = Plan(steps=(Step("canary", share=share, requests=1), Step("full", share=1.0)), slow_us=20_000)
    runs = 60
    alarms = 0
    for seed in range(runs):
        lines = batches(120, per_batch=per_batch, share=share, pause=0.08, seed=seed)
        alarms += observe(plan, State(), lines, steps={1: 0}, slow_us=20_000).alarm == "slow"
    assert alarms / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)
