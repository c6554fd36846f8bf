"""What git calls: the merge driver and the hooks. And the command that installs the hook of a bare repository.

These are no verbs: git calls them with a pin's three versions, or where there is no project at all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from noria.core.errors import NotFound
from noria.faces import verbs
from noria.faces.cli.text import fields

__all__ = [
    "after_merge_command",
    "before_push_command",
    "hook_command",
    "merge_driver_command",
    "received_command",
]

_JSON = click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")

HOOK_EPILOG = """\b
Examples:
  noria data hook /srv/git/churn.git
  noria data hook /srv/git/churn.git --branch release --json"""


@click.command("hook", epilog=HOOK_EPILOG)
@click.argument("repository", type=click.Path(path_type=Path))
@click.option("--branch", default="", help="The branch that starts the pipeline; else the default one.")
@_JSON
def hook_command(repository: Path, branch: str, is_json: bool) -> int:
    """Let pushes to a bare repository start the pipeline.

    A pushed change of a pin, a setting, a rule or code is checked out beside the repository, its data
    are pulled, and `noria run` runs. The pusher sees the output and how it ended; a log is kept.
    """
    from noria.data.git.hooks import install

    made = install(repository, branch)
    click.echo(verbs.encode(made).decode() if is_json else fields(verbs.builtins(made)))
    return 0


RECEIVED_EPILOG = """\b
Examples:
  noria data received --repository /srv/git/churn.git --branch main
  noria data received --repository . --branch main --json"""


@click.command("received", epilog=RECEIVED_EPILOG)
@click.option("--repository", required=True, type=click.Path(path_type=Path), help="The bare repository.")
@click.option("--branch", default="", help="The branch that starts the pipeline; else the first push tells.")
@_JSON
def received_command(repository: Path, branch: str, is_json: bool) -> int:
    """What the post-receive hook calls: start the pipeline if the push changed what it stands on.

    Reads git's lines OLD NEW REF. The exit code is the pipeline's.
    """
    from noria.data.git.hooks import receive

    say = (lambda line: click.echo(line, err=True)) if is_json else click.echo
    done = receive(repository, branch, sys.stdin, say)
    if is_json:
        click.echo(verbs.encode(done).decode())
    return done.exit_code


MERGE_EPILOG = """\b
Examples:
  noria data merge-driver base.toml ours.toml theirs.toml noria.lock/flights.toml
  noria data merge-driver %O %A %B %P --json"""


@click.command("merge-driver", epilog=MERGE_EPILOG)
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("ours", type=click.Path(path_type=Path))
@click.argument("theirs", type=click.Path(path_type=Path))
@click.argument("path")
@_JSON
def merge_driver_command(base: Path, ours: Path, theirs: Path, path: str, is_json: bool) -> int:
    """What git calls for a pin that two branches changed: merge the data set by path and by row.

    The merged pin is written to OURS. Exit code 1 and the paths or keys if both sides changed the same.
    """
    from noria.bootstrap import open_workspace
    from noria.data.git.merge import merge_files, told

    found = merge_files(open_workspace(_project_of(path)), base, ours, theirs)
    if is_json:
        conflicts = found.conflicts if found is not None else ()
        click.echo(verbs.encode({"path": path, "conflicts": conflicts}).decode())
    elif found is not None:
        click.echo(f"noria: {told(found)}", err=True)
    return 0 if found is None else 1


PUSH_EPILOG = """\b
Examples:
  noria data before-push origin git@host:churn.git
  noria data before-push origin git@host:churn.git --project service"""


@click.command("before-push", epilog=PUSH_EPILOG)
@click.argument("remote", default="")
@click.argument("url", default="")
@click.option("--project", default="", help="The project's folder, from the top of the clone.")
@_JSON
def before_push_command(remote: str, url: str, project: str, is_json: bool) -> int:
    """What the pre-push hook calls: send the data of the pins before the pins themselves go.

    A push of commits whose data could not be sent is stopped.
    """
    from noria.bootstrap import open_workspace
    from noria.data.remote.transfer import push_pinned

    done = push_pinned(open_workspace(Path.cwd() / project))
    click.echo(verbs.encode(done).decode() if is_json else f"noria: {done.summary}", err=not is_json)
    return 0


MERGED_EPILOG = """\b
Examples:
  noria data after-merge 0
  noria data after-merge 0 --project service"""


@click.command("after-merge", epilog=MERGED_EPILOG)
@click.argument("squashed", default="0")
@click.option("--project", default="", help="The project's folder, from the top of the clone.")
@_JSON
def after_merge_command(squashed: str, project: str, is_json: bool) -> int:
    """What the post-merge hook calls: say which pinned versions are not here yet."""
    from noria.bootstrap import open_workspace
    from noria.data.remote.transfer import absent_pins

    absent = absent_pins(open_workspace(Path.cwd() / project))
    if is_json:
        click.echo(verbs.encode({"absent": absent}).decode())
    elif absent:
        click.echo(f"noria: not here yet: {', '.join(absent)}; next: noria data pull", err=True)
    return 0


def _project_of(path: str) -> Path:
    """The project's folder of a pin that git names from the top of the work tree, where it also runs the driver."""
    folder = Path.cwd() / Path(path).parent.parent
    if not (folder / "noria.toml").is_file():
        raise NotFound(f"{path} is no pin of a project", hint="a pin lies in noria.lock/ beside noria.toml")
    return folder
