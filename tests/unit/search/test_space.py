"""What `Annotated` parameters declare, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest

import noria as nr
from noria.core.errors import ProjectError, UsageError
from noria.pipeline.define import PipelineDefinition, define
from noria.pipeline.space import Dimension, space_of


def defined(function: Any) -> PipelineDefinition:
    @nr.pipeline
    def p() -> None:
        nr.step(function)()

    return define(p, root=Path())


def test_every_form_of_range_is_read_in_the_order_of_the_parameters() -> None:
    def train(
        a: Annotated[float, nr.Range(1e-4, 1e-1, log=True)] = 0.01,
        b: Annotated[int, nr.Range(2, 9)] = 4,
        c: Annotated[int, nr.Choice(15, 31)] = 31,
        d: Annotated[str, nr.Choice(["x", "y"])] = "x",
        e: Annotated[float, nr.Log(0.1, 10)] = 1.0,
        f: Annotated[float, nr.Range(0, 1, step=0.25)] = 0.5,
        g: float = 1.0,
    ) -> float:
        return a

    space = space_of(defined(train))
    assert list(space) == [f"train.{name}" for name in "abcdef"]
    assert space["train.a"] == Dimension(name="train.a", kind="float", low=1e-4, high=0.1, log=True, default=0.01)
    assert (space["train.b"].kind, space["train.b"].low, space["train.b"].high) == ("int", 2, 9)
    assert space["train.c"].choices == (15, 31)
    assert space["train.d"].choices == ("x", "y")
    assert space["train.e"].log
    assert space["train.f"].holds(0.75)
    assert not space["train.f"].holds(0.8)
    assert list(space_of(defined(train), ("train.a", "train.c"))) == ["train.b", "train.d", "train.e", "train.f"]


@pytest.mark.parametrize(
    ("hint", "says"),
    [
        (Annotated[float, nr.Range(1, 1)], "is no range"),
        (Annotated[float, nr.Range(0, 1, log=True)], "begins above 0"),
        (Annotated[float, nr.Range(float("nan"), 1)], "nan is no end or step"),
        (Annotated[int, nr.Range(1.5, 9)], "whole ends"),
        (Annotated[str, nr.Range(1, 9)], "int or float"),
        (Annotated[float, nr.Range(1, 9, step=0)], "the step"),
        (Annotated[str, nr.Choice()], "the Choice is empty"),
        (Annotated[str, nr.Choice(object())], "is no plain value"),
        (Annotated[float, nr.Choice(float("nan"), 2.0)], "is no plain value"),
        (Annotated[float, nr.Choice(1.0, "a")], "which its type does not allow"),
        (Annotated[int, nr.Choice(1, 2.5)], "which its type does not allow"),
        (Annotated[float, nr.Range("a", "b")], "a range is of numbers"),
        (Annotated[float, nr.Range(True, 3)], "a range is of numbers"),
        (Annotated[float, nr.Log(None, 3)], "a range is of numbers"),  # type: ignore[arg-type]  # a user's mistake
        (Annotated[int, nr.Range(1, 1e30)], "more than a search can divide"),
        (Annotated[float, nr.Range(1, 10**400)], "is no end or step"),
        (Annotated[float, nr.Range(0.1, float("inf"))], "inf is no end or step"),
        (Annotated[float, nr.Range(-1e308, 1.7e308)], "more than a search can divide"),
        (Annotated[float, nr.Range(0, 1, step=1e-300)], "more than a search can divide"),
        (Annotated[float, nr.Range(0.1, 2.0, step=5)], "do not come to 2"),
        (Annotated[float, nr.Range(0, 1, step=float("nan"))], "nan is no end or step"),
        (Annotated[int, nr.Range(1, 10, step=4)], "do not come to 10"),
        (Annotated[float, nr.Range], "nr.Range stands without its values"),
        (Annotated[float, nr.Choice], "nr.Choice stands without its values"),
        (Annotated[float, nr.Range(0.1, 2.0), nr.Choice([1.0])], "has 2 ranges"),
        (Annotated[float, nr.Range(0.1, 2.0)] | None, "inside of its type"),
        (list[Annotated[float, nr.Range(0.1, 2.0)]], "inside of its type"),
    ],
)
def test_what_is_no_range_is_refused(hint: Any, says: str) -> None:
    def train(a: Any = None) -> float:
        return 0.0

    train.__annotations__["a"] = hint
    with pytest.raises(ProjectError, match=says) as caught:
        space_of(defined(train))
    assert caught.value.hint, "what to write instead"


def test_a_default_that_is_no_plain_value_cannot_be_the_first_trial() -> None:
    def train(a: Annotated[float, nr.Range(0, 1)] = float("nan")) -> float:
        return a

    with pytest.raises(ProjectError, match="a search begins with that"):
        space_of(defined(train))


def test_steps_are_counted_as_they_are_written_and_a_choice_may_have_what_the_pipeline_says() -> None:
    def train(
        a: Annotated[float, nr.Range(0.1, 1.0, step=0.3)] = 7.0,
        b: Annotated[int, nr.Choice(1, 2.5)] = 2.5,  # type: ignore[assignment]  # as people write it
        c: Annotated[float | None, nr.Choice(None, 2)] = None,
        d: Annotated[int, nr.Log(1, 2**53)] = 1,
    ) -> float:
        return a

    assert list(space_of(defined(train))) == [f"train.{name}" for name in "abcd"]


def test_a_pipeline_that_declares_nothing_cannot_be_searched() -> None:
    def train(a: float = 1.0) -> float:
        return a

    with pytest.raises(UsageError, match="declares no parameter"):
        space_of(defined(train))


def test_a_choice_tells_1_from_true() -> None:
    dimension = Dimension(name="a", kind="choice", choices=(1, True))
    assert dimension.holds(1)
    assert dimension.holds(True)
    assert not dimension.holds(1.0)
    whole = Dimension(name="b", kind="int", low=1, high=9)
    assert not whole.holds(True)
    assert not whole.holds(2.5)
    assert not whole.holds(10)
