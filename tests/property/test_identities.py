"""What must be true of identities for any code and any value: the form of a text says nothing, its meaning all."""

from __future__ import annotations

import ast
import json
import math
import struct
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.pipeline.code.content import Opaque, content_hash
from noria.pipeline.code.evaluate import UNKNOWN, Evaluator
from noria.pipeline.syntax import canonical_syntax
from noria.pipeline.watching.trace import Trace, trace_from

NAMES = st.sampled_from(["a", "b", "c"])
LEAVES = st.one_of(NAMES, st.integers(0, 99).map(str), st.sampled_from(["1.5", "'t'", "None", "True"]))


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        pair.map(lambda two: f"({two[0]} + {two[1]})"),
        pair.map(lambda two: f"[{two[0]}, {two[1]}]"),
        pair.map(lambda two: f"f({two[0]}, key={two[1]})"),
        inner.map(lambda one: f"(lambda x: {one})"),
        pair.map(lambda two: f"({two[0]} if {two[1]} else 0)"),
    )


EXPRESSIONS = st.recursive(LEAVES, grown, max_leaves=12)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=8),
    st.complex_numbers(allow_nan=False),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=4), inner, max_size=4),
    ),
    max_leaves=10,
)


def exact(value: Any) -> Any:
    """A form in which two values are equal only if they are the same: types, order, bits of floats."""
    if isinstance(value, float):
        return ("float", "nan" if math.isnan(value) else struct.pack("<d", value))
    if isinstance(value, complex):
        return ("complex", exact(value.real), exact(value.imag))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(exact(item) for item in value))
    if isinstance(value, dict):
        return ("dict", tuple((key, exact(item)) for key, item in value.items()))
    return (type(value).__name__, value)


def no_code(thing: object) -> str:
    raise Opaque("code")


def function(body: str) -> str:
    return canonical_syntax(ast.parse(body).body[0])


@given(EXPRESSIONS)
def test_the_text_of_code_does_not_depend_on_its_form(expression: str) -> None:
    plain = f"def f(a, b, c):\n    return {expression}\n"
    dressed = f'def f(a, b, c):\n    """Words."""\n    # a remark\n    return (\n        {expression}\n    )\n'
    assert function(plain) == function(dressed) == function(ast.unparse(ast.parse(plain)))


@given(EXPRESSIONS, EXPRESSIONS)
def test_two_texts_are_equal_only_if_the_programs_are(one: str, two: str) -> None:
    programs = [f"def f(a, b, c):\n    return {expression}\n" for expression in (one, two)]
    trees = [ast.dump(ast.parse(program)) for program in programs]
    assert (function(programs[0]) == function(programs[1])) == (trees[0] == trees[1])


@given(VALUES, VALUES)
def test_values_hash_equally_exactly_when_they_are_the_same(one: Any, two: Any) -> None:
    assert (content_hash(one, no_code) == content_hash(two, no_code)) == (exact(one) == exact(two))


@given(st.lists(st.integers() | st.text(max_size=5), max_size=6), st.randoms())
def test_the_order_in_which_a_set_is_made_says_nothing(items: list[Any], dice: Any) -> None:
    other = list(items)
    dice.shuffle(other)
    assert content_hash(set(items), no_code) == content_hash(set(other), no_code)


@given(st.lists(st.sampled_from(["data", "x.csv", "a"]), min_size=1, max_size=4), st.sampled_from(["/", "join"]))
def test_a_path_is_told_as_it_would_be_computed(parts: list[str], way: str) -> None:
    scope = {"ROOT": PurePosixPath("/p"), "PART": parts[0]}
    text = "ROOT / PART" + "".join(f" / {part!r}" for part in parts[1:])
    if way == "join":
        text = "ROOT.joinpath(" + ", ".join(["PART", *(repr(part) for part in parts[1:])]) + ")"
    tree = ast.parse(text, mode="eval").body
    assert Evaluator(tree, scope).value(tree) == PurePosixPath("/p", *parts)


@given(st.text(max_size=10), st.integers())
def test_a_text_is_told_as_it_would_be_computed(name: str, number: int) -> None:
    tree = ast.parse("f'{NAME}-{N}' + str(N)", mode="eval").body
    assert Evaluator(tree, {"NAME": name, "N": number}).value(tree) == f"{name}-{number}" + str(number)


@pytest.mark.parametrize("text", ["g()", "NAME + g()", "f'{g()}'", "x[0]", "MISSING", "(yield_)"])
def test_what_would_have_to_be_run_stays_unknown(text: str) -> None:
    tree = ast.parse(text, mode="eval").body
    assert Evaluator(tree, {"NAME": "a", "g": lambda: "b"}).value(tree) is UNKNOWN


@given(
    st.builds(
        Trace,
        files=st.lists(st.tuples(st.text(max_size=5), st.none() | st.tuples(*[st.integers(0, 2**62)] * 4))).map(tuple),
        folders=st.lists(st.tuples(st.text(max_size=5), st.integers(0, 2**62))).map(tuple),
        code=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5), st.integers(0, 99))).map(tuple),
        stats=st.lists(st.tuples(st.text(max_size=5), st.sampled_from(["there", "stat"]))).map(tuple),
        notes=st.lists(st.text(max_size=5)).map(tuple),
    )
)
def test_a_trace_survives_the_way_home_from_a_worker(trace: Trace) -> None:
    assert trace_from(json.loads(json.dumps(trace.document()))) == trace
