"""One rule of `[[rules]]` or `[[rows]]`, or a short form of `[columns.NAME]`, watching a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria import plugins
from noria.checks.facts import Finding
from noria.checks.findings import failed, passed
from noria.checks.kinds.columns import members_of, needs
from noria.checks.scanning.expression import HOLDS, SILENT, Expression, Unreadable
from noria.checks.scanning.summary import TableProfile
from noria.checks.scanning.tally import CannotEvaluate, Places, Rows, Tally
from noria.checks.suites.rules import KINDS, ColumnRules, RowRule, Rule
from noria.core.lazy import lazy
from noria.core.printable import error_line
from noria.core.words import counted, no_column, percent

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")

__all__ = ["RuleCheck", "as_rule", "nothing", "short_forms"]

Ask = Callable[[Rule, Rows], Any]
_ABOUT_NULLS = ("not_null", "null")
_OF_ROWS = ("row", "unique_within_row", "not_null", "null")


class RuleCheck:
    """A rule that is asked row by row.

    The rows that it is about are those with a value (all, for a rule about nulls or across columns)
    for which its `where` holds; more than `share` of them must break it for it to fail. Where there
    are none, nothing was asked: it fails as one that cannot be evaluated, unless it allows that.
    """

    def __init__(
        self,
        rule: Rule,
        schema: pa.Schema,
        read: Mapping[str, Expression | Unreadable],
        *,
        known: pa.Array[Any] | None = None,
        is_keeping: bool = False,
    ) -> None:
        self.rule = rule
        self.fault = ""
        self._asked = [read[text] for text in (rule.where, rule.condition) if text]
        unread = next((each for each in self._asked if isinstance(each, Unreadable)), None)
        if unread is not None:
            self.fault = str(unread)
        wanted = [*needs(rule), *(name for each in self.expressions for name in each.columns)]
        missing = next((name for name in wanted if name not in schema.names), None)
        if missing is not None:
            self.fault = no_column(missing, schema.names)
        self._columns = frozenset(wanted) if not self.fault else frozenset[str]()
        if not self.fault and not self._columns:  # a condition of constants needs rows, a plug-in may ask any column
            self._columns = frozenset(schema.names[:1] if rule.rule in KINDS else schema.names)
        self._ask: Ask = members_of(known) if known is not None else plugins.load("check", rule.rule)
        self.tally = Tally(is_keeping=is_keeping)
        self.considered = 0
        self.silent = 0
        self._failed = False

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it looks at."""
        return self._columns

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Its condition, and the condition of the rows that it is about."""
        return () if self.fault else tuple(each for each in self._asked if isinstance(each, Expression))

    def look(self, rows: Rows) -> None:
        """Ask the rule of a batch."""
        if self.fault or not self._is_said(rows):
            return
        rule = self.rule
        try:
            is_void = bool(rule.column) and rule.rule not in _ABOUT_NULLS and rows[rule.column].family == "null"
            broken = False if is_void else self._ask(rule, rows)
        except CannotEvaluate as fault:
            self.fault = str(fault)
            return
        except Exception as raised:  # noqa: BLE001  # the boundary of plug-ins: a rule that fails to answer fails
            self.fault = error_line(raised)
            return
        has_nulls = bool(rule.column) and rule.rule not in _ABOUT_NULLS
        if not rule.where:
            self.considered += rows.count - (rows[rule.column].nulls if has_nulls else 0)
            about = None
        else:
            about = rows.said[rule.where] == HOLDS
            if has_nulls:
                about = about & ~rows[rule.column].missing
            self.considered += int(np.count_nonzero(about))
        if broken is False:
            return
        mask = np.asarray(broken)
        if mask.dtype != bool or mask.shape != (rows.count,):
            self.fault = f"the rule gave {type(broken).__name__}, not a mask of {rows.count} rows"
            return
        if about is not None:
            mask = mask & about
        elif has_nulls and rows[rule.column].nulls:
            mask = mask & ~rows[rule.column].missing
        if rule.condition and not rule.allow_nulls:
            self.silent += int(np.count_nonzero(mask & (rows.said[rule.condition] == SILENT)))
        self.tally.add(mask, rows, rule.column or (rule.columns[0] if rule.columns else ""))

    def findings(self, profile: TableProfile, faults: Mapping[str, str]) -> list[Finding]:
        """The one finding of the rule."""
        rule, total = self.rule, profile.rows
        column = rule.column or ", ".join(rule.columns)
        fault = self.fault or next((faults[each.text] for each in self.expressions if each.text in faults), "")
        if not fault and not self.considered and not rule.allow_empty:
            fault = f"{nothing(rule)} (allow_empty = true lets that pass)"
        if fault:
            said = f"cannot be evaluated: {fault}"
            return [
                failed(rule.called, column, said, count=total, total=total, severity=rule.severity, file=profile.file)
            ]
        if self.tally.count <= rule.share * self.considered + 1e-9:
            return [passed(rule.called, column, total=total, severity=rule.severity, file=profile.file)]
        self._failed = rule.severity == "error"
        message = words(rule, self.tally.count)
        if self.silent:
            message += f", {self.silent:,} of them because it is null (allow_nulls = true lets these pass)"
        if rule.share:
            message += f" ({percent(self.tally.count / self.considered)}, at most {percent(rule.share)})"
        return [
            self.tally.finding(
                rule.called, column, rule.severity, message, total=self.considered or total, file=profile.file
            )
        ]

    def broken(self) -> list[Places]:
        """The rows that broke the rule, if it failed."""
        return [self.tally.places()] if self._failed else []

    def _is_said(self, rows: Rows) -> bool:
        return all(each.text in rows.said for each in self.expressions)


def nothing(rule: Rule) -> str:
    """What is not there, where a rule had nothing that it could be asked of. No row value."""
    if rule.where:
        valued = " with a value" if rule.column and rule.rule not in _ABOUT_NULLS else ""
        return f"there is no row{valued} where {rule.where}"
    return "the column has no values"


def words(rule: Rule, count: int) -> str:
    """What is wrong with the rows that break a rule. No row value."""
    low, high = (f"{end:.9g}" if isinstance(end, float) else end for end in (rule.min, rule.max))
    ends = f"{'above' if rule.strict_min else 'at least'} {low}" if low is not None else ""
    if high is not None:
        ends += (" and " if ends else "") + f"{'below' if rule.strict_max else 'at most'} {high}"
    patterns = " or ".join(rule.patterns or (rule.pattern,))
    told = {
        "not_null": ("has no value", "have no value"),
        "null": ("has a value", "have a value"),
        "range": (f"is not {ends}", f"are not {ends}"),
        "length": (f"has not {ends} characters", f"have not {ends} characters"),
        "in": (f"is not among the {len(rule.values)} allowed", f"are not among the {len(rule.values)} allowed"),
        "not_in": (f"is among the {len(rule.values)} forbidden", f"are among the {len(rule.values)} forbidden"),
        "pattern": (f"does not match {patterns}", f"do not match {patterns}"),
        "not_pattern": (f"matches {patterns}", f"match {patterns}"),
        "format": (f"is not written as {rule.format}", f"are not written as {rule.format}"),
        "json": ("is not JSON", "are not JSON"),
        "references": (f"is not in {rule.dataset}", f"are not in {rule.dataset}"),
        "row": (f"breaks: {rule.condition}", f"break: {rule.condition}"),
        "unique_within_row": ("holds one value in two columns", "hold one value in two columns"),
    }
    where = f" where {rule.where}" if rule.where else ""
    noun = "value" if rule.rule in told and rule.rule not in _OF_ROWS else "row"
    one, many = told.get(rule.rule, (f"breaks {rule.called}", f"break {rule.called}"))
    return counted(count, f"{noun} {one}", f"{noun}s {many}") + where


def as_rule(row: RowRule) -> Rule:
    """A condition of `[[rows]]` as a rule."""
    return Rule(
        rule="row",
        name=row.name,
        condition=row.where,
        share=row.share,
        allow_nulls=row.allow_nulls,
        severity=row.severity,
    )


def short_forms(name: str, rules: ColumnRules) -> Sequence[Rule]:
    """What the short forms of `[columns.NAME]` mean as rules.

    A column without any value is left to the rule about its nulls, where there is one.
    """
    found = _short_forms(name, rules)
    return found if rules.nulls is None else [dataclasses.replace(rule, allow_empty=True) for rule in found]


def _short_forms(name: str, rules: ColumnRules) -> list[Rule]:
    severity = rules.severity
    found = []
    if rules.allowed:
        found.append(Rule(rule="in", name="allowed", column=name, values=rules.allowed, severity=severity))
    if rules.forbidden:
        found.append(Rule(rule="not_in", name="forbidden", column=name, values=rules.forbidden, severity=severity))
    if rules.pattern:
        found.append(Rule(rule="pattern", column=name, pattern=rules.pattern, severity=severity))
    if rules.length:
        low, high = map(float, rules.length)
        found.append(Rule(rule="length", column=name, min=low, max=high, severity=severity))
    if rules.earliest or rules.latest:
        first, last = rules.earliest or None, rules.latest or None
        bounds = Rule(rule="range", name="time", column=name, severity=severity, min=first, max=last, format="time")
        found.append(bounds)
    if rules.references:
        found.append(Rule(rule="references", column=name, dataset=rules.references, severity=severity))
    if rules.order:
        found.append(Rule(rule="order", column=name, order=rules.order, severity=severity))
    return found
