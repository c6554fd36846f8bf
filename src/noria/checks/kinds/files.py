"""Rules about a file as a whole: the order of its rows, a statistic, its distinct values, its columns.

They watch every batch and answer at the end; what a statistic needs is kept exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from noria.checks.facts import Finding
from noria.checks.findings import passed
from noria.checks.scanning.accumulate import Moments
from noria.checks.scanning.arrays import doubles, mask, whole
from noria.checks.scanning.chunk import family
from noria.checks.scanning.expression import Expression
from noria.checks.scanning.summary import TableProfile
from noria.checks.scanning.tally import Places, Rows, Tally
from noria.checks.suites.rules import Rule
from noria.core.lazy import lazy
from noria.core.words import counted, nearest, no_column

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["FILE_KINDS", "Columns", "Distinct", "FileCheck", "Order", "Question", "Statistic", "Type"]


NO_VALUES = "cannot be evaluated: the column has no values (allow_empty = true lets that pass)"


class Question(Protocol):
    """What a rule asks of a file: it looks at every batch, and says at the end what is wrong.

    `fault` is why it cannot be asked, or "". `columns` are those that it looks at, `tally` the rows
    that break it, if rows can. The column of its rule is there.
    """

    fault: str
    columns: frozenset[str]
    tally: Tally

    def look(self, rows: Rows) -> None:
        """Look at the next batch."""

    def message(self, profile: TableProfile) -> str:
        """What is wrong, or ""."""


class FileCheck:
    """A rule about a file watching it: a column that must be there, and one finding."""

    def __init__(self, rule: Rule, schema: pa.Schema, *, is_keeping: bool = False) -> None:
        self.rule = rule
        self.question: Question | None = None
        if not rule.column or rule.column in schema.names:
            self.question = FILE_KINDS[rule.rule](rule, schema, is_keeping=is_keeping)
        self._fault = "" if self.question else no_column(rule.column, schema.names)
        self._failed = False

    @property
    def columns(self) -> frozenset[str]:
        """The column that it looks at."""
        return self.question.columns if self.question and not self.question.fault else frozenset()

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """None."""
        return ()

    def look(self, rows: Rows) -> None:
        """Look at the next batch."""
        if self.question and not self.question.fault:
            self.question.look(rows)

    def findings(self, profile: TableProfile, faults: Mapping[str, str]) -> list[Finding]:
        """The one finding of the rule."""
        rule, total, question = self.rule, profile.rows, self.question
        fault = question.fault if question else self._fault
        said = f"cannot be evaluated: {fault}" if fault else question.message(profile) if question else ""
        if not said:
            return [passed(rule.called, rule.column, total=total, severity=rule.severity, file=profile.file)]
        self._failed = rule.severity == "error"
        tally = question.tally if question else Tally()
        count = tally.count or total
        return [
            tally.finding(rule.called, rule.column, rule.severity, said, total=total, file=profile.file, count=count)
        ]

    def broken(self) -> list[Places]:
        """The rows that broke the rule, if it failed and rows can break it."""
        return [self.question.tally.places()] if self._failed and self.question else []


class Order:
    """`order`: each value is at least (strict: above) the one before it; nulls are passed over."""

    def __init__(self, rule: Rule, schema: pa.Schema, *, is_keeping: bool = False) -> None:
        self.rule, self.fault, self.tally = rule, "", Tally(is_keeping=is_keeping)
        self.columns = frozenset((rule.column,))
        self.last: Any = None
        self.considered = 0

    def look(self, rows: Rows) -> None:
        """Compare each value with the one before it, also across batches."""
        chunk = rows[self.rule.column]
        if chunk.family == "other":
            self.fault = f"{self.rule.column!r} is {chunk.family}, which has no order"
            return
        there = np.flatnonzero(~chunk.missing)
        if not len(there):
            return
        self.considered += len(there)
        values = _sortable(chunk.texts if chunk.family == "text" else chunk.array)
        if len(there) < chunk.rows:
            values = values.take(whole(there))
        if self.last is not None:
            values = pa.concat_arrays([self.last, values])
            there = np.concatenate(([-1], there))
        self.last = values[-1:]
        before, after = values[:-1], values[1:]
        is_down = self.rule.order == "decreasing"
        if self.rule.strict:
            good = pc.less(after, before) if is_down else pc.greater(after, before)
        else:
            good = pc.less_equal(after, before) if is_down else pc.greater_equal(after, before)
        bad = ~mask(good)
        if bad.any():
            broken = np.zeros(rows.count, bool)
            broken[there[1:][bad]] = True
            self.tally.add(broken, rows, self.rule.column)

    def message(self, profile: TableProfile) -> str:
        """How many values stand below (above) the one before them."""
        if not self.considered and not self.rule.allow_empty:
            return NO_VALUES
        if self.tally.count <= self.rule.share * self.considered:
            return ""
        way = "above" if self.rule.order == "decreasing" else "below"
        way += f"{' or equal to' if self.rule.strict else ''} the one before"
        return counted(self.tally.count, f"value is {way}", f"values are {way}")


def _sortable(values: pa.Array[Any]) -> pa.Array[Any]:
    return values.cast(pa.int8()) if pa.types.is_boolean(values.type) else values


class Statistic:
    """`statistic` from min to max: mean, median, quantile, stdev, sum, min, max, distinct, distinct or filled share.

    A quantile lies between two observed values in proportion; with match = "nearest" it is one of them.
    """

    def __init__(self, rule: Rule, schema: pa.Schema, *, is_keeping: bool = False) -> None:
        self.rule, self.fault, self.tally = rule, "", Tally()
        self.columns = frozenset((rule.column,))
        self.moments = Moments()
        self.total: Any = np.float64(0.0)
        self.least: Any = None
        self.most: Any = None
        self.parts: list[Any] = []
        self.values = self.rows = 0
        self.is_counting = rule.statistic in ("distinct", "distinct share")
        self.is_whole = rule.statistic in ("median", "quantile") or self.is_counting
        is_free = self.is_counting or rule.statistic in ("min", "max", "filled share")
        is_number = family(schema.field(rule.column).type) in ("number", "null")
        if not is_number and not is_free:
            self.fault = f"{rule.column!r} is {schema.field(rule.column).type}, not a number"
        if rule.statistic == "quantile" and (rule.at is None or not 0 <= rule.at <= 1):
            self.fault = "a quantile needs at = 0 … 1"

    def look(self, rows: Rows) -> None:
        """Take in a batch."""
        chunk = rows[self.rule.column]
        self.values += chunk.rows - chunk.nulls
        self.rows += chunk.rows
        if chunk.rows == chunk.nulls or self.rule.statistic == "filled share":
            return
        if self.is_counting:
            values = chunk.texts if chunk.family == "text" else chunk.array
            self.parts.append(pc.unique(doubles(chunk.floats) if chunk.family == "number" else values))
            return
        if chunk.family != "number":
            ends = pc.min_max(chunk.texts if chunk.family == "text" else chunk.array)
            self._reach(_plain(ends["min"].as_py()), _plain(ends["max"].as_py()))
            return
        numbers = chunk.floats[~chunk.missing]
        if self.is_whole:
            self.parts.append(numbers.copy())
        self.moments.add(Moments.of(numbers, is_short=True))
        self.total = self.total + numbers.sum()
        self._reach(float(numbers.min()), float(numbers.max()))

    def message(self, profile: TableProfile) -> str:
        """What the statistic is, if it is not within its bounds."""
        rule = self.rule
        if not self.values and not self.is_counting and rule.statistic not in ("filled share", "sum"):
            return "cannot be evaluated: the column has no values"
        found = self._value()
        if found is None:
            return "cannot be evaluated: one value has no standard deviation"
        try:
            is_low = rule.min is not None and (found <= rule.min if rule.strict_min else found < rule.min)
            is_high = rule.max is not None and (found >= rule.max if rule.strict_max else found > rule.max)
        except TypeError:
            bound = rule.min if rule.min is not None else rule.max
            return f"cannot be evaluated: {rule.column!r} cannot be compared with {bound!r}"
        if found == found and not is_low and not is_high:
            return ""
        shown = f"{found:.6g}" if isinstance(found, float) else str(found)
        name = f"{rule.at:g} quantile" if rule.statistic == "quantile" else rule.statistic
        return f"the {name} is {shown}, not {_between(rule)}"

    def _reach(self, least: Any, most: Any) -> None:
        self.least = least if self.least is None else min(self.least, least)
        self.most = most if self.most is None else max(self.most, most)

    def _value(self) -> Any:
        kind = self.rule.statistic
        if kind in ("min", "max"):
            return self.least if kind == "min" else self.most
        if kind == "mean":
            return float(self.moments.mean)
        if kind == "sum":
            return float(self.total)
        if kind == "stdev":
            return float(np.sqrt(self.moments.m2 / (self.moments.count - 1))) if self.moments.count > 1 else None
        if self.is_counting:
            found = pa.chunked_array(self.parts).unique() if self.parts else pa.array([])
            distinct = _without_nan(found)
            return float(distinct) if kind == "distinct" else distinct / self.values if self.values else 0.0
        if kind == "filled share":
            return self.values / self.rows if self.rows else None
        at = 0.5 if kind == "median" else self.rule.at
        method: Any = "nearest" if self.rule.match == "nearest" else "linear"
        return float(np.quantile(np.concatenate(self.parts), 0.5 if at is None else at, method=method))


def _without_nan(found: Any) -> int:
    plain = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    plain = plain.drop_null()
    if pa.types.is_floating(plain.type):
        plain = plain.filter(pc.invert(pc.is_nan(plain)))
    return len(plain)


def _plain(value: Any) -> Any:
    """A time as the text that a suite would say: ISO 8601, so that texts compare as times do."""
    return value.isoformat() if hasattr(value, "isoformat") else value


def _between(rule: Rule) -> str:
    low = f"{'above' if rule.strict_min else 'at least'} {rule.min:g}" if isinstance(rule.min, float) else rule.min
    high = f"{'below' if rule.strict_max else 'at most'} {rule.max:g}" if isinstance(rule.max, float) else rule.max
    return " and ".join(str(part) for part in (low, high) if part is not None)


class Distinct:
    """`distinct`: the distinct values are a subset of `values`, with match a superset, or equal to them."""

    def __init__(self, rule: Rule, schema: pa.Schema, *, is_keeping: bool = False) -> None:
        self.rule, self.fault, self.tally = rule, "", Tally()
        self.columns = frozenset((rule.column,))
        self.found: set[Any] = set()
        if rule.match not in ("", "subset", "superset", "equal"):
            self.fault = f"match is {rule.match!r}, not subset, superset or equal"

    def look(self, rows: Rows) -> None:
        """Take in the distinct values of a batch."""
        chunk = rows[self.rule.column]
        if chunk.family == "number":
            values = chunk.floats[~chunk.missing]
            self.found |= set(np.unique(values).tolist())
        elif chunk.family == "text":
            words, counts = chunk.levels
            self.found |= set(words.take(whole(np.flatnonzero(counts))).to_pylist())
        else:
            self.found |= {_plain(value) for value in pc.unique(chunk.array).to_pylist() if value is not None}

    def message(self, profile: TableProfile) -> str:
        """How many values are too many or missing."""
        if not self.found and not self.rule.allow_empty:
            return NO_VALUES
        wanted, match = set(self.rule.values), self.rule.match or "subset"
        extra, missing = self.found - wanted, wanted - self.found
        said = []
        if match in ("subset", "equal") and extra:
            among = f"not among the {len(wanted)} allowed"
            said.append(counted(len(extra), f"distinct value is {among}", f"distinct values are {among}"))
        if match in ("superset", "equal") and missing:
            verb = "appears" if len(missing) == 1 else "appear"
            said.append(f"{len(missing)} of {counted(len(wanted), 'value')} never {verb}")
        return "; ".join(said)


class Type:
    """`type`: the column has one of these types: a family (number, text, …) or Arrow's own name."""

    def __init__(self, rule: Rule, schema: pa.Schema, *, is_keeping: bool = False) -> None:
        self.rule, self.schema, self.fault, self.tally = rule, schema, "", Tally()
        self.columns: frozenset[str] = frozenset()

    def look(self, rows: Rows) -> None:
        """The schema says it."""

    def message(self, profile: TableProfile) -> str:
        """What the type is."""
        kind = self.schema.field(self.rule.column).type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        if {family(kind), str(plain), str(kind)} & set(self.rule.types):
            return ""
        return f"the column is {kind}, not {' or '.join(self.rule.types)}"


