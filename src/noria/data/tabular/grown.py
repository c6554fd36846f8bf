"""What an append, an upsert, a deletion and a compaction did to a table.

Each has the version that the data set has now. These verbs build on the version that the project's pin names.
`leaves_out` says in words that the ledger has a newer one, which is not in it; `brings_in` what else is in it
where another version was asked for (`orders@latest`) than that of the pin; "" for nothing.
"""

from __future__ import annotations

from typing import TypeVar

from noria.core.frozen import frozen
from noria.data.records import DatasetVersion

__all__ = ["Appended", "Compacted", "Deleted", "Grown", "Upserted"]


@frozen(kw_only=True)
class Appended:
    """What an append did. `watermark` is how far the column has come now.

    `late` rows lie at or before the watermark of before and are not in the data set: they were left
    out, unless they were asked for; `unordered` ones have no value in the watermark's column; `deleted`
    ones were taken out by a deletion, and are left out in any case.
    """

    dataset: DatasetVersion
    appended: int
    known: int
    late: int
    unordered: int
    watermark: str
    late_examples: tuple[str, ...] = ()
    deleted: int = 0
    brings_in: str = ""
    leaves_out: str = ""


@frozen(kw_only=True)
class Upserted:
    """What an upsert did: rows that are new, that changed, and that already were as given.

    `new_columns` came with the rows: those that were there before have no value in them.
    """

    dataset: DatasetVersion
    inserted: int
    updated: int
    unchanged: int
    new_columns: tuple[str, ...] = ()
    brings_in: str = ""
    leaves_out: str = ""


@frozen(kw_only=True)
class Deleted:
    """What a deletion did; `missing` counts keys that named no row."""

    dataset: DatasetVersion
    deleted: int
    missing: int = 0
    brings_in: str = ""
    leaves_out: str = ""


@frozen(kw_only=True)
class Compacted:
    """What a compaction did: the rows are the same, in one file instead of so many."""

    dataset: DatasetVersion
    files_before: int
    size_before: int
    brings_in: str = ""
    leaves_out: str = ""


Grown = TypeVar("Grown", Appended, Upserted, Deleted, Compacted)
