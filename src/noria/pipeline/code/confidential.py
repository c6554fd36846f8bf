"""What looks like a secret, by its name or by itself, so that nothing of it is kept for people to read."""

from __future__ import annotations

import functools
import os
import re

__all__ = ["HIDDEN", "has_secret_name", "without_secrets"]

HIDDEN = "<looks like a secret, not kept>"
LEAST = 6
"""Values of variables that are shorter are ordinary words too."""

_WORDS = (
    r"password|passwd|passphrase|pwd|secret|credential|bearer|token(?!i[sz])|cookie|(?<![a-z])dsn(?![a-z])"
    r"|(?:api|access|private|auth|signing|encryption|account)[_-]?key|connection[_-]?string"
)
_NAME = re.compile(_WORDS, re.IGNORECASE)
_OF_NUMBERS = re.compile(r"token(?!i[sz])", re.IGNORECASE)
"""What is also said of numbers that are none: a model's greatest number of tokens."""
_FOLDERS = frozenset({"PWD", "OLDPWD"})
_ASSIGNED = (
    rf"((?:{_WORDS})[\w-]{{0,40}}[\"']?\s*(?:[:=](?!=)|:\s*\w+\s*=)\s*)[rbfuRBFU]{{0,2}}(?:\"[^\"\n]+\"|'[^'\n]+')"
)
_BARE = r"((?:password|passwd|pwd|secret|token|api[_-]?key|accountkey)\s*=)(?![=\s\"'])[^\s;&\"',)]+"
_KNOWN = (
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bnor_[\w-]{16,}|\bhf_[A-Za-z]{20,}",
    r"\b[sr]k[-_](?:live_|test_|proj-|ant-)?[\w-]{16,}|\bxox[abeprs]-[\w-]{10,}|\bAIza[\w-]{30,}|\bpypi-[\w-]{20,}",
    r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?",
)
_IN_ADDRESS = r"(\w://[^\s/:@\"']*:)[^\s/@\"']+(?=@)"
_RANDOM = (
    r"(?<![\w+/=-])(?=[\w+/=-]*[a-z])(?=[\w+/=-]*[A-Z])(?=(?:[A-Za-z_+/=-]*\d){3})[\w+-][\w+-]*(?:/[\w+-]+){0,4}={0,2}"
)


def has_secret_name(name: str, value: object = "") -> bool:
    """Whether what has that name is likely to be a secret: `API_KEY`, `db.password`, `accessToken`; not a count."""
    if value is None or isinstance(value, bool) or not _NAME.search(name):
        return False
    return not (isinstance(value, int | float) and _OF_NUMBERS.search(name))


def without_secrets(text: str, *, is_code: bool = False) -> str:
    """The text with `HIDDEN` for what looks like a secret.

    Literals under such names, keys of known kinds, passwords in addresses, long texts that look random, and the
    values of environment variables with such names. In code an argument that is no literal is a name only.
    """
    for value in _of_variables():
        text = text.replace(value, HIDDEN)
    for pattern, by in _patterns(is_code):
        text = pattern.sub(by, text)
    return _random().sub(lambda found: HIDDEN if len(found[0]) >= 32 else found[0], text)


@functools.cache
def _patterns(is_code: bool) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Compiled when the first text is kept: a run in which nothing is made anew needs none."""
    return (
        *((re.compile(each, re.DOTALL), HIDDEN) for each in _KNOWN),
        (re.compile(_IN_ADDRESS), rf"\1{HIDDEN}"),
        (re.compile(_ASSIGNED, re.IGNORECASE), rf"\1{HIDDEN}"),
        *(() if is_code else ((re.compile(_BARE, re.IGNORECASE), rf"\1{HIDDEN}"),)),
    )


@functools.cache
def _random() -> re.Pattern[str]:
    return re.compile(_RANDOM)


def _of_variables() -> list[str]:
    named = ((name, value) for name, value in os.environ.items() if name not in _FOLDERS and has_secret_name(name))
    return sorted({value for _, value in named if len(value) >= LEAST}, key=len, reverse=True)
