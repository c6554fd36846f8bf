"""A process that stops itself in the middle of its work, for a test to wake or to kill. Run as a script.

`leftover_victim.py add ROOT` adds a table whose rows stop coming; `pull ROOT DIGEST SIZE` brings one large object
from the remote, as a pull does. When it is woken it finishes and says so.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from noria.bootstrap import open_workspace
from noria.core.identity import Digest
from noria.data.remote.remotes import open_remote
from noria.data.tabular import tables
from noria.store.transfer import copy
from noria.store.workspace import Workspace

SCHEMA = pa.schema([("x", pa.int64())])


def add(ws: Workspace) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(40):
            if number == 39:
                os.kill(os.getpid(), signal.SIGSTOP)
            values = pa.array(range(number * 50_000, (number + 1) * 50_000), pa.int64())
            yield pa.RecordBatch.from_arrays([values], schema=SCHEMA)

    tables.add_table(ws, pa.RecordBatchReader.from_batches(SCHEMA, batches()), "big", roles={}, source="rows")


def pull(ws: Workspace, digest: str, size_bytes: int) -> None:
    seen: list[int] = []

    def told(done: int) -> None:
        seen.append(done)
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGSTOP)

    source = open_remote(ws, "origin").objects
    partial = ws.project.state / "cache" / "partial"
    copy(source, ws.objects, {Digest(digest): size_bytes}, partial=partial, advance=told)


if __name__ == "__main__":
    opened = open_workspace(Path(sys.argv[2]))
    if sys.argv[1] == "add":
        add(opened)
    else:
        pull(opened, sys.argv[3], int(sys.argv[4]))
    print("done", flush=True)
