"""Numbers, sizes and columns for people."""

from __future__ import annotations

import click
import pytest

from noria.faces.cli import show, text


def test_numbers_say_what_they_are() -> None:
    assert text.count(1234567) == "1,234,567"
    assert text.count(None) == "–"
    assert text.decimal(0.81249) == "0.812"
    assert text.decimal(-12345.6) == "-12,346"
    assert text.signed(0.005) == "+0.005"
    assert text.share(0.112) == "11.2 %"
    assert text.interval(0.001, 0.009) == "[0.001, 0.009]"
    assert text.interval(None, 1.0) == ""


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (41_000_000, "41.0 MB"),
        (410_000_000, "410 MB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_sizes_have_a_unit_that_fits(size: float, said: str) -> None:
    assert text.size(size) == said


def test_times_and_digests_are_short() -> None:
    assert text.day("2026-11-21T04:40:00.000000Z") == "2026-11-21 04:40"
    assert text.day("2026-11-21T00:00:00.000000Z") == "2026-11-21"
    assert text.day(None) == ""
    assert text.name_of("sha256:" + "ab" * 32) == "abababab"
    assert text.name_of("flights@3") == "flights@3"


def test_columns_are_aligned_without_counting_colour() -> None:
    rows = [[click.style("a", fg="red"), "1"], ["bbb", "22"]]
    assert click.unstyle(text.columns(rows, right=" r")) == "  a     1\n  bbb  22"
    assert text.columns([]) == ""
    assert click.unstyle(text.columns([["x"]], ["name"])) == "  name\n  x"


def test_anything_can_be_shown() -> None:
    assert show.anything([]) == "  nothing"
    assert show.anything("text") == "text"
    assert "flights" in show.anything([{"name": "flights", "rows": 3, "tags": ["a", "b"], "more": {"x": 1}}])
    nested = click.unstyle(show.anything({"ok": True, "empty": None, "list": [{"a": 0.123456789}]}))
    assert nested == "  ok  yes\n  list\n  a\n  0.123457"


def test_the_next_command_is_the_results_own_or_the_tables() -> None:
    assert show.next_command("noria show {name}", {"name": "x", "next": ""}) == "noria show x"
    assert show.next_command("noria show {name}", {"name": "x", "next": "noria run"}) == "noria run"
    assert show.next_command("noria why {run}", [{"run": "run_1"}, {"run": "run_0"}]) == "noria why run_1"
    assert show.next_command("noria why {run}", []) == ""
