"""What a step was seen to read, as plain values: what a watch (`watch.py`) gives and later lookups (`reads.py`) ask."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.pipeline.watching.digests import Stamp, absolute

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = lazy("tempfile")

__all__ = ["EVERY", "EVERY_SETTING", "Trace", "is_of_process", "temporary", "trace_from", "variable_digest"]

EVERY = "*"
"""Stands for the names of all variables, where the project's code goes through them."""
EVERY_SETTING = "**"
"""The same, where a library does, but for those that are about a process, a terminal or a machine."""
_OF_PROCESSES = ("_", "SHLVL", "PWD", "OLDPWD", "LINES", "COLUMNS", "NORIA_", "KMP_", "OMP_", "LOKY_", "RAY_")
"""How variables begin that a shell or a library sets for its own process: they are not the same in the next one."""
_OF_SESSIONS = frozenset(
    {"TERM", "COLORTERM", "TMUX", "TMUX_PANE", "STY", "WINDOWID", "DISPLAY", "LS_COLORS", "PS1", "NO_COLOR"}
    | {"FORCE_COLOR", "PATH", "HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "TMPDIR", "TMP", "TEMP", "MAIL"}
    | {"EDITOR", "PAGER", "VIRTUAL_ENV", "PWD", "OLDPWD", "LINES", "COLUMNS", "SHLVL", "HISTFILE", "LESS", "VISUAL"}
)
_OF_SESSIONS_BEGIN = (
    *("_", "NORIA_", "KMP_", "OMP_", "LOKY_", "RAY_", "PYTHON", "CONDA_", "JPY_", "OPENBLAS_", "MKL_", "NUMEXPR_"),
    *("VECLIB_", "BLIS_", "JOBLIB_", "TERM_", "VTE_", "SSH_", "XDG_", "DBUS_", "GPG_", "WAYLAND_", "VSCODE_"),
    *("ITERM_", "GNOME_", "PYTEST_", "XDIST_"),
)
"""Variables that tell where and for whom a program runs, and how they begin: libraries ask for these of themselves."""


@frozen(kw_only=True)
class Trace:
    """What one step was seen to do; plain values, so that a worker can send it home.

    `files` has (path, stamp when it was opened, None if it was not there), `folders` those that were listed with
    their time then, `searched` those that were gone through for one of the `patterns`, `modules` what was imported
    by name, `code` (file, qualified name, first line) of project code that ran, `variables` (name, sha-256 of the
    value), `stats` (path, whether it was "there", or looked at as a "stat", for "access", for an "xattr" or as a
    "link"), `made` the files that it wrote anew with their stamps at its end, `removed` those that it took away,
    `asked` what of its surroundings it asked for, `lookups` what of the import system and the process, `names` which
    names of modules a library looked up by its caller's frame (module:name; `EVERY` where that cannot be told),
    `notes` what cannot be checked later, `unseen` what the step did that reads out of sight; `blind` says why code
    could not be watched.
    """

    files: tuple[tuple[str, Stamp | None], ...] = ()
    folders: tuple[tuple[str, int], ...] = ()
    searched: tuple[tuple[str, int], ...] = ()
    patterns: tuple[tuple[str, str, str], ...] = ()
    modules: tuple[str, ...] = ()
    code: tuple[tuple[str, str, int], ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    asked: tuple[str, ...] = ()
    lookups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    stats: tuple[tuple[str, str], ...] = ()
    made: tuple[tuple[str, Stamp], ...] = ()
    removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    blind: str = ""
    began_ns: int = 0

    def document(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def trace_from(document: Mapping[str, Any]) -> Trace:
    """The trace of `Trace.document` after a way through JSON."""
    lists = ("modules", "asked", "notes")
    return Trace(
        files=tuple((name, None if stamp is None else tuple(stamp)) for name, stamp in document["files"]),
        code=tuple((file, name, line) for file, name, line in document["code"]),
        folders=tuple((name, int(changed)) for name, changed in document["folders"]),
        searched=tuple((name, int(changed)) for name, changed in document.get("searched", ())),
        patterns=tuple((how, pattern, folder) for how, pattern, folder in document.get("patterns", ())),
        variables=tuple((name, value) for name, value in document["variables"]),
        stats=tuple((name, what) for name, what in document["stats"]),
        made=tuple((name, tuple(stamp)) for name, stamp in document.get("made", ())),
        removed=tuple(document.get("removed", ())),
        unseen=tuple(document.get("unseen", ())),
        lookups=tuple(document.get("lookups", ())),
        names=tuple(document.get("names", ())),
        blind=document["blind"],
        began_ns=document["began_ns"],
        **{name: tuple(document[name]) for name in lists},
    )


def is_of_process(name: str) -> bool:
    """Whether a variable is about a process, a terminal or a machine, and not about what a project computes."""
    return name in _OF_SESSIONS or name.startswith(_OF_SESSIONS_BEGIN)


def variable_digest(name: str, environ: Any = os.environ) -> str:
    """The sha-256 of a variable's value, or of its absence; of `EVERY`, which variables there are."""
    data = vars(environ)["_data"]
    if name in (EVERY, EVERY_SETTING):
        names = sorted(map(os.fsdecode, data))
        if name == EVERY:
            names = [each for each in names if not each.startswith(_OF_PROCESSES)]
        else:
            names = [each for each in names if not is_of_process(each)]
        return hashlib.sha256(repr(names).encode()).hexdigest()
    found = data.get(os.fsencode(name))
    return hashlib.sha256(repr(None if found is None else os.fsdecode(found)).encode()).hexdigest()


def temporary() -> tuple[str, ...]:
    """Folders of temporary files."""
    return (absolute(tempfile.gettempdir()) + os.sep,)
