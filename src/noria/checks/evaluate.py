"""Rules of one column against one file: what an inferred suite asks, looked at batch by batch.

Each rule has a principle, so that seasons pass and faults do not:

- missing column: a column with rules is there; if it is not, that is the one finding about it.
- no values: rules that look at values have some to look at, unless a rule says how many nulls may be.
- type: it is a number, text, bool or time, as in the reference; texts that are the reason are named.
- nulls: at most the agreed share, beyond what chance gives a small file (three standard errors).
- nulls_when: missing values have a reason; where the reason is absent, they are hardly missing.
- null run: not so many rows in a row without a value, least of all where it usually has one.
- usual values: what comes back all the time in the reference is not gone altogether (see `habits`).
- range: hard bounds (a share between 0 and 1, a ceiling that many rows touch), else no value
  further outside of everything accepted than three times the reference's own tail.
- floor: values below the end of the scale are a warning, and a fault where they are most of all.
- resolution: values stay on the lattice of the reference (see `lattice`), neither off nor coarser.
- unit: quantiles within three spreads of the reference or the last accepted file, and no known
  conversion whose undoing brings the file several times nearer (see `units`).
- levels: at most the agreed share of rows with a text that the reference did not have.
- shift: the distribution is no further from the reference's than was agreed, beyond chance.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from noria.checks import habits
from noria.checks.facts import Finding
from noria.checks.findings import failed, passed
from noria.checks.misfits import NAMES, misfits
from noria.checks.scanning import shift, units
from noria.checks.scanning.accumulate import NumberState, TextState, state_of
from noria.checks.scanning.arrays import Mask, mask, texts
from noria.checks.scanning.chunk import family
from noria.checks.scanning.expression import Expression
from noria.checks.scanning.lattice import Lattice, off_lattice
from noria.checks.scanning.repeats import repeated
from noria.checks.scanning.summary import ColumnProfile, TableProfile
from noria.checks.scanning.tally import EXAMPLES, ROWS, Places, Rows, Tally
from noria.checks.suites.rules import ColumnRules, When
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.words import counted, nearest, no_column, percent

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["EXAMPLES", "MIN_ROWS", "ROWS", "Batch", "ColumnCheck", "check_column", "holds", "most_by_chance"]

SLACK = 3.0
"""How many times the reference's own tail or spread a file may lie outside of all that was accepted."""
STRAYS = 0.001
"""The share of values that may lie further out than that: single slips are a warning, more is a fault."""
OFF_LATTICE = 0.01
COARSE = 0.5
"""A file whose values are all on a coarser lattice fails if less than this of the reference was on it."""
MIN_ROWS = 100
"""Fewer rows than this prove nothing about a share or a distribution."""
_MANY_STEPS = 5
"""That so many distinct values are all on a coarser lattice is no chance."""
_MOST = 0.5
"""A file with more than this share of its values below the floor fails: a sign was turned."""
_LIVELY = 3
"""A column with this many distinct quantiles does not become a constant by itself."""
_SIGMAS = 3.0


@frozen
class Batch:
    """One file in memory: its rows, its profile, and the profile of the accepted file nearest before it."""

    file: str
    table: pa.Table
    profile: TableProfile
    accepted: TableProfile | None = None


def check_column(name: str, rules: ColumnRules, batch: Batch) -> list[Finding]:
    """Every rule of a column on one file, passed or failed. A column that is not there fails once."""
    check = ColumnCheck(name, rules, batch.table.schema, batch.accepted)
    check.look(Rows(batch.table, 0))
    found = check.findings(batch.profile, {})
    if rules.unique and name in batch.table.column_names:
        tally = Tally()
        tally.add(repeated([batch.table[name]]), Rows(batch.table, 0), name)
        total = batch.table.num_rows
        message = f"{tally.count:,} rows share a value"
        found.append(
            tally.finding("unique", name, rules.severity, message, total=total, file=batch.file)
            if tally.count
            else passed("unique", name, total=total, severity=rules.severity, file=batch.file)
        )
    return found


def most_by_chance(share: float, rows: int) -> float:
    """The count that a true share of rows exceeds by chance less than about once in a thousand files."""
    return share * rows + _SIGMAS * math.sqrt(max(share * (1 - share), 0.0) * rows)


