"""The files under a folder, a folder at a time, in the order of their paths in the data set.

The walk refuses what has no one meaning on another machine: links that leave the folder, sockets
and devices, names that are not UTF-8 or hold control characters or backslashes, two names that
differ only in their Unicode form. Names starting with a dot are left out, as Git and shells do.
Only one folder is in memory at a time, and a file costs one `stat`: a million files take seconds.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from noria.core.errors import Conflict, NotFound, UsageError

__all__ = ["File", "Folder", "located", "stamp_of", "walk"]

File = tuple[str, int, int, int, int]
"""(name in its folder, size, mtime_ns, ctime_ns, inode). What follows the name is the file's stamp."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder: `prefix` is "" or ends with a slash; files and folders are sorted as paths are.

    `names` maps a name in the data set to the one on disk where they differ; `repeated` are links
    to files that are part of the data set by another name.
    """

    place: str
    prefix: str
    files: list[File]
    folders: list[str]
    names: Mapping[str, str] = field(default_factory=dict)
    repeated: frozenset[str] = frozenset()

    def path(self, name: str) -> str:
        """Where a file is on disk."""
        return f"{self.place}/{self.names.get(name, name) if self.names else name}"


def located(path: Path) -> Path:
    """A file or folder with its links followed. Raises: NotFound; UsageError for anything else."""
    try:
        found = path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"there is no file or folder {path}", hint="give a file, a folder, or a source with ://"
        ) from error
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{path} cannot be followed: a loop of links?") from error
    if not found.is_dir() and not found.is_file():
        raise UsageError(f"{path} is neither a file nor a folder", hint="pipes, sockets and devices are no data")
    return found


def walk(root: Path) -> Iterator[Folder]:
    """Every folder under `root` (as `located` gives it), parents first; a file is a folder with that one file.

    Raises: UsageError for what cannot be part of a data set; Conflict if something goes away meanwhile.
    """
    if root.is_file():
        name = _name(root.name, "")
        names = {} if name == root.name else {name: root.name}
        yield Folder(str(root.parent), "", [(name, *stamp_of(str(root), name))], [], names)
        return
    waiting = [(str(root), "")]
    linked: set[str] = set()
    while waiting:
        place, prefix = waiting.pop()
        folder, targets = _read(place, prefix, str(root), linked)
        yield folder
        waiting += [(targets.get(name) or folder.path(name), f"{prefix}{name}/") for name in reversed(folder.folders)]


def stamp_of(place: str, name: str) -> tuple[int, int, int, int]:
    """(size, mtime_ns, ctime_ns, inode) of a regular file. Raises: Conflict if it went away; UsageError."""
    try:
        found = os.stat(place)  # noqa: PTH116  # a Path costs three times the call
    except FileNotFoundError as error:
        raise _gone(name) from error
    if not stat.S_ISREG(found.st_mode):
        raise _irregular(name)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _read(place: str, prefix: str, root: str, linked: set[str]) -> tuple[Folder, dict[str, str]]:
    """A folder, and where its linked folders really are."""
    files: list[File] = []
    folders: list[str] = []
    names: dict[str, str] = {}
    targets: dict[str, str] = {}
    repeated: set[str] = set()
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                raw = entry.name
                if raw[0] == ".":
                    continue
                name = raw if raw.isascii() and raw.isprintable() and "\\" not in raw else _name(raw, prefix)
                if name is not raw and name != raw:
                    names[name] = raw
                if entry.is_file(follow_symlinks=False):
                    found = entry.stat(follow_symlinks=False)
                    files.append((name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino))
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif entry.is_symlink():
                    target, is_inside = _followed(entry.path, root, prefix + name)
                    if Path(target).is_dir():
                        if is_inside or target in linked:
                            raise UsageError(
                                f"the link {prefix}{name} leads to a folder that is already part of the data set"
                            )
                        linked.add(target)
                        folders.append(name)
                        targets[name] = target
                    else:
                        files.append((name, *stamp_of(target, prefix + name)))
                        if is_inside:
                            repeated.add(name)
                else:
                    raise _irregular(prefix + name)
    except PermissionError as error:
        raise UsageError(f"the folder {prefix or place} may not be read", hint="check its permissions") from error
    except FileNotFoundError as error:
        raise _gone(prefix or place) from error
    files.sort()
    folders.sort(key=_as_folder)
    _refuse_twins(prefix, files, folders)
    return Folder(place, prefix, files, folders, names, frozenset(repeated)), targets


def _as_folder(name: str) -> str:
    return f"{name}/"


def _refuse_twins(prefix: str, files: list[File], folders: list[str]) -> None:
    names = [file[0] for file in files] + folders
    if len(set(names)) == len(names):
        return
    twin = next(name for index, name in enumerate(names) if name in names[:index])
    raise UsageError(f"two files have the name {prefix + twin!r} in different Unicode forms", hint="rename one")


def _followed(link: str, root: str, name: str) -> tuple[str, bool]:
    """Where a link leads, and whether that is part of the data set anyhow (it is not where a name has a dot first)."""
    try:
        target = Path(link).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"the link {name} leads nowhere", hint="remove it, or mend its target") from error
    if not target.is_relative_to(root):
        raise UsageError(f"the link {name} leaves the folder", hint="copy the file in, or add the folder it is in")
    is_hidden = any(part.startswith(".") for part in target.relative_to(root).parts)
    return str(target), not is_hidden


def _name(name: str, prefix: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the file name {os.fsencode(prefix + name)!r} is not UTF-8", hint="rename it, such as with convmv"
        ) from error
    if "\\" in name or any(unicodedata.category(mark) == "Cc" for mark in name):
        raise UsageError(f"the file name {prefix + name!r} holds a backslash or a control character", hint="rename it")
    return unicodedata.normalize("NFC", name)


def _irregular(name: str) -> UsageError:
    return UsageError(f"{name} is not a regular file", hint="pipes, sockets and devices cannot be versioned")


def _gone(name: str) -> Conflict:
    return Conflict(f"{name} went away while it was added", hint="run the command again")
