"""What may be said of a step: what cannot be is refused by name, before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from noria.core.errors import UsageError
from noria.engines.executors import machine
from noria.pipeline.step import step


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retries", "x"),
        ("retries", 2.5),
        ("retries", -1),
        ("retries", True),
        ("cpu", "two"),
        ("cpu", -1),
        ("cpu", float("nan")),
        ("gpu", None),
        ("tolerance", "x"),
        ("memory", "5 parsecs"),
        ("memory", -5),
        ("memory", 1.5),
        ("timeout", 5),
        ("timeout", "soon"),
        ("retry_wait", 3),
        ("env", 3),
        ("isolated", "no"),
        ("cache", 0),
        ("ignore", "LIMIT"),
        ("extra_files", "settings.toml"),
        ("variables", ["HOME", 3]),
    ],
)
def test_what_an_option_cannot_be_is_refused_with_its_name_and_a_value_that_can_be(name: str, value: object) -> None:
    """A text where texts are wanted too: it would be taken for its letters, and a file of its name not looked at."""
    given: dict[str, Any] = {name: value}
    with pytest.raises(UsageError, match=f"^{name}") as caught:
        step(**given)
    assert caught.value.hint.startswith(f"@nr.step({name}=")


def test_numbers_of_numpy_are_numbers() -> None:
    @step(cpu=np.float32(0.5), retries=np.int64(2), memory=np.int64(5))  # type: ignore[call-overload]  # as users do
    def work() -> int:
        return 1

    options = work.options
    assert (options.cpu, options.retries, options.memory_bytes) == (0.5, 2, 5)
    assert [type(each) for each in (options.cpu, options.retries, options.memory_bytes)] == [float, int, int]


@pytest.mark.parametrize(("variable", "value"), [("NORIA_CPUS", "abc"), ("NORIA_CPUS", "nan"), ("NORIA_MEMORY", "-1")])
def test_a_variable_that_lends_no_amount_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=variable) as caught:
        machine.capacity(keeps_limits=True)
    assert caught.value.hint.startswith(f"{variable}=")
