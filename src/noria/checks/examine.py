"""One examination of a version by a suite: only what is new is read, and compared with what was accepted.

The files of a version that were not in the last accepted one are checked each on its own, so one
broken month is not averaged away by eleven good ones; of a file that grew, the rows that came are
judged beside the whole of it, and so are those that an upsert replaced. The version as a whole is
checked for its keys, its times and its rows.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

import msgspec

from noria.checks import apart, grown, wholes
from noria.checks.evaluate import ColumnCheck
from noria.checks.facts import Finding
from noria.checks.findings import failed, is_failure
from noria.checks.kinds import leakage
from noria.checks.prepare import Prepared
from noria.checks.samples import with_samples
from noria.checks.scanning import source
from noria.checks.scanning.scan import Shape, scan, shape_of
from noria.checks.scanning.source import Part
from noria.checks.scanning.summary import TableProfile
from noria.checks.scanning.tally import Places
from noria.checks.suites.rules import is_empty
from noria.checks.wholes import KeyWatch
from noria.core.errors import UsageError
from noria.core.frozen import frozen, slotted
from noria.core.lazy import lazy
from noria.data.versions import DatasetVersion
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

__all__ = ["REPORT", "Examined", "StoredReport", "examine"]

REPORT = "checks/6"
"""Raised when rules come to mean something else: an older report is then not used again."""


class StoredReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report object: a version of a data set against a suite.

    `depends` are the versions of other data sets that rules looked at.
    """

    format: str
    dataset: str
    version: int
    tree: str
    suite: str
    baseline: str
    rows: int
    new_files: tuple[str, ...]
    passed: int
    findings: tuple[Finding, ...]
    profiles: tuple[TableProfile, ...]
    depends: tuple[str, ...] = ()


@frozen
class Examined:
    """The report, and (when asked for) the rows of each new file that broke an error rule, ascending."""

    report: StoredReport
    broken: dict[str, Places] = field(default_factory=dict)


@slotted
class _File:
    part: Part
    shape: Shape
    time: tuple[str, str]
    fault: str = ""


def examine(
    ws: Workspace,
    version: DatasetVersion,
    prepared: Prepared,
    *,
    suite: str,
    last: StoredReport | None,
    base: str,
) -> Examined:
    """Check the files that are new since the last accepted version, then the version as a whole.

    Args:
        suite: the digest of the suite's text. Under another than before, every file is looked at.
        last: the report on the last accepted version, and base its digest, or "".
    """
    rules = prepared.suite
    baseline = last if last is not None and last.suite == suite else None
    parts = source.parts(ws, version)
    known = {(profile.file, profile.digest): profile for profile in baseline.profiles} if baseline else {}
    new = [part for part in parts if (part.file, source.content_of(part)) not in known]
    profiles = {part.file: known[(part.file, source.content_of(part))] for part in parts if part not in new}
    grew = _Grown(ws, last, rules.table.time)
    accepted = list(profiles.values())
    if baseline:
        accepted += [profile for profile in baseline.profiles if profile not in accepted]
    prepared.is_hashing = version.rows <= wholes.KEY_ROWS_MAX
    findings: list[Finding] = []
    broken: dict[str, list[Places]] = {}
    told: dict[str, list[Finding]] = {}
    befores: dict[str, TableProfile | None] = {}
    watches: dict[str, dict[str, KeyWatch]] = {}
    made: list[TableProfile] = []
    for file in _in_order([_open(part, rules.table.time) for part in new]):
        before = _before(accepted, file)
        profile, found, rows, keys = _check_file(file, prepared, before)
        befores[profile.file] = grew.before(file.part) or before
        came, lately = apart.check_new_rows(
            file.part, file.shape, prepared, grew.before(file.part), begin=grew.begin(file.part), found=found
        )
        found, rows = [*found, *came], [*rows, *lately]
        told[profile.file] = found
        findings += found
        broken[profile.file] = rows
        for key, watch in keys.items():
            watches.setdefault(key, {})[profile.file] = watch
        profiles[profile.file] = profile
        made.append(profile)
        if not any(is_failure(finding) for finding in found):
            accepted.append(profile)
    for upsert in grew.upserts(version, parts):
        came, placed = apart.check_upserted(upsert, parts, prepared, befores, told)
        findings += came
        for name, places in placed.items():
            broken.setdefault(name, []).extend(places)
    findings += _whole(ws, version, prepared, made, watches, parts, broken, baseline.rows if baseline else 0)
    report = StoredReport(
        format=REPORT,
        dataset=version.name,
        version=version.version,
        tree=version.tree,
        suite=suite,
        baseline=base,
        rows=version.rows,
        new_files=tuple(profile.file for profile in made),
        passed=sum(finding.passed for finding in findings),
        findings=tuple(sorted((f for f in findings if not f.passed), key=_rank)),
        profiles=tuple(profiles[part.file] for part in parts),
        depends=prepared.depends,
    )
    return Examined(report, {file: _joined(rows) for file, rows in broken.items()} if prepared.is_keeping else {})


def _open(part: Part, time: str) -> _File:
    shape = shape_of(part.path, part.file)
    try:
        return _File(part, shape, source.time_span(part, time, shape.schema.names))
    except UsageError as error:
        return _File(part, shape, ("", ""), f"cannot be evaluated: {error.message}")


