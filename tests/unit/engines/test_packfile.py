"""Packs of small objects: what goes in comes out, and a pack without its end is no pack."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.errors import Corrupt
from noria.core.identity import digest
from noria.engines.objects.packfile import TAIL_BYTES, Places, pack, table_of, table_size

contents = st.lists(st.binary(max_size=40), unique=True, max_size=30)


@given(contents, contents)
def test_every_object_is_found_where_it_is(one: list[bytes], other: list[bytes]) -> None:
    places = Places()
    packs = {"one": pack([(digest(c), c) for c in one]), "other": pack([(digest(c), c) for c in other])}
    for name, content in packs.items():
        places.add(name, table_of(content, len(content), name))
    wanted = [digest(content) for content in {*one, *other}]
    found = places.find([*wanted, digest(b"x" * 41)])
    assert set(found) == set(wanted)
    for name, place in found.items():
        assert digest(packs[place.pack][place.offset : place.offset + place.size]) == name
    assert dict(places.of("one")) == {digest(content): len(content) for content in one}
    assert places.of("none") == []
    places.keep({"other"})
    assert set(places.find(wanted)) == {digest(content) for content in other}


@given(contents, st.integers(0, 60))
def test_a_pack_that_was_cut_short_is_refused(items: list[bytes], cut: int) -> None:
    content = pack([(digest(each), each) for each in items])
    tail = content[: len(content) - cut - 1]
    with pytest.raises(Corrupt):
        table_of(tail, len(tail), "here")


def test_only_the_end_of_a_pack_is_needed() -> None:
    items = [(digest(bytes([number])), bytes([number])) for number in range(50)]
    content = pack(items)
    length = table_size(content[-TAIL_BYTES:], "here")
    table = table_of(content[-length:], len(content), "here")
    assert len(table) == 50


def test_a_table_that_names_bytes_outside_of_its_pack_is_refused() -> None:
    content = pack([(digest(b"abc"), b"abc")])
    with pytest.raises(Corrupt, match="does not have"):
        table_of(content, len(content) - 1, "here")
