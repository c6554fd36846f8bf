"""How a child of the supervisor learns that the supervisor is gone: its standard input ends.

The supervisor holds the other end of that pipe and never writes. However it dies, the system
closes it, so no child is left behind to hold the port or the leases.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["STDIN", "on_parent_end", "watch_parent"]

STDIN = 0


def watch_parent(loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
    """Call `leave` on the loop when standard input, if it is a pipe, ends."""
    if not _is_pipe():
        return

    def look() -> None:
        if not os.read(STDIN, 1024):
            loop.remove_reader(STDIN)
            leave()

    loop.add_reader(STDIN, look)


def on_parent_end(leave: Callable[[], None], descriptor: int = STDIN) -> None:
    """The same for a process without a loop: `leave` is called on a thread of its own."""
    if not _is_pipe(descriptor):
        return

    def look() -> None:
        while os.read(descriptor, 1024):
            pass
        leave()

    threading.Thread(target=look, name="noria-parent", daemon=True).start()


def _is_pipe(descriptor: int = STDIN) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False
