from __future__ import annotations

import dataclasses

import pytest

from noria.core.fact import Fact, Kinds, Stored, fact, kind_of, upcast
from noria.core.identity import JSON


@fact("alias.moved", version=3, subject="model/{model}")
class AliasMoved:
    """An alias points to a version."""

    model: str
    alias: str = "live"


@upcast("alias.moved", version=1)
def rename(data: dict[str, JSON]) -> dict[str, JSON]:
    return {"model": data["name"]}


@upcast("alias.moved", version=2)
def add_alias(data: dict[str, JSON]) -> dict[str, JSON]:
    return {**data, "alias": "old"}


def a_fact(**changes: object) -> Fact:
    values: dict[str, object] = {
        "kind": "alias.moved",
        "version": 3,
        "subject": "model/m",
        "inputs": (("tree", "sha256:aa"),),
        "outputs": (),
        "data": {"model": "m"},
        "actor": "user:ann",
        "at": "2026-01-01T00:00:00.000000Z",
    }
    return Fact(**{**values, **changes})  # type: ignore[arg-type]  # test values


def test_a_kind_is_a_frozen_keyword_only_dataclass_with_its_declaration() -> None:
    moved = AliasMoved(model="m")
    assert kind_of(moved) == kind_of(AliasMoved)
    assert (kind_of(moved).kind, kind_of(moved).version, kind_of(moved).subject) == ("alias.moved", 3, "model/{model}")
    with pytest.raises(dataclasses.FrozenInstanceError):
        moved.model = "n"  # type: ignore[misc]  # that is the point
    with pytest.raises(TypeError):
        AliasMoved("m")  # type: ignore[call-arg]  # that is the point


def test_what_is_not_a_fact_is_refused() -> None:
    with pytest.raises(TypeError, match="str is not declared"):
        kind_of("text")
    with pytest.raises(TypeError, match="int is not declared"):
        kind_of(int)


def test_a_kind_must_be_a_noun_and_a_past_tense() -> None:
    with pytest.raises(AssertionError):
        fact("AliasMoved", subject="x")


def test_the_canonical_bytes_cover_every_part_of_a_fact() -> None:
    seen = {a_fact().canonical()}
    for change in (
        {"kind": "alias.set"},
        {"version": 2},
        {"subject": "model/n"},
        {"inputs": ()},
        {"outputs": (("a", "b"),)},
        {"data": {"model": "n"}},
        {"actor": "user:bob"},
        {"at": "2026-01-01T00:00:00.000001Z"},
    ):
        seen.add(a_fact(**change).canonical())
    assert len(seen) == 9


def test_a_stored_fact_gives_its_envelope_at_hand() -> None:
    stored = Stored(seq=1, fact=a_fact(), payload=AliasMoved(model="m"))
    assert (stored.at, stored.actor, stored.subject) == ("2026-01-01T00:00:00.000000Z", "user:ann", "model/m")


def test_old_data_is_brought_to_the_newest_shape_step_by_step() -> None:
    kinds = Kinds([AliasMoved], [rename, add_alias])
    assert kinds.upcasted("alias.moved", 1, {"name": "m"}) == {"model": "m", "alias": "old"}
    assert kinds.upcasted("alias.moved", 3, {"model": "m"}) == {"model": "m"}
    assert "alias.moved" in kinds
    assert "other.kind" not in kinds
    assert list(kinds) == ["alias.moved"]
    assert kinds.payload_class("alias.moved") is AliasMoved


def test_a_missing_step_between_versions_is_an_error() -> None:
    with pytest.raises(KeyError):
        Kinds([AliasMoved], [rename]).upcasted("alias.moved", 1, {"name": "m"})


def test_a_kind_is_declared_once() -> None:
    with pytest.raises(AssertionError, match="declared twice"):
        Kinds([AliasMoved, AliasMoved])
