"""What a verb takes, and what is refused before it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.errors import NotFound, UsageError
from noria.core.verb import verb
from noria.faces import verbs


def act(
    ws: Any,
    name: str,
    count: int = 1,
    rate: float = 0.5,
    tags: Sequence[str] = (),
    params: Mapping[str, Any] | None = None,
    *,
    every: bool = False,
) -> tuple[Any, ...]:
    """Do something.

    Args:
        name: what to do it to.
    """
    return name, count, rate, tags, params, every


def marked(function: Any) -> verbs.FoundVerb:
    """A function of this file as a verb of a capability called tests."""
    function.__module__ = "noria.tests.made"
    return verbs.describe(verb(permission="tests.act")(function))


FOUND = marked(act)


def test_arguments_are_described_by_their_annotations() -> None:
    kinds = {each.name: (each.kind, each.is_required) for each in FOUND.parameters}
    assert kinds == {
        "name": ("text", True),
        "count": ("integer", False),
        "rate": ("number", False),
        "tags": ("list", False),
        "params": ("mapping", False),
        "every": ("flag", False),
    }
    assert FOUND.summary == "Do something."


def test_a_verb_is_called_with_what_was_given() -> None:
    assert verbs.call(None, FOUND, {"name": "x", "rate": 2, "tags": ["a"], "params": None}) == (
        "x", 1, 2.0, ("a",), None, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "'name' is missing"),
        ({"name": 1}, "must be a text, not int"),
        ({"name": None}, "must be a text, not NoneType"),
        ({"name": "x", "count": 1.5}, "must be a whole number"),
        ({"name": "x", "count": True}, "must be a whole number, not bool"),
        ({"name": "x", "rate": "1"}, "must be a number, not str"),
        ({"name": "x", "tags": "a"}, "must be a list of texts, not str"),
        ({"name": "x", "params": [1]}, "must be a mapping, not list"),
        ({"name": "x", "every": 1}, "must be true or false, not int"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        verbs.call(None, FOUND, given)


def test_a_limit_below_zero_is_refused_for_every_verb() -> None:
    """SQLite took it for no limit, PostgreSQL refused it, and a list lost its last entries."""

    def limited(ws: Any, limit: int = 0) -> int:
        """Give the limit."""
        return limit

    found = marked(limited)
    assert verbs.call(None, found, {"limit": 0}) == 0
    with pytest.raises(UsageError, match="a limit of -1 cannot be kept"):
        verbs.call(None, found, {"limit": -1})


def test_an_unknown_argument_names_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        verbs.call(None, FOUND, {"name": "x", "coutn": 1})
    assert error.value.hint == "did you mean 'count'?"


def test_an_unknown_verb_names_the_nearest() -> None:
    with pytest.raises(NotFound) as error:
        verbs.find("data", "ad")
    assert error.value.hint == "did you mean 'data/add'?"
    with pytest.raises(NotFound) as error:
        verbs.find("zzzzzz", "qqqqqq")
    assert error.value.hint == "GET /api/v1 lists every verb"
    with pytest.raises(NotFound) as error:
        verbs.find("churn", "promote")
    assert error.value.hint == "did you mean 'serving/promote'?"
    with pytest.raises(NotFound) as error:
        verbs.find("servng", "promote")
    assert error.value.hint == "did you mean 'serving/promote'?"


def test_a_verb_that_takes_no_plain_value_is_a_bug() -> None:
    def bad(ws: Any, where: Path) -> None:
        """Bad."""

    with pytest.raises(AssertionError, match="no plain value"):
        marked(bad)


@dataclass(frozen=True, slots=True)
class Made:
    """A result with everything that faces must be able to show."""

    path: Path
    numbers: Mapping[str, Any]
    score: Any
    scores: Any


def test_results_become_json_whatever_they_hold() -> None:
    made = Made(Path("a/b"), MappingProxyType({"x": float("nan")}), np.float64(0.5), np.array([1, 2]))
    assert verbs.encode(made) == b'{"path":"a/b","numbers":{"x":null},"score":0.5,"scores":[1,2]}'
    assert verbs.builtins(made)["path"] == "a/b"


@dataclass(frozen=True, slots=True)
class Held:
    """What a result may be made of, under another result."""

    name: str
    inner: Any


@dataclass(frozen=True, slots=True)
class Hidden:
    """A field that no face shows."""

    name: str
    _inner: Any


@dataclass
class Loose:
    """It may have more than its fields."""

    name: str


RESULTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**53, max_value=2**64 + 2)
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs", "Cc", "L"]))
    | st.sampled_from([Path("a/b"), Path("a\udc80"), np.float64(0.5), np.array([1.0, 2.0]), b"bytes", Loose("x")])
    | st.datetimes(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.dictionaries(st.text(), inner).map(MappingProxyType)
        | st.builds(Held, st.text(), inner)
        | st.builds(Hidden, st.text(), inner)
    ),
)


@given(RESULTS)
def test_a_local_result_is_just_what_a_server_would_send(result: Any) -> None:
    sent = repr(msgspec.json.decode(verbs.encode(result)))
    assert repr(verbs.builtins(result)) == sent
    try:
        told = repr(verbs.walked(result))  # as a process tells it that has not loaded the encoder
    except verbs.Beyond:
        return
    assert told == sent


def test_an_ordinary_result_needs_no_encoder() -> None:
    assert verbs.walked(Held("a", [1, 2.5, None, {"x": (True, Path("a"))}])) == {
        "name": "a",
        "inner": [1, 2.5, None, {"x": [True, "a"]}],
    }


def test_every_verb_is_collected_once_and_sorted() -> None:
    keys = list(verbs.collect())
    assert keys == sorted(keys)
    assert ("data", "add") in keys
