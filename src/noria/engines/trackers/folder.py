"""A tracking store that is a folder of files (`mlruns`), as MLflow kept it before it had a database.

Each run is a folder, each param, tag and metric a file in it. A line of a metric that is there twice counts
once. Nothing is written, and no library of MLflow is asked.

Source: mlflow/store/tracking/file_store.py and mlflow/store/model_registry/file_store.py of MLflow 3.17 (the layout).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from noria.catalog.takeover.documents import (
    ExperimentDoc,
    InputDoc,
    MeasureDoc,
    ModelDoc,
    RegisteredDoc,
    RunDoc,
    Store,
    VersionDoc,
    named,
)
from noria.core.errors import Corrupt, NotFound, UsageError
from noria.core.lazy import lazy
from noria.engines.trackers.local import LocalFiles, path_of
from noria.experiments.points import Curve
from noria.store.objects import disk_faults

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")
yaml = lazy("yaml")

__all__ = ["Folder", "read"]

T = TypeVar("T")
META = "meta.yaml"
TRASH = ".trash"
REGISTRY = "models"
RESERVED = frozenset({"tags", "datasets", "traces", "models"})
RUN_STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
MODEL_STATUSES = {0: "unspecified", 1: "pending", 2: "ready", 3: "upload_failed"}
DELETED_STAGE = "Deleted_Internal"
LINES = 100_000
"""Lines of a metric in memory at once, but for looking whether one is there twice."""


@contextmanager
def read(address: str, folders: Sequence[Path]) -> Iterator[Store]:
    """Open a folder of MLflow's, `mlruns` by its usual name.

    Args:
        folders: where artifacts may be, beside the folder itself.
    Raises: NotFound; UsageError if it is no such folder, or pyyaml is not here.
    """
    if importlib.util.find_spec("yaml") is None:
        raise UsageError("a folder of MLflow's needs pyyaml, which is not here", hint="pip install 'noria[mlflow]'")
    root = path_of(address)
    if root is None or not root.exists():
        raise NotFound(f"there is no folder {address}", hint="a folder, sqlite:///mlflow.db, or http://…")
    if not root.is_dir():
        raise UsageError(f"{address} is a file", hint=f"a database is named sqlite:///{address}")
    found = Folder(root.resolve())
    if not found.count_experiments():
        raise UsageError(f"{address} holds no experiment of MLflow's", hint="the folder mlruns itself is named")
    yield Store(found, LocalFiles(root, folders), str(root.resolve()), "MLflow folder", found.count())


class Folder:
    """A folder of MLflow's as a tracking store."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def count(self) -> int:
        """How many runs there are."""
        return sum(len(self._runs_of(place)) for place in self._places())

    def count_experiments(self) -> int:
        """How many experiments there are."""
        return len(self._places())

    def experiments(self) -> list[ExperimentDoc]:
        """Every experiment, the oldest first."""
        found = []
        for place in self._places():
            meta = _meta(place)
            found.append(
                ExperimentDoc(
                    id=str(meta["experiment_id"]),
                    name=str(meta["name"]),
                    stage=meta.get("lifecycle_stage") or "active",
                    created_ms=meta.get("creation_time"),
                    updated_ms=meta.get("last_update_time"),
                    location=meta.get("artifact_location") or "",
                    tags=_texts(place / "tags"),
                )
            )
        return sorted(found, key=lambda each: (each.created_ms or 0, each.id))

    def runs(self, experiment: ExperimentDoc) -> Iterator[RunDoc]:
        """The runs of an experiment by when they began."""
        place = self._place(experiment.id)
        order = sorted((_meta(each).get("start_time") or 0, each.name) for each in self._runs_of(place))
        for _, run in order:
            yield self._run(place / run, experiment)

    def _run(self, place: Path, experiment: ExperimentDoc) -> RunDoc:
        meta = _meta(place)
        name, tags = named(meta.get("run_name") or "", _texts(place / "tags"))
        inputs, models_in = self._inputs(place)
        outputs = [_meta(each) for each in _folders(place / "outputs")]
        return RunDoc(
            id=place.name,
            experiment=experiment.name,
            name=name,
            user=meta.get("user_id") or "",
            status=RUN_STATUSES.get(meta.get("status", 1), "RUNNING"),
            stage=meta.get("lifecycle_stage") or "active",
            started_ms=meta.get("start_time"),
            ended_ms=meta.get("end_time"),
            params=_texts(place / "params"),
            tags=tags,
            inputs=tuple(sorted(inputs, key=lambda each: (each.name, each.digest))),
            models_in=tuple(sorted(models_in)),
            models_out=tuple(sorted((str(each["destination_id"]), int(each.get("step") or 0)) for each in outputs)),
            place=meta.get("artifact_uri") or "",
        )

    def _inputs(self, place: Path) -> tuple[list[InputDoc], list[str]]:
        datasets, models = [], []
        for each in _folders(place / "inputs"):
            link = _meta(each)
            if link.get("source_type") != "DATASET":
                models.append(str(link["destination_id"]))
                continue
            meta = _meta(place.parent / "datasets" / str(link["source_id"]))
            datasets.append(
                InputDoc(
                    name=str(meta["name"]),
                    digest=str(meta["digest"]),
                    source_type=str(meta["source_type"]),
                    source=str(meta["source"]),
                    schema=meta.get("schema"),
                    profile=meta.get("profile"),
                    tags=tuple(sorted((str(key), str(value)) for key, value in (link.get("tags") or {}).items())),
                )
            )
        return datasets, models

    def points(self, run: str) -> Iterator[tuple[str, Curve]]:
        """The points of a run by metric."""
        place = next((each / run for each in self._places() if (each / run).is_dir()), None)
        if place is None:
            raise NotFound(f"there is no run {run!r}")
        for name, path in _files(place / "metrics"):
            seen: set[str] = set()
            rows: list[tuple[int, int, float]] = []
            for line in _lines(path):
                if line in seen:
                    continue
                seen.add(line)
                parts = line.split(" ")
                rows.append(_parsed(path, partial(_point, parts)))
                if len(rows) >= LINES:
                    yield name, _curve(rows)
                    rows = []
            if rows:
                yield name, _curve(rows)

    def models(self, experiment: ExperimentDoc) -> Iterator[ModelDoc]:
        """The logged models of an experiment by id."""
        for place in _folders(self._place(experiment.id) / "models"):
            meta = _meta(place)
            measures = [
                _parsed(path, partial(_measure, name, line.split(" ")))
                for name, path in _files(place / "metrics")
                for line in _lines(path)
            ]
            once = {(each.key, each.at_ms, each.step, each.run): each for each in reversed(measures)}
            yield ModelDoc(
                id=place.name,
                experiment=experiment.name,
                name=str(meta["name"]),
                model_type=meta.get("model_type") or "",
                run=meta.get("source_run_id") or "",
                status=MODEL_STATUSES.get(meta.get("status", 0), "unspecified"),
                message=meta.get("status_message") or "",
                stage=meta.get("lifecycle_stage") or "active",
                created_ms=meta.get("creation_timestamp"),
                updated_ms=meta.get("last_updated_timestamp"),
                params=_texts(place / "params"),
                tags=_texts(place / "tags"),
                measures=tuple(sorted(once.values())),
                place=meta.get("artifact_location") or "",
            )

    def registered(self) -> Iterator[tuple[RegisteredDoc, list[VersionDoc]]]:
        """Every registered model by name, with its versions."""
        for place in _folders(self._root / REGISTRY):
            meta = _meta(place)
            name = str(meta["name"])
            versions = [self._version(each, name) for each in _folders(place) if each.name.startswith("version-")]
            kept = sorted((each for each in versions if each.stage != DELETED_STAGE), key=lambda each: each.number)
            aliases = {key: int(value) for key, value in _texts(place / "aliases").items()}
            yield (
                RegisteredDoc(
                    name=name,
                    description=meta.get("description") or "",
                    created_ms=meta.get("creation_timestamp"),
                    updated_ms=meta.get("last_updated_timestamp"),
                    tags=_texts(place / "tags"),
                    aliases=aliases,
                ),
                kept,
            )

    def _version(self, place: Path, name: str) -> VersionDoc:
        meta = _meta(place)
        return VersionDoc(
            model=name,
            number=int(meta["version"]),
            description=meta.get("description") or "",
            user=meta.get("user_id") or "",
            stage=meta.get("current_stage") or "None",
            source=meta.get("source") or "",
            storage=meta.get("storage_location") or "",
            run=meta.get("run_id") or "",
            status=meta.get("status") or "READY",
            message=meta.get("status_message") or "",
            run_link=meta.get("run_link") or "",
            created_ms=meta.get("creation_timestamp"),
            updated_ms=meta.get("last_updated_timestamp"),
            tags=_texts(place / "tags"),
        )

    def _places(self) -> list[Path]:
        """The folders of the experiments, deleted ones too."""
        return [
            each
            for root in (self._root, self._root / TRASH)
            for each in _folders(root)
            if each.name not in (TRASH, REGISTRY) and (each / META).is_file()
        ]

    def _place(self, experiment: str) -> Path:
        return next(each for each in self._places() if each.name == experiment)

    def _runs_of(self, place: Path) -> list[Path]:
        return [each for each in _folders(place) if each.name not in RESERVED and (each / META).is_file()]


