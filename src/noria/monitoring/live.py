"""What production is now, as monitoring sees it: the model's release, its reference, and how far events have come."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from noria.core.clock import instant
from noria.core.errors import NotFound, UsageError
from noria.monitoring import labels
from noria.monitoring.tail import newest_in
from noria.monitoring.window import Window, containing, following, named, previous
from noria.registry import records as registry
from noria.registry.release import Release, content
from noria.serving import capture, segment
from noria.serving import records as serving
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "OTHER",
    "as_of",
    "first_release",
    "live_release",
    "models",
    "the_model",
    "window_of",
    "window_with_requests",
]

OTHER = "WINDOW   (noria project months lists those that were measured; a window is such as 2013-02 or 2013-W05)"


def models(ws: Workspace, environment: str = "local") -> list[str]:
    """The models that have a release in production."""
    with ws.ledger.read() as tx:
        return [name for name in registry.models(tx) if registry.production(tx, name, environment) is not None]


def the_model(ws: Workspace, model: str) -> str:
    """A model by its name, or the one that answers. Raises: UsageError if there are several, NotFound if none."""
    if model:
        return model
    found = models(ws)
    if not found:
        raise NotFound("no model is in production", hint="noria deploy brings one there")
    if len(found) > 1:
        raise UsageError("several models are in production: name one", hint=", ".join(found))
    return found[0]


def live_release(ws: Workspace, model: str, environment: str = "local") -> Release:
    """The release in production. Raises: NotFound if there is none."""
    with ws.ledger.read() as tx:
        found = registry.production(tx, model, environment)
    if found is None:
        raise NotFound(f"{model} has no release in production", hint=f"noria deploy {model}")
    return content(ws, found)


def first_release(ws: Workspace, model: str, environment: str = "local") -> Release:
    """The first release that was ever in production: the one that stands for never changing anything."""
    for stored in ws.ledger.facts(kind="release.moved", subject=f"model/{model}"):
        moved = stored.payload
        if moved.after == "production" and moved.environment == environment:
            with ws.ledger.read() as tx:
                found = registry.release(tx, model, moved.release)
            assert found is not None, "a release that moved was made"
            return content(ws, found)
    raise NotFound(f"{model} was never in production", hint=f"noria deploy {model}")


def as_of(ws: Workspace, model: str) -> datetime | None:
    """How far time has come for a model: the wall clock, or under an event clock the greatest event seen.

    None under an event clock when nothing was seen yet.
    """
    if ws.project.clock != "events":
        return ws.clock.now()
    with ws.ledger.read() as tx:
        sealed = max((piece.event_max for piece in serving.segments(tx, model)), default="")
    answered = newest_in(segment.folder(ws.project.state, model))
    newest = max(sealed, answered, labels.newest_event(ws, model))
    return instant(newest) if newest else None


def window_of(ws: Workspace, model: str, name: str = "") -> Window:
    """The window of that name; without one the newest that has ended. Raises: NotFound before any event."""
    if name:
        return named(name)
    now = as_of(ws, model)
    if now is None:
        raise NotFound(f"{model} has answered nothing yet", hint="send it a request, then ask again")
    return previous(containing(now, ws.project.model(model).monitor.window))


def window_with_requests(ws: Workspace, model: str, name: str = "") -> tuple[Window, pa.Table]:
    """A window and its answered requests: the one of that name, or the newest that has ended.

    While the newest that has ended had no request, it is the one that is under way. Raises: NotFound
    before any event.
    """
    chosen = window_of(ws, model, name)
    table = capture.predictions(ws, model, chosen.start_text, chosen.end_text)
    if name or table.num_rows:
        return chosen, table
    now = following(chosen)
    return now, capture.predictions(ws, model, now.start_text, now.end_text)
