"""Values that steps pass to each other come back as they were, and equal values have equal digests."""

from __future__ import annotations

import datetime
import decimal
import functools
import ipaddress
import itertools
import math
import operator
import pathlib
import re
import types
import zoneinfo
from collections import ChainMap, OrderedDict, UserDict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from noria.core.errors import Denied
from noria.engines.objects.memory import MemoryObjects
from noria.pipeline.outputs import values
from noria.pipeline.outputs.values import Unstorable
from noria.store.objects import Objects


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return Objects(MemoryObjects(), tmp_path_factory.mktemp("cache"))


def back(objects: Objects, value: Any) -> Any:
    return values.read(objects, values.store(objects, value), Path("/nowhere"))


UTC = datetime.UTC
FRAME = pd.DataFrame(
    {
        "zip": ["02139", "00501", None],
        "plan": pd.Categorical(["b", "a", None], categories=["b", "a", "c"], ordered=True),
        "seats": pd.array([1, None, 2**60], dtype="Int64"),
        "flag": pd.array([True, None, False], dtype="boolean"),
        "at": pd.to_datetime(["2013-03-10 02:30", None, "2013-11-03 01:30"])
        .tz_localize("UTC")
        .tz_convert("America/New_York"),
        "naive": pd.to_datetime(["2013-03-10 02:30", None, "2013-11-03 01:30"]),
        "fee": [decimal.Decimal("1.10"), decimal.Decimal("2.25"), None],
        "day": [datetime.date(2013, 1, 1), None, datetime.date(2013, 1, 3)],
        "x": [1.5, math.nan, -0.0],
        "small": np.array([1, 2, 3], dtype="int8"),
        "half": np.array([1, 2, 3], dtype="float32"),
        "gap": pd.to_timedelta(["1h", None, "2D"]),
    },
    index=pd.Index([10, 5, 7], name="row"),
)


def test_a_frame_of_every_kind_comes_back_as_it_was(objects: Objects) -> None:
    found = back(objects, FRAME)
    pd.testing.assert_frame_equal(found, FRAME, check_exact=True, check_freq=True)
    assert found["zip"].iloc[0] == "02139"
    assert found["fee"].iloc[0] == decimal.Decimal("1.10")
    assert str(found["fee"].iloc[0]) == "1.10"
    assert found["plan"].cat.ordered
    assert str(found["at"].dt.tz) == "America/New_York"


@pytest.mark.parametrize("name", list(FRAME.columns))
def test_an_empty_and_a_whole_series_keep_their_type(objects: Objects, name: str) -> None:
    pd.testing.assert_series_equal(back(objects, FRAME[name]), FRAME[name], check_exact=True)
    pd.testing.assert_frame_equal(back(objects, FRAME[[name]].iloc[:0]), FRAME[[name]].iloc[:0], check_exact=True)


def test_attrs_and_column_names_come_back(objects: Objects) -> None:
    frame = FRAME.copy()
    frame.attrs = {"noria": {"name": "x", "key": "k"}, "n": 3}
    assert back(objects, frame).attrs == frame.attrs
    multi = pd.DataFrame({("a", 1): [1], ("b", 2): [2]})
    pd.testing.assert_frame_equal(back(objects, multi), multi)


def test_a_column_that_mixes_types_is_refused_by_name(objects: Objects) -> None:
    with pytest.raises(Unstorable, match="'mixed' mixes int and str"):
        values.store(objects, pd.DataFrame({"mixed": pd.Series([1, "a"], dtype=object)}))


def test_polars_arrow_and_numpy_come_back(objects: Objects) -> None:
    frame = pl.DataFrame({"a": ["01", None], "b": [1, 2], "c": pl.Series(["x", "y"], dtype=pl.Categorical)})
    assert back(objects, frame).equals(frame)
    assert back(objects, frame).schema == frame.schema
    table = pa.table({"d": pa.array([decimal.Decimal("1.10"), None]), "t": pa.array([1, 2], pa.timestamp("us", "UTC"))})
    assert back(objects, table).equals(table)
    array = np.arange(12, dtype="float32").reshape(3, 4).T
    found = back(objects, array)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


