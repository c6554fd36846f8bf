"""Objects that are stored together: nobody sees half of them, none is lost, and none is named before it is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.core.errors import NotFound, StoreFull
from noria.core.identity import Digest, digest
from noria.engines.objects.file import FileObjects
from noria.engines.objects.memory import MemoryObjects
from noria.store import held
from noria.store.held import HeldObjects
from noria.store.objects import Objects


@pytest.fixture
def below(tmp_path: Path) -> Objects:
    return Objects(FileObjects(tmp_path / "objects"), tmp_path / "cache")


def test_what_is_held_is_read_here_and_is_elsewhere_after_settling(below: Objects) -> None:
    face = HeldObjects(below)
    names = [face.put_soon(text) for text in (b"one", b"two", b"one")]
    assert names == [digest(text) for text in (b"one", b"two", b"one")]
    assert face.held([*names, digest(b"other")]) == {names[0]: b"one", names[1]: b"two"}
    assert face.get_bytes(names[0]) == b"one"
    face.require(names[0])
    assert not below.has_many(names), "nothing is stored by asking for the bytes"
    with pytest.raises(NotFound):
        below.require(names[0])
    face.settle()
    assert face.held(names) == {}
    assert [below.get_bytes(name) for name in names] == [b"one", b"two", b"one"]
    below.require(names[0])


ASKED: tuple[Callable[[Objects, Digest], object], ...] = (
    Objects.has, Objects.size, Objects.path, Objects.verify, Objects.chunks_of,
    lambda objects, name: objects.has_many([name]),
    lambda objects, name: list(objects.get_many([name])),
    lambda objects, name: objects.open(name).close(),
    lambda objects, name: objects.get_json(name),
)  # fmt: skip


@pytest.mark.parametrize("ask", ASKED)
def test_who_asks_for_more_than_bytes_finds_it_stored(below: Objects, ask: Callable[[Objects, Digest], object]) -> None:
    face = HeldObjects(below)
    name, other = face.put_soon(b"1"), face.put_soon(b"2")
    given_back = ask(face, name)
    assert given_back is None or given_back
    if ask is not ASKED[-1]:
        assert below.has_many([name, other]) == {name, other}


def test_a_refusal_of_the_disk_loses_nothing(below: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    face = HeldObjects(below)
    name = face.put_soon(b"one")

    def full(_: object, items: Iterable[bytes]) -> list[Digest]:
        raise StoreFull("no space is left")

    with monkeypatch.context() as patch:
        patch.setattr(FileObjects, "put_many", full)
        with pytest.raises(StoreFull):
            face.settle()
    assert face.get_bytes(name) == b"one"
    face.settle()
    assert below.get_bytes(name) == b"one"


def test_large_ones_are_stored_at_once_and_not_too_many_are_held(below: Objects) -> None:
    face = HeldObjects(below)
    assert below.has(face.put_soon(bytes(held.SOON_BYTES + 1)))
    count = held.HELD_BYTES // held.SOON_BYTES + 1
    names = [face.put_soon(number.to_bytes(2, "big") * (held.SOON_BYTES // 2)) for number in range(count)]
    assert below.has_many(names) == set(names)


def test_a_hundred_cost_as_many_syncs_as_one(below: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(number), sync(number))[1])
    counts = []
    for texts in ([b"first"], [str(number).encode() for number in range(100)], [b"alone"]):
        face, before = HeldObjects(below), len(synced)
        for text in texts:
            face.put_soon(text)
        assert len(synced) == before
        face.settle()
        counts.append(len(synced) - before)
    assert counts[1] == counts[2] >= 1


@settings(max_examples=60)
@given(st.lists(st.one_of(st.binary(max_size=6), st.sampled_from(["settle", "look"])), max_size=30))
def test_a_held_store_is_a_store(steps: list[bytes | str]) -> None:
    below = Objects(MemoryObjects(), Path("unused"))
    face, known, stored = HeldObjects(below), set[bytes](), set[bytes]()
    for step in steps:
        if isinstance(step, bytes):
            assert face.put_soon(step) == digest(step)
            known.add(step)
            continue
        if step == "settle" or (known and face.has(digest(min(known)))):
            face.settle()
            stored |= known
        assert all(face.get_bytes(digest(text)) == text for text in known)
        assert all(below.has(digest(text)) for text in stored)
    face.settle()
    assert set(below.names()) == {digest(text) for text in known}
