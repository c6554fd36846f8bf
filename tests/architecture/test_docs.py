"""What is documented exists, and what exists is documented."""

from __future__ import annotations

import dataclasses
import re
import sys
import typing
from collections import Counter
from collections.abc import Iterator

import pytest
from source_tree import ROOT

from noria import config
from noria.core.errors import NoriaError
from noria.faces import verbs
from noria.faces.cli.commands import COMMANDS
from noria.faces.http import app

DOCS = ROOT / "docs"
COMMAND = re.compile(r"^\s*(?:\$ )?noria ([a-z][a-z -]*[a-z]|[a-z]+)", re.MULTILINE)


def errors() -> Iterator[type[NoriaError]]:
    """Every class of the error tree that the package defines."""
    assert app.App.__module__ in sys.modules, "the server defines errors too"
    assert verbs.collect(), "and so do the slices"
    waiting = [NoriaError]
    while waiting:
        found = waiting.pop()
        yield found
        waiting += [each for each in found.__subclasses__() if each.__module__.startswith("noria.")]


def documented() -> list[str]:
    """The codes of docs/errors.md."""
    return re.findall(r"^\*\*`([a-z-]+)`\*\*", (DOCS / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_error_code_is_documented_once_and_no_other() -> None:
    codes = {each.code for each in errors()} - {NoriaError.code}
    assert Counter(documented()) == Counter(codes | {"internal"})


@pytest.mark.parametrize("kind", sorted(errors(), key=str), ids=str)
def test_an_error_class_says_what_it_means_and_how_to_exit(kind: type[NoriaError]) -> None:
    assert kind.__doc__
    assert kind.exit_code in (1, 2, 3, 4, 130)
    assert 400 <= kind.status < 600


def test_every_setting_is_documented_and_no_other() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `([a-z_0-9]+)` \|", text, re.MULTILINE))
    known = set(_keys(config.Project)) - {
        "root",
        "access",
        "data",
        "models",
        "server",
        "store",
        "remotes",
        "environments",
        "reproduce",
        "run",
        "schedules",
        "webhooks",
    }
    nested = {"card", "clients", "gate", "deploy", "monitor", "retrain", "min", "max", "champion", "margin"}
    inside = {"source", "delay", "cooldown", "per_week", "budget_per_week"}
    assert told - {"server"} == (known | {"checks", "fresh"}) - nested - (inside - {"source"})
    for key in inside | nested:
        assert key in text


def _keys(kind: type) -> Iterator[str]:
    for name, hint in typing.get_type_hints(kind).items():
        yield name
        for inner in (hint, *typing.get_args(hint)):
            if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                yield from _keys(inner)


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", *(f"docs/{path.name}" for path in DOCS.glob("*.md"))])
def test_commands_in_the_documents_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    for words in COMMAND.findall(blocks):
        parts = words.split()
        assert parts[0] in COMMANDS or " ".join(parts[:2]) in COMMANDS, f"noria {words}"


def test_the_glossary_is_sorted_and_says_each_word_once() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert words == sorted(set(words), key=str.lower)


def test_decisions_are_numbered_without_gaps() -> None:
    names = sorted(path.name for path in (DOCS / "adr").glob("*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    for name in names:
        text = (DOCS / "adr" / name).read_text(encoding="utf-8")
        for part in ("Context", "Options", "Decision", "Consequences", "change our mind"):
            assert part in text, f"{name} lacks {part}"
