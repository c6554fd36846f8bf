"""What clients do to traces: each change is one transaction that reads, decides and appends.

What was asked and answered, and the spans, are objects, stored before the fact that names them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from noria.catalog import records as catalog
from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.frozen import frozen
from noria.experiments import records as runs
from noria.store.ledger import Reader
from noria.store.workspace import Workspace, new_id
from noria.traces import records
from noria.traces.facts import (
    AssessmentLogged,
    AssessmentRemoved,
    SpansLogged,
    TraceDeleted,
    TraceLinked,
    TraceLogged,
    TraceTagged,
    TraceUntagged,
)
from noria.traces.records import SOURCE_RUN, TraceRecord

__all__ = [
    "Said",
    "Spans",
    "assess",
    "delete",
    "found",
    "judgements",
    "keep_spans",
    "link",
    "log",
    "previews",
    "remove_assessment",
    "spans_of",
    "tag",
    "untag",
]

ID_MAX = 250
KEY_MAX, VALUE_MAX = 250, 4096
PAIRS_MAX = 200
PREVIEW_MAX = 1000
MS_MAX = 1 << 52
INPUTS, OUTPUTS, MODEL = "mlflow.traceInputs", "mlflow.traceOutputs", "mlflow.modelId"
CONTENTS = (INPUTS, OUTPUTS)
"""Metadata that say what was asked and answered: kept with it, outside of facts."""


@frozen(kw_only=True)
class Said:
    """What a client says of a trace as a whole. Times are milliseconds; previews are None where nothing was said."""

    trace: str
    experiment: int
    began_ms: int
    took_ms: int | None
    state: str
    request: str = ""
    asked: str | None = None
    answered: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@frozen(kw_only=True)
class Spans:
    """Spans of one trace that came together, as JSON values; `asked` and `answered` are the root span's."""

    trace: str
    began_ms: int
    ended_ms: int | None
    state: str
    spans: Sequence[Mapping[str, Any]]
    asked: str | None = None
    answered: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def found(tx: Reader, trace: str) -> TraceRecord:
    """The trace of that id. Raises: NotFound."""
    record = records.trace(tx, trace)
    if record is None:
        raise NotFound(f"Trace with ID '{trace}' not found.")
    return record


def log(ws: Workspace, said: Said) -> None:
    """Keep what a client says of a trace as a whole. Raises: UsageError; NotFound; Conflict."""
    _require_id(said.trace)
    _require_times(said.began_ms, said.took_ms or 0)
    if len(said.request) > ID_MAX:
        raise UsageError(f"a client's id of a request is longer than {ID_MAX} characters")
    metadata = _pairs(said.metadata)
    contents = {key: said.metadata[key] for key in CONTENTS if key in said.metadata}
    details = _put(ws, {"asked": said.asked, "answered": said.answered, "metadata": contents})
    run, model = metadata.get(SOURCE_RUN, ""), metadata.get(MODEL, "")
    with ws.ledger.transaction() as tx:
        _require_experiment(tx, said.experiment)
        inputs = [("run", f"run/{run}")] if run and runs.run(tx, run) is not None else []
        inputs += [("model", f"logged-model/{model}")] if model and catalog.logged_head(tx, model) else []
        tx.append(
            TraceLogged(
                trace=said.trace,
                experiment=said.experiment,
                began_ms=said.began_ms,
                took_ms=said.took_ms,
                state=said.state,
                details=details,
                request=said.request,
                tags=_pairs(said.tags),
                metadata={key: value for key, value in metadata.items() if key not in CONTENTS},
            ),
            inputs=inputs,
            outputs=[("details", details)],
        )


def keep_spans(ws: Workspace, experiment: int, given: Sequence[Spans], *, run: str = "") -> None:
    """Keep spans of traces, all or none; `run` is one that the whole ones belong to.

    Raises: UsageError; NotFound; Conflict.
    """
    for each in given:
        _require_id(each.trace)
        _require_times(each.began_ms, each.ended_ms or 0)
    stored = [_put(ws, {"asked": each.asked, "answered": each.answered, "spans": list(each.spans)}) for each in given]
    with ws.ledger.transaction() as tx:
        for each, details in zip(given, stored, strict=True):
            before = records.trace(tx, each.trace)
            if before is None:
                _require_experiment(tx, experiment)
            tx.append(
                SpansLogged(
                    trace=each.trace,
                    experiment=experiment if before is None else before.experiment,
                    began_ms=each.began_ms,
                    ended_ms=each.ended_ms,
                    state=each.state,
                    details=details,
                    spans=len(each.spans),
                    tags=_pairs(each.tags),
                ),
                outputs=[("spans", details)],
            )
            if run and each.state and runs.run(tx, run) is not None:
                tx.append(TraceLinked(trace=each.trace, run=run), inputs=[("run", f"run/{run}")])


def tag(ws: Workspace, trace: str, key: str, value: str) -> None:
    """Set a tag of a trace. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        found(tx, trace)
        tx.append(TraceTagged(trace=trace, key=key[:KEY_MAX], value=value[:VALUE_MAX]))


def untag(ws: Workspace, trace: str, key: str) -> None:
    """Take a tag off a trace. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        record = records.trace(tx, trace)
        if record is None or key not in record.tags:
            raise NotFound(f"No trace tag with key '{key}' for trace with ID '{trace}'")
        tx.append(TraceUntagged(trace=trace, key=key))


def delete(ws: Workspace, experiment: int, *, upto_ms: int | None, names: Sequence[str], limit: int) -> int:
    """Take traces of an experiment away, oldest first; gives how many."""
    with ws.ledger.transaction() as tx:
        gone = records.oldest(tx, experiment, upto_ms=upto_ms, names=names, limit=limit)
        for name in gone:
            tx.append(TraceDeleted(trace=name))
    return len(gone)


