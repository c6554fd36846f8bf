"""What can happen to data sets."""

from __future__ import annotations

from noria.core.fact import fact

__all__ = ["FACTS", "DatasetCommitted", "DatasetDescribed", "DatasetDropped", "DatasetTagged", "DatasetUntagged"]


@fact("dataset.committed", subject="dataset/{name}")
class DatasetCommitted:
    """A new version of a data set: a tree of files, named by content.

    `columns` is the Arrow schema as (name, type, nullable) triples; `time_min` and `time_max` are
    UTC texts of the time column's range, or empty. `content` is the id of the version, which depends on
    what it says alone: of one table its columns and values, whatever the bytes of its file; of one other
    file its bytes, whatever its name; empty for a folder, whose tree is its id. (Before single files had
    one, theirs was empty too.) `operation` is how it came to be (append, upsert, delete, compact, merge,
    predictions, frame; empty: added whole from its source), `watermark` how far an append has come in its column
    (`COLUMN=VALUE`), `code` the Git commit that the project stood on. `added` is when a version that was
    pulled was added where it comes from; empty for one that was added here. With `as_files` the tables among
    its files were not looked into.
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
    content: str = ""
    operation: str = ""
    watermark: str = ""
    code: str = ""
    as_files: bool = False
    added: str = ""


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


@fact("dataset.untagged", subject="dataset/{name}")
class DatasetUntagged:
    """A tag of a data set was taken away; the version that it named stays."""

    name: str
    tag: str
    version: int


@fact("dataset.dropped", subject="dataset/{name}")
class DatasetDropped:
    """A version is not to be kept any more: a collection may take what only it names.

    What was recorded of it stays. `forced` says that something still named it: `uses` are the first of these.
    """

    name: str
    version: int
    tree: str
    reason: str = ""
    forced: bool = False
    uses: tuple[str, ...] = ()


FACTS = (DatasetCommitted, DatasetDescribed, DatasetTagged, DatasetUntagged, DatasetDropped)
