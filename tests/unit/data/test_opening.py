"""A CSV that ends inside a quoted value is told, and no other is."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.errors import UsageError
from noria.data.forms import formats

VALUES = st.lists(st.text(alphabet='",x\n\r ä', max_size=6), min_size=1, max_size=4)


def inspect(folder: Path, content: bytes, name: str = "t.csv") -> int:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return formats.inspect(path, name, "").rows


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('1,"un\n2,b\n3,c\n', 2),
        ('1,a\n2,"b', 3),
        ('1,a\n2,"', 3),
        ('1,a\n2,"\n', 3),
        ('1,"a\nb"\n2,"say ""hi""\n3,c\n', 4),
        ('1,a\n2,"""', 3),
    ],
)
def test_an_open_quote_is_told_with_its_line(tmp_path: Path, rows: str, line: int, name: str) -> None:
    with pytest.raises(UsageError, match=f"a quote opened in line {line} never closes"):
        inspect(tmp_path, b"id,v\n" + rows.encode(), name)


@pytest.mark.parametrize(
    "rows", ['1,""', '1,""\n', '1,""""', '1,"a"""\n', '1,5" pipe\n', '1,a"', "1,\n", '1,"a\nb"', '1,"a\n"\n\n']
)
def test_a_closed_one_is_not(tmp_path: Path, rows: str) -> None:
    assert inspect(tmp_path, b"id,v\n" + rows.encode()) == 1


@given(st.lists(VALUES, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_what_a_writer_wrote_whole_is_taken_and_without_its_last_quote_is_not(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], is_ended: bool, is_cut: bool
) -> None:
    sink = io.StringIO()
    writer = csv.writer(sink, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["id", "v"])
    writer.writerows([number, "".join(values)] for number, values in enumerate(rows))
    content = sink.getvalue().encode().removesuffix(b"" if is_ended else b"\n")
    folder = tmp_path_factory.mktemp("csv")
    if not is_cut:
        assert inspect(folder, content) == len(rows)
        return
    with pytest.raises(UsageError, match="never closes"):
        inspect(folder, content.rstrip(b"\n").removesuffix(b'"') + b"\n" * is_ended)
