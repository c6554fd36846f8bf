"""Histories made small: what is left are points of the whole, in order, with its least and greatest."""

from __future__ import annotations

import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.engines.objects.memory import MemoryObjects
from noria.experiments import points
from noria.experiments.points import Curve, downsample, ordered
from noria.store.objects import Objects

VALUES = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers(-5, 5).map(float))


def curve_of(values: list[float], steps: list[int] | None = None) -> Curve:
    return Curve(
        np.array(steps if steps is not None else range(len(values)), np.int64),
        np.arange(len(values), dtype=np.int64) * 1000,
        np.array(values, np.float64),
    )


def rows(curve: Curve) -> list[tuple[int, int, str]]:
    return [
        (s, a, repr(v))
        for s, a, v in zip(curve.steps.tolist(), curve.at_us.tolist(), curve.values.tolist(), strict=True)
    ]


@given(values=st.lists(VALUES, max_size=300), limit=st.integers(4, 60))
def test_a_small_history_is_a_part_of_the_whole_with_its_ends_and_extremes(values: list[float], limit: int) -> None:
    whole = curve_of(values)
    small = downsample(whole, limit)
    assert len(small) == len(whole) if len(whole) <= limit else len(small) <= limit
    everything = rows(whole)
    places = [everything.index(row) for row in rows(small)]
    assert places == sorted(set(places))
    if values:
        assert (places[0], places[-1]) == (0, len(values) - 1)
    numbers = [value for value in values if not math.isnan(value)]
    kept = [value for value in small.values.tolist() if not math.isnan(value)]
    if numbers:
        assert (min(kept), max(kept)) == (min(numbers), max(numbers))


@pytest.mark.parametrize(("n", "limit"), [(1000, 42), (100_000, 322), (4097, 10)])
def test_a_spike_in_each_part_is_kept_where_it_lies(n: int, limit: int) -> None:
    """Closed form: a line with one spike up and one down in each of the equal parts keeps exactly those."""
    parts = (limit - 2) // 2
    edges = np.linspace(1, n - 1, parts + 1).astype(np.int64)
    values = np.zeros(n)
    ups, downs = edges[:-1] + 1, edges[:-1] + 3
    values[ups], values[downs] = 1.0 + np.arange(parts), -1.0 - np.arange(parts)
    small = downsample(Curve(np.arange(n, dtype=np.int64), np.zeros(n, np.int64), values), limit)
    assert small.steps.tolist() == sorted({0, n - 1, *ups.tolist(), *downs.tolist()})


@given(
    values=st.lists(VALUES, min_size=1, max_size=200),
    steps=st.lists(st.integers(-3, 10), min_size=200, max_size=200),
    cuts=st.lists(st.integers(0, 200), max_size=3),
)
def test_points_come_back_from_segments_and_from_one_merged_segment(
    values: list[float], steps: list[int], cuts: list[int]
) -> None:
    whole = curve_of(values, steps[: len(values)])
    edges = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    expected = rows(ordered(whole))
    with tempfile.TemporaryDirectory() as folder:
        objects = Objects(MemoryObjects(), Path(folder))
        parts = [whole.take(np.arange(start, end)) for start, end in itertools.pairwise(edges)]
        segments = [points.write(objects, {"a": ordered(part), "b é": ordered(part)}) for part in parts if len(part)]
        assert rows(ordered(points.joined([points.read(objects, each, "a") for each in segments]))) == expected
        merged, count = points.merge(objects, segments)
        assert count == 2 * len(values)
        assert rows(points.read(objects, merged, "b é")) == expected
        assert points.merge(objects, [merged]) == (merged, count), "the same points are the same object"


def test_a_long_history_is_told_from_its_summaries_alone(tmp_path: Path) -> None:
    n = 10 * points.CHUNK + 7
    values = np.sin(np.arange(n) / 50.0)
    values[12_345], values[30_001] = 9.0, -9.0
    objects = Objects(MemoryObjects(), tmp_path)
    curve = Curve(np.arange(n, dtype=np.int64), np.arange(n, dtype=np.int64), values)
    segment = points.write(objects, {"a": curve, "b": curve_of([1.0, math.nan])})
    chunks = points.summaries(objects, segment, "a")
    assert chunks is not None
    assert [chunk.points for chunk in chunks] == [points.CHUNK] * 10 + [7]
    thin = points.thin(chunks)
    assert thin is not None
    everything = set(rows(curve))
    assert set(rows(thin)) <= everything
    assert (thin.values.min(), thin.values.max()) == (-9.0, 9.0)
    small = downsample(thin, 20)
    assert len(small) <= 20
    assert {12_345, 30_001, 0, n - 1} <= set(small.steps.tolist())
    assert points.thin([*chunks, *chunks]) is None, "chunks that overlap say nothing of the order"
