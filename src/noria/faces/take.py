"""The process that loads what another tool's client logged: started by `noria promote models:/…`, never by a person.

What it loads may be anybody's program. So it gives up network and programs first where the system lets it
(`packaging/confine.py`), has a limit of processor time and no core files, opens no workspace, and works in one
folder. What it finds is one line of JSON on standard output; what libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from noria import plugins
from noria.core.errors import ModelFailed, NoriaError
from noria.core.printable import error_line
from noria.loop.taken import BUNDLE, MODEL, ROWS
from noria.packaging.bundle import write
from noria.packaging.confine import confine
from noria.pipeline.outputs.frames import read_frame

__all__ = ["main"]

CPU_S = 900


def main() -> int:
    """Read the question from standard input; write the bundle's folder; print the answer or the error."""
    asked = json.loads(sys.stdin.read())
    answer = os.dup(1)
    os.dup2(2, 1)
    confinement = confine(cpu_s=CPU_S)
    try:
        told = _made(Path(sys.argv[1]), asked, confinement.text())
    except NoriaError as error:
        told = {"error": {"code": error.code, "message": error.message, "where": error.where, "hint": error.hint}}
    os.write(answer, json.dumps(told).encode())
    sys.stderr.flush()
    # Skip the teardown of numeric libraries: the answer is out.
    os._exit(0)


def _made(folder: Path, asked: dict[str, Any], confinement: str) -> dict[str, Any]:
    load = plugins.load("logged", asked["form"])
    try:
        model, how = load(folder / MODEL, asked["trust"], asked["task"])
    except NoriaError:
        raise
    except Exception as error:
        raise ModelFailed(error_line(error)) from error
    if not hasattr(model, "predict"):
        raise ModelFailed(f"its file holds a {type(model).__name__}, which has no predict")
    rows = read_frame((folder / ROWS).read_bytes())
    written = write(
        folder / BUNDLE,
        model,
        holdout=rows,
        label=asked["label"],
        drop=asked["drop"],
        name=asked["model"],
        allow_pickle=asked["allow_pickle"],
    )
    return {
        "flavor": written.flavor,
        "labels": list(written.labels),
        "requires": dict(written.requires),
        "types": list(written.types),
        "rows": written.rows,
        "ranges": dict(written.ranges),
        "how": f"{how}, in a process of its own {confinement}",
    }


if __name__ == "__main__":
    sys.exit(main())
