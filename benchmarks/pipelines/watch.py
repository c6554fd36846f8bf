"""What it costs Noria to watch a step: the watch itself, and each Python call under it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from noria.pipeline.watching.watch import watch as watched

CALLS = 300_000
TIMES = 1000


def watch() -> str:
    """One line with both."""

    def called(x: int) -> int:
        return x + 1

    def calls() -> float:
        start = time.perf_counter()
        for number in range(CALLS):
            called(number)
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bare = min(calls() for _ in range(3))
        with watched(folder, folder / ".noria"):
            seen = min(calls() for _ in range(3))
        start = time.perf_counter()
        for _ in range(TIMES):
            with watched(folder, folder / ".noria") as made:
                pass
            made.trace()
        each = (time.perf_counter() - start) / TIMES
    return f"noria's watch: {each * 1e3:.3f} ms a step; {(seen - bare) / CALLS * 1e6:.2f} µs for each Python call"
