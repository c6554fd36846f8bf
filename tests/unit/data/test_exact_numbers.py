"""Numbers that a double would round are kept as they are written; those that one holds stay doubles."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

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
        (("18446744073709551616",), "string"),
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
    read = formats.read_file(tmp_path / "t.csv", "t.csv", {"x": kind})["x"].to_pylist()
    assert [str(value) if kind == "string" else Decimal(value) for value in read] == [
        row if kind == "string" else Decimal(row) for row in rows
    ]
