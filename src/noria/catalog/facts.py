"""What can happen to experiments, and what clients of other trackers say that runs took and gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from noria.core.fact import fact
from noria.core.frozen import frozen

__all__ = [
    "FACTS",
    "ExperimentCreated",
    "ExperimentDeleted",
    "ExperimentRenamed",
    "ExperimentRestored",
    "ExperimentTagged",
    "ExperimentUntagged",
    "InputsLogged",
    "LoggedModelCreated",
    "LoggedModelDeleted",
    "LoggedModelEnded",
    "LoggedModelFile",
    "LoggedModelFileRemoved",
    "LoggedModelMeasured",
    "LoggedModelParams",
    "LoggedModelTagged",
    "LoggedModelUntagged",
    "ModelPoint",
    "OutputModel",
    "OutputsLogged",
    "SourceData",
]


@fact("experiment.created", subject="experiment/{experiment}")
class ExperimentCreated:
    """An experiment is there. `experiment` is its number; `location` is where a client wants its artifacts."""

    experiment: int
    name: str
    location: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@fact("experiment.renamed", subject="experiment/{experiment}")
class ExperimentRenamed:
    """An experiment and all its runs go by another name; `before` is the one that they had."""

    experiment: int
    name: str
    before: str


@fact("experiment.deleted", subject="experiment/{experiment}")
class ExperimentDeleted:
    """An experiment is put away with all its runs. Its name stays taken."""

    experiment: int
    name: str


@fact("experiment.restored", subject="experiment/{experiment}")
class ExperimentRestored:
    """An experiment that was put away is there again, with all its runs."""

    experiment: int
    name: str


@fact("experiment.tagged", subject="experiment/{experiment}")
class ExperimentTagged:
    """An experiment has a tag; a later value takes the place of an earlier one."""

    experiment: int
    key: str
    value: str


@fact("experiment.untagged", subject="experiment/{experiment}")
class ExperimentUntagged:
    """An experiment has a tag no more."""

    experiment: int
    key: str


@frozen(kw_only=True)
class SourceData:
    """A data set as a client describes it.

    `content_id` is the client's own digest of it, `details` the digest of an object (JSON) with its
    source, schema and profile, `tags` what the client says of its use.
    """

    name: str
    content_id: str
    source_type: str
    details: str
    tags: tuple[tuple[str, str], ...] = ()


@fact("inputs.logged", subject="run/{run}")
class InputsLogged:
    """A client says which data sets and logged models a run used."""

    run: str
    datasets: tuple[SourceData, ...] = ()
    models: tuple[str, ...] = ()


@frozen(kw_only=True)
class OutputModel:
    """A logged model that a run gave at a step."""

    model: str
    step: int


@fact("outputs.logged", subject="run/{run}")
class OutputsLogged:
    """A client says which logged models a run gave."""

    run: str
    models: tuple[OutputModel, ...]


@fact("logged_model.created", subject="logged-model/{model}")
class LoggedModelCreated:
    """A client began to log a model, whose files come one by one. `experiment` is a number, `run` what made it."""

    model: str
    experiment: int
    name: str
    model_type: str = ""
    run: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@fact("logged_model.ended", subject="logged-model/{model}")
class LoggedModelEnded:
    """A client says how logging a model went: ready, upload_failed, or pending again."""

    model: str
    status: str


@fact("logged_model.tagged", subject="logged-model/{model}")
class LoggedModelTagged:
    """A logged model has tags; a later value takes the place of an earlier one."""

    model: str
    tags: Mapping[str, str]


@fact("logged_model.untagged", subject="logged-model/{model}")
class LoggedModelUntagged:
    """A logged model has a tag no more."""

    model: str
    key: str


@fact("logged_model.params", subject="logged-model/{model}")
class LoggedModelParams:
    """A client says with which params a model was made."""

    model: str
    params: Mapping[str, str]


@fact("logged_model.deleted", subject="logged-model/{model}")
class LoggedModelDeleted:
    """A logged model is put away; what it is stays known."""

    model: str


@frozen(kw_only=True)
class ModelPoint:
    """A measure of a logged model. A `value` that is not finite is None, and `special` says "nan", "inf" or "-inf"."""

    key: str
    value: float | None
    at_ms: int
    step: int
    special: str = ""
    dataset: str = ""
    content_id: str = ""


@fact("logged_model.measured", subject="logged-model/{model}")
class LoggedModelMeasured:
    """A run measured a logged model; the points are those of one request."""

    model: str
    run: str
    points: tuple[ModelPoint, ...]


@fact("logged_model.file", subject="logged-model/{model}")
class LoggedModelFile:
    """A named object belongs to a logged model."""

    model: str
    name: str
    digest: str
    size_bytes: int


@fact("logged_model.file_removed", subject="logged-model/{model}")
class LoggedModelFileRemoved:
    """A logged model has a file no more. What the name stood for is told by the facts before."""

    model: str
    name: str


FACTS = (
    ExperimentCreated,
    ExperimentRenamed,
    ExperimentDeleted,
    ExperimentRestored,
    ExperimentTagged,
    ExperimentUntagged,
    InputsLogged,
    OutputsLogged,
    LoggedModelCreated,
    LoggedModelEnded,
    LoggedModelTagged,
    LoggedModelUntagged,
    LoggedModelParams,
    LoggedModelDeleted,
    LoggedModelMeasured,
    LoggedModelFile,
    LoggedModelFileRemoved,
)
