"""A process that records a run until somebody kills it. Each call that returned is printed."""

from __future__ import annotations

import os
import sys
import time

import noria as nr


def wait_for_a_batch() -> None:
    """Until something of the run is in the ledger."""
    ledger = nr.open().workspace.ledger
    deadline = time.monotonic() + 120
    while not ledger.facts(kind="run.logged"):
        assert time.monotonic() < deadline, "nothing was sent"
        time.sleep(0.05)


def main(kind: str, count: int) -> None:
    if kind == "steady":
        with nr.start_run("steady", params={"lr": 0.1}) as run:
            for step in range(count):
                run.log(loss=float(step), step=step)
                print(step, flush=True)
                time.sleep(0.002)
    elif kind in ("whole", "blocked"):
        with nr.start_run(kind, tags={"kind": "test"}) as run:
            run.log(params={"lr": 0.1}, note="one")
            run.artifact(b"content", "made.bin")
            for step in range(count):
                run.log(loss=float(step), step=step)
            if kind == "whole":
                wait_for_a_batch()
            for step in range(count, 2 * count):
                run.log(loss=float(step), step=step)
    elif kind == "told":
        with nr.start_run(kind) as run:
            for step in range(count):
                run.log(loss=float(step), step=step)
            wait_for_a_batch()
            print("sent", flush=True)
            sys.stdin.readline()
            for step in range(count, 2 * count):
                run.log(loss=float(step), step=step)
    elif kind == "forked":
        with nr.start_run("forked") as run:
            run.log(loss=0.0, step=0)
            child = os.fork()
            if child == 0:
                for step in range(1, count):
                    nr.log(loss=float(step), step=step)
                os._exit(0)
            os.waitpid(child, 0)


main(sys.argv[1], int(sys.argv[2]))
