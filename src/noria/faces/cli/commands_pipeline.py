"""The commands about runs that are going on; a part of the table of commands."""

from __future__ import annotations

from collections.abc import Mapping

from noria.faces.cli.command import Command

__all__ = ["PIPELINE"]

PIPELINE: Mapping[str, Command] = {
    "pipeline cancel": Command(
        target="noria.pipeline.driving.steer:cancel",
        summary="End a run that is going on; what is done stays done",
        examples=("noria pipeline cancel", "noria pipeline cancel run_01k3 --reason 'wrong data'"),
        positional=("run",),
    ),
    "pipeline logs": Command(
        target="noria.pipeline.driving.steer:logs",
        summary="What a run printed, step by step; --follow while it runs",
        examples=("noria pipeline logs", "noria pipeline logs run_01k3 train --follow"),
        positional=("run", "step"),
        empty="nothing was printed",
        is_followed=True,
    ),
}
