"""What can happen to scripts."""

from __future__ import annotations

from collections.abc import Mapping

from noria.core.fact import fact
from noria.core.identity import JSON

__all__ = ["FACTS", "ScriptCaptured"]


@fact("script.captured", subject="run/{run}")
class ScriptCaptured:
    """A script or notebook was run as it is, and this is what it did.

    `command` is what was run, `exit_code` its own (negative: the signal that ended it). `document` is the
    digest of the whole record; `read` and `written` those of the trees of the files that it read, as they
    were when it read them, and of those that it left. `params` are the parameters of what it fitted.
    """

    run: str
    script: str
    command: tuple[str, ...]
    exit_code: int
    document: str
    read: str
    written: str
    params: Mapping[str, JSON]


FACTS = (ScriptCaptured,)
