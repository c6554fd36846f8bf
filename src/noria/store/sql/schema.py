"""Tables and columns that are known without SQLAlchemy; each begins expressions (expressions.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Literal

from noria.store.sql.expressions import Node, delete, insert, update
from noria.store.sql.types import Type

__all__ = ["Column", "Columns", "Index", "MetaData", "Table", "UniqueConstraint"]


class Column(Node):
    """A column. It belongs to one table, and has no key before that."""

    __slots__ = ("autoincrement", "index", "name", "nullable", "primary_key", "table", "type")

    def __init__(
        self,
        name: str,
        type_: Type | type[Type],
        *,
        primary_key: bool = False,
        nullable: bool | None = None,
        autoincrement: Literal["auto"] | bool = "auto",
        index: bool = False,
    ) -> None:
        super().__init__("column", None, None, {}, None, ())
        self.name = name
        self.type = type_() if isinstance(type_, type) else type_
        self.primary_key = primary_key
        self.nullable = not primary_key if nullable is None else nullable
        self.autoincrement: Literal["auto"] | bool = autoincrement
        self.index = index
        self.table: Table | None = None

    def said(self) -> str:
        """All that a database is told of it, as a text."""
        return f"{self.name} {self.type.type_key} {self.primary_key} {self.nullable} {self.autoincrement} {self.index}"


class Columns:
    """The columns of a table, in order: as attributes, by name, and one after another."""

    __slots__ = ("_by_name",)

    def __init__(self, columns: list[Column]) -> None:
        self._by_name = {column.name: column for column in columns}

    def __getattr__(self, name: str) -> Column:
        if name[0] == "_":  # while it is unpickled or copied nothing is there
            raise AttributeError(name)
        try:
            return self._by_name[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, place: str | int) -> Column:
        return self._by_name[place] if isinstance(place, str) else [*self._by_name.values()][place]

    def __iter__(self) -> Iterator[Column]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def keys(self) -> list[str]:
        """The names of the columns."""
        return list(self._by_name)


class Index:
    """An index over columns of a table, by their names."""

    __slots__ = ("columns", "name")
    is_unique = False

    def __init__(self, name: str, *columns: str) -> None:
        self.name = name
        self.columns = columns

    def said(self) -> str:
        """All that a database is told of it, as a text."""
        return f"{type(self).__name__} {self.name} {self.columns}"


class UniqueConstraint(Index):
    """Columns of a table whose values together stand there once."""

    __slots__ = ()
    is_unique = True

    def __init__(self, *columns: str, name: str) -> None:
        super().__init__(name, *columns)


class _Key:
    """The primary key: its columns."""

    __slots__ = ("columns",)

    def __init__(self, columns: Columns) -> None:
        self.columns = columns


class MetaData:
    """Tables that belong together, by name."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}

    @property
    def sorted_tables(self) -> list[Table]:
        """The tables by name."""
        return [self.tables[name] for name in sorted(self.tables)]

    def remove(self, table: Table) -> None:
        """Forget a table; one that is not there is forgotten already."""
        self.tables.pop(table.name, None)


class Table(Node):
    """A table. Its key holds a digest of all that is declared of it, so a plan never meets another table."""

    __slots__ = ("c", "columns", "metadata", "name", "others", "primary_key")

    def __init__(self, name: str, metadata: MetaData, *parts: Column | Index) -> None:
        columns = [part for part in parts if isinstance(part, Column)]
        self.others = [part for part in parts if isinstance(part, Index)]
        said = "\n".join([name, *(column.said() for column in columns), *(other.said() for other in self.others)])
        digest = hashlib.blake2b(said.encode(), digest_size=8).hexdigest()
        super().__init__("table", None, None, {}, f"{name}#{digest}", ())
        for column in columns:
            assert column.table is None, f"the column {column.name} belongs to a table already"
            column.table = self
            column._key = f"{self._key}.{column.name}"
        assert name not in metadata.tables, f"there is a table {name} already"
        metadata.tables[name] = self
        self.name = name
        self.metadata = metadata
        self.c = self.columns = Columns(columns)
        self.primary_key = _Key(Columns([column for column in columns if column.primary_key]))

    def insert(self) -> Any:
        """A statement that inserts rows."""
        return insert(self)

    def update(self) -> Any:
        """A statement that changes rows."""
        return update(self)

    def delete(self) -> Any:
        """A statement that takes rows away."""
        return delete(self)
