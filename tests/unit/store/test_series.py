from __future__ import annotations

import math
import resource
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.errors import Corrupt, StoreFull, UsageError
from noria.engines.objects.memory import MemoryObjects
from noria.store.objects import Objects
from noria.store.series import POINT, MetricWriter, Series
from noria.testing import TestClock

points = st.lists(
    st.tuples(
        st.sampled_from(["loss", "auc/é", "x y"]),
        st.floats(),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(0, 2**52),
    ),
    max_size=30,
)


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return make(tmp_path)


def make(folder: Path) -> Series:
    return Series(folder / "series", Objects(MemoryObjects(), folder / "cache"), TestClock())


@given(points)
def test_points_are_read_and_sealed_as_they_were_logged(
    tmp_path_factory: pytest.TempPathFactory, logged: list[tuple[str, float, int, int]]
) -> None:
    series = make(tmp_path_factory.mktemp("series"))
    writer = series.writer("run/1")
    for name, value, step, at_us in logged:
        writer.log(name, value, step=step, at_us=at_us)
    writer.close()
    table = series.read("run/1")
    assert table["name"].to_pylist() == [point[0] for point in logged]
    assert table["step"].to_pylist() == [point[2] for point in logged]
    assert table["at"].cast(pa.int64()).to_pylist() == [point[3] for point in logged]
    values = table["value"].to_numpy()
    assert np.array_equal(values, np.array([point[1] for point in logged]), equal_nan=True)
    sealed = series.seal("run/1")
    if not logged:
        assert sealed is None
        return
    assert sealed is not None
    assert sealed == series.seal("run/1") or any(math.isnan(v) for v in sealed.last.values())
    assert series.read(sealed.digest).drop_columns(["value"]).equals(table.drop_columns(["value"]))
    assert sealed.points == len(logged)
    assert set(sealed.names) == {point[0] for point in logged}
    for name in sealed.names:
        newest = max(p[2] for p in logged if p[0] == name)
        assert any(p[1] == sealed.last[name] or math.isnan(p[1]) for p in logged if p[0] == name and p[2] == newest)


def test_the_clock_dates_a_point_that_brings_no_time(series: Series) -> None:
    writer = series.writer("s")
    writer.log("loss", 1.0)
    writer.close()
    [at] = series.read("s")["at"].to_pylist()
    assert at is not None
    assert at.replace(microsecond=0) == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_discarded_stream_is_empty_and_its_object_stays(series: Series) -> None:
    writer = series.writer("run/1")
    writer.log("loss", 1.0, step=3)
    writer.close()
    writer.close()
    sealed = series.seal("run/1")
    assert sealed is not None
    series.discard("run/1")
    series.discard("run/1")
    series.discard("never/was")
    assert series.read("run/1").num_rows == 0
    assert series.seal("run/1") is None
    assert series.read("run/1", sealed.digest).num_rows == 1
    assert sealed.last == {"loss": 1.0}


def test_a_slow_writers_points_are_seen_before_it_ends(series: Series) -> None:
    writer = series.writer("s")
    writer.log("loss", 1.0)
    assert series.read("s").num_rows == 1
    writer.log("loss", 2.0)
    assert series.read("s").num_rows in (1, 2)
    writer.flush()
    assert series.read("s").num_rows == 2
    writer.close()


def test_many_points_are_written_in_blocks(series: Series) -> None:
    writer = series.writer("s")
    for step in range(50_000):
        writer.log("loss", 0.5, step=step, at_us=step)
    writer.close()
    assert series.read("s")["step"].to_pylist() == list(range(50_000))


def test_two_writers_of_one_stream_do_not_disturb_each_other(series: Series) -> None:
    first, second = series.writer("s"), series.writer("s")
    for step in range(10):
        first.log("a", step, step=step, at_us=2 * step)
        second.log("b", step, step=step, at_us=2 * step + 1)
    first.close()
    second.close()
    table = series.read("s")
    assert table["name"].to_pylist() == ["a", "b"] * 10
    assert table["at"].cast(pa.int64()).to_pylist() == list(range(20))


def test_a_file_cut_at_any_byte_loses_at_most_the_point_it_was_cut_in(series: Series, tmp_path: Path) -> None:
    writer = series.writer("s")
    for step in range(3):
        writer.log("loss", step, step=step, at_us=step)
    writer.close()
    [file] = (tmp_path / "series" / "s").glob("*.points")
    content = file.read_bytes()
    assert len(content) == 3 * POINT.size
    for cut in range(len(content) + 1):
        file.write_bytes(content[:cut])
        assert series.read("s").num_rows == cut // POINT.size


def test_a_point_without_its_name_is_damage(series: Series, tmp_path: Path) -> None:
    writer = series.writer("s")
    writer.log("loss", 1.0)
    writer.close()
    [file] = (tmp_path / "series" / "s").glob("*.names")
    file.write_bytes(b"")
    with pytest.raises(Corrupt, match="name that is not there"):
        series.read("s")


def log_now(writer: MetricWriter) -> None:
    writer.log("loss", 2.0)
    writer.flush()


@pytest.mark.parametrize("stream", ["", "..", "../x", "a/../b", "/a", "a//b", "a b", "a/"])
def test_a_stream_cannot_lead_out_of_its_folder(series: Series, stream: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a stream"):
        series.read(stream)


def test_a_full_disk_is_said_and_what_was_there_stays(series: Series) -> None:
    writer = series.writer("s")
    writer.log("loss", 1.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (POINT.size + 5, hard))
    try:
        for _ in range(2):
            with pytest.raises(StoreFull):
                log_now(writer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert series.read("s").num_rows == 1
    writer.close()
    assert series.read("s")["value"].to_pylist() == [1.0, 2.0, 2.0]
