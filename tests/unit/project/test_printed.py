"""What two runs of a script printed: the same but for clocks, bars and addresses, or the first line that differs."""

from __future__ import annotations

import pytest

from noria.project.again.printed import difference, normal


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ("2026-11-23 00:12:01,123 INFO begun", "2027-01-02T03:04:05.9+02:00 INFO begun"),
        ("took 3.21 s", "took 12 s"),
        ("fitted in 5ms", "fitted in 1e-05 seconds"),
        ("\x1b[32mok\x1b[0m", "ok"),
        ("  5%|▌   | 1/20 [00:00<00:03]\r100%|███| 20/20 [00:02<00:00, 9.9it/s]\ndone", "done"),
        ("<object at 0x7f3bdeadbeef>", "<object at 0x55aa00ff1122>"),
        ("worker pid=12", "worker pid=9123"),
        ("first\rlast\nend\n\n", "last\r\nend"),
        ("a\nb", "b\na"),
    ],
)
def test_what_is_another_in_every_run_is_no_difference(then: str, now: str) -> None:
    assert difference(normal(then.encode()), normal(now.encode())) == ""


def test_a_folder_of_the_place_reads_as_the_one_of_then() -> None:
    found = normal(b"wrote /place/work/home/me/out.csv", [("/place/work", "")])
    assert found == "wrote /home/me/out.csv"


@pytest.mark.parametrize(
    ("then", "now", "text"),
    [
        ("auc 0.91", "auc 0.92", "line 1: 'auc 0.91' -> 'auc 0.92'"),
        ("a\nb", "a", "line 2: 'b' -> nothing"),
        ("", "new", "line 1: nothing -> 'new'"),
        ("a\na\nb", "a\nb\nb", "line 2: 'a' -> 'b'"),
        ("5 rows", "6 rows", "line 1: '5 rows' -> '6 rows'"),
    ],
)
def test_anything_else_is_told_by_its_first_line(then: str, now: str, text: str) -> None:
    assert difference(normal(then.encode()), normal(now.encode())) == text
