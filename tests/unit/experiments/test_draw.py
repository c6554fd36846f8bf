"""Charts of curves: to scale, well formed, the same for the same values, and nothing of others' texts gets through."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.experiments import draw
from noria.experiments.coordinates import Dot, bounds, parallel, ticks
from noria.experiments.draw import Line
from noria.pipeline.space import Dimension
from noria.search.charts import history

EVIL = "<script>alert(1)</script>\"&'"


def paths(markup: str) -> list[str]:
    """The curves of a chart."""
    return re.findall(r'<path class="curve"[^>]* d="([^"]*)"', markup)


def test_a_curve_is_drawn_to_scale_inside_its_chart() -> None:
    (path,) = paths(draw.chart("loss", [Line("a", 0, [0, 50, 100], [0.0, 1.0, 0.25])]))
    points = [tuple(map(float, each.split())) for each in path.removeprefix("M").split("L")]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert all(0 <= x <= draw.WIDTH and 0 <= y <= draw.HEIGHT for x, y in ((x0, y0), (x1, y1), (x2, y2)))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y2) / (y0 - y1) == pytest.approx(0.25, abs=0.01), "higher is higher up"


def test_values_that_are_not_finite_break_the_line_and_are_counted() -> None:
    values = [1.0, 2.0, math.nan, 3.0, math.inf, 2.0, 1.0, -math.inf]
    markup = draw.chart("loss", [Line("a", 0, list(range(8)), values)])
    (path,) = paths(markup)
    assert path.count("M") == 2
    assert markup.count("<circle") == 1, "the one between two of them stands alone"
    assert "not finite: 3 values" in markup
    assert "no finite value" in draw.chart("loss", [Line("a", 0, [0], [math.nan])])


@given(st.lists(st.floats(), min_size=1, max_size=40), st.lists(st.integers(-(2**62), 2**62), min_size=40, max_size=40))
def test_any_values_give_a_chart_that_is_well_formed(values: list[float], steps: list[int]) -> None:
    lines = [Line("a", 0, sorted(steps)[: len(values)], values)]
    markup = draw.chart("loss", lines)
    ElementTree.fromstring(markup)
    assert "nan" not in markup
    assert "inf" not in markup.replace("not finite", "").replace("no finite", "")
    assert markup == draw.chart("loss", lines)


@given(st.floats(-1e299, 1e299), st.floats(1e-15, 1e3))
def test_ticks_are_told_apart_whatever_the_scale(low: float, share: float) -> None:
    span = bounds([low, low + max(abs(low) * share, 1e-15)])
    found = ticks(*span)
    assert len(set(found)) == len(found)


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE, min_size=1, max_size=6))
def test_axes_of_parallel_coordinates_hold_any_finite_values(values: list[float]) -> None:
    low, high = min(values), max(values)
    axis = Dimension(name="p", kind="float", low=low, high=high, log=low > 0)
    whole = Dimension(name="q", kind="int", low=-1.7e308, high=1.7e308)
    dots = [Dot(index, "done", value, {"p": value, "q": value}, 0.5, False, "") for index, value in enumerate(values)]
    space = {"q": whole, "p": axis} if high > low else {"q": whole}
    for markup in (parallel(dots, space, metric="loss"), history(dots, metric="loss", better="lower")):
        ElementTree.fromstring(markup)
        assert not re.search(r"\b(nan|inf)\b", markup)


def test_texts_of_others_are_escaped_in_charts_and_files() -> None:
    lines = [Line(EVIL, 0, [0, 1], [0, 1]), Line("b", 1, [0], [1])]
    for markup in (draw.chart(EVIL, lines, across=EVIL, note=EVIL), draw.sheet(EVIL, [(EVIL, lines, EVIL)])):
        assert "<script" not in markup
        assert ElementTree.fromstring(markup) is not None


def test_lines_beyond_the_colours_are_dashed() -> None:
    looks = {draw.colour(number) for number in range(2 * draw.COLOURS)}
    assert len(looks) == 2 * draw.COLOURS


def test_a_file_names_its_lines_once_and_needs_nothing_from_elsewhere() -> None:
    lines = [Line("first", 0, [0, 1], [0, 1]), Line("second", 1, [0, 1], [1, 0])]
    markup = draw.sheet("2 runs", [("loss", lines, "step"), ("acc", lines, "step")])
    assert markup.count(">first</text>") == 1
    assert re.findall(r"url\(|@import|href=|https?://(?!www\.w3\.org/2000/svg)", markup) == []
    root = ElementTree.fromstring(markup)
    assert len(root.findall("{http://www.w3.org/2000/svg}svg")) == 2
