"""One value of a ledger changed by hand, column by column: what the audit does not notice."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from noria.bootstrap import open_workspace
from noria.core.errors import Corrupt, Tampered
from noria.governance.audit import verify
from noria.store import tables
from noria.store.replay import difference

QUIET = ("alembic_version",)
"""Read at every opening, and refused there."""
SURVIVED = "records"
"""The setting whose change makes the next opening fold the records anew, which harms nobody."""


def unnoticed(root: Path, folder: Path) -> list[str]:
    """The columns of which a changed value is named by nobody. The project itself is left alone."""
    copy = folder / "damaged"
    shutil.copytree(root, copy)
    file = copy / ".noria" / "ledger.db"
    sound = folder / "sound.db"
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(sound)) as target:
        for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            source.execute(f"DROP TRIGGER {name}")
        source.commit()
        source.backup(target)
    columns = _columns(sound)
    own = {(table, column) for table, column in columns if table in tables.LEDGER.tables}
    found = [f"{table}.{column}" for table, column in sorted(own) if not _is_named(copy, sound, table, column)]
    return found + _unfolded(copy, sound, [each for each in columns if each not in own and each[0] not in QUIET])


def _columns(file: Path) -> list[tuple[str, str]]:
    """(table, column) of every table that has rows."""
    with closing(sqlite3.connect(file)) as connection, connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        full = [name for name in names if connection.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()]
        return [(name, row[1]) for name in full for row in connection.execute(f'PRAGMA table_info("{name}")')]


def _is_named(root: Path, sound: Path, table: str, column: str) -> bool:
    """Does the audit say no, once a value of the ledger's or the queue's own tables is another?"""
    _damage(root, sound, [(table, column)])
    try:
        ws = open_workspace(root)
    except Tampered:
        return True
    try:
        return not verify(ws).ok
    except (Tampered, Corrupt):
        return True
    finally:
        ws.ledger.database.close()


def _unfolded(root: Path, sound: Path, columns: list[tuple[str, str]]) -> list[str]:
    """Of record tables one column of each is changed at a time: every table must then be named."""
    by_table: dict[str, list[str]] = {}
    for table, column in columns:
        by_table.setdefault(table, []).append(column)
    found = []
    for number in range(max(map(len, by_table.values()))):
        chosen = [(table, names[number]) for table, names in by_table.items() if number < len(names)]
        _damage(root, sound, chosen)
        ws = open_workspace(root)
        named = {table for table, _ in difference(ws.ledger, limit=1_000_000)}
        ws.ledger.database.close()
        found += [f"{table}.{column}" for table, column in chosen if table not in named]
    return found


def _damage(root: Path, sound: Path, columns: list[tuple[str, str]]) -> None:
    """Put the sound database back, and change one value of each of the columns."""
    file = root / ".noria" / "ledger.db"
    for rest in file.parent.glob("ledger.db-*"):
        rest.unlink()
    shutil.copyfile(sound, file)
    with closing(sqlite3.connect(file)) as connection, connection:
        for table, column in columns:
            which = f"WHERE name != '{SURVIVED}'" if table == "setting" else ""
            query = f'SELECT rowid, "{column}" FROM "{table}" {which} ORDER BY random() LIMIT 1'
            place, value = connection.execute(query).fetchone()
            kind = next(row[2] for row in connection.execute(f'PRAGMA table_info("{table}")') if row[1] == column)
            changed = _other(value, str(kind))
            connection.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (changed, place))


def _other(value: Any, kind: str) -> Any:
    if kind == "BOOLEAN":
        return 2
    match value:
        case None:
            return "x" if kind in ("TEXT", "JSON") else 1
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:]
        case str():
            return value[:-1] + "~"
        case _:
            return value + 1_000_003
