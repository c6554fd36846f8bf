"""Three versions of a text table become one, row by row by a key, and no row that stands is written anew.

A row is its bytes: what neither side changed keeps its quoting, its spaces and its number format. A
row that one side changed, added or removed is as that side says; one that both changed differently
is a conflict, named by its key. The order is ours; a row that theirs added follows the row that it
follows there.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from noria.core.frozen import frozen

__all__ = ["MergedLines", "NotMergeable", "merge_lines"]


class NotMergeable(Exception):
    """The files cannot be merged by row; the text says why."""


@frozen
class MergedLines:
    """The merged file, its rows, and the keys of rows that both sides changed; there `content` has ours."""

    content: bytes
    rows: int
    conflicts: tuple[str, ...]


@frozen
class _Rows:
    head: bytes
    rows: Mapping[str, bytes]


def merge_lines(base: bytes, ours: bytes, theirs: bytes, key: Sequence[str], name: str) -> MergedLines:
    """Merge a CSV, TSV or JSON lines file by its key columns; `base` may be empty.

    Raises: NotMergeable for other columns on the two sides, a key that is missing, or one that is not unique.
    """
    read = _json_rows if name.lower().endswith((".jsonl", ".ndjson")) else _csv_rows
    mine, other = read(ours, key, name), read(theirs, key, name)
    before = read(base, key, name) if base else _Rows(mine.head, {})
    if mine.head != other.head:
        raise NotMergeable("the two sides have other columns")
    kept, conflicts = _decided(before.rows, mine.rows, other.rows)
    following: dict[str, list[str]] = {}
    for above, below in pairwise(["", *other.rows]):
        if below in kept and below not in mine.rows:
            following.setdefault(above, []).append(below)
    ordered: list[str] = []
    waiting = list(reversed(["", *mine.rows]))
    while waiting:
        place = waiting.pop()
        if place in kept:
            ordered.append(place)
        waiting.extend(reversed(following.pop(place, [])))
    for rest in following.values():
        ordered.extend(rest)
    return MergedLines(mine.head + b"".join(kept[each] for each in ordered), len(ordered), tuple(conflicts))


def _decided(
    base: Mapping[str, bytes], ours: Mapping[str, bytes], theirs: Mapping[str, bytes]
) -> tuple[dict[str, bytes], list[str]]:
    kept: dict[str, bytes] = {}
    conflicts: list[str] = []
    for each in dict.fromkeys([*ours, *theirs]):
        was, mine, other = base.get(each), ours.get(each), theirs.get(each)
        found = mine if mine == other or other == was else other
        if mine not in (other, was) and other != was:
            conflicts.append(each)
            found = mine
        if found is not None:
            kept[each] = found
    return kept, conflicts


def _csv_rows(content: bytes, key: Sequence[str], name: str) -> _Rows:
    delimiter = "\t" if name.lower().endswith((".tsv", ".tab")) else ","
    records = _records(content)
    head = next(records, b"")
    columns = _cells(head, delimiter)
    places = [_place(columns, column) for column in key]
    end = b"\r\n" if head.endswith(b"\r\n") else b"\n"
    rows: dict[str, bytes] = {}
    for record in records:
        cells = _cells(record, delimiter)
        if not any(cells):
            continue  # an empty line is no row
        if len(cells) != len(columns):
            raise NotMergeable(f"a row has {len(cells)} values for {len(columns)} columns")
        _add(rows, [cells[place] for place in places], record.rstrip(b"\r\n") + end)
    return _Rows(head.rstrip(b"\r\n") + end, rows)


def _json_rows(content: bytes, key: Sequence[str], name: str) -> _Rows:
    rows: dict[str, bytes] = {}
    for line in content.splitlines():
        if not line.strip():
            continue
        try:
            document = json.loads(line)
            values = [json.dumps(document[column]) for column in key]
        except (ValueError, KeyError, TypeError) as error:
            raise NotMergeable(f"a line has no {' and '.join(key)}") from error
        _add(rows, values, line + b"\n")
    return _Rows(b"", rows)


def _add(rows: dict[str, bytes], values: Sequence[str], record: bytes) -> None:
    named = ", ".join(values)
    if named in rows:
        raise NotMergeable(f"the key {named!r} is there twice")
    rows[named] = record


def _place(columns: Sequence[str], column: str) -> int:
    if column not in columns:
        raise NotMergeable(f"there is no column {column!r}")
    return columns.index(column)


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a CSV file as they stand: a line, or several where quotes hold line ends (RFC 4180)."""
    held = b""
    for line in content.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True):
        held += line
        if held.count(b'"') % 2 == 0:
            yield held
            held = b""
    if held:
        raise NotMergeable("a quote is never closed")


def _cells(record: bytes, delimiter: str) -> list[str]:
    try:
        text = record.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise NotMergeable("it is not UTF-8 text") from error
    return next(csv.reader([text], delimiter=delimiter), []) if '"' in text else text.split(delimiter)
