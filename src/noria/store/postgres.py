"""Connections to PostgreSQL, by SQLAlchemy, and what its errors mean. Importing this imports SQLAlchemy."""

from __future__ import annotations

import importlib.util

import sqlalchemy
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, TimeoutError

from noria.core.errors import ConfigError, Corrupt, NoriaError, StoreFull, StoreUnavailable
from noria.store.sql.rows import parsed

__all__ = ["ERRORS", "engine_of", "shown", "translated"]

ERRORS = (DBAPIError, TimeoutError)
"""What a connection raises."""
_HINTS = {
    "password authentication failed": "is the password of store.database, or NORIA_DATABASE, right?",
    "no password supplied": "store.database, or NORIA_DATABASE, gives no password",
    "pg_hba.conf": "the server lets this user not in from here: its pg_hba.conf says who may",
    "invalid port": "is the port of store.database, or NORIA_DATABASE, right?",
    "could not translate host name": "is the host of store.database, or NORIA_DATABASE, right?",
    "failed to resolve host": "is the host of store.database, or NORIA_DATABASE, right?",
    "does not exist": "createdb makes a database, createuser a role",
    "permission denied": "the role needs the right to it: GRANT",
}
_FULL = frozenset({"53100"})
_CORRUPT = frozenset({"XX001", "XX002", "22021"})
_UNAVAILABLE = (
    "OperationalError",
    "InterfaceError",
    "ReadOnlySqlTransaction",
    "AdminShutdown",
    "InsufficientPrivilege",
)


def engine_of(url: str, wait_s: float, *, kept: int, overflow: int) -> Engine:
    """The engine of a database.

    Args:
        wait_s: how long a statement waits for a lock.
        kept, overflow: so many connections stay open, and so many more may be in use.
    Raises: ConfigError where the driver is not installed.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigError("PostgreSQL needs psycopg, which is not here", hint="pip install 'noria[postgres]'")
    return sqlalchemy.create_engine(
        url,
        pool_size=kept,
        max_overflow=overflow,
        pool_pre_ping=True,
        json_deserializer=parsed,
        connect_args={"connect_timeout": 10, "options": f"-c lock_timeout={int(wait_s * 1000)}"},
    )


def shown(url: str) -> str:
    """The URL of a database without its password."""
    return sqlalchemy.make_url(url).render_as_string(hide_password=True)


def translated(raised: BaseException, where: str) -> NoriaError | None:
    """What an error means; None if it is not of the database's state."""
    if isinstance(raised, TimeoutError):
        return StoreUnavailable("every connection to the database is in use", where=where)
    error = raised.orig if isinstance(raised, DBAPIError) else raised
    state = getattr(error, "sqlstate", None)
    if state in _CORRUPT:
        return Corrupt(f"the database is damaged: {_first_line(error)}", where=where, hint="restore a backup")
    if state in _FULL:
        return StoreFull(f"the database has no space left: {_first_line(error)}", where=where)
    if error is not None and (type(error).__name__ in _UNAVAILABLE or _is_operational(error)):
        hint = _hint_for(str(error))
        return StoreUnavailable(f"the database cannot be used: {_first_line(error)}", where=where, hint=hint)
    return None


def _hint_for(text: str) -> str:
    """What mends a database that refuses. A failed connection has no code, so PostgreSQL's and the client's words."""
    for words, hint in _HINTS.items():
        if words in text:
            return hint
    return "is it running? try again"


def _is_operational(error: BaseException) -> bool:
    return any(cls.__name__ in ("OperationalError", "InterfaceError") for cls in type(error).__mro__)


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().partition("\n")[0]
