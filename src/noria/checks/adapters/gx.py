"""Great Expectations suites as rules: the JSON of 1.x and of 0.18, each expectation mapped or refused by name.

What a rule means is taken from what GX does with pandas, so that verdicts agree on the same data:
`mostly` is of the rows with a value, a pattern is searched for, pairs with one null fail, quantiles
are nearest observed values, and an expectation that has no row or value to look at passes: such rules
say `allow_empty = true`. Where they differ: data without rows pass in GX and fail here.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from noria.checks.adapters.imported import Imported, Refused
from noria.checks.adapters.rowconditions import literal, quoted, sql
from noria.checks.suites import patterns
from noria.checks.suites.rules import Rule
from noria.core.errors import UsageError

__all__ = ["KNOWN", "read"]

_COMMON = {"mostly", "row_condition", "condition_parser", "severity"}
_UNTOLD = {
    "result_format", "include_config", "catch_exceptions", "meta", "notes", "batch_id", "description", "id",
    "auto", "profiler_config", "expectation_context", "rendered_content", "strict_min", "strict_max",
}  # fmt: skip
"""Arguments that do not change a verdict, or (the strict ones) are asked for where they do."""
_OF_ALL_ROWS = ("not_null", "null", "row")
"""Rules that look at every row, with a value or without: where there are rows, there is something to ask."""
_TYPES: Mapping[str, tuple[str, ...]] = {
    "int": ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    "float": ("float", "double", "halffloat"),
    "str": ("text",),
    "bool": ("bool",),
    "datetime": ("time",),
}
_TYPE_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("int", "int_", "integer", "bigint", "smallint"), "int"),
    **dict.fromkeys(("float", "float_", "double", "real"), "float"),
    **dict.fromkeys(("str", "string", "object", "object_", "varchar", "text", "char"), "str"),
    **dict.fromkeys(("bool", "bool_", "boolean"), "bool"),
    **dict.fromkeys(("datetime", "datetime64", "timestamp", "date", "datetime64[ns]", "datetime64[us]"), "datetime"),
}
_EXACT: Mapping[str, tuple[str, ...]] = {
    **{f"{u}int{n}": (f"{u}int{n}",) for u in ("", "u") for n in (8, 16, 32, 64)},
    "float64": ("double",),
    "float32": ("float",),
    "float16": ("halffloat",),
}


class _Call:
    """One expectation being read: its arguments, each of which must be asked for."""

    def __init__(self, kind: str, given: Mapping[str, Any], severity: str) -> None:
        self.kind, self.severity = kind, severity
        self._given = {key: value for key, value in given.items() if value is not None}
        self._asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """An argument. Raises: Refused for one that is only known when GX runs."""
        self._asked.add(name)
        value = self._given.get(name, default)
        if isinstance(value, Mapping) and "$PARAMETER" in value:
            raise Refused(f"{name} is a parameter that is given when the suite runs")
        return value

    def need(self, name: str) -> Any:
        """An argument that must be there. Raises: Refused."""
        value = self.get(name)
        if value is None:
            raise Refused(f"the argument {name} is missing")
        return value

    @property
    def column(self) -> str:
        """The column."""
        return str(self.need("column"))

    def rule(self, rule: str, **values: Any) -> Rule:
        """A rule with the tolerance, the rows and the severity of the expectation."""
        where = self.get("row_condition")
        mostly = self.get("mostly", 1.0)
        if not isinstance(mostly, int | float):
            raise Refused(f"mostly is {mostly!r}")
        self.get("condition_parser")
        shared: dict[str, Any] = {"share": round(1.0 - float(mostly), 12)}
        if where or "where" in values or rule not in _OF_ALL_ROWS:
            shared["allow_empty"] = True
        if where:
            shared["where"] = " and ".join(f"({part})" for part in (sql(where), values.pop("where", "")) if part)
        return self.made(rule, **(shared | values))

    def whole(self, rule: str, **values: Any) -> Rule:
        """A rule about a file as a whole, which has no tolerance and no condition. Raises: Refused."""
        if self.get("row_condition"):
            raise Refused(f"{rule} with a row condition")
        if self.get("mostly", 1.0) != 1.0:
            raise Refused(f"{rule} with mostly")
        self.get("condition_parser")
        return self.made(rule, **values)

    def made(self, rule: str, **values: Any) -> Rule:
        """A rule that is called as the expectation is, and says where it came from."""
        return Rule(rule=rule, name=_name(self.kind), severity=self.severity, source=f"gx: {self.kind}", **values)

    def bounds(self, low: str = "min_value", high: str = "max_value") -> dict[str, Any]:
        """min and max. Raises: Refused without either."""
        found: dict[str, Any] = {}
        for key, name in (("min", low), ("max", high)):
            value = self.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise Refused(f"{name} is {value!r}")
            found[key] = value if isinstance(value, str) else float(value)
            if self.get(f"strict_{key}", False):
                found[f"strict_{key}"] = True
        if not found:
            raise Refused(f"neither {low} nor {high} is given")
        return found

    def values(self, name: str = "value_set") -> tuple[Any, ...]:
        """A set of plain values. Raises: Refused."""
        found = self.need(name)
        if not isinstance(found, list) or not found:
            raise Refused(f"{name} is not a list of values")
        if any(value is not None and not isinstance(value, str | int | float | bool) for value in found):
            raise Refused(f"{name} holds more than plain values")
        plain = [value for value in found if value is not None]
        return tuple(float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in plain)

    def left(self) -> list[str]:
        """Arguments that nobody asked for and that might mean something."""
        return sorted(self._given.keys() - self._asked - _UNTOLD - _COMMON)


def read(text: str) -> list[Imported]:
    """Every expectation of a suite's JSON, in order: mapped, or refused with the reason.

    Raises: UsageError if the text is no suite.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the suite is not JSON: {error}", hint="a suite of GX 1.x, or one saved by 0.18") from error
    listed = document.get("expectations") if isinstance(document, Mapping) else document
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        raise UsageError("the JSON holds no list of expectations", hint='{"expectations": [{"type": …, "kwargs": …}]}')
    return [_one(each) for each in listed]


