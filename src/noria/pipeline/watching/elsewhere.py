"""Other processes of a step, forked or spawned workers, tell what they see: a line each in one file.

A forked process keeps the hooks of the watch and is told by `os.register_at_fork` that it is another one
now. A spawned one (multiprocessing, loky) unpickles its process object; what `Reporter` leaves in there
begins the watch before anything else is unpickled. A line is written before what it tells of happens, so
a worker that is killed has told all.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = lazy("tempfile")

__all__ = ["Reporter", "Spool", "end_loky_workers"]

_COUNT = itertools.count()


class Spool:
    """The file of one watch; appended to by any process, read once by the one that made it."""

    def __init__(self, path: str = "") -> None:
        """Make a file, or, with a path, add to one that is there. Raises: OSError."""
        self.path = path
        if path:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        while not self.path:
            name = os.path.join(tempfile.gettempdir(), f"noria-seen-{os.getpid()}-{next(_COUNT)}")  # noqa: PTH118
            try:
                self._file = os.open(name, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue  # of a process that was killed, and had the same number
            self.path = name

    def tell(self, kind: str, name: str, value: Any) -> None:
        """Add one line. Raises: OSError."""
        os.write(self._file, (json.dumps([kind, name, value]) + "\n").encode())

    def take(self) -> Iterator[tuple[str, str, Any]]:
        """What was told, in order; the file is gone then."""
        os.close(self._file)
        content = Path(self.path).read_bytes()
        Path(self.path).unlink()
        for line in content.splitlines():
            kind, name, value = json.loads(line)
            yield kind, name, value


class Reporter:
    """An attribute of a process object: unpickling it begins the watch in the new process."""

    def __init__(self, begin: Callable[[str, str, str], None], path: str, root: Path, state: Path) -> None:
        """`begin` is a function of a module, called there with the path of the spool and the two folders."""
        self._begin, self._given = begin, (path, str(root), str(state))

    def __reduce__(self) -> tuple[Any, ...]:
        return self._begin, self._given


def end_loky_workers() -> None:
    """Workers that loky keeps for the next call were begun by another step, and tell its watch: new ones are begun."""
    for name in ("joblib.externals.loky.reusable_executor", "loky.reusable_executor"):
        kept = getattr(sys.modules.get(name), "_executor", None)
        if kept is not None:
            kept.shutdown(wait=True)
