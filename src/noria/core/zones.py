"""Time zones of Python's moments are kept, whatever a library asks of pyarrow."""

from __future__ import annotations

import os

__all__ = ["keep_zones"]


def keep_zones() -> None:
    """Take back PYARROW_IGNORE_TIMEZONE, after code that is not Noria's own was imported.

    Where it is set pyarrow drops the offset of each aware datetime, so 10:00+02:00 is stored as
    10:00 UTC. Importing pandera sets it for the whole process (pandera/external_config.py).
    """
    os.environ.pop("PYARROW_IGNORE_TIMEZONE", None)