def _one(found: Mapping[str, Any]) -> Imported:
    kind = str(found.get("type") or found.get("expectation_type") or "")
    given = found.get("kwargs")
    if not isinstance(given, Mapping):
        return Imported(source=kind or "?", column="", refused="it has no kwargs")
    column = str(given.get("column") or ", ".join(map(str, given.get("column_list") or ())))
    severity = {"critical": "error", "warning": "warn", "info": "warn"}.get(str(found.get("severity", "critical")), "")
    try:
        if not severity:
            raise Refused(f"severity {found.get('severity')!r}")
        call = _Call(kind, given, severity)
        make = KNOWN.get(kind)
        if make is None:
            raise Refused("no rule here says the same")
        rules = make(call)
        if call.left():
            raise Refused(f"the argument {call.left()[0]} has no equal")
        return Imported(source=kind, column=column, rules=tuple(rules))
    except Refused as reason:
        return Imported(source=kind or "?", column=column, refused=str(reason))


def _name(kind: str) -> str:
    return kind.removeprefix("expect_").replace("_", " ")


def _plain(rule: str) -> Callable[[_Call], Sequence[Rule]]:
    return lambda call: [call.rule(rule, column=call.column)]


def _between(call: _Call) -> Sequence[Rule]:
    return [call.rule("range", column=call.column, **call.bounds())]


def _lengths(call: _Call) -> Sequence[Rule]:
    return [call.rule("length", column=call.column, **call.bounds())]


def _length(call: _Call) -> Sequence[Rule]:
    size = float(call.need("value"))
    return [call.rule("length", column=call.column, min=size, max=size)]


def _members(rule: str) -> Callable[[_Call], Sequence[Rule]]:
    return lambda call: [call.rule(rule, column=call.column, values=call.values())]


def _distinct(match: str) -> Callable[[_Call], Sequence[Rule]]:
    return lambda call: [
        call.whole("distinct", column=call.column, values=call.values(), match=match, allow_empty=True)
    ]


def _regex(rule: str, argument: str, *, is_like: bool = False) -> Callable[[_Call], Sequence[Rule]]:
    def make(call: _Call) -> Sequence[Rule]:
        given = call.need(argument)
        found = [given] if isinstance(given, str) else list(given)
        if is_like:
            if call.get("escape"):
                raise Refused("a pattern with escape")
            found = [_like(text) for text in found]
        for text in found:
            fault = patterns.fault(text)
            if fault:
                raise Refused(f"the pattern {text!r} is not RE2: {fault}")
        match = {"match": str(call.get("match_on", "any"))} if rule == "pattern" and len(found) > 1 else {}
        call.get("match_on")
        return [call.rule(rule, column=call.column, patterns=tuple(found), **match)]

    return make


def _like(text: str) -> str:
    return "^" + "".join({"%": "(?s:.*)", "_": "(?s:.)"}.get(mark, re.escape(mark)) for mark in text) + "$"


def _format(call: _Call) -> Sequence[Rule]:
    return [call.rule("format", column=call.column, format=str(call.need("strftime_format")))]


