"""What a suite says: rules for a table and for each column, and the file that holds them.

`checks/NAME.toml` is written by `infer` and then belongs to the project: people edit it, Git keeps
it, an unknown key is an error that names the nearest one. Every number in it can be read and
judged: the highest share of nulls, the resolution, the levels, what was typical in the reference.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from noria.core.errors import ConfigError

__all__ = ["ColumnRules", "RowRule", "Suite", "TableRules", "When", "load", "parse", "text_of"]

T = TypeVar("T")
SEVERITIES = ("error", "warn")
FAMILIES = ("number", "text", "bool", "time", "other")
_WHEN = re.compile(r"(?P<column>.+?) (?P<sign>>=|<=|present|in)(?: (?P<rest>.+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRules:
    """`[table]`: rules about all rows of a version.

    `key` must be there and be unique; `time` must be there; `min_rows` is of the version, `keep` the
    share of the last accepted version's rows that must remain; `fresh` is how old the newest time
    may be ("" or "24h"), under a wall clock.
    """

    key: str = ""
    time: str = ""
    min_rows: int = 1
    keep: float = 0.5
    fresh: str = ""
    severity: str = "error"


@dataclass(frozen=True, slots=True)
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
        return When(found["column"], found["sign"], float(found["rest"]) if found["rest"] else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRules:
    """`[columns.NAME]`: rules about one column of every file. A rule that is not given is not checked.

    type: number, text, bool, time or other; a column that is missing fails.
    nulls: the highest share of rows without a value.
    when, nulls_when: the highest share without a value among the rows where `when` holds.
    min, max: hard bounds. step, offset: values are offset + whole * step (the resolution).
    typical, typical_nonzero, seen: quantiles (5, 25, 50, 75, 95 %), those of the non-zero values,
    and the range of the reference; with `unit`, a file fails that lies three spreads from both the
    reference and the last accepted file, or that lies further than `drift` spreads from them and
    that undoing a known conversion brings home.
    levels, new_levels: known texts, and the highest share of rows with another one.
    """

    type: str = ""
    nulls: float | None = None
    when: str = ""
    nulls_when: float | None = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    offset: float = 0.0
    unit: bool = False
    drift: float = 0.5
    typical: tuple[float, ...] = ()
    typical_nonzero: tuple[float, ...] = ()
    seen: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    new_levels: float | None = None
    unique: bool = False
    severity: str = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRule:
    """`[[rows]]`: an SQL condition that rows must meet; `share` of them may break it (null does not break it)."""

    name: str
    where: str
    share: float = 0.0
    severity: str = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """All rules for one data set, and the version that they were inferred from."""

    dataset: str
    reference: str = ""
    table: TableRules = TableRules()
    columns: Mapping[str, ColumnRules] = field(default_factory=dict)
    rows: tuple[RowRule, ...] = ()


def load(path: Path) -> Suite:
    """The suite of a file. Raises: ConfigError naming the key that is wrong."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the checks are not valid TOML: {error}", where=str(path)) from error
    return parse(document, str(path))


def parse(document: Mapping[str, Any], where: str) -> Suite:
    """The suite that a parsed file describes. Raises: ConfigError."""
    known = ("dataset", "reference", "table", "columns", "rows")
    for key in document:
        if key not in known:
            raise _unknown(key, known, where, "the file")
    if not isinstance(document.get("dataset"), str):
        raise ConfigError('the checks need dataset = "…"', where=where)
    columns = document.get("columns", {})
    rows = document.get("rows", [])
    if not isinstance(columns, Mapping) or not isinstance(rows, list):
        raise ConfigError("[columns.NAME] are tables and [[rows]] is a list of tables", where=where)
    suite = Suite(
        dataset=document["dataset"],
        reference=str(document.get("reference", "")),
        table=_struct(TableRules, document.get("table", {}), where, "table"),
        columns={name: _struct(ColumnRules, item, where, f"columns.{name}") for name, item in columns.items()},
        rows=tuple(_struct(RowRule, item, where, "rows") for item in rows),
    )
    for name, rules in suite.columns.items():
        _sensible(rules, where, f"columns.{name}")
    return suite


def text_of(suite: Suite, comment: str) -> str:
    """The file of a suite; `parse` gives the same suite back."""
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += [f"dataset = {_toml(suite.dataset)}", f"reference = {_toml(suite.reference)}", "", "[table]"]
    lines += _fields(suite.table)
    for name, rules in suite.columns.items():
        lines += ["", f"[columns.{_key(name)}]", *_fields(rules)]
    for rule in suite.rows:
        lines += ["", "[[rows]]", *_fields(rule)]
    return "\n".join(lines) + "\n"


def _sensible(rules: ColumnRules, where: str, path: str) -> None:
    if rules.type and rules.type not in FAMILIES:
        raise ConfigError(f"{path}.type is {rules.type!r}, not one of {', '.join(FAMILIES)}", where=where)
    if rules.severity not in SEVERITIES:
        raise ConfigError(f'{path}.severity is {rules.severity!r}, not "error" or "warn"', where=where)
    if rules.step is not None and rules.step <= 0:
        raise ConfigError(f"{path}.step must be above 0", where=where)
    for name, size in (("typical", 5), ("typical_nonzero", 5), ("seen", 2)):
        if len(getattr(rules, name)) not in (0, size):
            raise ConfigError(f"{path}.{name} needs {size} numbers", where=where)
    if rules.unit and not (rules.typical and rules.seen):
        raise ConfigError(f"{path}.unit needs typical and seen", where=where, hint="infer the checks again")
    if rules.when:
        try:
            When.read(rules.when)
        except ValueError as error:
            raise ConfigError(f"{path}.when: {error}", where=where) from error


def _struct(kind: type[T], value: Any, where: str, path: str) -> T:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path} must be a table", where=where)
    hints = typing.get_type_hints(kind)
    for key in value:
        if key not in hints:
            raise _unknown(key, tuple(hints), where, f"[{path}]")
    missing = [
        item.name
        for item in dataclasses.fields(kind)  # type: ignore[arg-type]  # T is one of the dataclasses above
        if item.default is dataclasses.MISSING and item.name not in value
    ]
    if missing:
        raise ConfigError(f"[{path}] needs {missing[0]}", where=where)
    return kind(**{key: _value(hints[key], item, where, f"{path}.{key}") for key, item in value.items()})


def _value(expected: Any, value: Any, where: str, path: str) -> Any:
    origin = typing.get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        return _value(typing.get_args(expected)[0], value, where, path)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{path} must be a list", where=where)
        return tuple(_value(typing.get_args(expected)[0], item, where, path) for item in value)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        word = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}[expected]
        raise ConfigError(f"{path} must be {word}, not {value!r}", where=where)
    return value


def _fields(value: Any) -> list[str]:
    """One line for each field that is not at its default; required and telling ones always."""
    lines = []
    for item in dataclasses.fields(value):
        found = getattr(value, item.name)
        if found is None or (found == item.default and item.name not in ("type", "nulls")):
            continue
        lines.append(f"{item.name} = {_toml(found)}")
    return lines


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _unknown(key: str, known: tuple[str, ...], where: str, place: str) -> ConfigError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(sorted(known))}"
    return ConfigError(f"{place} has no key {key!r}", where=where, hint=hint)
