"""Where the files of a model version may be, and which run and logged model they belong to.

A source on this server has to lie inside what the run or the logged model that the request names keeps; a path
of this machine is none. What is kept elsewhere (`s3://…`) is taken as it stands: clients fetch it themselves.

Source: mlflow/server/handlers.py of MLflow 3.17 (`_create_model_version` and what it asks).
"""

from __future__ import annotations

import posixpath
import re
import urllib.parse
from typing import Any, NoReturn

from noria.catalog import records as catalog_records
from noria.catalog.records import LoggedModel
from noria.core.frozen import frozen
from noria.experiments import records as runs
from noria.faces.protocols.mlflow import names
from noria.faces.protocols.mlflow.refusals import invalid
from noria.faces.protocols.mlflow.registered import canonical_stage, named, version_of_alias
from noria.faces.protocols.mlflow.shapes import run_info
from noria.faces.protocols.mlflow.wire import experiment_of, logged_model_uri, require_logged_model
from noria.registry import records
from noria.registry.kept import VersionRecord
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = ["Source", "resolve"]

PROMPTS = frozenset({"dummy-source", "prompt-template"})
"""What clients send for a prompt, which has no files."""
HOSTED = frozenset(
    {"ftp", "sftp", "hdfs", "viewfs", "http", "https", "mlflow-artifacts", "r2", "b2", "abfss"},
)
PROXY = ["api", "2.0", "mlflow-artifacts", "artifacts"]


@frozen(kw_only=True)
class Source:
    """What a version is of: what was named, where the files are, and the run and logged model behind them."""

    source: str
    storage: str
    run: str = ""
    logged: str = ""


@frozen
class _Uri:
    """`models:/…`, read: a logged model, or a registered one with a version, a stage or an alias."""

    logged: str = ""
    name: str = ""
    version: str = ""
    stage: str = ""
    alias: str = ""


def resolve(ws: Workspace, given: dict[str, Any], *, is_prompt: bool) -> Source:
    """The source that a request to make a version names. Raises: Refused."""
    source, run, logged = given.get("source", ""), given.get("run_id", ""), given.get("model_id", "")
    if is_prompt and source not in PROMPTS:
        raise invalid(f"Invalid prompt source: '{source}'. Prompt sources must use an MLflow placeholder.")
    parsed = _parsed(source)
    if parsed.scheme in HOSTED and (parsed.scheme != "mlflow-artifacts" or parsed.netloc):
        raise _hosted(parsed.scheme)
    if is_prompt:
        return Source(source=source, storage=source, run=run, logged=logged)
    with ws.ledger.read() as tx:
        storage = source
        if parsed.scheme == "models":
            uri = _model_uri(source, parsed)
            if not uri.logged:
                return _of_version(tx, source, uri, given)
        if logged:
            known = catalog_records.logged_head(tx, logged)
            known = None if known is None or known.stage == runs.DELETED else known
            _require_of_model(tx, source, parsed, logged, known)
            found = require_logged_model(known, logged)
            run = run or found.run
            if parsed.scheme == "models":
                storage = logged_model_uri(tx, found)
        else:
            _require_of_run(tx, source, parsed, run)
    return Source(source=source, storage=storage, run=run, logged=logged)


def _of_version(tx: Reader, source: str, uri: _Uri, given: dict[str, Any]) -> Source:
    """A version that is made of another one. Raises: Refused."""
    model = named(tx, uri.name)
    if model.tags.get("mlflow.prompt.is_prompt", "false").lower() == "true":
        raise invalid(
            f"Invalid model version source: '{source}'. Prompt versions cannot be used as model version sources."
        )
    found = _version(tx, uri)
    if "run_id" in given and given["run_id"] != found.run:
        raise _other(source)
    if given.get("model_id", ""):
        raise _other(source)
    named_so = f"models:/{found.model}/{found.version}"
    return Source(source=named_so, storage=found.storage or found.source, run=found.run)


def _version(tx: Reader, uri: _Uri) -> VersionRecord:
    """The version that a URI of a registered model means. Raises: Refused."""
    if uri.alias:
        return version_of_alias(tx, uri.name, uri.alias)
    versions = records.versions_of(tx, [uri.name])
    if uri.version:
        number = names.version_number(uri.version)
        fitting = [each for each in versions if each.version == number]
    else:
        stage = canonical_stage(uri.stage) if uri.stage else ""
        fitting = [each for each in versions if not stage or each.stage == stage]
    if not fitting:
        what = f"version={uri.version}" if uri.version else f"stage={uri.stage or 'any'}"
        raise names.no_version(uri.name, what)
    return fitting[-1]


def _require_of_run(tx: Reader, source: str, parsed: urllib.parse.ParseResult, run: str) -> None:
    """A source that a run keeps, or nobody here does. Raises: Refused."""
    _require_elsewhere(tx, source, parsed, run=run)
    if parsed.scheme == "runs":
        if not parsed.netloc and run and parsed.path.lstrip("/").partition("/")[0] == run:
            return
        _outside(source, "run_id")
    if parsed.scheme == "models":
        _outside(source, "model_id")
    if _is_kept_here(parsed):
        found = runs.run(tx, run) if run else None
        if found is None or not _is_within(source, run_info(found, experiment_of(tx, found))["artifact_uri"]):
            _outside(source, "run_id")


