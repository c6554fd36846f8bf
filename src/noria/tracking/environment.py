"""The environment of a run: Python, platform, every installed distribution with its version.

Reading the metadata of a hundred distributions costs tens of milliseconds, so the result is kept
in the project's state and believed while no folder of the import path has changed.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from noria.core.identity import JSON, Digest, canonical, digest

__all__ = ["Environment", "environment", "lock"]

_FORMAT = "environment/1"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What was installed. `packages` is distribution -> version; `roots` import name -> distribution.

    A distribution that was installed from a URL or a path has the URL, and the hash of its file
    list, after its version.
    """

    python: str
    implementation: str
    system: str
    machine: str
    packages: Mapping[str, str]
    roots: Mapping[str, str]

    def document(self) -> dict[str, JSON]:
        """The lock as JSON: what is stored and recorded with each run."""
        return {
            "format": _FORMAT,
            "python": self.python,
            "implementation": self.implementation,
            "system": self.system,
            "machine": self.machine,
            "packages": dict(sorted(self.packages.items())),
        }

    def digest(self) -> Digest:
        """The name of the lock: that of its canonical bytes, which are also its object."""
        return digest(canonical(self.document()))

    def version_of(self, root: str) -> tuple[str, str]:
        """Distribution and version of an import name; the name itself and "" if nobody claims it."""
        name = self.roots.get(root, root)
        return name, self.packages.get(name, "")


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
    found: list[list[JSON]] = [[_FORMAT, sys.version, sys.prefix, platform.platform()]]
    for folder in sys.path:
        try:
            status = Path(folder or ".").stat()
        except OSError:
            continue
        if folder.endswith(("site-packages", "dist-packages", ".egg-info")):
            # as text: nanoseconds are beyond the integers that JSON says exactly
            found.append([folder, str(status.st_mtime_ns)])
    return found


def _read() -> Environment:
    packages: dict[str, str] = {}
    roots: dict[str, str] = {}
    for found in importlib.metadata.distributions():
        name = (found.metadata["Name"] or "").lower().replace("_", "-")
        if not name or name in packages:  # the first on the path is the one that is imported
            continue
        packages[name] = (found.version or "") + _origin(found)
        for root in _roots(found):
            roots.setdefault(root, name)
    return Environment(
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        system=platform.system(),
        machine=platform.machine(),
        packages=packages,
        roots=roots,
    )


def _origin(found: importlib.metadata.Distribution) -> str:
    """Where a distribution came from if not from an index, and what it holds."""
    text = found.read_text("direct_url.json")
    if not text:
        return ""
    url = json.loads(text)
    if url.get("dir_info", {}).get("editable"):
        return "+editable"
    return f"+{digest((found.read_text('RECORD') or text).encode())[7:23]}"


def _roots(found: importlib.metadata.Distribution) -> set[str]:
    declared = (found.read_text("top_level.txt") or "").split()
    if declared:
        return set(declared)
    roots = set()
    for file in found.files or ():
        head, _, rest = str(file).partition("/")
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
