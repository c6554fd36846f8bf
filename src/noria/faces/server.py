"""The serving process: loads what is deployed, then answers on the socket it was handed.

Started by the supervisor as `python -m noria.faces.server`, while it opens the workspace itself: what is imported here
is little, so that everything else is loaded without looking for garbage (`answering.py`). A process that is held
waits for a byte before it opens the workspace. It ends when its standard input closes, which is how it learns that
the supervisor is gone.
"""

from __future__ import annotations

import argparse
import gc
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from noria.core.lazy import lazy
from noria.faces.logs import start_log
from noria.faces.orphan import STDIN
from noria.store.scratch import sweep

if TYPE_CHECKING:
    from noria import bootstrap
    from noria.faces import answering
else:
    bootstrap, answering = lazy("noria.bootstrap"), lazy("noria.faces.answering")

__all__ = ["main"]


def main() -> int:
    """The entry point of the process."""
    gc.disable()  # until everything is loaded: modules are no garbage
    parser = argparse.ArgumentParser(prog="noria.faces.server")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--fd", type=int, required=True, help="the listening socket")
    parser.add_argument("--environment", default="local")
    parser.add_argument("--standby", action="store_true", help="load everything, and wait for a byte to begin")
    parser.add_argument("--held", action="store_true", help="wait for a byte before the workspace is opened")
    parser.add_argument("--ready", type=int, default=-1, help="where a byte is written when answers begin")
    given = parser.parse_args()
    start_log("server")
    sweep()
    serve = answering.serve  # loads it, while who holds this process opens the workspace
    gc.freeze()
    gc.enable()
    if given.held and not os.read(STDIN, 1):
        return 0
    ws = bootstrap.open_workspace(given.root, actor="service:server")
    listening = socket.socket(fileno=given.fd)
    serve(ws, listening, environment=given.environment, is_standby=given.standby, ready=given.ready)
    return 0


if __name__ == "__main__":
    code = main()
    # Threads of numeric libraries need not be torn down; the logs are closed.
    sys.stdout.flush()
    os._exit(code)
