"""What can happen when the store of another tracker is taken over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from noria.core.fact import fact

__all__ = ["FACTS", "ImportBegan", "ImportEnded", "OriginNoted"]


@fact("import.began", subject="import/{name}")
class ImportBegan:
    """Somebody began to take a tracking store over, and it had something that is not here.

    `address` is the store's without credentials, `form` what kind and version of a store it is.
    """

    name: str
    address: str
    form: str


@fact("import.ended", subject="import/{name}")
class ImportEnded:
    """Taking a store over came to its end: how much of each kind was new, and how much differs still."""

    name: str
    new: Mapping[str, int]
    differences: int


@fact("origin.noted", subject="{of}")
class OriginNoted:
    """What the store that something came from says of it and no record here holds: its times, its place, its words.

    `of` is the subject here, such as `experiment/3` or `model/churn:1`; `place` tells two stores apart that
    both have it. Times are milliseconds since 1970 by the store's clock, None where it knew none.
    """

    of: str
    place: str
    created_ms: int | None = None
    updated_ms: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)


FACTS = (ImportBegan, ImportEnded, OriginNoted)
