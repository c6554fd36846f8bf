"""What can happen to model versions and releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from noria.core.fact import fact
from noria.tracking.facts import Pin

__all__ = ["FACTS", "AliasMoved", "GateJudged", "ReleaseMade", "ReleaseMoved", "Verdict", "VersionRegistered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one gate said. Numbers are None when they do not apply or are not finite.

    `low` and `high` bound `gain` (candidate better is positive) at the gate's level; `n` rows.
    """

    gate: str
    passed: bool
    text: str
    value: float | None = None
    limit: float | None = None
    champion: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


@fact("version.registered", subject="model/{model}")
class VersionRegistered:
    """A bundle became an immutable version of a model (numbers count from 1)."""

    model: str
    version: int
    bundle: str
    run: str
    metrics: Mapping[str, float]
    pins: tuple[Pin, ...]


@fact("gate.judged", subject="model/{model}")
class GateJudged:
    """The platform evaluated every gate of a version; `passed` only if each verdict passed.

    `champion` is the version it was compared with (0: none), `policy` the digest of the gate's
    rules, `report` that of the evaluation report.
    """

    model: str
    version: int
    champion: int
    passed: bool
    verdicts: tuple[Verdict, ...]
    policy: str
    report: str


@fact("release.made", subject="model/{model}")
class ReleaseMade:
    """One atomic object that answers: model, data pin, schema, thresholds, environment, baseline.

    Enters the state `candidate`. `content` is the digest of the release object.
    """

    model: str
    release: int
    version: int
    content: str


@fact("release.moved", subject="model/{model}")
class ReleaseMoved:
    """A release went from one state to another, by whom is the fact's actor, with a reason."""

    model: str
    release: int
    before: str
    after: str
    environment: str = "local"
    reason: str = ""


@fact("alias.moved", subject="model/{model}")
class AliasMoved:
    """An alias of a model points to a version."""

    model: str
    alias: str
    version: int
    reason: str = ""


FACTS = (VersionRegistered, GateJudged, ReleaseMade, ReleaseMoved, AliasMoved)