def _require_of_model(
    tx: Reader, source: str, parsed: urllib.parse.ParseResult, logged: str, found: LoggedModel | None
) -> None:
    """A source that a logged model keeps, or nobody here does. Raises: Refused."""
    if not parsed.scheme or parsed.scheme == "file":
        if found is None:
            _outside(source, "model_id")
        raise _local(source, "model_id")
    _require_absolute(source)
    if parsed.scheme == "models":
        if parsed.netloc or _model_uri(source, parsed).logged != logged:
            _outside(source, "model_id")
    elif parsed.scheme == "runs" or (
        _is_kept_here(parsed) and (found is None or not _is_within(source, logged_model_uri(tx, found)))
    ):
        _outside(source, "model_id")


def _require_elsewhere(tx: Reader, source: str, parsed: urllib.parse.ParseResult, *, run: str) -> None:
    """A source that is no path of this machine, and leads nowhere but where it says. Raises: Refused."""
    if not parsed.scheme or parsed.scheme == "file":
        if run and runs.run(tx, run) is None:
            _outside(source, "run_id")
        raise _local(source, "run_id")
    _require_absolute(source)


def _require_absolute(source: str) -> None:
    unquoted = source
    while (again := urllib.parse.unquote_plus(unquoted)) != unquoted:
        unquoted = again
    path = re.sub(r"/+", "/", _parsed(unquoted).path.rstrip("/"))
    is_plain = not path or (path.startswith("/") and posixpath.normpath(path) == path)
    if "\x00" in path or any(part == ".." for part in unquoted.split("/")) or not path or not is_plain:
        raise invalid(
            f"Invalid model version source: '{source}'. If supplying a source as an http, https, "
            "local file path, ftp, objectstore, or mlflow-artifacts uri, an absolute path must be "
            "provided without relative path references present. Please provide an absolute path."
        )


def _model_uri(source: str, parsed: urllib.parse.ParseResult) -> _Uri:
    """`models:/ID`, `models:/NAME/VERSION`, `models:/NAME/STAGE` or `models:/NAME@ALIAS`. Raises: Refused."""
    if parsed.netloc:
        raise invalid(
            f"Invalid model version source: '{source}'. Registered model sources must use the active model registry."
        )
    parts = parsed.path.lstrip("/").split("/")
    if not parsed.path.startswith("/") or len(parts) > 2 or any(not part.strip() for part in parts):
        _outside(source, "model_id")
    if len(parts) == 2:
        name, rest = parts
        if rest.isdigit():
            return _Uri(name=name, version=rest)
        return _Uri(name=name, stage="" if rest.lower() == "latest" else rest)
    name, mark, alias = parts[0].rpartition("@")
    if mark:
        if not alias.strip():
            _outside(source, "model_id")
        return _Uri(name=name, alias=alias)
    return _Uri(logged=parts[0])


def _is_kept_here(parsed: urllib.parse.ParseResult) -> bool:
    parts = [part for part in parsed.path.split("/") if part]
    is_proxied = any(parts[place : place + 4] == PROXY for place in range(len(parts) - 3))
    return parsed.scheme == "mlflow-artifacts" or (parsed.scheme in ("http", "https") and is_proxied)


def _is_within(source: str, root: str) -> bool:
    (scheme, parts), (root_scheme, root_parts) = _uri_parts(source), _uri_parts(root)
    return scheme == root_scheme and bool(root_parts) and parts[: len(root_parts)] == root_parts


def _uri_parts(uri: str) -> tuple[tuple[str, str], list[str]]:
    parsed = _parsed(uri)
    parts = []
    for part in parsed.path.split("/"):
        while (again := urllib.parse.unquote(part)) != part:
            part = again
        if part:
            parts.append(part)
    return (parsed.scheme, parsed.netloc.lower()), parts


def _parsed(uri: str) -> urllib.parse.ParseResult:
    try:
        return urllib.parse.urlparse(uri)
    except ValueError as error:
        raise invalid(f"Invalid model version source: '{uri}'.") from error


def _outside(source: str, what: str) -> NoReturn:
    raise invalid(
        f"Invalid model version source: '{source}'. The {what} request parameter must "
        "identify the resource that contains the source."
    )


def _local(source: str, what: str) -> Exception:
    path = _parsed(source).path
    return invalid(
        f"Invalid model version source: '{path}'. To use a local path as a model version "
        f"source, the {what} request parameter has to be specified and the local path has to be "
        f"contained within the artifact directory of the run specified by the {what}."
    )


def _other(source: str) -> Exception:
    return invalid(
        f"Invalid model version source: '{source}'. The run_id and model_id request "
        "parameters must match the referenced model version."
    )


def _hosted(scheme: str) -> Exception:
    return invalid(
        f"'source' cannot use the '{scheme}' scheme: the '{scheme}' scheme addresses a host other than the tracking "
        "server's configured artifact storage, so the server would connect to the host named in the URI. "
        "Set the MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES environment variable on the server to allow it."
    )
