"""Taking over experiments and runs: what is lacking here is added, what is here already is left as it is.

A run is one transaction with its points stored before it, so one that is there is there whole. Of a run that
is here and went on there since, what is new is added; what both say differently is told and left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from noria.catalog import filing
from noria.catalog import records as catalog
from noria.catalog.facts import (
    ExperimentCreated,
    ExperimentDeleted,
    ExperimentTagged,
    InputsLogged,
    OutputModel,
    OutputsLogged,
    SourceData,
)
from noria.catalog.records import DEFAULT, ExperimentRecord
from noria.catalog.takeover.compare import Sum, sums
from noria.catalog.takeover.documents import ExperimentDoc, InputDoc, RunDoc, made
from noria.catalog.takeover.facts import OriginNoted
from noria.catalog.takeover.intake import TEXTS_MAX, Intake, in_parts, note_origin
from noria.catalog.takeover.ours import PARENT
from noria.catalog.takeover.sound import require_sound
from noria.core.clock import utc_text
from noria.core.errors import NoriaError, UsageError, WorldError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.experiments import points as segments
from noria.experiments import records
from noria.experiments.facts import RunAmended, RunDeleted, RunDescribed, RunLogged, Summary
from noria.experiments.points import Curve
from noria.store.failpoint import failpoint
from noria.store.ledger import Reader, Transaction
from noria.tracking.facts import Code, RunFinished, RunStarted

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

__all__ = ["take_experiment", "take_runs"]

WRITER = "import"
POINTS_MAX = 500_000
NAMES_MAX = 400
FINAL_MAX = 1000
NUMBER_MAX = 10**9
"""A number of an experiment that is kept: those of folders have eighteen digits, and ours count on from the last."""
SUMMARY_LETTERS = 200
OURS = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "cancelled"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_1_MS, YEAR_10000_MS = -62_135_596_800_000, 253_402_300_800_000


@frozen
class Piece:
    """Points that are stored: their segment, and what a fact says of each metric in it."""

    segment: str
    points: int
    metrics: Mapping[str, Summary]


def take_experiment(intake: Intake, doc: ExperimentDoc) -> int:
    """Bring an experiment in, and say where it differs; gives its number here."""
    ws, tally = intake.ws, intake.tally
    with ws.ledger.read() as tx:
        found = catalog.by_name(tx, doc.name)
        is_whole = found is not None and not _lacks(intake, tx, doc, found)
    if not is_whole:
        intake.begin()
        with ws.ledger.transaction() as tx:
            known = catalog.by_name(tx, doc.name)
            tally.new["experiment"] += known is None
            number = _number(tx, doc) if known is None else known.experiment
            if known is None:
                tx.append(ExperimentCreated(experiment=number, name=doc.name), inputs=[("import", intake.ref)])
            for key, value in doc.tags.items():
                if known is None or key not in known.tags:
                    tx.append(ExperimentTagged(experiment=number, key=key, value=value))
            if known is None and doc.stage != records.ACTIVE:
                tx.append(ExperimentDeleted(experiment=number, name=doc.name))
            note_origin(tx, _origin(doc, number), intake.ref)
    with ws.ledger.read() as tx:
        here = catalog.by_name(tx, doc.name)
        assert here is not None, "it was made"
        told = intake.ours.experiment(tx, here, made(doc))
    tally.seen["experiment"] += 1
    tally.compare("experiment", doc.name, doc, told, but=["id", "location"])
    return here.experiment


def _lacks(intake: Intake, tx: Reader, doc: ExperimentDoc, found: ExperimentRecord) -> bool:
    told = intake.ours.experiment(tx, found, made(doc))
    is_dated = (told.created_ms, told.updated_ms) == (doc.created_ms, doc.updated_ms)
    return not is_dated or any(key not in found.tags for key in doc.tags)


def _origin(doc: ExperimentDoc, number: int) -> OriginNoted:
    return OriginNoted(
        of=f"experiment/{number}",
        place=made(doc),
        created_ms=doc.created_ms,
        updated_ms=doc.updated_ms,
        details={"id": doc.id, "location": doc.location},
    )


def _number(tx: Transaction, doc: ExperimentDoc) -> int:
    """The number that it has there, if nobody has it here; else the next."""
    if doc.name == DEFAULT:
        return 0
    if doc.id.isdecimal() and 0 < int(doc.id) < NUMBER_MAX and catalog.experiment(tx, int(doc.id)) is None:
        return int(doc.id)
    return catalog.next_number(tx)


def take_runs(intake: Intake, docs: Sequence[RunDoc]) -> list[RunDoc]:
    """Bring runs in, and say where they differ; gives those that are here now."""
    tally = intake.tally
    known = intake.ours.found([doc.id for doc in docs])
    whole: dict[str, dict[str, Sum]] = {}
    there: dict[str, dict[str, Sum]] = {}
    added: list[tuple[RunDoc, list[Piece], list[tuple[InputDoc, str]]]] = []
    for doc in docs:
        try:
            require_sound(doc, "it")
            _require_times(doc)
            if doc.id in known:
                there[doc.id] = sums(intake.store.tracker.points(doc.id))
                own = sums(intake.ours.points(doc.id))
                if not _complete(intake, doc, known[doc.id], there[doc.id], own):
                    whole[doc.id] = own
                continue
            there[doc.id] = {}
            pieces = list(_stored(intake, _summed(intake.store.tracker.points(doc.id), there[doc.id])))
            added.append((doc, pieces, [(item, _details(intake, item)) for item in doc.inputs]))
        except WorldError:
            raise
        except NoriaError as error:
            there.pop(doc.id, None)
            tally.differ("run", doc.id, f"is left out: {error.message}")
    if added:
        _add(intake, added)
    tally.seen["run"] += len(docs)
    taken = [doc for doc in docs if doc.id in there]
    changed = intake.ours.found([doc.id for doc in taken if doc.id not in whole])
    _compare(intake, taken, {**known, **changed}, there, whole)
    return taken


def _add(intake: Intake, added: Sequence[tuple[RunDoc, list[Piece], list[tuple[InputDoc, str]]]]) -> None:
    ws, tally = intake.ws, intake.tally
    intake.begin()
    blank = ws.objects.put_json({})
    for doc, _, _ in added:
        if doc.status not in OURS:  # a client may go on with it; who does not is taken for lost
            ws.jobs.acquire(f"run/{doc.id}", owner=filing.OWNER + doc.id, ttl_s=filing.QUIET_S)
    failpoint("import.stored")
    with ws.ledger.transaction() as tx:
        for doc, pieces, inputs in added:
            if records.run(tx, doc.id) is not None:
                continue  # another takeover of the same store was quicker
            _append_run(intake, tx, doc, blank)
            _append_logged(tx, doc.id, doc.params, doc.tags, pieces)
            _append_links(tx, doc.id, inputs, doc.models_in, doc.models_out)
            _append_end(tx, doc, pieces)
            tally.new["run"] += 1
            _count(intake, pieces)
    failpoint("import.added")


def _append_run(intake: Intake, tx: Transaction, doc: RunDoc, blank: str) -> None:
    parent = doc.tags.get(PARENT, "")
    parent = parent if parent and records.run(tx, parent) is not None else ""
    edges = [("environment", blank), ("config", blank), ("cause", intake.ref)]
    if parent:
        edges.append(("parent", f"run/{parent}"))
    tx.append(
        RunStarted(
            run=doc.id,
            pipeline=doc.experiment,
            cause=intake.ref,
            code=Code(
                commit=doc.tags.get("mlflow.source.git.commit", ""),
                branch=doc.tags.get("mlflow.source.git.branch", ""),
                remote=doc.tags.get("mlflow.source.git.repoURL", ""),
                entry=doc.tags.get("mlflow.source.name", ""),
            ),
            config=blank,
            environment=blank,
            seed=intake.ws.project.seed,
            pins=(),
            owner=filing.OWNER + doc.id,
        ),
        inputs=edges,
    )
    tx.append(
        RunDescribed(
            run=doc.id,
            name=doc.name,
            experiment=doc.experiment,
            parent=parent,
            began=_text(doc.started_ms or 0),
            user=doc.user,
        )
    )
    if doc.place or doc.origin:
        details = {"place": doc.place} if doc.place else {}
        note_origin(tx, OriginNoted(of=f"run/{doc.id}", place=doc.origin, details=details), intake.ref)


def _append_logged(
    tx: Transaction, run: str, params: Mapping[str, str], tags: Mapping[str, str], pieces: Sequence[Piece]
) -> None:
    upto = records.upto(tx, run, WRITER)
    said = [RunLogged(run=run, writer=WRITER, upto=0, params=part) for part in in_parts(params)]
    said += [RunLogged(run=run, writer=WRITER, upto=0, tags=part) for part in in_parts(tags)]
    if len(said) == 2 and sum(len(value) for value in (*params.values(), *tags.values())) < TEXTS_MAX:
        said = [replace(said[0], tags=tags)]
    said += [
        RunLogged(run=run, writer=WRITER, upto=0, segment=each.segment, points=each.points, metrics=each.metrics)
        for each in pieces
    ]
    for place, each in enumerate(said, 1):
        edges = [("metrics", each.segment)] if each.segment else []
        tx.append(replace(each, upto=upto + place), outputs=edges)


def _append_links(
    tx: Transaction,
    run: str,
    inputs: Sequence[tuple[InputDoc, str]],
    models_in: Sequence[str],
    models_out: Sequence[tuple[str, int]],
) -> None:
    if inputs or models_in:
        datasets = [
            SourceData(
                name=item.name,
                content_id=item.digest,
                source_type=item.source_type,
                details=details,
                tags=item.tags,
            )
            for item, details in inputs
        ]
        edges = [(f"data:{item.name}", item.details) for item in datasets]
        edges += [("model", f"logged-model/{model}") for model in models_in]
        tx.append(InputsLogged(run=run, datasets=tuple(datasets), models=tuple(models_in)), inputs=edges)
    if models_out:
        given = tuple(OutputModel(model=model, step=step) for model, step in models_out)
        tx.append(
            OutputsLogged(run=run, models=given), outputs=[("model", f"logged-model/{each.model}") for each in given]
        )


def _append_end(tx: Transaction, doc: RunDoc, pieces: Sequence[Piece]) -> None:
    if doc.status in OURS:
        started = doc.started_ms or 0
        seconds = 0.0 if doc.ended_ms is None else (doc.ended_ms - started) / 1000
        tx.append(RunFinished(run=doc.id, status=OURS[doc.status], seconds=seconds, metrics=_final(pieces)))
    amended = RunAmended(
        run=doc.id,
        status="scheduled" if doc.status == "SCHEDULED" else "",
        ended=_amended_end(doc),
    )
    if amended.status or amended.ended is not None:
        tx.append(amended)
    if doc.stage != records.ACTIVE:
        tx.append(RunDeleted(run=doc.id))


def _amended_end(doc: RunDoc) -> str | None:
    """When it ended, where that is not what the fact of its end says; None where it is."""
    if doc.status in OURS:
        return None if doc.ended_ms is not None else ""
    return None if doc.ended_ms is None else _text(doc.ended_ms)


def _complete(intake: Intake, doc: RunDoc, here: RunDoc, there: Mapping[str, Sum], own: Mapping[str, Sum]) -> bool:
    """Add to a run that is here what it lacks; whether there was anything."""
    ws = intake.ws
    params = {key: value for key, value in doc.params.items() if key not in here.params}
    tags = {key: value for key, value in doc.tags.items() if key not in here.tags}
    stale = {key for key, found in there.items() if own.get(key) != found}
    pieces = list(_stored(intake, _lacking(intake, doc.id, stale))) if stale else []
    known = {(item.name, item.digest) for item in here.inputs}
    inputs = [(item, _details(intake, item)) for item in doc.inputs if (item.name, item.digest) not in known]
    models_in = [each for each in doc.models_in if each not in here.models_in]
    models_out = [each for each in doc.models_out if each not in here.models_out]
    is_over = doc.status in OURS and here.status not in OURS
    if not (params or tags or pieces or inputs or models_in or models_out or is_over):
        return False
    intake.begin()
    with ws.ledger.transaction() as tx:
        _append_logged(tx, doc.id, params, tags, pieces)
        _append_links(tx, doc.id, inputs, models_in, models_out)
        if is_over:
            _append_end(tx, replace(doc, stage=records.ACTIVE), pieces)
    if is_over:
        ws.jobs.release(f"run/{doc.id}", filing.OWNER + doc.id)
    _count(intake, pieces)
    return True


def _compare(
    intake: Intake,
    docs: Sequence[RunDoc],
    here: Mapping[str, RunDoc],
    there: Mapping[str, Mapping[str, Sum]],
    whole: Mapping[str, Mapping[str, Sum]],
) -> None:
    """Tell what is not the same. The points of what was added are read back, those in `whole` were just read."""
    tally = intake.tally
    for doc in docs:
        tally.compare("run", doc.id, doc, here.get(doc.id), but=["place", "origin", "left_out"])
        for what in doc.left_out:
            tally.differ("run", doc.id, f"is left out: {what}")
        own = whole[doc.id] if doc.id in whole else sums(intake.ours.points(doc.id))
        for key, found in there[doc.id].items():
            tally.seen["metric"] += 1
            tally.seen["point"] += found.points
            mine = own.get(key, Sum())
            if mine != found:
                what = f"{found.points} points there, {mine.points} here"
                tally.differ("metric", f"{doc.id} {key}", what if mine.points != found.points else "other points here")
        for key in own.keys() - there[doc.id].keys():
            tally.differ("metric", f"{doc.id} {key}", "is not there")


def _summed(parts: Iterator[tuple[str, Curve]], there: dict[str, Sum]) -> Iterator[tuple[str, Curve]]:
    """The same parts, counted as they go by."""
    for key, part in parts:
        there[key] = there.get(key, Sum()).plus(part)
        yield key, part


def _stored(intake: Intake, parts: Iterator[tuple[str, Curve]]) -> Iterator[Piece]:
    """Points as segments of a size that fits into memory, each told by one fact."""
    held: dict[str, list[Curve]] = {}
    count = letters = 0
    for key, part in parts:
        letters += 0 if key in held else len(key) + SUMMARY_LETTERS
        held.setdefault(key, []).append(part)
        count += len(part)
        if count >= POINTS_MAX or len(held) >= NAMES_MAX or letters >= TEXTS_MAX:
            yield _piece(intake, held)
            held, count, letters = {}, 0, 0
    if held:
        yield _piece(intake, held)


def _piece(intake: Intake, held: Mapping[str, Sequence[Curve]]) -> Piece:
    curves = {key: segments.ordered(segments.joined(parts)) for key, parts in held.items()}
    return Piece(
        segment=segments.write(intake.ws.objects, curves),
        points=sum(len(found) for found in curves.values()),
        metrics={key: segments.summarize(found) for key, found in curves.items()},
    )


def _lacking(intake: Intake, run: str, keys: set[str]) -> Iterator[tuple[str, Curve]]:
    """The points that are there and not here, of metrics that differ."""
    own: dict[str, set[tuple[int, int, bytes]]] = {key: set() for key in keys}
    for key, part in intake.ours.points(run):
        if key in keys:
            own[key].update(_rows(part))
    for key, part in intake.store.tracker.points(run):
        if key in keys:
            places = [place for place, row in enumerate(_rows(part)) if row not in own[key]]
            if places:
                yield key, part.take(np.array(places, np.int64))


def _rows(part: Curve) -> list[tuple[int, int, bytes]]:
    columns = (part.steps.tolist(), part.at_us.tolist(), part.values.tolist())
    return [(step, at, repr(value).encode()) for step, at, value in zip(*columns, strict=True)]


def _details(intake: Intake, item: InputDoc) -> str:
    details = {"source": item.source, "schema": item.schema, "profile": item.profile}
    return intake.ws.objects.put_json({key: value for key, value in details.items() if value is not None})


def _final(pieces: Sequence[Piece]) -> dict[str, float]:
    """The newest value of each metric that has one."""
    newest: dict[str, Summary] = {}
    for piece in pieces:
        for key, each in piece.metrics.items():
            before = newest.get(key)
            if before is None or (before.step, before.at_us) <= (each.step, each.at_us):
                newest[key] = each
    found = {key: each.last for key, each in newest.items() if each.last is not None}
    return dict(list(found.items())[:FINAL_MAX])


def _count(intake: Intake, pieces: Sequence[Piece]) -> None:
    intake.tally.new["metric"] += sum(len(each.metrics) for each in pieces)
    intake.tally.new["point"] += sum(each.points for each in pieces)


def _require_times(doc: RunDoc) -> None:
    for each in (doc.started_ms, doc.ended_ms):
        if each is not None and not YEAR_1_MS <= each < YEAR_10000_MS:
            raise UsageError(f"its time {each} ms is not between the years 1 and 9999")


def _text(at_ms: int) -> str:
    return utc_text(_EPOCH + timedelta(milliseconds=at_ms))
