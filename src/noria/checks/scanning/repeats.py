"""Which rows share their key with another row. Exact: every value is compared, none is only hashed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.checks.scanning.arrays import Mask, Whole, is_null, view
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Places = NDArray[np.int64]
else:
    duckdb = lazy("duckdb")
    Places = Any
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["codes_of", "repeated", "repeated_on_disk"]

_MEMORY = "512MB"


def repeated(columns: Sequence[pa.ChunkedArray[Any] | pa.Array[Any]], *, are_nulls_equal: bool = False) -> Mask:
    """Which rows share all their values with another row, shape (n_rows,).

    A null equals a null, a NaN a NaN, and -0 is 0. Rows that have nothing but nulls and NaN, values that are not
    there, are not counted unless `are_nulls_equal`.
    """
    codes = codes_of(columns)
    counts = np.bincount(codes, minlength=1) if len(codes) else np.zeros(1, np.int64)
    again: Mask = counts[codes] > 1
    if not are_nulls_equal and again.any():
        empty = np.ones(len(codes), bool)
        for column in columns:
            empty &= is_null(column, or_nan=True)
        again &= ~empty
    return again


def codes_of(columns: Sequence[pa.ChunkedArray[Any] | pa.Array[Any]]) -> Whole:
    """A whole number for each row, equal where all values are, shape (n_rows,); small and from 0."""
    codes: Whole | None = None
    for column in columns:
        mine, size = _codes(column)
        if codes is None:
            codes = mine
        else:
            codes = np.unique(codes * np.int64(size) + mine, return_inverse=True)[1].astype(np.int64)
    assert codes is not None, "a key has columns"
    return codes


def _codes(column: pa.ChunkedArray[Any] | pa.Array[Any]) -> tuple[Whole, int]:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(whole.type):
        whole = whole.cast(whole.type.value_type)
    if pa.types.is_floating(whole.type):
        whole = _plain(whole)
    encoded = whole.dictionary_encode()
    size = len(encoded.dictionary)
    codes: Whole = view(encoded.indices.cast(pa.int64()), np.int64)
    return (np.where(is_null(encoded.indices), size, codes) if encoded.null_count else codes), size + 1


def _plain(numbers: Any) -> Any:
    """Floats of which those that are equal have equal bits: there are two zeros, and many NaN."""
    plain = numbers.cast(pa.float32()) if pa.types.is_float16(numbers.type) else numbers
    plain = pc.add(plain, pa.scalar(0.0, plain.type))
    is_nan = pc.is_nan(plain)
    return pc.if_else(is_nan, pa.scalar(float("nan"), plain.type), plain) if pc.any(is_nan).as_py() else plain


def repeated_on_disk(
    paths: Sequence[Path], looked_at: int, columns: Sequence[str], folder: Path, are_nulls_equal: bool
) -> tuple[int, list[Places]]:
    """The same for Parquet files of any size, within a limit of memory; what does not fit goes to `folder`.

    Gives how many rows share their key, and which ones in each of the first `looked_at` files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [_quoted(name) for name in columns]
    key = ", ".join(names)
    files = "[" + ", ".join(_text(str(path)) for path in paths) + "]"
    config: dict[str, Any] = {
        "memory_limit": _MEMORY,
        "temp_directory": str(folder),
        "threads": "2",
        "preserve_insertion_order": "false",
    }
    with duckdb.connect(config=config) as connection:
        # What a Parquet file says of the values of a column leaves NaN out: DuckDB would reckon that it has none.
        connection.execute("set disabled_optimizers = 'statistics_propagation,filter_pushdown'")
        rows = f"read_parquet({files}, union_by_name=true)"
        empty = "" if are_nulls_equal else f" where not ({_nothing(connection, rows, names)})"
        connection.execute(
            f"create temp table again as select {key}, count(*) as n "
            f"from {rows}{empty} group by {key} having count(*) > 1"
        )
        row = connection.execute("select coalesce(sum(n), 0)::bigint from again").fetchone()
        assert row is not None
        same = " and ".join(f"f.{name} is not distinct from a.{name}" for name in names)
        found = []
        for path in paths[:looked_at]:
            query = (
                f"select file_row_number as place from read_parquet({_text(str(path))}, file_row_number=true) f "
                f"where exists (select 1 from again a where {same}) order by place"
            )
            found.append(np.asarray(connection.execute(query).fetchnumpy()["place"], np.int64))
    return int(row[0]), found


def _nothing(connection: duckdb.DuckDBPyConnection, rows: str, names: Sequence[str]) -> str:
    """The condition that none of the columns has a value; NaN is none, and only floats know it."""
    types = connection.execute(f"describe select {', '.join(names)} from {rows}").fetchall()
    empty = [
        f"({name} is null or isnan({name}))" if kind in ("FLOAT", "DOUBLE") else f"{name} is null"
        for name, (_, kind, *_) in zip(names, types, strict=True)
    ]
    return " and ".join(empty)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
