"""`python -m noria` and the `noria` command: hands over to the command line."""

from __future__ import annotations

import sys

from noria.faces.cli.main import run

__all__ = ["main"]


def main() -> None:
    """Run the command line with this process's arguments and exit with its code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