class _Meta(dict[str, Any]):
    """Fields of a file; one that has to be there and is not is named."""

    def __init__(self, path: Path, found: dict[str, Any]) -> None:
        super().__init__(found)
        self._path = path

    def __missing__(self, key: str) -> Any:
        raise Corrupt(f"it does not say {key!r}", where=str(self._path))


def _point(parts: Sequence[str]) -> tuple[int, int, float]:
    """(step, at in ms, value) of a line: time and value, then the step, then what was measured on."""
    return int(parts[2]) if len(parts) > 2 else 0, int(parts[0]), float(parts[1])


def _measure(name: str, parts: Sequence[str]) -> MeasureDoc:
    on = parts[4:6] if len(parts) == 6 else ("", "")
    return MeasureDoc(
        key=name,
        at_ms=int(parts[0]),
        step=int(parts[2]),
        run=parts[3],
        value=float(parts[1]),
        dataset=on[0],
        digest=on[1],
    )


def _curve(rows: Sequence[tuple[int, int, float]]) -> Curve:
    return Curve(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64) * 1000,
        np.array([row[2] for row in rows], np.float64),
    )


def _parsed(path: Path, made: Callable[[], T]) -> T:
    try:
        return made()
    except (ValueError, IndexError, OverflowError) as error:
        raise Corrupt(f"a line cannot be read: {error}", where=str(path)) from error


