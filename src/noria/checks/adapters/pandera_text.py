"""A suite as a Python file with a Pandera schema, for those who want to check where Noria is not.

The file validates everything, always: its `check` collects a lazy frame, turns validation on, asks
for schema and data, and for every failure instead of the first. Rules that need more than one file
(units against the last version, growth, other data sets) are listed as comments, not dropped.
"""

from __future__ import annotations

from collections.abc import Iterator

from noria.checks.rulecheck import short_forms
from noria.checks.suites.rules import ColumnRules, Rule, Suite
from noria.checks.wholes import keys_of

__all__ = ["text_of"]

_HEAD = '''"""Checks of {dataset} as a Pandera schema, from {suite} (noria checks export pandera {dataset})."""

import pandas as pd
import pandera.pandas as pa
from pandera.config import ValidationDepth, config_context


def _is(family):
    """A check of a column's type by family, since a number may be stored in many ways."""
    kinds = {{
        "number": lambda s: pd.api.types.is_numeric_dtype(s) and not pd.api.types.is_bool_dtype(s),
        "text": lambda s: s.map(lambda v: isinstance(v, str) or v is None or v != v).all(),
        "bool": lambda s: s.dropna().map(lambda v: isinstance(v, bool) or str(v) in ("True", "False")).all(),
        "time": lambda s: pd.api.types.is_datetime64_any_dtype(s) or s.dropna().map(lambda v: hasattr(v, "year")).all(),
        "other": lambda s: True,
    }}
    return pa.Check(lambda s: bool(kinds[family](s)), name=f"type: {{family}}", ignore_na=False)


def _asked(name, holds, **options):
    """A check that fails where there is no value that it could be asked of; without this word one passes there."""
    return pa.Check(lambda s: holds(s) if len(s) else False, name=name, **options)


def _share(name, holds, share, is_empty_good=True, **options):
    """A check that so many of the values may break."""
    return pa.Check(lambda s: float((~holds(s)).mean()) <= share if len(s) else is_empty_good, name=name, **options)


def _unique(name, share=0.0, is_empty_good=False, **options):
    """A check that no value is there twice; rows without one are not asked."""
    return _share(name, lambda s: ~s.duplicated(keep=False), share, is_empty_good, **options)


def _unique_rows(name, columns, share=0.0, is_empty_good=False, **options):
    """The same for several columns; rows that have none of them are not asked."""
    def is_held(frame):
        empty = frame[columns].isna().all(axis=1)
        if empty.all():
            return is_empty_good
        return float((frame.duplicated(columns, keep=False) & ~empty).mean()) <= share
    return pa.Check(is_held, name=name, **options)


def _values(**options):
    """A check that a column has values: its rules could be asked of none, and no rule allows nulls."""
    return pa.Check(lambda s: bool(s.notna().any()), name="no values", ignore_na=False, **options)


'''
_TAIL = '''

def check(frame):
    """Validate a frame completely; a lazy one is collected first. Raises pandera.errors.SchemaErrors."""
    frame = frame.collect() if hasattr(frame, "collect") else frame
    frame = frame.to_pandas() if hasattr(frame, "to_pandas") else frame
    with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
        return schema.validate(frame, lazy=True)
'''


def text_of(suite: Suite, name: str) -> tuple[str, list[str]]:
    """The Python text of a suite's schema, and the rules that it does not hold.

    Args:
        name: the suite's file, for the heading.
    """
    left: list[str] = []
    rules: dict[str, list[str]] = {}
    nullable: dict[str, bool] = {}
    for column, found in suite.columns.items():
        nullable[column] = found.nulls != 0.0
        rules[column] = [*_of_column(column, found, left)]
        for short in short_forms(column, found):
            rules[column] += _of_rule(short, left)
    for rule in suite.rules:
        if rule.column and rule.rule != "unique":
            rules.setdefault(rule.column, [])
            if rule.rule == "not_null" and not rule.share and not rule.where and rule.severity == "error":
                nullable[rule.column] = False
            else:
                rules[rule.column] += _of_rule(rule, left)
        elif rule.rule != "unique":
            left.append(rule.called)
    left += [f"rows: {row.name}" for row in suite.rows]
    left += _of_table(suite)
    together = []
    for key in keys_of(suite):
        warn = ", raise_warning=True" if key.severity == "warn" else ""
        told = f"{key.share!r}, {key.allow_empty}{warn})"
        if len(key.columns) == 1:
            rules.setdefault(key.columns[0], []).append(f"_unique({key.rule!r}, {told}")
        else:
            together.append(f"_unique_rows({key.rule!r}, {list(key.columns)!r}, {told}")
    if suite.table.key:
        nullable[suite.table.key] = False
    lines = [_HEAD.format(dataset=suite.dataset, suite=name), "schema = pa.DataFrameSchema(\n    {\n"]
    for column, checks in rules.items():
        lines.append(f"        {column!r}: pa.Column(\n            checks=[\n")
        lines += [f"                {each},\n" for each in checks]
        lines.append(f"            ],\n            nullable={nullable.get(column, True)},\n        ),\n")
    lines.append("    },\n    checks=[\n        pa.Check(lambda frame: len(frame) > 0, name='rows'),\n")
    lines += [f"        {each},\n" for each in together]
    lines.append(f"    ],\n    strict={suite.table.closed},\n")
    lines.append(f"    name={suite.dataset!r},\n)\n")
    if left:
        lines.append("# Not held by this schema:\n" + "".join(f"#   {each}\n" for each in left))
    return "".join(lines) + _TAIL, left


