"""Samplers and pruners: functions of history and seed, inside their ranges, better than chance where they should be."""

from __future__ import annotations

import math
import random as chance
from collections.abc import Mapping

import pytest

from noria import plugins
from noria.core.identity import JSON
from noria.pipeline.attempt.tried import Tried, read_tried, written
from noria.pipeline.space import Dimension

SPACE = {
    each.name: each
    for each in (
        Dimension(name="rate", kind="float", low=1e-4, high=1e-1, log=True),
        Dimension(name="depth", kind="int", low=2, high=9),
        Dimension(name="even", kind="int", low=2, high=10, step=2),
        Dimension(name="kind", kind="choice", choices=(1, True, "one", None)),
        Dimension(name="share", kind="float", low=0.0, high=1.0, step=0.25),
    )
}


def score(params: Mapping[str, JSON]) -> float:
    rate, depth = params["rate"], params["depth"]
    assert isinstance(rate, float)
    assert isinstance(depth, int)
    return -abs(math.log10(rate) + 2) - abs(depth - 5) / 4 + (params["kind"] == "one")


def tried(sampler: str, count: int, *, seed: int = 1, better: str = "higher") -> list[Tried]:
    ask = plugins.load("sampler", sampler)
    found: list[Tried] = []
    for number in range(count):
        params = ask(SPACE, found, seed=seed * 1000 + number, better=better)
        value = score(params) if better == "higher" else -score(params)
        found.append(Tried(number=number, params=params, state="done", value=value))
    return found


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_what_is_proposed_lies_in_the_space_and_follows_from_seed_and_history(sampler: str) -> None:
    found = tried(sampler, 25)
    for each in found:
        assert set(each.params) == set(SPACE)
        assert all(SPACE[name].holds(value) for name, value in each.params.items()), each.params
    assert tried(sampler, 25) == found
    assert tried(sampler, 25, seed=2) != found


def test_every_kind_of_choice_comes_out_as_it_went_in() -> None:
    values = [each.params["kind"] for each in tried("random", 60)]
    assert {(type(value), value) for value in values} == {(int, 1), (bool, True), (str, "one"), (type(None), None)}


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_tpe_finds_better_values_than_chance(better: str) -> None:
    late = {
        sampler: sum(
            score(each.params) for seed in range(3) for each in tried(sampler, 45, seed=seed, better=better)[25:]
        )
        for sampler in ("random", "tpe")
    }
    assert late["tpe"] > late["random"]


def test_random_does_not_look_at_history() -> None:
    ask = plugins.load("sampler", "random")
    assert ask(SPACE, tried("tpe", 5), seed=9, better="higher") == ask(SPACE, [], seed=9, better="higher")


def test_a_trial_outside_the_space_does_not_stop_tpe() -> None:
    odd = Tried(number=0, params={**tried("random", 1)[0].params, "rate": 5.0}, state="done", value=1.0)
    failed = Tried(number=1, params=tried("random", 1)[0].params, state="failed", value=None)
    assert set(plugins.load("sampler", "tpe")(SPACE, [odd, failed], seed=1, better="higher")) == set(SPACE)


def curve(number: int, good: float, *, state: str = "done", steps: int = 27) -> Tried:
    reports = tuple((step, good * step / 27) for step in range(1, steps + 1))
    return Tried(number=number, params={}, state=state, value=good if state == "done" else None, reports=reports)


@pytest.mark.parametrize(("better", "sign"), [("higher", 1.0), ("lower", -1.0)])
def test_asha_ends_what_is_behind_and_lets_go_on_what_is_ahead(better: str, sign: float) -> None:
    history = [curve(number, sign * number) for number in range(1, 7)]

    def ends_at(good: float) -> int:
        judge = plugins.load("pruner", "asha")(history, better=better)
        return next((step for step in range(1, 28) if judge(step, sign * good * step / 27)), 0)

    assert ends_at(20.0) == 0
    assert ends_at(0.5) == 3
    assert ends_at(0.5) == 3, "a second judge says the same"


def test_asha_prunes_nothing_before_a_trial_is_done() -> None:
    history = [curve(0, 5.0, state="failed"), curve(1, 9.0, state="pruned", steps=3)]
    judge = plugins.load("pruner", "asha")(history, better="higher")
    assert not any(judge(step, -1.0) for step in range(1, 28))


def test_a_trial_survives_being_written_down() -> None:
    dice = chance.Random(3)
    for number in range(20):
        reports = tuple((step, dice.random()) for step in range(1, dice.randint(2, 6)))
        before = Tried(number=number, params={"a": dice.random()}, state="pruned", value=None, reports=reports)
        assert read_tried(written(before)) == before
