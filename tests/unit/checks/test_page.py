"""The report of a failed check and its lines on a terminal: what is accused is marked, and every line can be read."""

from __future__ import annotations

import re

import msgspec
import pytest

from noria.checks.examine import StoredReport
from noria.checks.facts import Finding, Sample
from noria.checks.page import page
from noria.checks.scanning.expression import Unreadable, read
from noria.checks.scanning.summary import TableProfile
from noria.faces.cli import show_checks

VALUES = {"id": "o1", "at": "2025-02-01 02:29:12", "arrived": "2025-02-01 01:29:12"}
ACROSS = Finding(
    rule="arrives after it leaves",
    column="",
    passed=False,
    count=4,
    total=1000,
    message='4 rows break: arrived >= "at"',
    rows=(20, 21, 22, 23),
    file="m2.parquet",
    samples=tuple(Sample(row=row, values=VALUES) for row in (20, 21, 22)),
)


def made(*findings: Finding) -> StoredReport:
    profiles = tuple(
        TableProfile(file=f"m{number}.parquet", digest="", rows=1000, time_min="", time_max="", columns={})
        for number in (1, 2)
    )
    return StoredReport(
        format="checks/2", dataset="d", version=2, tree="t", suite="s", baseline="", rows=2000,
        new_files=("m2.parquet",), passed=3, findings=findings, profiles=profiles,
    )  # fmt: skip


def test_only_the_columns_that_a_condition_names_are_marked() -> None:
    marked = re.findall(r"<td class=x>([^<]*)</td>", page(made(ACROSS)))
    assert set(marked) == {VALUES["at"], VALUES["arrived"]}, "the key names the row, it is not accused"


def test_a_narrow_page_shows_column_rows_and_share_without_scrolling() -> None:
    text = page(made(ACROSS))
    narrow = text[text.index("@media(max-width") :]
    assert ".found tr{display:grid" in narrow
    assert '<table class="found">' in text
    assert "<td class='n many'>4</td>" in text
    pictures = re.findall(r"<svg viewBox=\"0 0 (\d+) 96\" width=\"(\d+)\"", text)
    assert pictures == [("240", "240")], "the names of the files stand below their bars"


def test_a_terminal_shows_a_row_of_several_columns_on_a_line_of_its_own() -> None:
    report = {
        "dataset": "d", "version": 2, "ok": False, "passed": 3, "failed": 1, "warned": 0, "suite": "s",
        "findings": [msgspec.to_builtins(ACROSS)], "seconds": 0.1, "new_files": ["m2.parquet"], "report": "r",
    }  # fmt: skip
    lines = show_checks.checks(report).splitlines()
    assert max(map(len, lines)) <= 120
    rows = [line.strip() for line in lines if "arrived=" in line]
    assert len(rows) == 3
    assert rows[0] == "20  id=o1, at=2025-02-01 02:29:12, arrived=2025-02-01 01:29:12"


def test_a_condition_on_a_column_that_is_called_like_sql_says_how_to_write_it() -> None:
    with pytest.raises(Unreadable, match='is written "at"'):
        read("arrived >= at", ["arrived", "at"])
    assert read('arrived >= "at"', ["arrived", "at"]).columns == {"arrived", "at"}
