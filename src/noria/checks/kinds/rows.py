"""Rules that look across the columns of a row."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from noria.checks.scanning.arrays import Mask, mask
from noria.checks.scanning.expression import BROKEN, HOLDS
from noria.checks.scanning.tally import CannotEvaluate, Rows
from noria.checks.suites.rules import Rule
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["are_different", "condition"]


def condition(rule: Rule, rows: Rows) -> bool | Mask:
    """`row`: an SQL condition holds. A row for which it is null breaks it too, unless the rule allows nulls."""
    said = rows.said[rule.condition]
    broken: Mask = said == BROKEN if rule.allow_nulls else said != HOLDS
    return broken


def are_different(rule: Rule, rows: Rows) -> bool | Mask:
    """`unique_within_row`: no two of the columns hold the same value; nulls are not compared."""
    broken = np.zeros(rows.count, bool)
    for one, other in itertools.combinations(rule.columns, 2):
        try:
            same: pa.Array[Any] = pc.equal(_plain(rows, one), _plain(rows, other))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise CannotEvaluate(f"{one!r} and {other!r} cannot be compared") from error
        broken |= mask(same)
    return broken


def _plain(rows: Rows, name: str) -> pa.Array[Any]:
    chunk = rows[name]
    return chunk.texts if chunk.family == "text" else chunk.array
