"""A tracking server that speaks MLflow's REST, read as a client reads it: MLflow's own, or another Noria.

Credentials are those that MLflow's clients take from the environment (`MLFLOW_TRACKING_USERNAME` and
`MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`), and go to the named server alone: a redirect is refused.
Artifacts come through the server, wherever it keeps them; no path that it names is opened here.

Source: mlflow/protos/service.proto, model_registry.proto and server/handlers.py of MLflow 3.17.
"""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from noria.catalog.takeover.documents import (
    EvalRecordDoc,
    EvalsetDoc,
    ExperimentDoc,
    FileDoc,
    InputDoc,
    MeasureDoc,
    ModelDoc,
    RegisteredDoc,
    RunDoc,
    Store,
    VersionDoc,
    named,
)
from noria.catalog.takeover.sound import telling
from noria.core.errors import NotFound, StoreUnavailable, UsageError
from noria.core.lazy import lazy
from noria.core.printable import printable
from noria.experiments.points import Curve

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

__all__ = ["Server", "read"]

TIMEOUT_S = 60
TRIES = 4
PAGE = 100
POINTS = 10_000
ANSWER_MAX = 256 << 20
REST = "/api/2.0/mlflow/"
REST_3 = "/api/3.0/mlflow/"
PROXY = "/api/2.0/mlflow-artifacts/artifacts/"
LACKING = ("FEATURE_DISABLED", "NOT_IMPLEMENTED")
"""What a server says of endpoints that what it stands on cannot do."""
PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"
STATUSES = {
    "LOGGED_MODEL_PENDING": "pending",
    "LOGGED_MODEL_READY": "ready",
    "LOGGED_MODEL_UPLOAD_FAILED": "upload_failed",
}