def _order(order: str) -> Callable[[_Call], Sequence[Rule]]:
    def make(call: _Call) -> Sequence[Rule]:
        if call.get("row_condition"):
            raise Refused("an order with a row condition")
        mostly, is_strict = call.get("mostly", 1.0), bool(call.get("strictly", False))
        call.get("condition_parser")
        share = round(1.0 - float(mostly), 12)
        return [call.made("order", column=call.column, order=order, strict=is_strict, share=share, allow_empty=True)]

    return make


def _unique(columns: str) -> Callable[[_Call], Sequence[Rule]]:
    def make(call: _Call) -> Sequence[Rule]:
        if call.get("row_condition"):
            raise Refused("uniqueness with a row condition")
        call.get("condition_parser")
        names = (call.column,) if columns == "column" else tuple(call.need("column_list"))
        if call.get("ignore_row_if", "all_values_are_missing") != "all_values_are_missing":
            raise Refused(f"ignore_row_if is {call.get('ignore_row_if')}")
        share = round(1.0 - float(call.get("mostly", 1.0)), 12)
        return [call.made("unique", columns=names, share=share, allow_empty=True)]

    return make


def _statistic(statistic: str) -> Callable[[_Call], Sequence[Rule]]:
    return lambda call: [call.whole("statistic", column=call.column, statistic=statistic, **call.bounds())]


def _quantiles(call: _Call) -> Sequence[Rule]:
    found = call.need("quantile_ranges")
    if call.get("allow_relative_error"):
        raise Refused("allow_relative_error")
    rules = []
    for at, (low, high) in zip(found["quantiles"], found["value_ranges"], strict=True):
        bounds = {key: float(value) for key, value in (("min", low), ("max", high)) if value is not None}
        if bounds:
            made = {"statistic": "quantile", "at": float(at), "match": "nearest"}
            rules.append(call.whole("statistic", column=call.column, **made, **bounds))
    if not rules:
        raise Refused("no quantile has a bound")
    return rules


def _types(argument: str) -> Callable[[_Call], Sequence[Rule]]:
    def make(call: _Call) -> Sequence[Rule]:
        given = call.need(argument)
        names = [given] if isinstance(given, str) else list(given)
        kinds: list[str] = []
        for name in names:
            if name in _EXACT:
                kinds += _EXACT[name]
            elif name.lower() in _TYPE_NAMES:
                kinds += _TYPES[_TYPE_NAMES[name.lower()]]
            else:
                raise Refused(f"the type {name!r} is not known here")
        return [call.whole("type", column=call.column, types=tuple(dict.fromkeys(kinds)))]

    return make


def _columns(match: str) -> Callable[[_Call], Sequence[Rule]]:
    def make(call: _Call) -> Sequence[Rule]:
        names = call.need("column_list" if match == "exactly" else "column_set")
        how = match if match == "exactly" or call.get("exact_match", True) else "superset"
        return [call.whole("columns", columns=tuple(names), match=how)]

    return make


def _exists(call: _Call) -> Sequence[Rule]:
    if call.get("column_index") is not None:
        raise Refused("column_index")
    return [call.whole("columns", columns=(call.column,), match="superset")]


def _count(rule: str) -> Callable[[_Call], Sequence[Rule]]:
    def make(call: _Call) -> Sequence[Rule]:
        if call.get("value") is not None:
            size = float(call.need("value"))
            return [call.whole(rule, min=size, max=size)]
        if call.get("strict_min") or call.get("strict_max"):
            raise Refused("a strict bound of a count")
        return [call.whole(rule, **call.bounds())]

    return make


def _ignored(call: _Call, columns: Sequence[str], default: str) -> str:
    """Which rows an expectation across columns is about, as SQL."""
    how = call.get("ignore_row_if", default)
    empty = [f"{quoted(name)} is null" for name in columns]
    if how in ("both_values_are_missing", "all_values_are_missing"):
        return f"not ({' and '.join(empty)})"
    if how in ("either_value_is_missing", "any_value_is_missing"):
        return f"not ({' or '.join(empty)})"
    if how in ("neither", "never"):
        return ""
    raise Refused(f"ignore_row_if is {how!r}")


def _across(call: _Call, columns: Sequence[str], condition: str, default: str) -> Sequence[Rule]:
    about = _ignored(call, columns, default)
    values = {"condition": f"coalesce({condition}, false)"}
    if about:
        values["where"] = about
    return [call.rule("row", **values)]


def _pair(sign: str) -> Callable[[_Call], Sequence[Rule]]:
    def make(call: _Call) -> Sequence[Rule]:
        one, other = str(call.need("column_A")), str(call.need("column_B"))
        mark = ">=" if sign == ">" and call.get("or_equal", False) else sign
        return _across(call, (one, other), f"{quoted(one)} {mark} {quoted(other)}", "both_values_are_missing")

    return make


