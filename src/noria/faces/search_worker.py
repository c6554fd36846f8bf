"""A process that runs the trials of one study, one after another: `python -m noria.faces.search_worker`.

Started by a search, never by a person. It reads tasks as lines of JSON from standard input and writes
what came of each as a line; whatever the project prints goes elsewhere. It ends when its standard
input does, with all that it started.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from noria.bootstrap import open_workspace
from noria.core.errors import Conflict, NoriaError, RunPreempted
from noria.faces.priority import follow
from noria.pipeline.define import load_pipeline
from noria.search import records
from noria.search.trial import code_name, definition_of, perform

__all__ = ["main"]


def main() -> int:
    """Answer one line for each task, until there are no more."""
    parser = argparse.ArgumentParser(prog="noria.faces.search_worker")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--study", required=True)
    given = parser.parse_args()
    follow()
    answers = _own_output()
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    source = os.fdopen(_own_input(), "rb")
    threading.Thread(target=_read, args=(source, tasks), name="noria-tasks", daemon=True).start()
    ws = open_workspace(given.root)
    with ws.ledger.read() as tx:
        study = records.study(tx, given.study)
    assert study is not None, "a worker is of a study"
    definition = None
    while True:
        task = tasks.get()
        try:
            if code_name(ws.project.root) != study.code:
                raise Conflict("the project's code changed since the search began")
            if definition is None:
                definition = definition_of(load_pipeline(ws.project, study.pipeline), study)
            ended = perform(ws, definition, study, trial=task["trial"], params=task["params"], history=task["history"])
            answer = asdict(ended)
        except RunPreempted:
            signal.raise_signal(signal.SIGTERM)  # nothing takes it any more: whoever waits is told of the signal
            continue
        except NoriaError as error:
            answer = {"error": error.message, "is_changed": isinstance(error, Conflict)}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _own_output() -> BinaryIO:
    """Where answers go; what anybody prints goes to the log."""
    held = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(held, "wb")


def _own_input() -> int:
    """Where tasks come from; steps see an empty standard input."""
    held, empty = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return held


def _read(source: BinaryIO, tasks: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Hand tasks over; the end of input is the end of this process and of all that it started."""
    for line in source:
        tasks.put(json.loads(line))
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
