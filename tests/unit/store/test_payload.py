from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from noria.core.errors import Corrupt
from noria.core.fact import fact
from noria.core.identity import JSON, canonical
from noria.store.payload import decode, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A nested value."""

    name: str
    share: float | None = None


@fact("thing.made", subject="thing/{name}")
class ThingMade:
    """Every shape that a payload may have."""

    name: str
    count: int
    ratio: float
    is_good: bool
    part: Part
    parts: tuple[Part, ...]
    triples: tuple[tuple[str, int, bool], ...]
    by_name: Mapping[str, Part]
    open: Mapping[str, JSON]
    list: Sequence[int]
    anything: JSON = None
    either: int | str = 0
    maybe: Part | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


def a_thing() -> ThingMade:
    return ThingMade(
        name="é",
        count=3,
        ratio=2.0,
        is_good=True,
        part=Part(name="p", share=1.0),
        parts=(Part(name="q"), Part(name="r", share=0.5)),
        triples=(("a", 1, True),),
        by_name={"x": Part(name="x")},
        open={"deep": [1, {"a": None}], "text": "t"},
        list=(1, 2),
        anything=["any"],
        numbers={"auc": 1.0},
    )


def through_storage(payload: object) -> Any:
    return decode(type(payload), json.loads(canonical(encode(payload))))


def test_every_shape_comes_back_with_its_types() -> None:
    again = through_storage(a_thing())
    assert again == a_thing()
    assert isinstance(again.ratio, float)
    assert isinstance(again.part.share, float)
    assert isinstance(again.numbers["auc"], float)
    assert isinstance(again.parts, tuple)
    assert again.maybe is None


def test_what_was_decoded_is_a_fixed_point() -> None:
    once = through_storage(a_thing())
    assert through_storage(once) == once


def test_a_missing_field_takes_its_default() -> None:
    data = encode(a_thing())
    del data["numbers"]
    assert decode(ThingMade, data).numbers == {}


def test_a_field_that_a_newer_version_added_is_left_alone() -> None:
    assert decode(ThingMade, {**encode(a_thing()), "newer": 1}) == a_thing()


@pytest.mark.parametrize(
    "change",
    [
        {"count": "3"},
        {"count": True},
        {"count": 1.5},
        {"ratio": "x"},
        {"ratio": True},
        {"name": 1},
        {"is_good": 1},
        {"part": "x"},
        {"part": {}},
        {"triples": [["a", 1]]},
        {"by_name": []},
        {"parts": 3},
    ],
)
def test_data_of_another_shape_is_refused(change: dict[str, JSON]) -> None:
    with pytest.raises(Corrupt, match="does not have its fields"):
        decode(ThingMade, {**encode(a_thing()), **change})


def test_what_json_lacks_cannot_be_in_a_fact() -> None:
    @dataclass
    class Bad:
        value: object

    for value in (b"bytes", {1}, object(), Part):
        with pytest.raises(TypeError, match="cannot be in a fact"):
            encode(Bad(value))
    with pytest.raises(AssertionError):
        encode("text")


@pytest.mark.parametrize(
    "count", [2**53, 2**53 + 1, -(2**53) - 1, 2**60, 10**18, 2**63 - 1, -(2**63), 1763856000123456789]
)
def test_a_whole_number_of_64_bits_comes_back_though_json_cannot_say_it(count: int) -> None:
    made = replace(a_thing(), count=count)
    stored = json.loads(canonical(encode(made)))
    assert decode(ThingMade, stored) == made
    assert canonical(encode(decode(ThingMade, stored))) == canonical(stored)


@pytest.mark.parametrize("text", ["3", "9007199254740992", "٣", "-", "", "009007199254740993", "1e20", str(2**63)])
def test_a_text_in_place_of_a_whole_number_is_damage_unless_it_has_to_be_one(text: str) -> None:
    with pytest.raises(Corrupt):
        decode(ThingMade, {**encode(a_thing()), "count": text})


def test_a_whole_number_beyond_64_bits_has_no_form() -> None:
    with pytest.raises(ValueError, match="no exact JSON form"):
        canonical(encode(replace(a_thing(), count=2**70 + 1)))
