"""A notebook's kernel, of which one thing is ours: how it is made to end.

jupyter_client asks a kernel once to end, and then waits half of `shutdown_wait_time` before it does more. What
the cells registered for the end, and keeping their models, may take long, so that time is long here; but then one
request that is not heard, or a kernel that has done all that and does not leave, holds the run for minutes. The
latter is seen once in about a hundred runs where the machine is busy (ipykernel 7.4): `IPKernelApp.close` waits
without a limit for the control thread, which waits for the output thread that `close` has already ended. So the
kernel is asked again until it has told its end, and once it has, it gets a short time to leave.
Source: jupyter-client.readthedocs.io, messaging, kernel shutdown.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager

__all__ = ["ASK_S", "LEAVE_S", "SHUTDOWN_S", "Kernel"]

SHUTDOWN_S = 600.0
"""How long a kernel may take to end: what its cells registered for the end, and keeping its models."""
ASK_S = 2.0
"""How long after a request to end the next one is sent. A kernel that has heard one does not look at more."""
LEAVE_S = 5.0
"""How long a kernel may take to leave once everything of its cells is done and on record."""
_LOOK_S = 0.05


class Kernel(AsyncKernelManager):
    """A kernel whose process is recorded into a folder `capture`, and that always ends."""

    capture = Path()
    leave_s = LEAVE_S

    async def shutdown_kernel(  # type: ignore[override]  # its first base is the one that waits
        self, now: bool = False, restart: bool = False
    ) -> None:
        """Let the kernel end by itself, for at most `SHUTDOWN_S`; take away what is left then. At once if `now`."""
        if not now and self.has_kernel:
            await self.interrupt_kernel()  # a cell that still runs: the kernel can end only after it
            await self._leave(restart)
        kill: Any = AsyncKernelManager.shutdown_kernel  # its type is that of a field
        await kill(self, now=True, restart=restart)

    async def _leave(self, restart: bool) -> None:
        """Ask the kernel to end until it is gone or its time is over."""
        end = _End(self.capture / f"{getattr(self.provisioner, 'pid', 0)}.events")
        deadline, asked = time.monotonic() + SHUTDOWN_S, -ASK_S
        has_told = False
        while time.monotonic() < deadline and await self.is_alive():
            if not has_told and end.is_told():
                has_told, deadline = True, time.monotonic() + self.leave_s
            if not has_told and time.monotonic() >= asked + ASK_S:
                await self.request_shutdown(restart=restart)
                asked = time.monotonic()
            await asyncio.sleep(_LOOK_S)


class _End:
    """Whether a recorded process has told its end; each of its lines is read once."""

    def __init__(self, events: Path) -> None:
        self._events = events
        self._seen = 0

    def is_told(self) -> bool:
        """Whether one of the lines that are new since the last look is the end."""
        try:
            with self._events.open("rb") as file:
                file.seek(self._seen)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:  # the record has not begun
            return False
        whole = [line for line in lines if line.endswith(b"\n")]
        self._seen += sum(map(len, whole))
        return any(line.startswith(b"('end', ") for line in whole)
