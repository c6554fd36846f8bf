"""Numbers that a double would round are kept as they are written; those that one holds stay doubles."""

from __future__ import annotations

import random
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from noria.core.errors import UsageError
from noria.data.forms import formats, text


def kind_of(*values: str) -> str:
    return text.kind_of(pa.array(values))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (("12345678901234567.89", "1.5"), "decimal128(19, 2)"),
        (("0.1234567890123456789",), "decimal128(19, 19)"),
        (("9007199254740993", "0.5"), "decimal128(17, 1)"),
        (("-12345678901234567.89", "NA", "3"), "decimal128(19, 2)"),
        (("1234567890123456789e+3", "0.5"), "decimal128(23, 1)"),
        (("0.1234567890123456789", "1e-60"), "string"),
        (("1e+400",), "string"),
        (("1e-400",), "string"),
        (("9007199254740992", "0.5"), "double"),
        (("0.30000000000000004", "1e-05"), "double"),
        (("0.10000000000000000000000", "12345678901234567000.0"), "double"),
        (("0.0", "-0.0", "0e+0"), "double"),
        (("18446744073709551616",), "double"),
    ],
)
def test_the_kind_never_rounds(values: tuple[str, ...], kind: str) -> None:
    assert kind_of(*values) == kind
    if kind.startswith("decimal"):
        typed = text.cast(pa.chunked_array([pa.array(values)]), kind).to_pylist()
        assert typed == [None if value == "NA" else Decimal(value) for value in values]


@pytest.mark.parametrize("spec", ["{!r}", "{:.18e}", "{:.17g}", "{:.20g}", "{:.25f}"])
def test_what_programs_print_of_doubles_are_doubles(spec: str) -> None:
    rng = random.Random(5)
    values = [rng.uniform(-1, 1) * 10 ** rng.randint(-3, 12) for _ in range(2000)]
    assert kind_of(*(spec.format(value) for value in values)) == "double"


def test_two_numbers_that_are_one_double_are_two_tables(tmp_path: Path) -> None:
    ids = set()
    for end in ("89", "88", "99"):
        (tmp_path / "t.csv").write_text(f"x\n1.5\n12345678901234567.{end}\n")
        ids.add(formats.inspect(tmp_path / "t.csv", "t.csv", is_named=True).logical)
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("head", "tail", "kind"),
    [
        ("0.5", "12345678901234567.89", "decimal128(19, 2)"),
        ("12345678901234567.89", "0.125", "decimal128(20, 3)"),
        ("9007199254740993", "0.5", "decimal128(17, 1)"),
        ("9007199254740992", "0.5", "double"),
        ("7", "12345678901234567.89", "decimal128(19, 2)"),
        ("2013-01-01", "12345678901234567.89", "string"),
    ],
)
def test_every_block_of_a_file_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, tail: str, kind: str
) -> None:
    monkeypatch.setattr(formats, "_BLOCK_BYTES", 4096)
    rows = [head] * 2000 + [tail] * 2000
    (tmp_path / "t.csv").write_text("x\n" + "\n".join(rows) + "\n")
    found = formats.inspect(tmp_path / "t.csv", "t.csv")
    assert [column[1] for column in found.columns] == [kind]
    read: list[Any] = formats.read_file(tmp_path / "t.csv", "t.csv", {"x": kind})["x"].to_pylist()
    assert [str(value) if kind == "string" else Decimal(value) for value in read] == [
        row if kind == "string" else Decimal(row) for row in rows
    ]


