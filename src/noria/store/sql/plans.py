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
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy
from noria.store.sql.expressions import Node
from noria.store.sql.plan import READINGS, Plan
from noria.store.sql.schema import Table

if TYPE_CHECKING:
    from noria.store.sql import compiled
else:
    compiled = lazy("noria.store.sql.compiled")

__all__ = ["DIGEST_BYTES", "FILE", "Plans", "digest", "plans"]

FILE = Path(__file__).with_name("plans.jsonl")
MOST = 5_000
"""So many plans are kept in memory; what makes statements of ever new shape begins again."""
DIGEST_BYTES = 12
_WRITING = ("insert(", "update(", "delete(", "sqlite_insert(")
_EXPANDING = re.compile(r"bindparam\('(\w+)',expanding=,True\)")


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
