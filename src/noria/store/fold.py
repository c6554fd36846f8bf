"""Reading a snapshot, and folding facts into records: all that a projection may do.

The writer appends and folds; a replay only folds. Both hand the same object to projections, so
there is one way from a fact to its records.

What is written waits in memory, and goes to the database together with more of its kind: a statement costs
several times what a row of it does. It goes there before anything is read, so nobody inside sees a
difference, and before the transaction ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from noria.core.fact import Stored
from noria.store.slices import Slices
from noria.store.sql.expressions import postgresql_insert, sqlite_insert
from noria.store.sql.words import Connection, Row, Select, Table, bindparam, delete, update

__all__ = ["Fold", "Reader", "Statements"]

ROWS = 200
"""Rows that wait at most."""
Statements = dict[tuple[str, ...], Any]
"""Built statements by shape: building one costs more than running it."""
Values = Mapping[str, Any] | None
"""What a query that was built once is asked with: building one costs more than running it."""


class Reader:
    """Queries of one snapshot; inside a transaction also of what it has written."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, query: Select[Any], values: Values = None) -> list[Row[Any]]:
        """Every row of the query; `values` are those of its `bindparam`s, by name."""
        return list(self._connection.execute(query, values))

    def first(self, query: Select[Any], values: Values = None) -> Row[Any] | None:
        """The first row of the query, or None."""
        return self._connection.execute(query, values).first()

    def scalar(self, query: Select[Any], values: Values = None) -> Any:
        """The first column of the first row, or None."""
        return self._connection.execute(query, values).scalar()


class Fold(Reader):
    """Lets the projections of a fact's kind change the records; nothing else may."""

    def __init__(self, connection: Connection, slices: Slices, statements: Statements) -> None:
        super().__init__(connection)
        self._slices = slices
        self._statements = statements
        self._is_projecting = False
        self._waiting: dict[str, tuple[Any, list[Mapping[str, Any]]]] = {}
        self._waits = 0

    def rows(self, query: Select[Any], values: Values = None) -> list[Row[Any]]:
        """See Reader."""
        self.flush()
        return super().rows(query, values)

    def first(self, query: Select[Any], values: Values = None) -> Row[Any] | None:
        """See Reader."""
        self.flush()
        return super().first(query, values)

    def scalar(self, query: Select[Any], values: Values = None) -> Any:
        """See Reader."""
        self.flush()
        return super().scalar(query, values)

    def flush(self) -> None:
        """Write what waits; to be called by whoever has folded, before it commits."""
        waiting, self._waiting, self._waits = self._waiting, {}, 0
        for statement, rows in waiting.values():
            self._connection.execute(statement, rows)

    def fold(self, stored: Stored[Any]) -> None:
        """Run the projections of a fact's kind, in the order of the slices."""
        self._is_projecting = True
        try:
            for projection in self._slices.projections.get(stored.fact.kind, ()):
                projection(self, stored)
        finally:
            self._is_projecting = False

    def upsert(self, table: Table, **values: Any) -> None:
        """Write a record row: inserted, or the row with the same primary key updated in the given columns."""
        self._run(table, ("upsert", table.name, *values), lambda: self._upsert(table, tuple(values)), values)

    def update(self, table: Table, where: Mapping[str, Any], **values: Any) -> None:
        """Change the record rows whose columns equal `where`; none is no error."""
        shape = ("update", table.name, *where, "set", *values)
        parameters = {**{f"w_{k}": v for k, v in where.items()}, **{f"v_{k}": v for k, v in values.items()}}
        self._run(table, shape, lambda: _update(table, tuple(where), tuple(values)), parameters)

    def delete(self, table: Table, **keys: Any) -> None:
        """Take away the record rows whose columns equal the keys; none is no error."""
        assert keys, "a delete names its rows"
        parameters = {f"w_{k}": v for k, v in keys.items()}
        self._run(table, ("delete", table.name, *keys), lambda: _delete(table, tuple(keys)), parameters)

    def _run(
        self, table: Table, shape: tuple[str, ...], build: Callable[[], Any], parameters: Mapping[str, Any]
    ) -> None:
        assert self._is_projecting, f"only a projection may write the record table {table.name}"
        statement = self._statements.get(shape)
        if statement is None:
            statement = self._statements[shape] = build()
        self._write(table, statement, parameters)

    def _write(self, table: Table, statement: Any, *rows: Mapping[str, Any]) -> None:
        """Let rows of a statement wait. Those of one table are written in the order in which they came."""
        found = self._waiting.get(table.name)
        if found is None or found[0] is not statement:
            if found is not None:
                self.flush()
            self._waiting[table.name] = found = (statement, [])
        found[1].extend(rows)
        self._waits += len(rows)
        if self._waits > ROWS:
            self.flush()

    def _upsert(self, table: Table, columns: tuple[str, ...]) -> Any:
        insert = sqlite_insert if self._connection.dialect.name == "sqlite" else postgresql_insert
        keys = [column.name for column in table.primary_key.columns]
        missing = [name for name in keys if name not in columns]
        assert not missing, f"an upsert of {table.name} needs its key {missing}"
        statement = insert(table).values({name: bindparam(name, type_=table.c[name].type) for name in columns})
        changed = {name: statement.excluded[name] for name in columns if name not in keys}
        if not changed:
            return statement.on_conflict_do_nothing(index_elements=keys)
        return statement.on_conflict_do_update(index_elements=keys, set_=changed)


def _update(table: Table, where: tuple[str, ...], columns: tuple[str, ...]) -> Any:
    values = {name: bindparam(f"v_{name}", type_=table.c[name].type) for name in columns}
    return update(table).where(*_equal(table, where)).values(values)


def _delete(table: Table, keys: tuple[str, ...]) -> Any:
    return delete(table).where(*_equal(table, keys))


def _equal(table: Table, names: tuple[str, ...]) -> list[Any]:
    return [table.c[name] == bindparam(f"w_{name}", type_=table.c[name].type) for name in names]
