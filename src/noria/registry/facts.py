"""What can happen to model versions and releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from noria.core.fact import fact
from noria.core.frozen import frozen
from noria.tracking.facts import Pin

__all__ = [
    "FACTS",
    "AliasMoved",
    "AliasRemoved",
    "GateJudged",
    "ModelDescribed",
    "ModelFiled",
    "ModelRemoved",
    "ModelRenamed",
    "ModelTagged",
    "ModelUntagged",
    "ReleaseMade",
    "ReleaseMoved",
    "Verdict",
    "VersionBundled",
    "VersionFiled",
    "VersionRegistered",
    "VersionRemoved",
    "VersionStaged",
]


@frozen(kw_only=True)
class Verdict:
    """What one gate said. Numbers are None when they do not apply or are not finite.

    `low` and `high` bound `gain` (candidate better is positive) at the gate's level; `n` rows. `detectable` is the
    smallest true gain to which a rule against the champion says yes in 4 of 5 cases, by these rows; below 0 a loss.
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
    detectable: float | None = None


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
    rules, `report` that of the evaluation report. `policy_from` is where the rules were read: "working tree",
    "REF@COMMIT" of a protected branch, or "kept@DIGEST".
    """

    model: str
    version: int
    champion: int
    passed: bool
    verdicts: tuple[Verdict, ...]
    policy: str
    report: str
    policy_from: str = ""


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


@fact("alias.removed", subject="model/{model}")
class AliasRemoved:
    """An alias of a model points nowhere any more; `version` is where it did."""

    model: str
    alias: str
    version: int


@fact("model.filed", subject="model/{model}")
class ModelFiled:
    """A client gave a model a name before it has any version."""

    model: str
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@fact("model.described", subject="model/{model}")
class ModelDescribed:
    """What people say of a model, or of its version if that is not 0; None takes the words away."""

    model: str
    description: str | None
    version: int = 0


@fact("model.tagged", subject="model/{model}")
class ModelTagged:
    """A model, or its version if that is not 0, has a tag; a later value takes the place of an earlier one."""

    model: str
    key: str
    value: str
    version: int = 0


@fact("model.untagged", subject="model/{model}")
class ModelUntagged:
    """A model, or its version if that is not 0, has a tag no more."""

    model: str
    key: str
    version: int = 0


@fact("model.renamed", subject="model/{model}")
class ModelRenamed:
    """A model and all that it has go by another name; `before` is the one that they had."""

    model: str
    before: str


@fact("model.removed", subject="model/{model}")
class ModelRemoved:
    """A model is there no more, with its versions, tags and aliases. Its name is free again."""

    model: str


@fact("version.filed", subject="model/{model}")
class VersionFiled:
    """A client made files that it keeps a version of a model. They are no bundle, so it cannot be released yet.

    `source` is what the client named, `storage` where the files are, `run` the run that made them.
    """

    model: str
    version: int
    source: str
    storage: str
    run: str = ""
    run_link: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@fact("version.bundled", subject="model/{model}")
class VersionBundled:
    """A version that a client filed has a bundle that was made of its files. `how` says how they were loaded."""

    model: str
    version: int
    bundle: str
    how: str


@fact("version.staged", subject="model/{model}")
class VersionStaged:
    """A client put a version in a stage; `archived` are those that left it for the archive by the same request."""

    model: str
    version: int
    stage: str
    before: str
    archived: tuple[int, ...] = ()


@fact("version.removed", subject="model/{model}")
class VersionRemoved:
    """A version is there no more, and no alias points to it. Its number is not given again."""

    model: str
    version: int


FACTS = (
    VersionRegistered,
    GateJudged,
    ReleaseMade,
    ReleaseMoved,
    AliasMoved,
    AliasRemoved,
    ModelFiled,
    ModelDescribed,
    ModelTagged,
    ModelUntagged,
    ModelRenamed,
    ModelRemoved,
    VersionFiled,
    VersionBundled,
    VersionStaged,
    VersionRemoved,
)
