"""Records are a fold of the facts: drop them and fold again, or compare the two.

`rebuild` is a maintenance command (about 1 000 to 2 500 facts a second); it also runs when a new
version of Noria folds facts in another way. `difference` folds into a database of its own, in
memory, and so finds a record that was changed by hand without touching anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from noria.core.errors import Tampered
from noria.core.fact import Stored
from noria.store import tables
from noria.store.engines import create_table, drop_table, has_table, in_memory
from noria.store.failpoint import failpoint
from noria.store.fold import Fold, Statements
from noria.store.ledger import Ledger
from noria.store.log import get_setting, set_setting
from noria.store.rows import stored_of
from noria.store.sealed import drop_altered
from noria.store.slices import Slices
from noria.store.sql.words import JSON, Boolean, Column, Connection, Integer, Table, Text, cast, select

__all__ = ["difference", "rebuild", "refold"]

BATCH = 2000


def rebuild(ledger: Ledger) -> int:
    """Drop every record table and fold all facts again, in one transaction; gives the number of facts.

    Rows of the queue that are not what was written are taken away: the loop finds its work from the facts.
    """
    with ledger.database.write() as connection:
        drop_altered(ledger.database, connection)
        return refold(connection, ledger.slices, ledger.statements)


def refold(connection: Connection, slices: Slices, statements: Statements) -> int:
    """What `rebuild` does, inside the caller's transaction. Record tables of other versions go too."""
    for name in {*_known_tables(connection), *(table.name for table in slices.tables)}:
        if has_table(connection, name):
            drop_table(connection, name)
    set_setting(connection, "tables", _note_of(slices))
    for table in slices.tables:
        create_table(connection, table)
    failpoint("records.cleared")
    fold = Fold(connection, slices, statements)
    count = 0
    for stored in _facts(connection, slices):
        fold.fold(stored)
        count += 1
    fold.flush()
    failpoint("records.folded")
    return count


def difference(ledger: Ledger, *, limit: int = 100) -> list[tuple[str, str]]:
    """Rows where the records are not the fold of the facts: (table, what differs), at most `limit`.

    A row is shown as `- row` when it is stored and should not be, `+ row` when it is missing.
    """
    found: list[tuple[str, str]] = []
    with ledger.database.read() as live, in_memory() as scratch:
        for table in ledger.slices.tables:
            create_table(scratch, table)
        fold = Fold(scratch, ledger.slices, Statements())
        for stored in _facts(live, ledger.slices):
            fold.fold(stored)
        fold.flush()
        if get_setting(live, "tables") != _note_of(ledger.slices):
            found.append(("setting", "- the row 'tables' is not the list of the record tables"))
        for table in ledger.slices.tables:
            is_rows, ought_rows = _rows(live, table), _rows(scratch, table)
            found.extend((table.name, f"- {row}") for row in sorted(is_rows - ought_rows))
            found.extend((table.name, f"+ {row}") for row in sorted(ought_rows - is_rows))
            if len(found) >= limit:
                break
    return found[:limit]


def _facts(connection: Connection, slices: Slices) -> Iterator[Stored[Any]]:
    after = 0
    while True:
        query = select(tables.fact.c.seq, tables.fact.c.body).where(tables.fact.c.seq > after)
        rows = connection.execute(query.order_by(tables.fact.c.seq).limit(BATCH)).all()
        for seq, body in rows:
            yield stored_of(slices, seq, body)
        if len(rows) < BATCH:
            return
        after = rows[-1][0]


def _rows(connection: Connection, table: Table) -> set[str]:
    """Every row as text that is the same in both databases; JSON that was damaged stands as the text it is.

    A truth value stands as its number, since SQLite keeps a 2 as well, which would be read as true.
    """
    as_text = [_plain(column) for column in table.columns]
    names = [column.name for column in table.columns if _is_json(column)]
    found = set()
    for row in connection.execute(select(*as_text)).mappings():
        values = dict(row)
        for name in names:
            values[name] = _value(values[name])
        found.add(json.dumps(values, sort_keys=True, default=str))
    return found


def _plain(column: Column[Any]) -> Any:
    if _is_json(column):
        return cast(column, Text).label(column.name)
    return cast(column, Integer).label(column.name) if isinstance(column.type, Boolean) else column


def _is_json(column: Column[Any]) -> bool:
    return isinstance(column.type, JSON)


def _value(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _note_of(slices: Slices) -> str:
    """What the setting `tables` says after a fold by these slices."""
    return json.dumps([table.name for table in slices.tables])


def _known_tables(connection: Connection) -> list[str]:
    """The record tables that the last fold made. Raises: Tampered if the note of them was altered."""
    note = get_setting(connection, "tables") or "[]"
    try:
        found = json.loads(note)
    except ValueError:
        found = None
    is_list = isinstance(found, list) and all(isinstance(name, str) for name in found)
    if not is_list or set(found) & set(tables.LEDGER.tables):
        raise Tampered(
            f"the row 'tables' of the table setting was altered: {note[:60]!r} is no list of tables",
            hint="restore the ledger from a backup",
        )
    return [str(name) for name in found]
