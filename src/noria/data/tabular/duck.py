"""DuckDB for questions over Parquet: bounded in memory, spilling to the project's own disk, without the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.errors import StoreFull, UsageError
from noria.core.lazy import lazy
from noria.data.tabular.tables import scratch
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import duckdb
else:
    duckdb = lazy("duckdb")

__all__ = ["connected", "name", "paths"]

MEMORY = "512MB"
THREADS = 2
AS_READ = "SET disabled_optimizers = 'statistics_propagation'"
"""What a Parquet file says of the values of a column leaves NaN out. DuckDB (1.x) would reckon with it: a column of 1.0
and NaN would count as one of 1.0 alone, and hashes of its rows as one hash."""


@contextmanager
def connected(ws: Workspace) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of its own; what does not fit into MEMORY goes to a folder that is gone afterwards."""
    with scratch(ws) as folder:
        settings: dict[str, Any] = {
            "memory_limit": MEMORY,
            "threads": THREADS,
            "temp_directory": str(folder),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        with duckdb.connect(config=settings) as connection:
            connection.execute("SET enable_progress_bar = false")
            connection.execute(AS_READ)
            try:
                yield connection
            except duckdb.OutOfMemoryException as error:
                raise StoreFull("the comparison needs more room than there is", hint="free some disk space") from error
            except (duckdb.NotImplementedException, duckdb.BinderException) as error:
                words = str(error).splitlines()[0][:160]
                raise UsageError(f"these columns cannot be compared: {words}", hint="describe a key") from error


def name(column: str) -> str:
    """A column's name as SQL writes it."""
    return '"' + column.replace('"', '""') + '"'


def paths(files: Sequence[Path]) -> str:
    """A list of files as SQL writes it."""
    return "[" + ", ".join("'" + str(path).replace("'", "''") + "'" for path in files) + "]"
