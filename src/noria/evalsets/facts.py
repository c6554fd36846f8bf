"""What can happen to evaluation data sets. What a record says is in objects: it may be a person's, and can go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from noria.core.fact import fact
from noria.core.frozen import frozen

__all__ = [
    "FACTS",
    "EvalsetAssigned",
    "EvalsetCreated",
    "EvalsetDeleted",
    "EvalsetTagged",
    "EvalsetUnassigned",
    "EvalsetUntagged",
    "RecordBody",
    "RecordsMerged",
    "RecordsRemoved",
]


@frozen(kw_only=True)
class RecordBody:
    """A record by its id; `key` is the digest (hex) of its inputs, `details` that of an object (JSON) with all of it.

    `size` is the object's bytes.
    """

    record: str
    key: str
    details: str
    size: int


@fact("evalset.created", subject="evalset/{evalset}")
class EvalsetCreated:
    """Somebody made an evaluation data set; `experiments` are ids as clients tell them. Times are milliseconds."""

    evalset: str
    name: str
    at_ms: int
    experiments: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@fact("evalset.tagged", subject="evalset/{evalset}")
class EvalsetTagged:
    """An evaluation data set has these tags; a later value takes the place of an earlier one."""

    evalset: str
    tags: Mapping[str, str]


@fact("evalset.untagged", subject="evalset/{evalset}")
class EvalsetUntagged:
    """An evaluation data set has a tag no more."""

    evalset: str
    key: str


@fact("evalset.assigned", subject="evalset/{evalset}")
class EvalsetAssigned:
    """An evaluation data set belongs to these experiments too."""

    evalset: str
    experiments: tuple[str, ...]
    at_ms: int


@fact("evalset.unassigned", subject="evalset/{evalset}")
class EvalsetUnassigned:
    """An evaluation data set belongs to these experiments no more."""

    evalset: str
    experiments: tuple[str, ...]
    at_ms: int


@fact("evalset.deleted", subject="evalset/{evalset}")
class EvalsetDeleted:
    """An evaluation data set is there no more, nor are its records."""

    evalset: str


@fact("records.merged", subject="evalset/{evalset}")
class RecordsMerged:
    """Records came in, or say more now than before.

    `schema` is the digest of an object (JSON) with the names and types of all fields, empty while there are none;
    `by` who a client says changed the data set, None if it does not say.
    """

    evalset: str
    at_ms: int
    records: tuple[RecordBody, ...]
    schema: str = ""
    by: str | None = None


@fact("records.removed", subject="evalset/{evalset}")
class RecordsRemoved:
    """Records are there no more."""

    evalset: str
    records: tuple[str, ...]


FACTS = (
    EvalsetCreated,
    EvalsetTagged,
    EvalsetUntagged,
    EvalsetAssigned,
    EvalsetUnassigned,
    EvalsetDeleted,
    RecordsMerged,
    RecordsRemoved,
)
