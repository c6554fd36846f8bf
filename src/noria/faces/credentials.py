"""What a login on this machine left: one token for each server, in a file that only its owner may read.

The file is `noria/credentials.json` below XDG_CONFIG_HOME (`~/.config`). It is written whole beside its place and
moved there, with mode 0600 from the first byte; one that others may read is not believed.
"""

from __future__ import annotations

import http.client
import json
import os
import stat
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.core.errors import ConfigError, Denied, StoreUnavailable, UsageError
from noria.faces.client import NoRedirect, require_token
from noria.identities import is_loopback_host

__all__ = ["ask", "drop", "keep", "place", "require_address", "require_login", "stored"]

TIMEOUT_S = 30.0
ANSWER_MAX = 1 << 20


def place(environment: Mapping[str, str] | None = None) -> Path:
    """Where the file is."""
    found = (os.environ if environment is None else environment).get("XDG_CONFIG_HOME", "")
    folder = Path(found) if found.startswith("/") else Path.home() / ".config"
    return folder / "noria" / "credentials.json"


def stored(server: str) -> str:
    """The token that a login left for a server; empty if none did. Raises: ConfigError."""
    return str(_read().get(_key(server), {}).get("token", ""))


def keep(server: str, told: Mapping[str, str]) -> None:
    """Keep the token of a login, as `token` in a mapping, in place of the one before. Raises: ConfigError."""
    _write({**_read(), _key(server): dict(told)})


def drop(server: str) -> bool:
    """Forget the token of a server; False if there was none. Raises: ConfigError."""
    found = dict(_read())
    if found.pop(_key(server), None) is None:
        return False
    _write(found)
    return True


def require_address(server: str) -> str:
    """The address of a server, if a token may travel there. Raises: UsageError."""
    if not server:
        hint = "such as noria login https://noria.example.org; or set NORIA_SERVER once for all commands"
        raise UsageError("no server is named: give its address", hint=hint)
    parts = urllib.parse.urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise UsageError(f"{server[:120]!r} is not an http(s) address", hint="noria login https://noria.example.org")
    if parts.scheme == "http" and not is_loopback_host(parts.hostname):
        raise UsageError("a token does not travel in the clear", hint="give the server's https:// address")
    return server.rstrip("/")


def ask(server: str, path: str, fields: Mapping[str, str], token: str = "") -> Mapping[str, Any]:
    """What a door of a server answers to a form, as JSON.

    Raises: Denied with what it says; StoreUnavailable if it does not answer, or cannot.
    """
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    if token:
        require_token(token)
        headers["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(
        server + path, data=urllib.parse.urlencode(fields).encode(), headers=headers, method="POST"
    )
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=TIMEOUT_S) as answer:
            document = json.loads(answer.read(ANSWER_MAX))
    except urllib.error.HTTPError as error:
        raise _told(error, server) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise StoreUnavailable(f"the server does not answer: {reason}", where=server) from error
    if not isinstance(document, dict):
        raise StoreUnavailable("the server does not answer as Noria does", where=server)
    return document


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like others."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


def require_login(server: str) -> None:
    """A browser can log in there. Raises: Denied if nobody can; StoreUnavailable if the server does not answer."""
    request = urllib.request.Request(server + "/login", headers={"accept": "text/html"})
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        if not 300 <= error.code < 400:  # to the provider: that is the way
            raise _told(error, server) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise StoreUnavailable(f"the server does not answer: {reason}", where=server) from error


def _told(error: urllib.error.HTTPError, server: str) -> Denied | StoreUnavailable:
    try:
        found = json.loads(error.read(ANSWER_MAX))
    except ValueError:
        found = None
    said = found.get("error_description") if isinstance(found, dict) else None
    message = said if isinstance(said, str) else f"the server answered {error.code}"
    if error.code in (404, 405):
        message = "nobody logs in to this server: its noria.toml names no provider"
    if error.code >= 500:
        return StoreUnavailable(message, where=server, hint="try again in a minute")
    return Denied(message, where=server)


def _key(server: str) -> str:
    return server.rstrip("/").lower()


def _read() -> Mapping[str, Any]:
    path = place()
    try:
        with path.open(encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ConfigError(
                    "others may read the tokens of your logins", where=str(path), hint=f"chmod 600 {path}"
                )
            found = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        hint = "take the file away and noria login again"
        raise ConfigError(f"the logins cannot be read: {error}", where=str(path), hint=hint) from error
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise ConfigError("the file holds no logins", where=str(path), hint="take it away and noria login again")
    return found


def _write(logins: Mapping[str, Any]) -> None:
    path = place()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".credentials-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(logins, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"the login cannot be kept: {error}", where=str(path)) from error
