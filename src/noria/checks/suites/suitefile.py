"""Reading and writing `checks/NAME.toml`. Nothing in it is ignored: a typo names the nearest key and its line."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from noria import plugins
from noria.checks.scanning import expression
from noria.checks.suites import patterns
from noria.checks.suites.places import line_of, places
from noria.checks.suites.rules import (
    FAMILIES,
    KINDS,
    SEVERITIES,
    ColumnRules,
    Leakage,
    RowRule,
    Rule,
    Suite,
    TableRules,
    When,
)
from noria.core.clock import duration, instant
from noria.core.errors import ConfigError

__all__ = ["load", "parse", "read_text", "text_of", "toml"]

T = TypeVar("T")
_ORDERS = ("increasing", "decreasing")
_COUNTED = {"length": "characters", "rows": "rows", "columns": "columns"}
STATISTICS = (
    "mean",
    "median",
    "quantile",
    "stdev",
    "sum",
    "min",
    "max",
    "distinct",
    "distinct share",
    "filled share",
)


class _Reader:
    """One file being read: knows its name and its lines."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._text = text

    def wrong(self, message: str, *path: str | int, hint: str = "") -> ConfigError:
        """The error, with the line of the key."""
        line = line_of(places(self._text), path) if self._text else 0  # slow, and only errors ask
        return ConfigError(message, where=f"{self.name}, line {line}" if line else self.name, hint=hint)

    def unknown(self, key: str, known: tuple[str, ...], place: str, *path: str | int) -> ConfigError:
        """The error of a key that is not known."""
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(sorted(known))}"
        return self.wrong(f"{place} has no key {key!r}", *path, key, hint=hint)


def load(path: Path) -> Suite:
    """The suite of a file. Raises: ConfigError naming the key that is wrong, and its line."""
    return read_text(_text(path), str(path))


def read_text(text: str, name: str) -> Suite:
    """The suite of a file's text. Raises: ConfigError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the checks are not valid TOML: {error}", where=name) from error
    return parse(document, name, text)


def parse(document: Mapping[str, Any], where: str, text: str = "") -> Suite:
    """The suite that a parsed file describes; with its text, errors name lines. Raises: ConfigError."""
    reader = _Reader(where, text)
    known = tuple(item.name for item in dataclasses.fields(Suite))
    for key in document:
        if key not in known:
            raise reader.unknown(key, known, "the file")
    if not isinstance(document.get("dataset"), str):
        raise reader.wrong('the checks need dataset = "…"')
    columns, rows, rules = document.get("columns", {}), document.get("rows", []), document.get("rules", [])
    if not isinstance(columns, Mapping) or not isinstance(rows, list) or not isinstance(rules, list):
        raise reader.wrong("[columns.NAME] are tables, [[rows]] and [[rules]] are lists of tables")
    leakage = document.get("leakage")
    suite = Suite(
        dataset=document["dataset"],
        reference=_value(str, document.get("reference", ""), reader, "the file", "reference"),
        pandera=_value(str, document.get("pandera", ""), reader, "the file", "pandera"),
        table=_struct(TableRules, document.get("table", {}), reader, "table"),
        columns={name: _struct(ColumnRules, item, reader, "columns", name) for name, item in columns.items()},
        rows=tuple(_struct(RowRule, item, reader, "rows", index) for index, item in enumerate(rows)),
        rules=tuple(_struct(Rule, item, reader, "rules", index) for index, item in enumerate(rules)),
        leakage=None if leakage is None else _struct(Leakage, leakage, reader, "leakage"),
    )
    _sensible(suite, document, reader)
    return suite


def text_of(suite: Suite, comment: str) -> str:
    """The file of a suite; `parse` gives the same suite back."""
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += [f"dataset = {toml(suite.dataset)}", f"reference = {toml(suite.reference)}"]
    lines += [f"pandera = {toml(suite.pandera)}"] if suite.pandera else []
    lines += ["", "[table]"]
    lines += fields(suite.table)
    if suite.leakage is not None:
        lines += ["", "[leakage]", *fields(suite.leakage)]
    for name, rules in suite.columns.items():
        lines += ["", f"[columns.{bare(name)}]", *fields(rules)]
    for row in suite.rows:
        lines += ["", "[[rows]]", *fields(row)]
    for rule in suite.rules:
        lines += ["", "[[rules]]", *fields(rule)]
    return "\n".join(lines) + "\n"


def fields(value: Any) -> list[str]:
    """One line for each field that is not at its default."""
    lines = []
    for item in dataclasses.fields(value):
        found = getattr(value, item.name)
        if found is None or found == item.default:
            continue
        lines.append(f"{item.name} = {toml(found)}")
    return lines


def toml(value: Any) -> str:
    """A plain value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return repr(value)


