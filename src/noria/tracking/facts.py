"""What can happen to runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from noria.core.fact import fact
from noria.core.frozen import frozen
from noria.core.identity import JSON

__all__ = [
    "FACTS",
    "ArtifactLogged",
    "ArtifactRemoved",
    "CancelRequested",
    "Code",
    "MetricsSealed",
    "Pin",
    "RunFinished",
    "RunReproduced",
    "RunResumed",
    "RunStarted",
]


@frozen(kw_only=True)
class Code:
    """The code of a run. `commit` is empty outside git; `source` is the tree of the source files.

    `dirty`: a file of the code or its configuration differs from the commit or is not in it. Pins,
    check suites, data and Markdown do not count. `patch` is the digest of the diff against the
    commit, or empty; untracked files are in `source`. `settings` is the digest of what `noria.toml`
    says of the project, its data and models; how runs are executed is not in it.
    """

    commit: str = ""
    branch: str = ""
    remote: str = ""
    dirty: bool = False
    patch: str = ""
    source: str = ""
    entry: str = ""
    settings: str = ""


@frozen(kw_only=True)
class Pin:
    """The exact version of a data set that was used."""

    dataset: str
    version: int
    tree: str


@fact("run.started", subject="run/{run}")
class RunStarted:
    """A run began. `cause` is "user", "test", or the ref of what asked for it (`retrain/7`).

    `config` is the digest of the resolved configuration, `environment` that of the lock, `host` that of
    what the machine was and how its process was set up (empty before it was recorded).
    """

    run: str
    pipeline: str
    cause: str
    code: Code
    config: str
    environment: str
    seed: int
    pins: tuple[Pin, ...]
    owner: str
    host: str = ""


@fact("run.finished", subject="run/{run}")
class RunFinished:
    """A run ended: status is finished, failed, stopped (a check or gate said no), cancelled, preempted or lost."""

    run: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)


@fact("run.resumed", subject="run/{run}")
class RunResumed:
    """A run that had ended before its work was done goes on in another process, its new owner."""

    run: str
    owner: str
    before: str


@fact("cancel.requested", subject="run/{run}")
class CancelRequested:
    """Somebody wants a run to end; its process does so, and nobody resumes it."""

    run: str
    reason: str = ""


@fact("artifact.logged", subject="run/{run}")
class ArtifactLogged:
    """A named object belongs to a run."""

    run: str
    name: str
    digest: str
    size_bytes: int
    type: str = "file"


@fact("artifact.removed", subject="run/{run}")
class ArtifactRemoved:
    """A run has an artifact no more. What the name stood for is told by the facts before."""

    run: str
    name: str


@fact("metrics.sealed", subject="run/{run}")
class MetricsSealed:
    """A segment of a run's metric points became an object (Parquet: name, step, at, value)."""

    run: str
    segment: str
    points: int
    names: tuple[str, ...]
    last: Mapping[str, JSON] = field(default_factory=dict)


@fact("run.reproduced", subject="run/{run}")
class RunReproduced:
    """A run was done again from its pins: verdict is identical, tolerated, different or impossible.

    `document` is the digest of the signed document that says it whole; `step` the first step that came
    out otherwise, `kind` of what cause. `environment` is where it was done again: here or rebuilt.
    """

    run: str
    verdict: str
    document: str
    environment: str = ""
    step: str = ""
    kind: str = ""
    seconds: float = 0.0


FACTS = (
    RunStarted,
    RunFinished,
    RunResumed,
    CancelRequested,
    ArtifactLogged,
    ArtifactRemoved,
    MetricsSealed,
    RunReproduced,
)
