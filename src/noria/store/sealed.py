"""Rows of the queue that are no longer what was written: found by a checksum, named, and taken away.

The queue is not covered by the signed log: it says what is going on, and changes in place. Its rows
therefore carry a sum of themselves, written with every change and compared at every read, so that a
flipped byte is named instead of work lost, done twice or waited for without end.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.errors import Corrupt
from noria.store import tables
from noria.store.database import Database
from noria.store.sql.words import Connection, Row, Table, delete, insert, select

__all__ = ["altered_rows", "checked", "drop_altered", "sealed"]

QUEUE = (tables.job, tables.lease)


def sealed(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """All values of a row of the queue, with the sum of them. Every column but `sum` must be there."""
    return {**values, "sum": _sum(table, values)}


def checked(table: Table, row: Row[Any]) -> Row[Any]:
    """The row, if it is what was written. Raises: Corrupt, naming it."""
    if not _is_whole(table, row):
        raise Corrupt(
            f"a row of the table {table.name} is not what was written: {_key(table, row)}",
            hint="stop what runs in this project, then: noria admin rebuild   (takes it away; the loop finds its work)",
        )
    return row


def altered_rows(database: Database) -> list[tuple[str, str]]:
    """(table, row) of the rows of the queue that are not what was written."""
    with database.read() as connection, database.lenient(connection):
        return [
            (table.name, str(tuple(row)))
            for table in QUEUE
            for row in _rows(connection, table)
            if not _is_whole(table, row)
        ]


def drop_altered(database: Database, connection: Connection) -> None:
    """Take the rows away that are not what was written, in the caller's transaction.

    The others are written again: a damaged key cannot always be asked for.
    """
    with database.lenient(connection):
        for table in QUEUE:
            rows = _rows(connection, table)
            whole = [dict(row._mapping) for row in rows if _is_whole(table, row)]
            if len(whole) < len(rows):
                connection.execute(delete(table))
                if whole:
                    connection.execute(insert(table), whole)


def _rows(connection: Connection, table: Table) -> Sequence[Row[Any]]:
    return connection.execute(select(table).order_by(*table.primary_key.columns)).all()


def _key(table: Table, row: Row[Any]) -> str:
    return repr(row._mapping[table.primary_key.columns[0].name])[:80]


def _is_whole(table: Table, row: Row[Any]) -> bool:
    return bool(row._mapping["sum"] == _sum(table, dict(row._mapping)))


def _sum(table: Table, values: Mapping[str, Any]) -> int:
    """CRC-32 of the row's values, which finds every change of up to 32 bits in a row (Koopman 2002).

    What is not of its column's type, as only damage leaves it, has a sum that no written row has.
    """
    given = [values[column.name] for column in table.columns if column.name != "sum"]
    if not all(isinstance(value, str | int) for value in given):
        return -1
    return zlib.crc32(json.dumps(given).encode())
