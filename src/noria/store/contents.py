"""What was said and may go again: which objects facts name only of things that are there no more.

Facts stay for ever, and so do the digests in them. What a client said (the spans of a trace, a record of an
evaluation data set) is an object that a fact names; once its owner is deleted, or says something else, nobody can
ask for it any more. The facts that say so are read by their kinds here, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["Contents", "named"]


class Contents:
    """What is said now, and what was said before, as of the facts that were read so far."""

    def __init__(self) -> None:
        self._now: dict[str, dict[str, str]] = {}
        self._before: set[str] = set()
        self._by_this: set[str] = set()

    def read(self, kind: str, data: Mapping[str, Any]) -> set[str]:
        """Take the next fact in; gives the digests that it names as something said."""
        reader = _READERS.get(kind)
        self._by_this = set()
        if reader is not None:
            reader(self, data)
        return self._by_this

    def now(self) -> set[str]:
        """The digests of what is said now."""
        return {digest for parts in self._now.values() for digest in parts.values()}

    def before(self) -> set[str]:
        """The digests of what was said before; some may be said again, by others too."""
        return self._before

    def say(self, owner: str, part: str, digest: str) -> None:
        """A part of what an owner says is in that object from now on."""
        parts = self._now.setdefault(owner, {})
        if part in parts:
            self._before.add(parts[part])
        parts[part] = digest
        self._by_this.add(digest)

    def forget(self, owner: str, *parts: str) -> None:
        """An owner says these parts no more; without any it says nothing more at all."""
        said = self._now.get(owner, {})
        for part in parts or tuple(said):
            if part in said:
                self._before.add(said.pop(part))


def named(kind: str, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(what it is, digest) of the objects that a fact names in its data, where they are too many for its outputs."""
    if kind == "records.merged":
        for each in data["records"]:
            yield f"record {each['record']}", each["details"]
        if data.get("schema"):
            yield "schema", data["schema"]


def _records_merged(said: Contents, data: Mapping[str, Any]) -> None:
    owner = f"evalset/{data['evalset']}"
    for each in data["records"]:
        said.say(owner, each["record"], each["details"])
    if data.get("schema"):
        said.say(owner, "", data["schema"])


def _records_removed(said: Contents, data: Mapping[str, Any]) -> None:
    if data["records"]:
        said.forget(f"evalset/{data['evalset']}", *data["records"])


def _spans_logged(said: Contents, data: Mapping[str, Any]) -> None:
    said.say(f"trace/{data['trace']}", f"spans {data['details']}", data["details"])


_READERS: Mapping[str, Callable[[Contents, Mapping[str, Any]], None]] = {
    "records.merged": _records_merged,
    "records.removed": _records_removed,
    "evalset.deleted": lambda said, data: said.forget(f"evalset/{data['evalset']}"),
    "trace.logged": lambda said, data: said.say(f"trace/{data['trace']}", "whole", data["details"]),
    "spans.logged": _spans_logged,
    "assessment.logged": lambda said, data: said.say(
        f"trace/{data['trace']}", f"judged {data['assessment']}", data["details"]
    ),
    "assessment.removed": lambda said, data: said.forget(f"trace/{data['trace']}", f"judged {data['assessment']}"),
    "trace.deleted": lambda said, data: said.forget(f"trace/{data['trace']}"),
}
