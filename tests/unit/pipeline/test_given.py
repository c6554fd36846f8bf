"""Values for parameters are refused before anything runs if their annotation does not allow them."""

from __future__ import annotations

import enum
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NewType

import numpy as np
import pytest
from hypothesis import given as examples
from hypothesis import strategies as some

import noria as nr
from noria.core.errors import UsageError
from noria.pipeline.define import define
from noria.pipeline.given import fits, given

Leaves = NewType("Leaves", int)


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [0, -3, 2**40], [1.0, True, "1", None, [1]]),
        (float, [1, 0.5, -2.0], [True, "0.5", None, float("nan"), float("inf")]),
        (bool, [True, False], [0, 1, "true", None]),
        (str, ["", "7"], [7, None, ["a"], True]),
        (type(None), [None], [0, ""]),
        (int | None, [3, None], ["3", 3.5]),
        (typing.Optional[float], [3, 0.5, None], ["3"]),  # noqa: UP045  # another form than `float | None`
        (Annotated[int, nr.Choice(15, 31)], [15, 7], ["15", 1.5]),
        (Annotated[float | None, nr.Log(0.1, 1.0)], [0.3, None], ["0.3"]),
        (Literal["a", 2, True], ["a", 2, True], ["b", 1, False, None]),
        (Leaves, [4], ["4"]),
        (list, [[], [1, "a"]], ["ab", 1, {}]),
        (list[int], [[], [1, 2]], [[1, "a"], [True], "12"]),
        (Sequence[str], [["a"], "ab"], [[1], 1]),
        (Sequence[int], [[1]], ["12", ["1"]]),
        (tuple[int, str], [[1, "a"]], [[1], ["a", 1], [1, "a", 2]]),
        (tuple[int, ...], [[], [1, 2, 3]], [["a"]]),
        (set[str], [["a"]], [[1], "a"]),
        (dict, [{}, {"a": []}], [[], "a"]),
        (Mapping[str, float], [{"a": 1}], [{"a": "1"}, []]),
        (dict[str, list[int]], [{"a": [1]}], [{"a": ["1"]}]),
    ],
)
def test_a_value_fits_what_its_annotation_says(hint: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not fits(value, hint)] == []
    assert [value for value in bad if fits(value, hint)] == []


@pytest.mark.parametrize("hint", [Any, object, Path, Colour, np.ndarray, "a name that is nowhere"])
def test_what_is_no_plain_type_takes_anything(hint: Any) -> None:
    assert all(fits(value, hint) for value in (None, 1, "a", [1], {"a": 1}))


@examples(some.one_of(some.none(), some.booleans(), some.integers(), some.floats(allow_nan=False), some.text()))
def test_the_plain_types_are_told_apart_as_python_does(value: Any) -> None:
    allowed = [kind for kind in (bool, int, str, type(None)) if fits(value, kind)]
    assert allowed == ([] if isinstance(value, float) else [type(value)])
    finite = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) != float("inf")
    assert fits(value, float) is finite


@nr.step
def load(name: str = "a", limit: int = None) -> list[int]:  # type: ignore[assignment]  # noqa: RUF013  # as people write it
    return [1, 2]


@nr.step
def train(rows: list[int], leaves: Annotated[int, nr.Choice(15, 31)] = 31, rate: float = 0.1, free="x") -> int:  # type: ignore[no-untyped-def]  # as people write it
    return leaves


@nr.step
def score(number: int, by: int = 1) -> int:
    return number * by


@nr.pipeline
def flow() -> None:
    train(load())
    score.map([1, 2, 3])


def definition() -> Any:
    return define(flow)


def test_values_come_by_step_as_they_were_given() -> None:
    found = given(definition(), {"train.leaves": 15, "train.rate": 1, "load.limit": None, "train.free": [1]})
    assert found == {"train": {"leaves": 15, "rate": 1, "free": [1]}, "load": {"limit": None}}
    assert type(found["train"]["rate"]) is int


@pytest.mark.parametrize(
    ("params", "said", "hint"),
    [
        ({"train.leaves": "abc"}, 'train.leaves is "abc", which is not int', "it is annotated leaves: int"),
        ({"train.leaves": 1.5}, "train.leaves is 1.5, which is not int", "the pipeline gives 31"),
        ({"train.rate": "x" * 100}, 'train.rate is "x{58}…, which is not float', "gives 0.1"),
        ({"load.name": 7}, "load.name is 7, which is not str", "-p 'load.name=\"7\"'"),
        ({"load.name": None}, "load.name is null, which is not str", "-p 'load.name=\"null\"'"),
        ({"train.leafs": 3}, "there is no parameter 'train.leafs'", "did you mean 'train.leaves'"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_annotation(params: Any, said: str, hint: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        given(definition(), params)
    assert hint in caught.value.hint


def test_a_step_that_is_called_several_times_is_meant_in_all_of_its_calls() -> None:
    @nr.step
    def shared(k: int = 2) -> int:
        return k

    @nr.step
    def total(a: int, b: int, c: int) -> int:
        return a + b + c

    @nr.pipeline
    def sums() -> None:
        total(shared(), shared(), shared(k=5))

    found = define(sums, module=typing.cast(Any, typing), root=Path())
    assert given(found, {"shared.k": 3}) == {"shared": {"k": 3}, "shared-2": {"k": 3}, "shared-3": {"k": 3}}
    assert given(found, {"shared-2.k": 3}) == {"shared-2": {"k": 3}}
    assert given(found, {"shared-1.k": 3}) == {"shared": {"k": 3}}
    for params in ({"shared.k": 3, "shared-3.k": 4}, {"shared-3.k": 4, "shared.k": 3}):
        assert given(found, params) == {"shared": {"k": 3}, "shared-2": {"k": 3}, "shared-3": {"k": 4}}
    assert given(found, {"shared-1.k": 7, "shared.k": 3})["shared"] == {"k": 7}
