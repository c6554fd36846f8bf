"""`noria reproduce`: a run done again from its pins in a clean place, every output compared, and a signed verdict.

Nothing of the working tree or of the cache is used: the code is that of the run, the data are its
versions, the environment is this one if it is equal, else one that is rebuilt from the lock. What cannot
be had, or is not equal, is said and recorded too. If an output differs, the first step of which one does
is run again under conditions (`again/diagnose.py`), to name what it depends on and should not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from noria.core.errors import NotFound, UsageError, WorldError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.core.interrupts import going_on
from noria.core.progress import task
from noria.core.verb import verb
from noria.packaging import bundle as bundles
from noria.pipeline import records as pipeline
from noria.pipeline.caching import documents
from noria.pipeline.caching.cache import read_list
from noria.pipeline.records import StepRecord
from noria.project.again import causes as causing
from noria.project.again import scripted
from noria.project.again import verdict as verdicts
from noria.project.again.causes import Cause
from noria.project.again.child import Died
from noria.project.again.diagnose import Evidence, diagnose
from noria.project.again.outcome import Done, Where, impossible, stored_document, took, where
from noria.project.again.place import Lacking, Place, make_place
from noria.project.again.repeat import METRICS, Again, Whole, bundle_verdict, metrics
from noria.project.again.scripted import ScriptFound
from noria.project.again.verdict import DIFFERENT, FAILED, IDENTICAL, TOLERATED, StepVerdict
from noria.project.environments import EnvironmentLine, differences, host_differences
from noria.project.named_run import named_run
from noria.project.rebuild import Rebuilt
from noria.store.scratch import Scratch
from noria.store.workspace import Workspace
from noria.tracking import environment as locks
from noria.tracking import records as tracking
from noria.tracking.records import RunRecord

__all__ = ["CauseLine", "Reproduction", "reproduce"]

ENVIRONMENTS = ("auto", "here", "rebuilt")
MAX_LINES = 100


@frozen(kw_only=True)
class CauseLine:
    """What made a difference, how that is known, where in the project, and what to do about it."""

    kind: str
    evidence: str
    sure: str
    where: str
    hint: str


@frozen(kw_only=True)
class Reproduction:
    """What came of doing a run again.

    `verdict` is identical (bit by bit), tolerated (numbers within what was declared), different, or
    impossible (code, data or interpreter cannot be had); `ok` for the first two. `environment` is here or
    rebuilt, `is_same_lock` whether Python and all packages are those of the run, `lines` what differs,
    the machine too. `step` is the first step that came out otherwise, or the item of it (score.17), `causes`
    why, the surest first. Of a script the steps are what it made: files, metrics, parameters, exit code, models.
    `notes` are what the run stood on and nothing pins: connections, other programs. `document` names the signed
    verdict, `signer` the key, `fact` the number of the fact.
    """

    run: str
    model: str
    ok: bool
    verdict: str
    code: str
    data: tuple[str, ...]
    seed: int
    environment: str
    is_same_lock: bool
    lines: tuple[EnvironmentLine, ...]
    rebuilt: Rebuilt | None
    steps: tuple[StepVerdict, ...]
    step: str
    causes: tuple[CauseLine, ...]
    notes: tuple[str, ...]
    seconds: float
    document: str
    signer: str
    fact: int
    next: str


@frozen(kw_only=True)
class _Found:
    """What the ledger says of a run: its steps, with what their keys were computed from and what they read."""

    run: RunRecord
    steps: tuple[StepRecord, ...]
    documents: Mapping[str, Mapping[str, Any]]
    reads: Mapping[str, Mapping[str, str]]
    lock: Mapping[str, Any]
    host: Mapping[str, Any]
    params: Mapping[str, JSON]

    def first(self, about: str) -> str:
        """The first step that takes something that cannot be had; the first of all if none does itself."""
        taking = [each.step for each in self.steps if about in _inputs(self, each.step)]
        return taking[0] if taking else self.steps[0].step


@verb(permission="project.reproduce", where="project")
def reproduce(ws: Workspace, ref: str = "", environment: str = "auto") -> Reproduction:
    """Do a run again in a clean place, compare every output, and sign the verdict.

    Code, data, parameters and seed are those of the run; every step runs, none is taken from the cache. The
    environment is this one if it is equal, else it is rebuilt from the lock. If an output differs, the first
    step is named, and why: chance, time, hash order, threads, a variable, a file, the network, a package…

    Of a script, its files, metrics, parameters and models are compared, and nothing that it writes leaves the place.

    Args:
        ref: a run, or a model, version or release (then the run behind it); the newest run without one.
        environment: auto, here (whatever is installed, with the difference told) or rebuilt.
    Raises: NotFound; UsageError for a run that did not finish.
    Example: noria reproduce churn:14
    """
    began = time.monotonic()
    if environment not in ENVIRONMENTS:
        raise UsageError(f"environment is {environment!r}", hint=f"one of: {', '.join(ENVIRONMENTS)}")
    run, version = named_run(ws, ref)
    found = scripted.found(ws, run) or _found(ws, run)
    now = locks.lock(ws.project.state)
    again = f"noria reproduce {ref or run.run}" + (f" --environment {environment}" if environment != "auto" else "")
    with going_on(f"{again} begins anew: there is no verdict yet"), Scratch("again") as folder:

        def chosen() -> Where:
            with task("the environment of the run", unit=""):
                return where(run, found.lock, now, environment, folder / "environment")

        try:
            place = folder.resolve() / "place"
            if isinstance(found, ScriptFound):
                done = scripted.repeated(ws, found, chosen, place)
            else:
                reads = [(what, known) for each in found.reads.values() for what, known in each.items()]
                with task("code and data of the run", unit=""):
                    made = make_place(ws, run, place, [*reads, *_named_files(found)])
                done = _done(ws, found, made, chosen())
        except Lacking as lacking:
            done = impossible(found.first(lacking.about), lacking)
    return _recorded(ws, found, version.ref if version is not None else "", done, time.monotonic() - began)


def _found(ws: Workspace, run: RunRecord) -> _Found:
    """What is on record of a run. Raises: UsageError for one that has no whole result; NotFound."""
    with ws.ledger.read() as tx:
        steps = tuple(pipeline.steps(tx, run.run))
    if run.code.entry and run.code.entry != ws.project.pipeline:
        raise UsageError(
            f"{run.run} ran {run.code.entry}, not {ws.project.pipeline}",
            hint="only runs of the pipeline, and of scripts, can be done again",
        )
    if run.status in ("running", "lost", "failed", "cancelled", "preempted") or not steps:
        what = (
            "it is still running" if run.status == "running" else f"it is {run.status}: {run.reason or 'no step ended'}"
        )
        raise UsageError(f"{run.run} has no result to compare with; {what}", hint="noria runs --status finished")
    config = ws.objects.get_json(run.config) if run.config else {}
    known: dict[str, Mapping[str, Any]] = {}
    reads: dict[str, Mapping[str, str]] = {}
    for each in steps:
        try:
            known[each.step] = documents.read(ws.objects, each.document, each.step, each.key).document
            reads[each.step] = dict(read_list(ws, each.reads))
        except (NotFound, WorldError):
            known.setdefault(each.step, {})
            reads.setdefault(each.step, {})
    return _Found(
        run=run,
        steps=steps,
        documents=known,
        reads=reads,
        lock=stored_document(ws, run.environment),
        host=stored_document(ws, run.host),
        params=dict(config.get("params", {})),
    )


def _named_files(found: _Found) -> Iterator[tuple[str, str]]:
    """The files that the code of a step names, with the digits of their digests."""
    for document in found.documents.values():
        for name, known in document.get("names", {}).items():
            if name.startswith("file "):
                yield name, str(known)


def _done(ws: Workspace, found: _Found, place: Place, at: Where) -> Done:
    """Run everything again, compare, and look for the cause if something differs."""
    run = found.run
    again = Again(ws, place, at.python, run.pipeline, found.params)
    with task(f"running all of it again{took(run)}", unit=""):
        try:
            whole = again.whole()
        except Died as died:
            whole = Whole(told={"error": {"message": str(died)}})
    with task("comparing what it gave", unit=""):
        steps = again.compared(found.steps, whole)
        steps += _model(ws, again, run, whole, steps)
    first = _first(steps, whole)
    lock, host = whole.told.get("lock", {}), whole.told.get("host", {})
    verdict = verdicts.worst([each.verdict for each in steps])
    return Done(
        verdict=DIFFERENT if verdict == FAILED else verdict,
        code=place.code,
        environment=at.name,
        rebuilt=at.rebuilt,
        lock=lock,
        host=host,
        steps=tuple(steps),
        step=first.place if first is not None else "",
        causes=() if first is None else tuple(_causes(ws, found, again, whole, first)),
    )


def _first(steps: Sequence[StepVerdict], whole: Whole) -> StepVerdict | None:
    """The first step that came out otherwise; one that was run, where there is one: the others waited for it."""
    otherwise = [each for each in steps if each.verdict in (DIFFERENT, FAILED)]
    run = [each for each in otherwise if each.verdict == DIFFERENT or each.step in whole.steps]
    return next(iter(run or otherwise), None)


def _model(
    ws: Workspace, again: Again, run: RunRecord, whole: Whole, steps: Sequence[StepVerdict]
) -> list[StepVerdict]:
    """The verdicts on the model and on its metrics; none for a pipeline that makes no model."""
    with ws.ledger.read() as tx:
        stored = [each.digest for each in tracking.artifacts(tx, run.run) if each.type == "bundle"]
    if not stored or (whole.error and not whole.told.get("model")):
        return []
    told = whole.told.get("model") or {}
    tolerance = max((each.tolerance for each in steps if each.step == told.get("step")), default=0.0)
    found = [bundle_verdict(bundles.read(ws, stored[-1]), told, tolerance)]
    if told.get("metrics") is not None:
        found.append(metrics(run.metrics, told["metrics"], tolerance))
    return found


def _causes(ws: Workspace, found: _Found, again: Again, whole: Whole, first: StepVerdict) -> list[Cause]:
    """Why the first step came out otherwise."""
    record = next((each for each in found.steps if each.step == first.step), None)
    if record is None:
        return _of_model(found, whole, first)
    made = whole.steps.get(first.step, {})
    if not made:
        text = f"{first.text}"[:400]
        packages = causing.packages_of(found.lock, whole.told.get("lock", {}))
        kind = causing.PACKAGE if packages else causing.UNKNOWN
        return [Cause(kind=kind, evidence=text, sure=causing.LEFT)]
    host, at = _maker(ws, found, record)
    recorded = tuple(output.digest for output in record.outputs)
    now = tuple(output["digest"] for output in made["outputs"]) if made["status"] != "failed" else ()
    if first.item is not None:
        recorded, now = again.item(record, made, first.item)
    evidence = Evidence(
        step=first.place,
        recorded=recorded,
        made=now,
        error=first.text if first.verdict == FAILED else "",
        then=found.documents[first.step],
        now=made["document"],
        reads=(found.reads[first.step], dict(made["reads"])),
        hosts=(host, whole.told["host"]),
        locks=(found.lock, whole.told["lock"]),
        at=at,
        seconds=record.seconds,
        roots=locks.environment(ws.project.state).roots,
    )
    roots = ws.project.root.resolve(), again.place.root
    return diagnose(evidence, again.prober(first.step, record.seconds, first.item), again.are_near, roots)


def _of_model(found: _Found, whole: Whole, first: StepVerdict) -> list[Cause]:
    """Why a model or a metric differs although every step gave the same."""
    packages = causing.packages_of(found.lock, whole.told.get("lock", {}))
    if packages:
        name, (was, now) = next(iter(packages.items()))
        text = f"every step gave the same; {name} {was or 'absent'} -> {now or 'absent'}"
        return [Cause(kind=causing.PACKAGE, evidence=text, sure=causing.LEFT)]
    text = "every step gave the same, and this did not: " + (first.text or "its files are others")
    kind = causing.RANDOM if first.step == METRICS else causing.UNKNOWN
    return [Cause(kind=kind, evidence=text[:400], sure=causing.LEFT)]


def _maker(ws: Workspace, found: _Found, step: StepRecord) -> tuple[Mapping[str, Any], str]:
    """The host of the run that made a step's result, and when that was; a cached one was made by an earlier run."""
    maker = step
    if step.status == "cached":
        with ws.ledger.read() as tx:
            entries = pipeline.entries(tx, [step.key]).get(step.key, [])
        same = [each for each in entries if each.seq < step.seq and each.outputs == step.outputs]
        maker = same[0] if same else step
    at = ws.ledger.facts(after=maker.seq - 1, limit=1)[0].at
    if maker.run == step.run:
        return found.host, at
    with ws.ledger.read() as tx:
        run = tracking.run(tx, maker.run)
    return (stored_document(ws, run.host) if run is not None else {}), at


