"""A version checked by a Pandera schema alone: `noria data check NAME --pandera module:Schema`.

Nothing is kept in the ledger. To stop a pipeline by it, name the schema in the suite.
"""

from __future__ import annotations

import time

from noria.checks.adapters import panderas
from noria.checks.facts import Finding
from noria.checks.findings import failed, is_failure
from noria.checks.samples import with_samples
from noria.checks.scanning import source
from noria.checks.suite import ChecksReport
from noria.core.verb import verb
from noria.data.versions import resolve
from noria.store.workspace import Workspace

__all__ = ["check_schema"]


@verb(permission="checks.run", name="pandera", changes=False, where="project")
def check_schema(ws: Workspace, dataset: str, schema: str) -> ChecksReport:
    """Validate a version with a Pandera schema of the project: schema and data, every failure, no lazy frame.

    Nothing is recorded. `pandera = "module:Schema"` in the suite makes it one of the checks.

    Args:
        schema: `module:Schema`, found from the project's folder.
    Raises: NotFound; UsageError; ProjectError if the module cannot be run.
    Example:
        noria data check flights --pandera schemas:Flights
    """
    started = time.perf_counter()
    version = resolve(ws, dataset)
    asked = panderas.load_schema(ws.project.root, schema)
    findings: list[Finding] = []
    parts = source.parts(ws, version)
    for part in parts:
        table = source.columns_of(part, version.column_names())
        found = panderas.validate(asked, table, file=part.file)
        columns = dict.fromkeys(range(len(found)), version.column_names())
        findings += with_samples(found, columns, part, version.key)
    if not version.rows:
        findings.append(failed("rows", "", "there are no rows to check", count=0, total=0))
    bad = sum(map(is_failure, findings))
    warned = sum(not finding.passed and finding.severity == "warn" for finding in findings)
    total = panderas.rules_in(asked) * max(len(parts), 1)
    return ChecksReport(
        dataset=version.name,
        version=version.version,
        tree=version.tree,
        ok=not bad,
        passed=max(total - bad - warned, 0),
        failed=bad,
        warned=warned,
        findings=tuple(finding for finding in findings if not finding.passed),
        report="",
        suite=schema,
        new_files=tuple(part.file for part in parts),
        seconds=round(time.perf_counter() - started, 4),
    )
