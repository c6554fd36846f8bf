"""Where a checkout stages what it writes, and who takes away what a killed one left there."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from pathlib import Path

from noria.data import lock
from noria.data.folders.walk import PART

__all__ = ["PART_NAME_BYTES", "part", "sweep"]

PART_NAME_BYTES = 100


def part(folder: Path, name: str) -> Path:
    """A new name beside a target, which says whose process stages there."""
    short = os.fsdecode(os.fsencode(name)[:PART_NAME_BYTES])  # a name may have 255 bytes, and this one has more in it
    return folder / f".{short}.{lock.mark()}.{uuid.uuid4().hex[:8]}.part"


def sweep(folder: Path) -> None:
    """Take away what killed checkouts left."""
    for place in folder.glob(".*.part"):
        found = PART.fullmatch(place.name)
        try:
            if found and place.is_dir() and lock.is_left(found[1], time.time() - place.stat().st_mtime):
                shutil.rmtree(place)
        except FileNotFoundError:
            continue  # another process swept it
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            continue  # the process that wrote for the killed one is about to see that it is alone; the next one sweeps
