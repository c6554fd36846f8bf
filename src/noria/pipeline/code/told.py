"""How the things that one step reaches are called, and the texts behind the names: for people, not for the key."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterable, Set
from dataclasses import field
from typing import Any

from noria.core.frozen import slotted
from noria.pipeline.code.rendering import rendered

__all__ = ["Node", "Told"]

_SMALL = 200


@slotted
class Node:
    """One thing that was reached: its text, what its names lead to, and how people call it.

    `called` is that where its label does not say it; `owner` how it is named by what it closes over, the names in
    `cells`.
    """

    label: str
    text: str = ""
    shown: str = ""
    called: str = ""
    owner: str = ""
    cells: Set[str] = frozenset()
    links: dict[str, str] = field(default_factory=dict)


class Told:
    """The names of one walk. `texts` are what was rendered before, by object and content: steps share constants."""

    def __init__(self, texts: dict[tuple[int, str], tuple[Any, str]]) -> None:
        self.values: dict[str, str] = {}
        self.shown: dict[str, str] = {}
        self.known_as: dict[int, str] = {}
        """By what name a function was reached that its own name does not lead to."""
        self._labels: list[str] = []
        self._texts = texts

    def value(self, label: str, content: str, value: Any, name: str) -> None:
        """Name a value for people; another one that goes by the same label is numbered."""
        free, number = label, 2
        while self.values.get(free, content) != content:
            free, number = f"{label} ({number})", number + 1
        if free not in self.values:
            self.shown[free] = self._text(value, content, name)
        self.values[free] = content

    def function(self, function: types.FunctionType, node: Node) -> None:
        """Say how a function is called in a list of changes, and as the owner of what it closes over.

        One that was compiled from a text (of a template, of a formula) has no module: it is part of what holds it.
        """
        node.cells = frozenset(function.__code__.co_freevars)
        known, node.owner = self.known_as.get(id(function), ""), node.label.partition(" ")[2]
        if known and function.__module__ in (None, "", "builtins"):
            node.called = node.owner = f"code in {known}"
        elif known and "<locals>" in node.owner:
            node.owner += f" ({known})"

    def _text(self, value: Any, content: str, name: str) -> str:
        same = (id(value), f"{content} {name}")
        if same not in self._texts:
            text = rendered(value, name)
            if len(text) <= _SMALL:
                return text
            self._texts[same] = (value, text)  # with the object, whose id must stay its own
        return self._texts[same][1]

    def names(self, nodes: Iterable[Node], *, at_text: bool) -> dict[str, str]:
        """All names with their hashes; where code looks at text, also of what is no code in it."""
        names: dict[str, str] = {}
        for node in nodes:
            called = label = node.called or node.label
            number = 2
            while label in names:
                label, number = f"{called} ({number})", number + 1
            text = node.text + (node.shown if at_text else "")
            self._labels.append(label)
            names[label] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            if node.shown:
                self.shown[label] = node.shown
        return dict(sorted({**names, **self.values}.items()))

    def links(self, nodes: Iterable[Node]) -> dict[str, dict[str, str]]:
        """By the label of each node what its names lead to; where only that changes, no text tells of it."""
        found = {}
        for label, node in zip(self._labels, nodes, strict=True):
            if told := {self._named(name, node): self._target(target) for name, target in node.links.items()}:
                found[label] = told
        return found

    def _named(self, name: str, node: Node) -> str:
        """A link as people know it: what another package's function holds is called by its own name."""
        kind, _, place = name.partition(" ")
        held = node.links.get(f"holds {place}", "") if kind in ("holds", "annotations") else ""
        return f"{kind} {self._target(held)}" if held.startswith("#") else name

    def _target(self, target: str) -> str:
        """What a link leads to, by its label; a value by the beginning of its hash, which no one reads."""
        if target.startswith("#") and target[1:].isdigit():
            return self._labels[int(target[1:])]
        owner, is_outside, name = target.partition(":")
        if owner == "value":
            return f"value:{name[:8]}{name[64:]}" if name[:7] != "sha256:" else f"value:{name[7:15]}{name[71:]}"
        if owner == "extension":
            return name.rpartition(":")[0]
        if is_outside:  # with the distribution before it, or with the module
            return name if "." in name or owner in (name, "stdlib") else f"{owner}.{name}"
        return target[:16]
