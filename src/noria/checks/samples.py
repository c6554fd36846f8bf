"""The rows that show why a rule failed: their numbers, and the values that tell.

Read again from the file, and only when a rule said no: the pass over good data pays nothing for them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from noria.checks.facts import Finding, Sample
from noria.checks.scanning.scan import BATCH_ROWS
from noria.checks.scanning.source import Part
from noria.checks.scanning.tally import shown
from noria.core.lazy import lazy

pq = lazy("pyarrow.parquet")

__all__ = ["SAMPLES", "with_samples"]

SAMPLES = 5
_COLUMNS_MAX = 8
_TEXT_MAX = 80


def with_samples(
    findings: Sequence[Finding], looked: Mapping[int, Sequence[str]], part: Part, key: str
) -> list[Finding]:
    """The findings about a file, those that name rows with the values of the first of them.

    Reads only the columns that are asked for, in batches, up to the last row that is shown; nothing
    if every rule passed.

    Args:
        looked: by place in `findings`, the columns that the rule looks at.
        key: the column that names a row, or "".
    """
    wanted = {
        place: finding.rows[:SAMPLES] for place, finding in enumerate(findings) if not finding.passed and finding.rows
    }
    if not wanted:
        return list(findings)
    columns = {place: _shown(looked.get(place, ()), findings[place].column, key) for place in wanted}
    values = _read(part, sorted({row for rows in wanted.values() for row in rows}), columns.values())
    found = list(findings)
    for place, rows in wanted.items():
        names = [name for name in columns[place] if name in values]
        samples = tuple(Sample(row=row, values={name: values[name][row] for name in names}) for row in rows)
        found[place] = dataclasses.replace(found[place], samples=samples)
    return found


def _shown(columns: Sequence[str], accused: str, key: str) -> list[str]:
    """The key first, then the accused column; of a rule about very many columns no others."""
    first = [accused] if accused in columns else []
    others = [] if first and len(columns) > _COLUMNS_MAX else columns
    return list(dict.fromkeys([*([key] if key else []), *first, *others]))[:_COLUMNS_MAX]


def _read(part: Part, rows: list[int], columns: Any) -> dict[str, dict[int, str]]:
    """By column and row number the values as text."""
    wanted = {name for names in columns for name in names}
    with pq.ParquetFile(part.path, pre_buffer=False) as file:
        there = [name for name in file.schema_arrow.names if name in wanted]
        found: dict[str, dict[int, str]] = {name: {} for name in there}
        first = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=there) if there else ():
            mine = [row for row in rows if first <= row < first + batch.num_rows]
            for name in there:
                taken = batch.column(name)
                for row in mine:
                    found[name][row] = _text(taken[row - first].as_py())
            first += batch.num_rows
            if first > rows[-1]:
                break
    return found


def _text(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"
