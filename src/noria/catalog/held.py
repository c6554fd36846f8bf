"""Which objects are the files of a model version that a client filed: read from where it said they are."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence

from noria.catalog import records
from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.registry.kept import VersionRecord
from noria.store.ledger import Reader
from noria.tracking import records as tracking

__all__ = ["HeldFile", "files_of"]

_PROXY = "/api/2.0/mlflow-artifacts/artifacts/"


@frozen
class HeldFile:
    """A file of a version; `name` is its path in the version, of plain names."""

    name: str
    digest: str
    size_bytes: int


def files_of(tx: Reader, version: VersionRecord) -> list[HeldFile]:
    """The files of a client's version, by name. Raises: UsageError if they are not kept here, or are none."""
    place = version.storage or version.source
    found = _under(tx, place)
    if found is None:
        raise UsageError(
            f"the files of {version.ref} are at {place[:200]}, which Noria does not keep",
            hint="log the model to this server: MLFLOW_TRACKING_URI, and no artifact location of its own",
        )
    if not found:
        raise UsageError(f"{version.ref} has no files: there is nothing at {place[:200]}")
    return found


def _under(tx: Reader, place: str) -> list[HeldFile] | None:
    """The files below a place, or None for one that is not ours."""
    parsed = urllib.parse.urlparse(place)
    path = urllib.parse.unquote(parsed.path)
    if parsed.scheme == "models":
        return _of_model(tx, path.strip("/"), "")
    if parsed.scheme == "runs":
        run, _, inside = path.strip("/").partition("/")
        return _of_run(tx, run, inside)
    if parsed.scheme in ("http", "https") and _PROXY in path:
        path = path.partition(_PROXY)[2]
    elif parsed.scheme != "mlflow-artifacts":
        return None
    parts = path.strip("/").split("/")
    for index, part in enumerate(parts):
        if part == "artifacts" and index:
            owner, inside = parts[index - 1], "/".join(parts[index + 1 :])
            is_model = index > 1 and parts[index - 2] == "models" and owner.startswith("m-")
            return _of_model(tx, owner, inside) if is_model else _of_run(tx, owner, inside)
    return None


def _of_model(tx: Reader, model: str, inside: str) -> list[HeldFile]:
    return _within(records.model_files(tx, model), inside)


def _of_run(tx: Reader, run: str, inside: str) -> list[HeldFile]:
    """A run's artifacts in a folder; else the files of the logged model of that name that the run gave."""
    found = _within(tracking.artifacts(tx, run), inside)
    if found or not inside:
        return found
    for given in records.models(tx, [run])[run]:
        model = records.logged_model(tx, given.model)
        if given.side == "out" and model is not None and model.name == inside:
            return _of_model(tx, model.model, "")
    return []


def _within(files: Sequence[records.FileRecord | tracking.ArtifactRecord], inside: str) -> list[HeldFile]:
    start = f"{inside}/" if inside else ""
    return [
        HeldFile(each.name.removeprefix(start), each.digest, each.size_bytes)
        for each in files
        if each.name.startswith(start)
    ]
