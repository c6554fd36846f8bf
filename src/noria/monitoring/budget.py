"""A budget of false alarms, such as "1 per 365d": how it is read."""

from __future__ import annotations

from noria.core.errors import UsageError

__all__ = ["budget_of"]

EXAMPLE = 'such as "1 per 365d"'


def budget_of(text: str) -> tuple[float, float]:
    """(false alarms, days) of a budget. Raises: UsageError for a text that states none, or allows none."""
    count, per, period = text.partition(" per ")
    try:
        if not per or not period.endswith("d"):
            raise ValueError
        found = float(count), float(period.removesuffix("d"))
    except ValueError as error:
        raise UsageError(f"{text!r} states no budget of false alarms", hint=EXAMPLE) from error
    if not (found[0] > 0 and found[1] > 0):
        raise UsageError(f"{text!r} allows no false alarm at all, which no test can promise", hint=EXAMPLE)
    return found