class Framelike(pd.DataFrame):
    """A class of a project that is derived from a table."""


SCALARS = [
    *(np.float64(0.1), np.float32(1.5), np.int8(-3), np.uint64(2**63), np.bool_(True), np.complex64(1j)),
    *(np.str_("ö"), np.str_(""), np.bytes_(b"a"), np.datetime64("2026-11-22", "D"), np.timedelta64(3, "h")),
    *(np.longdouble(1.5), np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])[0]),
]


@pytest.mark.parametrize("value", SCALARS, ids=lambda value: type(value).__name__)
def test_a_scalar_of_numpy_stays_one_also_inside_containers(objects: Objects, value: Any) -> None:
    found = back(objects, value)
    assert type(found) is type(value)
    assert found.dtype == value.dtype
    assert found == value
    assert values.store(objects, found).digest == values.store(objects, value).digest
    inside = back(objects, {"n": [value], "t": (value,)})
    assert [type(each) for each in (inside["n"][0], inside["t"][0])] == [type(value)] * 2
    if value.dtype.names is None:
        assert back(objects, {value: 1}) == {value: 1}


def test_a_moment_of_numpy_that_is_none_and_a_number_that_is_nan_come_back(objects: Objects) -> None:
    assert np.isnat(back(objects, np.datetime64("NaT", "s")))
    assert np.isnan(back(objects, np.float32("nan")))


def test_what_is_derived_from_a_table_or_an_array_keeps_what_it_adds(objects: Objects) -> None:
    masked = back(objects, np.ma.array([1.0, 1e9], mask=[False, True]))
    assert masked.sum() == 1.0
    assert values.store(objects, masked).digest == values.store(objects, back(objects, masked)).digest
    assert type(back(objects, [masked])[0]) is np.ma.MaskedArray
    record = back(objects, np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]))
    assert record.a.tolist() == [1]
    batch = pa.RecordBatch.from_pydict({"a": [1, 2]}, metadata={"k": "v"})
    assert back(objects, batch).equals(batch, check_metadata=True)
    assert back(objects, batch.slice(0, 0)).schema == batch.schema
    assert back(objects, pathlib.PureWindowsPath("a")) == pathlib.PureWindowsPath("a")


def test_a_class_of_a_project_that_is_derived_from_a_frame_is_not_turned_into_a_frame(objects: Objects) -> None:
    assert values.store(objects, Framelike({"a": [1]})).type == "pickle"
    assert values.store(objects, pd.RangeIndex(3)).type == "pandas"
    assert values.store(objects, np.zeros(3)).type == "numpy"


OTHERS = [
    *(sparse.coo_matrix([[0, 1]]), sparse.csc_array([[0, 1]]), sparse.dok_matrix([[0, 1]]), sparse.bsr_array([[0, 1]])),
    *(ChainMap({"a": 1}), UserDict(a=1), types.SimpleNamespace(a=1), pd.Categorical(["b", "a"])),
    StandardScaler().fit(pd.DataFrame({"a": [1.0, 2.0]})),
    *(re.compile("a+", re.IGNORECASE), ipaddress.ip_address("10.0.0.1"), ipaddress.ip_network("10.0.0.0/8")),
    Framelike({"a": ["x", None], "b": pd.to_datetime(["2026-01-01", None]), "c": [1, 2]}),
]


ODD = [iter([1]), itertools.count(), functools.partial(operator.add, 1), {"a": [print]}, zoneinfo.ZoneInfo.from_file]


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_what_could_not_be_read_back_is_refused_when_it_is_stored(objects: Objects, value: Any, tmp_path: Path) -> None:
    with pytest.raises(Unstorable, match="could not be read back: it holds ") as refused:
        values.store(objects, value, root=tmp_path)
    assert "make it anew in the step that uses it" in refused.value.hint


