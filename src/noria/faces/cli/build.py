"""A click command for a verb: arguments from its signature, help from its docstring.

The verb runs here on the local workspace, or on a server when NORIA_SERVER or `--env NAME` says so.
Either way the result becomes plain values before it is shown, so both ways print the same.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from noria.config import find_project, load_project
from noria.core.errors import NotFound, UsageError
from noria.core.progress import Advance, shown
from noria.faces import verbs
from noria.faces.cli import show
from noria.faces.cli.commands import Command
from noria.faces.verbs import FoundVerb, Parameter

__all__ = ["build", "run_verb", "text_of_help", "waiting"]

_TYPES = {"text": click.STRING, "integer": click.INT, "number": click.FLOAT}


def build(path: str, command: Command) -> click.Command:
    """The click command of one row of the table."""
    found = verbs.load(command.target)
    shown = [each for each in found.parameters if each.name not in command.fixed]
    lines = _argument_lines(found.function)
    params: list[click.Parameter] = [_click_parameter(each, command, lines) for each in shown]
    params.append(click.Option(["--json", "is_json"], is_flag=True, help="Print the result as one line of JSON."))
    params.append(
        click.Option(["--env", "asked_environment"], default="", help="Ask the server of [env.NAME] instead.")
    )

    if command.is_followed:
        params.append(click.Option(["--follow", "-f", "is_following"], is_flag=True, help="Go on until it is over."))

    def callback(is_json: bool, asked_environment: str, is_following: bool = False, **given: Any) -> int:
        arguments = {**_given(shown, given, command), **command.fixed}
        if command.is_followed:
            from noria.faces.cli.follow import read_on

            ask = functools.partial(run_verb, found, environment=asked_environment)
            return read_on(ask, arguments, command, is_following=is_following, is_json=is_json)
        usual = 0 if is_json else _usual_limit(found, arguments)
        result = run_verb(
            found,
            {**arguments, "limit": usual + 1} if usual else arguments,
            environment=asked_environment,
            is_quiet=is_json or not command.is_slow,
            quick=command.quick,
        )
        is_cut = isinstance(result, list) and 0 < usual < len(result)
        result = result[:usual] if is_cut else result
        _print(result, command, is_json)
        if is_cut:
            click.echo(f"  … these are {usual}, and there are more: --limit {10 * usual}", err=True)
        return 1 if _says_no(result, command) else 0

    return _Command(
        path.split()[-1],
        callback=callback,
        params=params,
        help=text_of_help(found, command),
        short_help=command.summary,
        epilog="\b\nExamples:\n" + "\n".join(f"  {line}" for line in command.examples),
    )


def _usual_limit(found: FoundVerb, arguments: Mapping[str, Any]) -> int:
    """How many a list shows where nobody said: one more is asked for, so that it can be told if there are more.

    0 for what has no such limit, and for what comes in pages, whose last row names the next one.
    """
    declared = {each.name: each.default for each in found.parameters if each.name == "page" or each.kind == "integer"}
    usual = int(declared.get("limit") or 0)
    return usual if "page" not in declared and arguments.get("limit", usual) == usual else 0


class _Command(click.Command):
    """A command whose own help is the hint of every refusal of its words: click's parser names no command in its."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise


AUDITS = ("governance.audit", "governance.export")
"""The permissions of verbs that also open a ledger which is not the one that was seen."""


def run_verb(
    found: FoundVerb,
    arguments: Mapping[str, Any],
    *,
    environment: str = "",
    is_quiet: bool = True,
    quick: str = "",
) -> Any:
    """Call a verb on the server that the environment names, else on the local workspace.

    Gives the result as plain values. While it runs on a terminal, the elapsed time is shown. `quick`
    names a function that answers without opening the workspace; None from it means that it cannot.
    """
    remote = _remote(environment)
    with waiting(f"noria {found.declaration.name}", is_quiet):
        if remote is not None:
            checked = verbs.accept(found, arguments)
            return remote.call(found.declaration.capability, found.declaration.name, checked)
        if quick and (answer := _quickly(quick, verbs.accept(found, arguments))) is not None:
            return verbs.builtins(answer)
        from noria.bootstrap import open_workspace

        ws = open_workspace(is_audit=found.declaration.permission in AUDITS)
        if any((ws.project.state / name).is_dir() for name in ("recording", "incoming")):  # else nothing is imported
            from noria.experiments.incoming import send_all_left

            send_all_left(ws)
        return verbs.builtins(verbs.call(ws, found, arguments))


def _quickly(target: str, arguments: Mapping[str, Any]) -> Any:
    """Answer from the project's files; the object store is opened only if it is needed."""
    module, _, name = target.partition(":")

    def objects() -> Any:
        from noria.bootstrap import open_workspace

        return open_workspace().objects

    return getattr(importlib.import_module(module), name)(load_project(find_project(Path.cwd())), objects, **arguments)


def text_of_help(found: FoundVerb, command: Command) -> str:
    """The summary, and what the verb's docstring says before its sections."""
    doc = inspect.getdoc(found.function) or ""
    prose = re.split(r"\n(?:Args|Returns|Raises|Example|Source)s?:", doc, maxsplit=1)[0]
    body = prose.partition("\n")[2].strip().replace("`", "")
    return "\n\n".join([f"{command.summary}.", *([body] if body else [])])


