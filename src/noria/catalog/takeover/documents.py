"""What a tracking store holds, in words that no store owns: read from one, compared with another, written to a third.

Texts that a store leaves out are "" here, so that two stores that mean the same read the same. Times are
milliseconds since 1970, UTC, and None where a store knows none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from noria.core.frozen import frozen
from noria.experiments.points import Curve

__all__ = [
    "RUN_NAME",
    "EvalRecordDoc",
    "EvalsetDoc",
    "EvalsetWriter",
    "Evalsets",
    "ExperimentDoc",
    "FileDoc",
    "Files",
    "InputDoc",
    "MeasureDoc",
    "ModelDoc",
    "RegisteredDoc",
    "RunDoc",
    "Store",
    "Tracker",
    "VersionDoc",
    "Writer",
    "made",
    "named",
]

RUN_NAME = "mlflow.runName"
"""The tag that repeats the name of a run."""


@frozen(kw_only=True)
class ExperimentDoc:
    """An experiment. `id` is the store's own; `stage` is active or deleted; `location` is where its artifacts go."""

    id: str
    name: str
    stage: str
    created_ms: int | None
    updated_ms: int | None
    location: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@frozen(kw_only=True)
class InputDoc:
    """A data set that a run used. `schema` and `profile` are None where nobody said anything of them."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


@frozen(kw_only=True)
class RunDoc:
    """A run without its points. `status` is MLflow's word; `experiment` a name; `models_out` are (id, step).

    The tag that repeats its name is not among its tags. `place` is where its artifacts are. `origin` tells it from
    a run of another store that has the same id, where ids are short; a store that says it is asked for points and
    files by it. `left_out` is what the store has of it that nothing here can hold: each is named as a difference.
    """

    id: str
    experiment: str
    name: str
    user: str
    status: str
    stage: str
    started_ms: int | None
    ended_ms: int | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    inputs: tuple[InputDoc, ...] = ()
    models_in: tuple[str, ...] = ()
    models_out: tuple[tuple[str, int], ...] = ()
    place: str = ""
    origin: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class MeasureDoc:
    """A measure of a logged model by a run; `value` may be any float."""

    key: str
    at_ms: int
    step: int
    run: str
    value: float
    dataset: str = ""
    digest: str = ""


@frozen(kw_only=True)
class ModelDoc:
    """A logged model. `status` is pending, ready, upload_failed or unspecified; `place` is where its files are."""

    id: str
    experiment: str
    name: str
    model_type: str
    run: str
    status: str
    message: str
    stage: str
    created_ms: int | None
    updated_ms: int | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    measures: tuple[MeasureDoc, ...] = ()
    place: str = ""


@frozen(kw_only=True)
class RegisteredDoc:
    """A registered model without its versions; `aliases` point to numbers."""

    name: str
    description: str
    created_ms: int | None
    updated_ms: int | None
    tags: Mapping[str, str]
    aliases: Mapping[str, int]


@frozen(kw_only=True)
class VersionDoc:
    """A version of a registered model. `source` is what was named, `storage` where its files are, if it says so."""

    model: str
    number: int
    description: str
    user: str
    stage: str
    source: str
    storage: str
    run: str
    status: str
    message: str
    run_link: str
    created_ms: int | None
    updated_ms: int | None
    tags: Mapping[str, str]


@frozen(kw_only=True)
class EvalsetDoc:
    """An evaluation data set without its records. `experiments` are names; `schema` and `profile` are JSON."""

    id: str
    name: str
    created_ms: int | None
    updated_ms: int | None
    created_by: str
    updated_by: str
    digest: str
    schema: str
    profile: str
    tags: Mapping[str, str]
    experiments: tuple[str, ...] = ()


@frozen(kw_only=True)
class EvalRecordDoc:
    """A record of an evaluation data set. What it says are JSON values; `source` has source_type and source_data."""

    id: str
    inputs: Mapping[str, Any]
    outputs: Any
    expectations: Mapping[str, Any] | None
    tags: Mapping[str, Any]
    source: Mapping[str, Any] | None
    created_ms: int | None
    updated_ms: int | None
    created_by: str
    updated_by: str


@frozen
class FileDoc:
    """A file of a run or a logged model, by its name in it."""

    name: str
    size_bytes: int


class Tracker(Protocol):
    """A tracking store that is read. Whatever is long comes in pieces, so that memory does not grow with it."""

    def experiments(self) -> Sequence[ExperimentDoc]:
        """Every experiment, deleted ones too."""
        ...

    def runs(self, experiment: ExperimentDoc) -> Iterator[RunDoc]:
        """The runs of an experiment, deleted ones too, by when they began."""
        ...

    def points(self, run: str) -> Iterator[tuple[str, Curve]]:
        """The points of a run's metrics, each once. A long metric comes in several parts."""
        ...

    def models(self, experiment: ExperimentDoc) -> Iterator[ModelDoc]:
        """The logged models of an experiment, deleted ones too."""
        ...

    def registered(self) -> Iterator[tuple[RegisteredDoc, Sequence[VersionDoc]]]:
        """Every registered model with its versions by number."""
        ...


