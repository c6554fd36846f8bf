"""Run a suite on a version: only what is new is read, and it is compared with what was accepted.

The files of a version that were not in the last accepted one are checked each on its own, so one
broken month is not averaged away by eleven good ones; the version as a whole is checked for its
key, its times and its rows. A run appends one fact; its report keeps the findings and the profiles,
which are the memory that the next run compares with.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from noria.checks import records, wholes
from noria.checks.evaluate import Batch, check_column
from noria.checks.facts import ChecksFinished, Finding
from noria.checks.infer import suite_path
from noria.checks.profile import TableProfile, profile_table
from noria.checks.records import ChecksRecord
from noria.checks.rules import Suite, load
from noria.core.errors import GateClosed, NotFound
from noria.core.identity import Digest
from noria.core.verb import verb
from noria.data import formats, read
from noria.data.versions import DatasetVersion, resolve
from noria.store.tree import Entry, read_tree
from noria.store.workspace import Workspace

__all__ = ["ChecksReport", "StoredReport", "history", "latest", "require", "run", "stop_message"]

_REPORT = "checks/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksReport:
    """What a suite found on a version. `findings` are those that failed or warned, worst first.

    `passed`, `failed` and `warned` count rules on files; `new_files` are the files that were looked
    at, the others were accepted before. `report` is the digest of everything, with the profiles.
    """

    dataset: str
    version: int
    tree: str
    ok: bool
    passed: int
    failed: int
    warned: int
    findings: tuple[Finding, ...]
    report: str
    suite: str
    new_files: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def total(self) -> int:
        """How many rules were evaluated."""
        return self.passed + self.failed + self.warned


class StoredReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report object: a version of a data set against a suite."""

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


@verb(permission="checks.run", where="project")
def run(ws: Workspace, dataset: str) -> ChecksReport:
    """Check a version with its suite. The same version, suite and past give the stored report again.

    Raises: NotFound if there is no version or no suite; ConfigError for a broken suite.
    Example:
        noria data check flights
    """
    started = time.perf_counter()
    version = resolve(ws, dataset)
    path = suite_path(ws, version.name)
    if not path.is_file():
        raise NotFound(
            f"there are no checks for {version.name}",
            where=str(path),
            hint=f"noria data check {version.name} --infer",
        )
    suite, content = load(path), ws.objects.put_file(path)
    with ws.ledger.read() as tx:
        last = records.latest(tx, version.name, version.tree)
        base = records.accepted(tx, version.name, before=version.version)
    baseline = _stored(ws, base) if base is not None and base.suite == content else None
    if last is not None and last.suite == content and not suite.table.fresh:
        known = _stored(ws, last)
        if known.baseline == (base.report if base and baseline else ""):
            return _report(known, last.report, version, seconds=time.perf_counter() - started)
    made = _check(ws, version, suite, content, baseline, base.report if base and baseline else "")
    digest = ws.objects.put_bytes(msgspec.json.encode(made))
    _append(ws, version, made, content, digest)
    return _report(made, digest, version, seconds=time.perf_counter() - started)


@verb(permission="checks.read", changes=False)
def latest(ws: Workspace, dataset: str) -> ChecksReport:
    """The last report on a version, without checking again. Raises: NotFound."""
    version = resolve(ws, dataset)
    with ws.ledger.read() as tx:
        found = records.latest(tx, version.name, version.tree)
    if found is None:
        raise NotFound(f"{version.ref} was not checked", hint=f"noria data check {version.name}")
    return _report(_stored(ws, found), found.report, version, seconds=0.0)


@verb(permission="checks.read", changes=False)
def history(ws: Workspace, dataset: str) -> list[ChecksRecord]:
    """Every run of checks on a data set, newest first."""
    with ws.ledger.read() as tx:
        return records.runs(tx, dataset)


def require(ws: Workspace, dataset: str) -> ChecksReport:
    """Run the checks, and stop if they fail. Raises: GateClosed, saying column, rule, count and rows."""
    report = run(ws, dataset)
    if not report.ok:
        raise GateClosed(stop_message(report), hint=f"noria data check {report.dataset}@{report.version}")
    return report


def stop_message(report: ChecksReport) -> str:
    """Why a version was stopped, in at most four lines: column, rule, count, rows. No row values."""
    bad = [finding for finding in report.findings if not finding.passed and finding.severity == "error"]
    lines = [f"{report.dataset}@{report.version}: {report.failed} of {report.total} checks failed"]
    for finding in bad[:3]:
        rows = f"; rows {', '.join(str(row) for row in finding.rows[:5])}" if finding.rows else ""
        rows += " …" if len(finding.rows) > 5 else ""
        place = f" of {finding.file}" if finding.file and rows else ""
        lines.append(
            f"{finding.column or 'table'} ({finding.rule}): {finding.message}; {finding.count} rows{rows}{place}"
        )
    return "\n".join(lines)


