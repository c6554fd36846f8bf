"""The environment of a run: Python, platform, every installed distribution with its version and content.

The lock is kept in the project's state, and believed while no folder of the import path has changed;
see `installed` for what is read of the distributions.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.frozen import frozen
from noria.core.identity import JSON, Digest, canonical, digest
from noria.core.lazy import lazy
from noria.tracking import installed

if TYPE_CHECKING:
    import sysconfig

    from noria.tracking import contents
else:
    contents = lazy("noria.tracking.contents")
    sysconfig = lazy("sysconfig")

__all__ = ["Environment", "environment", "from_document", "lock"]

_FORMAT = "environment/3"


@frozen(kw_only=True)
class Environment:
    """What was installed. `packages` is distribution -> version; `roots` import name -> distribution.

    A distribution that was installed from a URL or a path has the hash of its file list after its
    version, an editable one `+editable`. `records` is distribution -> digest of its files, for all but those
    without a RECORD; of those that were installed from a folder of this machine, of what lies there now
    (`contents.py`). Modules that belong to no distribution stand there too, and in no other part. `origins`
    is where those came from that an index did not give (no passwords; no local paths). `abi` is the tag of
    compiled modules, `libc` the C library; `places` is where what is read lies, and no part of the lock.
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
    places: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

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
        python=texts["python"],
        implementation=texts["implementation"],
        system=texts["system"],
        machine=texts["machine"],
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
            return _with_contents(Environment(**document["environment"]), state)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # nothing kept yet, or by another version of this module: read it anew
    found = _read()
    installed.keep(kept, {"stamp": stamp, "environment": dataclasses.asdict(found)})
    return _with_contents(found, state)


def _with_contents(found: Environment, state: Path) -> Environment:
    """With the digests of what may be edited where it lies.

    Not of the project itself, which is named by the code of each run, nor of Noria: only who works on it has an
    editable one, and would look through its thousand files at each command.
    """
    places = {
        name: each for name, each in found.places.items() if name != "noria" and not _is_project(each, state.parent)
    }
    if not places:
        return found
    kept = state / "cache" / "contents.json"
    try:
        known = json.loads(kept.read_bytes())
    except (FileNotFoundError, ValueError):
        known = {}  # nothing read yet
    told = {name: list(each) for name, each in contents.contents(places, known).items()}
    if told != known:
        installed.keep(kept, told)
    return dataclasses.replace(found, records={**found.records, **{name: each[1] for name, each in told.items()}})


def _is_project(places: Sequence[str], root: Path) -> bool:
    return any(os.path.realpath(each) in (os.path.realpath(root), os.path.realpath(root / "src")) for each in places)


def lock(state: Path) -> dict[str, JSON]:
    """The environment's lock as JSON, from the kept copy where it still holds."""
    return environment(state).document()


def _stamp() -> list[list[JSON]]:
    found: list[list[JSON]] = [[_FORMAT, sys.version, sys.prefix, *_system()]]
    return found + [[folder, stamp] for folder in sys.path if (stamp := installed.stamp_of(folder))]


def _system() -> list[str]:
    """Which system this is. `platform.platform` would start a program to learn of the processor."""
    told = os.uname()
    return [told.sysname, told.release, told.version, told.machine]


def _read() -> Environment:
    packages: dict[str, str] = {}
    roots: dict[str, str] = {}
    records: dict[str, str] = {}
    origins: dict[str, str] = {}
    places: dict[str, Sequence[str]] = {}
    for folder in sys.path:
        for found in installed.in_folder(folder):
            if found.name in packages or found.name in places:
                continue  # the first on the path is the one that is imported
            if found.places:
                places[found.name] = list(found.places)  # as JSON gives them back
            if not found.version:
                continue  # a module of no distribution
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
        places=places,
    )
