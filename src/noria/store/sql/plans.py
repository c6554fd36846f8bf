"""How SQLite runs a statement that is known by its key: the text, what is bound where, and how rows are read.

A plan is found in memory, then in the file that is shipped (`plans.jsonl`, made by `make statements`), and else made
by SQLAlchemy. It holds nothing of the values that a statement is run with, and a key holds a digest of every table
that is concerned; so the file can lack plans but cannot hold a wrong one for what stands in the code.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy
from noria.store.sql.rows import parsed, row_class
from noria.store.sql.schema import Table
from noria.store.sql.words import Node

if TYPE_CHECKING:
    from noria.store.sql import compiled
else:
    compiled = lazy("noria.store.sql.compiled")

__all__ = ["FILE", "LIST", "READINGS", "WRITINGS", "Plan", "Plans", "plans"]

FILE = Path(__file__).with_name("plans.jsonl")
LIST = "\x01"
"""Stands in a plan's text for the marks of a list, of which there are as many as it has values."""
MOST = 5_000
"""So many plans are kept in memory; what makes statements of ever new shape begins again."""
DIGEST_BYTES = 12
_WRITING = ("insert(", "update(", "delete(", "sqlite_insert(")
_EXPANDING = re.compile(r"bindparam\('(\w+)',expanding=,True\)")
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

    __slots__ = ("_is_plain", "_sources", "_writings", "made", "readings", "text")

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

    def bound(self, named: Mapping[str, Any], values: tuple[Any, ...]) -> Sequence[Any]:
        """The values to bind, in order. Raises: KeyError for a name that is not given."""
        if self._is_plain and len(values) == len(self._sources):
            return values
        found: list[Any] = []
        for origin, which, writing, is_list in self._sources:
            value = values[which] if origin == "value" else named[which] if origin == "name" else which
            if is_list:
                found.extend(map(self._writings[writing], value) if writing else value)
            else:
                found.append(self._writings[writing](value) if writing else value)
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


class Plans:
    """The plans of a process. Thread safe: two that make the same plan at once make the same."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found: dict[str, Plan] = {}
        self.wanted: dict[str, Any] | None = None
        """What was asked for, as it stands in the file; None if it is not noted."""

    def of(self, statement: Node, one: Mapping[str, Any]) -> Plan:
        """The plan of a statement with a key, run with values of these names."""
        key = _key(statement, one)
        found = self._found.get(key)
        if found is None:
            found = self._new(key, statement, one)
        return found

    def creating(self, table: Table) -> list[str]:
        """What SQLite is told to create a table and its indexes."""
        assert table._key is not None, "a table has a key"
        name = digest(f"create {table._key}")
        line = None if self.wanted is not None else self._lines.get(name)
        texts = compiled.creating(table) if line is None else json.loads(line)[1]
        if self.wanted is not None:
            self.wanted[name] = [texts]
        return [str(text) for text in texts]

    def forget(self) -> None:
        """Begin again with nothing in memory."""
        self._found = {}

    def _new(self, key: str, statement: Node, one: Mapping[str, Any]) -> Plan:
        name = digest(key)
        line = None if self.wanted is not None else self._lines.get(name)
        if line is not None:
            text, sources, fields, readings = json.loads(line)[1:]
            read = [(place, READINGS[kind]) for place, kind in readings]
            made = Plan(text, [tuple(each) for each in sources], None if fields is None else tuple(fields), read)
        else:
            made, told = compiled.general_plan(statement, one)
            if told is None:
                return made
            if self.wanted is not None:
                self.wanted[name] = told
        if len(self._found) >= MOST:
            self._found = {}
        self._found[key] = made
        return made

    @functools.cached_property
    def _lines(self) -> dict[str, str]:
        """The lines of the file by the digest that each begins with; one that is used is parsed."""
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        return {line[2 : 2 + 2 * DIGEST_BYTES]: line for line in lines}


@functools.cache
def plans() -> Plans:
    """The plans of this process."""
    return Plans(FILE)


def digest(key: str) -> str:
    """The name of a key in the file."""
    return hashlib.blake2b(key.encode(), digest_size=DIGEST_BYTES).hexdigest()


def _key(statement: Node, one: Mapping[str, Any]) -> str:
    """The key of a statement with what the names of the values that come with it add."""
    key = statement._key
    assert key is not None, "who has no key has no plan"
    if not one:
        return key
    if key.startswith(_WRITING):
        return f"{key}|{','.join(one)}"
    if "expanding" in key:
        empty = [name for name in _EXPANDING.findall(key) if not one[name]]
        return f"{key}|{','.join(empty)}" if empty else key
    return key
