from __future__ import annotations

import os

import pytest

from noria.core.printable import legible, printable


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


def test_lines_blanks_and_scripts_stay_and_what_acts_on_a_terminal_does_not() -> None:
    stays = "a\nb\tc\u00a0d e\u0301 \u0645\u06cc\u200c\u062e \U0001f468\u200d\U0001f4bb"
    assert legible(stays) == stays
    assert legible("one\r\ntwo") == "one\ntwo"
    acts = "\x1b[2J\x1b]0;title\x07\r\x08\x9b31m\u202eevil\u2066\u2028\ud800\x00"
    assert legible(acts).isprintable()
    assert "title" in legible(acts)
