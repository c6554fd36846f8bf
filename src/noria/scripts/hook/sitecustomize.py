"""What Python imports at its start in a process that is captured; it begins the watch and steps aside.

The script then runs as `python train.py` runs it, by Python itself: its `__main__`, its traceback, its
exit code and the processes that it starts are Python's own. This folder leaves the import path again,
and another `sitecustomize` that stands behind it gets its turn.
Source: docs.python.org, library/site.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "NORIA_CAPTURE"


def _begin() -> None:
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # pathlib costs 10 ms at each start
    sys.path[:] = [folder for folder in sys.path if folder != here]
    sys.path_importer_cache.pop(here, None)
    folder = os.environ.get(VARIABLE, "")
    if folder:
        try:
            __import__("noria.scripts.recorder")
        except ImportError:
            pass  # another Python, which the script started, and which has no Noria: it runs unseen
        else:
            sys.modules["noria.scripts.recorder"].start(folder)
    mine = sys.modules.pop("sitecustomize", None)
    try:
        __import__("sitecustomize")  # the one that this folder hid
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
        if mine is not None:
            sys.modules["sitecustomize"] = mine  # Python looks it up again after the import


if __name__ == "sitecustomize":
    _begin()
