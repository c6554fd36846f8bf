"""Inferring again: what is new, against what was inferred last and what a person made of it.

Three texts are compared key by key: the one inferred last (base), the project's own (mine) and the
one inferred now (theirs). A key that a person changed, added or removed stays as it is, always; a
key that nobody touched follows. Edits are made line by line, so comments and order stay.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from noria.checks.suites.places import Place, places
from noria.checks.suites.suitefile import bare, toml
from noria.core.errors import Conflict
from noria.core.frozen import frozen

__all__ = ["Change", "changes", "merged"]

Path = tuple[str, ...]


@frozen(kw_only=True)
class Change:
    """One key that is inferred otherwise now. Values are as TOML writes them, "" if there is none.

    `is_kept` says that a person edited the key: it stays as it is.
    """

    key: str
    before: str
    yours: str
    now: str
    is_kept: bool
    path: Path


def changes(base: str, mine: str, theirs: str) -> list[Change]:
    """What inferring again would change; `base` is "" if it was not kept."""
    old, own, new = (_flat(tomllib.loads(text)) for text in (base, mine, theirs))
    sections = {path[:-1] for path in own}
    found = []
    for path in dict.fromkeys((*new, *old)):
        was, yours, now = old.get(path), own.get(path), new.get(path)
        if now in (was, yours) and (base or now == yours):
            continue
        is_gone = path[:-1] not in sections and any(each[:-1] == path[:-1] for each in old)
        is_kept = (yours != was or is_gone) if base else path[:-1] in sections
        found.append(
            Change(
                key=".".join(bare(part) for part in path),
                before=was or "",
                yours=yours or "",
                now=now or "",
                is_kept=is_kept,
                path=path,
            )
        )
    return found


def merged(mine: str, taken: Sequence[Change]) -> str:
    """The project's text with the changes that are not kept.

    Raises: Conflict if the file is written in a way that cannot be edited line by line.
    """
    wanted = [change for change in taken if not change.is_kept]
    lines = mine.rstrip("\n").split("\n")
    found = places(mine)
    edits: list[tuple[int, int, list[str]]] = []
    added: dict[Path, list[str]] = {}
    for change in wanted:
        place = found.get(change.path)
        line = f"{bare(change.path[-1])} = {change.now}"
        if place is not None:
            edits.append((place.first, place.end, [line + _comment(lines, place)] if change.now else []))
        elif change.now:
            added.setdefault(change.path[:-1], []).append(line)
    tail: list[str] = []
    for section, new in added.items():
        end = _end_of(section, found)
        if end is not None:
            edits.append((end, end, new))
        else:
            header = "[" + ".".join(bare(part) for part in section) + "]"
            tail += ["", header, *new]
    ordered = sorted(enumerate(edits), key=lambda edit: (edit[1][0], edit[1][1], edit[0]), reverse=True)
    for _, (first, end, new) in ordered:  # from the last line up, so that no edit moves the next one
        lines[first:end] = new
    text = "\n".join(_without_empty(lines + tail, wanted)) + "\n"
    _verify(mine, text, wanted)
    return text


def _flat(document: Mapping[str, Any], above: Path = ()) -> dict[Path, str]:
    """Every value by its path, as TOML text; lists of tables are a person's own and are left out."""
    found: dict[Path, str] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            found |= _flat(value, (*above, key))
        elif not (isinstance(value, list) and value and isinstance(value[0], Mapping)):
            found[(*above, key)] = _text(value)
    return found


def _text(value: Any) -> str:
    return toml(tuple(_plain(item) for item in value)) if isinstance(value, list) else toml(_plain(value))


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else value


def _comment(lines: list[str], place: Place) -> str:
    """The comment behind a value on one line, so that it stays."""
    if place.end - place.first != 1:
        return ""
    line = lines[place.first]
    at = line.find("#")
    while at >= 0:
        try:
            if tomllib.loads(line[:at]) == tomllib.loads(line):
                return "  " + line[at:]
        except tomllib.TOMLDecodeError:
            pass  # this # stands inside a text: look for the next one
        at = line.find("#", at + 1)
    return ""


def _end_of(section: Path, found: Mapping[Any, Place]) -> int | None:
    """The line after the last key of a section; None if there is no such section."""
    ends = [place.end for path, place in found.items() if path[:-1] == section and not place.is_table]
    header = found.get(section)
    if header is not None and header.is_table:
        ends.append(header.end)
    return max(ends) if ends else (0 if not section else None)


def _without_empty(lines: list[str], wanted: Sequence[Change]) -> list[str]:
    """Headers whose every key was taken away go too."""
    found = places("\n".join(lines))
    kept = {path[: len(path) - 1] for path, place in found.items() if not place.is_table}
    gone = {change.path[:-1] for change in wanted if not change.now} - kept
    headers = [found[section].first for section in gone if section in found and found[section].is_table]
    return [line for number, line in enumerate(lines) if number not in headers]


def _verify(mine: str, text: str, wanted: Sequence[Change]) -> None:
    expected = _flat(tomllib.loads(mine))
    for change in wanted:
        if change.now:
            expected[change.path] = change.now
        else:
            expected.pop(change.path, None)
    try:
        is_right = _flat(tomllib.loads(text)) == expected
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        raise Conflict(
            f"{wanted[0].key} stands in a form that cannot be edited line by line",
            hint="write one key a line under [columns.NAME], or take the changes over by hand",
        )