@pytest.mark.parametrize("value", OTHERS, ids=lambda value: type(value).__name__)
def test_what_is_kept_as_a_pickle_can_be_read_back(objects: Objects, value: Any, tmp_path: Path) -> None:
    (tmp_path / f"{__name__.partition('.')[0]}.py").touch()  # a module of the project's own
    found = values.read(objects, values.store(objects, value, root=tmp_path), tmp_path)
    assert type(found) is type(value)
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["x", None], dtype=object),
        pd.Series(["x", math.nan], dtype=object),
        pd.Series([datetime.datetime(1, 1, 1)], dtype=object),
        pd.Series([pd.Timestamp("2026-01-01")], dtype=object),
        pd.Series(["x", None], dtype=pd.StringDtype("python")),
        pd.Series(["x", None], dtype=pd.StringDtype("pyarrow")),
        pd.Series(["x", None], dtype="str"),
        pd.Series([np.float32(1), np.float32(2)], dtype=object),
    ],
    ids=str,
)
def test_a_column_of_objects_or_texts_keeps_its_type(objects: Objects, column: Any) -> None:
    frame = back(objects, pd.DataFrame({"a": column.set_axis([f"r{n}" for n in range(len(column))])}))["a"]
    assert frame.dtype == column.dtype
    assert [type(each) for each in frame] == [type(each) for each in column]
    assert back(objects, column).dtype == column.dtype


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.datetimes(timezones=st.sampled_from([UTC, zoneinfo.ZoneInfo("Asia/Kolkata")])),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(st.text(), inner).map(OrderedDict)
        | st.frozensets(st.integers())
    ),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(value=PLAIN)
def test_plain_values_come_back_equal_and_of_the_same_type(objects: Objects, value: Any) -> None:
    found = back(objects, value)
    assert found == value
    assert repr(found) == repr(value) or isinstance(value, frozenset | dict | list | tuple)
    assert values.store(objects, found).digest == values.store(objects, value).digest


def test_containers_hold_frames_and_estimators(objects: Objects) -> None:
    model = LogisticRegression().fit(np.array([[0.0], [1.0]]), [0, 1])
    found = back(objects, {"frame": FRAME, "models": [model], "n": 1})
    pd.testing.assert_frame_equal(found["frame"], FRAME)
    np.testing.assert_array_equal(found["models"][0].coef_, model.coef_)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(0, 20))
def test_random_columns_come_back(objects: Objects, data: st.DataObject, n: int) -> None:
    kinds = {
        "f": st.floats(width=64),
        "i": st.integers(-(2**63), 2**63 - 1),
        "s": st.text() | st.none(),
        "b": st.booleans(),
    }
    frame = pd.DataFrame(
        {name: pd.Series(data.draw(st.lists(kind, min_size=n, max_size=n))) for name, kind in kinds.items()}
    )
    found = back(objects, frame)
    pd.testing.assert_frame_equal(found, frame, check_exact=True)
    assert values.store(objects, found).digest == values.store(objects, frame).digest


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_a_pickle_that_names_something_else_is_not_run(objects: Objects, capsys: pytest.CaptureFixture[str]) -> None:
    stored = values.store(objects, Evil())
    with pytest.raises(Denied):
        values.read(objects, stored, Path("/nowhere"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("value", [10**5000, -(10**5000), 2**53 + 1, -(2**1999), 2**2000], ids=lambda value: value % 97)
def test_whole_numbers_of_any_size_come_back(objects: Objects, value: int) -> None:
    assert back(objects, value) == value
    assert back(objects, {"a": [value]}) == {"a": [value]}


def test_what_is_nested_too_deeply_is_refused_by_name(objects: Objects) -> None:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(Unstorable, match="a list is nested too deeply"):
        values.store(objects, value)
