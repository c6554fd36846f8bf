"""Inferring again never touches what a person wrote, takes over the rest, and keeps the file's form."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from noria.checks.suites.merge import changes, merged
from noria.core.errors import Conflict

BASE = """# Rules for d
dataset = "d"
reference = "d@1"

[columns.a]
type = "number"
nulls = 0.01
levels = ["x", "y"]

[columns.b]
type = "text"
"""


def test_what_nobody_edited_follows_and_what_somebody_edited_stays() -> None:
    mine = BASE.replace("nulls = 0.01", "nulls = 0.2  # agreed # twice")
    theirs = BASE.replace("nulls = 0.01", "nulls = 0.05").replace('["x", "y"]', '["x", "y", "z"]').replace("d@1", "d@2")
    found = {change.key: change for change in changes(BASE, mine, theirs)}
    assert {key: change.is_kept for key, change in found.items()} == {
        "reference": False,
        "columns.a.nulls": True,
        "columns.a.levels": False,
    }
    nulls = found["columns.a.nulls"]
    assert (nulls.before, nulls.yours, nulls.now) == ("0.01", "0.2", "0.05")
    text = merged(mine, list(found.values()))
    assert text == mine.replace("d@1", "d@2").replace('["x", "y"]', '["x", "y", "z"]')


def test_new_and_lost_keys_and_columns() -> None:
    theirs = BASE.replace('levels = ["x", "y"]\n', "").replace('type = "text"', 'type = "text"\nunique = true')
    theirs = theirs.replace('\n[columns.b]\ntype = "text"\nunique = true\n', "") + '\n[columns."c d"]\nnulls = 0.0\n'
    text = merged(BASE, changes(BASE, BASE, theirs))
    assert tomllib.loads(text) == tomllib.loads(theirs)
    assert text.startswith("# Rules for d\n")


def test_what_a_person_removed_stays_removed_and_what_they_added_stays() -> None:
    mine = (
        BASE.replace('levels = ["x", "y"]\n', "").partition("[columns.b]")[0]
        + '[[rows]]\nname = "r"\nwhere = "a > 1"\n'
    )
    theirs = BASE.replace('["x", "y"]', '["q"]').replace('type = "text"', 'type = "text"\nnulls = 0.5')
    found = changes(BASE, mine, theirs)
    assert {change.key: change.is_kept for change in found} == {"columns.a.levels": True, "columns.b.nulls": True}
    assert merged(mine, found) == mine


def test_without_the_text_that_was_inferred_only_whole_new_columns_are_taken() -> None:
    theirs = BASE.replace("nulls = 0.01", "nulls = 0.5") + '\n[columns.c]\ntype = "bool"\n'
    found = changes("", BASE, theirs)
    assert {change.key: change.is_kept for change in found} == {"columns.a.nulls": True, "columns.c.type": False}
    assert changes("", BASE, BASE) == []


def test_a_form_that_cannot_be_edited_line_by_line_is_refused_whole() -> None:
    mine = 'dataset = "d"\n[columns]\na = { type = "number", nulls = 0.01 }\n'
    base = 'dataset = "d"\n[columns.a]\ntype = "number"\nnulls = 0.01\n'
    with pytest.raises(Conflict, match=r"columns\.a\.nulls stands in a form"):
        merged(mine, changes(base, mine, base.replace("0.01", "0.5")))


def test_values_over_many_lines_are_replaced_whole() -> None:
    mine = BASE.replace('["x", "y"]', '[\n  "x",  # first\n  "y",\n]')
    theirs = BASE.replace('["x", "y"]', '["z"]')
    found = changes(BASE, mine, theirs)
    assert [change.is_kept for change in found] == [False], "the value is the same, its form is not an edit"
    assert merged(mine, found) == BASE.replace('["x", "y"]', '["z"]')


keys = st.sampled_from(["type", "nulls", "min", "levels"])
values = st.sampled_from(['"number"', "0.1", "0.2", '["a", "b"]', "[1.0]", "true"])
columns = st.dictionaries(st.sampled_from(["a", "b c", "d.e"]), st.dictionaries(keys, values, max_size=4), max_size=3)


def written(found: dict[str, dict[str, str]]) -> str:
    lines = ['dataset = "d"']
    for name, rules in found.items():
        lines += ["", f'[columns."{name}"]', *(f"{key} = {value}" for key, value in rules.items())]
    return "\n".join(lines) + "\n"


@settings(max_examples=1000)
@example({}, {"d.e": {}}, {"a": {}, "b c": {"type": '"number"'}, "d.e": {"type": '"number"'}})
@given(columns, columns, columns)
def test_any_three_texts_merge_to_every_edit_and_every_other_change(
    base: dict[str, dict[str, str]], mine: dict[str, dict[str, str]], theirs: dict[str, dict[str, str]]
) -> None:
    found = changes(written(base), written(mine), written(theirs))
    text = merged(written(mine), found)
    result = tomllib.loads(text).get("columns", {})
    for name in {*base, *mine, *theirs}:
        for key in ("type", "nulls", "min", "levels"):
            was, own, new = (each.get(name, {}).get(key) for each in (base, mine, theirs))
            is_gone = name in base and base[name] and not mine.get(name)
            expected = own if own != was or is_gone else new
            got = result.get(name, {}).get(key)
            assert got == (None if expected is None else tomllib.loads(f"x = {expected}")["x"]), (name, key)
