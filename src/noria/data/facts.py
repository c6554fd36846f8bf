"""What can happen to data sets."""

from __future__ import annotations

from noria.core.fact import fact

__all__ = ["FACTS", "DatasetCommitted", "DatasetDescribed", "DatasetTagged"]


@fact("dataset.committed", subject="dataset/{name}")
class DatasetCommitted:
    """A new version of a data set: a tree of files, named by content.

    `columns` is the Arrow schema as (name, type, nullable) triples; `time_min` and `time_max` are
    UTC texts of the time column's range, or empty.
    """

    name: str
    version: int
    tree: str
    parent: str = ""
    rows: int = 0
    size_bytes: int = 0
    files: int = 0
    columns: tuple[tuple[str, str, bool], ...] = ()
    key: str = ""
    time: str = ""
    label: str = ""
    time_min: str = ""
    time_max: str = ""
    source: str = ""
    note: str = ""


@fact("dataset.described", subject="dataset/{name}")
class DatasetDescribed:
    """The roles of a version's columns changed; its content did not."""

    name: str
    version: int
    key: str = ""
    time: str = ""
    label: str = ""
    time_min: str = ""
    time_max: str = ""


@fact("dataset.tagged", subject="dataset/{name}")
class DatasetTagged:
    """A tag of a data set was set, or moved, to a version."""

    name: str
    tag: str
    version: int


FACTS = (DatasetCommitted, DatasetDescribed, DatasetTagged)
