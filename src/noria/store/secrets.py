"""Secrets that a server must be able to read again: sealed in the database, by a key that is not in it.

A token is kept as its hash, because it is only ever compared. What Noria itself signs with, such as the secret
of a webhook, has to come back, so it is encrypted (AES-256-GCM, bound to its name). The key is in a file beside
the signing key, or in NORIA_SECRETS_KEY (32 bytes in base64) where servers on several machines share one
database. No fact, log or answer holds a secret; facts name the row. Rows change in place and are not replayed.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from noria.core.errors import StoreUnavailable
from noria.core.lazy import lazy
from noria.store import tables
from noria.store.checkpoint import key_in
from noria.store.database import Database
from noria.store.sql.words import delete, insert, select

if TYPE_CHECKING:
    from cryptography import exceptions
    from cryptography.hazmat.primitives.ciphers import aead
else:
    aead = lazy("cryptography.hazmat.primitives.ciphers.aead")
    exceptions = lazy("cryptography.exceptions")

__all__ = ["VARIABLE", "Secrets"]

VARIABLE = "NORIA_SECRETS_KEY"
NONCE_BYTES = 12


class Secrets:
    """The sealed secrets of one workspace. Thread safe; the key is read, or made, at the first use."""

    def __init__(self, database: Database, state: Path, environment: Mapping[str, str] | None = None) -> None:
        """Args: state: the folder of the key's file, which only its owner may read."""
        self._database = database
        self._path = state / "secrets.key"
        self._environment = os.environ if environment is None else environment

    def put(self, name: str, text: str) -> None:
        """Keep a secret under a new name. Raises: StoreUnavailable."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + self._cipher().encrypt(nonce, text.encode(), name.encode())
        with self._database.write() as connection:
            connection.execute(
                insert(tables.secret), {"name": name, "sealed": base64.b64encode(sealed).decode("ascii")}
            )

    def get(self, name: str) -> str:
        """The secret of that name. Raises: StoreUnavailable if it is gone, altered, or sealed by another key."""
        with self._database.read() as connection:
            found = connection.execute(select(tables.secret.c.sealed).where(tables.secret.c.name == name)).scalar()
        if found is None:
            raise StoreUnavailable("a secret is gone from the database", where=name, hint="set it again")
        try:
            sealed = base64.b64decode(str(found), validate=True)
            return self._cipher().decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], name.encode()).decode()
        except (exceptions.InvalidTag, binascii.Error, ValueError) as error:
            raise StoreUnavailable(
                "a secret was altered, or sealed by another key than the one that is here",
                where=name,
                hint=f"servers that share a database share {VARIABLE}; else set the secret again",
            ) from error

    def drop(self, name: str) -> None:
        """Forget a secret; one that is not there is forgotten already."""
        with self._database.write() as connection:
            connection.execute(delete(tables.secret).where(tables.secret.c.name == name))

    def _cipher(self) -> aead.AESGCM:
        given = self._environment.get(VARIABLE, "")
        if not given:
            return aead.AESGCM(key_in(self._path, "key of secrets"))
        try:
            key = base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != 32:
            raise StoreUnavailable(f"{VARIABLE} does not hold 32 bytes in base64", hint="openssl rand -base64 32")
        return aead.AESGCM(key)
