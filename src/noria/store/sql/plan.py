"""How SQLite runs one statement: its text, what is bound where, and how its rows are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from noria.store.sql.rows import parsed, row_class

__all__ = ["LIST", "READINGS", "WRITINGS", "Plan", "Source"]

LIST = "\x00"
"""Stands in a plan's text for the marks of a list, of which there are as many as it has values. No SQL holds it."""
Source = tuple[str, Any, str, bool]
"""A bound value: where from ("value" of the statement, by "name", or "is" itself), which, how written, if a list."""


def _truth(value: Any) -> int | None:
    if value is not None and value not in (0, 1):
        raise TypeError(f"{value!r} is no truth value")
    return None if value is None else int(value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _read_truth(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _read_json(value: Any) -> Any:
    return None if value is None else parsed(value)


WRITINGS: Mapping[str, Callable[[Any], Any]] = {"truth": _truth, "number": _number, "json": json.dumps}
"""How a value is written that SQLite does not take as it is, or not as its column has it."""
READINGS: Mapping[str, Callable[[Any], Any]] = {"truth": _read_truth, "json": _read_json}
"""How a value is read that SQLite gives in another form."""


class Plan:
    """How one statement is run. `made` is the class of its rows; None where SQLite tells the names of the columns."""

    __slots__ = ("_by_name", "_is_plain", "_sources", "_writings", "_written", "made", "readings", "text")

    def __init__(
        self,
        text: str,
        sources: Sequence[Source],
        fields: tuple[str, ...] | None,
        readings: Sequence[tuple[int, Callable[[Any], Any]]],
        writings: Mapping[str, Callable[[Any], Any]] = WRITINGS,
    ) -> None:
        self.text = text
        self.made = None if fields is None else row_class(fields)
        self.readings = readings
        self._sources = sources
        self._writings = writings
        self._is_plain = all(each[0] == "value" and not each[2] and not each[3] for each in sources) and [
            each[1] for each in sources
        ] == [*range(len(sources))]
        is_named = len(sources) > 1 and all(each[0] == "name" and not each[3] for each in sources)
        self._by_name = itemgetter(*[each[1] for each in sources]) if is_named else None
        self._written = [(place, writings[each[2]]) for place, each in enumerate(sources) if is_named and each[2]]

    def bound(self, named: Mapping[str, Any], values: tuple[Any, ...]) -> Sequence[Any]:
        """The values to bind, in order. Raises: KeyError for a name that is not given."""
        if self._is_plain and len(values) == len(self._sources):
            return values
        if self._by_name is not None:
            return self._named(self._by_name(named))
        found: list[Any] = []
        for origin, which, writing, is_list in self._sources:
            value = values[which] if origin == "value" else named[which] if origin == "name" else which
            if is_list:
                found.extend(map(self._writings[writing], value) if writing else value)
            else:
                found.append(self._writings[writing](value) if writing else value)
        return found

    def _named(self, given: tuple[Any, ...]) -> Sequence[Any]:
        if not self._written:
            return given
        found = [*given]
        for place, writing in self._written:
            found[place] = writing(found[place])
        return found

    def worded(self, named: Mapping[str, Any], values: tuple[Any, ...]) -> str:
        """The text, with as many marks for each list as it has values."""
        if LIST not in self.text:
            return self.text
        parts = self.text.split(LIST)
        said = [parts[0]]
        lists = [each for each in self._sources if each[3]]
        for (origin, which, _, _), part in zip(lists, parts[1:], strict=True):
            said += [", ".join("?" * len(values[which] if origin == "value" else named[which])), part]
        return "".join(said)
