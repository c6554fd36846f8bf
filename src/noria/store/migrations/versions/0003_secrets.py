"""Secrets that Noria signs with have a table of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table, empty: what was there before knew no such secrets."""
    op.create_table(
        "secret",
        sa.Column("name", sa.Text, primary_key=True, nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
    )
