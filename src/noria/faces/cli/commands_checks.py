"""The rows of the table of commands for rules on data: `noria checks …`."""

from __future__ import annotations

from collections.abc import Mapping

from noria.faces.cli.command import Command

__all__ = ["CHECKS"]

CHECKS: Mapping[str, Command] = {
    "checks export": Command(
        target="noria.checks.adapters.exchange:export_rules",
        summary="Write a suite as a Python file with a Pandera schema",
        examples=("noria checks export pandera customers", "noria checks export pandera customers --to schema.py"),
        show="suite_exported",
        next="python -c 'import {dataset}_schema'",
    ),
    "checks history": Command(
        target="noria.checks.suite:history",
        summary="Every run of checks on a data set, newest first",
        examples=("noria checks history customers", "noria checks history customers --json"),
        empty="no checks were run on it yet",
    ),
    "checks import": Command(
        target="noria.checks.adapters.exchange:import_rules",
        summary="Take over a Great Expectations suite or a Pandera schema as rules",
        examples=(
            "noria checks import gx suites/customers.json customers",
            "noria checks import pandera schemas:Customers customers",
        ),
        show="imported",
        next="noria data check {dataset}",
    ),
    "checks infer": Command(
        target="noria.checks.infer:infer",
        summary="Learn checks/NAME.toml from a version; what you edited stays",
        examples=("noria checks infer customers", "noria checks infer customers@1 --accept"),
        show="suite",
        next="noria checks run {dataset}",
    ),
    "checks latest": Command(
        target="noria.checks.suite:latest",
        summary="The last report on a version, without checking again",
        examples=("noria checks latest customers", "noria checks latest customers@2 --json"),
        show="checks",
        fail_unless="ok",
    ),
    "checks report": Command(
        target="noria.checks.report:report",
        summary="Write the last report on a version as one HTML page",
        examples=("noria checks report customers", "noria checks report customers@2 --to checks.html"),
    ),
    "checks pandera": Command(
        target="noria.checks.schemarun:check_schema",
        summary="Validate a version with a Pandera schema of the project",
        examples=(
            "noria checks pandera customers schemas:Customers",
            "noria checks pandera customers@2 schemas:Customers --json",
        ),
        show="checks",
        fail_unless="ok",
    ),
    "checks quarantine": Command(
        target="noria.checks.quarantine:quarantine",
        summary="Write failing rows and the rest as two data sets",
        examples=("noria checks quarantine customers", "noria checks quarantine customers@2 --json"),
        show="quarantined",
        is_slow=True,
    ),
    "checks run": Command(
        target="noria.checks.suite:run",
        summary="Check a version with its suite",
        examples=("noria checks run customers", "noria checks run customers@2 --json"),
        show="checks",
        fail_unless="ok",
        next="noria run",
    ),
}
