"""What a record of the registry looks like to who reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from noria.core.frozen import frozen
from noria.registry.facts import Verdict
from noria.tracking.facts import Pin

__all__ = ["ARCHIVED", "NO_STAGE", "JudgementRecord", "NamedModel", "ReleaseRecord", "VersionRecord"]

NO_STAGE, ARCHIVED = "None", "Archived"


@frozen(kw_only=True)
class VersionRecord:
    """An immutable version of a model.

    One that a client filed has a `source` and no bundle. `stage` is a client's word for where it is used.
    """

    model: str
    version: int
    bundle: str
    run: str
    metrics: Mapping[str, float]
    pins: tuple[Pin, ...]
    at: str
    actor: str
    source: str = ""
    storage: str = ""
    run_link: str = ""
    description: str | None = None
    stage: str = NO_STAGE
    changed_at: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        """Its name for people: `churn:14`."""
        return f"{self.model}:{self.version}"


@frozen(kw_only=True)
class NamedModel:
    """A name for versions, whether it has any; `description` is None where nobody ever said anything."""

    model: str
    description: str | None
    made_at: str
    changed_at: str
    tags: Mapping[str, str]
    aliases: Mapping[str, int]


@frozen(kw_only=True)
class JudgementRecord:
    """What all gates said of a version, when, against which champion (0: none)."""

    model: str
    version: int
    champion: int
    passed: bool
    verdicts: tuple[Verdict, ...]
    policy: str
    report: str
    at: str
    seq: int


@frozen(kw_only=True)
class ReleaseRecord:
    """A release and its newest state; `environment` is where it moved last."""

    model: str
    release: int
    version: int
    content: str
    state: str
    environment: str
    reason: str
    made_at: str
    moved_at: str

    @property
    def ref(self) -> str:
        """Its name for people: `churn r31`."""
        return f"{self.model} r{self.release}"
