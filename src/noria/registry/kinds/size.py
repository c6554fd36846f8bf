"""How large a model may be: `size_mb = 50`, of all files of its bundle; a MB is a million bytes."""

from __future__ import annotations

from noria.registry.evidence import Evidence
from noria.registry.facts import Verdict

__all__ = ["judge"]


def judge(evidence: Evidence) -> list[Verdict]:
    """One verdict if the policy bounds the size of the bundle."""
    limit = evidence.policy.size_mb
    if limit is None:
        return []
    if evidence.size_bytes is None:
        return [Verdict(gate="size", passed=False, text="the size of the bundle is not known", limit=limit)]
    size = evidence.size_bytes / 1e6
    text = f"the bundle has {size:,.3g} MB, max {limit:.4g} MB"
    return [Verdict(gate="size", passed=size <= limit, text=text, value=size, limit=limit)]
