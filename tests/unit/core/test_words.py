"""Counts with their nouns, and the nearest name."""

from __future__ import annotations

import pytest

from noria.core.words import counted, nearest, no_column


@pytest.mark.parametrize(("count", "said"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1200, "1,200 rows")])
def test_a_count_agrees_with_its_noun(count: int, said: str) -> None:
    assert counted(count, "row") == said


def test_a_plural_may_be_said() -> None:
    assert [counted(n, "value is", "values are") for n in (1, 3)] == ["1 value is", "3 values are"]


def test_the_nearest_name_is_found_whatever_its_case() -> None:
    assert nearest("Amuont", ["id", "AMOUNT", "paid"]) == "AMOUNT"
    assert nearest("zzz", ["id", "amount"]) == ""
    assert no_column("fee", ["fees", "id"]) == "no column 'fee', did you mean 'fees'?"
    assert no_column("fee", []) == "no column 'fee'"
