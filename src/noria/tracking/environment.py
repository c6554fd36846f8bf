"""The environment of a run: Python, platform, every installed distribution with its version and content.

The content of a distribution is named by what its RECORD says of its files, without what differs
from one installation of the same wheel to the next (compiled bytecode, scripts with the path of
their Python, notes of the installer). So equal names mean equal files, whoever installed them.

Reading the metadata of a hundred distributions costs a hundred milliseconds, so the result is kept in
the process and in the project's state, and believed while no folder of the import path has changed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.frozen import frozen
from noria.core.identity import JSON, Digest, canonical, digest
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import csv
    import sysconfig
    import tempfile
    from importlib import metadata
else:
    metadata = lazy("importlib.metadata")
    csv = lazy("csv")
    tempfile = lazy("tempfile")
    sysconfig = lazy("sysconfig")

__all__ = ["Environment", "environment", "from_document", "installed", "lock", "recorded_files"]

_FORMAT = "environment/2"
_PERSONAL = frozenset({"INSTALLER", "REQUESTED", "RECORD", "RECORD.jws", "RECORD.p7s", "direct_url.json"})
"""Files of a dist-info folder that say how it was installed, not what."""


@frozen(kw_only=True)
class Environment:
    """What was installed. `packages` is distribution -> version; `roots` import name -> distribution.

    A distribution that was installed from a URL or a path has the hash of its file list after its
    version, an editable one `+editable`. `records` is distribution -> digest of its files, for all
    but editable ones and those without a RECORD; `origins` where those came from that an index did
    not give (no passwords; no local paths). `abi` is the tag of compiled modules, `libc` the C library.
    """

    python: str
    implementation: str
    system: str
    machine: str
    packages: Mapping[str, str]
    roots: Mapping[str, str]
    records: Mapping[str, str] = dataclasses.field(default_factory=dict)
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    abi: str = ""
    libc: str = ""

    def document(self) -> dict[str, JSON]:
        """The lock as JSON: what is stored and recorded with each run."""
        return {
            "format": _FORMAT,
            "python": self.python,
            "implementation": self.implementation,
            "system": self.system,
            "machine": self.machine,
            "abi": self.abi,
            "libc": self.libc,
            "packages": dict(sorted(self.packages.items())),
            "records": dict(sorted(self.records.items())),
            "origins": dict(sorted(self.origins.items())),
        }

    def digest(self) -> Digest:
        """The name of the lock: that of its canonical bytes, which are also its object."""
        return digest(canonical(self.document()))

    def version_of(self, root: str) -> tuple[str, str]:
        """Distribution and version of an import name; the name itself and "" if nobody claims it."""
        name = self.roots.get(root, root)
        return name, self.packages.get(name, "")


def from_document(document: Mapping[str, Any]) -> Environment:
    """The environment of a stored lock, of this or an older format; import names are not part of a lock."""
    texts = {name: str(document.get(name, "")) for name in ("python", "implementation", "system", "machine")}
    return Environment(
        **texts,
        packages=dict(document.get("packages", {})),
        roots={},
        records=dict(document.get("records", {})),
        origins=dict(document.get("origins", {})),
        abi=str(document.get("abi", "")),
        libc=str(document.get("libc", "")),
    )


def environment(state: Path) -> Environment:
    """The present environment; `state` is the folder (`.noria`) that the result is kept in."""
    stamp = _stamp()
    kept = state / "cache" / "environment.json"
    try:
        document = json.loads(kept.read_bytes())
        if document["stamp"] == stamp:
            return Environment(**document["environment"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # nothing kept yet, or by another version of this module: read it anew
    found = _read()
    _keep(kept, {"stamp": stamp, "environment": dataclasses.asdict(found)})
    return found


def lock(state: Path) -> dict[str, JSON]:
    """The environment's lock as JSON, from the kept copy where it still holds."""
    return environment(state).document()


def _stamp() -> list[list[JSON]]:
    found: list[list[JSON]] = [[_FORMAT, sys.version, sys.prefix, *_system()]]
    return found + [[folder, stamp] for folder in sys.path if (stamp := _stamp_of(folder))]


def _system() -> list[str]:
    """Which system this is. `platform.platform` would start a program to learn of the processor."""
    told = os.uname()
    return [told.sysname, told.release, told.version, told.machine]


def _stamp_of(folder: str) -> str:
    """When a folder that distributions are installed into was changed; "" for any other, and for none."""
    if not folder.endswith(("site-packages", "dist-packages", ".egg-info")):
        return ""
    try:
        # as text: nanoseconds are beyond the integers that JSON says exactly
        return str(Path(folder).stat().st_mtime_ns)
    except OSError:
        return ""


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


@frozen
class _Installed:
    """What an `Environment` says of one distribution; "" for an origin or a record that it has not."""

    name: str
    version: str
    origin: str
    record: str
    roots: tuple[str, ...]


def _read() -> Environment:
    packages: dict[str, str] = {}
    roots: dict[str, str] = {}
    records: dict[str, str] = {}
    origins: dict[str, str] = {}
    for folder in sys.path:
        for found in _in_folder(folder):
            if found.name in packages:
                continue  # the first on the path is the one that is imported
            packages[found.name] = found.version
            if found.origin:
                origins[found.name] = found.origin
            if found.record:
                records[found.name] = found.record
            for root in found.roots:
                roots.setdefault(root, found.name)
    return Environment(
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        system=platform.system(),
        machine=platform.machine(),
        packages=packages,
        roots=roots,
        records=records,
        origins=origins,
        abi=str(sysconfig.get_config_var("SOABI") or ""),
        libc=" ".join(platform.libc_ver()).strip(),
    )


def _in_folder(folder: str) -> tuple[_Installed, ...]:
    """The distributions in a folder of the import path. One that they are installed into is read when it changed."""
    stamp = _stamp_of(folder)
    return _installed_in(folder, stamp) if stamp else _installed_in.__wrapped__(folder, "")


@functools.lru_cache(maxsize=8)
def _installed_in(folder: str, stamp: str) -> tuple[_Installed, ...]:
    made = []
    for name, found in installed([folder]):
        url = json.loads(found.read_text("direct_url.json") or "null")
        rows = list(csv.reader((found.read_text("RECORD") or "").splitlines()))
        files = [] if _is_editable(url) else _recorded(rows)
        made.append(
            _Installed(
                name=name,
                version=_header(found, "Version") + _suffix(found, url),
                origin=_origin(url) if url else "",
                record=_digest(files) if files else "",
                roots=tuple(_roots(found, rows)),
            )
        )
    return tuple(made)


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


def _roots(found: metadata.Distribution, record: Sequence[Sequence[str]]) -> set[str]:
    declared = (found.read_text("top_level.txt") or "").split()
    if declared:
        return set(declared)
    roots = set()
    for file in (row[0] for row in record if row) if record else map(str, found.files or ()):
        head, _, rest = file.partition("/")
        if rest and not head.endswith((".dist-info", ".data")) and head != "..":
            roots.add(head)
        elif not rest and head.endswith((".py", ".so", ".pyd")):
            roots.add(head.partition(".")[0])
    return roots


def _keep(path: Path, document: JSON) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix="environment-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(document, file)
    Path(name).replace(path)
