"""Who uses a store: the clones of projects that share one folder of objects, for its collection.

A store of the project's own has one user. A folder that `[store] objects` names may have many, each
with a ledger, pins, branches and tags of its own; each writes a note beside the objects before it
stores the first, and a collection reads them all.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path

from noria.core.errors import ConfigError
from noria.store.disk import disk_faults
from noria.store.workspace import Workspace

__all__ = ["Clone", "clones", "register", "shared_store"]

FOLDER = "clones"


@dataclass(frozen=True, slots=True)
class Clone:
    """The folder of a clone, where its ledger is, and the note that says so; None for the project itself."""

    root: Path
    ledger: str
    note: Path | None = None


def shared_store(ws: Workspace) -> Path | None:
    """The folder of a store that other clones may use too; None for the project's own, or one that is no folder."""
    url = ws.project.store.objects
    scheme, separator, rest = url.partition("://")
    if not url or (separator and scheme != "file"):
        return None
    return Path(rest) if separator else ws.project.root / url


def register(ws: Workspace) -> None:
    """Tell a store that others may share that this clone uses it. Raises: StoreFull; StoreUnavailable."""
    folder = shared_store(ws)
    if folder is None:
        return
    root = ws.project.root.resolve()
    note = folder / FOLDER / f"{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"
    text = json.dumps({"root": str(root), "ledger": ws.ledger.database.where})
    with disk_faults(note):
        if note.is_file() and note.read_text(encoding="utf-8") == text:
            return
        note.parent.mkdir(parents=True, exist_ok=True)
        part = note.with_suffix(f".{uuid.uuid4().hex}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(note)


def clones(ws: Workspace) -> list[Clone]:
    """This project first, then every other clone that uses its store. Raises: ConfigError for a broken note."""
    found = [Clone(ws.project.root.resolve(), ws.ledger.database.where)]
    folder = shared_store(ws)
    for note in sorted((folder / FOLDER).glob("*.json")) if folder is not None else []:
        try:
            document = json.loads(note.read_text(encoding="utf-8"))
            clone = Clone(Path(document["root"]), str(document["ledger"]), note)
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "mend it, or remove it if that clone is gone for good"
            raise ConfigError("the note of a clone cannot be read", where=str(note), hint=hint) from error
        if clone.root != found[0].root:
            found.append(clone)
    return found
