"""`@nr.metric` works bare and with its option."""

from __future__ import annotations

from typing import Any

import pytest

from noria.core.errors import UsageError
from noria.pipeline.define import metric


def saved(y: Any, score: Any, rows: Any) -> float:
    """A metric."""
    return 1.0


def test_the_bare_mark_and_the_empty_one_are_the_same() -> None:
    assert (metric(saved).name, metric(saved).better) == ("saved", "higher")
    assert metric()(saved).better == "higher"
    assert metric(better="lower")(saved).better == "lower"
    assert metric(saved)(None, None, None) == 1.0


def test_a_third_direction_is_refused() -> None:
    with pytest.raises(UsageError, match="sideways"):
        metric(better="sideways")


def test_rows_are_given_to_who_wants_them() -> None:
    assert metric(saved).takes_rows
    assert metric(lambda y, score, rows=None: 0.0).takes_rows
    assert metric(lambda *given: 0.0).takes_rows
    assert not metric(lambda y, score: 0.0).takes_rows


@pytest.mark.parametrize("function", [lambda y: 0.0, lambda y, score, rows, more: 0.0, lambda: 0.0])
def test_other_parameters_are_refused(function: Any) -> None:
    with pytest.raises(UsageError, match="takes"):
        metric(function)
