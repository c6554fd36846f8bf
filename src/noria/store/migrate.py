"""Migrations of the ledger's tables by Alembic, in the caller's own transaction.

There is no alembic.ini and no env.py: the caller holds the one writer, so a migration either
happened with its version row or did not happen. Record tables are not migrated; they are replayed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noria.core.lazy import lazy
from noria.store.engines import of_sqlalchemy
from noria.store.failpoint import failpoint
from noria.store.sql.words import Connection
from noria.store.sqlitefile import keep_before

__all__ = ["upgrade"]

alembic_config = lazy("alembic.config")
alembic_environment = lazy("alembic.runtime.environment")
alembic_script = lazy("alembic.script")


def upgrade(connection: Connection, location: Path, target: str) -> None:
    """Run every migration between the database's revision and `target`. Commits nothing.

    A SQLite file is copied beside itself first; on PostgreSQL that is for whoever keeps the server.
    """
    config = alembic_config.Config()
    config.set_main_option("script_location", str(location))
    script = alembic_script.ScriptDirectory.from_config(config)

    def steps(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs(target, revision)

    failpoint("migration.started")
    with (
        of_sqlalchemy(connection) as lent,
        alembic_environment.EnvironmentContext(config, script, fn=steps) as environment,
    ):
        environment.configure(connection=lent, transactional_ddl=True)
        _keep(environment.get_bind(), target)
        environment.run_migrations()
    failpoint("migration.done")


def _keep(connection: Any, target: str) -> None:
    """What is committed, as another connection sees it: this one's transaction has changed nothing yet."""
    if connection.dialect.name == "sqlite":
        file = connection.exec_driver_sql("PRAGMA database_list").fetchone()[2]
        if file:
            keep_before(Path(file), target)
            failpoint("migration.kept")