def table_of(tmp_path: Path, content: str, kinds: dict[str, str] | None = None) -> pa.Table:
    (tmp_path / "t.jsonl").write_text(content)
    found = formats.inspect(tmp_path / "t.jsonl", "t.jsonl").columns
    read = formats.read_file(tmp_path / "t.jsonl", "t.jsonl", kinds or {column: kind for column, kind, _ in found})
    if kinds is None:
        assert [(field.name, str(field.type)) for field in read.schema] == [column[:2] for column in found]
    return read


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (("12345678901234567.89", "1.5"), "decimal128(19, 2)"),
        (("-12345678901234567.89", "null", "3"), "decimal128(19, 2)"),
        (("9007199254740993", "0.5"), "decimal128(17, 1)"),
        (("9007199254740992", "0.5"), "double"),
        (("18446744073709551615",), "decimal128(20, 0)"),
        (("9007199254740993", "-9007199254740993"), "int64"),
        (("1.2345678901234567891E+3",), "decimal128(20, 16)"),
        (("12345678901234567891e-00030", "1"), "decimal128(31, 30)"),
        (("0.1234567890123456789", "1e-60"), "string"),
        (("1e-400",), "string"),
        (("0.30000000000000004", "1e-05", "1E22", "0.0", "-0.0"), "double"),
    ],
)
def test_json_lines_never_round(tmp_path: Path, values: tuple[str, ...], kind: str) -> None:
    table = table_of(tmp_path, "".join(f'{{"x": {value}}}\n' for value in values))
    assert str(table["x"].type) == kind
    got: list[Any] = table["x"].to_pylist()
    assert [None if each is None else Decimal(repr(each) if kind == "double" else each) for each in got] == [
        None if value == "null" else Decimal(value) for value in values
    ]


@pytest.mark.parametrize("spec", ["{!r}", "{:.18e}", "{:.17g}", "{:.25f}"])
def test_what_programs_print_of_doubles_are_doubles_in_json_lines(tmp_path: Path, spec: str) -> None:
    rng = random.Random(5)
    values = [rng.uniform(-1, 1) * 10 ** rng.randint(-3, 12) for _ in range(500)]
    table = table_of(tmp_path, "".join(f'{{"i": {2**60}, "x": {spec.format(value)}}}\n' for value in values))
    assert [str(field.type) for field in table.schema] == ["int64", "double"]
    assert table["x"].to_pylist() == values


def test_numbers_within_lists_and_objects_are_not_rounded(tmp_path: Path) -> None:
    row = '{{"o": {{"d": [{}, 2.5], "at": "2013-01-01", "n": 0.1}}, "t": "12345678901234567.89", "f": NaN}}\n'
    table = table_of(tmp_path, row.format("12345678901234567.89") + row.format("null"))
    assert str(table["o"].type.field("d").type) == "list<item: decimal128(19, 2)>"
    rows: list[Any] = table["o"].to_pylist()
    first, second = rows
    assert first == {"d": [Decimal("12345678901234567.89"), Decimal("2.5")], "at": datetime(2013, 1, 1), "n": 0.1}
    assert second == {**first, "d": [None, Decimal("2.5")]}
    assert table["t"].to_pylist() == ["12345678901234567.89"] * 2
    assert str(table["f"].type) == "double"


def test_an_edit_beyond_a_double_is_another_table_in_json_lines(tmp_path: Path) -> None:
    ids = set()
    for end in ("89", "88", "99"):
        (tmp_path / "t.jsonl").write_text(f'{{"x": 1.5}}\n{{"x": 12345678901234567.{end}}}\n')
        ids.add(formats.inspect(tmp_path / "t.jsonl", "t.jsonl", is_named=True).logical)
    assert len(ids) == 3


def test_a_column_of_json_lines_is_read_as_its_data_set_has_it(tmp_path: Path) -> None:
    assert table_of(tmp_path, '{"x": 1.5}\n', {"x": "decimal128(20, 2)"})["x"].to_pylist() == [Decimal("1.50")]
    assert table_of(tmp_path, '{"x": 1.50}\n', {"x": "string"})["x"].to_pylist() == ["1.50"]
    with pytest.raises(UsageError, match="does not fit"):
        table_of(tmp_path, '{"x": 1.555}\n', {"x": "decimal128(20, 2)"})
