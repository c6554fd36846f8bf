"""Every named failpoint is passed somewhere, and killed in some test.

A kill test module says where it kills in literal tuples `KILLS…` ("name" or "name:count"), each the
parameters of a test of that module.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from source_tree import ROOT, name_of, parsed, sources

from noria.store.failpoint import NAMES

PREFIX = "KILLS"


def calls() -> Iterator[tuple[str, str]]:
    """(place, name) of every call of `failpoint`; the name is empty if it is not written out."""
    for path in sources():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                is_text = len(node.args) == 1 and isinstance(node.args[0], ast.Constant)
                yield f"{name_of(path)}:{node.lineno}", str(ast.literal_eval(node.args[0])) if is_text else ""


def kills() -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """(module, list, its points) of every kill test module."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in parsed(path).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            if isinstance(target, ast.Name) and target.id.startswith(PREFIX):
                assert isinstance(node, ast.Assign)
                yield path, target.id, ast.literal_eval(node.value)


def test_every_call_names_a_failpoint_and_every_failpoint_is_called() -> None:
    found = list(calls())
    assert [place for place, name in found if name not in NAMES] == []
    assert set(NAMES) == {name for _, name in found}
    assert len(set(NAMES)) == len(NAMES)


def test_every_failpoint_is_killed_in_some_test() -> None:
    killed = {point.partition(":")[0] for _, _, points in kills() for point in points}
    assert killed == set(NAMES), f"no test kills {set(NAMES) - killed}; nobody knows {killed - set(NAMES)}"


def test_every_list_of_kills_is_the_parameters_of_a_test() -> None:
    for path, name, points in kills():
        assert points, name
        used = [
            node
            for test in parsed(path).body
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_")
            for mark in test.decorator_list
            for node in ast.walk(mark)
            if isinstance(node, ast.Name) and node.id == name
        ]
        assert used, f"{path.name}: no test is parametrized by {name}"
