"""The `noria` command: finds the typed command in the table, runs it, and turns errors into exit codes.

Exit codes: 0 ok, 1 a gate said no, 2 usage, 3 infrastructure, 4 the project's own code failed,
130 interrupted. An error is at most six lines on stderr; a traceback is shown only with
NORIA_DEBUG=1, and that of an unexpected failure is saved where the error says.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from noria.core.interrupts import how_to_go_on
from noria.core.printable import legible
from noria.faces.cli.commands import COMMANDS, GROUPS, SUMMARIES, Command

if TYPE_CHECKING:
    from noria.core.standard import Replaced

__all__ = ["run"]

ERROR_LINES_MAX = 6
WIDTH_MAX = 100
LABELS = {"gate-closed": "STOP", "tampered": "STOP"}


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code. Never raises but for NORIA_DEBUG=1."""
    is_json = "--json" in arguments
    try:
        result = _invoked(arguments)
        sys.stdout.flush()
        return int(result) if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return _usage(error, is_json)
    except (KeyboardInterrupt, EOFError, click.Abort) as error:
        return _interrupted(error, is_json)
    except BrokenPipeError:
        return _unheard()
    except UnicodeEncodeError as error:
        if not any(text in error.object for text in arguments if text.encode(errors="replace") != os.fsencode(text)):
            return _failed(error, is_json)
        _print_error("usage", "an argument is not text in UTF-8", "", "noria --help", is_json)
        return 2
    except BaseException as error:  # the process boundary: everything else becomes an exit code here
        from noria.core.standard import put_back

        replaced = put_back()  # what tells of an error uses the standard library too
        if os.environ.get("NORIA_DEBUG") == "1" or "_NORIA_COMPLETE" in os.environ:  # a shell asks for words: see click
            raise
        return _failed(error, is_json, replaced)


def _invoked(arguments: Sequence[str]) -> object:
    """What the command gives. Not by click's own `main`: it makes 1, the word of a gate, of a pipe that is closed."""
    root = _root()
    if "_NORIA_COMPLETE" in os.environ:
        return root.main(list(arguments), prog_name="noria", standalone_mode=False)
    with root.make_context("noria", list(arguments), max_content_width=WIDTH_MAX) as context:
        return root.invoke(context)


def _interrupted(error: BaseException, is_json: bool) -> int:
    """What was interrupted may have noted how to go on; the rest is told in a word."""
    told = how_to_go_on(error)
    if told or is_json:
        _print_error("cancelled", "interrupted", "", told, is_json)
    else:
        click.echo("interrupted", err=True)
    return 130


