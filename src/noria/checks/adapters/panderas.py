"""Pandera schemas: run as they are, read as rules, and written from rules.

Pandera checks only the schema of a LazyFrame unless told otherwise, and nothing at all where an
environment variable says so. So it is never asked without these: validation on, SCHEMA_AND_DATA,
lazy=True (every failure, not the first), and a frame that was collected.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.checks.adapters.imported import Imported, Refused
from noria.checks.facts import Finding
from noria.checks.findings import failed, is_failure, passed
from noria.checks.scanning.tally import EXAMPLES, ROWS
from noria.checks.suites import patterns
from noria.checks.suites.rules import KINDS, Rule
from noria.core.errors import NotFound, ProjectError, UsageError
from noria.core.lazy import lazy
from noria.core.printable import error_line
from noria.core.words import counted, no_column
from noria.plugins import keep_zones

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
pandera = lazy("pandera")
pandera_config = lazy("pandera.config")
pandera_errors = lazy("pandera.errors")
polars = lazy("polars")

__all__ = ["columns_of", "load_schema", "read", "rules_in", "validate"]

_CHECKS: Mapping[str, tuple[str, Mapping[str, str], Mapping[str, Any]]] = {
    "greater_than": ("range", {"min_value": "min"}, {"strict_min": True}),
    "greater_than_or_equal_to": ("range", {"min_value": "min"}, {}),
    "less_than": ("range", {"max_value": "max"}, {"strict_max": True}),
    "less_than_or_equal_to": ("range", {"max_value": "max"}, {}),
    "isin": ("in", {"allowed_values": "values"}, {}),
    "notin": ("not_in", {"forbidden_values": "values"}, {}),
    "equal_to": ("in", {"value": "values"}, {}),
    "not_equal_to": ("not_in", {"value": "values"}, {}),
    "str_length": ("length", {"min_value": "min", "max_value": "max"}, {}),
    "unique_values_eq": ("distinct", {"values": "values"}, {"match": "equal"}),
}
"""Pandera's own checks: the rule, its arguments by Pandera's, and what is always so."""
_TYPES: Mapping[str, tuple[str, ...]] = {
    **{f"{u}int{n}": (f"{u}int{n}",) for u in ("", "u") for n in (8, 16, 32, 64)},
    "float64": ("double",),
    "float32": ("float",),
    "str": ("text",),
    "string": ("text",),
    "category": ("text",),
    "categorical": ("text",),
    "bool": ("bool",),
    "boolean": ("bool",),
    "datetime": ("time",),
    "date": ("time",),
}


def load_schema(root: Path, place: str) -> Any:
    """The schema that `module:name` names, from a file of the project: nothing else is imported by name.

    A model class gives its schema. Raises: UsageError for another form; NotFound; ProjectError if the
    module cannot be run.
    """
    module, _, name = place.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise UsageError(f"{place!r} names no schema", hint="module:Schema, such as schemas:flights")
    file = root.joinpath(*module.split("."))
    if not file.with_suffix(".py").is_file() and not (file / "__init__.py").is_file():
        raise NotFound(f"there is no module {module!r} in the project", where=f"{file.with_suffix('.py')}")
    sys.path.insert(0, str(root))
    held = sys.modules.pop(module, None)
    try:
        importlib.invalidate_caches()
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        hint = "pip install 'noria[pandera]'" if error.name == "pandera" else "install it where Noria runs"
        raise NotFound(f"there is no module {error.name!r}", where=place, hint=hint) from error
    except KeyboardInterrupt:
        raise
    except BaseException as raised:  # the boundary to the project's code, which may raise anything
        raise ProjectError(f"{module} cannot be run: {error_line(raised)}", where=place) from raised
    finally:
        keep_zones()
        sys.path.remove(str(root))
        sys.modules.pop(module, None)
        if held is not None:
            sys.modules[module] = held
    if found is None:
        raise NotFound(f"{module} has no {name!r}", where=place)
    schema = found.to_schema() if hasattr(found, "to_schema") else found
    if not type(schema).__module__.startswith("pandera.") or not hasattr(schema, "columns"):
        raise UsageError(f"{place} is {type(found).__name__}, not a Pandera DataFrameSchema or model")
    return schema


def validate(schema: Any, table: pa.Table, *, file: str, first: int = 0) -> list[Finding]:
    """What Pandera says of some rows, all of it: one finding for each check that fails, one for all that pass.

    A schema that cannot be asked fails. Row numbers count from `first`.
    """
    frame: Any = polars.from_arrow(table) if _is_polars(schema) else table.to_pandas()
    if hasattr(frame, "collect"):
        frame = frame.collect()
    with _full(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            schema.validate(frame, lazy=True)
            found: list[Finding] = []
        except pandera_errors.SchemaErrors as errors:
            found = _findings(errors.failure_cases, table, file, first)
        except BaseException as raised:  # the boundary to the project's checks: they fail closed
            if isinstance(raised, KeyboardInterrupt):
                raise
            rows = table.num_rows
            found = [failed("pandera", "", _crashed(raised), count=rows, total=rows, file=file)]
    for each in said:
        if issubclass(each.category, pandera_errors.SchemaWarning):
            words = str(each.message).splitlines()[0][:200]
            found.append(failed("pandera", "", words, count=0, total=table.num_rows, severity="warn", file=file))
    if not any(map(is_failure, found)):
        found.append(passed("pandera", "", total=table.num_rows, file=file))
    return found


def rules_in(schema: Any) -> int:
    """How many things a schema checks."""
    count = bool(schema.unique) + bool(schema.strict) + bool(schema.ordered) + len(schema.checks or ())
    for column in schema.columns.values():
        count += bool(column.dtype) + (not column.nullable) + bool(column.unique) + len(column.checks or ())
    return int(count)


def columns_of(schema: Any) -> list[str]:
    """The columns that a schema names."""
    return [str(name) for name in schema.columns]


def read(schema: Any) -> list[Imported]:
    """Each part of a schema as a rule, or refused with the reason: a check in Python has no equal in a file."""
    found = []
    required = tuple(name for name, column in schema.columns.items() if column.required and not column.regex)
    if schema.strict:
        names = tuple(str(name) for name in schema.columns)
        how = "exactly" if schema.ordered else "set"
        found.append(_part("strict", "", lambda: [_rule("columns", columns=names, match=how)]))
    elif required:
        found.append(_part("required", "", lambda: [_rule("columns", columns=required, match="superset")]))
    for name, column in schema.columns.items():
        found += _column(str(name), column)
    if schema.unique:
        names = tuple(schema.unique)
        found.append(_part("unique", ", ".join(names), lambda: [_rule("unique", columns=names)]))
    for check in schema.checks or ():
        found.append(_part(_called(check), "", lambda check=check: _refuse("a check of whole rows in Python", check)))
    for name in ("index", "dtype"):
        if getattr(schema, name, None) is not None:
            found.append(_part(name, "", lambda name=name: _refuse(f"the schema's {name}")))
    return found


def _column(name: str, column: Any) -> list[Imported]:
    if column.regex:
        return [_part("regex", name, lambda: _refuse("a column that is named by a pattern"))]
    found = []
    if column.dtype is not None:
        found.append(_part("dtype", name, lambda: [_type(name, column.dtype)]))
    if not column.nullable:
        found.append(_part("nullable", name, lambda: [_rule("not_null", column=name)]))
    if column.unique:
        found.append(_part("unique", name, lambda: [_rule("unique", column=name)]))
    if getattr(column, "coerce", False):
        found.append(_part("coerce", name, lambda: _refuse("coerce changes data, rules only look")))
    for check in column.checks or ():
        found.append(_part(_called(check), name, lambda check=check: [_check(name, check)]))
    return found


def _part(source: str, column: str, make: Any) -> Imported:
    try:
        return Imported(source=source, column=column, rules=tuple(make()))
    except Refused as reason:
        return Imported(source=source, column=column, refused=str(reason))


def _refuse(reason: str, check: Any = None) -> Sequence[Rule]:
    raise Refused(reason + (f" ({_called(check)})" if check is not None else ""))


def _rule(rule: str, **values: Any) -> Rule:
    return Rule(rule=rule, source="pandera", **values)


def _type(name: str, dtype: Any) -> Rule:
    text = str(dtype).lower()
    known = _TYPES.get(text.partition("[")[0].partition("(")[0])
    if known is None:
        known = ("time",) if text.startswith("datetime") else None
    if known is None:
        raise Refused(f"the type {dtype}")
    return _rule("type", column=name, types=known)


def _check(name: str, check: Any) -> Rule:
    """A check on one column. Pandera passes over nulls, and a column that is all nulls passes."""
    made = _checked(name, check)
    return dataclasses.replace(made, allow_empty=True) if "allow_empty" in KINDS[made.rule].fields() else made


def _checked(name: str, check: Any) -> Rule:
    called, told = _called(check), dict(check.statistics or {})
    if not check.ignore_na:
        raise Refused("a check that asks nulls too (ignore_na=False)")
    severity = "warn" if check.raise_warning else "error"
    if called == "in_range":
        ends = {"strict_min": not told.get("include_min", True), "strict_max": not told.get("include_max", True)}
        bounds = {"min": _plain(told["min_value"]), "max": _plain(told["max_value"])}
        return _rule("range", column=name, severity=severity, **bounds, **ends)
    if called in ("str_matches", "str_contains", "str_startswith", "str_endswith"):
        return _rule("pattern", column=name, severity=severity, pattern=_pattern(called, told))
    if called not in _CHECKS:
        raise Refused("a check in Python")
    rule, names, always = _CHECKS[called]
    values = {mine: told[theirs] for theirs, mine in names.items() if told.get(theirs) is not None}
    if called == "str_length" and told.get("exact_value") is not None:
        values = {"min": told["exact_value"], "max": told["exact_value"]}
    for key, value in values.items():
        is_many = key == "values" and isinstance(value, list | tuple | set | frozenset)
        plain = tuple(_plain(each) for each in value) if is_many else _plain(value)
        values[key] = plain if is_many or key != "values" else (plain,)
    return _rule(rule, column=name, severity=severity, **values, **always)


def _pattern(called: str, told: Mapping[str, Any]) -> str:
    given = told.get("pattern", told.get("string", ""))
    text = str(getattr(given, "pattern", given))
    if called in ("str_startswith", "str_endswith"):
        literal = "".join(f"\\{mark}" if not mark.isalnum() and mark.isascii() else mark for mark in text)
        return f"^{literal}" if called == "str_startswith" else f"{literal}$"
    pattern = f"^(?:{text})" if called == "str_matches" else text
    fault = patterns.fault(pattern)
    if fault:
        raise Refused(f"the pattern {text!r} is not RE2: {fault}")
    return pattern


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float) or hasattr(value, "__float__"):
        return float(value)
    raise Refused(f"a value of type {type(value).__name__}")


def _called(check: Any) -> str:
    return str(getattr(check, "name", "") or getattr(check, "__name__", "") or "check")


def _is_polars(schema: Any) -> bool:
    return ".polars" in type(schema).__module__


@contextmanager
def _full() -> Iterator[None]:
    """Validation on, of schema and data, whatever the environment says."""
    depth = pandera_config.ValidationDepth.SCHEMA_AND_DATA
    with pandera_config.config_context(validation_enabled=True, validation_depth=depth):
        yield


def _findings(cases: Any, table: pa.Table, file: str, first: int) -> list[Finding]:
    """Failure cases by column and check. Both backends give a frame with these columns."""
    total, names = table.num_rows, table.column_names
    rows: list[Mapping[str, Any]]
    rows = cases.to_dicts() if hasattr(cases, "to_dicts") else cases.to_dict("records")
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        is_column = row.get("schema_context") == "Column" or row.get("column") not in (None, "")
        column = str(row.get("column") or "") if is_column else ""
        groups.setdefault(("" if column == "None" else column, str(row.get("check"))), []).append(row)
    found = []
    for (column, check), mine in groups.items():
        places = [int(row["index"]) + first for row in mine if _is_number(row.get("index"))]
        examples = tuple(dict.fromkeys(str(row.get("failure_case")) for row in mine))[:EXAMPLES]
        shown = ", ".join(examples)[:120]
        if check == "column_in_dataframe":
            found.append(failed("missing column", shown, no_column(shown, names), count=total, total=total, file=file))
            continue
        several = counted(len(places), f"row fails {check}", f"rows fail {check}")
        found.append(
            failed(
                f"pandera: {check}",
                column,
                several if places else f"fails {check}: {shown}",
                count=len(places) or total,
                total=total,
                rows=sorted(set(places))[:ROWS],
                examples=examples,
                file=file,
            )
        )
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _crashed(raised: BaseException) -> str:
    return f"cannot be evaluated: {error_line(raised, 160)}"
