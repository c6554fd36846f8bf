"""What can happen to checks."""

from __future__ import annotations

from collections.abc import Mapping

from noria.core.fact import fact
from noria.core.frozen import frozen

__all__ = ["FACTS", "ChecksFinished", "ChecksInferred", "Finding", "Sample"]


@frozen(kw_only=True)
class Sample:
    """One row that broke a rule: its number in the file (from 0), and as text the values that tell why."""

    row: int
    values: Mapping[str, str]


@frozen(kw_only=True)
class Finding:
    """The outcome of one rule: what was checked, how many rows broke it, and which.

    `rows` are up to ten row numbers (from 0, within `file`); `examples` are up to
    five different offending values as text; `samples` are up to five of the rows with the table's key
    and the columns that the rule looks at. A rule that could not be evaluated has passed=False and says so.
    """

    rule: str
    column: str
    passed: bool
    severity: str = "error"
    count: int = 0
    total: int = 0
    message: str = ""
    rows: tuple[int, ...] = ()
    examples: tuple[str, ...] = ()
    file: str = ""
    samples: tuple[Sample, ...] = ()


@fact("checks.inferred", subject="dataset/{dataset}")
class ChecksInferred:
    """A suite of rules was inferred from a reference version."""

    dataset: str
    version: int
    tree: str
    suite: str


@fact("checks.finished", subject="dataset/{dataset}")
class ChecksFinished:
    """A suite ran on a version. `report` is the digest of the full findings; `failed` counts errors.

    The findings that failed are repeated here without examples (row values never enter facts).
    """

    dataset: str
    version: int
    tree: str
    suite: str
    report: str
    passed: int
    failed: int
    warned: int
    ok: bool
    failures: tuple[str, ...] = ()


FACTS = (ChecksInferred, ChecksFinished)
