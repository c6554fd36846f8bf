"""Pins: `noria.lock/NAME.toml` says which version of a data set the project stands on.

One small file for each data set and one line for each field, so that a change of data is a small
difference in Git and two branches that change different data never conflict. Written atomically
under a lock of its own: of two processes, the newer version stays.
"""

from __future__ import annotations

import fcntl
import json
import os
import tomllib
import uuid
from pathlib import Path

from noria.core.errors import ConfigError
from noria.data import records
from noria.data.records import DatasetVersion
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

__all__ = ["pin", "pinned"]

_FIELDS = ("name", "version", "tree", "rows", "size_bytes", "files", "key", "time", "label", "time_min", "time_max")


def pin(ws: Workspace, version: DatasetVersion, *, is_new: bool = False) -> Path:
    """Write the pin of a version; a new version gives way to a newer one that another process added."""
    folder = ws.project.root / "noria.lock"
    guard = ws.project.state / "cache" / f"pin-{version.name}.lock"
    target = folder / f"{version.name}.toml"
    with disk_faults(target):
        folder.mkdir(exist_ok=True)
        guard.parent.mkdir(parents=True, exist_ok=True)
        with guard.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            if is_new:
                with ws.ledger.read() as tx:
                    version = records.newest(tx, version.name) or version
            content = _text(version)
            if target.is_file() and target.read_text(encoding="utf-8") == content:
                return target
            part = folder / f".{version.name}.{uuid.uuid4().hex}.part"
            with part.open("w", encoding="utf-8") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(target)
    return target


def pinned(root: Path, name: str) -> str:
    """The tree that a project's pin names, or "" without a pin. Raises: ConfigError for a broken file."""
    path = root / "noria.lock" / f"{name}.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the pin is not valid TOML: {error}", where=str(path), hint="noria data add again"
        ) from error
    tree = document.get("tree")
    if not isinstance(tree, str):
        raise ConfigError("the pin names no tree", where=str(path), hint="add the data again")
    return tree


def _text(version: DatasetVersion) -> str:
    lines = ["# Written by `noria data add`: the version of this data set that the project stands on."]
    lines += [f"{field} = {json.dumps(getattr(version, field), ensure_ascii=False)}" for field in _FIELDS]
    return "\n".join(lines) + "\n"