def link(ws: Workspace, names: Sequence[str], run: str) -> None:
    """Let traces belong to a run. Those that are not there are left out. Raises: NotFound if the run is not."""
    with ws.ledger.transaction() as tx:
        if runs.run(tx, run) is None:
            raise NotFound(f"Run with id={run} not found")
        for record in records.traces(tx, names):
            tx.append(TraceLinked(trace=record.trace, run=run), inputs=[("run", f"run/{run}")])


def assess(ws: Workspace, trace: str, name: str, content: Mapping[str, Any], *, assessment: str = "") -> str:
    """Keep a judgement of a trace, or what it says now; gives its id.

    What a new one overrides is valid no more. Raises: NotFound; UsageError.
    """
    made = assessment or new_id(ws, "a").replace("_", "-")
    with ws.ledger.read() as tx:
        found(tx, trace)
    overridden = "" if assessment else str(content.get("overrides", ""))
    details = _put(ws, dict(content))
    with ws.ledger.transaction() as tx:
        found(tx, trace)
        if overridden:
            other = records.assessment(tx, trace, overridden)
            if other is None:
                raise NotFound(f"Assessment with ID '{overridden}' not found for trace '{trace}'")
            _say_again(tx, other, is_valid=False)
        before = records.assessment(tx, trace, made)
        tx.append(
            AssessmentLogged(
                trace=trace,
                assessment=made,
                name=name,
                details=details,
                is_valid=before.is_valid if before is not None else bool(content.get("valid", True)),
            ),
            outputs=[("assessment", details)],
        )
    return made


def remove_assessment(ws: Workspace, trace: str, assessment: str) -> None:
    """Take a judgement away; what it overrode is valid again. One that is not there is gone already."""
    with ws.ledger.read() as tx:
        before = records.assessment(tx, trace, assessment)
    if before is None:
        return
    overridden = str(json.loads(ws.objects.get_bytes(before.details)).get("overrides", ""))
    with ws.ledger.transaction() as tx:
        if records.assessment(tx, trace, assessment) is None:
            return
        tx.append(AssessmentRemoved(trace=trace, assessment=assessment))
        other = records.assessment(tx, trace, overridden) if overridden else None
        if other is not None:
            _say_again(tx, other, is_valid=True)


def spans_of(ws: Workspace, digests: Mapping[str, Sequence[str]]) -> dict[str, list[dict[str, Any]]]:
    """The spans of traces by the objects that hold them; of a span that came twice, the later one."""
    contents = _get(ws, [digest for each in digests.values() for digest in each])
    return {
        trace: list({span["span_id"]: span for digest in each for span in contents[digest]["spans"]}.values())
        for trace, each in digests.items()
    }


def previews(
    ws: Workspace, traces: Sequence[TraceRecord], spans: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """What was asked and answered in traces, shortened: asked, answered and metadata, by trace.

    A client's own words go before what the root span tells.
    """
    wanted = {each.trace: ([each.details] if each.details else []) for each in traces}
    told = _get(ws, [digest for each in wanted.values() for digest in each])
    found: dict[str, dict[str, Any]] = {}
    for each in traces:
        said = told[each.details] if each.details else {"asked": None, "answered": None, "metadata": {}}
        found[each.trace] = dict(said)
    open_ones = [each.trace for each in traces if None in (found[each.trace]["asked"], found[each.trace]["answered"])]
    inner = _get(ws, [digest for name in open_ones for digest in spans.get(name, ())])
    for name in open_ones:
        for digest in spans.get(name, ()):
            for key in ("asked", "answered"):
                if found[name][key] is None:
                    found[name][key] = inner[digest][key]
    return found


def judgements(ws: Workspace, digests: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What judgements say, by the digest of the object that holds it."""
    return _get(ws, digests)


def _say_again(tx: Any, record: records.AssessmentRecord, *, is_valid: bool) -> None:
    tx.append(
        AssessmentLogged(
            trace=record.trace,
            assessment=record.assessment,
            name=record.name,
            details=record.details,
            is_valid=is_valid,
        ),
        outputs=[("assessment", record.details)],
    )


def _get(ws: Workspace, digests: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {str(digest): json.loads(content) for digest, content in ws.objects.get_many(sorted(set(digests)))}


def _put(ws: Workspace, value: Mapping[str, Any]) -> str:
    """Not in canonical form: times of spans in nanoseconds are beyond what that may say."""
    return str(ws.objects.put_bytes(json.dumps(value, sort_keys=True).encode()))


def _require_id(trace: str) -> None:
    if not 1 <= len(trace) <= ID_MAX:
        raise UsageError(f"the id of a trace has 1 to {ID_MAX} characters, not {len(trace)}")


def _require_times(*times_ms: int) -> None:
    for each in times_ms:
        if not -MS_MAX < each < MS_MAX:
            raise UsageError(f"{each} milliseconds are no time")


def _require_experiment(tx: Reader, number: int) -> None:
    experiment = catalog.experiment(tx, number)
    if experiment is None:
        raise NotFound(f"No Experiment with id={number} exists")
    if experiment.stage != runs.ACTIVE:
        raise Conflict(f"The experiment {number} must be in the 'active' state. Current state is {experiment.stage}.")


def _pairs(given: Mapping[str, str]) -> dict[str, str]:
    if len(given) > PAIRS_MAX:
        raise UsageError(f"a trace has at most {PAIRS_MAX} tags, and as many metadata, not {len(given)}")
    return {key[:KEY_MAX]: value[:VALUE_MAX] for key, value in given.items()}
