"""Which release answers a request: a pure function of the deployment's seed and the request's key.

The same key always meets the same arm while the shares stand, and a growing candidate keeps the
keys that it already had, because arms take consecutive intervals in a fixed order. Anyone with
the log can compute every choice again. There is no randomness and no state here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from noria.serving.facts import Arm

__all__ = ["CANDIDATE", "PINNED", "STABLE", "arm", "unit"]

STABLE = "stable"
CANDIDATE = "candidate"
PINNED = "pinned"
"""The arm's name in the log when a header chose the release; such rows are no evidence."""


def unit(seed: str, key: str) -> float:
    """A number in [0, 1) that a key always has under a seed, uniform over keys."""
    content = hashlib.sha256(f"{seed}|{key}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(content[:8], "big") >> 11) / 2**53


def arm(seed: str, key: str, arms: Sequence[Arm]) -> Arm:
    """The arm of a key: its unit number against the cumulative weights, in the order of `arms`.

    The weight of the arm is the probability of the choice. Arms of weight 0 are never chosen.
    """
    if len(arms) == 1:
        return arms[0]
    place, reached = unit(seed, key), 0.0
    chosen = arms[0]
    for candidate in arms:
        if candidate.weight <= 0.0:
            continue
        chosen = candidate
        reached += candidate.weight
        if place < reached:
            return candidate
    return chosen
