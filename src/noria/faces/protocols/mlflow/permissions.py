"""What a request of MLflow's interface takes: its permission from its method and endpoint.

An endpoint is read by its words: of what it is (experiments and runs, or the registry), and whether it only
looks. So an endpoint that is new has a permission at once; one of a family that is not named here has none,
and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["permission_of", "permission_of_file"]

FAMILIES: Mapping[str, str] = {
    "artifacts": "experiments",
    "datasets": "experiments",
    "experiments": "experiments",
    "logged-models": "experiments",
    "metrics": "experiments",
    "model-versions": "registry",
    "registered-models": "registry",
    "runs": "experiments",
    "traces": "experiments",
    "webhooks": "webhooks",
}
LOOKS = ("batchGet", "get", "list", "search")
"""How the last word of an endpoint begins that only looks, though it is asked by POST."""
PROMOTES = frozenset({"registered-models/alias", "model-versions/transition-stage"})
"""What decides which version answers."""


def permission_of(method: str, endpoint: str) -> str:
    """The permission that an endpoint of the table takes, such as "experiments.read"; nobody's for no known family."""
    words = endpoint.split("/")
    family = FAMILIES.get(words[0])
    if family is None:
        return f"{words[0]}.unknown"
    if family == "webhooks":
        return "registry.webhooks"  # a server that calls out on somebody's word
    is_look = method in ("GET", "HEAD") or (method == "POST" and len(words) == 2 and words[1].startswith(LOOKS))
    if is_look:
        return f"{family}.read"
    return "registry.promote" if endpoint in PROMOTES else f"{family}.write"


def permission_of_file(method: str) -> str:
    """The permission that a file of a run or logged model takes: to look, or to change."""
    return "experiments.read" if method in ("GET", "HEAD") else "experiments.write"