def _unheard() -> int:
    """The reader of our output is gone; writing more would raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def _root() -> click.Group:
    return _Group(
        "noria",
        "",
        help="From git push to a model that keeps itself right in production, every step explained.",
        epilog="Every command has --help with examples, and --json for machines.",
        params=[_version_option()],
    )


class _Group(click.Group):
    """A group whose commands come from the table; `path` are the words before it."""

    def __init__(self, name: str, path: str, **named: object) -> None:
        super().__init__(name, no_args_is_help=False, invoke_without_command=True, callback=_help, **named)  # type: ignore[arg-type]  # passed on as click takes them
        self.path = path

    def list_commands(self, ctx: click.Context) -> list[str]:
        shown = [key for key, command in COMMANDS.items() if key.startswith(self.path) and not command.is_hidden]
        return sorted({key.removeprefix(self.path).split()[0] for key in shown})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        path = f"{self.path}{cmd_name}"
        if path in COMMANDS:
            return _load(path, COMMANDS[path])
        if any(key.startswith(f"{path} ") for key in COMMANDS):
            return _Group(cmd_name, f"{path} ", help=f"{_summary(path)}")
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = self._resolved(ctx, args)
        if not isinstance(found[1], _Group) and not gc.isenabled():
            gc.freeze()  # what is loaded by now stays: garbage is looked for from here on, and not in that
            gc.enable()
        return found

    def _resolved(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        taken = _script_command(self.path, args)
        if taken is not None:
            return args[0], taken, args[1:]
        _begin_ahead(COMMANDS.get(f"{self.path}{args[0]}"), args[1:])
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1, cutoff=0.6)
            words = f"noria {self.path}{near[0]}" if near else f"noria {self.path}--help".replace("  ", " ")
            asked = f"there is no command {f'{self.path}{args[0]}'!r}"
            raise click.UsageError(f"{asked}\nnext:  {'did you mean `' + words + '`?' if near else words}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        if self.path:
            _section(formatter, "Commands", self.path, names)
            return
        for title, words in GROUPS.items():
            _section(formatter, title, "", [word for word in words if word in names])
        grouped = {word for words in GROUPS.values() for word in words}
        _section(formatter, "by capability", "", [name for name in names if name not in grouped])


def _script_command(path: str, args: list[str]) -> click.Command | None:
    """The command that takes a line over because of what it names, such as a script or notebook."""
    row = COMMANDS.get(f"{path}{args[0]}")
    if row is None or not row.for_files:
        return None
    import importlib

    module, _, name = row.for_files.partition(":")
    found = importlib.import_module(module)
    if not found.is_script(args[1:]):
        return None
    command = getattr(found, name)
    made: click.Command = command if isinstance(command, click.Command) else command()
    return made


def _begin_ahead(command: Command | None, args: list[str]) -> None:
    """What another process can do for a command while this one imports it."""
    if command is not None and command.ahead:
        import importlib

        module, _, name = command.ahead.partition(":")
        getattr(importlib.import_module(module), name)(args)


def _help(**_: object) -> int:
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        return 0 if not context.parent else 2
    return 0


def _section(formatter: click.HelpFormatter, title: str, path: str, names: Sequence[str]) -> None:
    rows = [(name, _summary(f"{path}{name}")) for name in names]
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows, col_max=14)


def _summary(path: str) -> str:
    """What a command does; for a group, what it holds."""
    if path in COMMANDS:
        return COMMANDS[path].summary
    if path in SUMMARIES:
        return SUMMARIES[path]
    shown = [key for key, command in COMMANDS.items() if key.startswith(f"{path} ") and not command.is_hidden]
    return ", ".join(key.removeprefix(f"{path} ") for key in shown)


def _load(path: str, command: Command) -> click.Command:
    if command.is_own:
        import importlib

        module, _, name = command.target.partition(":")
        found = getattr(importlib.import_module(module), name)
        assert isinstance(found, click.Command), f"{command.target} is not a click command"
        return found
    from noria.faces.cli.build import build

    return build(path, command)


def _version_option() -> click.Option:
    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
    )


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"noria {version('noria')}")
        ctx.exit()


def _usage(error: click.ClickException, is_json: bool) -> int:
    message, _, following = error.format_message().partition("\nnext:  ")
    context = getattr(error, "ctx", None)
    hint = following or (f"{context.command_path} --help" if context is not None else "noria --help")
    message = message[:1].lower() + message[1:].rstrip(".")
    _print_error("usage", message, "", hint, is_json)
    return 2


def _failed(error: BaseException, is_json: bool, replaced: tuple[Replaced, ...] = ()) -> int:
    from noria.core.errors import NoriaError, ProjectError
    from noria.core.standard import blamed

    if isinstance(error, NoriaError):
        _print_error(error.code, error.message, error.where, error.hint, is_json, error.details)
        return error.exit_code
    from noria.faces.cli.crash import save
    from noria.store.disk import too_long

    told = too_long(error)
    if told is not None:
        return _failed(told, is_json)
    saved = save(error)
    if (found := blamed(replaced, error)) is not None:
        _print_error(*_replaced(found, error), f"keep it to your own code; the traceback is in {saved}", is_json)
        return ProjectError.exit_code
    _print_error(
        "internal", f"noria itself failed: {type(error).__name__}", "", f"the traceback is in {saved}", is_json
    )
    return 3


def _replaced(found: Replaced, error: BaseException) -> tuple[str, str, str]:
    """Code, message and place of an error that came of what the project put into the standard library."""
    from noria.core.printable import error_line
    from noria.faces.cli.crash import set_by

    told = f"the project replaced {found.name} with {found.by_name}, and noria, which calls that, failed"
    return "project", f"{told}: {error_line(error, WIDTH_MAX)}", set_by(found, error)


def _print_error(
    code: str, message: str, where: str, hint: str, is_json: bool, details: Mapping[str, object] | None = None
) -> None:
    """At most six lines; the message gives way to where and hint. As JSON with what more is known, beside it."""
    if is_json:
        told = {"code": code, "message": message, "where": where, "hint": hint}
        click.echo(json.dumps({"error": told, **(details or {})}, ensure_ascii=False))
        return
    tail = [f"where: {legible(where)}".splitlines()[0]] if where else []
    tail += [f"next:  {legible(hint)}".splitlines()[0]] if hint else []
    lines = [line for line in legible(message).splitlines() if line.strip()]
    room = ERROR_LINES_MAX - len(tail)
    shown = lines if len(lines) <= room else [*lines[: room - 1], f"  … {len(lines) - room + 1} more lines"]
    label = LABELS.get(code, "error:")
    for number, line in enumerate([*shown, *tail]):
        head = f"{click.style(label, fg='red', bold=True)} " if number == 0 else ""
        click.echo(f"{head}{line}", err=True)
