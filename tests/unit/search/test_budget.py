"""Budgets: what they say, when they are spent, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.config import CostConfig, Project, RunConfig
from noria.core.errors import ConfigError, UsageError
from noria.search.budget import budget_of


def project(price: float = 0.0) -> Project:
    return Project(name="p", root=Path("/p"), run=RunConfig(cost=CostConfig(per_core_hour=price)))


def test_a_budget_of_time_is_of_the_wall() -> None:
    found = budget_of("1h30m", project())
    assert not found.is_spent(5399, 10**9)
    assert found.is_spent(5400, 0)


def test_a_budget_of_money_is_of_processor_time() -> None:
    found = budget_of("5 eur", project(2.0))
    assert found.cost(3600) == 2.0
    assert not found.is_spent(10**9, 2.4 * 3600)
    assert found.is_spent(0, 2.5 * 3600)


def test_without_a_budget_nothing_is_ever_spent() -> None:
    assert not budget_of("", project(2.0)).is_spent(10**9, 10**9)


def test_what_is_no_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a price"):
        budget_of("5eur", project())
    with pytest.raises(UsageError, match="in USD, prices are in EUR"):
        budget_of("5usd", project(1.0))
    with pytest.raises(UsageError, match="no budget"):
        budget_of("a while", project())


@pytest.mark.parametrize("text", ["0s", "0m", "0eur"])
def test_a_budget_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"a budget of {text} is none"):
        budget_of(text, project(1.0))
