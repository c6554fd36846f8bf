"""The commands of upkeep: rows of the table in `commands.py`."""

from __future__ import annotations

from collections.abc import Mapping

from noria.faces.cli.command import Command

__all__ = ["ADMIN"]

ADMIN: Mapping[str, Command] = {
    "admin backup": Command(
        target="noria.faces.cli.admin:backup_command",
        summary="Back the project up into a folder while it works, verified",
        examples=(),
        is_own=True,
    ),
    "admin restore": Command(
        target="noria.faces.cli.admin:restore_command",
        summary="Make a project of a backup, verified whole before it is visible",
        examples=(),
        is_own=True,
    ),
    "admin rebuild": Command(
        target="noria.faces.cli.admin:rebuild_command",
        summary="Drop the record tables and fold them again from the facts",
        examples=(),
        is_own=True,
    ),
    "admin errors": Command(
        target="noria.faces.cli.admin:errors_command",
        summary="What an error code means and what to do",
        examples=(),
        is_own=True,
    ),
}
