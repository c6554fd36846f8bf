"""Comparisons that mean the same in SQLite and Postgres: what a search expression becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.store.sql.expressions import case_like
from noria.store.sql.words import and_, case, func, literal, or_

__all__ = ["SPECIAL", "behind", "compared", "number_compared", "number_keys", "text_keys"]

FLOAT_MAX = 1.7976931348623157e308
SPECIAL: Mapping[str, float | None] = {"nan": None, "inf": FLOAT_MAX, "-inf": -FLOAT_MAX}
"""What stands in the `value` of a table for what its `special` says: infinite values are the largest numbers."""
Keys = Sequence[tuple[Any, bool]]
"""What to order by: (column, is it descending)."""


def compared(column: Any, operator: str, value: Any) -> Any:
    """The condition `column operator value`; for IN and NOT IN the value is a sequence.

    LIKE minds the case in both databases, ILIKE does not; neither has an escape character.
    """
    match operator:
        case "=":
            return column == value
        case "!=":
            return column != value
        case "<":
            return column < value
        case "<=":
            return column <= value
        case ">":
            return column > value
        case ">=":
            return column >= value
        case "LIKE":
            return case_like(column, str(value), _glob(str(value)))
        case "ILIKE":
            return func.lower(column).like(str(value).lower(), escape="\x01")
        case "IN":
            return column.in_(value)
        case _:
            return ~column.in_(value)


def behind(keys: Keys, place: Sequence[str | float]) -> Any:
    """The condition that a row comes behind a place in an order: what a page begins with."""
    cases = []
    for number, (key, is_descending) in enumerate(keys):
        equal = [keys[before][0] == place[before] for before in range(number)]
        cases.append(and_(*equal, key < place[number] if is_descending else key > place[number]))
    return or_(*cases)


def number_compared(table: Any, operator: str, value: Any) -> Any:
    """The condition that the number of a table is so. NaN is unlike every number, and nothing else of it."""
    found = compared(table.c.value, operator, value)
    return or_(found, table.c.special == "nan") if operator == "!=" else found


def number_keys(table: Any, is_descending: bool) -> list[tuple[Any, bool]]:
    """How rows are ordered by the number of an outer joined table; behind all come NaN, then rows without one."""
    is_last = case((table.c.special.is_(None), 2), (table.c.special == "nan", 1), else_=0)
    return [(is_last, False), (func.coalesce(table.c.value, literal(0.0)), is_descending)]


def text_keys(table: Any, is_descending: bool) -> list[tuple[Any, bool]]:
    """How rows are ordered by the text `value` of an outer joined table; those without one come last."""
    is_last = case((table.c.value.is_(None), 1), else_=0)
    return [(is_last, False), (func.coalesce(table.c.value, literal("")), is_descending)]


def _glob(pattern: str) -> str:
    """The pattern of LIKE in the words of SQLite's GLOB."""
    changed = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(changed.get(mark, mark) for mark in pattern)
