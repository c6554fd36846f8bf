"""MLflow's paths: one table of endpoints, limits before parsing, and an answer in its form whatever happens."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from noria.core.errors import GateClosed, NoriaError
from noria.core.lazy import lazy
from noria.faces.http.auth import actor_in
from noria.faces.http.body import BodyTooLarge, read_body
from noria.faces.http.guarded import ANYBODY, Permission, guarded
from noria.faces.http.replies import drain
from noria.faces.protocols.mlflow import (
    artifacts,
    assessments,
    direct,
    evalsets,
    experiments,
    hooks,
    models,
    models_search,
    otlp,
    points,
    registered,
    registry_search,
    runs,
    traces,
    uploads,
    versions,
)
from noria.faces.protocols.mlflow.messages import Spec, read
from noria.faces.protocols.mlflow.permissions import permission_of, permission_of_file
from noria.faces.protocols.mlflow.refusals import Refused, internal, invalid
from noria.faces.protocols.mlflow.wire import Wire
from noria.store.workspace import Workspace, acting

__all__ = ["VERSION", "routes"]

msgspec_json = lazy("msgspec.json")
log = logging.getLogger("noria.mlflow")
VERSION = "3.17.2"
"""The server that this one behaves as; clients choose what they ask by it."""
BODY_MAX = 32 << 20
"""A data set's profile alone may be 16 MiB."""
SWIFT_BYTES = 16 << 10
"""A larger body takes longer to read than handing it to a thread does (0.6 of a millisecond's work, 2026-11)."""
KINDS = ("api", "ajax-api")
PREFIXES = ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow")
PREFIXES_3 = ("/api/3.0/mlflow", "/ajax-api/3.0/mlflow")
SPANS = "/v1/traces"
"""Where OpenTelemetry's exporters send spans."""
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
PROXIED = ("/api/2.0/mlflow-artifacts", "/ajax-api/2.0/mlflow-artifacts")
Asked = Callable[[Request], Awaitable[Response]]
ARTIFACTS = {
    "GET": artifacts.download,
    "HEAD": artifacts.download,
    "PUT": artifacts.upload,
    "DELETE": artifacts.delete,
}
UPLOADS = {
    ("POST", "mpu/create/{path:path}"): uploads.create,
    ("PUT", "mpu/part/{upload}/{number:int}"): uploads.part,
    ("GET", "mpu/part/{upload}"): uploads.parts,
    ("POST", "mpu/complete/{path:path}"): uploads.complete,
    ("POST", "mpu/abort/{path:path}"): uploads.abort,
    ("GET", "presigned/{path:path}"): uploads.presigned,
}
Handler = Callable[[Wire, Workspace, dict[str, Any]], dict[str, Any]]
ENDPOINTS: dict[tuple[str, str], tuple[Spec, Handler]] = {
    **experiments.ENDPOINTS,
    **runs.ENDPOINTS,
    **points.ENDPOINTS,
    **artifacts.ENDPOINTS,
    **models.ENDPOINTS,
    **models_search.ENDPOINTS,
    **registered.ENDPOINTS,
    **versions.ENDPOINTS,
    **registry_search.ENDPOINTS,
    **hooks.ENDPOINTS,
    **traces.ENDPOINTS,
}
ENDPOINTS_3: dict[tuple[str, str], tuple[Spec, Handler]] = {
    **traces.ENDPOINTS_3,
    **assessments.ENDPOINTS_3,
    **evalsets.ENDPOINTS_3,
}


