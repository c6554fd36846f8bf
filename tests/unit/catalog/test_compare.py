"""Two stores are told apart exactly where they differ."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.catalog.takeover.compare import KEPT_MAX, Sum, Tally, differences, sums
from noria.catalog.takeover.documents import InputDoc, MeasureDoc, ModelDoc, RunDoc
from noria.catalog.takeover.intake import TEXTS_MAX, in_parts
from noria.experiments.points import Curve

POINTS = st.lists(
    st.tuples(st.integers(-(2**40), 2**40), st.integers(0, 2**50), st.floats(width=64)), max_size=30, unique_by=repr
)
RUN = RunDoc(
    id="a1",
    experiment="e",
    name="n",
    user="u",
    status="FINISHED",
    stage="active",
    started_ms=1,
    ended_ms=2,
    params={"p": "1"},
    tags={},
    inputs=(InputDoc(name="d", digest="x", source_type="s", source="{}"),),
    models_out=(("m-1", 3),),
)


def curve(points: list[tuple[int, int, float]]) -> Curve:
    return Curve(
        np.array([each[0] for each in points], np.int64),
        np.array([each[1] for each in points], np.int64),
        np.array([each[2] for each in points], np.float64),
    )


@given(points=POINTS, cut=st.integers(0, 30), seed=st.randoms())
def test_points_in_any_order_and_any_pieces_come_to_the_same(
    points: list[tuple[int, int, float]], cut: int, seed: object
) -> None:
    shuffled = list(points)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' own random
    whole = Sum().plus(curve(points))
    assert Sum().plus(curve(shuffled[:cut])).plus(curve(shuffled[cut:])) == whole
    assert whole.points == len(points)


@given(points=POINTS.filter(len), place=st.integers(0, 29), part=st.integers(0, 2))
def test_a_point_that_is_another_comes_to_something_else(
    points: list[tuple[int, int, float]], place: int, part: int
) -> None:
    place %= len(points)
    step, at, value = points[place]
    other = 1.5 if math.isnan(value) else math.nan
    changed = [(step + 1, at, value), (step, at + 1000, value), (step, at, other)][part]
    if repr(changed) in map(repr, points):
        return
    assert Sum().plus(curve([*points[:place], changed, *points[place + 1 :]])) != Sum().plus(curve(points))


def test_parts_of_one_metric_are_one_metric() -> None:
    found = sums(iter([("a", curve([(0, 0, 1.0)])), ("b", curve([(0, 0, 1.0)])), ("a", curve([(1, 0, 1.0)]))]))
    assert {key: each.points for key, each in found.items()} == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"status": "FAILED"}, ["status: 'FINISHED' there, 'FAILED' here"]),
        ({"ended_ms": None}, ["ended_ms: 2 there, None here"]),
        ({"params": {"p": "2", "q": ""}}, ["params 'p': '1' there, '2' here", "params 'q': nothing there, '' here"]),
        ({"models_out": (("m-1", 4),)}, ["models_out 'm-1': (3,) there, (4,) here"]),
        ({"inputs": ()}, ["inputs ('d', 'x'): ('s', '{}', None, None, ()) there, nothing here"]),
    ],
)
def test_each_difference_is_named(changed: dict[str, object], said: list[str]) -> None:
    assert list(differences(RUN, RUN)) == []
    assert list(differences(RUN, replace(RUN, **changed))) == said  # type: ignore[arg-type]  # fields by name


def test_what_is_no_number_equals_itself() -> None:
    measure = MeasureDoc(key="k", at_ms=1, step=0, run="a1", value=math.nan)
    model = ModelDoc(
        id="m-1",
        experiment="e",
        name="n",
        model_type="",
        run="a1",
        status="ready",
        message="",
        stage="active",
        created_ms=1,
        updated_ms=1,
        params={},
        tags={},
        measures=(measure,),
    )
    assert list(differences(model, replace(model, measures=(replace(measure, value=float("nan")),)))) == []
    assert len(list(differences(model, replace(model, measures=(replace(measure, value=0.0),))))) == 1


def test_a_report_counts_all_differences_and_names_the_first() -> None:
    tally = Tally()
    for number in range(KEPT_MAX + 5):
        tally.differ("run", str(number), "is not here")
    report = tally.report("a", "b", "c")
    assert (report.ok, report.differing, len(report.differences)) == (False, KEPT_MAX + 5, KEPT_MAX)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=60_000), max_size=8))
def test_pairs_are_told_in_parts_that_fit_a_fact(pairs: dict[str, str]) -> None:
    parts = in_parts(pairs)
    assert {key: value for part in parts for key, value in part.items()} == pairs
    for part in parts:
        letters = sum(len(key) + len(value) for key, value in part.items())
        assert part
        assert len(part) == 1 or letters <= TEXTS_MAX