class Files(Protocol):
    """The artifacts of a tracking store."""

    def listing(self, owner: RunDoc | ModelDoc) -> Sequence[FileDoc]:
        """The files of a run or a logged model, by name. Raises: NotFound if its place cannot be read."""
        ...

    def open(self, owner: RunDoc | ModelDoc, name: str) -> BinaryIO:
        """A file of it as a stream that the caller closes. Raises: NotFound."""
        ...


class Evalsets(Protocol):
    """The evaluation data sets of a tracking store."""

    def evalsets(self) -> Sequence[EvalsetDoc]:
        """Every one, by when it was made."""
        ...

    def records(self, evalset: str) -> Iterator[EvalRecordDoc]:
        """The records of one, by when they came and then by id."""
        ...


class EvalsetWriter(Protocol):
    """Evaluation data sets that are written into a tracking store. What is there already is left as it is."""

    def evalset(self, doc: EvalsetDoc, records: Iterable[EvalRecordDoc]) -> int:
        """Write one with its records, whole or not at all; gives how many of it are new: 0 or 1."""
        ...


class Writer(Protocol):
    """A tracking store that is written. What is there already is left as it is."""

    def experiment(self, doc: ExperimentDoc) -> str:
        """Make an experiment; gives its id there."""
        ...

    def runs(self, experiment: str, docs: Sequence[RunDoc], source: Tracker) -> int:
        """Write runs with their points, all of them or none; gives how many are new."""
        ...

    def models(self, experiment: str, docs: Sequence[ModelDoc]) -> int:
        """Write logged models; gives how many are new."""
        ...

    def registered(self, doc: RegisteredDoc, versions: Sequence[VersionDoc]) -> int:
        """Write a registered model with its versions; gives how many versions are new."""
        ...

    def file(self, owner: RunDoc | ModelDoc, name: str, stream: BinaryIO) -> None:
        """Write a file of a run or a logged model, whole or not at all."""
        ...


@frozen
class Store:
    """A tracking store that is open. `address` is without credentials; `form` says what kind and version it is.

    `notes` are what such a store does not give, `left_out` (name, what) is what it has and could not be read;
    `evalsets` is None where such a store has none.
    """

    tracker: Tracker
    files: Files
    address: str
    form: str
    runs: int | None = None
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    evalsets: Evalsets | None = None


def named(name: str, tags: Mapping[str, str | None]) -> tuple[str, dict[str, str]]:
    """The name of a run and its tags without the one that repeats it."""
    found = {key: value or "" for key, value in tags.items()}
    tagged = found.pop(RUN_NAME, "")
    return name or tagged, found


def made(doc: ExperimentDoc | RegisteredDoc | VersionDoc) -> str:
    """What tells a thing from another of that name in another store: when it was made."""
    return f"made {doc.created_ms}"