def _check(
    ws: Workspace, version: DatasetVersion, suite: Suite, content: Digest, baseline: StoredReport | None, base: str
) -> StoredReport:
    entries = [entry for entry in read_tree(ws.objects, version.tree).entries if formats.format_of(entry.path)]
    known = {(profile.file, profile.digest): profile for profile in baseline.profiles} if baseline else {}
    fresh = [entry for entry in entries if (entry.path, entry.digest) not in known]
    profiles = {entry.path: known[(entry.path, entry.digest)] for entry in entries if entry not in fresh}
    accepted = list(profiles.values())
    if baseline:
        accepted += [profile for profile in baseline.profiles if profile not in accepted]
    findings: list[Finding] = []
    batches: list[Batch] = []
    for batch in _in_order(_load(ws, version, fresh, suite)):
        batch = Batch(batch.file, batch.table, batch.profile, _before(accepted, batch.profile))
        found = _file(suite, batch)
        findings += found
        batches.append(batch)
        profiles[batch.file] = batch.profile
        if not any(_is_failure(finding) for finding in found):
            accepted.append(batch.profile)
    rows = baseline.rows if baseline else 0
    findings += wholes.check_table(ws, version, suite.table, batches, accepted_rows=rows)
    return StoredReport(
        format=_REPORT,
        dataset=version.name,
        version=version.version,
        tree=version.tree,
        suite=content,
        baseline=base,
        rows=version.rows,
        new_files=tuple(batch.file for batch in batches),
        passed=sum(finding.passed for finding in findings),
        findings=tuple(sorted((f for f in findings if not f.passed), key=_rank)),
        profiles=tuple(profiles[entry.path] for entry in entries),
    )


def _load(ws: Workspace, version: DatasetVersion, entries: Sequence[Entry], suite: Suite) -> list[Batch]:
    """The files that are new, each with its profile."""
    tables = read.tables(ws, version, files=[entry.path for entry in entries]) if entries else {}
    found = []
    for entry in entries:
        table = tables[entry.path]
        low, high = wholes.times_of(table, suite.table.time, entry.path)
        profile = TableProfile(
            file=entry.path,
            digest=entry.digest,
            rows=table.num_rows,
            time_min=low,
            time_max=high,
            columns=profile_table(table),
        )
        found.append(Batch(entry.path, table, profile))
    return found


def _in_order(batches: list[Batch]) -> list[Batch]:
    """By time where there is one, else by path: each file is compared with the accepted one before it."""
    return sorted(batches, key=lambda batch: (batch.profile.time_min, batch.file))


def _before(accepted: Sequence[TableProfile], profile: TableProfile) -> TableProfile | None:
    """The accepted file that ends last before this one begins; failing that, the nearest in order."""
    if not accepted:
        return None
    ordered = sorted(accepted, key=lambda other: (other.time_min, other.file))
    earlier = [other for other in ordered if (other.time_min, other.file) <= (profile.time_min, profile.file)]
    return earlier[-1] if earlier else ordered[0]


def _file(suite: Suite, batch: Batch) -> list[Finding]:
    if not batch.table.num_rows:
        return [Finding(rule="rows", column="", passed=True, file=batch.file, message="an empty file")]
    findings = [finding for name, rules in suite.columns.items() for finding in check_column(name, rules, batch)]
    return findings + [wholes.check_rows(rule, batch) for rule in suite.rows]


def _append(ws: Workspace, version: DatasetVersion, made: StoredReport, content: Digest, digest: Digest) -> None:
    failures = [finding for finding in made.findings if _is_failure(finding)]
    payload = ChecksFinished(
        dataset=version.name,
        version=version.version,
        tree=version.tree,
        suite=content,
        report=digest,
        passed=made.passed,
        failed=len(failures),
        warned=len(made.findings) - len(failures),
        ok=not failures,
        failures=tuple(_in_words(finding) for finding in failures[:20]),
    )
    with ws.ledger.transaction() as tx:
        tx.append(payload, inputs=[("tree", version.tree), ("suite", content)], outputs=[("report", digest)])


def _in_words(finding: Finding) -> str:
    """A failure without the values of rows: facts live for ever."""
    place = f" in {finding.file}" if finding.file else ""
    return f"{finding.column or 'table'}: {finding.rule}: {finding.count} of {finding.total} rows{place}"


def _stored(ws: Workspace, record: ChecksRecord) -> StoredReport:
    return msgspec.json.decode(ws.objects.get_bytes(record.report), type=StoredReport)


def _report(made: StoredReport, digest: str, version: DatasetVersion, *, seconds: float) -> ChecksReport:
    failed = sum(_is_failure(finding) for finding in made.findings)
    return ChecksReport(
        dataset=version.name,
        version=version.version,
        tree=version.tree,
        ok=failed == 0,
        passed=made.passed,
        failed=failed,
        warned=len(made.findings) - failed,
        findings=made.findings,
        report=digest,
        suite=made.suite,
        new_files=made.new_files,
        seconds=round(seconds, 4),
    )


def _is_failure(finding: Finding) -> bool:
    return not finding.passed and finding.severity == "error"


def _rank(finding: Finding) -> tuple[bool, float, str, str]:
    return (finding.severity != "error", -finding.count, finding.column, finding.rule)