class _Table:
    """The endpoints below a prefix, by method and path; a path may hold names in braces."""

    def __init__(self, endpoints: Mapping[tuple[str, str], tuple[Spec, Handler]]) -> None:
        self.endpoints = endpoints
        self.patterns = [
            (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", endpoint)), verb, endpoint)
            for verb, endpoint in endpoints
            if "{" in endpoint
        ]

    def find(self, method: str, endpoint: str) -> tuple[tuple[Spec, Handler] | None, str, dict[str, str]]:
        """What answers there, under which path of the table, and the names in the path."""
        found = None if "{" in endpoint else self.endpoints.get((method, endpoint))
        if found is not None:
            return found, endpoint, {}
        for pattern, verb, path in self.patterns:
            match = pattern.fullmatch(endpoint) if verb == method else None
            if match is not None:
                return self.endpoints[verb, path], path, match.groupdict()
        return None, "", {}

    def methods(self, endpoint: str) -> list[str]:
        """What an endpoint may be asked by."""
        fitting = [verb for pattern, verb, _ in self.patterns if pattern.fullmatch(endpoint)]
        return sorted({*fitting, *(verb for verb, path in self.endpoints if path == endpoint)})


_TABLES = {
    **dict.fromkeys(PREFIXES, _Table(ENDPOINTS)),
    **dict.fromkeys(PREFIXES_3, _Table(ENDPOINTS_3)),
}


def routes(workspace: Workspace) -> list[Route]:
    """The routes of MLflow's REST interface, over one workspace."""
    opened = _Opened(workspace)

    async def call(request: Request) -> Response:
        limit = max(BODY_MAX, workspace.project.server.max_body_bytes)
        body = await read_body(request.scope, request.receive, limit=limit)
        return await _called(opened, workspace, request, body)

    async def spans(request: Request) -> Response:
        limit = max(BODY_MAX, workspace.project.server.max_body_bytes)
        body = await read_body(request.scope, request.receive, limit=limit)
        return await run_in_threadpool(_take_spans, acting(workspace, actor_in(request.scope).name), request, body)

    async def proxied(request: Request) -> Response:
        return await ARTIFACTS[request.method](opened.get, acting(workspace, actor_in(request.scope).name), request)

    async def listed(request: Request) -> Response:
        return await artifacts.list_files(opened.get, workspace, request)

    def uploading(method: str, path: str) -> Asked:
        async def answer(request: Request) -> Response:
            return await UPLOADS[method, path](opened.get, acting(workspace, actor_in(request.scope).name), request)

        return answer

    async def version(request: Request) -> Response:
        return Response(VERSION, media_type="text/html")

    async def health(request: Request) -> Response:
        return Response("OK", media_type="text/plain")

    async def server_info(request: Request) -> Response:
        told = {
            "store_type": "SqlStore",
            "workspaces_enabled": False,
            "trace_archival_enabled": False,
            "multipart_uploads_enabled": True,
            "multipart_downloads_enabled": direct.is_on(workspace),
            "presigned_upload_run_id_supported": False,
            "presigned_upload_model_id_supported": False,
            "features_enabled": {"gateway": False},
        }
        return Response(msgspec_json.encode(told), media_type="application/json")

    return [
        Route("/version", _may(version, "experiments.read"), methods=["GET"]),
        Route("/health", _may(health, ANYBODY), methods=["GET"]),
        *(
            Route(f"/{kind}/3.0/mlflow/server-info", _may(server_info, "experiments.read"), methods=["GET"])
            for kind in KINDS
        ),
        Route(SPANS, _may(spans, "experiments.write"), methods=["POST"]),
        *(Route(f"{prefix}/{{endpoint:path}}", _may(call, _of_endpoint), methods=METHODS) for prefix in _TABLES),
        *(
            Route(f"{prefix}/{path}", _may(uploading(method, path), _of_file), methods=[method])
            for method, path in UPLOADS
            for prefix in PROXIED
        ),
        *(Route(f"{prefix}/artifacts", _may(listed, "experiments.read"), methods=["GET"]) for prefix in PROXIED),
        *(
            Route(f"{prefix}/artifacts/{{path:path}}", _may(proxied, _of_file), methods=list(ARTIFACTS))
            for prefix in PROXIED
        ),
    ]


def _guarded(handler: Asked) -> Asked:
    """The same, whose failures are answers in MLflow's form."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as error:
            return _refusal(error)
        except BodyTooLarge as error:
            if error.has_more:
                await drain(request.receive)
            return _refusal(Refused("INVALID_PARAMETER_VALUE", error.message, status=error.status))
        except NoriaError as error:
            return _refusal(_worded(error))
        except Exception:
            log.exception("%s failed", request.url.path)
            return _refusal(internal())

    return answer


class _Opened:
    """The wire of this process, made at the first request. Thread safe."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._lock = threading.Lock()
        self.wire: Wire | None = None
        self._one_by_one: CapacityLimiter | None = None

    def one_by_one(self) -> CapacityLimiter:
        """One thread for large batches: more would only be in each other's way, and in that of who predicts."""
        if self._one_by_one is None:
            self._one_by_one = CapacityLimiter(1)
        return self._one_by_one

    def get(self) -> Wire:
        if self.wire is None:
            with self._lock:
                if self.wire is None:
                    self.wire = Wire(self._ws)
        return self.wire


async def _called(opened: _Opened, workspace: Workspace, request: Request, body: bytes) -> Response:
    """The answer to a request: made here where that is one write to an open file, else in a worker thread."""
    endpoint, wire = request.path_params["endpoint"], opened.wire
    if wire is not None and request.method == "POST" and endpoint in points.SWIFT and len(body) > SWIFT_BYTES:
        done = await to_thread.run_sync(_large, opened, wire, workspace, request, body, limiter=opened.one_by_one())
        if isinstance(done, Response):
            return done
        return await run_in_threadpool(_answer, opened, workspace, request, *done)
    if wire is None or request.method != "POST" or endpoint not in points.SWIFT:
        return await run_in_threadpool(_call, opened, workspace, request, body)
    handler, given = _read(request, body)
    if points.is_swift(wire, endpoint, given):
        return _answer(opened, workspace, request, handler, given)
    return await run_in_threadpool(_answer, opened, workspace, request, handler, given)


def _large(
    opened: _Opened, wire: Wire, workspace: Workspace, request: Request, body: bytes
) -> Response | tuple[Handler, dict[str, Any]]:
    """Runs in a worker thread: the answer, or what was read where the answer may have to wait for something."""
    handler, given = _read(request, body)
    if points.is_swift(wire, request.path_params["endpoint"], given):
        return _answer(opened, workspace, request, handler, given)
    return handler, given


def _call(opened: _Opened, workspace: Workspace, request: Request, body: bytes) -> Response:
    """Runs in a worker thread: reads the request, does it, and writes the answer."""
    return _answer(opened, workspace, request, *_read(request, body))


def _read(request: Request, body: bytes) -> tuple[Handler, dict[str, Any]]:
    """What does a request, and what it is given. Raises: Refused."""
    endpoint = request.path_params["endpoint"]
    method = "GET" if request.method == "HEAD" else request.method
    table = _table(request)
    found, _, named = table.find(method, endpoint)
    if found is None:
        allowed = table.methods(endpoint)
        if allowed:
            error = Refused("ENDPOINT_NOT_FOUND", f"{endpoint} takes {', '.join(allowed)}, not {method}", status=405)
            error.headers = {"allow": ", ".join(allowed)}
            raise error
        raise Refused("ENDPOINT_NOT_FOUND", f"There is no endpoint {endpoint[:200]!r} here.")
    spec, handler = found
    query = request.query_params.multi_items() if request.scope["query_string"] else []
    given = read(spec, method, query, request.headers.get("content-type", ""), body)
    return handler, {**given, **named}


def _answer(
    opened: _Opened, workspace: Workspace, request: Request, handler: Handler, given: dict[str, Any]
) -> Response:
    """Do what was read, and write the answer. In a worker thread, but for what `points.is_swift` says of."""
    answer = handler(opened.get(), acting(workspace, actor_in(request.scope).name), given)
    return Response(msgspec_json.encode(answer), media_type="application/json")


def _table(request: Request) -> _Table:
    """The endpoints of the version of the interface that a request is for."""
    path = request.scope["path"]
    return next(table for prefix, table in _TABLES.items() if path.startswith(f"{prefix}/"))


def _take_spans(workspace: Workspace, request: Request, body: bytes) -> Response:
    """Runs in a worker thread: keeps the spans of an export, and answers that none was refused."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    experiment = request.headers.get("x-mlflow-experiment-id", "")
    limit = max(BODY_MAX, workspace.project.server.max_body_bytes)
    try:
        if not experiment:
            raise otlp.Unnamed
        if kind not in ("application/x-protobuf", "application/json"):
            raise otlp.Malformed(
                f"Invalid Content-Type: {kind[:80]}. Expected: application/x-protobuf or application/json"
            )
        whole = otlp.decompressed(body, request.headers.get("content-encoding", "").lower(), limit=limit)
        exports = otlp.of_json(whole) if kind == "application/json" else otlp.of_protobuf(whole)
    except otlp.Malformed as error:  # this one path is refused in the form of another framework there
        told = msgspec_json.encode({"detail": str(error)})
        return Response(told, error.status, media_type="application/json")
    traces.keep_export(workspace, experiment, exports, request.headers.get("x-mlflow-run-id", ""))
    return Response(b"", media_type="application/x-protobuf")


def _may(handler: Asked, permission: Permission) -> Asked:
    """The same, for who may; who may not is told in MLflow's form, and so is every failure."""
    return guarded(_guarded(handler), permission, refuse=lambda error: _refusal(_worded(error)))


async def _of_endpoint(request: Request) -> str:
    """What the endpoint takes that a request is for; where there is none, as much as to hear that."""
    method = "GET" if request.method == "HEAD" else request.method
    endpoint = request.path_params["endpoint"]
    _, path, _ = _table(request).find(method, endpoint)
    return permission_of(method, path) if path else "experiments.read"


async def _of_file(request: Request) -> str:
    return permission_of_file(request.method)


def _worded(error: NoriaError) -> Refused:
    """Noria's own refusals in the form that clients of MLflow read."""
    if error.status == 404:
        return Refused("RESOURCE_DOES_NOT_EXIST", str(error))
    if error.status == 403 or isinstance(error, GateClosed):
        return Refused("PERMISSION_DENIED", str(error))
    if error.is_retry_safe or error.status in (503, 507):
        return Refused("TEMPORARILY_UNAVAILABLE", str(error), status=503)
    if error.status >= 500:
        log.error("a request failed: %s", error)
        return internal()
    return invalid(str(error))


def _refusal(error: Refused) -> Response:
    return Response(error.body(), error.status, error.headers, media_type="application/json")