def _meta(place: Path) -> dict[str, Any]:
    """What `meta.yaml` of a folder says. Raises: Corrupt."""
    path = place / META
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with disk_faults(path):
            found = yaml.load(path.read_text("utf-8"), Loader=loader)  # a safe one, the quick one if there is one
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"it cannot be read: {error}", where=str(path)) from error
    if not isinstance(found, dict):
        raise Corrupt("it holds no fields", where=str(path))
    return _Meta(path, found)


def _lines(path: Path) -> Iterator[str]:
    with disk_faults(path), path.open(encoding="utf-8") as stream:
        for line in stream:
            if line.strip():
                yield line.strip()


def _folders(place: Path) -> list[Path]:
    return sorted(each for each in place.iterdir() if each.is_dir()) if place.is_dir() else []


def _files(place: Path) -> list[tuple[str, Path]]:
    """(name, path) of each file below a folder: a name with a slash is a file in a folder."""
    found = [
        ((Path(folder) / name).relative_to(place).as_posix(), Path(folder) / name)
        for folder, _, names in os.walk(place)
        for name in names
    ]
    return sorted(found)


def _texts(place: Path) -> dict[str, str]:
    found = {}
    for name, path in _files(place):
        try:
            with disk_faults(path):
                found[name] = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise Corrupt("it is no UTF-8 text", where=str(path)) from error
    return found
