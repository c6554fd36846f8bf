"""Where each key of a TOML file stands: for errors that name the line, and for edits that keep the rest.

The standard library reads TOML but forgets the lines. A key may be dotted or quoted and a value may
run over many lines; `tomllib` itself says where a statement ends, so nothing is parsed twice in two
ways.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from noria.core.frozen import frozen

__all__ = ["Place", "line_of", "places"]

Path = tuple[str | int, ...]


@frozen
class Place:
    """The lines of a statement: from `first` to before `end`, counted from 0. `is_table` for a header."""

    first: int
    end: int
    is_table: bool = False


def places(text: str) -> dict[Path, Place]:
    """Every table header and key of a valid TOML file; in `[[rows]]` the second part of a path is a number."""
    found: dict[Path, Place] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for first, end, statement in _statements(text.split("\n")):
        if statement.lstrip().startswith("["):
            name = _nested(tomllib.loads(statement))
            table = _numbered(name, counts, is_list=statement.lstrip().startswith("[["))
            found.setdefault(table, Place(first, end, is_table=True))
        else:
            for path in _leaves(tomllib.loads(statement)):
                found[(*table, *path)] = Place(first, end)
    return found


def line_of(found: Mapping[Path, Place], path: Path) -> int:
    """The line of a key, from 1; of the nearest table above it if the key is not there; 0 if nothing is."""
    while path:
        if path in found:
            return found[path].first + 1
        path = path[:-1]
    return 0


def _statements(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        if not line or line.startswith("#"):
            at += 1
            continue
        end = at + 1
        while end < len(lines) and not _is_whole("\n".join(lines[at:end])):
            end += 1
        yield at, end, "\n".join(lines[at:end])
        at = end


def _is_whole(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _nested(document: Any) -> Path:
    """The path that a header alone makes: `[columns."a b"]` is {"columns": {"a b": {}}}."""
    path: list[str] = []
    while document:
        if isinstance(document, list):
            document = document[0]
            continue
        key = next(iter(document))
        path.append(key)
        document = document[key]
    return tuple(path)


def _numbered(name: Path, counts: dict[Path, int], *, is_list: bool) -> Path:
    if is_list:
        counts[name] = counts.get(name, -1) + 1
        return (*name, counts[name])
    for size in range(len(name), 0, -1):
        if name[:size] in counts:
            return (*name[:size], counts[name[:size]], *name[size:])
    return name


def _leaves(document: Any) -> Iterator[Path]:
    """Every path of a statement: `a.b = 1` has one, an inline table one for itself and for each key."""
    for key, value in document.items():
        yield (key,)
        if isinstance(value, Mapping):
            for rest in _leaves(value):
                yield (key, *rest)
