"""Key documents: what each step's key was computed from, several in one object.

A run writes the documents of the steps that it made with the facts that name them, one object for
each transaction, so that a hundred small steps do not cost a hundred files. Beside each document
are the texts of the code that it names, once each, so that `noria why` can show lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.identity import JSON, digest
from noria.store.objects import Objects

__all__ = ["KeyDocument", "read", "write"]

FORMAT = "keys/1"
TEXT_LIMIT = 20_000
TEXTS_LIMIT = 400_000


@frozen
class KeyDocument:
    """What one step's key was computed from, and the texts behind the names in it."""

    key: str
    document: Mapping[str, JSON]
    shown: Mapping[str, str]


def write(objects: Objects, made: Mapping[str, KeyDocument]) -> str:
    """Store the documents of steps, by their names, soon; gives the digest of the one object."""
    texts: dict[str, JSON] = {}
    steps: dict[str, JSON] = {}
    total = 0
    for step, each in made.items():
        places: dict[str, JSON] = {}
        for label, text in sorted(each.shown.items()):
            content = text[:TEXT_LIMIT].encode("utf-8", "replace")
            name = digest(content)[7:23]
            if name not in texts and total + len(content) <= TEXTS_LIMIT:
                texts[name] = content.decode()
                total += len(content)
            if name in texts:
                places[label] = name
        steps[step] = {"key": each.key, "document": dict(each.document), "shown": places}
    whole = {"format": FORMAT, "steps": steps, "texts": texts}
    return objects.put_soon(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode())


def read(objects: Objects, name: str, step: str, key: str = "") -> KeyDocument:
    """The document of a step in an object; by its key if the step was called otherwise then.

    Raises: NotFound; Corrupt.
    """
    found: dict[str, Any] = objects.get_json(name)
    if found.get("format") != FORMAT:  # of a time when each document had an object of its own
        return KeyDocument(key, found, {})
    steps: dict[str, Any] = found["steps"]
    entry = steps.get(step)
    if entry is None or (key and entry["key"] != key):
        entry = next((each for each in steps.values() if each["key"] == key), entry)
    if entry is None:
        raise NotFound(f"object {name} has no key document of step {step}")
    shown = {label: found["texts"][text] for label, text in entry["shown"].items()}
    return KeyDocument(entry["key"], entry["document"], shown)
