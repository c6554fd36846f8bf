"""One name for one file in what two runs read, which were in two folders: the project's, and the clean place.

A path is kept as it was written, so that a file elsewhere is `../../rates.csv` for the one and something else for the
other. Pure: nothing of the disk is asked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["aligned"]

KINDS = ("file", "folder", "there", "stat", "access", "link", "xattr")


def aligned(
    then: Mapping[str, str], now: Mapping[str, str], roots: tuple[Path, Path]
) -> tuple[dict[str, str], dict[str, str]]:
    """What was read then and now, as {what: digest}; a file that both name by other words has its whole path in both.

    Args:
        roots: the project's folder then, and now.
    """
    was = {_whole(name, roots[0]): name for name in then if name not in now}
    same = {name: whole for name in now if name not in then and (whole := _whole(name, roots[1])) in was}
    renamed = {was[whole]: whole for whole in same.values()}
    return (
        {renamed.get(name, name): known for name, known in then.items()},
        {same.get(name, name): known for name, known in now.items()},
    )


def _whole(what: str, root: Path) -> str:
    """The same with the whole path of a file."""
    kind, _, name = what.partition(" ")
    # by the words alone: a link is not followed, since it may lead elsewhere by now
    return f"{kind} {os.path.normpath(root / name)}" if kind in KINDS else what
