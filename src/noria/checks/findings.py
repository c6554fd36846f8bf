"""How the outcome of a rule is made: one way to say passed, one to say failed."""

from __future__ import annotations

from collections.abc import Sequence

from noria.checks.facts import Finding

__all__ = ["failed", "is_failure", "passed"]


def passed(rule: str, column: str, *, total: int, severity: str = "error", file: str = "") -> Finding:
    """A rule that all of `total` rows keep."""
    return Finding(rule=rule, column=column, passed=True, severity=severity, total=total, file=file)


def failed(
    rule: str,
    column: str,
    message: str,
    *,
    count: int,
    total: int,
    severity: str = "error",
    file: str = "",
    rows: Sequence[int] = (),
    examples: Sequence[str] = (),
) -> Finding:
    """A rule that `count` of `total` rows break, or that cannot be evaluated, as the message says."""
    return Finding(
        rule=rule,
        column=column,
        passed=False,
        severity=severity,
        count=count,
        total=total,
        message=" ".join(message.split()),
        rows=tuple(rows),
        examples=tuple(examples),
        file=file,
    )


def is_failure(finding: Finding) -> bool:
    """Whether a finding stops the pipeline."""
    return not finding.passed and finding.severity == "error"
