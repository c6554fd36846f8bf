"""Rules about a version as a whole: its keys, its times, how many rows it has, which columns.

Keys are compared exactly. The columns of a key are gathered in the pass over the new files, and read
again only from files that were accepted before; a version of many millions of rows is sorted out by
DuckDB within a limit of memory. Row numbers are those of the file that a finding names, from 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from noria.checks.evaluate import Batch
from noria.checks.facts import Finding
from noria.checks.findings import failed, passed
from noria.checks.rulecheck import RuleCheck, as_rule
from noria.checks.samples import with_samples
from noria.checks.scanning import source
from noria.checks.scanning.arrays import whole
from noria.checks.scanning.expression import Conditions, Expression, Unreadable, read
from noria.checks.scanning.hashing import Hasher, Hashes, hashes_of, met
from noria.checks.scanning.repeats import repeated, repeated_on_disk
from noria.checks.scanning.source import Part
from noria.checks.scanning.summary import TableProfile
from noria.checks.scanning.tally import EXAMPLES, ROWS, Places, Rows
from noria.checks.suites.rules import RowRule, Rule, Suite, TableRules
from noria.core.clock import duration, instant
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.words import counted, no_column, percent
from noria.data.versions import DatasetVersion, resolve
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")

__all__ = ["KeyWatch", "check_rows", "check_table", "key_finding", "keys_of", "row_counts"]

AHEAD = timedelta(days=1)
"""A time may be this far in the future of the wall clock: clocks and time zones differ."""
KEY_ROWS_MAX = 50_000_000
"""Keys of larger versions are compared on disk."""


@frozen(kw_only=True)
class Key:
    """Columns that name a row: how findings call the rule, and how many rows may share their key.

    `are_nulls_keys` is for the key of the table: every row has one. Of another, rows without any value are not
    asked; a new file that has nothing but such rows fails, unless `allow_empty`.
    """

    columns: tuple[str, ...]
    rule: str
    severity: str
    share: float = 0.0
    are_nulls_keys: bool = False
    allow_empty: bool = False


class KeyWatch:
    """Hashes the key of each row of a new file, and sees whether there are values at all.

    `without` is the first row that has no value in a column of the key, `rows` how many were looked at.
    """

    def __init__(self, key: Key, schema: pa.Schema, *, is_gathering: bool = True) -> None:
        self.key = key
        self.names = frozenset(key.columns) & frozenset(schema.names)
        self.hashes: list[Hashes] = []
        self.rows = 0
        self.has_values = False
        self.without: int | None = None
        self._hasher = Hasher(key.columns) if is_gathering else None

    @property
    def columns(self) -> frozenset[str]:
        """The columns of the key that the file has."""
        return self.names

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """None."""
        return ()

    def look(self, rows: Rows) -> None:
        """Hash the keys of a batch."""
        self.rows += rows.count
        for name in self.names:
            chunk = rows[name]
            self.has_values |= chunk.nulls < chunk.rows
            if chunk.nulls and self.without is None:
                self.without = rows.first + int(np.argmax(chunk.missing))
        if self._hasher is not None:
            self.hashes.append(self._hasher.hash(rows.table(sorted(self.names))))

    def findings(self, profile: TableProfile, faults: Mapping[str, str]) -> list[Finding]:
        """None here: a key is judged over the whole version."""
        return []

    def broken(self) -> list[Places]:
        """None here."""
        return []


def keys_of(suite: Suite) -> list[Key]:
    """Every key of a suite: the table's, those of unique columns, and the composite ones."""
    severity = suite.table.severity
    found = []
    if suite.table.key:
        found.append(Key(columns=(suite.table.key,), rule="unique", severity=severity, are_nulls_keys=True))
    for name, rules in suite.columns.items():
        if rules.unique and name != suite.table.key:
            is_told = rules.nulls is not None  # a column without values is then the concern of that rule
            found.append(Key(columns=(name,), rule="unique", severity=rules.severity, allow_empty=is_told))
    for rule in suite.rules:
        if rule.rule == "unique":
            found.append(
                Key(
                    columns=rule.columns or (rule.column,),
                    rule=rule.called,
                    severity=rule.severity,
                    share=rule.share,
                    allow_empty=rule.allow_empty,
                )
            )
    return found


