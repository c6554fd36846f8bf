"""Artifacts of a tracking store that lie on this machine: read, never followed out of the folders that were named."""

from __future__ import annotations

import os
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from noria.catalog.takeover.documents import FileDoc, ModelDoc, RunDoc
from noria.core.errors import NotFound
from noria.store.objects import disk_faults

__all__ = ["LocalFiles", "path_of"]

USUAL = ("mlartifacts", "mlruns")
HINT = "--artifacts DIR names the folder where they are"


class LocalFiles:
    """The files below some folders. What a store names elsewhere is refused: a store is another's word.

    A place that is not here any more is looked for below the same folders by its last parts, as MLflow lays
    them out: `EXPERIMENT/RUN/artifacts` and `EXPERIMENT/models/MODEL/artifacts`. Nothing at a place means that
    there are no files only where the folder that would hold it is here; else it is not known, and refused.

    Args:
        own: the store's own folder, if it has one; `named`: those that the caller says hold the artifacts.
    """

    def __init__(self, own: Path | None, named: Sequence[Path]) -> None:
        self._own = own.resolve() if own is not None else None
        self._named = [each.resolve() for each in named]
        self._folders = [*self._named, *([self._own] if self._own is not None else [])]

    def listing(self, owner: RunDoc | ModelDoc) -> Sequence[FileDoc]:
        """The files of a run or a logged model, by name; none where nothing was ever kept."""
        root = self._root(owner)
        if root is None:
            return []
        found = []
        with disk_faults(root):
            for folder, _, names in os.walk(root):
                for name in names:
                    path = Path(folder) / name
                    found.append(FileDoc(path.relative_to(root).as_posix(), path.lstat().st_size))
        return sorted(found, key=lambda each: each.name)

    def open(self, owner: RunDoc | ModelDoc, name: str) -> BinaryIO:
        """A file of it."""
        root = self._root(owner)
        path = None if root is None else (root / name).resolve()
        if path is None or not path.is_file():
            raise NotFound(f"there is no file {name!r}")
        self._require_within(path)
        with disk_faults(path):
            return path.open("rb")

    def _root(self, owner: RunDoc | ModelDoc) -> Path | None:
        if not owner.place:
            return None
        place = path_of(owner.place)
        if place is None:
            raise NotFound(f"they are at {owner.place[:200]}, which is not a folder of this machine", hint=HINT)
        if place.is_dir() and self._is_within(place.resolve()):
            return place.resolve()
        deep = 4 if isinstance(owner, ModelDoc) else 3
        for folder in self._roots():
            for parts in (place.parts[-deep:], place.parts[-deep + 1 :]):
                moved = folder.joinpath(*parts)
                if len(parts) > 1 and ".." not in parts and moved.is_dir():
                    self._require_within(moved.resolve())
                    return moved.resolve()
        if place.is_dir():
            self._require_within(place.resolve())
        if not self._named and not self._is_reached(place, owner.place):
            raise NotFound(f"their folder {owner.place[:200]} is not here", hint=HINT)
        return None

    def _roots(self) -> list[Path]:
        """Where the folders of experiments may lie: what was named, and MLflow's usual places beside the store."""
        usual = [self._own / name for name in ("", *USUAL)] if self._own is not None else []
        return [*self._named, *usual]

    def _is_reached(self, place: Path, said: str) -> bool:
        """Whether the files would be on this machine if there were any."""
        if said.startswith("mlflow-artifacts:"):
            return self._own is not None and any((self._own / name).is_dir() for name in USUAL)
        is_own = self._own is not None and place.is_absolute() and place.is_relative_to(self._own)
        return is_own or place.parent.is_dir() or place.parent.parent.is_dir()

    def _require_within(self, path: Path) -> None:
        if not self._is_within(path):
            raise NotFound(f"{path} is outside the folders that may be read", hint=HINT)

    def _is_within(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self._folders)


def path_of(place: str) -> Path | None:
    """The path that a place means on this machine, or by its last parts; None for one that is kept elsewhere."""
    parsed = urllib.parse.urlparse(place)
    if parsed.scheme == "file":
        return Path(urllib.request.url2pathname(parsed.path))
    if parsed.scheme == "mlflow-artifacts":
        return Path(urllib.parse.unquote(parsed.path))
    return Path(place) if place and not parsed.scheme else None
