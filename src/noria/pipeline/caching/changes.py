"""What differs between two key documents of a step, with the lines: for `noria why`.

Code and values of many lines are shown by those that differ. Values of environment variables and the content of
files are compared by digest and stay unseen; what looks like a secret is in no document.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from noria.core.frozen import frozen
from noria.pipeline.caching.documents import KeyDocument, is_code
from noria.pipeline.code.confidential import HIDDEN

__all__ = ["Change", "changes", "with_lines"]

LINES = 12
SHORT = 100
"""Two values that are no longer are told in one line."""
WIDTH = 160
"""Of a longer line only the part that differs is shown."""
NEAR = 40
_HASHED = ("annotations ", "environment ", "file ", "import of any module")
"""Links that lead to what is known by its hash alone."""


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
        found += _links(before, now) or [Change(what="code", how="changed in what it links, not in its text")]
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


def _links(before: KeyDocument, now: KeyDocument) -> list[Change]:
    """Where each text is what it was: the names in them that lead to something else, with the lines that say so."""
    old, new = _part(before.document, "links"), _part(now.document, "links")
    found = []
    for label in _differing(old, new) if old and new else ():
        was, now_is = _part(old, label), _part(new, label)
        for name in _differing(was, now_is):
            first, second = str(was.get(name, "")), str(now_is.get(name, ""))
            is_told = first and second and "value:" not in first + second and not name.startswith(_HASHED)
            how = f"{first} -> {second}" if is_told else _how(name, was, now_is)
            of = name.removeprefix("annotations ")
            owner = of if of in now.shown else label
            told = with_lines("", "", before.shown.get(owner, ""), now.shown.get(owner, ""))
            what = f"annotations of {of}" if of != name else f"{name} in {label}"
            change = Change(what=what, how=how, lines=told.lines, hidden=told.hidden)
            found += [change] if change not in found else []
    with_words = [each for each in found if each.lines or each.how not in ("changed", "is new", "is gone")]
    return with_words or found


def _values(kind: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    return [
        Change(what=f"{kind} {name}".strip(), how=f"{a.get(name, 'absent')} -> {b.get(name, 'absent')}")
        for name in _differing(a, b)
    ]


def _code(name: str, before: KeyDocument, now: KeyDocument) -> Change:
    how = _how(name, _part(before.document, "names"), _part(now.document, "names"))
    old, new = before.shown.get(name, ""), now.shown.get(name, "")
    if how == "changed" and old == new and HIDDEN in new:
        return Change(what=name, how="changed in what looks like a secret, which is not kept")
    if not is_code(name):
        if how != "changed" or not old or not new:
            return Change(what=name, how=how)
        if "\n" not in old + new and max(len(old), len(new)) <= SHORT:
            return Change(what=name, how=how if old == new else f"{old} -> {new}")
    return with_lines(name, how, old, new)


def with_lines(what: str, how: str, old: str, new: str) -> Change:
    """A change of a text, with its lines."""
    lines = [
        line
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1)
        if not line.startswith(("---", "+++", "@@"))
    ]
    return Change(what=what, how=how, lines=tuple(_narrowed(lines[:LINES])), hidden=max(0, len(lines) - LINES))


def _narrowed(lines: list[str]) -> list[str]:
    """The lines of a diff, each short enough to read: of a long one what differs from its counterpart."""
    found = [line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in lines]
    runs = [(sign, [at for at, _ in run]) for sign, run in groupby(enumerate(lines), key=lambda each: each[1][:1])]
    for (sign, gone), (other, come) in pairwise(runs):
        if (sign, other) == ("-", "+") and len(gone) == len(come):
            for one, two in zip(gone, come, strict=True):
                if max(len(lines[one]), len(lines[two])) > WIDTH:
                    same = _shared(lines[one][1:], lines[two][1:])
                    found[one], found[two] = (_around(lines[at], max(0, same - NEAR)) for at in (one, two))
    return found


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _around(line: str, begin: int) -> str:
    rest = line[1 + begin :]
    return f"{line[0]}{'…' if begin else ''}{rest[: WIDTH - 3]}{'…' if len(rest) > WIDTH - 3 else ''}"