def key_finding(
    ws: Workspace, version: DatasetVersion, key: Key, new: Mapping[str, KeyWatch], parts: Sequence[Part]
) -> tuple[Finding, dict[str, Places]]:
    """Every row has a key of its own, also against the files that were accepted before.

    Gives the finding and, by new file, the rows that share their key.
    """
    column = ", ".join(key.columns)
    missing = next((name for name in key.columns if name not in version.column_names()), None)
    if missing is not None:
        said = f"cannot be evaluated: {no_column(missing, version.column_names())}"
        return failed(key.rule, column, said, count=version.rows, total=version.rows, severity=key.severity), {}
    unasked = next((file for file, watch in new.items() if watch.rows and not watch.has_values), None)
    if unasked is not None and not key.allow_empty and not key.are_nulls_keys:
        what = "the column has no values" if len(key.columns) == 1 else "the columns have no values"
        said = f"cannot be evaluated: {what} (allow_empty = true lets that pass)"
        count = new[unasked].rows
        return failed(key.rule, column, said, count=count, total=count, severity=key.severity, file=unasked), {}
    ordered = [part for part in parts if part.file in new] + [part for part in parts if part.file not in new]
    if version.rows > KEY_ROWS_MAX:
        count, by_file = repeated_on_disk(
            [part.path for part in ordered], len(new), key.columns, ws.project.state / "cache", key.are_nulls_keys
        )
        rows = {part.file: places for part, places in zip(ordered, by_file, strict=False) if len(places)}
    else:
        count, rows = _in_memory(key, new, ordered)
    if count <= key.share * version.rows:
        return _told(key, column, new, version)
    message = f"{count:,} rows share their key with another row"
    if key.share:
        message += f" ({percent(count / version.rows)}, at most {percent(key.share)})"
    first = next((part for part in ordered if part.file in rows), None)
    if first is None:
        return failed(key.rule, column, message, count=count, total=version.rows, severity=key.severity), {}
    places = rows[first.file]
    others = [f"{place[0]} of {file}" for file, place in rows.items() if file != first.file]
    if others:
        message += f": row {places[0]} of {first.file}, row {', row '.join(others[:2])}" + (" …" if others[2:] else "")
    shown = source.columns_of(first, key.columns).take(whole(places[:50]))
    texts = dict.fromkeys(", ".join(map(str, row.values())) for row in shown.to_pylist())
    found = failed(
        key.rule,
        column,
        message,
        count=len(places),
        total=version.rows,
        severity=key.severity,
        file=first.file,
        rows=[int(place) for place in places[:ROWS]],
        examples=list(texts)[:EXAMPLES],
    )
    return with_samples([found], {0: key.columns}, first, "")[0], rows


def _told(
    key: Key, column: str, new: Mapping[str, KeyWatch], version: DatasetVersion
) -> tuple[Finding, dict[str, Places]]:
    """No two rows share a key. If every row must have one, the row without is named: a single null repeats nothing."""
    for file, watch in new.items() if key.are_nulls_keys else ():
        if watch.without is not None:
            said, places = "a row has no key", np.array([watch.without], np.int64)
            found = failed(
                key.rule,
                column,
                said,
                count=1,
                total=version.rows,
                severity=key.severity,
                file=file,
                rows=[watch.without],
            )
            return found, {file: places}
    return passed(key.rule, column, total=version.rows, severity=key.severity), {}


