"""LIKE that minds the case in every database, for SQLAlchemy. Importing this imports SQLAlchemy."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["CaseLike"]


class CaseLike(FunctionElement[bool]):
    """`column LIKE pattern`; `glob` is the same pattern in the words of SQLite's GLOB, since its LIKE minds no case."""

    inherit_cache = True
    name = "case_like"

    def __init__(self, column: Any, pattern: Any, glob: Any) -> None:
        super().__init__(column, pattern, glob)


@compiles(CaseLike)
def _as_like(element: Any, compiler: Any, **named: Any) -> str:
    column, pattern, _ = list(element.clauses)
    return f"{compiler.process(column, **named)} LIKE {compiler.process(pattern, **named)} ESCAPE ''"


@compiles(CaseLike, "sqlite")
def _as_glob(element: Any, compiler: Any, **named: Any) -> str:
    column, _, pattern = list(element.clauses)
    return f"{compiler.process(column, **named)} GLOB {compiler.process(pattern, **named)}"
