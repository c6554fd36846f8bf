"""`@frozen` and `@slotted` do what `@dataclass` does with slots, class by class, and compile when it is worth it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import threading
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.frozen import frozen, slotted

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"a": "int", "b": "str"},
    "defaults": {"a": "int", "b": ("str", "x"), "c": ("list[int]", field(default_factory=list))},
    "by name": {"a": ("int", 1), "b": ("str", field(kw_only=True)), "c": ("int", field(default=2, kw_only=True))},
    "marked": {
        "a": ("int", field(repr=False)),
        "b": ("str", field(compare=False, default="b")),
        "c": ("int", field(hash=False, default=3)),
        "d": ("int", field(init=False, default=4)),
        "e": ("list[int]", field(init=False, default_factory=list, compare=False)),
    },
    "of a class": {"a": "int", "k": ("ClassVar[int]", 7)},
    "odd names": {"self": "int", "_set": ("int", 1), "cls": ("int", 2)},
    "none": {},
}
CALLS: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
    ((), {}),
    ((1,), {}),
    ((1, "x"), {}),
    ((2, "x"), {}),
    ((1, "x", 5), {}),
    ((1, "x", 5, 6), {}),
    ((1,), {"b": "y"}),
    ((1,), {"b": "y", "c": 9}),
    ((), {"a": 1}),
    ((), {"a": 1, "b": "x"}),
    ((1,), {"a": 1}),
    ((), {"nothing": 1}),
)


def made(kind: str, decorate: Callable[[type], type], body: dict[str, Any] | None = None) -> type:
    notes, space = {}, dict(body or {})
    for name, each in KINDS[kind].items():
        notes[name], *default = each if isinstance(each, tuple) else (each,)
        if default:
            space[name] = copy.copy(default[0])
    found: type = decorate(type("Made", (), {"__annotations__": notes, "__module__": __name__, **space}))
    return found


def both(kind: str, body: dict[str, Any] | None = None, is_frozen: bool = True, **options: Any) -> tuple[type, type]:
    standard = dataclass(frozen=is_frozen, slots=True, **options)
    ours: Any = frozen if is_frozen else slotted
    return made(kind, standard, body), made(kind, ours(**options) if options else ours, body)


def outcome(call: Callable[..., Any], *words: Any, **named: Any) -> Any:
    try:
        return call(*words, **named)
    except (TypeError, AttributeError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"kw_only": True}, {"eq": False}], ids=str)
@pytest.mark.parametrize("is_frozen", [True, False], ids=["frozen", "slotted"])
@pytest.mark.parametrize("is_compiled", [False, True], ids=["the first", "later ones"])
def test_it_is_what_the_standard_library_makes(
    kind: str, options: dict[str, Any], is_frozen: bool, is_compiled: bool
) -> None:
    theirs, ours = both(kind, is_frozen=is_frozen, **options)
    first = vars(ours)["__init__"]
    for _ in range(20 if is_compiled else 0):
        outcome(ours, 1)
    assert (vars(ours)["__init__"] is first) is not is_compiled
    seen = []
    for words, named in (((), {"self": 1}), ((1,), {})) if kind == "odd names" else CALLS:
        pair = [outcome(cls, *words, **named) for cls in (theirs, ours)]
        if isinstance(pair[0], tuple):
            assert pair[1] == pair[0]
            continue
        seen.append(pair)
        assert repr(pair[1]) == repr(pair[0])
        assert dataclasses.asdict(pair[1]) == dataclasses.asdict(pair[0])
        assert [each.name for each in dataclasses.fields(pair[1])] == [e.name for e in dataclasses.fields(pair[0])]
        if options.get("eq", True):
            assert outcome(hash, pair[1]) == outcome(hash, pair[0])
        for name in ("a", "new"):
            for act, values in ((setattr, (1,)), (delattr, ())) if is_frozen else ():
                errors = [outcome(act, each, name, *values) for each in pair]
                if name in theirs.__dataclass_fields__:  # type: ignore[attr-defined]
                    assert errors[0] == errors[1]
                assert errors[1][0] is dataclasses.FrozenInstanceError
        if not is_frozen and "a" in KINDS[kind]:
            pair = [copy.copy(each) for each in pair]
            for each in pair:
                each.a = "set"
            assert repr(pair[1]) == repr(pair[0])
            assert outcome(setattr, pair[1], "new", 1) == outcome(setattr, pair[0], "new", 1)
    assert seen
    for first in seen:
        for second in seen:
            assert (first[1] == second[1]) == (first[0] == second[0])
            assert (first[1] != second[1]) == (first[0] != second[0])
        assert first[1] != first[0]
    assert theirs.__slots__ == ours.__slots__  # type: ignore[attr-defined]
    assert theirs.__match_args__ == ours.__match_args__  # type: ignore[attr-defined]
    theirs_says, ours_says = inspect.signature(theirs), inspect.signature(ours)
    assert [(p.name, p.kind, p.annotation) for p in ours_says.parameters.values()] == [
        (p.name, p.kind, p.annotation) for p in theirs_says.parameters.values()
    ]


def test_nothing_is_compiled_before_it_is_called() -> None:
    ours = made("plain", frozen)
    first = {name: vars(ours)[name] for name in ("__init__", "__eq__", "__hash__")}
    one, other = ours(1, "x"), ours(1, "x")
    assert vars(ours)["__init__"] is first["__init__"], "two objects are not worth it"
    assert [ours(1, b="x") for _ in range(20)] == [one] * 20
    assert vars(ours)["__init__"] is not first["__init__"]
    assert vars(ours)["__hash__"] is first["__hash__"]
    assert one == other
    assert hash(one) == hash(other)
    assert vars(ours)["__eq__"] is not first["__eq__"]
    assert vars(ours)["__init__"].__qualname__ == "Made.__init__"


@frozen
class Point:
    """A place."""

    x: int
    y: int = 0
    seen: list[int] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        self.seen.append(self.x)


@frozen(kw_only=True)
class Named(Point):
    """A place with a name."""

    name: str


class Loose(Point):
    """Not made by the decorator: it may have more, as with the standard library."""


@given(st.integers(), st.integers(), st.text())
def test_a_value_comes_back_from_copies_pickles_and_changes(x: int, y: int, name: str) -> None:
    point = Named(x, y, name=name)
    assert point.seen == [x]
    for each in (pickle.loads(pickle.dumps(point)), copy.copy(point), copy.deepcopy(point)):
        assert each == point
        assert each.seen == [x]
        assert type(each) is Named
    assert dataclasses.replace(point, y=y + 1) == Named(x, y + 1, name=name)
    assert dataclasses.replace(point, name="") != Point(x, y)
    match point:
        case Point(a, b):
            assert (a, b) == (x, y)


def test_a_class_below_it_without_the_decorator() -> None:
    loose = Loose(1)
    assert loose == Loose(1)
    assert loose != Point(1)
    loose.more = 2  # type: ignore[attr-defined]
    assert loose.more == 2  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        loose.x = 2  # type: ignore[misc]
    del loose.more  # type: ignore[attr-defined]
    assert str(inspect.signature(Loose)) == str(inspect.signature(Point))


def test_methods_of_the_class_itself_stay() -> None:
    def same(self: Any, other: Any) -> bool:
        return isinstance(other, type(self)) and bool(self.a == other.a)

    theirs, ours = both("plain", {"__eq__": same, "__repr__": lambda self: f"<{self.a}>"})
    assert ours(1, "x") == ours(1, "y")
    assert repr(ours(1, "x")) == "<1>"
    assert hash(ours(1, "x")) == hash(theirs(1, "x"))
    theirs, ours = both("plain", {"__hash__": lambda self: 5})
    assert hash(ours(1, "x")) == hash(theirs(1, "x")) == 5
    theirs, ours = both("plain", {"__hash__": None})
    assert outcome(hash, theirs(1, "x"))[0] is outcome(hash, ours(1, "x"))[0] is TypeError


def test_what_it_does_not_take_is_told() -> None:
    with pytest.raises(ValueError, match="Wrong: a field of type InitVar"):

        @frozen
        class Wrong:
            given: InitVar[int]

    with pytest.raises(TypeError, match="non-default argument 'b' follows default argument"):

        @frozen
        class Turned:
            a: int = 1
            b: int

    @frozen
    class Shared:
        limit: ClassVar[int] = 3
        a: int

    assert Shared(1).limit == 3


def test_many_threads_make_the_first_one_at_once() -> None:
    for _ in range(50):
        ours = made("defaults", frozen)
        start, found = threading.Barrier(8), []

        def make(ours: type = ours, start: threading.Barrier = start, found: list[Any] = found) -> None:
            start.wait()
            found.append(ours(1) == ours(1) and hash(ours) == hash(ours))

        threads = [threading.Thread(target=make) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert found == [True] * 8
