"""The report: one small file without scripts, the same bytes for the same values, nothing of the data as markup."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from noria.monitoring.facts import Estimate
from noria.project.charts import Cell, Line, Mark, Point, heat, quality
from noria.project.months import Month, ReleaseLine, Stop
from noria.project.report import MAX_BYTES, page


def month(index: int, decision: str, *, reason: str = "better", stopped: tuple[Stop, ...] = ()) -> Month:
    def near(value: float) -> Estimate:
        return Estimate(value=value, low=value - 0.01, high=value + 0.01, n=1_000)

    year, number = divmod(index, 12)
    return Month(
        month=f"{2013 + year}-{number + 1:02d}",
        start="",
        rows=1_100,
        labelled=1_000,
        auc_static=0.65,
        auc_live=0.7,
        live={"auc": near(0.7), "log_loss": near(0.5)},
        frozen={"auc": near(0.65), "log_loss": near(0.52)},
        drifted_columns=("temp",),
        decision=decision,
        reason=reason,
        triggers=("drift",),
        stopped=stopped,
        challenger=index + 2,
        champion=1,
        gain=0.02,
        low=0.01,
        high=0.03,
        n=900,
        drift_report="",
    )


STOP = Stop(dataset="flights", version=3, reason="flights@3: distance in other units")
MONTHS = [month(1, "promoted"), month(2, "refused", stopped=(STOP,)), month(3, "rolled back"), month(4, "wait")]
DRIFT = [("temp", [Cell(0.4, False, "a"), Cell(1.6, True, "b"), Cell(None, False, "c"), Cell(0.2, False, "d")])]
RELEASES = [ReleaseLine(release=2, version=2, state="production", reason="ok", made_at="")]


class Tags(HTMLParser):
    """Collects tags and checks that they close."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)


def test_the_report_is_one_file_without_scripts_or_anything_to_load() -> None:
    text = page("demo", "flights", MONTHS, RELEASES, DRIFT)
    parser = Tags()
    parser.feed(text)
    assert "script" not in parser.tags
    assert "link" not in parser.tags
    assert "http" not in text


def test_the_same_values_give_the_same_bytes() -> None:
    assert page("demo", "flights", MONTHS, RELEASES, DRIFT) == page("demo", "flights", MONTHS, RELEASES, DRIFT)


def test_what_happened_is_marked() -> None:
    text = page("demo", "flights", MONTHS, RELEASES, DRIFT)
    for kind in ("promoted", "refused", "stopped", "rolled"):
        assert f'class="mark {kind}"' in text.replace("&quot;", '"')
    assert "distance in other units" in text
    assert "0.050</b> above" in text


def test_text_of_the_data_is_never_markup() -> None:
    evil = "<script>alert(1)</script>"
    text = page(evil, evil, [month(1, "refused", reason=evil)], RELEASES, [(evil, [Cell(1.0, True, evil)])])
    assert "<script" not in text


def test_two_years_of_twenty_columns_fit_into_the_limit() -> None:
    months = [month(index, "refused", reason="worse " * 60) for index in range(24)]
    drift = [(f"column_{i}", [Cell(1.2, True, "x" * 160)] * 24) for i in range(20)]
    assert len(page("demo", "flights", months, RELEASES, drift).encode()) < MAX_BYTES


def test_a_project_without_a_window_has_a_page_too() -> None:
    assert "No window was measured yet" in page("demo", "flights", [], [], [])


def test_charts_are_well_formed_and_leave_gaps_where_nothing_is_known() -> None:
    points = (Point(0.6, 0.5, 0.7), Point(None), Point(0.62), Point(0.64, 0.6, 0.68))
    chart = quality(
        ["a", "b", "c", "d"], [Line("x & y", "live", points)], [Mark(1, "wait", "", "<")], better="", label="q"
    )
    root = ElementTree.fromstring(chart)
    assert len(root.findall("polyline")) == 2
    assert len(root.findall("polygon")) == 2
    ElementTree.fromstring(heat(["a", "b", "c", "d"], DRIFT))


def test_a_single_known_point_or_none_is_drawn_without_trouble() -> None:
    for points in ((Point(0.5),), (Point(None),), ()):
        ElementTree.fromstring(quality(["a"][: len(points)], [Line("x", "live", points)], [], better="", label="q"))


@pytest.mark.parametrize(
    "values", [(1.7e308, -1.7e308), (1.7e308, 1e308), (1e300,), (-1e20, -1e20), (3.0, 1e12), (2e9, 2e9 + 1)]
)
def test_values_near_the_largest_number_are_drawn_inside_the_chart(values: tuple[float, ...]) -> None:
    points = tuple(Point(value) for value in values)
    windows = [str(place) for place in range(len(values))]
    root = ElementTree.fromstring(quality(windows, [Line("x", "live", points)], [], better="", label="q"))
    places = [
        float(each.get(name, "nan")) for each in root.iter() for name in ("y", "y1", "y2", "cy") if each.get(name)
    ]
    assert places
    assert all(-1 <= place <= 300 for place in places), places
    assert max(len(each.text or "") for each in root.iter("text")) <= 16
