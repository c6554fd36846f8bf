"""`noria import` and `noria export` for other tools' stores: only from a command line, for they name places of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from noria.faces import verbs
from noria.faces.cli import show

__all__ = [
    "export_mlflow_command",
    "import_aim_command",
    "import_dvc_command",
    "import_mlflow_command",
    "import_neptune_command",
    "import_wandb_command",
]

EPILOG = """\b
Examples:
  noria import dvc
  noria import dvc ../old-project --history"""

IMPORT = """\b
Examples:
  noria import mlflow sqlite:///mlflow.db
  noria import mlflow ./mlruns
  noria import mlflow postgresql://mlflow@db/mlflow --artifacts /srv/mlartifacts
  noria import mlflow https://mlflow.example.org"""
WANDB = """\b
Examples:
  noria import wandb ./wandb
  noria import wandb . --python ../train/.venv/bin/python --artifacts ."""
AIM = """\b
Examples:
  noria import aim ../train
  noria import aim ../train --python ../train/.venv/bin/python"""
NEPTUNE = """\b
Examples:
  noria import neptune ./exports
  noria import neptune ./exports/data --artifacts ./exports/files"""
ARTIFACTS = click.option(
    "--artifacts", multiple=True, metavar="DIR", help="A folder of this machine where files are; may be repeated."
)
PYTHON = click.option("--python", default="", metavar="PATH", help="The interpreter of an environment with the tool.")
JSON = click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
EXPORT = """\b
Examples:
  noria export mlflow ../as-mlflow
  noria export mlflow postgresql://mlflow@db/mlflow --artifacts /srv/mlartifacts"""


@click.command("dvc", epilog=EPILOG)
@click.argument("path", default=".", type=click.Path(path_type=Path))
@click.option("--history", is_flag=True, help="Every version that Git's history of this branch names, oldest first.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
def import_dvc_command(path: Path, history: bool, is_json: bool) -> int:
    """Take over the DVC repository at PATH in place: each output becomes a data set.

    Where there is no noria.toml, one is written with the outputs and remotes. Nothing of DVC is
    changed. Doing it again adds nothing, save that --history, after a takeover without it, gives what is here its
    place in the order of the history by one more number. Exit code 1 if something was left out or differs.
    """
    from noria.bootstrap import open_workspace
    from noria.data.takeover.import_dvc import import_dvc, prepare
    from noria.faces.cli.build import waiting

    written = prepare(path)
    workspace = open_workspace(path)
    with waiting("noria import dvc", is_json):
        done = verbs.builtins(import_dvc(workspace, str(path.absolute()), history=history))
    if is_json:
        click.echo(verbs.encode(done).decode())
    else:
        for file in written:
            click.echo(f"  made   {file}")
        click.echo(show.render("taken_over", done))
        click.echo(click.style("next: ", dim=True) + ("noria data status" if done["ok"] else "noria data list"))
    return 0 if done["ok"] else 1


@click.command("mlflow", epilog=IMPORT)
@click.argument("store")
@click.option(
    "--artifacts", multiple=True, metavar="DIR", help="A folder of this machine where artifacts are; may be repeated."
)
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
def import_mlflow_command(store: str, artifacts: tuple[str, ...], is_json: bool) -> int:
    """Take over the MLflow tracking store STORE: a database, a folder (mlruns) or a server.

    Experiments, runs with their points, artifacts, data sets, logged models and the registry come along, and
    keep their ids. Nothing of the store is changed. Doing it again adds nothing; what was broken off goes on.
    The report names every difference between the two stores. Exit code 1 if there is one.
    """
    from noria.bootstrap import open_workspace
    from noria.catalog.takeover.import_mlflow import import_mlflow
    from noria.faces.cli.build import waiting

    workspace = open_workspace(Path())
    with waiting("noria import mlflow", is_json):
        done = verbs.builtins(import_mlflow(workspace, store, artifacts=artifacts))
    return _told(done, is_json, "noria runs")


@click.command("wandb", epilog=WANDB)
@click.argument("path", default=".")
@ARTIFACTS
@PYTHON
@JSON
def import_wandb_command(path: str, artifacts: tuple[str, ...], python: str, is_json: bool) -> int:
    """Take over the runs that Weights & Biases kept on disk at PATH: the folder wandb, or one that holds it.

    Read with wandb's own classes, here (pip install 'noria[wandb]') or in the environment of --python.
    Nothing of it is changed. Doing it again adds nothing; what was broken off goes on. The report names every
    difference. Exit code 1 if there is one.
    """
    return _foreign("wandb", path, artifacts, is_json, python=python)


@click.command("aim", epilog=AIM)
@click.argument("path", default=".")
@ARTIFACTS
@PYTHON
@JSON
def import_aim_command(path: str, artifacts: tuple[str, ...], python: str, is_json: bool) -> int:
    """Take over the Aim repository at PATH, the folder with .aim in it.

    Read with aim's own library, here (pip install 'noria[aim]') or in the environment of --python.
    Nothing of it is changed. Doing it again adds nothing; what was broken off goes on. The report names every
    difference. Exit code 1 if there is one.
    """
    return _foreign("aim", path, artifacts, is_json, python=python)


@click.command("neptune", epilog=NEPTUNE)
@click.argument("path")
@ARTIFACTS
@JSON
def import_neptune_command(path: str, artifacts: tuple[str, ...], is_json: bool) -> int:
    """Take over what neptune-exporter wrote to PATH: a folder with data and files, or the one with the Parquet files.

    Nothing of it is changed. Doing it again adds nothing; what was broken off goes on. The report names every
    difference. Exit code 1 if there is one.
    """
    return _foreign("neptune", path, artifacts, is_json)


def _foreign(tool: str, path: str, artifacts: tuple[str, ...], is_json: bool, *, python: str = "") -> int:
    from noria.bootstrap import open_workspace
    from noria.catalog.takeover.import_foreign import import_foreign
    from noria.faces.cli.build import waiting

    workspace = open_workspace(Path())
    with waiting(f"noria import {tool}", is_json):
        done = verbs.builtins(import_foreign(workspace, tool, path, artifacts=artifacts, python=python))
    return _told(done, is_json, "noria runs")


@click.command("mlflow", epilog=EXPORT)
@click.argument("to")
@click.option("--artifacts", default="", metavar="DIR", help="Where artifacts go; needed for a database.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
def export_mlflow_command(to: str, artifacts: str, is_json: bool) -> int:
    """Write everything that was tracked and registered as a store that MLflow opens.

    TO is a folder, which gets mlflow.db and artifacts/, or a database whose tables MLflow made
    (mlflow db upgrade URI). The store is read back and compared. Exit code 1 if something differs.
    """
    from noria.bootstrap import open_workspace
    from noria.catalog.takeover.export_mlflow import export_mlflow
    from noria.faces.cli.build import waiting

    workspace = open_workspace(Path())
    with waiting("noria export mlflow", is_json):
        done = verbs.builtins(export_mlflow(workspace, to, artifacts=artifacts))
    return _told(done, is_json, f"mlflow server --backend-store-uri {done['other']}")


def _told(done: dict[str, Any], is_json: bool, after: str) -> int:
    if is_json:
        click.echo(verbs.encode(done).decode())
    else:
        click.echo(show.render("tracker_taken", done))
        click.echo(click.style("next: ", dim=True) + after)
    return 0 if done["ok"] else 1
