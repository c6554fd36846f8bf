"""The same requests to two servers: what differs between their answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Protocol

from mlflow_servers import Server, noria_server
from postgres_server import thrown_away

__all__ = ["Request", "compared", "difference", "same_on_postgres"]

Request = tuple[str, str, str, Any]
"""What a request is called, its method, endpoint and body."""


class Player(Protocol):
    """Sends requests to one server, and gives the status and the answer with names for what a server makes up."""

    def play(self, name: str, method: str, endpoint: str, given: Any) -> tuple[int, Any]:
        """The status and the answer of one request."""
        ...


class PlayerOf(Protocol):
    """Makes the player of a server."""

    def __call__(self, server: Server) -> Player:
        """A new one."""
        ...


def compared(
    theirs: Player, ours: Player, requests: Iterable[Request], *, stricter: Collection[str], leaks: Collection[str]
) -> list[str]:
    """What differs from the answers of MLflow's own server, a line or more for each request.

    Args:
        stricter: requests that it takes and Noria refuses.
        leaks: those of which only the status is compared.
    """
    wrong: list[str] = []
    for name, method, endpoint, given in requests:
        their_status, expected = theirs.play(name, method, endpoint, given)
        status, answer = ours.play(name, method, endpoint, given)
        assert status < 500, (name, answer)
        if their_status >= 500:  # a mistake of the caller's is none of the server's here
            if not 400 <= status < 500:
                wrong.append(f"{name}: {their_status} there, {status} here: {answer}")
        elif name in stricter:
            if (their_status, status) != (200, 400):
                wrong.append(f"{name}: {their_status} there, {status} here: {answer}")
        elif status != their_status:
            wrong.append(f"{name}: {their_status} there, {status} here\n  {expected}\n  {answer}")
        elif name not in leaks and expected and answer != expected:
            wrong.append(f"{name}: {method} {endpoint} {str(given)[:200]}\n  {difference(expected, answer)}")
    return wrong


def same_on_postgres(made: PlayerOf, requests: Iterable[Request], name: str, folders: tuple[Path, Path]) -> None:
    """Noria answers alike on SQLite and on Postgres."""
    with (
        thrown_away(name) as database,
        noria_server(folders[0]) as sqlite,
        noria_server(folders[1], {"NORIA_DATABASE": database.database(name)}) as postgres,
    ):
        one, other = made(sqlite), made(postgres)
        for request in requests:
            expected, found = one.play(*request), other.play(*request)
            assert found == expected, f"{request[0]}: {difference(expected[1], found[1])}"


def difference(there: Any, here: Any, where: str = "") -> str:
    """The first place where two answers differ."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**there, **here}:
            if there.get(key) != here.get(key):
                return difference(there.get(key), here.get(key), f"{where}.{key}")
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for place, (one, other) in enumerate(zip(there, here, strict=True)):
            if one != other:
                return difference(one, other, f"{where}[{place}]")
    return f"{where}: there {str(there)[:400]}, here {str(here)[:400]}"
