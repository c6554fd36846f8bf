"""Columns of a table, as a model or a check sees them: name, type, unit, nullability.

A type is one of a small closed set, wide enough for what the stores keep without loss and
small enough for the Open Inference Protocol to name. Nothing here reads data.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from noria.core.frozen import frozen

__all__ = ["TYPES", "Column", "ColumnType", "Signature"]

ColumnType = Literal["bool", "int64", "float64", "text", "category", "timestamp", "date", "decimal", "bytes"]
TYPES: tuple[ColumnType, ...] = (
    "bool",
    "int64",
    "float64",
    "text",
    "category",
    "timestamp",
    "date",
    "decimal",
    "bytes",
)


@frozen
class Column:
    """One column: its name, type, whether null may appear, unit and, for categories, the levels."""

    name: str
    type: ColumnType
    nullable: bool = False
    unit: str = ""
    levels: tuple[str, ...] = ()

    def with_levels(self, levels: tuple[str, ...]) -> Column:
        """The same column with these category levels."""
        return replace(self, levels=levels)


@frozen
class Signature:
    """What a model takes and gives: input columns in order, output columns in order."""

    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]

    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs, in the model's order."""
        return tuple(column.name for column in self.inputs)