def holds(when: When, rows: Rows) -> Mask:
    """For which rows a condition on another column is true; null is not. Shape (n_rows,)."""
    chunk = rows[when.column]
    if when.sign == "present":
        return ~chunk.missing
    if when.sign == "in":
        known = texts(when.levels)
        if chunk.family == "text":
            return chunk.rows_of(mask(pc.is_in(chunk.levels[0], value_set=known)))
        return mask(pc.is_in(chunk.array.cast(pa.string()), value_set=known))
    numbers = chunk.floats
    with np.errstate(invalid="ignore"):
        return numbers >= when.bound if when.sign == ">=" else numbers <= when.bound


class ColumnCheck:
    """The rules of one column on one file. Also makes the column's profile, rules or none."""

    def __init__(
        self,
        name: str,
        rules: ColumnRules,
        schema: pa.Schema,
        accepted: TableProfile | None = None,
        *,
        reference: ColumnProfile | None = None,
        strangers: Sequence[str] = (),
        is_full: bool = False,
        is_keeping: bool = False,
    ) -> None:
        self._strangers = strangers
        self.name, self.rules, self.reference = name, rules, reference
        self.kinds = {field.name: field.type for field in schema}
        self.before = accepted.columns.get(name) if accepted else None
        self.bases = [b for b in (_reference(rules), self.before) if b is not None and b.quantiles]
        self.is_there = name in self.kinds
        self.family = family(self.kinds[name]) if self.is_there else ""
        self.when = When.read(rules.when) if rules.when and rules.nulls_when is not None else None
        self.run_when = When.read(rules.null_run_when) if rules.null_run_when else None
        self.silence = habits.Silence(is_keeping=is_keeping) if rules.null_run is not None else None
        is_ranked = bool(is_full or rules.unit or rules.step is not None or rules.shift is not None or rules.usual)
        self.state = state_of(self.kinds[name], self.family, is_ranked=is_ranked) if self.is_there else None
        self.bounds = _bounds(rules, self.bases) if self._has_range() else None
        self.is_hard = False
        self.among = 0
        self._known = texts(rules.levels) if rules.levels and self.family == "text" else None
        kept = ("nulls", "nulls when", "infinite", "range", "floor", "resolution", "levels", "type")
        self.tallies = {rule: Tally(is_keeping=is_keeping) for rule in kept} | {"any": Tally(), "telling": Tally()}
        self._failed: set[str] = set()

    @property
    def columns(self) -> frozenset[str]:
        """The column, and the one that its nulls depend on."""
        also = {when.column for when in (self.when, self.run_when) if when is not None}
        return frozenset(({self.name} | also) & self.kinds.keys())

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """None."""
        return ()

    def look(self, rows: Rows) -> None:
        """Take in a batch: the profile, and the rows that break a rule."""
        if self.state is None:
            return
        chunk = rows[self.name]
        self.state.add(chunk)
        tallies = self.tallies
        if self._type_fault():
            if self.family == "text":
                words, counts = chunk.levels
                odd = (counts > 0) & misfits(words, self.rules.type)
                if odd.any():
                    tallies["type"].add(chunk.rows_of(odd), rows, self.name)
            return
        if self.rules.nulls is not None and chunk.nulls:
            tallies["nulls"].add(chunk.missing, rows, self.name)
        if self.silence is not None and self._when_fault(self.run_when) is None:
            self._listen(rows, self.silence)
        if self._when_fault(self.when) is None and self.when is not None:
            where = holds(self.when, rows)
            self.among += int(np.count_nonzero(where))
            if chunk.nulls:
                tallies["nulls when"].add(where & chunk.missing, rows, self.name)
        if self.family == "number":
            self._look_at_numbers(rows)
        if self._known is not None:
            words, counts = chunk.levels
            new = (counts > 0) & ~mask(pc.is_in(words, value_set=self._known))
            if new.any():
                tallies["levels"].add(chunk.rows_of(new), rows, self.name)

    def _listen(self, rows: Rows, silence: habits.Silence) -> None:
        missing = rows[self.name].missing
        counted = np.arange(rows.count) if self.run_when is None else np.flatnonzero(holds(self.run_when, rows))
        silence.add(missing[counted], counted + rows.first)

    def _look_at_numbers(self, rows: Rows) -> None:
        chunk, tallies = rows[self.name], self.tallies
        is_ranked = isinstance(self.state, NumberState) and self.state.is_ranked
        points = chunk.points[0] if is_ranked else None
        values = chunk.floats
        least, most = (float(points[0]), float(points[-1])) if points is not None and len(points) else chunk.ends
        if math.inf in (-chunk.ends[0], chunk.ends[1]) and chunk.nulls < chunk.rows:
            tallies["infinite"].add(np.isinf(values), rows, self.name)
            finite = values[np.isfinite(values)]
            least, most = (float(finite.min()), float(finite.max())) if len(finite) else (math.inf, -math.inf)
        if self.bounds is not None and least <= most:
            low, high = self.bounds
            if least < low or most > high:
                with np.errstate(invalid="ignore"):
                    tallies["range"].add((values < low) | (values > high), rows, self.name)
            self.is_hard |= least < _or(self.rules.min, -math.inf) or most > _or(self.rules.max, math.inf)
        if self.rules.floor is not None and least < self.rules.floor:
            with np.errstate(invalid="ignore"):
                tallies["floor"].add(values < self.rules.floor, rows, self.name)
        if self.rules.step is not None and points is not None:
            lattice = Lattice(self.rules.step, self.rules.offset)
            if off_lattice(points, lattice).any():
                with np.errstate(invalid="ignore"):
                    off = off_lattice(chunk.floats, lattice) & np.isfinite(chunk.floats)
                tallies["resolution"].add(off, rows, self.name)
        is_shown = self.rules.unit or self.rules.step is not None or bool(self.rules.usual)
        if is_shown and not tallies["telling"].is_full:
            is_value = np.isfinite(chunk.floats)
            if not tallies["any"].is_full:
                tallies["any"].add(is_value, rows, self.name)
            tallies["telling"].add(is_value & (chunk.floats != 0), rows, self.name)

    @functools.cached_property
    def profile(self) -> ColumnProfile:
        """The profile of the column, when every batch was looked at. The column is there."""
        assert self.state is not None
        return self.state.profile()

    def findings(self, profile: TableProfile, faults: Mapping[str, str]) -> list[Finding]:
        """Every rule of the column, passed or failed."""
        self._file, self._total = profile.file, profile.rows
        if self.state is None:
            if self.rules == ColumnRules(severity=self.rules.severity):
                return []
            known = self._strangers if nearest(self.name, self._strangers, cutoff=0.65) else self.kinds
            return [self._all("missing column", no_column(self.name, known))]
        mine = self.profile
        fault = self._type_fault()
        if fault:
            return [self._type(fault)]
        if not mine.values and self.rules.nulls is None and self._asks_values():
            return [self._all("no values", "cannot be evaluated: the column has no values, and no rule allows nulls")]
        found = [self._passed("type")] if self.rules.type else []
        found += self._nulls(mine)
        found += [self._all(rule, f"cannot be evaluated: the column is {self.family}") for rule in self._unfit()]
        if self.family == "number" and mine.values:
            found += self._numbers(mine)
        if self._known is not None:
            found.append(self._levels(mine))
        if self.rules.shift is not None:
            found.append(self._shift(mine))
        return found

    def broken(self) -> list[Places]:
        """The rows that broke a rule which failed."""
        found = [self.tallies[rule].places() for rule in sorted(self._failed) if rule in self.tallies]
        return found + ([self.silence.rows()] if self.silence is not None and "null run" in self._failed else [])

    def _has_range(self) -> bool:
        has_base = self.rules.unit and bool(self.bases)
        return self.family == "number" and (self.rules.min is not None or self.rules.max is not None or has_base)

    def _asks_values(self) -> bool:
        """Whether a rule here looks at values; without any, and with no rule about nulls, it would say nothing."""
        rules = self.rules
        told = (rules.min, rules.max, rules.floor, rules.step, rules.shift)
        return any(each is not None for each in told) or bool(rules.unit or rules.usual or rules.levels)

    def _unfit(self) -> list[str]:
        """The rules that ask about numbers, or about texts, of a column that is neither. Of no values any may be."""
        rules = self.rules
        is_range = rules.min is not None or rules.max is not None
        told = {
            "range": ("number", is_range),
            "floor": ("number", rules.floor is not None),
            "resolution": ("number", rules.step is not None),
            "usual values": ("number", bool(rules.usual)),
            "unit": ("number", rules.unit),
            "levels": ("text", bool(rules.levels)),
        }
        return [rule for rule, (kind, is_asked) in told.items() if is_asked and self.family not in (kind, "null")]

    def _type_fault(self) -> str:
        rules = self.rules
        if not rules.type or self.family == rules.type or (self.family == "null" and rules.nulls is not None):
            return ""
        there = "has no values" if self.family == "null" else f"is {self.family} ({self.kinds[self.name]})"
        return f"the column {there}, not {rules.type}"

    def _type(self, fault: str) -> Finding:
        """The texts that are no number, time or bool; every row, where it is not for them."""
        tally, rules = self.tallies["type"], self.rules
        if not tally.count:
            return self._all("type", fault, rows=True)
        what = NAMES[rules.type]
        said = counted(tally.count, f"value is not written as {what}", f"values are not written as {what}")
        message = f"{fault}: {said} ({percent(tally.count / self._total)} of rows)"
        return tally.finding("type", self.name, rules.severity, message, total=self._total, file=self._file)

    def _when_fault(self, when: When | None) -> str | None:
        if when is None:
            return None
        if when.column not in self.kinds:
            return f"cannot be evaluated: {no_column(when.column, self.kinds)}"
        if when.sign in (">=", "<=") and family(self.kinds[when.column]) != "number":
            return f"cannot be evaluated: {when.column!r} is no number"
        return None

    def _nulls(self, mine: ColumnProfile) -> Iterator[Finding]:
        rules = self.rules
        if rules.nulls is not None:
            message = f"null in {percent(mine.null_share)} of rows (at most {percent(rules.nulls)})"
            yield self._judged("nulls", mine.nulls > most_by_chance(rules.nulls, mine.rows), message)
        if self.silence is not None:
            yield self._null_run(self.silence)
        if self.when is None or rules.nulls_when is None:
            return
        fault = self._when_fault(self.when)
        if fault:
            yield self._all("nulls when", fault)
            return
        if not self.among:
            yield self._unasked("nulls when", rules.when)
            return
        missing = self.tallies["nulls when"].count
        is_bad = missing > most_by_chance(rules.nulls_when, self.among)
        share = percent(missing / self.among) if self.among else ""
        message = f"null in {share} of the rows where {rules.when} (at most {percent(rules.nulls_when)})"
        severity = "warn" if self.among < MIN_ROWS else ""  # few rows prove no share, and do not pass unseen
        yield self._judged("nulls when", is_bad, message, severity=severity, total=self.among if is_bad else 0)

    def _null_run(self, silence: habits.Silence) -> Finding:
        fault = self._when_fault(self.run_when)
        if fault:
            return self._all("null run", fault)
        if not silence.counted:
            return self._unasked("null run", self.rules.null_run_when)
        most, rows = self.rules.null_run or 0, silence.rows()
        if silence.length <= most:
            return self._passed("null run")
        among = f", of those where {self.rules.null_run_when}" if self.run_when is not None else ""
        if self.rules.severity == "error":
            self._failed.add("null run")
        return failed(
            "null run",
            self.name,
            f"null in {silence.length:,} rows in a row{among} (at most {most:,})",
            count=silence.length,
            total=self._total,
            severity=self.rules.severity,
            file=self._file,
            rows=rows[:ROWS].tolist(),
        )

    def _numbers(self, mine: ColumnProfile) -> Iterator[Finding]:
        rules = self.rules
        if mine.infinite and rules != ColumnRules(severity=rules.severity):
            self._failed.add("infinite")
            yield self.tallies["infinite"].finding(
                "range", self.name, rules.severity, "values are infinite", total=self._total, file=self._file
            )
        if self.bounds is not None:
            yield self._range(mine, *self.bounds)
        if rules.floor is not None:
            yield self._floor(mine, rules.floor)
        if rules.step is not None:
            yield self._resolution(mine, Lattice(rules.step, rules.offset))
        if rules.usual:
            yield self._usual(mine)
        if rules.unit and self.bases:
            yield self._unit(mine)

    def _range(self, mine: ColumnProfile, low: float, high: float) -> Finding:
        count = self.tallies["range"].count
        is_slip = not self.is_hard and count <= max(1.0, STRAYS * mine.values)
        ends = f"{_number(low)} … {_number(high)}"
        message = counted(count, f"value is outside of {ends}", f"values are outside of {ends}")
        return self._judged("range", count > 0, message, severity="warn" if is_slip else "")

    def _floor(self, mine: ColumnProfile, floor: float) -> Finding:
        count = self.tallies["floor"].count
        is_most = count > most_by_chance(_MOST, mine.values)
        message = counted(count, f"value is below {_number(floor)}", f"values are below {_number(floor)}")
        message += f" ({percent(count / mine.values)}){': was the sign turned?' if is_most else ''}"
        return self._judged("floor", count > 0, message, severity="" if is_most else "warn")

    def _resolution(self, mine: ColumnProfile, lattice: Lattice) -> Finding:
        unit = f"multiples of {_number(lattice.step)}" + (f" from {_number(lattice.offset)}" if lattice.offset else "")
        if lattice == Lattice(1.0, 0.0):
            unit = "whole numbers"
        count = self.tallies["resolution"].count
        if count > most_by_chance(OFF_LATTICE, mine.values):
            message = f"{percent(count / mine.values)} of values are not {unit}, as they were{self._guess(mine)}"
            return self._judged("resolution", True, message)
        coarse = mine.lattice
        is_telling = mine.values >= MIN_ROWS and mine.distinct >= _MANY_STEPS
        if coarse is None or coarse.step < 1.5 * lattice.step or not is_telling:
            return self._passed("resolution")
        known = [base for base in (_reference(self.rules), self.before) if base is not None]
        told = [value for base in known for value in (*base.quantiles, *base.body) if value != 0.0]
        if not told or float(off_lattice(np.array(told), coarse).mean()) <= 1 - COARSE:
            return self._passed("resolution")
        message = f"all values are multiples of {_number(coarse.step)}, not of {_number(lattice.step)} as they were"
        return self._whole("resolution", message + self._guess(mine), mine)

    def _usual(self, mine: ColumnProfile) -> Finding:
        """Whether values that came back all the time are gone, and whether chance could do that."""
        assert isinstance(self.state, NumberState)
        rules = self.rules
        if not self.state.ranks.is_exact:
            return self._all("usual values", "cannot be evaluated: too many different values")
        points, weights = self.state.ranks.all()
        is_sparse = bool(rules.typical_nonzero)
        told = int(weights.sum() - (weights[points == 0].sum() if is_sparse else 0))
        known = zip(rules.usual, rules.usual_shares, strict=True)
        gone = [(value, share) for value, share in known if not np.isclose(points, value, rtol=1e-9, atol=0).any()]
        if not habits.is_gone([share for _, share in gone], len(rules.usual), told, rules.clump):
            return self._passed("usual values")
        share = sum(share for _, share in gone)
        names = ", ".join(_number(value) for value, _ in gone)
        of = "of the values that are not zero" if is_sparse else "of the values"
        message = f"never {names}, which were {percent(share)} {of}: rounded after a change of unit?"
        found = self._whole("usual values", message, mine)
        is_most = is_sparse or share >= sum(rules.usual_shares) / 2
        return found if is_most else dataclasses.replace(found, severity="warn")

    def _unit(self, mine: ColumnProfile) -> Finding:
        stick = units.yardstick(self.bases)
        told = stick.told(mine)
        if not told or not stick.homes:
            return self._passed("unit")
        rules = self.rules
        is_lively = len(set(rules.typical)) >= _LIVELY and all(len(set(b.quantiles)) >= _LIVELY for b in self.bases)
        if mine.distinct == 1 and mine.values >= MIN_ROWS and is_lively and len(self.bases) > 1:
            return self._whole("unit", "all values are the same, which they never were", mine, is_any=True)
        noise = 3.0 / math.sqrt(mine.values)
        conversion = None
        if stick.spread:
            far = stick.distance(told)
            if far > rules.drift + noise and mine.values >= MIN_ROWS:
                known = stick.conversions(told, far / units.NEARER)
                conversion = next((c for c in known if self._explains(c)), None)
        else:
            far = min(abs(told[2] - home[2]) / _life(home[2]) for home in stick.homes)
        if conversion is None and far <= SLACK + noise:
            return self._passed("unit")
        last = self.bases[-1].body if stick.is_sparse and self.bases[-1].body else self.bases[-1].quantiles
        message = f"values are far from all that was accepted (median {_number(told[2])}, was {_number(last[2])})"
        if conversion is not None:
            message += f": {conversion.name}?"
        return self._whole("unit", message, mine)

    def _explains(self, conversion: units.Conversion) -> bool:
        assert isinstance(self.state, NumberState)
        points, weights = self.state.ranks.all()
        is_body = points != 0
        lattice = Lattice(self.rules.step, self.rules.offset) if self.rules.step is not None else None
        return units.explains(conversion, points[is_body], weights[is_body], lattice)

    def _levels(self, mine: ColumnProfile) -> Finding:
        most, count = self.rules.new_levels or 0.0, self.tallies["levels"].count
        share = percent(count / mine.values) if mine.values else ""
        message = f"{share} of values are not among the {len(self.rules.levels)} known (at most {percent(most)})"
        return self._judged("levels", count > most_by_chance(most, mine.values), message)

    def _shift(self, mine: ColumnProfile) -> Finding:
        assert self.rules.shift is not None
        if self.reference is None:
            return self._all(
                "shift", "cannot be evaluated: no profile of the reference (noria data check NAME --infer)"
            )
        if not isinstance(self.state, NumberState | TextState) or self.reference.family != self.family:
            return self._all("shift", f"cannot be evaluated: the column is {self.family}, not {self.reference.family}")
        if not mine.values:
            return self._all("shift", "cannot be evaluated: the column has no values")
        far, chance = shift.distance(self.reference, self.state)
        message = f"the distribution is {far:.3f} from the reference's (at most {_number(self.rules.shift)})"
        found = self._judged("shift", far > self.rules.shift + chance, message)
        return found if found.passed else self._all("shift", message)

    def _guess(self, mine: ColumnProfile) -> str:
        """`: degrees Fahrenheit became Celsius?` if a known conversion explains the file, else nothing."""
        if not self.bases:
            return ""
        stick = units.yardstick(self.bases)
        told = stick.told(mine)
        if not told or not stick.spread:
            return ""
        known = stick.conversions(told, stick.distance(told) / 2)
        return f": {known[0].name}?" if known else ""

    def _judged(self, rule: str, is_bad: bool, message: str, *, severity: str = "", total: int = 0) -> Finding:
        if not is_bad:
            return self._passed(rule)
        severity = severity or self.rules.severity
        if severity == "error":
            self._failed.add(rule)
        tally = self.tallies.get(rule, Tally())
        return tally.finding(rule, self.name, severity, message, total=total or self._total, file=self._file)

    def _whole(self, rule: str, message: str, mine: ColumnProfile, *, is_any: bool = False) -> Finding:
        """A finding about all values; a few of those that are not zero are shown."""
        finite = mine.values - mine.infinite
        telling = finite - round(mine.zeros * finite)
        is_telling = telling > 0 and not is_any
        tally = self.tallies["telling" if is_telling else "any"]
        count = telling if is_telling else finite
        return tally.finding(
            rule, self.name, self.rules.severity, message, total=self._total, file=self._file, count=count
        )

    def _passed(self, rule: str) -> Finding:
        return passed(rule, self.name, total=self._total, severity=self.rules.severity, file=self._file)

    def _unasked(self, rule: str, when: str) -> Finding:
        """No row is as the rule's condition says. A calm day is no fault, so it is a warning; it does not pass."""
        return dataclasses.replace(
            self._all(rule, f"cannot be evaluated: there is no row where {when}"), severity="warn"
        )

    def _all(self, rule: str, message: str, *, rows: bool = False) -> Finding:
        """A finding about every row; what cannot be evaluated accuses none."""
        return failed(
            rule,
            self.name,
            message,
            count=self._total,
            total=self._total,
            severity=self.rules.severity,
            file=self._file,
            rows=range(min(ROWS, self._total)) if rows else (),
        )


