"""Each verb has a permission, an HTTP route and a command; each command has help and examples."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from starlette.routing import Match, Route

from noria.faces import verbs
from noria.faces.cli.commands import COMMANDS, GROUPS
from noria.faces.cli.main import _Group, _root
from noria.faces.cli.show import renderer
from noria.faces.http import api
from noria.testing.workspace import open_memory

VERBS = [pytest.param(found, id=" ".join(key)) for key, found in verbs.collect().items()]
PATHS = sorted(COMMANDS)


def command(path: str) -> click.Command:
    """The click command of a path of words."""
    context = click.Context(_root())
    found: click.Command = context.command
    for word in path.split():
        assert isinstance(found, _Group)
        inner = found.get_command(context, word)
        assert inner is not None, f"{word} of {path}"
        found = inner
    return found


@pytest.mark.parametrize("found", VERBS)
def test_a_verb_has_a_permission_of_its_capability_and_a_summary(found: verbs.FoundVerb) -> None:
    capability, _, action = found.declaration.permission.partition(".")
    assert capability == found.declaration.capability
    assert re.fullmatch(r"[a-z_]+", action)
    assert found.summary.endswith((".", "?")), found.summary


@pytest.mark.parametrize("found", VERBS)
def test_a_verb_has_a_command(found: verbs.FoundVerb) -> None:
    assert found.target in {each.target for each in COMMANDS.values()} | {"noria.project.watch:watch"}


@pytest.fixture(scope="module")
def routes() -> list[Route]:
    """The routes of the API over an empty workspace."""
    return api.routes(open_memory())


@pytest.mark.parametrize("found", VERBS)
def test_a_verb_has_a_route(found: verbs.FoundVerb, routes: list[Route]) -> None:
    path = f"/api/v1/{found.declaration.capability}/{found.declaration.name}"
    scope = {"type": "http", "method": "POST", "path": path, "headers": []}
    assert verbs.find(found.declaration.capability, found.declaration.name).target == found.target
    assert any(route.matches(scope)[0] == Match.FULL for route in routes)


@pytest.mark.parametrize("path", PATHS)
def test_a_command_has_help_two_examples_and_json(path: str) -> None:
    found = command(path)
    with click.Context(found, info_name=f"noria {path}") as context:
        text = found.get_help(context)
    examples = [line.strip() for line in text.partition("Examples:")[2].splitlines() if line.strip()]
    assert len(examples) >= 2
    assert all(line.startswith(f"noria {path}") for line in examples)
    assert "--json" in text


@pytest.mark.parametrize("path", PATHS)
def test_the_examples_of_a_command_parse(path: str) -> None:
    found = command(path)
    examples = COMMANDS[path].examples or [
        line.strip() for line in (found.epilog or "").splitlines() if line.strip().startswith("noria ")
    ]
    for example in examples:
        words = shlex.split(example)[1 + len(path.split()) :]
        found.make_context(path, list(words), resilient_parsing=False)


@pytest.mark.parametrize("path", PATHS)
def test_a_row_of_the_table_names_what_exists(path: str) -> None:
    row = COMMANDS[path]
    assert callable(renderer(row.show))
    assert len(row.summary) <= 80
    if not row.is_own:
        names = {each.name for each in verbs.load(row.target).parameters}
        assert {*row.positional, *row.rename, *row.fixed, *row.files} <= names


def test_every_group_of_the_help_names_commands() -> None:
    words = {path.split()[0] for path in COMMANDS}
    assert {word for group in GROUPS.values() for word in group} <= words
