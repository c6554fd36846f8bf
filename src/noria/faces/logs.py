"""How the processes of `noria up` say what they do: one line a message, to standard error."""

from __future__ import annotations

import logging
import time

__all__ = ["start_log"]


def start_log(name: str) -> None:
    """Send warnings of libraries and everything of Noria to standard error, with UTC times."""
    handler = logging.StreamHandler()
    formatter = logging.Formatter(f"%(asctime)s {name} %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("noria").setLevel(logging.INFO)