def _of_table(suite: Suite) -> list[str]:
    """What a suite says of a version as a whole, against others and against the clock: no schema can."""
    table = suite.table
    told = {
        "keep": table.keep > 0,
        "min_rows": table.min_rows > 1,
        "max_rows": table.max_rows is not None,
        "grow": table.grow is not None,
        "time": table.time,
        "fresh": table.fresh,
        "ahead": table.ahead,
        "closed": table.closed,
    }
    left = [f"table: {word}" for word, is_there in told.items() if is_there]
    return left + (["leakage"] if suite.leakage is not None else []) + (["pandera"] if suite.pandera else [])


def _of_column(column: str, rules: ColumnRules, left: list[str]) -> Iterator[str]:
    warn = ", raise_warning=True" if rules.severity == "warn" else ""
    told = (rules.min, rules.max, rules.floor, rules.step, rules.shift)
    is_said = bool(rules.type or rules.unit or rules.unique or rules.levels or rules.usual)
    is_told = is_said or short_forms(column, rules) or any(each is not None for each in told)
    if rules.nulls is None and is_told:
        yield f"_values({warn.removeprefix(', ')})"
    if rules.type:
        yield f"_is({rules.type!r})"
    if rules.nulls:
        yield f"_share('nulls', lambda s: s.notna(), {rules.nulls!r}, ignore_na=False{warn})"
    if rules.min is not None:
        yield f"pa.Check.ge({rules.min!r}{warn})"
    if rules.max is not None:
        yield f"pa.Check.le({rules.max!r}{warn})"
    if rules.levels:
        levels = list(rules.levels)
        yield f"_share('levels', lambda s: s.isin({levels!r}), {rules.new_levels or 0.0!r}{warn})"
    if rules.step is not None:
        step, offset = rules.step, rules.offset
        yield (
            f"_share('resolution', lambda s: (((s - {offset!r}) / {step!r}) - ((s - {offset!r}) / {step!r}).round())"
            f".abs() < 0.004, 0.01{warn})"
        )
    unsaid = {
        "floor": rules.floor is not None,
        "unit": rules.unit,
        "nulls_when": rules.when,
        "null_run": rules.null_run is not None,
        "usual": rules.usual,
        "shift": rules.shift is not None,
    }
    left += [f"{column}: {word}" for word, is_there in unsaid.items() if is_there]


def _of_rule(rule: Rule, left: list[str]) -> list[str]:
    """A rule on one column as a check, or nothing and a word in `left`."""
    holds = {
        "not_null": "s.notna()",
        "in": f"s.isin({_values(rule)})",
        "not_in": f"~s.isin({_values(rule)})",
        "pattern": f"s.astype(str).str.contains({rule.pattern or (rule.patterns or ('',))[0]!r}, regex=True)",
        "not_pattern": f"~s.astype(str).str.contains({rule.pattern or (rule.patterns or ('',))[0]!r}, regex=True)",
        "length": _ends("s.str.len()", rule),
        "range": _ends("s", rule),
    }.get(rule.rule)
    warn = ", raise_warning=True" if rule.severity == "warn" else ""
    name = rule.called
    is_asked = not rule.allow_empty and rule.rule != "not_null"
    check, called = (f"_asked({name!r}, ", warn) if is_asked else ("pa.Check(", f", name={name!r}{warn}")
    if rule.rule == "order" and not rule.share:
        what = "decreasing" if rule.order == "decreasing" else "increasing"
        unique = " and s.is_unique" if rule.strict else ""
        return [f"{check}lambda s: bool(s.dropna().is_monotonic_{what}{unique}){called})"]
    if holds is None or rule.where or len(rule.patterns) > 1 or rule.rule == "references":
        left.append(f"{rule.column}: {name}")
        return []
    ignore = ", ignore_na=False" if rule.rule == "not_null" else ""
    if rule.share:
        return [f"_share({name!r}, lambda s: {holds}, {rule.share!r}, {not is_asked}{ignore}{warn})"]
    return [f"{check}lambda s: {holds}{ignore}{called})"]


def _values(rule: Rule) -> str:
    return repr(list(rule.values))


def _ends(value: str, rule: Rule) -> str:
    parts = []
    if rule.min is not None:
        parts.append(f"({value} {'>' if rule.strict_min else '>='} {rule.min!r})")
    if rule.max is not None:
        parts.append(f"({value} {'<' if rule.strict_max else '<='} {rule.max!r})")
    return " & ".join(parts) or "s.notna()"