def _in_memory(key: Key, new: Mapping[str, KeyWatch], ordered: Sequence[Part]) -> tuple[int, dict[str, Places]]:
    """Hashes first; where they meet, the values themselves."""
    hashes = []
    for part in ordered:
        watch = new.get(part.file)
        hashes.append(np.concatenate(watch.hashes) if watch is not None and watch.hashes else _read(part, key))
    suspects = met(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
    if not len(suspects):
        return 0, {}
    places = [np.flatnonzero(np.isin(mine, suspects)) for mine in hashes]
    tables = [
        source.columns_of(part, key.columns).take(whole(at))
        for part, at in zip(ordered, places, strict=True)
        if len(at)
    ]
    together = pa.concat_tables(tables, promote_options="permissive")
    again = repeated([together[name] for name in key.columns], are_nulls_equal=key.are_nulls_keys)
    rows: dict[str, Places] = {}
    first = 0
    for part, at in zip(ordered, places, strict=True):
        mine = at[again[first : first + len(at)]]
        first += len(at)
        if part.file in new and len(mine):
            rows[part.file] = mine
    return int(np.count_nonzero(again)), rows


def _read(part: Part, key: Key) -> Hashes:
    return hashes_of(part.path, key.columns)


def check_table(
    ws: Workspace, version: DatasetVersion, suite: Suite, new: Sequence[TableProfile], *, accepted_rows: int
) -> list[Finding]:
    """Row count, growth, columns and time of a version; `new` are the files that were not accepted before."""
    rules = suite.table
    findings = [_count(version, rules, accepted_rows)]
    if rules.max_rows is not None or rules.grow is not None:
        findings.append(_growth(version, rules, accepted_rows))
    if rules.closed:
        findings.append(_closed(version, suite))
    if rules.time:
        findings += [_time(version, rules, profile) for profile in new]
    if rules.time and ws.project.clock == "wall":
        findings.append(_ahead(ws, version, rules))
    if rules.fresh:
        findings.append(_fresh(ws, version, rules))
    return findings


def row_counts(ws: Workspace, version: DatasetVersion, rules: Sequence[Rule]) -> list[Finding]:
    """The rules about how many rows a version has, by number or as another data set."""
    found = []
    for rule in rules:
        if rule.rule != "rows":
            continue
        low, high = rule.min, rule.max
        if rule.dataset:
            other = resolve(ws, rule.dataset)
            low = high = float(other.rows)
        numbers = [value for value in (low, high) if value is not None]
        if any(not isinstance(value, float) for value in numbers):
            found.append(_of_rows(rule.called, rule.severity, version, "cannot be evaluated: no number", version.rows))
            continue
        is_low = isinstance(low, float) and version.rows < low
        is_high = isinstance(high, float) and version.rows > high
        wanted = _bound(low) if low == high else f"{_bound(low)} … {_bound(high)}"
        message = f"{counted(version.rows, 'row')}, not {wanted}" + (f" as {rule.dataset} has" if rule.dataset else "")
        said = message if is_low or is_high else ""
        found.append(_of_rows(rule.called, rule.severity, version, said, version.rows))
    return found


def _bound(number: float | str | None) -> str:
    if not isinstance(number, float):
        return number or ""
    return f"{number:,.0f}" if number.is_integer() else f"{number:g}"


def check_rows(rule: RowRule, batch: Batch) -> Finding:
    """An SQL condition on the rows of one table in memory; one that cannot be evaluated fails."""
    made = as_rule(rule)
    try:
        found: Expression | Unreadable = read(rule.where, batch.table.column_names)
    except Unreadable as fault:
        found = fault
    check = RuleCheck(made, batch.table.schema, {rule.where: found})
    rows = Rows(batch.table, 0)
    faults: Mapping[str, str] = {}
    if isinstance(found, Expression):
        conditions = Conditions([found], batch.table.schema)
        rows.said = conditions.evaluate(batch.table)
        faults = conditions.faults
        conditions.close()
        check.look(rows)
    profile = TableProfile(file=batch.file, digest="", rows=batch.table.num_rows, time_min="", time_max="", columns={})
    return check.findings(profile, faults)[0]


def _count(version: DatasetVersion, rules: TableRules, accepted_rows: int) -> Finding:
    least = max(rules.min_rows, 1, int(rules.keep * accepted_rows))
    message = ""
    if version.rows < least:
        message = f"{counted(version.rows, 'row')}, at least {least:,}{_accepted(accepted_rows)}"
    return _of_rows("rows", rules.severity, version, message, least - version.rows)


def _growth(version: DatasetVersion, rules: TableRules, accepted_rows: int) -> Finding:
    limits = [] if rules.max_rows is None else [rules.max_rows]
    if rules.grow is not None and accepted_rows:
        limits.append(int(rules.grow * accepted_rows))
    if not limits or version.rows <= min(limits):
        return passed("growth", "", total=version.rows, severity=rules.severity)
    message = f"{counted(version.rows, 'row')}, at most {min(limits):,}{_accepted(accepted_rows)}"
    return _of_rows("growth", rules.severity, version, message, version.rows - min(limits))


def _accepted(rows: int) -> str:
    return f" (the last accepted version has {rows:,})" if rows else ""


def _of_rows(rule: str, severity: str, version: DatasetVersion, message: str, count: int) -> Finding:
    """A rule about how many rows there are; it passes if there is nothing to say."""
    if not message:
        return passed(rule, "", total=version.rows, severity=severity)
    return failed(rule, "", message, count=count, total=version.rows, severity=severity)


def _closed(version: DatasetVersion, suite: Suite) -> Finding:
    known = _ruled(suite, version.column_names())
    extra = [name for name in version.column_names() if name not in known]
    message = ""
    if extra:
        message = f"{counted(len(extra), 'column')} without rules: {', '.join(extra[:8])}"
        message += " …" if len(extra) > 8 else ""
    return _of_rows("columns", suite.table.severity, version, message, version.rows)


def _ruled(suite: Suite, names: Sequence[str]) -> set[str]:
    """The columns that a rule is about; a `where` that only says for which rows another is asked rules none."""
    found = {suite.table.key, suite.table.time, *suite.columns}
    for rule in (*map(as_rule, suite.rows), *suite.rules):
        found |= {rule.column, *rule.columns}
        if rule.condition:
            try:
                found |= set(read(rule.condition, names).columns)
            except Unreadable:
                continue  # the rule itself fails, and says why
    return found


def _time(version: DatasetVersion, rules: TableRules, profile: TableProfile) -> Finding:
    """Every row has a time. The rows without one are named by the rule about nulls, where there is one."""
    column = rules.time
    mine = profile.columns.get(column)
    message, count = "", 0
    if mine is None:
        message, count = f"cannot be evaluated: {no_column(column, profile.columns)}", profile.rows
    elif mine.nulls:
        message, count = counted(mine.nulls, "row has no time", "rows have no time"), mine.nulls
    if not message:
        return passed("time", column, total=profile.rows, severity=rules.severity, file=profile.file)
    return failed("time", column, message, count=count, total=profile.rows, severity=rules.severity, file=profile.file)


def _ahead(ws: Workspace, version: DatasetVersion, rules: TableRules) -> Finding:
    """No row is from the future. Only under a wall clock: a replayed history has no future of its own."""
    allowed = duration(rules.ahead) if rules.ahead else AHEAD
    late = version.time_max if version.time == rules.time else ""
    far = instant(late) - ws.clock.now() if late else timedelta()
    if far <= allowed:
        return passed("time range", rules.time, total=version.rows, severity=rules.severity)
    days = math.ceil(far / timedelta(days=1))
    end = f"further ahead than {rules.ahead}" if rules.ahead else "after tomorrow"
    edit = f'[table] ahead = "{days}d" in checks/{version.name}.toml'
    message = f"times reach {late[:19]}, {end}; where that is right: {edit}"
    return failed("time range", rules.time, message, count=1, total=version.rows, severity=rules.severity)


def _fresh(ws: Workspace, version: DatasetVersion, rules: TableRules) -> Finding:
    """The newest time is young enough. It fails if nothing says how old the data are."""
    message = ""
    if not rules.time:
        message = "cannot be evaluated: [table] names no time column"
    elif version.time != rules.time or not version.time_max:
        message = f"cannot be evaluated: {version.ref} does not say that {rules.time!r} is its time"
    elif ws.project.clock == "wall" and ws.clock.now() - instant(version.time_max) > duration(rules.fresh):
        message = f"the newest time is {version.time_max[:19]}, older than {rules.fresh}"
    if not message:
        return passed("fresh", rules.time, total=version.rows, severity=rules.severity)
    return failed("fresh", rules.time, message, count=version.rows, total=version.rows, severity=rules.severity)
