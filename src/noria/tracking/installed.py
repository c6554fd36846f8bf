"""What is installed: every distribution on the import path with its version, content, origin and import names.

The content of a distribution is named by what its RECORD says of its files, without what differs
from one installation of the same wheel to the next (compiled bytecode, scripts with the path of
their Python, notes of the installer). So equal names mean equal files, whoever installed them.

Reading the metadata of a hundred distributions costs a hundred milliseconds. What was read of a folder is kept
in the process and for the user's other projects (`noria/installed` below XDG_CACHE_HOME, `~/.cache`), and
believed while the folder has not changed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.frozen import frozen
from noria.core.identity import Digest, digest
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import csv
    import tempfile
    from importlib import metadata
    from urllib import parse

    from noria.tracking import contents
else:
    csv = lazy("csv")
    metadata = lazy("importlib.metadata")
    tempfile = lazy("tempfile")
    parse = lazy("urllib.parse")
    contents = lazy("noria.tracking.contents")

__all__ = ["Installed", "in_folder", "installed", "keep", "recorded_files", "stamp_of"]

_FORMAT = "installed/2"
_KEPT = 32
"""So many folders are remembered, those that were read last: environments come and go."""
_PERSONAL = frozenset({"INSTALLER", "REQUESTED", "RECORD", "RECORD.jws", "RECORD.p7s", "direct_url.json"})
"""Files of a dist-info folder that say how it was installed, not what."""


def stamp_of(folder: str) -> str:
    """When a folder that distributions are installed into, and the notes of each, were changed; "" for any other.

    The folder's own time is not enough: installers write RECORD and `direct_url.json` when all else is there,
    and images and copies of environments come with times that were set.
    """
    if not folder.endswith(("site-packages", "dist-packages", ".egg-info")):
        return ""
    try:
        with os.scandir(folder) as found:
            notes = sorted(
                (each.name, each.stat().st_mtime_ns)
                for each in found
                if each.name.endswith((".dist-info", ".egg-info"))
            )
        changed = Path(folder).stat().st_mtime_ns
    except OSError:
        return ""
    # as text: nanoseconds are beyond the integers that JSON says exactly
    return hashlib.sha256(repr((changed, notes)).encode()).hexdigest()[:32]


def installed(paths: Sequence[str] | None = None) -> Iterator[tuple[str, metadata.Distribution]]:
    """Every distribution in folders (the import path by default) by its normal name; of several, the one imported."""
    seen = set()
    found = metadata.distributions() if paths is None else metadata.distributions(path=list(paths))
    for each in found:
        name = _header(each, "Name").lower().replace("_", "-").replace(".", "-")
        if name and name not in seen:  # the first on the path is the one that is imported
            seen.add(name)
            yield name, each


def recorded_files(found: metadata.Distribution) -> list[tuple[str, str]]:
    """(path, `sha256=…`) of every file that a distribution's RECORD answers for, sorted.

    Paths are relative to the folder it is installed in. What differs between installations of the
    same wheel is left out.
    """
    return _recorded(csv.reader((found.read_text("RECORD") or "").splitlines()))


def _recorded(record: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    """What `recorded_files` gives, of the rows of a RECORD."""
    rows = []
    for row in record:
        if len(row) < 2 or not row[1] or row[0].startswith("..") or row[0].startswith("/"):
            continue
        folder, _, file = row[0].rpartition("/")
        is_note = folder.endswith(".dist-info") and (file in _PERSONAL or file.startswith("uv_"))
        if not is_note and not file.endswith(".pyc"):
            rows.append((row[0], row[1]))
    return sorted(rows)


def _header(found: metadata.Distribution, name: str) -> str:
    """A field of the head of a distribution's metadata. Parsing all of it, with the README, costs ten times as much."""
    text = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    said = re.search(rf"^{name}:[ \t]*(.*?)[ \t]*$", text.partition("\n\n")[0], re.IGNORECASE | re.MULTILINE)
    return said.group(1) if said else ""


@frozen(kw_only=True)
class Installed:
    """What an environment's lock says of one distribution; "" for an origin or a record that it has not.

    `places` is where its code lies, of one that was installed from a folder of this machine: it may be edited there,
    so its content is read (`contents.py`). A module that belongs to no distribution has no version.
    """

    name: str
    version: str
    origin: str
    record: str
    roots: tuple[str, ...]
    places: tuple[str, ...] = ()


def in_folder(folder: str) -> tuple[Installed, ...]:
    """The distributions in a folder of the import path. One that they are installed into is read when it changed."""
    stamp = stamp_of(folder)
    return _remembered(folder, stamp) if stamp else _read(folder)


@functools.lru_cache(maxsize=8)
def _remembered(folder: str, stamp: str) -> tuple[Installed, ...]:
    kept = _place(folder)
    try:
        document = json.loads(kept.read_bytes())
        if (document["format"], document["folder"], document["stamp"]) == (_FORMAT, folder, stamp):
            return tuple(
                Installed(**{**each, "roots": tuple(each["roots"]), "places": tuple(each["places"])})
                for each in document["found"]
            )
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing kept yet, not ours to read, or by another version of this module: read it anew
    found = _read(folder)
    told = {"format": _FORMAT, "folder": folder, "stamp": stamp, "found": [asdict(each) for each in found]}
    with contextlib.suppress(OSError):  # a home that cannot be written: the next project reads it again
        keep(kept, told)
        _forget_old(kept.parent)
    return found


