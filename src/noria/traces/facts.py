"""What can happen to traces. What was asked and answered is in objects: it may be a person's, and can be erased."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from noria.core.fact import fact

__all__ = [
    "FACTS",
    "AssessmentLogged",
    "AssessmentRemoved",
    "SpansLogged",
    "TraceDeleted",
    "TraceLinked",
    "TraceLogged",
    "TraceTagged",
    "TraceUntagged",
]


@fact("trace.logged", subject="trace/{trace}")
class TraceLogged:
    """A client says what a trace is as a whole. Times are milliseconds; `took_ms` is None while that is not known.

    `state` is OK, ERROR, IN_PROGRESS or STATE_UNSPECIFIED, `details` the digest of an object (JSON) with what was
    asked and answered, shortened.
    """

    trace: str
    experiment: int
    began_ms: int
    took_ms: int | None
    state: str
    details: str
    request: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@fact("spans.logged", subject="trace/{trace}")
class SpansLogged:
    """Spans of a trace came in; `details` is the digest of an object (JSON) with them.

    `state` is that of the root span, empty if it is not among them; `ended_ms` None if none has ended.
    """

    trace: str
    experiment: int
    began_ms: int
    ended_ms: int | None
    state: str
    details: str
    spans: int
    tags: Mapping[str, str] = field(default_factory=dict)


@fact("trace.tagged", subject="trace/{trace}")
class TraceTagged:
    """A trace has a tag; a later value takes the place of an earlier one."""

    trace: str
    key: str
    value: str


@fact("trace.untagged", subject="trace/{trace}")
class TraceUntagged:
    """A trace has a tag no more."""

    trace: str
    key: str


@fact("trace.deleted", subject="trace/{trace}")
class TraceDeleted:
    """A trace is there no more, with its spans, tags and assessments."""

    trace: str


@fact("trace.linked", subject="trace/{trace}")
class TraceLinked:
    """A trace belongs to a run too."""

    trace: str
    run: str


@fact("assessment.logged", subject="trace/{trace}")
class AssessmentLogged:
    """Somebody, or something, judged a trace, or judged it anew; `details` is the digest of an object (JSON)."""

    trace: str
    assessment: str
    name: str
    details: str
    is_valid: bool = True


@fact("assessment.removed", subject="trace/{trace}")
class AssessmentRemoved:
    """A judgement of a trace is there no more."""

    trace: str
    assessment: str


FACTS = (
    TraceLogged,
    SpansLogged,
    TraceTagged,
    TraceUntagged,
    TraceDeleted,
    TraceLinked,
    AssessmentLogged,
    AssessmentRemoved,
)