def _in_order(files: list[_File]) -> list[_File]:
    """By time where there is one, else by path: each file is compared with the accepted one before it."""
    return sorted(files, key=lambda file: (file.time[0], file.part.file))


def _before(accepted: Sequence[TableProfile], file: _File) -> TableProfile | None:
    """The accepted file that ends last before this one begins; failing that, the nearest in order."""
    if not accepted:
        return None
    ordered = sorted(accepted, key=lambda other: (other.time_min, other.file))
    earlier = [other for other in ordered if (other.time_min, other.file) <= (file.time[0], file.part.file)]
    return earlier[-1] if earlier else ordered[0]


def _check_file(
    file: _File, prepared: Prepared, before: TableProfile | None
) -> tuple[TableProfile, list[Finding], list[Places], dict[str, KeyWatch]]:
    part, shape = file.part, file.shape
    watchers = prepared.watchers(shape.schema, before)
    faults = scan(part.path, part.file, shape, watchers)
    columns = {each.name: each.profile for each in watchers if isinstance(each, ColumnCheck) and each.state is not None}
    profile = TableProfile(
        file=part.file,
        digest=source.content_of(part),
        rows=shape.rows,
        time_min=file.time[0],
        time_max=file.time[1],
        columns=columns,
    )
    keys = {_name(watch): watch for watch in watchers if isinstance(watch, KeyWatch)}
    if not shape.rows:
        said = "an empty file: no rule could be evaluated"
        return profile, [failed("rows", "", said, count=0, total=0, severity="warn", file=part.file)], [], keys
    findings: list[Finding] = []
    if file.fault:
        findings.append(failed("time", "", file.fault, count=shape.rows, total=shape.rows, file=part.file))
    looked: dict[int, list[str]] = {}
    for watcher in watchers:
        for finding in watcher.findings(profile, faults):
            looked[len(findings)] = sorted(watcher.columns, key=shape.schema.names.index)
            findings.append(finding)
    findings = with_samples(findings, looked, part, prepared.suite.table.key)
    return profile, findings, [rows for watcher in watchers for rows in watcher.broken()], keys


class _Grown:
    """The files that replace accepted ones of the same name, and the rows that upserts replaced."""

    def __init__(self, ws: Workspace, last: StoredReport | None, time: str) -> None:
        self._ws, self._last, self._time = ws, last, time
        self._profiles = {profile.file: profile for profile in last.profiles} if last else {}

    @functools.cached_property
    def parts(self) -> dict[str, Part]:
        """The files of rows of the accepted version by path; none if there is none, or they are not here any more."""
        last = self._last
        return grown.accepted_parts(self._ws, last.dataset, last.version, last.tree) if last is not None else {}

    def before(self, part: Part) -> TableProfile | None:
        """The profile of the accepted file of that name."""
        return self._profiles.get(part.file)

    def upserts(self, version: DatasetVersion, parts: Sequence[Part]) -> list[grown.Upserted]:
        """What upserts replaced since."""
        since = self._last.version if self._last is not None else 0
        folded = grown.upserted_before_compaction(self._ws, version, parts, self.parts, since)
        return folded + (grown.upserted(self._ws, parts, self.parts) if any(part.is_changed for part in parts) else [])

    def begin(self, part: Part) -> int:
        """The number of the first new row, 0 if all are new or nothing is known of that."""
        before = self.before(part)
        if before is None or part.is_changed:
            return 0  # rows that were updated stand anywhere
        return grown.begin_of_new(part, self.parts.get(part.file), self._time, before.time_max)


def _whole(
    ws: Workspace,
    version: DatasetVersion,
    prepared: Prepared,
    made: Sequence[TableProfile],
    watches: dict[str, dict[str, KeyWatch]],
    parts: Sequence[Part],
    broken: dict[str, list[Places]],
    accepted_rows: int,
) -> list[Finding]:
    suite = prepared.suite
    findings = wholes.check_table(ws, version, suite, made, accepted_rows=accepted_rows)
    for key in prepared.keys:
        watch = next((each for each in (watches.get(_named(key), {}),) if each), {})
        found, rows = wholes.key_finding(ws, version, key, watch, parts)
        findings.append(found)
        if is_failure(found):
            for file, places in rows.items():
                broken.setdefault(file, []).append(places)
    findings += wholes.row_counts(ws, version, prepared.rules)
    if suite.leakage is not None:
        found_all, leaked = leakage.check(ws, version, suite.leakage, parts, [profile.file for profile in made])
        findings += found_all
        for file, places in leaked.items():
            broken.setdefault(file, []).append(places)
    if is_empty(suite) and not prepared.functions:
        said = f"the suite has no rules: nothing was checked (noria data check {version.name} --infer)"
        findings.append(failed("suite", "", said, count=version.rows, total=version.rows))
    return findings


def _name(watch: KeyWatch) -> str:
    return _named(watch.key)


def _named(key: Any) -> str:
    return f"{key.rule} {key.columns}"


def _joined(rows: list[Places]) -> Places:
    return np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.int64)


def _rank(finding: Finding) -> tuple[bool, float, str, str]:
    return (finding.severity != "error", -finding.count, finding.column, finding.rule)
