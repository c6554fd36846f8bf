from __future__ import annotations

import os

import pytest

from noria.core.printable import printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain \xc3\xa9.txt", "plain é.txt"),
        (b"latin-\xe9", r"latin-\xe9"),
        (b"a\nb\rc\td", r"a\nb\rc\td"),
        (b"\x1b[31m", r"\u001b[31m"),
        ("\u202egnp".encode(), r"\u202egnp"),
        ("\U000e0001".encode(), r"\U000e0001"),
        (b"back\\slash", r"back\slash"),
        (b"", ""),
    ],
)
def test_what_a_terminal_cannot_show_is_escaped(raw: bytes, shown: str) -> None:
    found = printable(os.fsdecode(raw))
    assert found == shown
    assert found.isprintable()
    found.encode("utf-8")


def test_a_lone_surrogate_that_is_no_byte_is_escaped_too() -> None:
    assert printable("\ud800") == r"\ud800"
