"""GET /metrics: the counters of this server process as Prometheus scrapes them."""

from __future__ import annotations

from noria.faces.http.replies import Receive, Scope, Send, reply
from noria.serving.runtime import Runtime

__all__ = ["Metrics"]

_TYPE = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class Metrics:
    """Raw ASGI for /metrics."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape."""
        runtime = self._runtime
        deployments = {model: route.seq for model, route in runtime.routes.by_model.items()}
        text = runtime.meters.text(queued_rows=runtime.queued_rows, deployments=deployments)
        await reply(send, 200, text.encode(), content_type=_TYPE)
