"""The process that packs and judges what a script left: started by `noria run SCRIPT`, never by a person.

It loads what the script pickled, which may need anything and may take the process with it. What it finds is
one line of JSON on standard output; what the libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from noria.bootstrap import open_workspace
from noria.core.errors import NoriaError
from noria.faces import verbs
from noria.loop.outcome import Question
from noria.loop.shipping import ship
from noria.tracking.facts import Pin

__all__ = ["main"]


def main() -> int:
    """Read the question from standard input; print a line for each model, or the error and exit 1."""
    asked = json.loads(sys.stdin.read())
    answer = os.dup(1)
    os.dup2(2, 1)
    question = Question(
        run=asked["run"],
        script=asked["script"],
        folder=asked["folder"],
        model=asked["model"],
        pins=tuple(Pin(**pin) for pin in asked["pins"]),
    )
    try:
        ws = open_workspace(Path(asked["root"]), actor=asked["actor"])
        lines = ship(ws, question, script_folder=asked["script_folder"])
    except NoriaError as error:
        print(error.message, file=sys.stderr)
        return 1
    os.write(answer, verbs.encode(lines))
    sys.stderr.flush()
    # Skip the teardown of numeric libraries: the answer is out.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