@contextmanager
def read(address: str, folders: Sequence[Path]) -> Iterator[Store]:
    """Open a tracking server.

    Args:
        folders: not asked: artifacts come through the server.
    Raises: UsageError if it is none, or refuses; StoreUnavailable.
    """
    server = Server(address)
    with telling("its experiments"):
        found = server.experiments()
    notes = ("logged models that are deleted are not given by a server; its database has them",)
    form = f"tracking server with {len(found)} experiments"
    yield Store(server, server, server.shown, form, None, notes, evalsets=server)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing."""

    def redirect_request(self, *_args: Any, **_named: Any) -> None:
        """Credentials stay with the server that was named."""


class Server:
    """A tracking server as a store and its artifacts."""

    def __init__(self, address: str) -> None:
        parsed = urllib.parse.urlsplit(address)
        host = parsed.netloc.rpartition("@")[2]
        if not host:
            raise UsageError("the address names no server", where=address.partition("@")[2], hint="http://host:5000")
        self.shown = urllib.parse.urlunsplit((parsed.scheme, host, parsed.path.rstrip("/"), "", ""))
        self._headers = {"Accept": "application/json", **_credentials(parsed)}
        self._opener = urllib.request.build_opener(_NoRedirect)

    def experiments(self) -> list[ExperimentDoc]:
        """Every experiment by number."""
        found = [
            ExperimentDoc(
                id=each["experiment_id"],
                name=each["name"],
                stage=each.get("lifecycle_stage", "active"),
                created_ms=_int(each.get("creation_time")),
                updated_ms=_int(each.get("last_update_time")),
                location=each.get("artifact_location", ""),
                tags=_pairs(each.get("tags")),
            )
            for each in self._pages("POST", "experiments/search", "experiments", view_type="ALL", max_results=PAGE)
        ]
        return sorted(found, key=lambda each: (len(each.id), each.id))

    def runs(self, experiment: ExperimentDoc) -> Iterator[RunDoc]:
        """The runs of an experiment by when they began."""
        asked: dict[str, Any] = {
            "experiment_ids": [experiment.id],
            "run_view_type": "ALL",
            "order_by": ["attributes.start_time ASC"],
            "max_results": PAGE,
        }
        for found in self._pages("POST", "runs/search", "runs", **asked):
            # a list leaves out which models a run took
            yield _run(self._ask("GET", "runs/get", run_id=found["info"]["run_id"])["run"], experiment)

    def points(self, run: str) -> Iterator[tuple[str, Curve]]:
        """The points of a run by metric."""
        found = self._ask("GET", "runs/get", run_id=run)["run"]
        for key in sorted(each["key"] for each in found.get("data", {}).get("metrics", [])):
            asked = {"run_id": run, "metric_key": key, "max_results": POINTS}
            for page in self._answers("GET", "metrics/get-history", **asked):
                if page.get("metrics"):
                    yield key, _curve(page["metrics"])

    def models(self, experiment: ExperimentDoc) -> Iterator[ModelDoc]:
        """The logged models of an experiment that are not deleted."""
        asked: dict[str, Any] = {"experiment_ids": [experiment.id], "max_results": 50}
        for found in self._pages("POST", "logged-models/search", "models", is_optional=True, **asked):
            info, data = found["info"], found.get("data", {})
            yield ModelDoc(
                id=info["model_id"],
                experiment=experiment.name,
                name=info.get("name", ""),
                model_type=info.get("model_type", ""),
                run=info.get("source_run_id", ""),
                status=STATUSES.get(info.get("status", ""), "unspecified"),
                message=info.get("status_message", ""),
                stage="active",
                created_ms=_int(info.get("creation_timestamp_ms")),
                updated_ms=_int(info.get("last_updated_timestamp_ms")),
                params=_pairs(data.get("params")),
                tags=_pairs(info.get("tags")),
                measures=tuple(sorted(_measure(each) for each in data.get("metrics", []))),
                place=info.get("artifact_uri", ""),
            )

    def registered(self) -> Iterator[tuple[RegisteredDoc, list[VersionDoc]]]:
        """Every registered model, prompts too, with its versions."""
        for prompts in ("", PROMPTS):
            asked: dict[str, Any] = {"max_results": PAGE, **({"filter": prompts} if prompts else {})}
            for found in self._pages("GET", "registered-models/search", "registered_models", **asked):
                aliases = {each["alias"]: int(each["version"]) for each in found.get("aliases", [])}
                yield (
                    RegisteredDoc(
                        name=found["name"],
                        description=found.get("description", ""),
                        created_ms=_int(found.get("creation_timestamp")),
                        updated_ms=_int(found.get("last_updated_timestamp")),
                        tags=_pairs(found.get("tags")),
                        aliases=aliases,
                    ),
                    self._versions(found["name"], prompts),
                )

    def _versions(self, name: str, prompts: str) -> list[VersionDoc]:
        mark = '"' if "'" in name else "'"
        where = f"name={mark}{name}{mark}" + (f" AND {prompts}" if prompts else "")
        found = []
        for each in self._pages("GET", "model-versions/search", "model_versions", filter=where, max_results=PAGE):
            place = self._ask("GET", "model-versions/get-download-uri", name=name, version=each["version"])
            storage = place.get("artifact_uri", "")
            found.append(
                VersionDoc(
                    model=name,
                    number=int(each["version"]),
                    description=each.get("description", ""),
                    user=each.get("user_id", ""),
                    stage=each.get("current_stage", "None"),
                    source=each.get("source", ""),
                    storage=storage if storage != each.get("source", "") else "",
                    run=each.get("run_id", ""),
                    status=each.get("status", "READY"),
                    message=each.get("status_message", ""),
                    run_link=each.get("run_link", ""),
                    created_ms=_int(each.get("creation_timestamp")),
                    updated_ms=_int(each.get("last_updated_timestamp")),
                    tags=_pairs(each.get("tags")),
                )
            )
        return sorted(found, key=lambda each: each.number)

    def evalsets(self) -> list[EvalsetDoc]:
        """Every evaluation data set, by when it was made; none where the server has no such thing."""
        names = {each.id: each.name for each in self.experiments()}
        asked: dict[str, Any] = {"max_results": PAGE, "order_by": ["created_time ASC"]}
        found = []
        for each in self._pages("POST", "datasets/search", "datasets", rest=REST_3, is_optional=True, **asked):
            linked = self._ask("GET", f"datasets/{each['dataset_id']}/experiment-ids", rest=REST_3)
            found.append(
                EvalsetDoc(
                    id=each["dataset_id"],
                    name=each["name"],
                    created_ms=_int(each.get("created_time")),
                    updated_ms=_int(each.get("last_update_time")),
                    created_by=each.get("created_by", ""),
                    updated_by=each.get("last_updated_by", ""),
                    digest=each.get("digest", ""),
                    schema=each.get("schema", ""),
                    profile=each.get("profile", ""),
                    tags=json.loads(each.get("tags") or "{}"),
                    experiments=tuple(names[one] for one in linked.get("experiment_ids", []) if one in names),
                )
            )
        return found

    def records(self, evalset: str) -> Iterator[EvalRecordDoc]:
        """The records of an evaluation data set, by when they came and then by id."""
        for page in self._answers("GET", f"datasets/{evalset}/records", rest=REST_3, max_results=PAGE):
            for each in json.loads(page.get("records") or "[]"):
                yield EvalRecordDoc(
                    id=each["dataset_record_id"],
                    inputs=each["inputs"],
                    outputs=each.get("outputs"),
                    expectations=each.get("expectations"),
                    tags=each.get("tags") or {},
                    source=each.get("source"),
                    created_ms=_int(each.get("created_time")),
                    updated_ms=_int(each.get("last_update_time")),
                    created_by=each.get("created_by") or "",
                    updated_by=each.get("last_updated_by") or "",
                )

    def listing(self, owner: RunDoc | ModelDoc) -> Sequence[FileDoc]:
        """The files of a run or a logged model, folder by folder."""
        found: list[FileDoc] = []
        waiting, known = [""], {""}
        while waiting:
            folder = waiting.pop()
            for each in self._listed(owner, folder):
                if each.get("is_dir"):
                    if each["path"] in known:
                        raise UsageError(f"the folder {each['path'][:100]!r} of {owner.id} is told a second time")
                    known.add(each["path"])
                    waiting.append(each["path"])
                else:
                    found.append(FileDoc(each["path"], int(each.get("file_size", 0))))
        return sorted(found, key=lambda each: each.name)

    def _listed(self, owner: RunDoc | ModelDoc, folder: str) -> list[dict[str, Any]]:
        if isinstance(owner, ModelDoc):
            asked = {"artifact_directory_path": folder} if folder else {}
            answer = self._ask("GET", f"logged-models/{owner.id}/artifacts/directories", **asked)
        else:
            answer = self._ask("GET", "artifacts/list", run_id=owner.id, **({"path": folder} if folder else {}))
        return list(answer.get("files", []))

    def open(self, owner: RunDoc | ModelDoc, name: str) -> BinaryIO:
        """A file, through the server."""
        parsed = urllib.parse.urlsplit(owner.place)
        if parsed.scheme == "mlflow-artifacts":
            place = PROXY + urllib.parse.quote(f"{urllib.parse.unquote(parsed.path).strip('/')}/{name}")
        elif isinstance(owner, ModelDoc):
            query = urllib.parse.urlencode({"artifact_file_path": name})
            place = f"/ajax-api/2.0/mlflow/logged-models/{owner.id}/artifacts/files?{query}"
        else:
            place = f"/get-artifact?{urllib.parse.urlencode({'path': name, 'run_uuid': owner.id})}"
        return cast(BinaryIO, self._open("GET", place))

    def _pages(
        self, method: str, path: str, name: str, /, *, rest: str = REST, is_optional: bool = False, **asked: Any
    ) -> Iterator[Any]:
        try:
            for page in self._answers(method, path, rest=rest, **asked):
                yield from page.get(name, [])
        except NotFound:
            if not is_optional:  # a server of before there were such has none
                raise

    def _answers(self, method: str, path: str, /, *, rest: str = REST, **asked: Any) -> Iterator[dict[str, Any]]:
        """Page after page, each once. Raises: UsageError for a server that would go on for ever."""
        token, known = "", {""}
        while True:
            page = self._ask(method, path, rest=rest, **asked, **({"page_token": token} if token else {}))
            yield page
            token = page.get("next_page_token") or ""
            if not token:
                return
            if token in known:
                raise UsageError(f"{self.shown}{rest}{path} gives a page again that it gave before")
            known.add(token)

    def _ask(self, method: str, path: str, /, *, rest: str = REST, **asked: Any) -> dict[str, Any]:
        place = rest + path
        body = None
        if method == "GET" and asked:
            place += "?" + urllib.parse.urlencode(asked)
        elif asked:
            body = json.dumps(asked).encode()
        with self._open(method, place, body) as answer:
            content = answer.read(ANSWER_MAX)
        try:
            found = json.loads(content)
        except ValueError as error:
            raise UsageError(
                f"{self.shown}{place} does not answer with JSON", hint="is it MLflow's address?"
            ) from error
        if not isinstance(found, dict):
            raise UsageError(f"{self.shown}{place} does not answer as a tracking server does")
        return found

    def _open(self, method: str, place: str, body: bytes | None = None) -> IO[bytes]:
        """The answer to a request; what may be said again is tried again. Raises: NotFound; UsageError; …"""
        headers = {**self._headers, **({"Content-Type": "application/json"} if body is not None else {})}
        for left in range(TRIES - 1, -1, -1):
            request = urllib.request.Request(self.shown + place, data=body, headers=headers, method=method)
            try:
                return cast(IO[bytes], self._opener.open(request, timeout=TIMEOUT_S))
            except urllib.error.HTTPError as error:
                if error.code in (429, 502, 503, 504) and left:
                    error.close()
                else:
                    raise self._refused(error, place) from error
            except (urllib.error.URLError, OSError) as error:
                if not left:
                    reason = getattr(error, "reason", error)
                    raise StoreUnavailable(f"{self.shown} does not answer: {reason}") from error
            time.sleep(0.5 * (TRIES - left))
        raise AssertionError("the last try returns or raises")

    def _refused(self, error: urllib.error.HTTPError, place: str) -> Exception:
        with error:
            told = error.read(4096).decode("utf-8", "replace")
        try:
            content = json.loads(told)
            message, code = printable(str(content.get("message", ""))[:300]), content.get("error_code")
        except (ValueError, AttributeError):
            message, code = "", ""
        said = f"{self.shown}{place.partition('?')[0]} answers {error.code}" + (f": {message}" if message else "")
        if error.code == 404 or code in LACKING:
            return NotFound(said)
        hint = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        if error.code in (401, 403):
            return UsageError(said, hint=hint)
        return StoreUnavailable(said) if error.code >= 500 else UsageError(said)


def _credentials(parsed: urllib.parse.SplitResult) -> dict[str, str]:
    user = urllib.parse.unquote(parsed.username or "") or os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = urllib.parse.unquote(parsed.password or "") or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    if user:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _run(found: Mapping[str, Any], experiment: ExperimentDoc) -> RunDoc:
    info, data = found["info"], found.get("data", {})
    name, tags = named(info.get("run_name", ""), _pairs(data.get("tags")))
    taken, given = found.get("inputs", {}), found.get("outputs", {})
    outputs = [(each["model_id"], int(each.get("step", 0))) for each in given.get("model_outputs", [])]
    return RunDoc(
        id=info["run_id"],
        experiment=experiment.name,
        name=name,
        user=info.get("user_id", ""),
        status=info.get("status", "RUNNING"),
        stage=info.get("lifecycle_stage", "active"),
        started_ms=_int(info.get("start_time")),
        ended_ms=_int(info.get("end_time")),
        params=_pairs(data.get("params")),
        tags=tags,
        inputs=tuple(_input(each) for each in taken.get("dataset_inputs", [])),
        models_in=tuple(each["model_id"] for each in taken.get("model_inputs", [])),
        models_out=tuple(outputs),
        place=info.get("artifact_uri", ""),
    )


def _input(found: Mapping[str, Any]) -> InputDoc:
    dataset = found["dataset"]
    return InputDoc(
        name=dataset["name"],
        digest=dataset["digest"],
        source_type=dataset["source_type"],
        source=dataset["source"],
        schema=dataset.get("schema"),
        profile=dataset.get("profile"),
        tags=tuple(sorted(_pairs(found.get("tags")).items())),
    )


def _measure(found: Mapping[str, Any]) -> MeasureDoc:
    return MeasureDoc(
        key=found["key"],
        at_ms=int(found["timestamp"]),
        step=int(found.get("step", 0)),
        run=found.get("run_id", ""),
        value=float(found["value"]),
        dataset=found.get("dataset_name", ""),
        digest=found.get("dataset_digest", ""),
    )


def _curve(found: Sequence[Mapping[str, Any]]) -> Curve:
    return Curve(
        np.array([int(each.get("step", 0)) for each in found], np.int64),
        np.array([int(each["timestamp"]) for each in found], np.int64) * 1000,
        np.array([float(each["value"]) for each in found], np.float64),
    )


def _pairs(found: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    return {each["key"]: each.get("value", "") for each in found or []}


def _int(value: Any) -> int | None:
    return None if value is None else int(value)