def _bounds(rules: ColumnRules, bases: Sequence[ColumnProfile]) -> tuple[float, float]:
    """The hard bounds; where there are none, everything accepted and `SLACK` of its own tails beyond."""
    low, high = -math.inf, math.inf
    if rules.unit and bases:
        low = min(base.low - SLACK * max(_width(base), base.quantiles[0] - base.low) for base in bases)
        stick = units.yardstick(bases)
        high = max(_reach(base, is_log=stick.is_log) for base in bases)
    return _or(rules.min, low), _or(rules.max, high)


def _reach(base: ColumnProfile, *, is_log: bool) -> float:
    """How high a value may be: as far again beyond the highest as `SLACK` tails; long tails by their ratio."""
    if is_log:
        usual = (base.body or base.quantiles)[-1]
        return float(base.high * max(base.high / usual, math.e) ** SLACK)
    return base.high + SLACK * max(_width(base), base.high - base.quantiles[-1])


def _width(base: ColumnProfile) -> float:
    """The scale of a column: its spread; of a constant, fifteen times itself (a month, a year move on)."""
    return base.spread or _life(base.high)


def _life(constant: float) -> float:
    return 15 * max(abs(constant), 1.0)


def _reference(rules: ColumnRules) -> ColumnProfile | None:
    if not rules.typical or not rules.seen:
        return None
    low, high = rules.seen
    zeros = 1.0 if rules.typical.count(0.0) >= 2 else 0.0
    return ColumnProfile(
        family="number",
        type="",
        rows=0,
        nulls=0,
        low=low,
        high=high,
        zeros=zeros,
        quantiles=rules.typical,
        body=rules.typical_nonzero,
    )


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def _number(value: float) -> str:
    return f"{value:.6g}"
