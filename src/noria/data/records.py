"""Records of data sets: their versions and tags, as the facts left them, and the queries on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.data.facts import DatasetCommitted, DatasetDescribed, DatasetDropped, DatasetTagged, DatasetUntagged
from noria.store.ledger import Reader, Transaction
from noria.store.rows import parsed
from noria.store.sql.words import BigInteger, Boolean, Column, Integer, Select, String, Text, func, select
from noria.store.tables import project, record_table

__all__ = [
    "PROJECTIONS",
    "TABLES",
    "DatasetVersion",
    "added_by",
    "by_content",
    "by_number",
    "by_tree",
    "by_tree_prefix",
    "ended_by",
    "highest",
    "history",
    "names",
    "newest",
    "nth_newest",
    "tagged",
    "tags",
    "versions",
]


@frozen(kw_only=True)
class DatasetVersion:
    """One version of a data set; its files are those of `tree`, its id is `content`.

    `columns` are (name, Arrow type, nullable); `key`, `time` and `label` name the columns with
    these roles, or are empty; `time_min` and `time_max` bound the time column (UTC texts).
    `source` is where it was added from, `at` when (UTC text). `content` is its id, a function of what it
    says alone: of a folder the tree, of a table its logical columns, of any other file its bytes.
    `operation`, `watermark`, `code` and `as_files` are as in the fact. `dropped_at`, `dropped_by` and `dropped_why`
    say when (UTC text), by whom and why it was dropped; empty for one that is kept.
    """

    name: str
    version: int
    tree: str
    rows: int
    size_bytes: int
    files: int
    columns: tuple[tuple[str, str, bool], ...]
    key: str = ""
    time: str = ""
    label: str = ""
    time_min: str = ""
    time_max: str = ""
    parent: str = ""
    source: str = ""
    note: str = ""
    at: str = ""
    content: str = ""
    operation: str = ""
    watermark: str = ""
    code: str = ""
    as_files: bool = False
    dropped_at: str = ""
    dropped_by: str = ""
    dropped_why: str = ""

    @property
    def ref(self) -> str:
        """How to name it: `flights@3`."""
        return f"{self.name}@{self.version}"

    @property
    def is_one_file(self) -> bool:
        """Whether it is one file or table, of which the name is not content."""
        return self.files == 1 and self.content != self.tree

    def column_names(self) -> tuple[str, ...]:
        """The names of its columns, in order."""
        return tuple(name for name, _, _ in self.columns)


_version = record_table(
    "dataset_version",
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("tree", String(71), nullable=False),
    Column("parent", String(71), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("files", Integer, nullable=False),
    Column("columns", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("time", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("time_min", String(32), nullable=False),
    Column("time_max", String(32), nullable=False),
    Column("source", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("at", String(32), nullable=False),
    Column("content", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("watermark", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("as_files", Boolean, nullable=False),
    Column("dropped_at", String(32), nullable=False),
    Column("dropped_by", Text, nullable=False),
    Column("dropped_why", Text, nullable=False),
)
_tag = record_table(
    "dataset_tag",
    Column("name", String(64), primary_key=True),
    Column("tag", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
)
TABLES = (_version, _tag)
_FIELDS = tuple(column.name for column in _version.columns)
_DROPPED = ("dropped_at", "dropped_by", "dropped_why")


@project(DatasetCommitted)
def committed(tx: Transaction, fact: Stored[DatasetCommitted]) -> None:
    """A version appears."""
    payload = fact.payload
    values: dict[str, Any] = {
        name: getattr(payload, name) for name in _FIELDS if name not in ("columns", "at", *_DROPPED)
    }
    values["content"] = payload.content or payload.tree
    tx.upsert(
        _version,
        **values,
        **dict.fromkeys(_DROPPED, ""),
        columns=json.dumps([list(column) for column in payload.columns]),
        at=payload.added or fact.at,
    )


@project(DatasetDescribed)
def described(tx: Transaction, fact: Stored[DatasetDescribed]) -> None:
    """The roles of a version change."""
    payload = fact.payload
    tx.update(
        _version,
        {"name": payload.name, "version": payload.version},
        key=payload.key,
        time=payload.time,
        label=payload.label,
        time_min=payload.time_min,
        time_max=payload.time_max,
    )


@project(DatasetTagged)
def tag_set(tx: Transaction, fact: Stored[DatasetTagged]) -> None:
    """A tag appears or moves."""
    tx.upsert(_tag, name=fact.payload.name, tag=fact.payload.tag, version=fact.payload.version)


@project(DatasetUntagged)
def tag_removed(tx: Transaction, fact: Stored[DatasetUntagged]) -> None:
    """A tag goes away."""
    tx.delete(_tag, name=fact.payload.name, tag=fact.payload.tag)


@project(DatasetDropped)
def dropped(tx: Transaction, fact: Stored[DatasetDropped]) -> None:
    """A version goes out of use."""
    payload = fact.payload
    place = {"name": payload.name, "version": payload.version}
    tx.update(_version, place, dropped_at=fact.at, dropped_by=fact.actor, dropped_why=payload.reason)


PROJECTIONS = (committed, described, tag_set, tag_removed, dropped)


def names(tx: Reader) -> list[str]:
    """The names of all data sets, sorted."""
    return [str(row[0]) for row in tx.rows(select(_version.c.name).distinct().order_by(_version.c.name))]


def versions(tx: Reader, name: str) -> list[DatasetVersion]:
    """Every version of a data set that is kept, oldest first; empty for an unknown name."""
    return [_read(row) for row in tx.rows(_kept(name).order_by(_version.c.version))]


def history(tx: Reader, name: str) -> list[DatasetVersion]:
    """Every version that a data set ever had, dropped ones too, oldest first; empty for an unknown name."""
    return [_read(row) for row in tx.rows(_of(name).order_by(_version.c.version))]


def highest(tx: Reader, name: str) -> int:
    """The greatest number that a version was ever given; 0 for an unknown name."""
    return int(tx.scalar(select(func.max(_version.c.version)).where(_version.c.name == name)) or 0)


def newest(tx: Reader, name: str) -> DatasetVersion | None:
    """The version with the greatest number, of those that are kept."""
    return _one(tx, _kept(name).order_by(_version.c.version.desc()).limit(1))


def nth_newest(tx: Reader, name: str, back: int) -> DatasetVersion | None:
    """The version so many before the newest one; numbers may have gaps where versions came from elsewhere."""
    return _one(tx, _kept(name).order_by(_version.c.version.desc()).offset(back).limit(1))


def by_number(tx: Reader, name: str, version: int) -> DatasetVersion | None:
    """The version with this number, kept or dropped."""
    return _one(tx, _of(name).where(_version.c.version == version))


def by_tree(tx: Reader, name: str, tree: str) -> DatasetVersion | None:
    """The newest version with this content."""
    return _one(tx, _kept(name).where(_version.c.tree == tree).order_by(_version.c.version.desc()).limit(1))


def by_content(tx: Reader, name: str, content: str) -> DatasetVersion | None:
    """The newest version that says this, whatever the bytes of its files; of plain files, the tree names it."""
    return _one(tx, _kept(name).where(_version.c.content == content).order_by(_version.c.version.desc()).limit(1))


def by_tree_prefix(tx: Reader, name: str, prefix: str) -> list[DatasetVersion]:
    """Every version whose tree, or content, begins with these hex digits, newest first."""
    start = f"sha256:{prefix}"
    fits = _version.c.tree.startswith(start, autoescape=True) | _version.c.content.startswith(start, autoescape=True)
    found = _kept(name).where(fits)
    return [_read(row) for row in tx.rows(found.order_by(_version.c.version.desc()))]


def added_by(tx: Reader, name: str, moment: str) -> DatasetVersion | None:
    """The newest version that was added by a moment (UTC text)."""
    return _one(tx, _kept(name).where(_version.c.at <= moment).order_by(_version.c.version.desc()).limit(1))


def ended_by(tx: Reader, name: str, moment: str) -> DatasetVersion | None:
    """The newest version whose time column ends by a moment (UTC text); None where there are no times."""
    ends = (_version.c.time_max != "") & (_version.c.time_max <= moment)
    return _one(tx, _kept(name).where(ends).order_by(_version.c.version.desc()).limit(1))


def tagged(tx: Reader, name: str, tag: str) -> DatasetVersion | None:
    """The version that a tag names."""
    number = tx.scalar(select(_tag.c.version).where(_tag.c.name == name, _tag.c.tag == tag))
    return None if number is None else by_number(tx, name, int(number))


def tags(tx: Reader, name: str) -> Mapping[str, int]:
    """Every tag of a data set and the number of its version."""
    found = tx.rows(select(_tag.c.tag, _tag.c.version).where(_tag.c.name == name).order_by(_tag.c.tag))
    return {str(row.tag): int(row.version) for row in found}


def _kept(name: str) -> Select[Any]:
    return _of(name).where(_version.c.dropped_at == "")


def _of(name: str) -> Select[Any]:
    return select(*(_version.c[field] for field in _FIELDS)).where(_version.c.name == name)


def _one(tx: Reader, query: Select[Any]) -> DatasetVersion | None:
    row = tx.first(query)
    return None if row is None else _read(row)


def _read(row: Any) -> DatasetVersion:
    values = dict(zip(_FIELDS, row, strict=True))
    columns = tuple((str(name), str(kind), bool(null)) for name, kind, null in parsed(values.pop("columns")))
    return DatasetVersion(columns=columns, **values)
