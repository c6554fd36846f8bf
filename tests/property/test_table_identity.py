"""The identity of a table depends on its columns and values alone: not on batches, writers, or hidden bytes."""

from __future__ import annotations

import datetime
import decimal
import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.core.errors import UsageError
from noria.data.forms import exact, logical, parquet
from noria.data.tabular.tables import logical_digest

UTC = datetime.UTC
ONE = decimal.Decimal("1.0")
floats = st.one_of(st.none(), st.sampled_from([0.0, -0.0, float("nan"), float("inf"), 1.5]), st.floats(width=32))
moments = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1))
thousandths = st.integers(-(10**9), 10**9).map(lambda n: decimal.Decimal(n).scaleb(-3))
records = st.fixed_dictionaries({"a": st.one_of(st.none(), st.integers(0, 9)), "b": st.text(max_size=2)})
maps = st.dictionaries(st.text(max_size=2), st.integers(0, 9), max_size=2).map(lambda found: list(found.items()))
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "i": (pa.int32(), st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1))),
    "u": (pa.uint64(), st.one_of(st.none(), st.integers(0, 2**64 - 1))),
    "f": (pa.float64(), floats),
    "g": (pa.float32(), floats),
    "b": (pa.bool_(), st.one_of(st.none(), st.booleans())),
    "s": (pa.string(), st.one_of(st.none(), st.text(max_size=5))),
    "y": (pa.binary(), st.one_of(st.none(), st.binary(max_size=4))),
    "w": (pa.binary(3), st.one_of(st.none(), st.binary(min_size=3, max_size=3))),
    "d": (pa.decimal128(12, 3), st.one_of(st.none(), thousandths)),
    "t": (pa.timestamp("us", "Europe/Paris"), st.one_of(st.none(), moments.map(lambda m: m.replace(tzinfo=UTC)))),
    "n": (pa.timestamp("ns"), st.one_of(st.none(), moments)),
    "l": (pa.list_(pa.string()), st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=3))),
    "k": (pa.list_(pa.int8(), 2), st.one_of(st.none(), st.lists(st.integers(-9, 9), min_size=2, max_size=2))),
    "r": (
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        st.one_of(st.none(), records),
    ),
    "m": (pa.map_(pa.string(), pa.int64()), st.one_of(st.none(), maps)),
    "z": (pa.null(), st.none()),
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn, *, ordered: bool = True) -> pa.Table:
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=4, unique=True))
    rows = draw(st.integers(0, 12))
    columns = {}
    for name in names:
        kind, values = COLUMNS[name]
        columns[name] = pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), kind)
    if draw(st.booleans()):
        levels = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True))
        codes = draw(st.lists(st.one_of(st.none(), st.integers(0, len(levels) - 1)), min_size=rows, max_size=rows))
        is_ordered = ordered and draw(st.booleans())
        columns["c"] = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(levels), ordered=is_ordered)
    return pa.table(columns)


def cut(table: pa.Table, data: st.DataObject) -> pa.Table:
    """The same rows in other batches, some with offsets, some made anew."""
    parts = []
    start = 0
    while start < table.num_rows:
        length = data.draw(st.integers(1, table.num_rows - start))
        part = table.slice(start, length)
        parts.append(part.take(list(range(length))) if data.draw(st.booleans()) else part)
        start += length
    return pa.concat_tables(parts) if parts else table


@given(table=tables(), data=st.data())
@settings(max_examples=150)
def test_batches_do_not_matter(table: pa.Table, data: st.DataObject) -> None:
    assert logical_digest(cut(table, data)) == logical_digest(table)
    reader = pa.RecordBatchReader.from_batches(table.schema, cut(table, data).to_batches())
    assert logical_digest(reader) == logical_digest(table)


@given(table=tables(ordered=False), data=st.data())
@settings(max_examples=100)
def test_the_writer_of_a_parquet_does_not_matter(table: pa.Table, data: st.DataObject) -> None:
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        row_group_size=data.draw(st.integers(1, 13)),
        use_dictionary=data.draw(st.booleans()),
        compression=data.draw(st.sampled_from(["none", "snappy", "zstd"])),
        data_page_version=data.draw(st.sampled_from(["1.0", "2.0"])),
        write_batch_size=data.draw(st.integers(1, 8)),
    )
    sink.seek(0)
    assert logical_digest(pq.read_table(sink)) == logical_digest(table)


