"""Every verb over HTTP: `POST /api/v1/{capability}/{verb}` with its arguments as JSON.

One generic route for all verbs, so there is no mirrored interface. A body must be declared as JSON: what
a form of a foreign page can send is refused before any other check. An answer is `{"result": …}` or
`{"error": {code, message, where, hint}}`; the error's own status is the HTTP status. The body's size
and depth are limited before it is parsed, and verbs run in worker threads, never on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from noria.core.errors import Denied, NoriaError, UsageError
from noria.core.lazy import lazy
from noria.faces import verbs
from noria.faces.http import openapi
from noria.faces.http.auth import actor_in
from noria.faces.http.body import read_body, require_shallow
from noria.faces.http.guarded import guarded
from noria.store.workspace import Workspace, acting

__all__ = ["failure", "routes"]

msgspec = lazy("msgspec")
msgspec_json = lazy("msgspec.json")
log = logging.getLogger("noria.api")
PLACES = frozenset({"path", "to", "junit", "source"})
"""Arguments of verbs that are files or folders, or sources elsewhere."""


def routes(workspace: Workspace) -> list[Route]:
    """The routes of the verbs, over one workspace."""

    async def listing(request: Request) -> Response:
        found = await run_in_threadpool(verbs.collect)
        return _answer({"verbs": [_described(each) for each in found.values()], "openapi": openapi.PATH})

    async def described(request: Request) -> Response:
        return Response(await run_in_threadpool(openapi.encoded), media_type="application/json")

    async def call(request: Request) -> Response:
        try:
            given = await _arguments(request, workspace.project.server.max_body_bytes)
            asker = acting(workspace, actor_in(request.scope).name)
            names = request.path_params
            return await run_in_threadpool(_call, asker, names["capability"], names["verb"], given)
        except NoriaError as error:
            return failure(error)
        except Exception:
            log.exception("%s failed", request.url.path)
            return _internal()

    return [
        Route("/api/v1", guarded(listing, "project.read", refuse=failure), methods=["GET"]),
        Route(openapi.PATH, guarded(described, "project.read", refuse=failure), methods=["GET"]),
        Route("/api/v1/{capability}/{verb}", guarded(call, _permission, refuse=failure), methods=["POST"]),
    ]


async def _permission(request: Request) -> str:
    """What the verb of a request takes. Raises: NotFound."""
    names = request.path_params
    found = await run_in_threadpool(verbs.find, names["capability"], names["verb"])
    return found.declaration.permission


def failure(error: NoriaError) -> Response:
    """The answer for an error of the tree."""
    told = {"code": error.code, "message": error.message, "where": error.where, "hint": error.hint}
    headers = {"retry-after": "1"} if error.is_retry_safe else {}
    return Response(verbs.encode({"error": told}), error.status, headers, media_type="application/json")


def _call(workspace: Workspace, capability: str, name: str, given: Mapping[str, Any]) -> Response:
    """Runs in a worker thread. Encoding belongs here too: a result may be large."""
    found = verbs.find(capability, name)
    verbs.accept(found, given)
    _require_inside(workspace, given)
    result = verbs.call(workspace, found, given)
    return Response(verbs.encode({"result": result}), media_type="application/json")


def _require_inside(workspace: Workspace, given: Mapping[str, Any]) -> None:
    """A path that a client names is a place inside the project, links followed; nothing else is read or written.

    A database or an object store that a client may name is one that noria.toml names as a source.
    Raises: Denied. Source of the rule: the path traversal class, CVE-2023-1177 and its kin.
    """
    root = workspace.project.root.resolve()
    for name in PLACES & given.keys():
        place = given[name]
        if isinstance(place, str) and "://" in place:
            if place not in {config.source for config in workspace.project.data.values()}:
                hint = "[data.NAME] source in noria.toml names it for everybody"
                raise Denied(f"{name} is a source that the project does not name", hint=hint)
            continue
        if isinstance(place, str) and place and not (root / place).resolve().is_relative_to(root):
            raise Denied(f"{name} is outside of the project", hint="a client may name places inside the project only")


async def _arguments(request: Request, limit: int) -> Mapping[str, Any]:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        hint = "send it as JSON: curl -H 'content-type: application/json' -d '{…}'"
        raise UsageError(f"the body is declared as {kind[:60]!r}, not JSON", hint=hint)
    body = await read_body(request.scope, request.receive, limit=limit)
    require_shallow(body)
    if not body.strip():
        return {}
    try:
        given = msgspec_json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the body is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise UsageError("the body must be a JSON object of the verb's arguments")
    return given


def _described(found: verbs.FoundVerb) -> dict[str, Any]:
    declared = found.declaration
    return {
        "path": f"/api/v1/{declared.capability}/{declared.name}",
        "permission": declared.permission,
        "changes": declared.is_change,
        "summary": found.summary,
        "arguments": [
            {"name": each.name, "kind": each.kind, "required": each.is_required, "default": each.default}
            for each in found.parameters
        ],
    }


def _answer(value: Any) -> Response:
    return Response(verbs.encode(value), media_type="application/json")


def _internal() -> Response:
    told = {"code": "internal", "message": "the server failed; its log says where", "where": "", "hint": ""}
    return Response(verbs.encode({"error": told}), 500, media_type="application/json")