def bare(name: str) -> str:
    """A key as TOML writes it."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml(name)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the checks are not UTF-8 text: {error}", where=str(path)) from error


def _sensible(suite: Suite, document: Mapping[str, Any], reader: _Reader) -> None:
    _severity(suite.table.severity, reader, "table")
    _sensible_table(suite.table, reader)
    for key in ("fresh", "ahead"):
        text = getattr(suite.table, key)
        if text:
            _times(lambda text=text: duration(text), reader, "table", key)
    for name, rules in suite.columns.items():
        _sensible_column(rules, reader, name)
    for index, row in enumerate(suite.rows):
        _severity(row.severity, reader, "rows", index)
        _share(row.share, reader, "rows", index, "share")
    for index, rule in enumerate(suite.rules):
        _sensible_rule(rule, document["rules"][index], reader, index)
    if suite.leakage is not None:
        _severity(suite.leakage.severity, reader, "leakage")
        _share(suite.leakage.duplicates, reader, "leakage", "duplicates")
        _share(suite.leakage.copies, reader, "leakage", "copies")
        if not suite.leakage.holdout and not suite.leakage.label:
            raise reader.wrong("[leakage] needs holdout, label or both", "leakage")
    texts = {row.where: ("rows", i, "where") for i, row in enumerate(suite.rows)}
    texts |= {rule.where: ("rules", i, "where") for i, rule in enumerate(suite.rules) if rule.where}
    texts |= {rule.condition: ("rules", i, "condition") for i, rule in enumerate(suite.rules) if rule.condition}
    for text, found in expression.read_all(list(texts)).items():
        if isinstance(found, expression.Unreadable):
            raise reader.wrong(f"{text!r} is not a condition on rows: {found}", *texts[text])


def _sensible_table(rules: TableRules, reader: _Reader) -> None:
    _share(rules.keep, reader, "table", "keep")
    for key in ("min_rows", "max_rows", "grow"):
        value = getattr(rules, key)
        if value is not None and value < 0:
            raise reader.wrong(f"table.{key} is below 0: {value!r}", "table", key)
    if rules.max_rows is not None and rules.max_rows < rules.min_rows:
        raise reader.wrong(f"table.max_rows is {rules.max_rows}, below min_rows", "table", "max_rows")


def _share(value: float, reader: _Reader, *path: str | int) -> None:
    if not 0 <= value <= 1:
        place = ".".join(str(part) for part in path if not isinstance(part, int))
        raise reader.wrong(f"{place} is a share from 0 to 1, not {value!r}", *path)


def _sensible_column(rules: ColumnRules, reader: _Reader, name: str) -> None:
    place = f"columns.{name}"

    def wrong(key: str, message: str, hint: str = "") -> ConfigError:
        return reader.wrong(f"{place}.{key} {message}", "columns", name, key, hint=hint)

    if rules.type and rules.type not in FAMILIES:
        raise wrong("type", f"is {rules.type!r}, not one of {', '.join(FAMILIES)}", _nearest(rules.type, FAMILIES))
    _severity(rules.severity, reader, "columns", name)
    for key in ("nulls", "nulls_when", "new_levels", "shift"):
        value = getattr(rules, key)
        if value is not None and not 0 <= value <= 1:
            raise wrong(key, f"is a share of rows from 0 to 1, not {value!r}")
    if rules.step is not None and rules.step <= 0:
        raise wrong("step", "must be above 0")
    if rules.drift < 0:
        raise wrong("drift", f"is a number of spreads, not {rules.drift!r}")
    if rules.min is not None and rules.max is not None and rules.min > rules.max:
        raise wrong("min", f"is {rules.min!r}, above max, which leaves no value")
    for key, size in (("typical", 5), ("typical_nonzero", 5), ("seen", 2), ("length", 2)):
        if len(getattr(rules, key)) not in (0, size):
            raise wrong(key, f"needs {size} numbers")
    if rules.length and not 0 <= rules.length[0] <= rules.length[1]:
        raise wrong("length", "is the least and greatest number of characters, from 0")
    if rules.unit and not (rules.typical and rules.seen):
        raise wrong("unit", "needs typical and seen", "infer the checks again")
    if rules.when:
        try:
            When.read(rules.when)
        except ValueError as error:
            raise wrong("when", f": {error}") from error
    if (rules.when and rules.nulls_when is None) or (rules.nulls_when is not None and not rules.when):
        raise wrong("when", "and nulls_when need each other")
    if rules.null_run is not None and rules.null_run < 1:
        raise wrong("null_run", "is a number of rows, at least 1")
    if rules.null_run_when:
        if rules.null_run is None:
            raise wrong("null_run_when", "needs null_run")
        try:
            When.read(rules.null_run_when)
        except ValueError as error:
            raise wrong("null_run_when", f": {error}") from error
    if len(rules.usual) != len(rules.usual_shares) or any(not 0 < share <= 1 for share in rules.usual_shares):
        raise wrong("usual", "needs usual_shares, a share of rows above 0 for each value")
    if rules.clump < 1:
        raise wrong("clump", "is a number of rows, at least 1")
    if rules.order and rules.order not in _ORDERS:
        raise wrong("order", f"is {rules.order!r}, not one of {', '.join(_ORDERS)}")
    if rules.references and "." not in rules.references:
        raise wrong("references", f'is {rules.references!r}, not "DATASET.COLUMN"')
    if rules.pattern:
        _pattern(rules.pattern, reader, "columns", name, "pattern")
    for key in ("earliest", "latest"):
        if getattr(rules, key):
            _times(lambda key=key: instant(getattr(rules, key)), reader, "columns", name, key)


def _sensible_rule(rule: Rule, given: Mapping[str, Any], reader: _Reader, index: int) -> None:
    at: tuple[str | int, ...] = ("rules", index)
    _severity(rule.severity, reader, *at)
    _share(rule.share, reader, *at, "share")
    if rule.rule not in KINDS:
        known = [*KINDS, *plugins.names("check")]
        if rule.rule not in known:
            raise reader.wrong(
                f"there is no rule {rule.rule!r}",
                *at,
                "rule",
                hint=_nearest(rule.rule, known) or f"one of: {', '.join(known)}",
            )
        return
    kind = KINDS[rule.rule]
    for key in given:
        if key not in kind.fields():
            raise reader.unknown(key, kind.fields(), f"the rule {rule.rule!r}", *at)
    missing = next((key for key in kind.needs if key not in given), None)
    if missing is not None:
        raise reader.wrong(f"the rule {rule.rule!r} needs {missing}", *at)
    _sensible_bounds(rule, reader, at)
    if rule.order and rule.order not in _ORDERS:
        raise reader.wrong(f"order is {rule.order!r}, not one of {', '.join(_ORDERS)}", *at, "order")
    if rule.statistic and rule.statistic not in STATISTICS:
        hint = _nearest(rule.statistic, STATISTICS)
        raise reader.wrong(
            f"statistic is {rule.statistic!r}, not one of {', '.join(STATISTICS)}", *at, "statistic", hint=hint
        )
    if "min" in kind.may and rule.min is None and rule.max is None and not rule.columns and not rule.dataset:
        raise reader.wrong(f"the rule {rule.rule!r} needs min, max or both", *at)
    if rule.rule in ("pattern", "not_pattern"):
        if not rule.pattern and not rule.patterns:
            raise reader.wrong(f"the rule {rule.rule!r} needs pattern or patterns", *at)
        for pattern in (rule.pattern, *rule.patterns):
            _pattern(pattern, reader, *at, "pattern" if rule.pattern else "patterns")
    if rule.rule == "unique" and not rule.column and not rule.columns:
        raise reader.wrong("the rule 'unique' needs column or columns", *at)
    if rule.rule == "references" and "." not in rule.dataset:
        raise reader.wrong(f'dataset is {rule.dataset!r}, not "DATASET.COLUMN"', *at, "dataset")


def _sensible_bounds(rule: Rule, reader: _Reader, at: tuple[str | int, ...]) -> None:
    if rule.at is not None and not 0 <= rule.at <= 1:
        raise reader.wrong(f"at is a quantile from 0 to 1, not {rule.at!r}", *at, "at")
    for key in ("min", "max"):
        bound = getattr(rule, key)
        if rule.rule in _COUNTED and isinstance(bound, float) and bound < 0:
            raise reader.wrong(f"{key} is a number of {_COUNTED[rule.rule]}, not {bound!r}", *at, key)
    low, high = rule.min, rule.max
    if (isinstance(low, str) and isinstance(high, str) and low > high) or (
        isinstance(low, float) and isinstance(high, float) and low > high
    ):
        raise reader.wrong(f"min is {low!r}, above max, which leaves no value", *at, "min")


def _pattern(text: str, reader: _Reader, *path: str | int) -> None:
    fault = patterns.fault(text)
    if fault:
        raise reader.wrong(f"{text!r} is not a pattern (RE2): {fault}", *path)


def _times(ask: Any, reader: _Reader, *path: str | int) -> None:
    try:
        ask()
    except ValueError as error:
        raise reader.wrong(str(error), *path) from error


def _severity(value: str, reader: _Reader, *path: str | int) -> None:
    if value not in SEVERITIES:
        place = ".".join(str(part) for part in path)
        raise reader.wrong(f'{place}.severity is {value!r}, not "error" or "warn"', *path, "severity")


def _nearest(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else ""


def _struct(kind: type[T], value: Any, reader: _Reader, *path: str | int) -> T:
    place = ".".join(str(part) for part in path if not isinstance(part, int))
    if not isinstance(value, Mapping):
        raise reader.wrong(f"{place} must be a table", *path)
    hints = typing.get_type_hints(kind)
    for key in value:
        if key not in hints:
            raise reader.unknown(key, tuple(hints), f"[{place}]", *path)
    missing = [
        item.name
        for item in dataclasses.fields(kind)  # type: ignore[arg-type]  # T is one of the dataclasses above
        if item.default is dataclasses.MISSING and item.name not in value
    ]
    if missing:
        raise reader.wrong(f"[{place}] needs {missing[0]}", *path)
    return kind(**{key: _value(hints[key], item, reader, place, *path, key) for key, item in value.items()})


def _value(expected: Any, value: Any, reader: _Reader, place: str, *path: str | int) -> Any:
    name = f"{place}.{path[-1]}"
    origin = typing.get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(expected) if option is not type(None)]
        fitting = [option for option in options if _fits(option, value)]
        if not fitting and len(options) > 1:
            raise reader.wrong(f"{name} must be a text or a number, not {value!r}", *path)
        return _value((fitting or options)[0], value, reader, place, *path)
    if origin is tuple:
        if not isinstance(value, list):
            raise reader.wrong(f"{name} must be a list", *path)
        return tuple(_value(typing.get_args(expected)[0], item, reader, place, *path) for item in value)
    if isinstance(value, float) and not math.isfinite(value):
        said = "nan, which nothing can be compared with" if math.isnan(value) else f"{value}, which bounds nothing"
        raise reader.wrong(f"{name} is {said}", *path)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not _fits(expected, value):
        word = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}[expected]
        raise reader.wrong(f"{name} must be {word}, not {value!r}", *path)
    return value


def _fits(expected: Any, value: Any) -> bool:
    if isinstance(value, bool) or expected is bool:
        return isinstance(value, bool) and expected is bool
    return isinstance(value, int | float) if expected is float else isinstance(value, expected)
