"""A remote workspace: one generic call for every verb, over the standard library's HTTP.

There is no mirrored interface: the server's list of verbs is the interface. An error that the
server names comes back as the error of the same code, so exit codes are the same near and far.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from noria.core.errors import Denied, NoriaError, StoreUnavailable, UsageError
from noria.core.frozen import frozen

__all__ = ["NoRedirect", "Remote", "require_token"]

_LOCAL_ONLY_REDIRECTS = "a server never redirects an API call"


@frozen
class Remote:
    """A Noria server. `url` is its base, such as `https://noria.example.org`.

    `timeout_s` bounds one call: a verb may train a model, so it is long.
    """

    url: str
    token: str = ""
    actor: str = ""
    timeout_s: float = 3600.0

    def call(self, capability: str, verb: str, arguments: Mapping[str, Any]) -> Any:
        """The result of a verb as plain values.

        Raises: the server's error; StoreUnavailable when it is out of reach; UsageError for a bad address.
        """
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UsageError(f"{self.url!r} is not an http(s) address", hint="NORIA_SERVER=http://host:4400")
        path = f"/api/v1/{urllib.parse.quote(capability)}/{urllib.parse.quote(verb)}"
        headers = {"content-type": "application/json", "accept": "application/json"}
        if self.actor:
            headers["x-noria-actor"] = self.actor
        if self.token:
            require_token(self.token)
            headers["authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(
            self.url.rstrip("/") + path, data=json.dumps(arguments).encode(), headers=headers, method="POST"
        )
        return self._result(request)

    def _result(self, request: urllib.request.Request) -> Any:
        opener = urllib.request.build_opener(NoRedirect)
        try:
            with opener.open(request, timeout=self.timeout_s) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            raise _told(error.code, error.read(), self.url) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise StoreUnavailable(
                f"the server does not answer: {reason}", where=self.url, hint="noria up starts one"
            ) from error
        document = json.loads(body)
        return document["result"]


def require_token(token: str) -> None:
    """Raises: UsageError, which does not repeat it, for what cannot be a token."""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(
            "the token has a blank, a line end or another character that no token has",
            where="NORIA_TOKEN",
            hint="copy it again, as one word; a file with Windows line ends leaves a carriage return",
        )


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: a token must not travel to another host."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        raise UsageError(_LOCAL_ONLY_REDIRECTS, hint="give the server's own address")


def _told(status: int, body: bytes, url: str) -> NoriaError:
    """The error that the server named, as the class of its code."""
    try:
        told = json.loads(body)["error"]
        code, message = str(told["code"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        return StoreUnavailable(f"the server answered {status} without saying why", where=url)
    if status == 401:
        return Denied(message, where=url, hint=f"noria login {url}, or set NORIA_TOKEN")
    kinds = {kind.code: kind for kind in _tree(NoriaError)}
    kind = kinds.get(code, UsageError if 400 <= status < 500 else NoriaError)
    return kind(message, where=str(told.get("where") or ""), hint=str(told.get("hint") or ""))


def _tree(kind: type[NoriaError]) -> Iterator[type[NoriaError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _tree(child)
