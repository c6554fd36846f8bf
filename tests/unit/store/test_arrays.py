"""Arrays are what pyarrow itself makes of the same values, and pandas is not imported for them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.store import arrays

WHOLE = st.lists(st.integers(-(2**63), 2**63 - 1))
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"])))


@given(WHOLE, st.integers(0, 3), st.integers(0, 3))
def test_numbers_and_times_go_there_and_back(values: list[int], left: int, right: int) -> None:
    given_ = np.array(values, np.int64)
    for kind in (pa.int64(), pa.timestamp("us", tz="UTC")):
        made = arrays.numbers(given_, kind)
        made.validate(full=True)
        assert made.equals(pa.array(given_).cast(kind))
        part = made[left : max(left, len(values) - right)]
        chunks = pa.chunked_array([made, part, made[:0]], kind)
        whole = np.concatenate([given_, given_[left : max(left, len(values) - right)]])
        assert arrays.values_of(chunks, np.int64).tolist() == whole.tolist()
    assert arrays.numbers(given_[::2], pa.int64()).to_pylist() == values[::2]


@given(st.lists(st.floats(width=64)))
def test_every_double_comes_back_bit_for_bit(values: list[float]) -> None:
    made = pa.chunked_array([arrays.numbers(np.array(values), pa.float64())])
    assert arrays.values_of(made, np.float64).tobytes() == np.array(values).tobytes()


@given(TEXTS)
def test_texts_are_what_they_were(values: list[str]) -> None:
    made = arrays.texts(values)
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.string()))
    places = np.arange(len(values), dtype=np.int32)[::-1]
    assert arrays.named(values, places).to_pylist() == values[::-1]


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ValueError, match="1 of 2 values are null"):
        arrays.values_of(pa.chunked_array([pa.array([1, None])]), np.int64)
    with pytest.raises(AssertionError):
        arrays.numbers(np.zeros(2, np.int32), pa.int64())


POINTS = """
import sys
from noria.experiments import points
from noria.testing.workspace import open_memory
import pathlib, tempfile
with tempfile.TemporaryDirectory() as folder:
    ws = open_memory(root=pathlib.Path(folder))
    segment = points.write(ws.objects, {"a": points.curve([(1, 2, 3.0)]), "b": points.curve([(4, 5, 6.0)])})
    whole, count = points.merge(ws.objects, [segment, segment])
    assert count == 4
    assert points.read(ws.objects, whole, "b").values.tolist() == [6.0, 6.0]
    assert len(points.read(ws.objects, whole, "0")) == len(points.read(ws.objects, whole, "aa")) == 0
    writer = ws.series.writer("run/run_01")
    writer.log("loss", 0.5, step=1)
    writer.close()
    sealed = ws.series.seal("run/run_01")
    assert ws.series.read(sealed.digest, "run/run_01").num_rows == 2
assert "pyarrow" in sys.modules
assert "pandas" not in sys.modules
"""


def test_keeping_points_needs_no_pandas() -> None:
    subprocess.run([sys.executable, "-c", POINTS], check=True)
