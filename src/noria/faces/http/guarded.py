"""Routes that ask who may: a handler with its permission, and the rule that no route comes without one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from noria.core.errors import NoriaError
from noria.faces.http.auth import permit

__all__ = ["ANYBODY", "Permission", "behind", "guarded", "require_guarded"]

Handler = Callable[[Request], Any]
"""Gives a response, or a coroutine that does."""
Permission = str | Callable[[Request], Awaitable[str]]
MARK = "__noria_permission__"
ANYBODY = "anybody"
"""In place of a permission, for what says no more than that the server lives."""


def guarded(
    handler: Handler, permission: Permission, *, refuse: Callable[[NoriaError], Response]
) -> Callable[[Request], Awaitable[Response]]:
    """A handler that is only reached by who may; a plain function runs in a thread.

    Args:
        permission: the permission that it takes, or what tells it of a request.
        refuse: the answer to who may not, or for whom no permission can be told.
    """

    @functools.wraps(handler)
    async def asked(request: Request) -> Response:
        try:
            if permission != ANYBODY:
                permit(request.scope, permission if isinstance(permission, str) else await permission(request))
        except NoriaError as error:
            return refuse(error)
        found = await handler(request) if is_async else await run_in_threadpool(handler, request)
        assert isinstance(found, Response)
        return found

    is_async = inspect.iscoroutinefunction(handler)
    setattr(asked, MARK, permission)
    return asked


def require_guarded(routes: Sequence[BaseRoute]) -> list[BaseRoute]:
    """The routes, each of which asks for a permission. One that does not is a bug: the server does not serve it."""
    for route in routes:
        assert isinstance(route, Route), f"{route} is no route that can ask who may"
        assert hasattr(route.endpoint, MARK), f"{route.path} asks for no permission"
    return list(routes)


def behind(guard: Any, application: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """An ASGI application behind a `Guard` alone: what the server does, without models."""

    async def entered(scope: Any, receive: Any, send: Any) -> None:
        refusal = await guard.enter(scope)
        if refusal is not None:
            await send({"type": "http.response.start", "status": refusal.status, "headers": refusal.headers})
            await send({"type": "http.response.body", "body": refusal.body})
            return
        await application(scope, receive, send)

    return entered
