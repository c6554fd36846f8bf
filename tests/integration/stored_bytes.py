"""Damage to what is stored, as a bad disk does it: the integration tests that need it import it by name."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["damaged"]


def damaged(folder: Path, content: bytes, instead: bytes) -> Path:
    """Overwrite the first place below a folder where some bytes are stored; gives the file."""
    assert len(content) == len(instead)
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        at = path.read_bytes().find(content)
        if at >= 0:
            path.chmod(0o644)
            handle = os.open(path, os.O_WRONLY)
            os.pwrite(handle, instead, at)
            os.close(handle)
            return path
    raise AssertionError(f"{content[:40]!r} is not stored under {folder}")
