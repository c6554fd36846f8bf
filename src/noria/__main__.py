"""`python -m noria` and the `noria` command: hands over to the command line."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

from noria.core.lazy import lazy

if TYPE_CHECKING:
    from noria.faces.cli import main as command_line
else:
    command_line = lazy("noria.faces.cli.main")

__all__ = ["main"]

INTERRUPTED = 130

_GARBAGE = (10_000, 20, 20)
"""A command lives shortly and makes little garbage in cycles: looking for it at Python's pace took a tenth of it."""


def main() -> None:
    """Run the command line with this process's arguments and exit with its code.

    Threads of numerical code wait asleep, not spinning: read when their library is loaded, so it
    is set here, before any. With 2 busy cores a fit took 5.4 s so, and 19 to 41 s spinning.

    What is there at the end is not looked through once more: the process goes, and its memory with
    it. That look took a fifth of a short command. DuckDB, where it was used, complains on stderr
    of every object of its own that is left over, so then it is done.

    A Ctrl-C that comes as the command starts or ends is no traceback of whatever was going on: what was
    broken off has been told by then, and another one ends the process there and then.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    gc.set_threshold(*_GARBAGE)
    gc.disable()  # until the typed command is loaded: modules are no garbage
    try:
        code = command_line.run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
        os.write(2, b"interrupted\n")
    if code == INTERRUPTED:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))  # until all threads are over, then none:
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # Python itself takes the handler away
    if "duckdb" not in sys.modules:
        gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
