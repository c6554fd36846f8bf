"""Text tables merged by row: held against a merge of mappings, and byte for byte where nothing changed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.data.git.merge_lines import NotMergeable, merge_lines

HEAD = "id,x\n"
rows = st.dictionaries(st.integers(0, 12).map(str), st.sampled_from(["a", "b", "c d", '"q,1"', '"l\n2"']), max_size=8)


def csv(values: dict[str, str]) -> bytes:
    return (HEAD + "".join(f"{key},{value}\n" for key, value in values.items())).encode()


def merged(base: dict[str, str], ours: dict[str, str], theirs: dict[str, str]) -> tuple[dict[str, str], set[str]]:
    """The definition: what one side changed is as that side says; what both changed otherwise is a conflict."""
    result: dict[str, str] = {}
    clashes: set[str] = set()
    for key in {*base, *ours, *theirs}:
        was, one, other = base.get(key), ours.get(key), theirs.get(key)
        if one != other and one != was and other != was:
            clashes.add(key)
        value = other if one == was else one
        if value is not None:
            result[key] = value
    return result, clashes


@given(rows, rows, rows)
def test_a_merge_is_that_of_the_rows_as_mappings(
    base: dict[str, str], ours: dict[str, str], theirs: dict[str, str]
) -> None:
    found = merge_lines(csv(base), csv(ours), csv(theirs), ["id"], "t.csv")
    expected, clashes = merged(base, ours, theirs)
    assert set(found.conflicts) == clashes
    assert found.rows == len(expected)
    again = merge_lines(b"", csv(expected), found.content, ["id"], "t.csv")
    assert not again.conflicts
    assert again.rows == len(expected)
    for key, value in expected.items():
        assert f"{key},{value}\n".encode() in found.content


@given(rows, rows)
def test_what_one_side_changed_alone_is_that_side_byte_for_byte(base: dict[str, str], ours: dict[str, str]) -> None:
    found = merge_lines(csv(base), csv(ours), csv(base), ["id"], "t.csv")
    assert found.content == csv(ours)
    other = merge_lines(csv(base), csv(base), csv(ours), ["id"], "t.csv")
    assert sorted(other.content.splitlines()) == sorted(csv(ours).splitlines())


def test_an_added_row_follows_the_row_that_it_follows_there() -> None:
    base = csv({"1": "a", "5": "b", "9": "c"})
    theirs = csv({"1": "a", "3": "new", "4": "newer", "5": "b", "9": "c"})
    ours = csv({"1": "a", "5": "b", "9": "c", "10": "mine"})
    found = merge_lines(base, ours, theirs, ["id"], "t.csv").content.decode().splitlines()
    assert [line.partition(",")[0] for line in found] == ["id", "1", "3", "4", "5", "9", "10"]


def test_json_lines_are_merged_too() -> None:
    def lines(*values: tuple[int, str]) -> bytes:
        return b"".join(json.dumps({"id": key, "x": value}).encode() + b"\n" for key, value in values)

    found = merge_lines(lines((1, "a"), (2, "b")), lines((1, "A"), (2, "b")), lines((2, "B")), ["id"], "t.jsonl")
    assert found.conflicts == ("1",)
    found = merge_lines(
        lines((1, "a"), (2, "b")), lines((1, "A"), (2, "b")), lines((1, "a"), (2, "B")), ["id"], "t.jsonl"
    )
    assert found.content == lines((1, "A"), (2, "B"))


@pytest.mark.parametrize(
    ("ours", "why"),
    [
        (b"id,y\n1,2\n", "other columns"),
        (b"x,y\n1,2\n", "no column 'id'"),
        (b"id,x\n1,2\n1,3\n", "twice"),
        (b"id,x\n1\n", "1 values for 2 columns"),
        (b'id,x\n1,"open\n', "never closed"),
        (b"id,x\n\xff,1\n", "not UTF-8"),
    ],
)
def test_what_has_no_rows_by_key_is_not_merged(ours: bytes, why: str) -> None:
    with pytest.raises(NotMergeable, match=why):
        merge_lines(b"", ours, b"id,x\n1,2\n", ["id"], "t.csv")


def test_line_ends_of_dos_stay() -> None:
    base = b"id,x\r\n1,a\r\n2,b\r\n"
    found = merge_lines(base, base.replace(b"a", b"A"), base.replace(b"b", b"B"), ["id"], "t.csv")
    assert found.content == b"id,x\r\n1,A\r\n2,B\r\n"
