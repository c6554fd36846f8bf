"""What a suite says: rules for a table, for each column and for rows, and the file that holds them.

`checks/NAME.toml` is written by `infer` and then belongs to the project: people edit it, Git keeps
it, an unknown key is an error that names the nearest one with its line. Every number in it can be
read and judged: the highest share of nulls, the resolution, the levels, what was typical.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from noria.core.frozen import frozen

__all__ = [
    "FAMILIES",
    "KINDS",
    "SEVERITIES",
    "ColumnRules",
    "Kind",
    "Leakage",
    "RowRule",
    "Rule",
    "Suite",
    "TableRules",
    "When",
    "count",
    "is_empty",
]

SEVERITIES = ("error", "warn")
FAMILIES = ("number", "text", "bool", "time", "other")
_WHEN = re.compile(r"(?P<column>.+?) (?P<sign>>=|<=|present|in)(?: (?P<rest>.+))?")
Value = str | float | bool


@frozen(kw_only=True)
class TableRules:
    """`[table]`: rules about all rows of a version.

    `key` must be there and be unique; `time` must be there; `min_rows` and `max_rows` are of the
    version, `keep` the share of the last accepted version's rows that must remain, `grow` how many
    times as many there may be; `fresh` is how old the newest time may be ("" or "24h"), under a wall
    clock; `ahead` is how far in the future it may be then ("" for a day); `closed` says that a column without
    rules is a fault.
    """

    key: str = ""
    time: str = ""
    min_rows: int = 1
    max_rows: int | None = None
    keep: float = 0.5
    grow: float | None = None
    fresh: str = ""
    ahead: str = ""
    closed: bool = False
    severity: str = "error"


@frozen
class When:
    """A condition on another column: `wind_speed >= 8.1`, `dewp present`, or `carrier in ["AA", "UA"]`."""

    column: str
    sign: str
    bound: float = 0.0
    levels: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.sign == "present":
            return f"{self.column} present"
        rest = json.dumps(list(self.levels), ensure_ascii=False) if self.sign == "in" else f"{self.bound:g}"
        return f"{self.column} {self.sign} {rest}"

    @staticmethod
    def read(text: str) -> When:
        """The condition that a text says. Raises: ValueError."""
        found = _WHEN.fullmatch(text)
        if not found or (found["rest"] is None) != (found["sign"] == "present"):
            raise ValueError(f"{text!r} is not a condition such as 'wind_speed >= 8' or 'dewp present'")
        if found["sign"] == "in":
            return When(found["column"], "in", levels=tuple(str(level) for level in json.loads(found["rest"])))
        bound = float(found["rest"]) if found["rest"] else 0.0
        if not math.isfinite(bound):
            raise ValueError(f"{text!r} compares with {bound}, which no row can be held against")
        return When(found["column"], found["sign"], bound)


@frozen(kw_only=True)
class ColumnRules:
    """`[columns.NAME]`: rules about one column of every file. A rule that is not given is not checked.

    type: number, text, bool, time or other; a column that is missing fails.
    nulls: the highest share of rows without a value.
    when, nulls_when: the highest share without a value among the rows where `when` holds.
    null_run, null_run_when: the most rows of a file in a row that may have no value; of those alone
    where the condition holds.
    usual, usual_shares, clump: values that come back all the time, the share of rows of each in the
    reference (of those that are not zero, where typical_nonzero is given) and how many rows share one
    cause; that such values are gone must not be chance.
    min, max: hard bounds. floor: a value below it is a warning; most of a file's values below it, a fault.
    step, offset: values are offset + whole * step (the resolution).
    typical, typical_nonzero, seen: quantiles (5, 25, 50, 75, 95 %), those of the non-zero values,
    and the range of the reference; with `unit`, a file fails that lies three spreads from both the
    reference and the last accepted file, or that lies further than `drift` spreads from them and
    that undoing a known conversion brings home.
    levels, new_levels: known texts, and the highest share of rows with another one.
    allowed, forbidden: the only values that may be there, and those that may not.
    pattern: a regular expression (RE2) that is found in every text; ^ and $ tie it to the ends.
    length: the least and greatest number of characters. earliest, latest: bounds of a time column.
    order: "increasing" or "decreasing" from row to row. unique: no value twice in a version.
    references: "customers.id": every value is in that column of the newest version there.
    shift: how far the distribution may be from the reference's, from 0 to 1 (of numbers the
    Kolmogorov-Smirnov distance, of texts the total variation), beyond what chance gives.
    """

    type: str = ""
    nulls: float | None = None
    when: str = ""
    nulls_when: float | None = None
    null_run: int | None = None
    null_run_when: str = ""
    min: float | None = None
    max: float | None = None
    floor: float | None = None
    step: float | None = None
    offset: float = 0.0
    unit: bool = False
    drift: float = 0.5
    typical: tuple[float, ...] = ()
    typical_nonzero: tuple[float, ...] = ()
    seen: tuple[float, ...] = ()
    usual: tuple[float, ...] = ()
    usual_shares: tuple[float, ...] = ()
    clump: float = 1.0
    levels: tuple[str, ...] = ()
    new_levels: float | None = None
    allowed: tuple[Value, ...] = ()
    forbidden: tuple[Value, ...] = ()
    pattern: str = ""
    length: tuple[int, ...] = ()
    earliest: str = ""
    latest: str = ""
    order: str = ""
    unique: bool = False
    references: str = ""
    shift: float | None = None
    severity: str = "error"


@frozen(kw_only=True)
class RowRule:
    """`[[rows]]`: an SQL condition that rows must meet; `share` of them may break it.

    A row for which the condition is null was not shown to meet it, and breaks it, unless `allow_nulls`.
    """

    name: str
    where: str
    share: float = 0.0
    allow_nulls: bool = False
    severity: str = "error"


@frozen(kw_only=True)
class Rule:
    """`[[rules]]`: one rule of a kind, with a tolerance and a condition of its own.

    rule: the kind, one of `KINDS` or of the plug-ins of the seam `check`. name: how findings call it.
    share: of the rows that the rule is about, so many may break it. where: only the rows for which
    this SQL condition holds. allow_empty: pass where there is nothing that the rule could be asked of
    (no row for which `where` holds, no value); without it such a rule fails, as one that cannot be
    evaluated. allow_nulls: a `row` condition that is null does not break the rule. source: where an
    imported rule came from. The others are the kind's own.
    """

    rule: str
    name: str = ""
    column: str = ""
    columns: tuple[str, ...] = ()
    share: float = 0.0
    severity: str = "error"
    where: str = ""
    allow_empty: bool = False
    allow_nulls: bool = False
    condition: str = ""
    min: float | str | None = None
    max: float | str | None = None
    strict_min: bool = False
    strict_max: bool = False
    values: tuple[Value, ...] = ()
    pattern: str = ""
    patterns: tuple[str, ...] = ()
    match: str = ""
    format: str = ""
    types: tuple[str, ...] = ()
    order: str = ""
    strict: bool = False
    statistic: str = ""
    at: float | None = None
    dataset: str = ""
    source: str = ""

    @property
    def called(self) -> str:
        """The name in findings."""
        return self.name or self.rule


@frozen
class Kind:
    """What a kind of rule needs and may have, beside rule, name, severity and source."""

    needs: tuple[str, ...]
    may: tuple[str, ...] = ()
    is_per_row: bool = True

    def fields(self) -> tuple[str, ...]:
        """Every key that a rule of this kind may have."""
        shared = ("rule", "name", "severity", "source")
        return (*shared, *self.needs, *self.may, *(("share", "where", "allow_empty") if self.is_per_row else ()))


_BOUNDS = ("min", "max", "strict_min", "strict_max")
KINDS: Mapping[str, Kind] = {
    "not_null": Kind(("column",)),
    "null": Kind(("column",)),
    "range": Kind(("column",), _BOUNDS),
    "length": Kind(("column",), _BOUNDS),
    "in": Kind(("column", "values")),
    "not_in": Kind(("column", "values")),
    "pattern": Kind(("column",), ("pattern", "patterns", "match")),
    "not_pattern": Kind(("column",), ("pattern", "patterns")),
    "format": Kind(("column", "format")),
    "json": Kind(("column",)),
    "references": Kind(("column", "dataset")),
    "row": Kind(("condition",), ("allow_nulls",)),
    "unique_within_row": Kind(("columns",)),
    "unique": Kind((), ("column", "columns", "share", "allow_empty"), is_per_row=False),
    "order": Kind(("column",), ("order", "strict", "share", "allow_empty"), is_per_row=False),
    "type": Kind(("column", "types"), is_per_row=False),
    "statistic": Kind(("column", "statistic"), (*_BOUNDS, "at", "match"), is_per_row=False),
    "distinct": Kind(("column", "values"), ("match", "allow_empty"), is_per_row=False),
    "columns": Kind((), ("columns", "match", "min", "max"), is_per_row=False),
    "rows": Kind((), ("min", "max", "dataset"), is_per_row=False),
}


@frozen(kw_only=True)
class Leakage:
    """`[leakage]`: what a training set may not know of its holdout.

    holdout: the other data set ("churn_holdout" or "churn_holdout@3"). duplicates: the highest share
    of its rows that are here too, compared on every column both have but those in `ignore`; with
    `key`, rows with the same key count. time: every time here is before every time there. copies: no
    column tells the label by itself: a number correlates less than this, a text or code does not
    map one to one.
    """

    holdout: str = ""
    duplicates: float = 0.0
    key: str = ""
    time: str = ""
    label: str = ""
    copies: float = 0.999
    ignore: tuple[str, ...] = ()
    severity: str = "error"


@frozen(kw_only=True)
class Suite:
    """All rules for one data set, and the version that they were inferred from.

    `pandera` names a Pandera schema (`module:Schema`) that every new file must pass too.
    """

    dataset: str
    reference: str = ""
    pandera: str = ""
    table: TableRules = TableRules()
    columns: Mapping[str, ColumnRules] = field(default_factory=dict)
    rows: tuple[RowRule, ...] = ()
    rules: tuple[Rule, ...] = ()
    leakage: Leakage | None = None


def is_empty(suite: Suite) -> bool:
    """Whether nothing would be checked but that there are rows."""
    has_columns = any(rules != ColumnRules(severity=rules.severity) for rules in suite.columns.values())
    has_table = suite.table != TableRules(severity=suite.table.severity)
    return not (has_columns or has_table or suite.rows or suite.rules or suite.leakage or suite.pandera)


def count(suite: Suite, *, is_wall: bool = False) -> int:
    """How many rules a suite holds; under a wall clock one more where there are times: none may be ahead of it."""
    per_column = sum(_count_column(rules) for rules in suite.columns.values())
    table = suite.table
    per_table = 1 + sum((bool(table.key), bool(table.time), is_wall and bool(table.time)))
    per_table += sum((bool(table.fresh), table.closed))
    leakage = 0 if suite.leakage is None else 1 + bool(suite.leakage.time) + bool(suite.leakage.label)
    return per_column + per_table + len(suite.rows) + len(suite.rules) + leakage + bool(suite.pandera)


def _count_column(rules: ColumnRules) -> int:
    told: tuple[Any, ...] = (
        rules.type,
        rules.nulls is not None,
        rules.when,
        rules.null_run is not None,
        rules.usual,
        rules.min is not None or rules.max is not None or rules.unit,
        rules.floor is not None,
        rules.step is not None,
        rules.unit,
        rules.levels,
        rules.allowed,
        rules.forbidden,
        rules.pattern,
        rules.length,
        rules.earliest or rules.latest,
        rules.order,
        rules.unique,
        rules.references,
        rules.shift is not None,
    )
    return sum(map(bool, told))