@given(table=tables(), data=st.data())
@settings(max_examples=100)
def test_our_own_parquet_gives_every_value_and_type_back(
    tmp_path_factory: pytest.TempPathFactory, table: pa.Table, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("w") / "t.parquet"
    written = parquet.write(cut(table, data), path)
    file = pq.ParquetFile(path)
    back = exact.restored(file.read(), file.metadata.metadata)
    assert [str(field.type) for field in back.schema] == [str(field.type) for field in table.schema]
    assert written.logical == logical_digest(table) == logical_digest(back)
    assert written.rows == table.num_rows
    assert back.to_pylist().__repr__() == table.to_pylist().__repr__()


@given(table=tables(), at=st.integers(0, 12))
@settings(max_examples=100)
def test_a_change_of_any_value_or_type_or_name_is_another_table(table: pa.Table, at: int) -> None:
    first = logical_digest(table)
    if table.num_rows:
        kept = [row for row in range(table.num_rows) if row != at % table.num_rows]
        assert logical_digest(table.take(pa.array(kept, pa.int64()))) != first
    name = table.column_names[0]
    assert logical_digest(table.rename_columns([name + "x", *table.column_names[1:]])) != first
    if not pa.types.is_null(table.schema.field(name).type):
        assert logical_digest(table.set_column(0, name, pa.nulls(table.num_rows))) != first


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (pa.array([0.0]), pa.array([-0.0]), False),
        (pa.array([float("nan")]), pa.array([None], pa.float64()), False),
        (pa.array([1], pa.int32()), pa.array([1], pa.int64()), False),
        (pa.array(["a"]), pa.array(["a"], pa.large_string()), True),
        (pa.array(["a"]), pa.array(["a"], pa.string_view()), True),
        (pa.array([["a"]]), pa.array([["a"]], pa.large_list(pa.large_string())), True),
        (pa.array([1], pa.timestamp("us", "UTC")), pa.array([1], pa.timestamp("us", "Europe/Paris")), False),
        (pa.array([1], pa.timestamp("us")), pa.array([1], pa.timestamp("ns")), False),
        (pa.array([ONE], pa.decimal128(9, 1)), pa.array([ONE], pa.decimal256(9, 1)), True),
        (pa.array([ONE], pa.decimal128(9, 1)), pa.array([ONE], pa.decimal128(9, 2)), False),
        (pa.array(["ab", "c"]), pa.array(["a", "bc"]), False),
        (pa.array([None, ""]), pa.array(["", None]), False),
        (pa.array([[1], []]), pa.array([[], [1]]), False),
        (pa.array(["a"]), pa.array(["a"]).dictionary_encode(), False),
    ],
)  # fmt: skip
def test_what_is_one_value_and_what_are_two(one: pa.Array[Any], other: pa.Array[Any], same: bool) -> None:
    assert (logical_digest(pa.table({"x": one})) == logical_digest(pa.table({"x": other}))) is same


def test_levels_are_content_where_their_order_is() -> None:
    def made(levels: list[str], ordered: bool) -> pa.Table:
        codes = pa.array([levels.index("a")], pa.int8())
        return pa.table({"c": pa.DictionaryArray.from_arrays(codes, pa.array(levels), ordered=ordered)})

    assert logical_digest(made(["a", "b"], True)) != logical_digest(made(["b", "a"], True))
    assert logical_digest(made(["a", "b"], False)) == logical_digest(made(["b", "a"], False))


def test_hidden_bytes_and_payloads_of_nan_are_no_content() -> None:
    odd = np.array([0x7FF8000000000001, 0xFFF8000000000000], dtype=np.uint64).view(np.float64)
    assert logical_digest(pa.table({"x": pa.array(odd)})) == logical_digest(pa.table({"x": [float("nan")] * 2}))
    hidden = pa.Array.from_buffers(pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(np.array([5, 77]).tobytes())])
    assert logical_digest(pa.table({"x": hidden})) == logical_digest(pa.table({"x": [5, None]}))
    offsets = pa.py_buffer(np.array([0, 1, 4], dtype=np.int32).tobytes())
    text = pa.Array.from_buffers(pa.string(), 2, [pa.py_buffer(b"\x01"), offsets, pa.py_buffer(b"axyz")])
    assert text.to_pylist() == ["a", None]
    assert logical_digest(pa.table({"x": text})) == logical_digest(pa.table({"x": ["a", None]}))


def test_frames_of_other_libraries_are_the_same_table() -> None:
    frame = pl.DataFrame({"a": [1, 2], "s": ["x", None], "l": [["p"], []]})
    assert logical_digest(frame.to_arrow()) == logical_digest(
        pa.table({"a": [1, 2], "s": ["x", None], "l": [["p"], []]})
    )


def test_a_table_that_grows_is_named_from_the_blocks_before() -> None:
    rows = logical.BLOCK_ROWS * 2 + 77
    table = pa.table({"x": pa.array(np.arange(rows)), "s": [str(n % 91) for n in range(rows)]})
    head = logical.Hasher(table.schema)
    for batch in table.slice(0, logical.BLOCK_ROWS + 5).to_batches():
        head.update(batch)
    assert len(head.blocks) == 1
    rest = logical.Hasher(table.schema, head.blocks)
    for batch in table.slice(logical.BLOCK_ROWS).to_batches(max_chunksize=1000):
        rest.update(batch)
    assert rest.digest() == logical_digest(table)
    assert rest.rows == rows


def test_the_identity_is_the_same_on_every_machine_for_ever() -> None:
    """A golden vector, computed by hand from the definition with hashlib alone."""
    import hashlib
    import json

    def named(value: object) -> str:
        text = json.dumps(value, separators=(",", ":"), sort_keys=True)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def sha(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    numbers = named([2, sha((1).to_bytes(8, "little")), sha(b""), sha((7).to_bytes(8, "little") + bytes(8))])
    lengths = (2).to_bytes(8, "little") + (0).to_bytes(8, "little")
    texts = named([2, sha(b""), sha(lengths), sha(b"ab")])
    block = named([numbers, texts])
    about = {"rows": 2, "columns": [["n", "int64"], ["s", "string"]], "levels": {}, "blocks": [block]}
    expected = named({"format": "table/1", "table": about})
    assert logical_digest(pa.table({"n": [7, None], "s": ["ab", ""]})) == expected


def test_what_no_table_can_hold_is_refused_by_name(tmp_path: Path) -> None:
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(UsageError, match="cannot be part of a table"):
        logical_digest(pa.table({"x": union}))
    with pytest.raises(UsageError, match="two columns are named 'x'"):
        parquet.write(pa.table([pa.array([1]), pa.array([2])], names=["x", "x"]), tmp_path / "t.parquet")
