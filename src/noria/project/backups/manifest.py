"""What a backup says of itself: written last and signed, so that a folder without it is no backup.

A folder of backups holds `objects/`, which all of them share, and one folder for each, named by its moment. In
that are the ledger (`ledger.db`), what else the project's state held (`state/`), its settings (`project/`), keys
unless they were left out (`keys/`), the names of its objects (`objects.txt`), and this.

The signature is by the key that signs checkpoints. It shows damage, and an edit by somebody without the key; whether
the backup is of the history that is known shows only a checkpoint that was kept elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from noria.core.errors import Corrupt, NotFound, Tampered
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.store.checkpoint import Signer, parse_verifier
from noria.store.disk import disk_faults, hash_file, sync_folder
from noria.store.envelope import opened, seal

__all__ = ["MANIFEST", "OBJECTS", "Manifest", "find", "read", "require_files", "write"]

MANIFEST = "manifest.json"
OBJECTS = "objects.txt"
KIND = "application/vnd.noria.backup+json"
VERSION = 1
_SHOWN = 3


@frozen(kw_only=True)
class Manifest:
    """One backup. `at` is when its ledger was copied, `size` how many facts that holds, `checkpoint` their signed note.

    `files` are all files but itself, by their paths in the backup: digest and size in bytes. `signer` is the
    verifier key of who made it; `objects` how many objects belong to it, `objects_bytes` their sizes together.
    """

    project: str
    at: str
    origin: str
    size: int
    checkpoint: str
    signer: str
    objects: int
    objects_bytes: int
    has_keys: bool
    files: Mapping[str, tuple[str, int]]


def write(folder: Path, manifest: Manifest, signer: Signer) -> None:
    """Make a folder a backup, atomically and durably. Raises: StoreFull; StoreUnavailable."""
    said = {field.name: getattr(manifest, field.name) for field in dataclasses.fields(manifest)}
    said["files"] = {path: list(each) for path, each in manifest.files.items()}
    envelope = seal(signer, KIND, cast("JSON", {**said, "version": VERSION}))
    part = folder / f".{uuid.uuid4().hex}.part"
    with disk_faults(folder):
        try:
            with part.open("wb") as sink:
                sink.write(json.dumps(envelope, indent=1).encode() + b"\n")
                sink.flush()
                os.fsync(sink.fileno())
            part.replace(folder / MANIFEST)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(folder)
        sync_folder(folder.parent)


def read(folder: Path) -> Manifest:
    """What a backup says of itself. Raises: NotFound if it is none; Tampered if that is not what was signed."""
    path = folder / MANIFEST
    if not path.is_file():
        raise NotFound(f"{folder} holds no backup", hint="a backup that was broken off has no manifest.json")
    with disk_faults(path):
        content = path.read_bytes()
    try:
        envelope = json.loads(content)
        verifier = parse_verifier(str(envelope["signatures"][0]["keyid"]))
        said: dict[str, Any] = opened(envelope, verifier, KIND)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Tampered("the manifest of the backup cannot be read", where=str(path), hint=_ELSE) from error
    except Tampered as error:
        raise Tampered(f"the manifest was altered: {error.message}", where=str(path), hint=_ELSE) from error
    if said.pop("version") != VERSION or said["signer"] != str(verifier):
        raise Tampered("the manifest is of another Noria, or of another signer", where=str(path), hint=_ELSE)
    files = {str(name): (str(digest), int(size)) for name, (digest, size) in said.pop("files").items()}
    return Manifest(**said, files=files)


def find(place: Path) -> Path:
    """The backup that a folder is, or the newest in it. Raises: NotFound."""
    if (place / MANIFEST).is_file():
        return place.resolve()
    found = sorted(path.parent for path in place.glob(f"*/{MANIFEST}"))
    if not found:
        raise NotFound(f"there is no backup in {place}", hint="noria admin backup FOLDER makes one")
    return found[-1].resolve()


def require_files(folder: Path, manifest: Manifest) -> None:
    """Every file of a backup is there and what it was. Raises: Corrupt naming those that are not."""
    bad = []
    for name, (digest, size) in manifest.files.items():
        path = folder / name
        with disk_faults(path):
            if not path.is_file():
                bad.append(f"{name} is gone")
            elif path.stat().st_size != size or hash_file(path) != digest:
                bad.append(f"{name} was altered")
    if bad:
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        told = "; ".join(bad[:_SHOWN])
        raise Corrupt(f"the backup is not what it was: {told}{more}", where=str(folder), hint=_ELSE)


_ELSE = "nothing was restored; name another backup: noria admin restore FOLDER/MOMENT"
