"""Key documents: what each step's key was computed from, several in one object.

A run writes the documents of the steps that it made with the facts that name them, one object for
each transaction, so that a hundred small steps do not cost a hundred files. Beside each document
are the texts of the code and the values that it names, once each, so that `noria why` can show lines; without
what looks like a secret in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.identity import JSON, digest
from noria.pipeline.code.confidential import without_secrets
from noria.store.objects import Objects

__all__ = ["KeyDocument", "is_code", "read", "write"]

FORMAT = "keys/1"
TEXT_LIMIT = 20_000
TEXTS_LIMIT = 400_000
_CODE = ("step ", "helper ", "class ", "module ", "import of ", "code in ")


@frozen
class KeyDocument:
    """What one step's key was computed from, and the texts behind the names in it."""

    key: str
    document: Mapping[str, JSON]
    shown: Mapping[str, str]


def write(objects: Objects, made: Mapping[str, KeyDocument]) -> str:
    """Store the documents of steps, by their names, soon; gives the digest of the one object."""
    texts: dict[str, JSON] = {}
    places: dict[str, dict[str, JSON]] = {step: {} for step in made}
    total = 0
    every = [
        (not is_code(label), label, step, text) for step, each in made.items() for label, text in each.shown.items()
    ]
    for is_value, label, step, text in sorted(every):  # where there is no room for all, code goes first
        name = digest(text.encode("utf-8", "replace"))[7:23]
        if name not in texts and total < TEXTS_LIMIT:
            content = without_secrets(text[:TEXT_LIMIT], is_code=not is_value).encode("utf-8", "replace")
            if total + len(content) > TEXTS_LIMIT:
                continue
            texts[name] = content.decode()
            total += len(content)
        if name in texts:
            places[step][label] = name
    steps: dict[str, JSON] = {
        step: {"key": each.key, "document": dict(each.document), "shown": places[step]} for step, each in made.items()
    }
    whole = {"format": FORMAT, "steps": steps, "texts": texts}
    return objects.put_soon(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode())


def is_code(label: str) -> bool:
    """Whether a name in a document is of code, whose text is shown by its lines; all else is of a value."""
    return label.startswith(_CODE)


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
