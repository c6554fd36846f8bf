"""The lines of a TOML file's keys, for errors and for edits."""

from __future__ import annotations

import tomllib

import pytest

from noria.checks.suites.places import line_of, places

TEXT = """# a comment
dataset = "d"  # "quoted"

[table]
key = "id"

[columns."a b"]
type = "number"
levels = [
  "x",  # with ] and #
  "y",
]
text = '''
[not a header]
'''
inner.deep = 1

[[rows]]
name = "first"
where = "a > 1"

[[rows]]
name = "second"
where = "b > 1"

[columns.c]
limits = { low = 1, high = 2 }
"""


def test_every_key_has_its_lines() -> None:
    found = places(TEXT)
    lines = {path: (place.first + 1, place.end) for path, place in found.items()}
    assert lines[("dataset",)] == (2, 2)
    assert lines[("table",)] == (4, 4)
    assert lines[("columns", "a b", "levels")] == (9, 12)
    assert lines[("columns", "a b", "text")] == (13, 15)
    assert lines[("columns", "a b", "inner", "deep")] == (16, 16)
    assert lines[("rows", 0, "where")] == (20, 20)
    assert lines[("rows", 1, "where")] == (24, 24)
    assert lines[("columns", "c", "limits", "high")] == (27, 27)


def test_every_value_of_the_file_has_a_place() -> None:
    def walk(value: object, path: tuple[str | int, ...]) -> None:
        if path and not isinstance(value, dict | list):
            assert line_of(places(TEXT), path) > 0, path
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            if not isinstance(value, list) or isinstance(inner, dict):
                walk(inner, (*path, key))

    walk(tomllib.loads(TEXT), ())


@pytest.mark.parametrize(("path", "line"), [(("rows", 1, "nosuch"), 22), (("nosuch",), 0), (("table", "kye"), 4)])
def test_a_key_that_is_not_there_is_told_by_the_table_above_it(path: tuple[str | int, ...], line: int) -> None:
    assert line_of(places(TEXT), path) == line
