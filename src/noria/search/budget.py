"""What a search may take: time (`10m`) or money (`5 eur`), beside its number of trials. Pure."""

from __future__ import annotations

import re

from noria.config import Project
from noria.core.clock import duration
from noria.core.errors import ConfigError, UsageError
from noria.core.frozen import frozen

__all__ = ["Budget", "budget_of"]

_MONEY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]{3})")
_HOUR_S = 3600.0


@frozen
class Budget:
    """`seconds` by the wall, or `money` at `per_core_hour` of processor time; infinite where nothing is said."""

    text: str = ""
    seconds: float = float("inf")
    money: float = float("inf")
    per_core_hour: float = 0.0
    currency: str = ""

    def is_spent(self, elapsed_s: float, cpu_s: float) -> bool:
        """Whether nothing is left."""
        return elapsed_s >= self.seconds or self.cost(cpu_s) >= self.money

    def cost(self, cpu_s: float) -> float:
        """Money for processor seconds; 0 where no price is known."""
        return cpu_s / _HOUR_S * self.per_core_hour


def budget_of(text: str, project: Project) -> Budget:
    """The budget that a text says. Raises: UsageError; ConfigError for money where no price is known."""
    prices = project.run.cost
    known = Budget(text, per_core_hour=prices.per_core_hour, currency=prices.currency)
    if not text:
        return known
    found = _of_text(text, project)
    if min(found.seconds, found.money) <= 0:
        raise UsageError(f"a budget of {text} is none", hint="such as 10m or 5eur")
    return found


def _of_text(text: str, project: Project) -> Budget:
    prices = project.run.cost
    match = _MONEY.fullmatch(text.strip())
    if match:
        if not prices.per_core_hour:
            raise ConfigError(
                f"a budget of {text} needs a price",
                where=str(project.root / "noria.toml"),
                hint=f'[run.cost] per_core_hour = 0.05, currency = "{match[2].upper()}"',
            )
        if match[2].upper() != prices.currency.upper():
            raise UsageError(
                f"the budget is in {match[2].upper()}, prices are in {prices.currency.upper()}",
                hint=f"--budget {match[1]}{prices.currency.lower()}, or [run.cost] currency in noria.toml",
            )
        return Budget(text, money=float(match[1]), per_core_hour=prices.per_core_hour, currency=prices.currency)
    try:
        return Budget(
            text,
            seconds=duration(text).total_seconds(),
            per_core_hour=prices.per_core_hour,
            currency=prices.currency,
        )
    except ValueError as error:
        raise UsageError(f"{text!r} is no budget", hint="a time or money: --budget 10m, 1h30m or 5eur") from error
