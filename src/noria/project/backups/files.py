"""The files of a project's state, copied while processes write to them.

All is taken but what can be made anew, what only says who is at work, and what other parts of a backup hold. Logs
are only appended to, so a copy is the beginning of the file; it is cut behind its last whole line. Files go away when
a fact has taken in what they held. So files are copied before the ledger is, and those that went meanwhile are
left out: what they held is in the ledger then. A file that went after that is in both, as after a kill between the
two; whoever seals or sends it next finds the fact.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from noria.store.disk import BLOCK_BYTES, disk_faults, sync_files, sync_folder

__all__ = ["KEYS", "copy_keys", "copy_state", "digests_in"]

KEYS = ("key", "secrets.key")
SKIPPED = frozenset(
    {
        "attempts",
        "cache",
        "flights",
        "leases",
        "locks",
        "objects",
        "quarantine",
        "ray",
        "seen",
        "up.json",
        "up.lock",
        "up.tmp",
        *KEYS,
    }
)
"""Names in `.noria` that are not copied: caches, locks, notes of living processes, and what is kept elsewhere."""
PASSES = 2
_LEDGER = "ledger.db"
_MENTIONING = ("incoming", "recording", "runs", "uploads")
"""Where a file may name objects that no fact names yet."""
_FRAMED = re.compile(rb"[0-9a-f]{8} ")
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_DIGEST_BYTES = 71


def copy_state(state: Path, to: Path, without: Collection[Path] = ()) -> list[str]:
    """Copy a state into a new folder; gives the paths of the files, all on disk.

    Args:
        without: files and folders that are kept in another way.
    Raises: StoreFull; StoreUnavailable.
    """
    known: dict[str, tuple[int, int, int]] = {}
    with disk_faults(to):
        to.mkdir(mode=0o700)
        for _ in range(PASSES):
            found = dict(_walk(state, "", set(without)))
            for name in known.keys() - found.keys():
                (to / name).unlink(missing_ok=True)
                del known[name]
            changed = [name for name, stamp in found.items() if known.get(name) != stamp]
            # The names of metrics are written before the points that use them, so they are copied after those.
            for name in sorted(changed, key=lambda name: (name.endswith(".names"), name)):
                if _copy(state / name, to / name):
                    known[name] = found[name]
                else:
                    known.pop(name, None)
        if known:
            sync_files([to / name for name in known])
        sync_folder(to)
    return sorted(known)


def copy_keys(state: Path, to: Path) -> list[str]:
    """Copy the keys that there are, for their owner's eyes only; gives their names."""
    with disk_faults(to):
        to.mkdir(mode=0o700)
        found = [name for name in KEYS if (state / name).is_file()]
        for name in found:
            handle = os.open(to / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as sink:
                sink.write((state / name).read_bytes())
                sink.flush()
                os.fsync(sink.fileno())
        sync_folder(to)
    return found


def digests_in(folder: Path, names: Collection[str]) -> set[str]:
    """The digests that copied files mention which hold what is not in the ledger yet."""
    found: set[bytes] = set()
    for name in names:
        if name.split("/")[0] in _MENTIONING:
            rest = b""
            with disk_faults(folder / name), (folder / name).open("rb") as stream:
                while block := stream.read(BLOCK_BYTES):
                    found.update(_DIGEST.findall(rest + block))
                    rest = (rest + block)[1 - _DIGEST_BYTES :]
    return {each.decode("ascii") for each in found}


def _walk(folder: Path, prefix: str, without: set[Path]) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """(path, stamp) of the regular files to copy. What goes away meanwhile is left out."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        is_kept_elsewhere = not prefix and (entry.name in SKIPPED or entry.name.startswith(_LEDGER))
        if is_kept_elsewhere or Path(entry.path) in without:
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", without)
        elif stat.S_ISREG(status.st_mode):
            yield f"{prefix}{entry.name}", (status.st_size, status.st_mtime_ns, status.st_ino)


def _copy(source: Path, to: Path) -> bool:
    """Copy a file as far as it goes now; False if it is gone."""
    try:
        with source.open("rb") as stream:
            to.parent.mkdir(parents=True, exist_ok=True)
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            with to.open("wb") as sink:
                shutil.copyfileobj(stream, sink, BLOCK_BYTES)
            to.chmod(mode | stat.S_IWUSR)
    except FileNotFoundError:
        return False
    _cut(to)
    return True


def _cut(path: Path) -> None:
    """Leave whole lines only in a log of framed lines (linelog.py): a copy may have ended within one."""
    with path.open("r+b") as stream:
        if not _FRAMED.match(stream.read(9)):
            return
        end = size = stream.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - BLOCK_BYTES)
            stream.seek(start)
            found = stream.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end != size:
            stream.truncate(end)
