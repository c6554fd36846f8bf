"""One pass over a file: every row once and in order, whatever the lanes, groups and encodings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.checks.evaluate import ColumnCheck
from noria.checks.facts import Finding
from noria.checks.scanning import scan as scanning
from noria.checks.scanning.expression import Expression, read
from noria.checks.scanning.hashing import Hasher, hashes_of, met
from noria.checks.scanning.repeats import repeated, repeated_on_disk
from noria.checks.scanning.scan import scan, shape_of
from noria.checks.scanning.summary import TableProfile
from noria.checks.scanning.tally import Places, Rows
from noria.checks.suites.rules import ColumnRules
from noria.core.errors import UsageError

ROWS = 150_000


class Witness:
    """Remembers what it was shown."""

    def __init__(self, columns: set[str], expressions: tuple[Expression, ...] = ()) -> None:
        self.columns = frozenset(columns)
        self.expressions = expressions
        self.seen: list[tuple[int, int]] = []
        self.values: list[Any] = []
        self.said: list[Mapping[str, Any]] = []

    def look(self, rows: Rows) -> None:
        self.seen.append((rows.first, rows.count))
        self.values.append({name: rows[name].array for name in self.columns})
        self.said.append(rows.said)

    def findings(self, profile: TableProfile, faults: Mapping[str, str]) -> list[Finding]:
        return []

    def broken(self) -> list[Places]:
        return []


@pytest.fixture(scope="module")
def table() -> pa.Table:
    dice = np.random.default_rng(1)
    return pa.table(
        {
            "a": np.arange(ROWS),
            "b": dice.normal(size=ROWS),
            "few": pa.array(dice.choice(["x", "y", "z"], ROWS)),
            "many": pa.array([f"id{i}" for i in range(ROWS)]),
            "a.b": dice.integers(0, 5, ROWS),
        }
    )


@pytest.fixture(scope="module", params=[ROWS, 40_000], ids=["one group", "four groups"])
def path(request: pytest.FixtureRequest, table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = tmp_path_factory.mktemp("scan") / "t.parquet"
    pq.write_table(table, found, row_group_size=request.param)
    return found


def test_every_watcher_sees_every_row_once_and_in_order(path: Path, table: pa.Table) -> None:
    shape = shape_of(path, "t")
    assert (shape.rows, shape.dictionaries) == (ROWS, ("few",))
    watchers = [Witness({name}) for name in table.column_names] + [Witness({"a", "few"}), Witness({"b", "many"})]
    assert scan(path, "t", shape, watchers) == {}
    for witness in watchers:
        assert witness.seen[0][0] == 0
        ends = [first + count for first, count in witness.seen]
        assert [first for first, _ in witness.seen[1:]] == ends[:-1]
        assert ends[-1] == ROWS
        for name in witness.columns:
            parts = [part[name] for part in witness.values]
            plain = [part.cast(part.type.value_type) if pa.types.is_dictionary(part.type) else part for part in parts]
            assert pa.chunked_array(plain).equals(table[name].cast(plain[0].type))
        assert max(count for _, count in witness.seen) <= scanning.BATCH_ROWS
    few = watchers[2].values[0]["few"]
    assert pa.types.is_dictionary(few.type), "a dictionary in the file stays one"


def test_those_that_share_a_column_share_a_lane_and_heavy_ones_part(path: Path) -> None:
    shape = shape_of(path, "t")
    one, other, third = Witness({"a", "b"}), Witness({"b", "few"}), Witness({"many"})
    lanes = scanning._lanes(shape, [one, other, third, Witness(set())])
    by_witness = {id(each): number for number, lane in enumerate(lanes) for each in lane}
    assert by_witness[id(one)] == by_witness[id(other)]
    assert len(by_witness) == 3
    assert len(lanes) == 1 or by_witness[id(third)] != by_witness[id(one)]


def test_conditions_are_answered_where_their_columns_are(path: Path, table: pa.Table) -> None:
    asked = Witness({"a", "b"}, (read("a > 10 and b > 0", table.column_names), read("a::varchar::date is null", ["a"])))
    faults = scan(path, "t", shape_of(path, "t"), [asked, Witness({"many"})])
    assert list(faults) == ["a::varchar::date is null"]
    told = np.concatenate([said["a > 10 and b > 0"] for said in asked.said])
    assert (told == ((table["a"].to_numpy() > 10) & (table["b"].to_numpy() > 0))).all()


def test_an_error_in_a_lane_comes_out(path: Path) -> None:
    class Broken(Witness):
        def look(self, rows: Rows) -> None:
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        scan(path, "t", shape_of(path, "t"), [Witness({"a"}), Broken({"many"})])


def test_a_cut_off_file_is_named(path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"cut\.parquet is not a whole Parquet file"):
        shape_of(cut, "cut.parquet")
    whole = bytearray(path.read_bytes())
    whole[2000:9000] = bytes(7000)
    cut.write_bytes(whole)
    with pytest.raises(UsageError, match=r"cut\.parquet is not a whole Parquet file"):
        scan(cut, "cut.parquet", shape_of(cut, "cut.parquet"), [Witness({"a", "b"})])


def test_streamed_profiles_are_those_of_the_whole_column(path: Path, table: pa.Table) -> None:
    shape = shape_of(path, "t")
    checks = [ColumnCheck(name, ColumnRules(), shape.schema, is_full=True) for name in ("a.b", "few")]
    scan(path, "t", shape, checks)
    assert checks[0].state is not None
    assert checks[1].state is not None
    numbers, texts = checks[0].state.profile(), checks[1].state.profile()
    values, counts = np.unique(table["few"].to_numpy(), return_counts=True)
    assert dict(texts.levels) == dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert numbers.quantiles[2] == np.quantile(table["a.b"].to_numpy(), 0.5, method="inverted_cdf")


def test_repeated_rows_are_found_alike_in_memory_by_hash_and_on_disk(tmp_path: Path) -> None:
    dice = np.random.default_rng(2)
    tables = [
        pa.table({
            "k": pa.array(dice.integers(0, 400, 300).astype(float), mask=dice.random(300) < 0.05),
            "s": pa.array([f"s{i}" for i in dice.integers(0, 4, 300)], mask=dice.random(300) < 0.05),
        })
        for _ in range(3)
    ]  # fmt: skip
    paths = [tmp_path / f"{index}.parquet" for index in range(3)]
    for file, part in zip(paths, tables, strict=True):
        pq.write_table(part, file)
    whole = pa.concat_tables(tables)
    for columns in (["k"], ["k", "s"]):
        for are_nulls_equal in (False, True):
            rows = [tuple(row.values()) for row in whole.select(columns).to_pylist()]
            is_empty = [all(value is None for value in row) for row in rows]
            expected = [rows.count(r) > 1 and (are_nulls_equal or not e) for r, e in zip(rows, is_empty, strict=True)]
            found = repeated([whole[name] for name in columns], are_nulls_equal=are_nulls_equal)
            assert found.tolist() == expected
            count, places = repeated_on_disk(paths, 2, columns, tmp_path / "spill", are_nulls_equal)
            assert count == sum(expected)
            for index in range(2):
                assert places[index].tolist() == np.flatnonzero(expected[index * 300 : (index + 1) * 300]).tolist()
        hashes = np.concatenate([hashes_of(file, columns) for file in paths])
        suspects = np.isin(hashes, met(hashes))
        assert suspects[np.array([rows.count(row) > 1 for row in rows])].all(), "equal rows have equal hashes"


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_nan_is_no_value_and_minus_zero_is_zero_in_memory_and_on_disk(tmp_path: Path, kind: pa.DataType) -> None:
    nan = float("nan")
    files = [
        ([nan, nan, None, None, 0.0, 1.0, -nan], ["a", "a", "a", "b", "c", "d", None]),
        ([-0.0, 1.0, 2.0, nan, -nan, None, -nan], ["c", "e", "f", None, "g", None, "g"]),
    ]
    parts = [pa.table({"k": pa.array(numbers, kind), "s": pa.array(texts)}) for numbers, texts in files]
    parts[1] = parts[1].append_column("nan", pa.array(["nan", "nan", None, "x", "y", "z", ""]))
    parts[0] = parts[0].append_column("nan", pa.nulls(7, pa.string()))
    paths = [tmp_path / f"{index}.parquet" for index in range(2)]
    for file, part in zip(paths, parts, strict=True):
        pq.write_table(part, file)
    whole = pa.concat_tables(parts)
    cases = {
        (("k",), False): [4, 5, 7, 8],
        (("k",), True): [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13],
        (("k", "s"), False): [0, 1, 4, 7, 11, 13],
        (("k", "s"), True): [0, 1, 4, 6, 7, 10, 11, 13],
        (("nan",), False): [7, 8],
    }
    for (columns, are_nulls_equal), expected in cases.items():
        found = repeated([whole[name] for name in columns], are_nulls_equal=are_nulls_equal)
        count, places = repeated_on_disk(paths, 2, columns, tmp_path / "spill", are_nulls_equal)
        assert np.flatnonzero(found).tolist() == expected
        assert (count, [*places[0], *(places[1] + 7)]) == (len(expected), expected)
        hashes = np.concatenate([hashes_of(file, columns) for file in paths])
        suspects = set(np.flatnonzero(np.isin(hashes, met(hashes))).tolist())
        assert suspects >= set(expected), "equal rows have equal hashes"


def test_equal_values_of_different_types_have_equal_hashes(tmp_path: Path) -> None:
    whole = [1, 2, None]
    kinds: list[Any] = [pa.array(whole, pa.int32()), pa.array([1.0, 2.0, float("nan")]), pa.array(whole, pa.int64())]
    found = []
    for index, values in enumerate(kinds):
        file = tmp_path / f"{index}.parquet"
        texts = pa.array(["a", "b", None])
        pq.write_table(pa.table({"x": values, "s": texts.dictionary_encode() if index else texts}), file)
        found.append(hashes_of(file, ["x", "s", "nosuch"]).tolist())
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == 3


@given(st.lists(st.none() | st.text(max_size=30), max_size=40), st.integers(0, 5))
def test_equal_texts_have_equal_hashes_and_others_do_not(words: list[str | None], first: int) -> None:
    """Whatever lies around them in memory: slices, dictionaries, texts of every length up to several words."""
    texts = pa.array(words, pa.string())
    whole = Hasher(["s"]).hash(pa.table({"s": texts}))
    by_word: dict[str | None, int] = {}
    for word, found in zip(words, whole.tolist(), strict=True):
        assert by_word.setdefault(word, found) == found
    assert len(set(by_word.values())) == len(by_word), "64 bits"
    cut = Hasher(["s"]).hash(pa.table({"s": texts[first:]}))
    assert cut.tolist() == whole[first:].tolist()
    coded = Hasher(["s"]).hash(pa.table({"s": texts.dictionary_encode()}))
    assert coded.tolist() == whole.tolist()


@given(st.lists(st.integers(0, 30), max_size=80))
def test_hashes_that_meet_are_those_of_more_than_one_row(values: list[int]) -> None:
    hashes = Hasher(["n"]).hash(pa.table({"n": pa.array(values, pa.int64())}))
    twice = {found for found in hashes.tolist() if hashes.tolist().count(found) > 1}
    assert set(met(hashes).tolist()) == twice
