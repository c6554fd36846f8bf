"""What is told of copies of the project that are gone when `noria test` is over: named as the project's own.

A place in a copy is the place in the project. A log or a traceback that a copy left is kept in `.noria/test/`, and
named there, since whoever mends the fault wants to read it.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path

from noria.store.disk import disk_faults

__all__ = ["Copies"]

KEPT = "test"
"""The folder of what is kept, in the project's state."""
KEPT_S = 24 * 3600
"""An earlier test's files are kept so long: another test may be going on in this project."""


class Copies:
    """The copies of one project in a folder that will go.

    Args:
        folder: where the copies lie, each in a folder `project`; of what is below it, nothing stays.
        root: the project's own folder.
        state: the folder of its state. What tests kept there long ago is taken away.
    """

    def __init__(self, folder: Path, root: Path, state: Path) -> None:
        self._kept = state / KEPT
        self._root = str(root)
        at = re.escape(str(folder))
        self._left = re.compile(rf"{at}(?:/\w+)*?/project/\.noria/((?:runs|errors)/[^\s\"':),]+)")
        self._place = re.compile(rf"{at}(?:/\w+)*?/project(?=[/\s\"':),]|$)")
        if self._kept.is_dir():
            with disk_faults(self._kept):
                self._clear()

    def told(self, text: str) -> str:
        """The text with every place as the project's own; files of a copy that it names are kept."""
        return self._place.sub(lambda _: self._root, self._left.sub(self._keep, text))

    def tell(self, suites: Iterable[ElementTree.Element]) -> None:
        """The same for suites of tests, in place."""
        for suite in suites:
            for each in suite.iter():
                each.text = each.text and self.told(each.text)
                for name, value in each.attrib.items():
                    each.set(name, self.told(value))

    def _keep(self, found: re.Match[str]) -> str:
        """Keep a file that a text names; gives where. A name of none is given back."""
        source, target = Path(found[0]), self._kept / found[1]
        if not source.is_file():
            return found[0]
        part = target.with_name(f".{target.name}.{os.getpid()}")
        with disk_faults(target):
            content = source.read_text(encoding="utf-8", errors="surrogateescape")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                own = self._place.sub(lambda _: self._root, content)
                part.write_text(own, encoding="utf-8", errors="surrogateescape")
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
        return str(target)

    def _clear(self) -> None:
        for each in [*self._kept.glob("runs/*"), *self._kept.glob("errors/*")]:
            if time.time() - each.stat().st_mtime < KEPT_S:
                continue
            if each.is_dir():
                shutil.rmtree(each)
            else:
                each.unlink()
