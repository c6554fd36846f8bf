"""Rows that are judged on their own beside the files that they stand in: what came to a file, what an upsert brought.

Asked of them are the rules about shares and distributions, in which many good rows hide some bad ones; one that
no row may break has seen each of them in the whole. So few rows that they prove no share are left to the whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from noria.checks.evaluate import MIN_ROWS, ColumnCheck
from noria.checks.facts import Finding
from noria.checks.findings import is_failure
from noria.checks.grown import Upserted
from noria.checks.prepare import Prepared
from noria.checks.rulecheck import RuleCheck
from noria.checks.samples import with_samples
from noria.checks.scanning.scan import Shape, scan, shape_of
from noria.checks.scanning.source import Part
from noria.checks.scanning.summary import TableProfile
from noria.checks.scanning.tally import ROWS, Places, Watcher
from noria.core.lazy import lazy
from noria.data.rows.layout import AT_FILE, AT_ROW

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")

__all__ = ["check_new_rows", "check_upserted"]

_OF_WHOLE = "cannot be evaluated"
Look = Callable[[Sequence[Watcher]], Mapping[str, str]]


def check_new_rows(
    part: Part, shape: Shape, prepared: Prepared, before: TableProfile | None, *, begin: int, found: Sequence[Finding]
) -> tuple[list[Finding], list[Places]]:
    """What is wrong with the rows from `begin` on (0: all are new), and not with the whole; the rows that broke rules.

    Args:
        before: the profile of the accepted file of that name; found: the findings about the whole.
    """
    shape = dataclasses.replace(shape, rows=shape.rows - begin)
    if not begin or shape.rows < MIN_ROWS:
        return [], []
    findings: list[Finding] = []
    broken: list[Places] = []
    looked: dict[int, list[str]] = {}

    def look(watchers: Sequence[Watcher]) -> Mapping[str, str]:
        return scan(part.path, part.file, shape, watchers, begin=begin)

    for watcher, wrong in _wrong(prepared, shape, part.file, before, look):
        new = [each for each in wrong if not _is_told(each, found)]
        for each in new:
            looked[len(findings)] = sorted(watcher.columns, key=shape.schema.names.index)
            message = f"of the {shape.rows:,} rows that are new (from row {begin:,} on): {each.message}"
            findings.append(dataclasses.replace(each, message=message))
        broken += watcher.broken() if new else []
    return with_samples(findings, looked, part, prepared.suite.table.key), broken


def check_upserted(
    upsert: Upserted,
    parts: Sequence[Part],
    prepared: Prepared,
    befores: Mapping[str, TableProfile | None],
    found: Mapping[str, Sequence[Finding]],
) -> tuple[list[Finding], dict[str, list[Places]]]:
    """What is wrong with the rows of an upsert, and not with every file that they stand in; by file the rows.

    Args:
        parts: every file of rows of the version, in order.
        befores: by file what it is compared with; of the file that most of the rows stand in, that is theirs.
        found: by file the findings about it.
    """
    findings: list[Finding] = []
    broken: dict[str, list[Places]] = {}
    if len(upsert.at) < MIN_ROWS:
        return findings, broken
    whole = shape_of(upsert.path, upsert.path.name)
    schema = pa.schema([field for field in whole.schema if field.name not in (AT_FILE, AT_ROW)])
    shape = dataclasses.replace(whole, schema=schema, rows=len(upsert.at))
    files = [parts[number].file for number in np.unique(upsert.part)]
    main = parts[int(np.bincount(upsert.part).argmax())]

    def look(watchers: Sequence[Watcher]) -> Mapping[str, str]:
        return scan(upsert.path, main.file, shape, watchers, only=upsert.at)

    for watcher, wrong in _wrong(prepared, shape, main.file, befores.get(main.file), look):
        new = [each for each in wrong if not all(_is_told(each, found.get(file, ())) for file in files)]
        columns = sorted(watcher.columns, key=schema.names.index)
        for each in new:
            placed, part = _placed(each, upsert, parts, main)
            message = f"of the {shape.rows:,} rows that were upserted: {each.message}"
            made = dataclasses.replace(placed, message=message)
            findings += with_samples([made], {0: columns}, part, prepared.suite.table.key)
        for places in watcher.broken() if new else ():
            for number in np.unique(upsert.part[places]):
                mine = places[upsert.part[places] == number]
                broken.setdefault(parts[number].file, []).append(np.sort(upsert.row[mine]))
    return findings, broken


def _wrong(
    prepared: Prepared, shape: Shape, file: str, before: TableProfile | None, look: Look
) -> Iterator[tuple[Watcher, list[Finding]]]:
    """What fails among the rows that `look` shows, but for what can be asked of the whole alone."""
    watchers = [each for each in prepared.watchers(shape.schema, before) if _is_about_shares(each)]
    faults = look(watchers)
    profile = TableProfile(file=file, digest="", rows=shape.rows, time_min="", time_max="", columns={})
    for watcher in watchers:
        failed = [each for each in watcher.findings(profile, faults) if not each.passed]
        wrong = [each for each in failed if not each.message.startswith(_OF_WHOLE)]
        if wrong:
            yield watcher, wrong


def _is_told(finding: Finding, found: Sequence[Finding]) -> bool:
    """Whether the same is said of the whole, no milder: a few strays among many rows may be most of those that came."""
    same = [each for each in found if (each.rule, each.column) == (finding.rule, finding.column) and not each.passed]
    return any(is_failure(each) or not is_failure(finding) for each in same)


def _is_about_shares(watcher: Watcher) -> bool:
    """Whether many good rows could hide bad ones from a rule."""
    return isinstance(watcher, ColumnCheck) or (isinstance(watcher, RuleCheck) and watcher.rule.share > 0)


def _placed(finding: Finding, upsert: Upserted, parts: Sequence[Part], main: Part) -> tuple[Finding, Part]:
    """A finding that counts rows as the upsert has them, with those of one file as that has them; and the file."""
    if not finding.rows:
        return dataclasses.replace(finding, file=main.file), main
    places = np.array(finding.rows, np.int64)
    number = upsert.part[places[0]]
    rows = upsert.row[places[upsert.part[places] == number]]
    part = parts[int(number)]
    return dataclasses.replace(finding, file=part.file, rows=tuple(int(row) for row in np.sort(rows)[:ROWS])), part