def _click_parameter(parameter: Parameter, command: Command, lines: Mapping[str, str]) -> click.Parameter:
    name = parameter.name
    flag = "--" + command.rename.get(name, name).replace("_", "-")
    told = lines.get(name, "")
    if name in command.options:
        return click.Option([flag, name], type=_TYPES[parameter.kind], required=True, help=told)
    if parameter.is_required or name in command.positional:
        nargs = -1 if parameter.kind == "list" else 1
        defaults = {} if parameter.is_required or nargs == -1 else {"default": parameter.default}
        kind = _TYPES.get(parameter.kind, click.STRING)
        shown = name.upper() if parameter.is_required else f"[{name.upper()}]"
        return click.Argument([name], type=kind, required=parameter.is_required, nargs=nargs, metavar=shown, **defaults)
    if parameter.kind == "flag":
        return click.Option([flag, name], is_flag=True, default=bool(parameter.default), help=told)
    if parameter.kind == "mapping":
        flags = [flag.removesuffix("s"), "-p", name] if name == "params" else [flag, name]
        return click.Option(flags, multiple=True, metavar="NAME=VALUE", help=told or "May be given many times.")
    if parameter.kind == "list":
        return click.Option([flag, name], multiple=True, help=told or "May be given many times.")
    if name in command.alone:
        usual = {"is_flag": False, "flag_value": command.alone[name]}
        return click.Option([flag, name], type=click.STRING, default=parameter.default, help=told, **usual)  # type: ignore[arg-type]  # as click takes them
    return click.Option([flag, name], type=_TYPES[parameter.kind], default=parameter.default, help=told)


def _given(parameters: list[Parameter], given: Mapping[str, Any], command: Command) -> dict[str, Any]:
    """What was typed, without what was not: the verb's own defaults stand."""
    arguments: dict[str, Any] = {}
    for each in parameters:
        value = given[each.name]
        if value is None or (each.kind in ("list", "mapping") and not value):
            continue
        if each.kind == "mapping":
            value = _pairs(value, each.name)
        if each.name in command.files and value:
            value = _read(value)
        arguments[each.name] = value
    return arguments


def _pairs(items: tuple[str, ...], name: str) -> dict[str, Any]:
    """`rate=0.1` as {"rate": 0.1}: a value that is JSON is that value, anything else is text."""
    import json

    found: dict[str, Any] = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not separator or not key:
            raise UsageError(f"{item!r} is not NAME=VALUE", where=f"--{name}")
        if key in found:
            raise UsageError(f"{key} is given twice", where=f"--{name}", hint="give each name one value")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def _read(path: str) -> str:
    """The text of a file that the caller names; it travels, not its path."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"{path} cannot be read: {error}") from error


def _remote(environment: str) -> Any:
    server = os.environ.get("NORIA_SERVER", "")
    if environment:
        project = load_project(find_project(Path.cwd()))
        if environment not in project.environments:
            known = ", ".join(project.environments) or "none"
            raise NotFound(f"there is no [env.{environment}] in noria.toml", hint=f"known: {known}")
        server = project.environments[environment].server
    if not server:
        return None
    from noria.faces.client import Remote
    from noria.faces.credentials import stored

    token = os.environ.get("NORIA_TOKEN", "").strip() or stored(server)
    return Remote(server, token, os.environ.get("NORIA_ACTOR", "") or _login())


def _login() -> str:
    import getpass

    return getpass.getuser()


@contextlib.contextmanager
def waiting(words: str, is_quiet: bool) -> Iterator[None]:
    """What is being done on a terminal's stderr, gone when it is: elapsed time, and bars of what can be counted."""
    if is_quiet:
        yield
        return
    if not sys.stderr.isatty():
        with shown(_Lines()):
            yield
        return
    from noria.faces.cli.bars import bars

    with bars(words):
        yield


class _Lines:
    """Tells where there is no terminal: the stages of long work, each as a line; amounts would be thousands."""

    def begin(self, words: str, total: int | None, unit: str) -> Advance:
        """A line for a stage."""
        if not unit:
            click.echo(f"{words} …", err=True)
        return lambda _: None

    def end(self, advance: Advance) -> None:
        """What comes next says it."""


def _says_no(result: Any, command: Command) -> bool:
    """Whether the result, or one of a list, is what the command fails for."""
    each = [result] if isinstance(result, Mapping) else result
    return bool(command.fail_unless) and not all(one.get(command.fail_unless) for one in each)


def _print(result: Any, command: Command, is_json: bool) -> None:
    if is_json:
        click.echo(verbs.encode(result).decode())
        return
    text = show.render(command.show, result, empty=command.empty)
    if text:
        click.echo(text)
    field, instead = command.next_without
    first = result[0] if isinstance(result, list) and result else result
    is_empty = bool(field) and isinstance(first, Mapping) and not first.get(field)
    is_no = _says_no(result, command)
    usual = show.next_command(instead if is_empty else command.next, result)
    following = (is_no and show.help_after(command.show, result)) or usual
    if following:
        click.echo(click.style("next: ", dim=True) + following)


def _argument_lines(function: Any) -> dict[str, str]:
    """What the `Args:` section of a docstring says of each argument, on one line."""
    doc = inspect.getdoc(function) or ""
    section = re.search(r"\nArgs:\n((?:[ ]{4}.*\n?)+)", doc)
    found: dict[str, str] = {}
    name = ""
    for line in (section[1] if section else "").splitlines():
        start = re.match(r" {4}(\w+)[^:]*: (.*)", line)
        if start:
            name = start[1]
            found[name] = start[2]
        elif name:
            found[name] += " " + line.strip()
    return {key: text.replace("`", "") for key, text in found.items()}
