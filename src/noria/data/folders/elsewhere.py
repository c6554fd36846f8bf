"""Data sets that lie in no folder of the project: what can be said of their source without asking it.

Of a database in a file, the file's size and time say whether it was written since the version was
added. Of a server or an object store nothing is known until it is asked, which `status` never does;
so it says that, and how. No ledger and no database of records is needed.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from noria.config import Project
from noria.data.pins import Pin
from noria.store.disk import disk_faults

__all__ = ["about", "address_of", "note_path", "remember", "user_of"]

_SQLITE = "sqlite:///"


def note_path(state: Path, name: str) -> Path:
    """Where the stamps of a data set's source are kept."""
    return state / "cache" / "seen" / f"{name}.json"


def remember(project: Project, name: str, address: str, content: str) -> None:
    """Keep the stamps of the file that a version was read from, and who asked; never a password."""
    note = note_path(project.state, name)
    place = _file_of(project, address)
    user = address.partition("://")[2].partition("/")[0].rpartition("@")[0].partition(":")[0]
    document: dict[str, object] = {"content": content, "user": user, "file": "", "stamps": []}
    if place is not None:
        document |= {"file": str(place), "stamps": _stamps(place)}
    with disk_faults(note):
        note.parent.mkdir(parents=True, exist_ok=True)
        part = note.with_suffix(f".{uuid.uuid4().hex}.part")
        part.write_text(json.dumps(document), encoding="utf-8")
        part.replace(note)


def address_of(project: Project, pin: Pin) -> str:
    """The address that a pinned version came from, as noria.toml or the pin has it; "" if it came from no address."""
    config = project.data.get(pin.name)
    if config is not None and "://" in config.source:
        return config.source
    return pin.source if "://" in pin.source and pin.is_placed else ""


def user_of(project: Project, name: str) -> str:
    """Who asked the source of a data set when it was last added here; "" for nobody in particular."""
    return str(_noted(note_path(project.state, name)).get("user", ""))


def about(project: Project, pin: Pin) -> str:
    """One sentence: whether the source has changed since, as far as that is known here, else how to ask."""
    address = address_of(project, pin)
    if address:
        return _of_address(project, pin, address)
    if pin.operation == "frame":
        return f"a frame that Python added ({pin.source}): it lies in no folder; nr.add_data adds it again"
    if pin.operation:
        source = f" from {pin.source}" if pin.source else ""
        return f"its rows are kept here, the last change was {pin.operation}{source}: it lies in no folder"
    return "not a folder of this project"


def _of_address(project: Project, pin: Pin, address: str) -> str:
    ask = f"noria data ask {pin.name}"
    if not address.startswith(_SQLITE):
        return f"whether it has changed is known only to {address.partition('://')[0]}: {ask}"
    known = _noted(note_path(project.state, pin.name))
    if known.get("content") != pin.content:
        return f"when this version was read from it is not known here: {ask}"
    place = Path(str(known.get("file", "")))
    if not place.is_file():
        return "the database file is gone"
    if _stamps(place) == known.get("stamps"):
        return "not written since this version was added"
    return f"the database was written since this version was added; whether these rows changed: {ask}"


def _noted(note: Path) -> dict[str, object]:
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _file_of(project: Project, address: str) -> Path | None:
    if not address.startswith(_SQLITE):
        return None
    path = Path(address.removeprefix(_SQLITE).partition("?")[0]).expanduser()
    path = path if path.is_absolute() or path.exists() else project.root / path
    return path.resolve() if path.is_file() else None


def _stamps(place: Path) -> list[list[int]]:
    """Size and time of the database and of its log of newer pages."""
    found = []
    for path in (place, place.with_name(place.name + "-wal")):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        if stat.st_size:  # a reader makes an empty log
            found.append([stat.st_size, stat.st_mtime_ns])
    return found
