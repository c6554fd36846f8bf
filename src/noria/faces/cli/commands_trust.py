"""The commands about what ran where, and whether it can be had again: rows of the table in `commands.py`."""

from __future__ import annotations

from collections.abc import Mapping

from noria.faces.cli.command import Command

__all__ = ["TRUST"]

TRUST: Mapping[str, Command] = {
    "reproduce": Command(
        target="noria.project.reproduce:reproduce",
        summary="Do a run again from its pins, compare every output, sign the verdict",
        examples=(
            "noria reproduce",
            "noria reproduce churn:14",
            "noria reproduce run_01k3 --environment here --json",
        ),
        positional=("ref",),
        show="reproduction",
        fail_unless="ok",
        is_slow=True,
    ),
    "env show": Command(
        target="noria.project.environments:show_environment",
        summary="What a run ran in: Python, every distribution, the machine",
        examples=("noria env show", "noria env show churn:14 --json"),
        positional=("ref",),
        show="environment",
    ),
    "env diff": Command(
        target="noria.project.environments:diff_environments",
        summary="How the environment of a run differs from another's, or from here",
        examples=("noria env diff last", "noria env diff churn:14", "noria env diff churn:13 churn:14"),
        positional=("b",),
        show="environment_diff",
    ),
    "env rebuild": Command(
        target="noria.project.environments:rebuild_environment",
        summary="Make the environment of a run anew, and compare every file",
        examples=("noria env rebuild last rebuilt", "noria env rebuild churn:14 /tmp/churn-14 --json"),
        show="environment_rebuilt",
        fail_unless="ok",
        is_slow=True,
    ),
}
