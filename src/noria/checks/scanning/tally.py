"""What rules look at, and how they count: a batch of rows, the rows that broke a rule, the way to watch a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from noria.checks.facts import Finding
from noria.checks.findings import failed
from noria.checks.scanning import arrays
from noria.checks.scanning.arrays import Mask
from noria.checks.scanning.chunk import Chunk
from noria.checks.scanning.expression import Expression
from noria.checks.scanning.summary import TableProfile
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Places = NDArray[np.int64]
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
    Places = Any

__all__ = ["EXAMPLES", "ROWS", "CannotEvaluate", "Rows", "Tally", "Watcher", "shown", "whole"]

ROWS = 10
EXAMPLES = 5
_LOOKED_AT = 50


class CannotEvaluate(ValueError):
    """A rule that cannot be evaluated on this data; it fails, and the text says why."""


class Rows:
    """One batch: its columns as chunks, the number of its first row in the file, and what conditions say."""

    __slots__ = ("_chunks", "batch", "count", "first", "said")

    def __init__(self, batch: pa.RecordBatch | pa.Table, first: int) -> None:
        self.batch = batch
        self.first = first
        self.count: int = batch.num_rows
        self.said: Mapping[str, Any] = {}
        self._chunks: dict[str, Chunk] = {}

    def __getitem__(self, name: str) -> Chunk:
        found = self._chunks.get(name)
        if found is None:
            found = self._chunks[name] = Chunk(self.batch.column(name))
        return found

    def __contains__(self, name: str) -> bool:
        return name in self.batch.schema.names

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """The rows as a table."""
        wanted = self.batch.schema.names if columns is None else columns
        made: Any = {name: self.batch.column(name) for name in wanted}
        return pa.table(made)


def shown(value: Any) -> str:
    """A value as people read it; a text of nothing but blanks in quotes, so that it can be seen."""
    if value is None:
        return "null"
    text = str(value)
    return text if text.strip() else f'"{text}"'


def whole(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Batches as one table with the types of the file, whatever the pass read them as."""
    if not tables:
        return pa.table({field.name: pa.nulls(0, field.type) for field in schema})
    together = pa.concat_tables(tables).unify_dictionaries().select(schema.names)
    return together.cast(schema)


class Tally:
    """Counts rows that break a rule; keeps the first ten, examples, and on request every one."""

    __slots__ = ("_examples", "count", "every", "is_keeping", "rows")

    def __init__(self, *, is_keeping: bool = False) -> None:
        self.count = 0
        self.rows: list[int] = []
        self.every: list[Places] = []
        self.is_keeping = is_keeping
        self._examples: list[Any] = []

    @property
    def is_full(self) -> bool:
        """Whether more rows would change nothing but the count."""
        return len(self.rows) >= _LOOKED_AT and not self.is_keeping

    def add(self, broken: Mask, rows: Rows, column: str = "") -> None:
        """Take in the broken rows of a batch; examples are the values of `column`."""
        places = np.flatnonzero(broken)
        if not len(places):
            return
        self.count += len(places)
        if self.is_keeping:
            self.every.append(places + rows.first)
        room = _LOOKED_AT - len(self.rows)
        if room > 0:
            shown = places[:room]
            self.rows += [int(place) + rows.first for place in shown]
            if column and column in rows:
                self._examples += rows[column].array.take(arrays.whole(shown)).to_pylist()

    def places(self) -> Places:
        """Every broken row, ascending; only with `is_keeping`."""
        return np.concatenate(self.every) if self.every else np.zeros(0, np.int64)

    def finding(
        self, rule: str, column: str, severity: str, message: str, *, total: int, file: str, count: int | None = None
    ) -> Finding:
        """The finding of a rule that failed."""
        texts = dict.fromkeys(map(shown, self._examples))
        return failed(
            rule,
            column,
            message,
            count=self.count if count is None else count,
            total=total,
            severity=severity,
            file=file,
            rows=self.rows[:ROWS],
            examples=list(texts)[:EXAMPLES],
        )


class Watcher(Protocol):
    """Looks at every batch of a file once, in order, and says at the end what it found.

    `columns` are those that it looks at; `expressions` the conditions whose answers it needs in
    `Rows.said`. `tallies` are the rows that broke an error rule, once `findings` was asked.
    """

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it looks at."""

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The conditions whose answers it needs."""

    def look(self, rows: Rows) -> None:
        """Look at the next batch."""

    def findings(self, profile: TableProfile, faults: Mapping[str, str]) -> list[Finding]:
        """What was found; `faults` are the conditions that could not be evaluated, and why."""

    def broken(self) -> list[Places]:
        """The rows that broke a rule which failed, for the quarantine."""
