"""The files under a folder, a folder at a time, in the order of their paths in the data set.

A name is kept as it is, byte by byte: in any encoding (bytes that are no UTF-8 as Python has them,
lone surrogates), in the Unicode form that it has, with line ends and backslashes. What cannot be kept
is refused, all of it in one error at the end of the walk: links that leave the folder, lead nowhere
or to a folder that is part of it anyhow, sockets and devices, folders that may not be read. A name that
starts with a dot is content like any other. Left out, and told, is only what a tool keeps there for
itself: `is_state`. Only one folder is in memory at a time, and a file costs one `stat`: a million files
take seconds.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.printable import printable
from noria.core.words import counted

__all__ = ["PART", "STATE", "File", "Folder", "is_state", "located", "looked_at_again", "stamp_of", "walk"]

_SHOWN = 12
STATE = frozenset({".git", ".noria", ".dvc"})
"""What Git, Noria and DVC keep for themselves."""
PART = re.compile(r"\..+\.(\d+-\d+-[0-9a-f]{8})\.[0-9a-f]{8}\.part")
"""The name of a folder in which a checkout stages; its group says whose."""
_VOLUME = re.compile(r"\.\.(?:data(?:_tmp)?|\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\d+)")
File = tuple[str, int, int, int, int]
"""(name in its folder, size, mtime_ns, ctime_ns, inode). What follows the name is the file's stamp."""


@frozen
class Folder:
    """One folder: `prefix` is "" or ends with a slash; files and folders are sorted as paths are.

    `repeated` are links to files that are part of the data set by another name, `left_out` the names that are
    no content.
    """

    place: str
    prefix: str
    files: list[File]
    folders: list[str]
    repeated: frozenset[str] = frozenset()
    left_out: tuple[str, ...] = ()

    def path(self, name: str) -> str:
        """Where a file is on disk."""
        return f"{self.place}/{name}"


def is_state(name: str) -> bool:
    """Whether a file or folder of this name is no content but some tool's own state.

    Git's, Noria's and DVC's, what a checkout of Noria that was killed left, and the folders behind the links
    of a volume of Kubernetes.
    """
    return name[0] == "." and (name in STATE or bool(PART.fullmatch(name) or _VOLUME.fullmatch(name)))


@frozen
class _Refusal:
    """What cannot be part of a data set, and what to do about it."""

    message: str
    hint: str


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

    Raises: UsageError at the end, for everything that cannot be part of a data set; Conflict if something goes
        away meanwhile.
    """
    if root.is_file():
        yield Folder(str(root.parent), "", [(root.name, *stamp_of(str(root), root.name))], [])
        return
    waiting = [(str(root), "")]
    linked: set[str] = set()
    refused: list[_Refusal] = []
    while waiting:
        place, prefix = waiting.pop()
        folder, targets = _read(place, prefix, str(root), linked, refused)
        yield folder
        waiting += [(targets.get(name) or folder.path(name), f"{prefix}{name}/") for name in reversed(folder.folders)]
    if refused:
        raise _told(refused)


def looked_at_again(folder: Folder, root: Path) -> Folder:
    """A folder of a walk as it is now. Raises: as `walk`."""
    refused: list[_Refusal] = []
    found, _ = _read(folder.place, folder.prefix, str(root), set(), refused)
    if refused:
        raise _told(refused)
    return found


def stamp_of(place: str, name: str) -> tuple[int, int, int, int]:
    """(size, mtime_ns, ctime_ns, inode) of a regular file. Raises: Conflict if it went away; UsageError."""
    try:
        found = os.stat(place)  # noqa: PTH116  # a Path costs three times the call
    except FileNotFoundError as error:
        raise _gone(name) from error
    if not stat.S_ISREG(found.st_mode):
        irregular = _irregular(name)
        raise UsageError(irregular.message, hint=irregular.hint)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _read(
    place: str, prefix: str, root: str, linked: set[str], refused: list[_Refusal]
) -> tuple[Folder, dict[str, str]]:
    """A folder, and where its linked folders really are. What cannot be kept is left out and told to `refused`."""
    files: list[File] = []
    folders: list[str] = []
    targets: dict[str, str] = {}
    repeated: set[str] = set()
    left_out: list[str] = []
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                name = entry.name
                if name[0] == "." and is_state(name):
                    left_out.append(name)
                    continue
                if entry.is_file(follow_symlinks=False):
                    found = entry.stat(follow_symlinks=False)
                    files.append((name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino))
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif entry.is_symlink():
                    followed = _followed(entry.path, root, prefix + name, linked)
                    if isinstance(followed, _Refusal):
                        refused.append(followed)
                    elif followed.is_folder:
                        linked.add(followed.target)
                        folders.append(name)
                        targets[name] = followed.target
                    else:
                        files.append((name, *followed.stamp))
                        if followed.is_inside:
                            repeated.add(name)
                else:
                    refused.append(_irregular(prefix + name))
    except PermissionError:
        refused.append(_Refusal(f"the folder {printable(prefix or place)} may not be read", "check its permissions"))
    except FileNotFoundError as error:
        raise _gone(prefix or place) from error
    files.sort()
    folders.sort(key=_as_folder)
    return Folder(place, prefix, files, folders, frozenset(repeated), tuple(sorted(left_out))), targets


def _as_folder(name: str) -> str:
    return f"{name}/"


@frozen
class _Followed:
    """Where a link leads; `is_inside`: to what is part of the data set anyhow (not to what `is_state`)."""

    target: str
    is_folder: bool
    is_inside: bool
    stamp: tuple[int, int, int, int]


def _followed(link: str, root: str, name: str, linked: set[str]) -> _Followed | _Refusal:
    told = printable(name)
    try:
        target = Path(link).resolve(strict=True)
    except (OSError, RuntimeError):
        return _Refusal(f"the link {told} leads nowhere", "remove it, or mend its target")
    if not target.is_relative_to(root):
        return _Refusal(f"the link {told} leaves the folder", "copy the file in, or add the folder it is in")
    is_inside = not any(map(is_state, target.relative_to(root).parts))
    if target.is_dir():
        if is_inside or str(target) in linked:
            words = f"the link {told} leads to a folder that is already part of the data set"
            return _Refusal(words, "remove the link")
        return _Followed(str(target), True, is_inside, (0, 0, 0, 0))
    if not target.is_file():
        return _irregular(name)
    return _Followed(str(target), False, is_inside, stamp_of(str(target), name))


def _irregular(name: str) -> _Refusal:
    return _Refusal(f"{printable(name)} is not a regular file", "pipes, sockets and devices cannot be versioned")


def _told(refused: list[_Refusal]) -> UsageError:
    """Everything that was refused, in one error."""
    shown = "; ".join(each.message for each in refused[:_SHOWN])
    if len(refused) == 1:
        return UsageError(shown, hint=refused[0].hint)
    more = f"; and {counted(len(refused) - _SHOWN, 'more path')}" if len(refused) > _SHOWN else ""
    hints = "; ".join(dict.fromkeys(each.hint for each in refused))
    return UsageError(f"{len(refused)} paths cannot be part of a data set: {shown}{more}", hint=hints)


def _gone(name: str) -> Conflict:
    return Conflict(f"{printable(name)} went away while it was added", hint="run the command again")
