"""The server's one ASGI application: raw paths for models, Starlette for everything else.

The infer paths are matched by hand and never pass a framework; a thousand of them cost a fraction
of a second less than one middleware would take. Every request first passes the guard (`auth.py`), and every
path asks it for a permission.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from noria.core.errors import NoriaError, NotFound, UsageError
from noria.faces.http.auth import Guard, actor_in, permit
from noria.faces.http.body import BodyTooLarge
from noria.faces.http.feedback import Feedback
from noria.faces.http.guarded import require_guarded
from noria.faces.http.infer import Infer, label_datatype
from noria.faces.http.metrics import Metrics
from noria.faces.http.replies import Receive, Scope, Send, drain, reply, reply_error
from noria.governance.access import is_allowed
from noria.serving.answers import error_body
from noria.serving.routes import Route
from noria.serving.runtime import Runtime
from noria.store.workspace import Workspace

__all__ = ["STALL_S", "App"]

log = logging.getLogger("noria.http")
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
Routes = Callable[[Workspace], Sequence[BaseRoute]]
STALL_S = 30.0
"""A batch that has taken this long makes the server not ready."""

_V2_TYPES = {
    "bool": "BOOL",
    "int64": "INT64",
    "float64": "FP64",
}


class App:
    """ASGI: `/predict`, `/v2…`, `/healthz`, `/metrics`, and below them what `others` builds for a workspace.

    `others` are called on a thread, once `begin` was called or a request needs them, so that the server can
    answer predictions before the status page and the API are imported.
    """

    def __init__(
        self, ws: Workspace, runtime: Runtime, feedback: Feedback, *, others: Callable[[], Sequence[Routes]]
    ) -> None:
        self._ws = ws
        self._runtime = runtime
        self.guard = Guard(ws)
        self.infer = Infer(runtime, max_body_bytes=ws.project.server.max_body_bytes, project=ws.project.name)
        self._feedback = feedback
        self._metrics = Metrics(runtime)
        self._others = others
        self._rest: asyncio.Task[Starlette] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever happens is an answer, and the process lives."""
        if scope["type"] != "http":
            assert scope["type"] == "websocket", "the lifespan protocol is off"
            await send({"type": "websocket.close", "code": 1000})
            return
        has_begun = False

        async def tracked(message: Any) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            refusal = await self.guard.enter(scope)
            if refusal is not None:
                await send({"type": "http.response.start", "status": refusal.status, "headers": refusal.headers})
                await send({"type": "http.response.body", "body": refusal.body})
                return
            await self._answer(scope, receive, tracked)
        except BodyTooLarge as error:
            if error.has_more and _ends(scope):
                await drain(receive)  # else the server reads on and throws away, and who sends sees why at once
            await reply_error(send, error)
        except NoriaError as error:
            if not has_begun:
                await reply_error(send, error)
        except Exception:
            log.exception("a request to %s failed", scope["path"])
            if not has_begun:
                await reply(send, 500, error_body("the server failed; its log says why"))
        finally:
            if self.guard.has_to_tell:
                await asyncio.to_thread(self.guard.tell)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith("/predict"):
            if path == "/predict" or path[8] == "/":
                permit(scope, "serving.predict")
                await self._post(scope, send, self.infer.predict(scope, receive, send, path[9:]))
                return
        elif path == "/v2" or path.startswith("/v2/"):
            await self._v2(scope, receive, send, path)
            return
        elif path == "/healthz":
            await self._look(scope, send, self._health(scope, send))
            return
        elif path == "/metrics":
            permit(scope, "serving.read")
            await self._look(scope, send, self._metrics(scope, receive, send))
            return
        application = await asyncio.shield(self.begin())
        await application(scope, receive, send)

    def begin(self) -> asyncio.Task[Starlette]:
        """What `others` build, on its way or done: begun on a thread when first asked for. Belongs to the loop."""
        if self._rest is None:
            self._rest = asyncio.ensure_future(asyncio.to_thread(self._build))
        return self._rest

    def _build(self) -> Starlette:
        routes: list[BaseRoute] = []
        for build in self._others():
            routes.extend(require_guarded(build(self._ws)))
        return Starlette(routes=routes, exception_handlers={404: _as_json, 405: _as_json})

    async def _post(self, scope: Scope, send: Send, handled: Coroutine[Any, Any, None]) -> None:
        await _by(("POST",), scope, send, handled)

    async def _look(self, scope: Scope, send: Send, handled: Coroutine[Any, Any, None]) -> None:
        await _by(("GET", "HEAD"), scope, send, handled)

    async def _v2(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        parts = [part for part in path.split("/")[2:] if part]
        if parts[:1] != ["health"]:
            permit(scope, _v2_permission(parts))
        if not parts:
            document = {"name": "noria", "version": importlib.metadata.version("noria"), "extensions": ["feedback"]}
            await self._look(scope, send, reply(send, 200, msgspec.json.encode(document)))
        elif parts[0] == "health" and len(parts) == 2 and parts[1] in ("live", "ready"):
            await self._look(scope, send, self._v2_health(send, parts[1]))
        elif parts[0] == "models" and len(parts) >= 2:
            await self._v2_model(scope, receive, send, parts[1], parts[2:])
        elif parts == ["models"]:
            names = msgspec.json.encode({"models": sorted(self._runtime.routes.by_model)})
            await self._look(scope, send, reply(send, 200, names))
        else:
            raise NotFound(f"there is no {path[:200]}", hint="GET /v2, /v2/models/{model}, POST …/infer, …/feedback")

    async def _v2_model(self, scope: Scope, receive: Receive, send: Send, model: str, rest: list[str]) -> None:
        version = ""
        if len(rest) >= 2 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
        if rest == ["infer"]:
            await self._post(scope, send, self.infer.infer(scope, receive, send, model, version))
        elif rest == ["feedback"] and not version:
            await self._post(scope, send, self._feedback(scope, receive, send, model))
        elif rest == ["ready"]:
            route = self._runtime.routes.of(model)
            await self._look(scope, send, reply(send, 200, msgspec.json.encode({"name": route.model, "ready": True})))
        elif not rest:
            told = msgspec.json.encode(metadata(self._runtime.routes.of(model), version))
            await self._look(scope, send, reply(send, 200, told))
        else:
            raise NotFound(f"there is no {scope['path'][:200]}")

    async def _v2_health(self, send: Send, what: str) -> None:
        is_ready = self._is_ready()
        status = 200 if what == "live" or is_ready else 503
        await reply(send, status, msgspec.json.encode({"live": True, "ready": is_ready}))

    async def _health(self, scope: Scope, send: Send) -> None:
        """Whether it answers, to everybody; what it answers with, to who may see that."""
        runtime = self._runtime
        is_ready = self._is_ready()
        document: dict[str, Any] = {"ok": is_ready}
        if is_allowed(actor_in(scope), "serving.read", self._ws.project.name):
            document["models"] = {
                model: {"deployment": route.seq, "releases": [arm.release for arm in route.arms]}
                for model, route in runtime.routes.by_model.items()
            }
            document["queued_rows"] = runtime.queued_rows
            document["scheduling"] = runtime.scheduling
        await reply(send, 200 if is_ready else 503, msgspec.json.encode(document))

    def _is_ready(self) -> bool:
        runtime = self._runtime
        return runtime.stalled_s() < STALL_S and not runtime.routes.failed and runtime.is_recording()


async def _by(methods: Sequence[str], scope: Scope, send: Send, handled: Coroutine[Any, Any, None]) -> None:
    """Answer by a coroutine, or that the path takes other methods."""
    if scope["method"] in methods:
        await handled
        return
    handled.close()
    allow = ((b"allow", ", ".join(methods).encode()),)
    text = f"{scope['path'][:200]} takes {methods[0]}, not {scope['method'][:40]}"
    await reply(send, 405, error_body(text, code=UsageError.code), more=allow)


def _v2_permission(parts: list[str]) -> str:
    """What a path below /v2 takes."""
    if parts[:1] == ["models"] and parts[-1] == "infer":
        return "serving.predict"
    if parts[:1] == ["models"] and parts[-1] == "feedback":
        return "monitoring.feedback"
    return "serving.read"


def _as_json(request: Request, error: Exception) -> Response:
    """Starlette's own refusals in the form of ours."""
    status = getattr(error, "status_code", 500)
    path, allow = request.url.path[:200], (getattr(error, "headers", None) or {}).get("Allow", "")
    if status == 405:
        body = error_body(f"{path} takes {allow or 'another method'}, not {request.method}", code=UsageError.code)
    else:
        hint = "GET /api/v1 lists the verbs; models answer at POST /predict/{model} and below /v2"
        body = error_body(f"there is no {path}", code=NotFound.code, hint=hint)
    return Response(body, status, {"allow": allow} if allow else {}, media_type="application/json")


def metadata(route: Route, version: str = "") -> Mapping[str, Any]:
    """The v2 metadata of a model: what it takes and gives. Raises: NotFound for a version that is not loaded."""
    loaded = {**route.served, **{served.release: served for served in route.kept}}
    if version:
        if not version.isdecimal() or int(version[:9]) not in loaded:
            raise NotFound(f"{route.model} has no version {version[:40]!r} here", hint=f"versions: {sorted(loaded)}")
        served = loaded[int(version[:9])]
    else:
        served = route.served[max(route.arms, key=lambda arm: arm.weight).release]
    signature = getattr(served.model, "signature", None)
    if signature is None:
        raise UsageError(f"{route.model} has no signature")
    inputs = [
        {"name": column.name, "datatype": _V2_TYPES.get(column.type, "BYTES"), "shape": [-1]}
        for column in signature.inputs
    ]
    outputs: list[dict[str, Any]] = [{"name": "score", "datatype": "FP64", "shape": [-1]}]
    if served.is_binary:
        outputs.append({"name": "label", "datatype": label_datatype(served.positive), "shape": [-1]})
    return {
        "name": route.model,
        "versions": [str(number) for number in sorted(loaded)],
        "platform": "noria",
        "inputs": inputs,
        "outputs": outputs,
    }


def _ends(scope: Scope) -> bool:
    """Whether the connection is closed after the answer."""
    if scope["http_version"] == "1.0":
        return True
    return any(name == b"connection" and value.lower() == b"close" for name, value in scope["headers"])
