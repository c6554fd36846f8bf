"""For any value in any column: a row is taken as JSON would carry it, or refused by the column's name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.packaging.rows import RowRefused, Rows, fields_of
from noria.testing.samples import flights

FRAME = flights(50, seed=0)
ROWS = Rows(fields_of(FRAME, names=list(FRAME.columns)))
GOOD = ROWS.plain(FRAME)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@given(name=st.sampled_from(list(FRAME.columns)), value=ANYTHING, place=st.integers(0, 9))
@settings(deadline=None, max_examples=400)
def test_any_value_is_taken_or_refused_by_name(name: str, value: Any, place: int) -> None:
    rows = [dict(row) for row in GOOD[:10]]
    rows[place][name] = value
    refused, columns = None, {}
    try:
        columns = ROWS.columns(rows)
    except RowRefused as error:
        refused = error
    if refused is not None:
        assert (refused.column, refused.row) == (name, place)
        assert len(str(refused)) < 500
        return
    frame = ROWS.frame(columns)
    assert frame.dtypes.equals(FRAME.dtypes)
    others = [index for index in range(10) if index != place]
    pd.testing.assert_frame_equal(frame.iloc[others], FRAME.iloc[others], check_exact=True)


@given(name=st.sampled_from(list(FRAME.columns)), value=ANYTHING)
@settings(deadline=None, max_examples=400)
def test_the_quick_check_of_one_row_says_what_the_full_one_says(name: str, value: Any) -> None:
    row = {**GOOD[0], name: value}

    def says(act: Any) -> str:
        try:
            act()
        except RowRefused as error:
            return str(error)
        return ""

    assert says(lambda: ROWS.check(row)) == says(lambda: ROWS.columns([row]))


@given(row=ANYTHING)
@settings(deadline=None)
def test_anything_in_place_of_a_row_is_refused(row: Any) -> None:
    try:
        ROWS.check(row)
    except RowRefused:
        return
    raise AssertionError("not a row, and taken")


CELLS: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "Int64": st.none() | st.integers(-(2**63), 2**63 - 1),
    "Float64": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.none() | st.booleans(),
    "object": st.none() | st.text(max_size=6),
    "str": st.none() | st.text(max_size=6).filter(lambda text: text.isprintable()),
}


@given(data=st.data(), n=st.integers(1, 6))
@settings(deadline=None, max_examples=200)
def test_a_frame_of_any_dtypes_survives_the_wire(data: st.DataObject, n: int) -> None:
    made = {}
    for dtype, cells in CELLS.items():
        values = data.draw(st.lists(cells, min_size=n, max_size=n))
        made[dtype] = pd.Series(np.array(values, dtype=object) if dtype == "object" else values, dtype=dtype)
    frame = pd.DataFrame(made)
    rows = Rows(fields_of(frame, names=list(frame.columns)))
    back = rows.frame(rows.columns(json.loads(json.dumps(rows.plain(frame)))))
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
