"""The shape of an explanation: links that go back from a thing, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from noria.core.frozen import frozen

__all__ = ["Chain", "Link"]


@frozen(kw_only=True)
class Link:
    """One link of a chain: `what` it is, its ref, one sentence, when and by whom, and its figures."""

    what: str
    ref: str
    text: str
    at: str = ""
    actor: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@frozen(kw_only=True)
class Chain:
    """The answer: `links` go back from the thing asked for, `touched` is what came of it."""

    id: str
    kind: str
    links: tuple[Link, ...]
    touched: tuple[Link, ...] = ()
