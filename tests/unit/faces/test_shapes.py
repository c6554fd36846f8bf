"""JSON Schemas of arguments and results: what `verbs.encode` writes fits them, and another value does not."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NewType

import jsonschema
import pytest

from noria.core.frozen import frozen
from noria.core.verb import Verb
from noria.faces import shapes, verbs

if TYPE_CHECKING:
    from noria.core.schema import Column
    from noria.store.workspace import Workspace

Name = NewType("Name", str)


class Way(enum.Enum):
    """A double."""

    UP = "up"


@frozen
class Leaf:
    """A leaf."""

    score: float
    way: Way = Way.UP


@frozen
class Node:
    """A node."""

    name: Name
    place: Path
    leaves: tuple[Leaf, ...]
    pair: tuple[int, str]
    kind: Literal["a", "b"]
    extra: Mapping[str, Any]
    below: Node | None = None


def tree() -> Node:
    """A value of every kind."""
    return Node(Name("n"), Path("a/b"), (Leaf(float("nan")),), (1, "x"), "a", {"k": [1]}, None)


def checked(kind: Any, value: Any) -> list[str]:
    """What an encoded value breaks of the schema of a type."""
    found = shapes.Shapes("#/$defs/{}")
    schema = {**found.of(kind), "$defs": found.components}
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(verbs.builtins(value))]


def test_what_is_encoded_fits() -> None:
    assert checked(Node, tree()) == []
    assert checked(list[Node], [tree()]) == []
    assert checked(dict[str, float], {"a": float("inf")}) == []
    assert checked(Sequence[str], ("a",)) == []
    assert checked(int | None, None) == []


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, 1),
        (int, 1.5),
        (int | None, "x"),
        (Literal["a"], "b"),
        (tuple[int, str], [1]),
        (list[Leaf], [{"score": 1.0}]),
        (Leaf, {"score": 1.0, "way": "down"}),
        (Leaf, {"score": 1.0, "way": "up", "more": 1}),
        (Mapping[str, int], {"a": "x"}),
    ],
)
def test_another_value_does_not_fit(kind: Any, value: Any) -> None:
    assert checked(kind, value) != []


def test_a_type_without_a_schema_is_said_so() -> None:
    with pytest.raises(TypeError, match="no JSON Schema"):
        shapes.Shapes("{}").of(complex)


def asked(ws: Workspace, name: str, limit: int = 5, names: Sequence[str] = (), note: str | None = None) -> list[Column]:
    """Double a verb whose types are named for type checkers alone."""
    raise NotImplementedError


def test_a_result_that_is_imported_for_type_checkers_is_found() -> None:
    found = shapes.Shapes("#/{}")
    assert found.result(asked) == {"type": "array", "items": {"$ref": "#/core.schema.Column"}}
    assert list(found.components["core.schema.Column"]["properties"]) == ["name", "type", "nullable", "unit", "levels"]


def test_arguments_are_those_of_the_function_and_no_other() -> None:
    asked.__noria_verb__ = Verb("a", "b", "a.read", False, "anywhere")  # type: ignore[attr-defined]  # the mark
    schema = shapes.arguments(verbs.describe(asked))
    look = jsonschema.Draft202012Validator(schema)
    good: list[Any] = [{"name": "x"}, {"name": "x", "limit": 0, "names": ["a"], "note": None}]
    bad: list[Any] = [{}, {"name": 1}, {"name": "x", "limit": -1}, {"name": "x", "nme": 1}, {"name": "x", "names": [1]}]
    assert [look.is_valid(each) for each in (*good, *bad)] == [True, True, *[False] * 5]
    assert schema["properties"]["limit"]["default"] == 5