def _inputs(found: _Found, step: str) -> set[str]:
    """The data sets that a step takes itself, by what its key says of its inputs."""
    given = {str(value).partition(" ")[0] for value in found.documents[step].get("inputs", {}).values()}
    return {pin.dataset for pin in found.run.pins if any(pin.tree in text for text in given)}


def _recorded(ws: Workspace, found: _Found | ScriptFound, model: str, done: Done, seconds: float) -> Reproduction:
    """Sign and store the verdict; gives all of it."""
    run = found.run
    lines = [*differences(found.lock, done.lock), *host_differences(found.host, done.host)] if done.lock else []
    data = done.data or tuple(f"{pin.dataset}@{pin.version}" for pin in run.pins)
    inputs: list[JSON] = [{"dataset": pin.dataset, "version": pin.version, "tree": pin.tree} for pin in run.pins]
    told: dict[str, JSON] = {
        "model": model,
        "code": {"from": done.code, "commit": run.code.commit, "patch": run.code.patch, "source": run.code.source},
        "data": [*inputs, *done.inputs],
        "notes": list(done.notes),
        "seed": run.seed,
        "config": run.config,
        "lock": {"then": run.environment, "differs": [line.name for line in lines if line.section != "host"]},
        "host": {"then": run.host, "differs": [line.name for line in lines if line.section == "host"]},
        "steps": [_step_document(step) for step in done.steps],
    }
    digest, fact = verdicts.put(
        ws,
        run=run.run,
        verdict=done.verdict,
        environment=done.environment,
        seconds=seconds,
        step=done.step,
        causes=done.causes,
        told=told,
    )
    ok = done.verdict in (IDENTICAL, TOLERATED)
    return Reproduction(
        run=run.run,
        model=model,
        ok=ok,
        verdict=done.verdict,
        code=done.code,
        data=data,
        seed=run.seed,
        environment=done.environment,
        is_same_lock=bool(done.lock) and not any(line.section != "host" for line in lines),
        lines=tuple(lines[:MAX_LINES]),
        rebuilt=done.rebuilt,
        steps=done.steps,
        step=done.step,
        causes=tuple(
            CauseLine(kind=each.kind, evidence=each.evidence, sure=each.sure, where=each.where, hint=each.hint)
            for each in done.causes
        ),
        notes=done.notes,
        seconds=round(seconds, 3),
        document=digest,
        signer=str(ws.ledger.signer.verifier),
        fact=fact,
        next=f"noria explain fact/{fact}" if ok else f"noria why {run.run}",
    )


def _step_document(step: StepVerdict) -> dict[str, JSON]:
    outputs: list[JSON] = [
        {
            "name": each.name,
            "verdict": each.verdict,
            "then": each.then,
            "now": each.now,
            "largest": _finite(each.largest),
        }
        for each in step.outputs
    ]
    return {"step": step.step, "verdict": step.verdict, "tolerance": step.tolerance, "outputs": outputs}


def _finite(value: float) -> float | None:
    """A number that JSON can say."""
    return value if abs(value) < float("inf") else None
