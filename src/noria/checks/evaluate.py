"""Rules of one column against one file: pure functions from a column and its profile to findings.

Each rule has a principle, so that seasons pass and faults do not:

- type: a column is there and is a number, text, bool or time, as in the reference.
- nulls: at most the agreed share, beyond what chance gives a small file (three standard errors).
- nulls_when: missing values have a reason; where the reason is absent, they are hardly missing.
- range: hard bounds (a share between 0 and 1, a ceiling that many rows touch), else no value
  further outside of everything accepted than three times the reference's own tail.
- resolution: values stay on the lattice of the reference (see `lattice`), neither off nor coarser.
- unit: quantiles within three spreads of the reference or the last accepted file, and no known
  conversion whose undoing brings the file several times nearer (see `units`).
- levels: at most the agreed share of rows with a text that the reference did not have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from noria.checks import units
from noria.checks.facts import Finding
from noria.checks.lattice import Lattice, off_lattice
from noria.checks.profile import ColumnProfile, TableProfile, floats
from noria.checks.rules import ColumnRules, When
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
    Mask = Any
pc = lazy("pyarrow.compute")

__all__ = ["EXAMPLES", "MIN_ROWS", "ROWS", "Batch", "check_column", "holds", "most_by_chance", "rejected"]

ROWS = 10
EXAMPLES = 5
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
_LIVELY = 3
"""A column with this many distinct quantiles does not become a constant by itself."""
_SIGMAS = 3.0


@dataclass(frozen=True, slots=True)
class Batch:
    """One file: its rows, its profile, and the profile of the accepted file nearest before it."""

    file: str
    table: pa.Table
    profile: TableProfile
    accepted: TableProfile | None = None


def check_column(name: str, rules: ColumnRules, batch: Batch) -> list[Finding]:
    """Every rule of a column on one file, passed or failed. A missing column fails its one rule."""
    if name not in batch.table.column_names:
        return [_failed("type", name, rules, batch, message="the column is missing")]
    profile = batch.profile.columns[name]
    if rules.type and profile.family != rules.type and not (profile.family == "null" and rules.nulls is not None):
        there = "has no values" if profile.family == "null" else f"is {profile.family} ({profile.type})"
        return [_failed("type", name, rules, batch, message=f"the column {there}, not {rules.type}")]
    findings = [_passed("type", name, rules, batch)] if rules.type else []
    findings += _nulls(name, rules, batch)
    if profile.family == "number" and profile.values:
        findings += _numbers(name, rules, batch)
    if profile.family == "text" and rules.levels:
        findings.append(_levels(name, rules, batch))
    if rules.unique:
        findings.append(_unique(name, rules, batch))
    return findings


def most_by_chance(share: float, rows: int) -> float:
    """The count that a true share of rows exceeds by chance less than about once in a thousand files."""
    return share * rows + _SIGMAS * math.sqrt(max(share * (1 - share), 0.0) * rows)


def holds(when: When, table: pa.Table) -> Mask:
    """For which rows a condition on another column is true; null is not. Shape (n_rows,)."""
    values = table[when.column]
    if when.sign == "present":
        return _numpy(pc.is_valid(values))
    if when.sign == "in":
        texts = values.cast(pa.string()) if not pa.types.is_string(values.type) else values
        return _numpy(pc.is_in(texts, value_set=pa.array(list(when.levels), pa.string())))
    numbers = floats(values)
    with np.errstate(invalid="ignore"):
        return numbers >= when.bound if when.sign == ">=" else numbers <= when.bound


def _nulls(name: str, rules: ColumnRules, batch: Batch) -> Iterator[Finding]:
    profile = batch.profile.columns[name]
    if rules.nulls is not None:
        if profile.nulls > most_by_chance(rules.nulls, profile.rows):
            missing = _missing(batch.table[name])
            message = f"null in {_percent(profile.null_share)} of rows (at most {_percent(rules.nulls)})"
            yield rejected(batch, missing, rule="nulls", column=name, severity=rules.severity, message=message)
        else:
            yield _passed("nulls", name, rules, batch)
    if rules.when and rules.nulls_when is not None:
        yield _nulls_when(name, rules, rules.nulls_when, batch)


def _nulls_when(name: str, rules: ColumnRules, most: float, batch: Batch) -> Finding:
    when = When.read(rules.when)
    if when.column not in batch.table.column_names:
        return _failed("nulls when", name, rules, batch, message=f"cannot be evaluated: no column {when.column!r}")
    if batch.profile.columns[when.column].family != "number" and when.sign in (">=", "<="):
        return _failed("nulls when", name, rules, batch, message=f"cannot be evaluated: {when.column!r} is no number")
    where = holds(when, batch.table)
    among = int(where.sum())
    missing = where & _missing(batch.table[name])
    if among < MIN_ROWS or int(missing.sum()) <= most_by_chance(most, among):
        return _passed("nulls when", name, rules, batch)
    share = _percent(int(missing.sum()) / among)
    message = f"null in {share} of the rows where {rules.when} (at most {_percent(most)})"
    return rejected(
        batch, missing, rule="nulls when", column=name, severity=rules.severity, message=message, total=among
    )


def _numbers(name: str, rules: ColumnRules, batch: Batch) -> Iterator[Finding]:
    profile = batch.profile.columns[name]
    if profile.infinite:
        values = floats(batch.table[name])
        yield rejected(
            batch, np.isinf(values), rule="range", column=name, severity=rules.severity, message="values are infinite"
        )
    before = batch.accepted.columns.get(name) if batch.accepted else None
    bases = [base for base in (_reference(rules), before) if base is not None and base.quantiles]
    if rules.min is not None or rules.max is not None or (rules.unit and bases):
        yield _range(name, rules, batch, bases)
    if rules.step is not None:
        yield _resolution(name, rules, Lattice(rules.step, rules.offset), batch, before)
    if rules.unit and bases:
        yield _unit(name, rules, batch, bases)


def _range(name: str, rules: ColumnRules, batch: Batch, bases: Sequence[ColumnProfile]) -> Finding:
    profile = batch.profile.columns[name]
    low, high = _bounds(rules, bases)
    if profile.low >= low and profile.high <= high:
        return _passed("range", name, rules, batch)
    values = floats(batch.table[name])
    with np.errstate(invalid="ignore"):
        outside = (values < low) | (values > high)
        is_hard = bool(np.any(values < _or(rules.min, -math.inf)) or np.any(values > _or(rules.max, math.inf)))
    count = int(outside.sum())
    is_slip = not is_hard and count <= max(1.0, STRAYS * profile.values)
    message = f"{count} values outside of {_number(low)} … {_number(high)}"
    return rejected(
        batch, outside, rule="range", column=name, severity="warn" if is_slip else rules.severity, message=message
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


def _resolution(name: str, rules: ColumnRules, lattice: Lattice, batch: Batch, before: ColumnProfile | None) -> Finding:
    profile = batch.profile.columns[name]
    values = floats(batch.table[name])
    with np.errstate(invalid="ignore"):
        off = off_lattice(values, lattice) & np.isfinite(values)
    unit = f"multiples of {_number(lattice.step)}" + (f" from {_number(lattice.offset)}" if lattice.offset else "")
    if lattice == Lattice(1.0, 0.0):
        unit = "whole numbers"
    count = int(off.sum())
    if count > most_by_chance(OFF_LATTICE, profile.values):
        guess = _guess(name, rules, batch, before)
        message = f"{_percent(count / profile.values)} of values are not {unit}, as they were{guess}"
        return rejected(batch, off, rule="resolution", column=name, severity=rules.severity, message=message)
    coarse = profile.lattice
    is_telling = profile.values >= MIN_ROWS and profile.distinct >= _MANY_STEPS
    if coarse is None or coarse.step < 1.5 * lattice.step or not is_telling:
        return _passed("resolution", name, rules, batch)
    known = [base for base in (_reference(rules), before) if base is not None]
    told = [value for base in known for value in (*base.quantiles, *base.body) if value != 0.0]
    if not told or float(off_lattice(np.array(told), coarse).mean()) <= 1 - COARSE:
        return _passed("resolution", name, rules, batch)
    message = f"all values are multiples of {_number(coarse.step)}, not of {_number(lattice.step)} as they were"
    message += _guess(name, rules, batch, before)
    return rejected(
        batch,
        np.isfinite(values) & (values != 0),
        rule="resolution",
        column=name,
        severity=rules.severity,
        message=message,
    )


def _unit(name: str, rules: ColumnRules, batch: Batch, bases: Sequence[ColumnProfile]) -> Finding:
    profile = batch.profile.columns[name]
    stick = units.yardstick(bases)
    told = stick.told(profile)
    if not told or not stick.homes:
        return _passed("unit", name, rules, batch)
    lattice = Lattice(rules.step, rules.offset) if rules.step is not None else None
    values = floats(batch.table[name])
    is_value = np.isfinite(values)
    is_lively = len(set(rules.typical)) >= _LIVELY and all(len(set(base.quantiles)) >= _LIVELY for base in bases)
    if profile.distinct == 1 and profile.values >= MIN_ROWS and is_lively and len(bases) > 1:
        return rejected(
            batch,
            is_value,
            rule="unit",
            column=name,
            severity=rules.severity,
            message="all values are the same, which they never were",
        )
    noise = 3.0 / math.sqrt(profile.values)
    conversion = None
    if stick.spread:
        far = stick.distance(told)
        if far > rules.drift + noise and profile.values >= MIN_ROWS:
            known = stick.conversions(told, far / units.NEARER)
            conversion = next((c for c in known if units.explains(c, values[is_value & (values != 0)], lattice)), None)
    else:
        far = min(abs(told[2] - home[2]) / _life(home[2]) for home in stick.homes)
    if conversion is None and far <= SLACK + noise:
        return _passed("unit", name, rules, batch)
    last = bases[-1].body if stick.is_sparse and bases[-1].body else bases[-1].quantiles
    message = f"values are far from all that was accepted (median {_number(told[2])}, was {_number(last[2])})"
    if conversion is not None:
        message += f": {conversion.name}?"
    telling = is_value & (values != 0)
    return rejected(
        batch,
        telling if telling.any() else is_value,
        rule="unit",
        column=name,
        severity=rules.severity,
        message=message,
    )


def _width(base: ColumnProfile) -> float:
    """The scale of a column: its spread; of a constant, fifteen times itself (a month, a year move on)."""
    return base.spread or _life(base.high)


def _life(constant: float) -> float:
    return 15 * max(abs(constant), 1.0)


def _guess(name: str, rules: ColumnRules, batch: Batch, before: ColumnProfile | None) -> str:
    """`: degrees Fahrenheit became Celsius?` if a known conversion explains the file, else nothing."""
    bases = [base for base in (_reference(rules), before) if base is not None and base.quantiles]
    if not bases:
        return ""
    stick = units.yardstick(bases)
    told = stick.told(batch.profile.columns[name])
    if not told or not stick.spread:
        return ""
    known = stick.conversions(told, stick.distance(told) / 2)
    return f": {known[0].name}?" if known else ""


def _levels(name: str, rules: ColumnRules, batch: Batch) -> Finding:
    profile = batch.profile.columns[name]
    most = rules.new_levels or 0.0
    values = batch.table[name]
    texts = values.cast(pa.string()) if not pa.types.is_string(values.type) else values
    known = pa.array(list(rules.levels), pa.string())
    new = _numpy(pc.and_(pc.is_valid(texts), pc.invert(pc.is_in(texts, value_set=known))))
    count = int(new.sum())
    if count <= most_by_chance(most, profile.values):
        return _passed("levels", name, rules, batch)
    share, known_count = _percent(count / profile.values), len(rules.levels)
    message = f"{share} of values are not among the {known_count} known (at most {_percent(most)})"
    return rejected(batch, new, rule="levels", column=name, severity=rules.severity, message=message)


def _unique(name: str, rules: ColumnRules, batch: Batch) -> Finding:
    values = batch.table[name]
    ids = values.combine_chunks().dictionary_encode()
    codes = ids.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    counts = np.bincount(codes[codes >= 0], minlength=len(ids.dictionary))
    again = (codes >= 0) & (counts[np.maximum(codes, 0)] > 1) if len(counts) else np.zeros(len(codes), bool)
    if not again.any():
        return _passed("unique", name, rules, batch)
    return rejected(
        batch,
        again,
        rule="unique",
        column=name,
        severity=rules.severity,
        message=f"{int(again.sum())} rows share a value",
    )


def rejected(
    batch: Batch, broken: Mask, *, rule: str, column: str, severity: str, message: str, total: int = 0
) -> Finding:
    """A finding that failed, with its count, first rows of the file and examples."""
    rows = np.flatnonzero(broken)
    examples: list[str] = []
    if column in batch.table.column_names and len(rows):
        found = batch.table[column].take(rows[: ROWS * 5]).to_pylist()
        examples = list(dict.fromkeys("null" if value is None else str(value) for value in found))[:EXAMPLES]
    return Finding(
        rule=rule,
        column=column,
        passed=False,
        severity=severity,
        count=len(rows),
        total=total or batch.table.num_rows,
        message=message,
        rows=tuple(int(row) for row in rows[:ROWS]),
        examples=tuple(examples),
        file=batch.file,
    )


def _passed(rule: str, name: str, rules: ColumnRules, batch: Batch) -> Finding:
    return Finding(
        rule=rule, column=name, passed=True, severity=rules.severity, total=batch.table.num_rows, file=batch.file
    )


def _failed(rule: str, name: str, rules: ColumnRules, batch: Batch, *, message: str) -> Finding:
    total = batch.table.num_rows
    return Finding(
        rule=rule,
        column=name,
        passed=False,
        severity=rules.severity,
        count=total,
        total=total,
        message=message,
        rows=tuple(range(min(ROWS, total))),
        file=batch.file,
    )


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


def _missing(values: pa.ChunkedArray[Any]) -> Mask:
    return _numpy(pc.is_null(values, nan_is_null=True))


def _numpy(values: pa.ChunkedArray[Any] | pa.Array[Any]) -> Mask:
    found: Mask = np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False)).astype(bool)
    return found


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %" if share < 0.9995 or share >= 1 else ">99.9 %"


def _number(value: float) -> str:
    return f"{value:.6g}"
