"""Going through a text finds what the standard library's own ways find, in the same order."""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import typing
import unittest.mock
from types import ModuleType

import pytest

from noria.pipeline.syntax import children, walk

MODULES = (ast, dataclasses, enum, inspect, typing, unittest.mock)
MARKS = (ast.expr_context,)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_node_is_met_once_in_the_order_of_the_standard_library(module: ModuleType) -> None:
    tree = ast.parse(inspect.getsource(module))
    assert walk(tree) == [node for node in ast.walk(tree) if not isinstance(node, MARKS)]
    for node in walk(tree):
        assert children(node) == [below for below in ast.iter_child_nodes(node) if not isinstance(below, MARKS)]
