"""Who uses a store: the clones of projects that share one folder or bucket of objects, for its collection.

A store of the project's own has one user. One that `[store] objects` names may have many, each
with a ledger, pins, branches and tags of its own; each writes a note beside the objects before it
stores the first, and a collection reads them all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

from noria.core.errors import ConfigError, Conflict, StoreUnavailable
from noria.core.frozen import frozen
from noria.store.bucket import Bucket, InBucket
from noria.store.disk import disk_faults
from noria.store.workspace import Workspace

__all__ = ["Clone", "clones", "register", "shared_store"]

FOLDER = "clones"


@frozen
class Clone:
    """The folder of a clone, where its ledger is, and where the note is that says so; "" for the project itself."""

    root: Path
    ledger: str
    note: str = ""


def shared_store(ws: Workspace) -> Path | None:
    """The folder of a store that other clones may use too; None for the project's own, or one that is no folder."""
    url = ws.project.store.objects
    scheme, separator, rest = url.partition("://")
    if not url or (separator and scheme != "file"):
        return None
    return Path(rest) if separator else ws.project.root / url


def register(ws: Workspace) -> None:
    """Tell a store that others may share that this clone uses it. Raises: StoreFull; StoreUnavailable; Denied."""
    root, ledger = str(ws.project.root.resolve()), ws.ledger.database.where
    store = ws.objects.store
    if isinstance(store, InBucket):
        _write(store.bucket, root, ledger)
        return
    folder = shared_store(ws)
    if folder is None:
        return
    note = folder / FOLDER / _name(root)
    text = json.dumps({"root": root, "ledger": ledger})
    with disk_faults(note):
        if note.is_file() and note.read_text(encoding="utf-8") == text:
            return
        note.parent.mkdir(parents=True, exist_ok=True)
        part = note.with_suffix(f".{uuid.uuid4().hex}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(note)


def clones(ws: Workspace) -> list[Clone]:
    """This project first, then every other clone that uses its store and may name what this one does not.

    Raises: ConfigError for a broken note; StoreUnavailable for a clone on another machine with a ledger of its own.
    """
    found = [Clone(ws.project.root.resolve(), ws.ledger.database.where)]
    for where, content in _notes(ws):
        try:
            document = json.loads(content)
            clone = Clone(Path(document["root"]), str(document["ledger"]), where)
            machine = str(document.get("machine", ""))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "mend it, or remove it if that clone is gone for good"
            raise ConfigError("the note of a clone cannot be read", where=where, hint=hint) from error
        if machine and "://" in clone.ledger and clone.ledger == found[0].ledger:
            continue  # what it pins are versions of the ledger that is read here
        if machine not in ("", socket.gethostname()):
            raise StoreUnavailable(
                f"the clone {clone.root} on {machine} keeps a ledger of its own, which cannot be read from here",
                where=where,
                hint="collect there, share one ledger, or remove that note if the clone is gone for good",
            )
        if clone.root != found[0].root:
            found.append(clone)
    return found


def _notes(ws: Workspace) -> Iterator[tuple[str, str]]:
    """Where each note is, and what it says."""
    store, folder = ws.objects.store, shared_store(ws)
    if isinstance(store, InBucket):
        for item in store.bucket.list(f"{FOLDER}/"):
            with store.bucket.open(item.key) as stream:
                yield f"{store.bucket.url}/{item.key}", stream.read().decode("utf-8", "replace")
    elif folder is not None:
        for note in sorted((folder / FOLDER).glob("*.json")):
            with disk_faults(note):
                yield str(note), note.read_text(encoding="utf-8", errors="replace")


def _write(bucket: Bucket, root: str, ledger: str) -> None:
    """The note in a bucket: one for each ledger, because clones that share one name the same versions."""
    machine = socket.gethostname()
    key = f"{FOLDER}/{_name(ledger if '://' in ledger else f'{machine} {root}')}"
    text = json.dumps({"root": root, "ledger": ledger, "machine": machine})
    with contextlib.suppress(Conflict):  # it is there
        bucket.create(key, text.encode())


def _name(text: str) -> str:
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
