"""What the pages have in common: the headers of their answers, how they refuse, the colour of a status word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.responses import Response

from noria.core.errors import NoriaError

__all__ = ["HEADERS", "refused", "tone"]

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with no-referrer a browser sends "Origin: null" with our own form, too
    "cache-control": "no-store",
}

_TONES: Mapping[str, Sequence[str]] = {
    "good": ("finished", "production", "promote", "promoted", "live"),
    "bad": ("failed", "lost", "killed", "cancelled", "rejected", "rolled back", "stopped", "error", "critical"),
    "wait": (
        "running",
        "claimed",
        "waiting",
        "preempted",
        "shadow",
        "canary",
        "warning",
        "refused",
        "held",
        "training",
        "on its way",
    ),
}


def refused(error: NoriaError) -> Response:
    """What a page answers to who may not, or with what it cannot show."""
    return Response(f"{error}\n", error.status, HEADERS, media_type="text/plain")


def tone(word: str) -> str:
    """The class of a status word."""
    return next((tone for tone, words in _TONES.items() if word in words), "plain")
