from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.identity import JSON, canonical, digest, is_digest, short, sortable_id

# RFC 8785, appendix B: IEEE 754 bits -> ECMAScript text
RFC_NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]

values: st.SearchStrategy[JSON] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(("bits", "text"), RFC_NUMBERS)
def test_numbers_are_written_as_the_rfc_lists_them(bits: str, text: str) -> None:
    number = struct.unpack(">d", bytes.fromhex(bits))[0]
    assert canonical(number) == text.encode()


def test_the_example_of_the_rfc_is_reproduced() -> None:
    value: JSON = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert canonical(value).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_sorted_by_utf_16_code_units() -> None:
    value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert [json.loads(canonical(value))[key] for key in json.loads(canonical(value))] == [2, 4, 6, 7, 1, 5, 3]


@given(values)
def test_canonical_bytes_are_json_that_says_the_same(value: JSON) -> None:
    again = json.loads(canonical(value))
    assert again == value or canonical(again) == canonical(value)


@given(values)
def test_canonical_bytes_are_a_fixed_point(value: JSON) -> None:
    once = canonical(value)
    assert canonical(json.loads(once)) == once


def test_equal_numbers_have_equal_bytes_and_tuples_are_arrays() -> None:
    assert canonical(1.0) == canonical(1) == b"1"
    assert canonical((1, "a")) == canonical([1, "a"]) == b'[1,"a"]'
    assert canonical(-0.0) == b"0"


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        float("-inf"),
        2**53 + 1,
        -(2**53) - 1,
        10**21,
        10**400,
        "\ud800",
        {1: "a"},
        b"bytes",
        object(),
    ],
)
def test_what_json_cannot_say_exactly_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"JSON form|object key"):
        canonical(value)  # type: ignore[arg-type]  # that is the point


def test_a_digest_names_bytes_and_is_recognised() -> None:
    name = digest(b"")
    assert name == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert is_digest(name)
    assert not is_digest(name.upper())
    assert not is_digest(name + "0")
    assert not is_digest("sha256:")
    assert short(name) == "e3b0c44298fc"
    assert short(name, 4) == "e3b0"
    assert short("model/churn") == "model/churn"


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**80 - 1), st.integers(0, 2**48 - 1), st.integers(0, 2**80 - 1))
def test_ids_sort_as_time_does(at: int, chance: int, later: int, other: int) -> None:
    first, second = sortable_id("run", at, chance), sortable_id("run", later, other)
    assert len(first) == 30
    assert (first < second) == ((at, chance) < (later, other))


@pytest.mark.parametrize(("at", "chance"), [(-1, 0), (2**48, 0), (0, -1), (0, 2**80)])
def test_an_id_refuses_what_does_not_fit(at: int, chance: int) -> None:
    with pytest.raises(ValueError, match="48 bits"):
        sortable_id("run", at, chance)
