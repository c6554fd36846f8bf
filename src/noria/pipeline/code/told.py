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
            names[label] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            if node.shown:
                self.shown[label] = node.shown
        return dict(sorted({**names, **self.values}.items()))