class Columns:
    """`columns`: their names, as a set (match = "set", "superset") or in order, or how many there are."""

    def __init__(self, rule: Rule, schema: pa.Schema, *, is_keeping: bool = False) -> None:
        self.rule, self.schema, self.fault, self.tally = rule, schema, "", Tally()
        self.columns: frozenset[str] = frozenset()

    def look(self, rows: Rows) -> None:
        """The schema says it."""

    def message(self, profile: TableProfile) -> str:
        """Which columns are missing or too many."""
        rule, names = self.rule, self.schema.names
        low = rule.min if isinstance(rule.min, float) else None
        high = rule.max if isinstance(rule.max, float) else None
        if (low is not None and len(names) < low) or (high is not None and len(names) > high):
            return f"{counted(len(names), 'column')}, not {_between(rule)}"
        if not rule.columns:
            return ""
        missing = [name for name in rule.columns if name not in names]
        extra = [name for name in names if name not in rule.columns] if rule.match != "superset" else []
        near = {name: nearest(name, [other for other in names if other not in rule.columns]) for name in missing}
        words = [f"{name} (did you mean {near[name]}?)" if near[name] else name for name in missing]
        said = [f"missing: {', '.join(words)}"] if missing else []
        said += [f"unexpected: {', '.join(extra)}"] if extra else []
        if not said and rule.match not in ("set", "superset") and list(rule.columns) != names:
            said = ["the columns stand in another order"]
        return "; ".join(said)


FILE_KINDS: Mapping[str, Callable[..., Question]] = {
    "order": Order,
    "statistic": Statistic,
    "distinct": Distinct,
    "type": Type,
    "columns": Columns,
}
