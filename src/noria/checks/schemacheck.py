"""A Pandera schema as one of a suite's checks (`pandera = "module:Schema"`): it stops what a rule stops."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.checks.adapters import panderas
from noria.checks.facts import Finding
from noria.checks.scanning.expression import Expression
from noria.checks.scanning.summary import TableProfile
from noria.checks.scanning.tally import Places, Rows, whole
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")

__all__ = ["SchemaCheck"]


class SchemaCheck:
    """Gathers the rows of a file and asks the schema once, at the end: all of them, completely."""

    def __init__(self, schema: Any, names: pa.Schema) -> None:
        self.schema = schema
        self.names = list(names.names)
        self.types = names.remove_metadata()
        self.tables: list[pa.Table] = []

    @staticmethod
    def load(root: Path, place: str) -> Any:
        """The schema that a suite names. Raises: NotFound; UsageError; ProjectError."""
        return panderas.load_schema(root, place)

    @property
    def columns(self) -> frozenset[str]:
        """All of them: a schema may be strict."""
        return frozenset(self.names)

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """None."""
        return ()

    def look(self, rows: Rows) -> None:
        """Keep the rows."""
        self.tables.append(rows.table())

    def findings(self, profile: TableProfile, faults: Mapping[str, str]) -> list[Finding]:
        """What the schema says."""
        rows = whole(self.tables, self.types)
        self.tables = []
        return panderas.validate(self.schema, rows, file=profile.file)

    def broken(self) -> list[Places]:
        """None: a schema names failures, not every row."""
        return []
