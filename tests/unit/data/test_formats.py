from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.core.errors import UsageError
from noria.data.forms import formats
from noria.data.forms.formats import as_utc, format_of, inspect, read_file, unify


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_table_is_known_by_its_suffix() -> None:
    assert [format_of(n) for n in ("a.CSV", "b.tsv", "c.csv.gz", "d.parquet", "e.pq", "f.jsonl", "g.ndjson.gz")] == [
        *("csv", "csv", "csv", "parquet", "parquet", "jsonl", "jsonl")
    ]
    assert [format_of(n) for n in ("README.md", "a.parquet.gz", "x.json", "csv")] == ["", "", "", ""]


def test_a_csv_file_is_inspected_with_its_types_and_times(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"id,zip,t,x\n1,02139,2013-01-01T05:00:00Z,NA\n2,10001,2013-01-02T05:00:00Z,2\n")
    found = inspect(path, "a.csv", "t")
    assert found.rows == 2
    assert found.columns == (
        ("id", "int64", False),
        ("zip", "string", False),
        ("t", "timestamp[us, tz=UTC]", False),
        ("x", "int64", True),
    )
    assert (found.time_min, found.time_max) == ("2013-01-01T05:00:00.000000Z", "2013-01-02T05:00:00.000000Z")


@pytest.mark.parametrize(
    ("content", "rows", "columns"),
    [
        (b"\xef\xbb\xbfa,b\n1,2\n", 1, ["a", "b"]),
        (b"a;b\r\n1;2\r\n", 1, ["a", "b"]),
        (b"a\tb\n1\t2\n", 1, ["a", "b"]),
        (b'a,b\n"x\ny",2\n', 1, ["a", "b"]),
        (b",a\n0,2\n", 1, ["column_1", "a"]),
        (b"a,b\n", 0, ["a", "b"]),
        (b'"a,1",b\n1,2\n', 1, ["a,1", "b"]),
    ],
)
def test_common_ways_of_writing_csv_are_read(tmp_path: Path, content: bytes, rows: int, columns: list[str]) -> None:
    found = inspect(write(tmp_path, "a.csv", content), "a.csv")
    assert (found.rows, [name for name, _, _ in found.columns]) == (rows, columns)
    assert read_file(tmp_path / "a.csv", "a.csv", {}).num_rows == rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("z.csv", b"", "z.csv is empty"),
        ("n.csv", b"\n\n", "no header"),
        ("r.csv", b"a,b\n1,2\nSECRET\n4,5\n", "line 3 has 1 values where the header names 2"),
        ("w.csv", b"a,b\n1,2,SECRET\n", "has 3 values where the header names 2"),
        ("o.csv", b'a,b\n"SECRET,2\n3,4\n', "broken"),
        ("u.csv", b"a,b\n\xff\xfeSECRET,1\n", "not UTF-8"),
        ("d.csv", b"a,a\n1,2\n", "two columns named 'a'"),
        ("c.csv", b"\x00\x01\n\x00\n", "control characters"),
        ("g.csv.gz", b"SECRET", "gzip"),
        ("p.parquet", b"PAR1SECRET", "not a whole Parquet file"),
        ("j.jsonl", b'[1,2]\n{"SECRET"', "not JSON lines"),
        ("t.csv", b"t,x\nSECRET,1\n", "not a time"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(UsageError) as caught:
        inspect(path, name, "t")
    said = str(caught.value)
    assert message in said
    assert name in said
    assert "SECRET" not in said, "row values never enter messages"
    assert len(said.splitlines()) <= 6


@pytest.mark.parametrize("name", ["p.parquet", "j.jsonl"])
def test_a_column_without_a_name_is_said(tmp_path: Path, name: str) -> None:
    """It was taken for the time, of which none was named."""
    path = write(tmp_path, name, b'{"": 1}\n')
    if name.endswith("parquet"):
        pq.write_table(pa.table({"": [1]}), path)
    with pytest.raises(UsageError, match=f"{name} has a column without a name"):
        inspect(path, name)


def test_a_cut_off_gzip_file_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 100_000)
    with pytest.raises(UsageError, match=r"cut\.csv\.gz"):
        inspect(write(tmp_path, "cut.csv.gz", whole[: len(whole) // 2]), "cut.csv.gz")


def test_a_gzipped_csv_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv.gz", gzip.compress(b"a,b\n1,02\n"))
    assert inspect(path, "a.csv.gz").columns == (("a", "int64", False), ("b", "string", False))


def test_json_lines_keep_text_as_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", b'{"a": 1, "zip": "02139"}\n{"a": 2.5, "zip": "10001"}\n')
    assert read_file(path, "a.jsonl", {}).to_pylist() == [{"a": 1.0, "zip": "02139"}, {"a": 2.5, "zip": "10001"}]


def test_a_parquet_file_keeps_its_types_and_loses_only_metadata(tmp_path: Path) -> None:
    table = pa.table(
        {
            "category": pa.array(["a", "b"]).dictionary_encode(),
            "decimal": pa.array(["1.10", "2.20"]).cast(pa.decimal128(10, 2)),
            "int8": pa.array([1, None], pa.int8()),
            "time": pa.array([0, 1], pa.timestamp("ns", "Europe/Paris")),
        }
    ).replace_schema_metadata({"pandas": "{}"})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    assert read_file(path, "a.parquet", {}).equals(table.replace_schema_metadata(None))
    assert inspect(path, "a.parquet", "time").time_min == "1970-01-01T00:00:00.000000Z"


def test_types_that_differ_are_widened_and_unlike_ones_are_named() -> None:
    wide: list[tuple[str, pa.DataType]] = [("a", pa.float64()), ("b", pa.string())]
    ints, floats = pa.schema([("a", pa.int32())]), pa.schema(wide)
    assert unify({"1": ints, "2": floats}) == floats
    codes = pa.schema([("a", pa.dictionary(pa.int8(), pa.string()))])
    assert unify({"1": codes, "2": pa.schema([("a", pa.string())])}) == pa.schema([("a", pa.string())])
    with pytest.raises(UsageError, match=r"column 'a' is string in 2 but int32 in 1"):
        unify({"1": ints, "2": pa.schema([("a", pa.string())])})


def test_times_without_a_zone_are_utc() -> None:
    naive = pa.chunked_array([pa.array([0], pa.timestamp("s"))])
    assert formats.as_utc(naive, "t", "x").type == pa.timestamp("us", "UTC")
    texts = pa.chunked_array([pa.array(["2013-01-31"])])
    assert formats.time_range(texts, "t", "x")[0] == "2013-01-31T00:00:00.000000Z"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("nulls", [[], [None]])
def test_the_range_of_times_is_the_same_in_every_unit_and_slice(unit: str, nulls: list[None]) -> None:
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    whole = pa.array([5 * factor, -86400 * factor, 0, 9 * factor, *nulls], pa.timestamp(unit))  # type: ignore[call-overload]  # the stubs want a literal
    expected = ("1969-12-31T00:00:00.000000Z", "1970-01-01T00:00:09.000000Z")
    assert formats.time_range(pa.chunked_array([whole]), "t", "x") == expected
    assert formats.time_range(pa.chunked_array([whole.slice(2)]), "t", "x")[0] == "1970-01-01T00:00:00.000000Z"
    assert formats.time_range(pa.chunked_array([pa.nulls(2, whole.type)]), "t", "x") == ("", "")


@pytest.mark.parametrize("written", ["31/12/2020", "1.2.21", "12-31-2020 05:00", "2020/12/31", "soon"])
def test_dates_that_begin_with_a_day_or_a_month_say_how_to_write_them(written: str) -> None:
    with pytest.raises(UsageError) as caught:
        as_utc(pa.chunked_array([[written, None, "NA"]]), "at", "t")
    is_told = "begin with a day or a month" in caught.value.message
    assert is_told == (written not in ("2020/12/31", "soon"))
    assert written not in caught.value.message
    assert not is_told or "pandas.to_datetime(rows['at'], format='%d/%m/%Y')" in caught.value.hint


@pytest.mark.parametrize("odd", [0, 1, 57, 99])
def test_a_row_with_another_form_of_time_is_named_by_its_number(odd: int) -> None:
    values = ["2025-01-01 00:00:00"] * 100
    values[odd] = "2026-01-01"
    with pytest.raises(UsageError) as caught:
        as_utc(pa.chunked_array([values[:40], values[40:]]), "at", "t")
    row = odd or 1  # what differs from the first row, if that is the odd one
    assert f"column 'at' is not a time: row {row} (from 0)" in str(caught.value)
    with pytest.raises(UsageError, match="column 'at' is string, not a time"):
        as_utc(pa.chunked_array([["PT", "DE", None]]), "at", "t")
