"""What a policy asks of people: named roles, each with how many must approve in it."""

from __future__ import annotations

import re

from noria.core.frozen import frozen

__all__ = ["Need", "need"]

_NEED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,39})(?: ([1-9]\d?))?")


@frozen
class Need:
    """So many different people must approve in this role."""

    role: str
    people: int


def need(text: str) -> Need:
    """What `ml-lead` (one person) or `ml-lead 2` (two) asks for.

    Raises: ValueError with the accepted forms.
    """
    match = _NEED.fullmatch(text)
    if match is None:
        raise ValueError(f'{text[:60]!r} is not a role such as "ml-lead", or "ml-lead 2" for two people')
    return Need(match[1], int(match[2] or 1))
