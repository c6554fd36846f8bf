"""The words of SQLAlchemy Core that Noria uses: for type checkers its own, at run time ones that record.

So statements are checked as SQLAlchemy's are, and saying one imports nothing of it (`expressions.py`, ADR 0022).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import (
        JSON,
        BigInteger,
        Boolean,
        Column,
        Float,
        Index,
        Integer,
        LargeBinary,
        MetaData,
        Row,
        Select,
        SmallInteger,
        String,
        Table,
        Text,
        UniqueConstraint,
        and_,
        bindparam,
        case,
        cast,
        delete,
        func,
        insert,
        literal,
        or_,
        select,
        text,
        update,
    )
    from sqlalchemy.engine import Connection
else:
    from noria.store.sql.connection import Connection
    from noria.store.sql.expressions import (
        Select,
        and_,
        bindparam,
        case,
        cast,
        delete,
        func,
        insert,
        literal,
        or_,
        select,
        text,
        update,
    )
    from noria.store.sql.rows import Row
    from noria.store.sql.schema import Column, Index, MetaData, Table, UniqueConstraint
    from noria.store.sql.types import (
        JSON,
        BigInteger,
        Boolean,
        Float,
        Integer,
        LargeBinary,
        SmallInteger,
        String,
        Text,
    )

__all__ = [
    "JSON",
    "BigInteger",
    "Boolean",
    "Column",
    "Connection",
    "Float",
    "Index",
    "Integer",
    "LargeBinary",
    "MetaData",
    "Row",
    "Select",
    "SmallInteger",
    "String",
    "Table",
    "Text",
    "UniqueConstraint",
    "and_",
    "bindparam",
    "case",
    "cast",
    "delete",
    "func",
    "insert",
    "literal",
    "or_",
    "select",
    "text",
    "update",
]
