"""Signed checkpoints: which tree was seen, by whom, in the form that other tools read.

A checkpoint is origin, size and root of the Merkle tree, signed as a note with Ed25519. The key
is a file of its own (mode 0600), never in the database: whoever can write the database but lacks
the key cannot make a tree that verifies. Whoever has both can forge what comes after the last
checkpoint that somebody else has kept; so every client keeps the last one that it saw.

Source: C2SP tlog-checkpoint and signed-note (c2sp.org), RFC 8032 (Ed25519).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from noria.core.errors import StoreUnavailable, Tampered
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.store.failpoint import failpoint
from noria.store.objects import disk_faults, sync_folder

__all__ = [
    "Checkpoint",
    "Signer",
    "Verifier",
    "checkpoint_body",
    "is_name",
    "is_signed_by",
    "key_in",
    "open_signer",
    "parse_checkpoint",
    "parse_verifier",
]

logging = lazy("logging")
ed25519 = lazy("cryptography.hazmat.primitives.asymmetric.ed25519")
exceptions = lazy("cryptography.exceptions")

_ED25519 = b"\x01"
_NAME = re.compile(r"[^\s+]+")


@frozen
class Checkpoint:
    """A tree as a note states it; `signatures` maps (name, key id) to raw signatures over `body`."""

    origin: str
    size: int
    root: bytes
    body: bytes
    signatures: Mapping[tuple[str, bytes], bytes]


def is_name(text: str) -> bool:
    """Can this be the name of a log or a key? It has no spaces and no plus."""
    return _NAME.fullmatch(text) is not None


class Verifier:
    """A public key by which checkpoints are checked."""

    def __init__(self, name: str, public: bytes) -> None:
        assert is_name(name), "a key name has no spaces and no plus"
        self.name = name
        self.key_id = hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]
        self.public = public
        self._key: Any = None

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    def is_signed(self, checkpoint: Checkpoint) -> bool:
        """Whether this key signed the checkpoint."""
        signature = checkpoint.signatures.get((self.name, self.key_id))
        return signature is not None and self.has_signed(signature, checkpoint.body)

    def has_signed(self, signature: bytes, text: bytes) -> bool:
        """Whether a raw signature is this key's, over this text."""
        if self._key is None:
            self._key = ed25519.Ed25519PublicKey.from_public_bytes(self.public)
        try:
            self._key.verify(signature, text)
        except exceptions.InvalidSignature:
            return False
        return True


class Signer:
    """A private key that signs checkpoints of one origin. Thread safe."""

    def __init__(self, origin: str, seed: bytes) -> None:
        self.origin = origin
        self._key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = Verifier(origin, self._key.public_key().public_bytes_raw())
        self._prefix = f"\n— {origin} "

    def sign(self, size: int, root: bytes) -> str:
        """The signed note of a tree. Deterministic: equal trees give equal notes."""
        body = checkpoint_body(self.origin, size, root)
        signature = self._key.sign(body.encode())
        return f"{body}{self._prefix}{base64.b64encode(self.verifier.key_id + signature).decode()}\n"

    def sign_text(self, text: bytes) -> bytes:
        """The raw signature of a document, which says itself what it is; never of what could be a checkpoint."""
        assert text.startswith(b"DSSEv1 "), "a text that cannot be the body of a note: an origin has no space"
        signature: bytes = self._key.sign(text)
        return signature


def checkpoint_body(origin: str, size: int, root: bytes) -> str:
    """The text that a signature covers."""
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def parse_checkpoint(note: str) -> Checkpoint:
    """Read a note without checking its signatures. Raises: Tampered if it is not a checkpoint."""
    body, separator, tail = note.partition("\n\n")
    lines = body.split("\n")
    try:
        if not separator or len(lines) < 3 or not lines[0]:
            raise ValueError("a checkpoint has origin, size, root and a signature")
        if not lines[1].isascii() or not lines[1].isdigit() or (lines[1] != "0" and lines[1].startswith("0")):
            raise ValueError("the size is not a decimal number")
        root = base64.b64decode(lines[2], validate=True)
        if len(root) != 32:
            raise ValueError("the root is not a sha-256")
        *signed_lines, end = tail.split("\n")  # the format knows one end of a line, str.splitlines eleven
        if not signed_lines or end:
            raise ValueError("the note is not signed" if not tail else "the last line has no end")
        signatures = dict(_signature(line) for line in signed_lines)
        signed = (body + "\n").encode()
    except (ValueError, binascii.Error) as error:
        raise Tampered(f"this is not a signed checkpoint: {error}") from error
    return Checkpoint(lines[0], int(lines[1]), root, signed, signatures)


def parse_verifier(text: str) -> Verifier:
    """Read a verifier key (`name+id+key`). Raises: Tampered if it is not one."""
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        material = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise Tampered(f"{text[:60]!r} is not a verifier key") from error
    if not is_name(name) or len(material) != 33 or material[:1] != _ED25519:
        raise Tampered(f"{text[:60]!r} is not an Ed25519 verifier key")
    found = Verifier(name, material[1:])
    if found.key_id.hex() != key_id:
        raise Tampered(f"the verifier key {name} does not have the id {key_id[:16]!r}")
    return found


def is_signed_by(checkpoint: Checkpoint, verifiers: Iterable[Verifier]) -> bool:
    """Whether one of the keys signed it."""
    return any(verifier.is_signed(checkpoint) for verifier in verifiers)


def open_signer(path: Path, origin: str, *, has_facts: Callable[[], bool] = lambda: False) -> Signer:
    """The signer whose key is in the file; the first call makes the key. Safe between processes.

    `has_facts`: whether the log that it signs has facts already, which another key has signed then. It is said.
    Raises: StoreUnavailable if others may read the file, or if it does not hold a key.
    """
    if not path.exists() and has_facts():
        logging.getLogger("noria.store").warning(
            "there is no signing key at %s any more: a new one is made, and noria audit verify will not know what the "
            "old one signed. Restore it from a backup",
            path,
        )
    return Signer(origin, key_in(path))


def key_in(path: Path, what: str = "signing key") -> bytes:
    """The 32 bytes of a key that only its owner may read; the first call makes it. Safe between processes.

    Raises: StoreUnavailable if others may read the file, or if it does not hold a key.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        _make_key(path)
        status = path.stat()
    if status.st_mode & 0o077:
        raise StoreUnavailable(
            f"others may read the {what} (mode {status.st_mode & 0o777:04o})",
            where=str(path),
            hint=f"chmod 600 {path}, and rotate the key if somebody may have read it",
        )
    with disk_faults(path):
        text = path.read_text(encoding="ascii", errors="replace").strip()
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise StoreUnavailable(f"the file does not hold a {what}", where=str(path), hint="restore it from a backup")
    return key


def _make_key(path: Path) -> None:
    """Write a new key whole, or leave the one that another process wrote first."""
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                os.write(handle, base64.b64encode(os.urandom(32)) + b"\n")
                os.fsync(handle)
            finally:
                os.close(handle)
            failpoint("start.key")
            try:
                os.link(temporary, path)
            except FileExistsError:
                return
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _signature(line: str) -> tuple[tuple[str, bytes], bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    material = base64.b64decode(encoded, validate=True)
    if dash != "—" or not is_name(name) or len(material) < 5 or base64.b64encode(material).decode() != encoded:
        raise ValueError("a signature line is not well formed")
    return (name, material[:4]), material[4:]