def _place(folder: str) -> Path:
    """Where what was read of a folder is remembered."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(cache) if cache.startswith("/") else Path(os.path.expanduser("~")) / ".cache"  # noqa: PTH111  # Path.home raises where there is none
    return home / "noria" / "installed" / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]}.json"


def _forget_old(folder: Path) -> None:
    files = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for file in files[_KEPT:]:
        file.unlink(missing_ok=True)


def keep(path: Path, document: Any) -> None:
    """Write JSON beside its place and move it there. Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem[:12]}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(folder: str) -> tuple[Installed, ...]:
    made = []
    claimed: set[str] = set()
    for name, found in installed([folder]):
        url = json.loads(found.read_text("direct_url.json") or "null")
        rows = list(csv.reader((found.read_text("RECORD") or "").splitlines()))
        files = [] if _is_editable(url) else _recorded(rows)
        roots = _roots(found, rows)
        claimed |= (
            {file.partition("/")[0] for file in _files_of(found, rows)} | roots | {f"{each}.py" for each in roots}
        )
        source = _source(url)
        made.append(
            Installed(
                name=name,
                version=_header(found, "Version") + _suffix(found, url),
                origin=_origin(url) if url else "",
                record=_digest(files) if files else "",
                roots=tuple(roots),
                places=tuple(_places(folder, source, roots, rows)) if source else (),
            )
        )
    if folder.endswith(("site-packages", "dist-packages")) and Path(folder).is_dir():
        for name, place in contents.unclaimed(folder, claimed).items():
            made.append(Installed(name=name, version="", origin="", record="", roots=(), places=(place,)))
    return tuple(made)


def _source(url: Mapping[str, Any] | None) -> str:
    """The folder of this machine that a distribution was installed from; "" if from anywhere else."""
    place = parse.urlsplit(str((url or {}).get("url", "")))
    return parse.unquote(place.path) if url and "dir_info" in url and place.scheme == "file" else ""


def _places(folder: str, source: str, roots: Iterable[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Where the code of a distribution lies that was installed from a folder of this machine."""
    notes = [Path(folder, row[0]) for row in rows if row and "/" not in row[0]]
    links = [each for each in notes if each.suffix == ".pth" or each.name.endswith("_finder.py")]
    here = [place for root in sorted(roots) for place in (Path(folder, root), Path(folder, f"{root}.py"))]
    there = [str(place) for place in here if place.exists() and place not in notes]
    return there or contents.editable_places(links, Path(source))


def _digest(files: Sequence[tuple[str, str]]) -> Digest:
    """The digest of the canonical bytes of pairs of texts; of texts alone Python's own encoder writes these bytes."""
    return digest(json.dumps(files, ensure_ascii=False, separators=(",", ":")).encode())


def _is_editable(url: Mapping[str, Any] | None) -> bool:
    return bool(url and url.get("dir_info", {}).get("editable"))


def _suffix(found: metadata.Distribution, url: Mapping[str, Any] | None) -> str:
    """What a version does not say of a distribution that no index gave: what it holds."""
    if not url:
        return ""
    if _is_editable(url):
        return "+editable"
    text = found.read_text("RECORD") or found.read_text("direct_url.json") or ""
    return f"+{digest(text.encode())[7:23]}"


def _origin(url: Mapping[str, Any]) -> str:
    """Where it came from, as pip takes it: `git+https://…@COMMIT`, or an archive's address; "" for a local path."""
    scheme, _, rest = str(url.get("url", "")).partition("://")
    if scheme in ("", "file"):
        return ""
    head, slash, tail = rest.partition("/")
    address = f"{scheme}://{head.rpartition('@')[2]}{slash}{tail}"
    vcs = url.get("vcs_info") or {}
    if vcs:
        return f"{vcs.get('vcs', 'git')}+{address}@{vcs.get('commit_id', '')}"
    hashes = (url.get("archive_info") or {}).get("hashes") or {}
    return address + "".join(f"#{name}={value}" for name, value in list(hashes.items())[:1])


def _files_of(found: metadata.Distribution, record: Sequence[Sequence[str]]) -> list[str]:
    return [row[0] for row in record if row] if record else [str(each) for each in found.files or ()]


def _roots(found: metadata.Distribution, record: Sequence[Sequence[str]]) -> set[str]:
    declared = (found.read_text("top_level.txt") or "").split()
    if declared:
        return set(declared)
    roots = set()
    for file in _files_of(found, record):
        head, _, rest = file.partition("/")
        if rest and not head.endswith((".dist-info", ".data")) and head != "..":
            roots.add(head)
        elif not rest and head.endswith((".py", ".so", ".pyd")):
            roots.add(head.partition(".")[0])
    return roots
