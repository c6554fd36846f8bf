"""`python -m noria` and the `noria` command: hands over to the command line."""

from __future__ import annotations

import os
import sys

from noria.faces.cli.main import run

__all__ = ["main"]


def main() -> None:
    """Run the command line with this process's arguments and exit with its code.

    Threads of numerical code wait asleep, not spinning: read when their library is loaded, so it
    is set here, before any. With 2 busy cores a fit took 5.4 s so, and 19 to 41 s spinning.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
