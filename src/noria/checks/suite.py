"""Run a suite on a version, remember what it found, and stop what follows when it says no.

A run appends one fact; its report keeps the findings and the profiles, which are the memory that
the next run compares with.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

import msgspec

from noria.checks import records
from noria.checks.examine import REPORT, Examined, StoredReport, examine
from noria.checks.facts import ChecksFinished, Finding
from noria.checks.findings import is_failure
from noria.checks.prepare import prepare
from noria.checks.records import ChecksRecord
from noria.checks.report import report as written
from noria.checks.suites.place import suite_path
from noria.checks.suites.rules import Suite
from noria.checks.suites.suitefile import load
from noria.core.errors import ConfigError, GateClosed, NotFound
from noria.core.frozen import frozen
from noria.core.identity import Digest
from noria.core.verb import verb
from noria.core.words import counted
from noria.data.versions import DatasetVersion, resolve
from noria.store.workspace import Workspace

__all__ = ["ChecksReport", "StoredReport", "again", "history", "in_words", "latest", "require", "run", "stop_message"]


@frozen(kw_only=True)
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
    suite, content = _of(path, version.name), ws.objects.put_file(path)
    prepared = prepare(ws, suite)
    with ws.ledger.read() as tx:
        last = records.latest(tx, version.name, version.tree)
    accepted, base = _accepted(ws, version)
    if last is not None and last.suite == content and prepared.is_repeatable:
        known = _stored(ws, last)
        is_ahead = any(finding.rule == "time range" for finding in known.findings)  # it may be past by now
        if (known.format, known.baseline, known.depends) == (REPORT, base, prepared.depends) and not is_ahead:
            return _report(known, last.report, version, seconds=time.perf_counter() - started)
    made = examine(ws, version, prepared, suite=content, last=accepted, base=base).report
    digest = ws.objects.put_bytes(msgspec.json.encode(made))
    _append(ws, version, made, content, digest)
    return _report(made, digest, version, seconds=time.perf_counter() - started)


def _of(path: Path, name: str) -> Suite:
    """The suite of a data set. Raises: ConfigError where checks/NAME.toml says that it is about another one."""
    suite = load(path)
    if suite.dataset != name and path.stem == name:
        raise ConfigError(
            f"the checks are about {suite.dataset!r}, and the file is that of {name!r}",
            where=str(path),
            hint=f'dataset = "{name}"',
        )
    return suite


def again(ws: Workspace, version: DatasetVersion) -> Examined:
    """The examination once more, with every row that broke an error rule. Nothing is recorded."""
    path = suite_path(ws, version.name)
    suite, content = _of(path, version.name), ws.objects.put_file(path)
    accepted, base = _accepted(ws, version)
    prepared = prepare(ws, suite, is_keeping=True)
    return examine(ws, version, prepared, suite=content, last=accepted, base=base)


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
    """Run the checks, and stop if they fail. Raises: GateClosed, saying column, rule, count, rows and the page."""
    report = run(ws, dataset)
    if not report.ok:
        ref = f"{report.dataset}@{report.version}"
        page = written(ws, ref)
        raise GateClosed(stop_message(report), where=page.to, hint=f"noria data check {ref}")
    return report


def stop_message(report: ChecksReport, *, lines: int = 4, so: str = "") -> str:
    """Why a version was stopped, in so many lines at most: column, rule, count, rows. No row values.

    Everything that a column is accused of is one line. What does not fit is counted and named.

    Args:
        so: what comes of it, for the first line, such as "nothing was trained".
    """
    total = counted(report.total, "check")
    head = f"{report.dataset}@{report.version}: {report.failed} of {total} failed" + (f", {so}" if so else "")
    groups: dict[str, list[Finding]] = {}
    for finding in filter(is_failure, report.findings):
        groups.setdefault(finding.column or "table", []).append(finding)
    told = [_accused(column, found) for column, found in groups.items()]
    room = lines - 1
    if len(told) > room:
        left = list(groups.items())[room - 1 :]
        names = [f"{column} ({', '.join(each.rule for each in found)})" for column, found in left]
        more = f"and {sum(len(found) for _, found in left)} more: {', '.join(names)}"
        told = [*told[: room - 1], more if len(more) <= _LINE_MAX else f"{more[: _LINE_MAX - 1]}…"]
    return "\n".join([head, *(f"  {line}" for line in told[:room])])


_LINE_MAX = 160


def in_words(finding: Finding) -> str:
    """A failure as a sentence, with the numbers of its rows and none of their values."""
    said = f"{finding.column or 'table'} ({finding.rule}): {finding.message}"
    if finding.rows:
        shown = ", ".join(str(row) for row in finding.rows[:5]) + (" …" if finding.count > 5 else "")
        place = f" of {finding.file}" if finding.file else ""
        said += f"; {counted(finding.count, 'row')}: {shown}{place}"
    return said


def _accused(column: str, found: Sequence[Finding]) -> str:
    also = f"; also {', '.join(dict.fromkeys(each.rule for each in found[1:]))}" if found[1:] else ""
    return in_words(found[0]) + also


def _accepted(ws: Workspace, version: DatasetVersion) -> tuple[StoredReport | None, str]:
    """The report that the last accepted version left, if rules meant the same then, and its digest."""
    with ws.ledger.read() as tx:
        found = records.accepted(tx, version.name, before=version.version)
    if found is None:
        return None, ""
    stored = _stored(ws, found)
    return (stored, found.report) if stored.format == REPORT else (None, "")


def _append(ws: Workspace, version: DatasetVersion, made: StoredReport, content: Digest, digest: Digest) -> None:
    failures = [finding for finding in made.findings if is_failure(finding)]
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
        failures=tuple(_for_ever(finding) for finding in failures[:20]),
    )
    with ws.ledger.transaction() as tx:
        tx.append(payload, inputs=[("tree", version.tree), ("suite", content)], outputs=[("report", digest)])


def _for_ever(finding: Finding) -> str:
    """A failure without the values of rows: facts live for ever."""
    place = f" in {finding.file}" if finding.file else ""
    rows = counted(finding.total, "row")
    return f"{finding.column or 'table'}: {finding.rule}: {finding.count:,} of {rows}{place}"


def _stored(ws: Workspace, record: ChecksRecord) -> StoredReport:
    return msgspec.json.decode(ws.objects.get_bytes(record.report), type=StoredReport)


def _report(made: StoredReport, digest: str, version: DatasetVersion, *, seconds: float) -> ChecksReport:
    failed = sum(is_failure(finding) for finding in made.findings)
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
