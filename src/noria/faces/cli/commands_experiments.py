"""The rows of the table of commands for runs: `noria runs`, `noria experiments …`, `noria tracking …`."""

from __future__ import annotations

from collections.abc import Mapping

from noria.faces.cli.command import Command

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: Mapping[str, Command] = {
    "experiments history": Command(
        target="noria.experiments.search:history",
        summary="The points of a metric by step; of a long history least and greatest are kept",
        examples=(
            "noria experiments history run_01k3 loss",
            "noria experiments history run_01k3 loss --points 100 --json",
        ),
        show="history",
    ),
    "experiments list": Command(
        target="noria.experiments.search:list_experiments",
        summary="Every experiment, with its runs and when the newest began",
        examples=("noria experiments list", "noria experiments list --json"),
        empty="no experiment yet: with nr.start_run(experiment=…) in a script makes one",
    ),
    "experiments plot": Command(
        target="noria.experiments.plot:plot",
        summary="Write the curves of runs as an SVG, over each other",
        examples=(
            "noria experiments plot run_01k3",
            "noria experiments plot run_01k3 run_01k4 --metric loss --to pictures/loss.svg",
        ),
        show="plotted",
    ),
    "experiments send": Command(
        target="noria.experiments.search:send",
        summary="Send what recordings on this machine left behind",
        examples=("noria experiments send", "noria experiments send --json"),
        next="noria runs",
    ),
    "experiments show": Command(
        target="noria.experiments.search:show",
        summary="Everything that a run logged; the newest without an id",
        examples=("noria experiments show", "noria experiments show run_01k3 --json"),
        positional=("run",),
        show="run_details",
    ),
    "runs": Command(
        target="noria.experiments.search:search_runs",
        summary="Runs that fit a filter, newest first or in an order",
        examples=(
            "noria runs",
            "noria runs --status failed --limit 5",
            "noria runs \"metrics.auc > 0.8 and params.model = 'tree'\" --order 'metrics.auc DESC'",
        ),
        positional=("filter",),
        show="found_runs",
        next="noria why {run}",
    ),
    "tracking list": Command(
        target="noria.tracking.run:list_runs",
        summary="Runs, newest first, as pipelines and scripts made them",
        examples=("noria tracking list", "noria tracking list --status failed --limit 5"),
        show="runs",
        next="noria why {run}",
    ),
    "tracking log": Command(
        target="noria.tracking.run:log_text",
        summary="All that a run printed as one text; noria pipeline logs follows",
        examples=("noria tracking log", "noria tracking log run_01k3 --step train"),
        positional=("run",),
        empty="nothing was printed",
    ),
    "tracking show": Command(
        target="noria.tracking.run:show",
        summary="One run; the newest without an id",
        examples=("noria tracking show", "noria tracking show run_01k3 --json"),
        positional=("run",),
    ),
    "import mlflow": Command(
        target="noria.faces.cli.takeover:import_mlflow_command",
        summary="Take over an MLflow tracking store: runs, artifacts, models, registry",
        examples=(),
        is_own=True,
    ),
    "import wandb": Command(
        target="noria.faces.cli.takeover:import_wandb_command",
        summary="Take over runs that Weights & Biases kept on disk",
        examples=(),
        is_own=True,
    ),
    "import aim": Command(
        target="noria.faces.cli.takeover:import_aim_command",
        summary="Take over an Aim repository",
        examples=(),
        is_own=True,
    ),
    "import neptune": Command(
        target="noria.faces.cli.takeover:import_neptune_command",
        summary="Take over what neptune-exporter wrote: Parquet and files",
        examples=(),
        is_own=True,
    ),
    "export mlflow": Command(
        target="noria.faces.cli.takeover:export_mlflow_command",
        summary="Write what was tracked and registered as a store that MLflow opens",
        examples=(),
        is_own=True,
    ),
}
