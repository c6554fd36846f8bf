"""What is written to CSV and JSON lines files is what comes back from the version: no number is rounded."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from noria.bootstrap import open_workspace
from noria.core.errors import UsageError
from noria.data import versions
from noria.data.rows import read
from noria.data.tabular import incremental

whole = st.one_of(st.integers(-9, 9), st.integers(-(2**66), 2**66), st.integers(-(10**42), 10**42)).map(str)
fractions = st.builds(
    lambda digits, scale: f"{Decimal(digits).scaleb(-scale):f}", st.integers(-(10**40), 10**40), st.integers(1, 12)
)
doubles = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False).map(repr)
numbers = st.lists(st.one_of(whole, fractions, doubles), min_size=1, max_size=6)
files = st.lists(st.tuples(st.sampled_from(["csv", "jsonl"]), numbers), min_size=1, max_size=3)


def is_same(written: str, got: Any) -> bool:
    """Whether a value is the number that was written; a double is it if printing it gives these digits."""
    if not isinstance(got, float):
        return Decimal(written) == Decimal(got)
    digits = len(Decimal(written).as_tuple().digits)
    return Decimal(written) in (Decimal(repr(got)), Decimal(f"{got:.{max(digits - 1, 0)}e}"))


@settings(max_examples=60, deadline=None)
@example([("csv", ["9007199254740993"]), ("csv", ["0.5"])])
@example([("jsonl", ["9007199254740993"]), ("jsonl", ["0.5"])])
@example([("jsonl", ["9007199254740993"]), ("csv", ["0.5"])])
@example([("csv", ["0.5"]), ("jsonl", ["9007199254740994"])])
@example([("csv", ["0.5"]), ("jsonl", ["-9223372036854775808"])])
@example([("csv", ["0.5"]), ("jsonl", ["9223372036854775807"])])
@example([("jsonl", ["12345678901234567.89"]), ("jsonl", ["0.5"])])
@example([("jsonl", ["12345678901234567.89", "1.5"])])
@example([("jsonl", ["1e-400", "0.0"])])
@example([("csv", ["10000000000000000000000000000000000000000"]), ("jsonl", ["1.5"])])
@example([("jsonl", ["7.582904631739636e+70", "-59497564194554605731.840"]), ("csv", ["-75.7084001", "5.56e-59"])])
@example([("jsonl", ["9007199254740993", "1e+38"]), ("csv", ["0.5"]), ("jsonl", ["2"])])
@example([("jsonl", ["-18446744073709551617", "-1.79e+308"]), ("csv", ["7"])])
@example([("jsonl", ["-18446744073709551617", "-1.79e+308"]), ("jsonl", ["12345678901234567.89"])])
@given(files)
def test_every_number_comes_back_as_it_was_written(written: list[tuple[str, list[str]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "noria.toml").write_text('[project]\nname = "t"\n')
        (root / "in").mkdir()
        for place, (form, texts) in enumerate(written):
            rows = [f'{{"k": {place}, "x": {each}}}' if form == "jsonl" else f"{place},{each}" for each in texts]
            head = ["k,x"] if form == "csv" else []
            (root / "in" / f"{place}.{form}").write_text("\n".join([*head, *rows, ""]))
        ws = open_workspace(root, actor="user:test")
        try:
            version = versions.add(ws, str(root / "in"), name="x")
            got = read.table(ws, version)["x"].to_pylist()
        finally:
            ws.ledger.database.close()
    expected = [each for _, texts in written for each in texts]
    assert len(got) == len(expected)
    assert [pair for pair in zip(expected, got, strict=True) if not is_same(*pair)] == []


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_numbers_too_wide_for_a_decimal_are_not_appended_to_doubles(tmp_path: Path, form: str) -> None:
    (tmp_path / "noria.toml").write_text('[project]\nname = "t"\n')
    wide = ["7.582904631739636e+70", "-59497564194554605731.840"]
    if form == "csv":
        (tmp_path / "more.csv").write_text("k,x\n" + "".join(f"{k + 2},{each}\n" for k, each in enumerate(wide)))
    else:
        rows = (f'{{"k": {k + 2}, "x": {each}}}\n' for k, each in enumerate(wide))
        (tmp_path / "more.jsonl").write_text("".join(rows))
    (tmp_path / "half.csv").write_text("k,x\n1,0.5\n")
    (tmp_path / "words.csv").write_text("k,x\n2,no\n3,inf\n")
    (tmp_path / "endless.csv").write_text("k,x\n2,inf\n")
    ws = open_workspace(tmp_path, actor="user:test")
    versions.add(ws, str(tmp_path / "half.csv"))
    with pytest.raises(UsageError, match="a double would round"):
        incremental.append(ws, "half", str(tmp_path / f"more.{form}"), watermark="k")
    with pytest.raises(UsageError, match="holds a value that is no double: row 0, from 0"):
        incremental.append(ws, "half", str(tmp_path / "words.csv"), watermark="k")
    assert read.table(ws, versions.describe(ws, "half"))["x"].to_pylist() == [0.5]
    incremental.append(ws, "half", str(tmp_path / "endless.csv"), watermark="k")
    assert read.table(ws, versions.describe(ws, "half"))["x"].to_pylist() == [0.5, float("inf")]
    ws.ledger.database.close()


def test_what_would_have_to_be_rounded_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noria.toml").write_text('[project]\nname = "t"\n')
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"o": {"x": 12345678901234567.89}}\n')
    (tmp_path / "in" / "b.jsonl").write_text('{"o": {"x": 0.5}}\n')
    (tmp_path / "whole.jsonl").write_text('{"k": 1, "x": 9007199254740993}\n')
    (tmp_path / "half.jsonl").write_text('{"k": 2, "x": 0.5}\n')
    ws = open_workspace(tmp_path, actor="user:test")
    with pytest.raises(UsageError, match="a double would round decimals"):
        versions.add(ws, str(tmp_path / "in"), name="x")
    versions.add(ws, str(tmp_path / "whole.jsonl"))
    with pytest.raises(UsageError, match="without rounding"):
        incremental.append(ws, "whole", str(tmp_path / "half.jsonl"), watermark="k")
    ws.ledger.database.close()
