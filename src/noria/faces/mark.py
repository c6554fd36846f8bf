"""What a person compares before a command line is let act as them: the same eight letters on page and terminal."""

from __future__ import annotations

import hashlib

__all__ = ["mark"]


def mark(state: str, challenge: str) -> str:
    """Eight hexadecimal digits that follow from a login of a command line, such as "3F9A-01C2"."""
    digits = hashlib.sha256(f"mark\n{state}\n{challenge}".encode()).hexdigest()[:8].upper()
    return f"{digits[:4]}-{digits[4:]}"
