"""Rules about a version as a whole: its key, its times, how many rows, and SQL conditions on rows.

The files of a version are joined here and nowhere else in checks, and only the columns that a rule
names are read. Row numbers are those of the file that a finding names, from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from noria.checks.evaluate import Batch, rejected
from noria.checks.facts import Finding
from noria.checks.rules import RowRule, TableRules
from noria.core.clock import duration, instant, utc_text
from noria.core.lazy import lazy
from noria.data import formats, read
from noria.data.versions import DatasetVersion
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa
else:
    duckdb = lazy("duckdb")
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["check_rows", "check_table"]

AHEAD = timedelta(days=1)
"""A time may be this far in the future of the wall clock: clocks and time zones differ."""


def check_table(
    ws: Workspace, version: DatasetVersion, rules: TableRules, new: Sequence[Batch], *, accepted_rows: int
) -> list[Finding]:
    """Row count, growth, key and time of a version; `new` are the files that were not accepted before."""
    findings = [_count(version, rules, accepted_rows)]
    if rules.key:
        findings.append(_key(ws, version, rules, new))
    if rules.time:
        findings += [_time(rules, batch) for batch in new]
        if ws.project.clock == "wall":
            findings.append(_ahead(ws, version, rules))
            if rules.fresh:
                findings.append(_fresh(ws, version, rules))
    return findings


def check_rows(rule: RowRule, batch: Batch) -> Finding:
    """An SQL condition on the rows of one file; one that cannot be evaluated fails."""
    total = batch.table.num_rows
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.register("rows", batch.table)
        try:
            query = f"select coalesce(({rule.where})::boolean, true) as held from rows"
            held = connection.execute(query).fetchnumpy()["held"]
        except duckdb.Error as error:
            reason = str(error).splitlines()[0].partition("Candidate")[0][:160]
            return Finding(
                rule=rule.name,
                column="",
                passed=False,
                severity=rule.severity,
                count=total,
                total=total,
                message=f"cannot be evaluated: {reason}",
                file=batch.file,
            )
    broken = ~np.asarray(held).astype(bool)
    if int(broken.sum()) <= rule.share * total:
        return Finding(rule=rule.name, column="", passed=True, severity=rule.severity, total=total, file=batch.file)
    message = f"{int(broken.sum())} rows break: {rule.where}"
    return rejected(batch, broken, rule=rule.name, column="", severity=rule.severity, message=message)


def _count(version: DatasetVersion, rules: TableRules, accepted_rows: int) -> Finding:
    least = max(rules.min_rows, 1, int(rules.keep * accepted_rows))
    message = ""
    if version.rows < least:
        message = f"{version.rows:,} rows, at least {least:,}"
        if accepted_rows:
            message += f" (the last accepted version has {accepted_rows:,})"
    return Finding(
        rule="rows",
        column="",
        passed=not message,
        severity=rules.severity,
        count=least - version.rows if message else 0,
        total=version.rows,
        message=message,
    )


def _key(ws: Workspace, version: DatasetVersion, rules: TableRules, new: Sequence[Batch]) -> Finding:
    """Every row has a key of its own, also against the files that were accepted before."""
    if rules.key not in version.column_names():
        return _missing(version, rules, "unique", rules.key)
    keys = read.tables(ws, version, columns=[rules.key])
    parts = [part[rules.key] for part in keys.values() if rules.key in part.column_names]
    every = pa.chunked_array([chunk for part in parts for chunk in part.cast(parts[0].type).chunks], parts[0].type)
    if pc.count_distinct(every, mode="all").as_py() == len(every):
        return Finding(rule="unique", column=rules.key, passed=True, severity=rules.severity, total=version.rows)
    counts = pc.value_counts(every)
    again = counts.filter(pc.greater(pc.struct_field(counts, "counts"), 1))
    values = pc.struct_field(again, "values")
    count = pc.sum(pc.struct_field(again, "counts")).as_py()
    for batch in new:
        if rules.key in batch.table.column_names:
            column = batch.table[rules.key]
            shared = np.asarray(pc.is_in(column.cast(values.type), value_set=values).to_numpy())
            if shared.any():
                message = f"{count} rows share their key with another row"
                return rejected(
                    batch,
                    shared,
                    rule="unique",
                    column=rules.key,
                    severity=rules.severity,
                    message=message,
                    total=version.rows,
                )
    return Finding(
        rule="unique",
        column=rules.key,
        passed=False,
        severity=rules.severity,
        count=count,
        total=version.rows,
        message=f"{count} rows share their key with another row",
    )


def _time(rules: TableRules, batch: Batch) -> Finding:
    column = rules.time
    if column not in batch.table.column_names:
        return Finding(
            rule="time",
            column=column,
            passed=False,
            severity=rules.severity,
            count=batch.table.num_rows,
            total=batch.table.num_rows,
            message="the column is missing",
            file=batch.file,
        )
    missing = np.asarray(pc.is_null(batch.table[column]).to_numpy())
    if missing.any():
        message = f"{int(missing.sum())} rows have no time"
        return rejected(batch, missing, rule="time", column=column, severity=rules.severity, message=message)
    return Finding(
        rule="time", column=column, passed=True, severity=rules.severity, total=batch.table.num_rows, file=batch.file
    )


def _ahead(ws: Workspace, version: DatasetVersion, rules: TableRules) -> Finding:
    """No row is from the future. Only under a wall clock: a replayed history has no future of its own."""
    limit = utc_text(ws.clock.now() + AHEAD)
    late = version.time_max if version.time == rules.time else ""
    message = f"times reach {late[:19]}, after tomorrow" if late > limit else ""
    return Finding(
        rule="time range",
        column=rules.time,
        passed=not message,
        severity=rules.severity,
        count=1 if message else 0,
        total=version.rows,
        message=message,
    )


def _fresh(ws: Workspace, version: DatasetVersion, rules: TableRules) -> Finding:
    message = ""
    if version.time != rules.time or not version.time_max:
        message = f"cannot be evaluated: {version.ref} does not say that {rules.time!r} is its time"
    elif ws.clock.now() - instant(version.time_max) > duration(rules.fresh):
        message = f"the newest time is {version.time_max[:19]}, older than {rules.fresh}"
    return Finding(
        rule="fresh",
        column=rules.time,
        passed=not message,
        severity=rules.severity,
        count=version.rows if message else 0,
        total=version.rows,
        message=message,
    )


def _missing(version: DatasetVersion, rules: TableRules, rule: str, column: str) -> Finding:
    return Finding(
        rule=rule,
        column=column,
        passed=False,
        severity=rules.severity,
        count=version.rows,
        total=version.rows,
        message="the column is missing",
    )


def times_of(table: pa.Table, column: str, name: str) -> tuple[str, str]:
    """The range of a file's time column as UTC texts; empty if there is none. Raises: UsageError."""
    if not column or column not in table.column_names:
        return "", ""
    return formats.time_range(table[column], column, name)
