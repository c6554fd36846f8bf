"""The process that runs a notebook from top to bottom in a clean kernel: started by `noria run NOTEBOOK`.

Its work is in `faces/cells.py`. Until that looks after a kernel there is nothing to tidy up: a Ctrl-C ends the process
there and then, and not with the traceback of an import.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from noria.core.lazy import lazy

if TYPE_CHECKING:
    from noria.faces import cells
else:
    cells = lazy("noria.faces.cells")

__all__ = ["main"]


def main() -> int:
    """Run `notebook copy capture`, three paths; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # one that came as Python started ends it now
    return cells.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