def _pairs(call: _Call) -> Sequence[Rule]:
    one, other = str(call.need("column_A")), str(call.need("column_B"))
    pairs = [
        f"({quoted(one)} = {literal(a)} and {quoted(other)} = {literal(b)})" for a, b in call.need("value_pairs_set")
    ]
    return _across(call, (one, other), " or ".join(pairs), "both_values_are_missing")


def _sum(call: _Call) -> Sequence[Rule]:
    names = list(map(str, call.need("column_list")))
    condition = f"{' + '.join(map(quoted, names))} = {literal(call.need('sum_total'))}"
    return _across(call, names, condition, "all_values_are_missing")


def _different(call: _Call) -> Sequence[Rule]:
    names = list(map(str, call.need("column_list")))
    pairs = itertools.combinations(map(quoted, names), 2)
    condition = " and ".join(f"{a} is distinct from {b}" for a, b in pairs)
    return _across(call, names, condition, "all_values_are_missing")


def _equal(call: _Call) -> Sequence[Rule]:
    names = list(map(quoted, map(str, call.need("column_list"))))
    condition = " and ".join(f"{names[0]} is not distinct from {name}" for name in names[1:])
    return _across(call, list(map(str, call.need("column_list"))), condition, "all_values_are_missing")


KNOWN: Mapping[str, Callable[[_Call], Sequence[Rule]]] = {
    "expect_column_values_to_not_be_null": _plain("not_null"),
    "expect_column_values_to_be_null": _plain("null"),
    "expect_column_values_to_be_between": _between,
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_value_lengths_to_equal": _length,
    "expect_column_values_to_be_in_set": _members("in"),
    "expect_column_values_to_not_be_in_set": _members("not_in"),
    "expect_column_values_to_match_regex": _regex("pattern", "regex"),
    "expect_column_values_to_not_match_regex": _regex("not_pattern", "regex"),
    "expect_column_values_to_match_regex_list": _regex("pattern", "regex_list"),
    "expect_column_values_to_not_match_regex_list": _regex("not_pattern", "regex_list"),
    "expect_column_values_to_match_like_pattern": _regex("pattern", "like_pattern", is_like=True),
    "expect_column_values_to_not_match_like_pattern": _regex("not_pattern", "like_pattern", is_like=True),
    "expect_column_values_to_match_strftime_format": _format,
    "expect_column_values_to_be_json_parseable": _plain("json"),
    "expect_column_values_to_be_increasing": _order("increasing"),
    "expect_column_values_to_be_decreasing": _order("decreasing"),
    "expect_column_values_to_be_unique": _unique("column"),
    "expect_compound_columns_to_be_unique": _unique("column_list"),
    "expect_column_values_to_be_of_type": _types("type_"),
    "expect_column_values_to_be_in_type_list": _types("type_list"),
    "expect_column_distinct_values_to_be_in_set": _distinct("subset"),
    "expect_column_distinct_values_to_contain_set": _distinct("superset"),
    "expect_column_distinct_values_to_equal_set": _distinct("equal"),
    "expect_column_mean_to_be_between": _statistic("mean"),
    "expect_column_median_to_be_between": _statistic("median"),
    "expect_column_stdev_to_be_between": _statistic("stdev"),
    "expect_column_sum_to_be_between": _statistic("sum"),
    "expect_column_min_to_be_between": _statistic("min"),
    "expect_column_max_to_be_between": _statistic("max"),
    "expect_column_unique_value_count_to_be_between": _statistic("distinct"),
    "expect_column_proportion_of_unique_values_to_be_between": _statistic("distinct share"),
    "expect_column_proportion_of_non_null_values_to_be_between": _statistic("filled share"),
    "expect_column_quantile_values_to_be_between": _quantiles,
    "expect_column_pair_values_a_to_be_greater_than_b": _pair(">"),
    "expect_column_pair_values_to_be_equal": _pair("="),
    "expect_column_pair_values_to_be_in_set": _pairs,
    "expect_multicolumn_sum_to_equal": _sum,
    "expect_multicolumn_values_to_be_equal": _equal,
    "expect_select_column_values_to_be_unique_within_record": _different,
    "expect_column_to_exist": _exists,
    "expect_table_columns_to_match_ordered_list": _columns("exactly"),
    "expect_table_columns_to_match_set": _columns("set"),
    "expect_table_column_count_to_equal": _count("columns"),
    "expect_table_column_count_to_be_between": _count("columns"),
    "expect_table_row_count_to_equal": _count("rows"),
    "expect_table_row_count_to_be_between": _count("rows"),
}
"""Every expectation that has an equal here, and how it is read."""
