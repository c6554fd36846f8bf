"""What differs between two key documents of a step, with the lines: for `noria why`.

Only code is shown by its lines. Values of environment variables and the content of files are
compared by digest and stay unseen.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.frozen import frozen
from noria.pipeline.documents import KeyDocument

__all__ = ["Change", "changes", "with_lines"]

LINES = 12
_TEXTS = ("step ", "helper ", "class ", "module ", "import of ")
"""How the names of what is shown by its lines begin; all else is a value, which is shown whole."""


@frozen(kw_only=True)
class Change:
    """One thing that changed: `what` ("helper clean", "parameter rate", "package pandas"), `how`, and its lines.

    `how` is "changed", "is new", "is gone", or the two values. `lines` are of a unified diff, at most
    12; `hidden` counts those left out.
    """

    what: str
    how: str
    lines: tuple[str, ...] = ()
    hidden: int = 0


Reads = Sequence[tuple[str, str]]


def changes(before: KeyDocument, now: KeyDocument, reads: tuple[Reads, Reads] = ((), ())) -> list[Change]:
    """What changed from one document to the next; `reads` are the conditions of the two results."""
    old, new = before.document, now.document
    found = [_code(name, before, now) for name in _differing(_part(old, "names"), _part(new, "names"))]
    if not found and old.get("code") != new.get("code"):
        found.append(Change(what="code", how="changed in what it links, not in its text"))
    found += _values("parameter", _part(old, "params"), _part(new, "params"))
    found += [
        Change(what=f"input {name}", how="changed") for name in _differing(_part(old, "inputs"), _part(new, "inputs"))
    ]
    env_old, env_new = _part(old, "env"), _part(new, "env")
    found += _values("", {"Python": env_old.get("python")}, {"Python": env_new.get("python")})
    found += _values("package", env_old.get("packages") or {}, env_new.get("packages") or {})
    found += [
        Change(what=f"the {name}", how="changed") for name in _differing(_part(old, "ambient"), _part(new, "ambient"))
    ]
    if old.get("outputs") != new.get("outputs"):
        found.append(Change(what="its outputs or their form", how="changed"))
    first, second = (dict(each) for each in reads)
    found += [
        Change(what=what, how=_how(what, first, second)) for what in _differing(first, second) if first and second
    ]
    return found


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [name for name in dict.fromkeys([*b, *a]) if a.get(name) != b.get(name)]


def _how(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    return "is new" if name not in a else "is gone" if name not in b else "changed"


def _values(kind: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    return [
        Change(what=f"{kind} {name}".strip(), how=f"{a.get(name, 'absent')} -> {b.get(name, 'absent')}")
        for name in _differing(a, b)
    ]


def _code(name: str, before: KeyDocument, now: KeyDocument) -> Change:
    how = _how(name, _part(before.document, "names"), _part(now.document, "names"))
    old, new = before.shown.get(name, ""), now.shown.get(name, "")
    if not name.startswith(_TEXTS) and how == "changed" and old and new and old != new:
        return Change(what=name, how=f"{old} -> {new}")
    return with_lines(name, how, old, new)


def with_lines(what: str, how: str, old: str, new: str) -> Change:
    """A change of a text, with its lines."""
    lines = [
        line
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1)
        if not line.startswith(("---", "+++", "@@"))
    ]
    return Change(what=what, how=how, lines=tuple(lines[:LINES]), hidden=max(0, len(lines) - LINES))
