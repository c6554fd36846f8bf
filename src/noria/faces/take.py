"""The process that loads what another tool's client logged: started by `noria promote models:/…`, never by a person.

What it loads may be anybody's program. So it gives up the network first where the system lets it (Linux, a
namespace of its own), has a limit of processor time and no core files, opens no workspace, and works in one
folder. What it finds is one line of JSON on standard output; what libraries print goes to standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from noria import plugins
from noria.core.errors import ModelFailed, NoriaError
from noria.loop.taken import BUNDLE, MODEL, ROWS
from noria.packaging.bundle import write
from noria.pipeline.frames import read_frame

__all__ = ["main"]

CPU_S = 900
_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000
"""CLONE_NEWNET and CLONE_NEWUSER of unshare(2)."""


def main() -> int:
    """Read the question from standard input; write the bundle's folder; print the answer or the error."""
    asked = json.loads(sys.stdin.read())
    answer = os.dup(1)
    os.dup2(2, 1)
    is_alone = _leave_network()
    for limit, most in ((resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (most, most))
    try:
        told = _made(Path(sys.argv[1]), asked, is_alone)
    except NoriaError as error:
        told = {"error": {"code": error.code, "message": error.message, "where": error.where, "hint": error.hint}}
    os.write(answer, json.dumps(told).encode())
    sys.stderr.flush()
    # Skip the teardown of numeric libraries: the answer is out.
    os._exit(0)


def _made(folder: Path, asked: dict[str, Any], is_alone: bool) -> dict[str, Any]:
    load = plugins.load("logged", asked["form"])
    try:
        model, how = load(folder / MODEL, asked["trust"], asked["task"])
    except NoriaError:
        raise
    except Exception as error:
        raise ModelFailed(f"{type(error).__name__}: {str(error)[:300]}") from error
    if not hasattr(model, "predict"):
        raise ModelFailed(f"its file holds a {type(model).__name__}, which has no predict")
    rows = read_frame((folder / ROWS).read_bytes())
    written = write(folder / BUNDLE, model, holdout=rows, label=asked["label"], drop=asked["drop"])
    where = "without a network" if is_alone else "with this machine's network, which the system did not let go of"
    return {
        "flavor": written.flavor,
        "labels": list(written.labels),
        "how": f"{how}, in a process of its own {where}",
    }


def _leave_network() -> bool:
    """Go where there is no network; whether that worked."""
    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    if unshare is None:
        return False
    return any(unshare(flags) == 0 for flags in (_NEW_NETWORK, _NEW_NETWORK | _NEW_USER))


if __name__ == "__main__":
    sys.exit(main())
