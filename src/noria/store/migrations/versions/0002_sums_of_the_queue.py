"""Rows of the queue carry a sum of themselves: the tables are made anew with what is in them."""

import json
import zlib
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Columns = tuple[tuple[str, type[sa.types.TypeEngine[Any]]], ...]

TEXT, NUMBER = sa.Text, sa.BigInteger
JOB: Columns = (
    ("id", TEXT),
    ("kind", TEXT),
    ("key", TEXT),
    ("payload", TEXT),
    ("state", TEXT),
    ("owner", TEXT),
    ("attempt", sa.Integer),
    ("due_us", NUMBER),
    ("lease_until_us", NUMBER),
    ("result", TEXT),
    ("error", TEXT),
)
LEASE: Columns = (("name", TEXT), ("owner", TEXT), ("until_us", NUMBER), ("data", TEXT))


def upgrade() -> None:
    """Take the rows out, make the tables with the new column, and put the rows back with their sums."""
    _made_anew("job", JOB, sa.UniqueConstraint("key", name="job_key"))
    op.create_index("job_state", "job", ["state", "kind", "due_us"])
    _made_anew("lease", LEASE)


def _made_anew(name: str, columns: Columns, *constraints: sa.UniqueConstraint) -> None:
    names = [column for column, _ in columns]
    rows = op.get_bind().execute(sa.text(f"SELECT {', '.join(names)} FROM {name}")).all()
    op.drop_table(name)
    made = [sa.Column(column, kind, primary_key=column == names[0], nullable=False) for column, kind in columns]
    table = op.create_table(name, *made, sa.Column("sum", NUMBER, nullable=False), *constraints)
    with_sums = [{**row._mapping, "sum": zlib.crc32(json.dumps(list(row)).encode())} for row in rows]
    if with_sums:
        op.bulk_insert(table, with_sums)
