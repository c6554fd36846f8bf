"""What keeps the loop going: a look around that queues work, and the work itself.

`tick` may run as often as one likes and in several processes: it seals what came, ends what a dead
process left, and queues jobs whose keys say what they are about, so each is queued once. `work` does
one job and may be begun again after any kill.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from noria.checks import records as checks
from noria.core.clock import duration, instant, utc_text
from noria.core.errors import NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.core.verb import verb
from noria.data import records as data
from noria.data import versions
from noria.data.records import DatasetVersion
from noria.loop import pins, records, review
from noria.loop.challenge import ALERT, challenge
from noria.loop.interrupted import left_behind
from noria.loop.records import DecisionRecord
from noria.loop.run import Challenge, perform
from noria.monitoring import alerts, labels, live, performance
from noria.monitoring import records as monitoring
from noria.monitoring.window import Window, closed, containing, following, named, previous
from noria.packaging.bundle import Opened, loader
from noria.registry.release import Release
from noria.serving import capture, segment
from noria.serving import records as serving
from noria.store.failpoint import failpoint
from noria.store.jobs import Job
from noria.store.linelog import read_lines
from noria.store.workspace import Workspace
from noria.tracking import run as tracking
from noria.tracking.run import reap

__all__ = ["KINDS", "Queued", "review_now", "tick", "work"]

KINDS = ("check", "review", "resume")
MAX_ASKED = 100
MAX_WINDOWS = 400
"""So many closed windows are looked back at, at most."""


@frozen(kw_only=True)
class Queued:
    """A review that was queued: its job, and what it is about."""

    job: str
    model: str
    window: str
    dataset: str
    version: int


def tick(ws: Workspace) -> list[str]:
    """Look around once; gives the ids of the jobs that should be there now. Cheap when nothing has changed.

    While a rollout is under way no review of the model begins by itself: the champion that it would
    judge against is about to change, and its answer would be "wait" whatever it finds. A rollout has
    a deadline, so this is for a bounded time.
    """
    reap(ws)
    jobs = _queue_resumes(ws)
    for model in live.models(ws):
        labels.seal(ws, model)
        release = live.live_release(ws, model)
        checks_first = _queue_checks(ws, release)
        jobs += checks_first
        due = None if checks_first or _has_rollout(ws, model) else _due(ws, model, release)
        if due is not None:
            queued = _queue_review(ws, model, *due)
            _call_if_failed(ws, queued)
            jobs.append(queued.job)
    failpoint("loop.ticked")
    return jobs


def _queue_resumes(ws: Workspace) -> list[str]:
    """Queue what people's runs left behind; one job for each time that a run was cut."""
    jobs = []
    for found in left_behind(ws):
        job = ws.jobs.enqueue("resume", {"run": found.run}, key=f"resume/{found.run}/{found.resumed}")
        known = ws.jobs.get(job)
        if known is not None and known.state in ("waiting", "running"):
            jobs.append(job)
    return jobs


def _resume(ws: Workspace, run: str) -> dict[str, JSON]:
    """Go on with a run, if it still is to be, and can be."""
    found = tracking.resolve(ws, run)
    if found.run not in {each.run for each in left_behind(ws)}:
        return {"run": run, "outcome": f"it is {found.status}"}
    reason = tracking.not_resumable(ws, found)
    if reason:
        return {"run": run, "outcome": reason}
    report = perform(ws, Challenge(cause=found.cause), resume=run)
    return {"run": run, "outcome": "finished", "ok": report.ok}


def _has_rollout(ws: Workspace, model: str) -> bool:
    with ws.ledger.read() as tx:
        return serving.open_rollout(tx, model) is not None


def work(ws: Workspace, job: Job) -> dict[str, JSON]:
    """Do one job of the loop and give its result. Raises: what the world does; the policy's answers are results."""
    payload = job.payload
    if job.kind == "resume":
        return _resume(ws, str(payload["run"]))
    if job.kind == "check":
        return _check(ws, versions.resolve(ws, f"{payload['dataset']}@{payload['version']}"))
    if job.kind == "review":
        version = versions.resolve(ws, f"{payload['dataset']}@{payload['version']}")
        return _review(ws, str(payload["model"]), named(str(payload["window"])), version)
    raise UsageError(f"nobody knows jobs of the kind {job.kind!r}", hint=f"kinds: {', '.join(KINDS)}")


@verb(permission="loop.review", name="review")
def review_now(ws: Workspace, model: str, window: str = "") -> Queued:
    """Ask for the review of a window now, also if it is not due by itself; the trainer does it.

    Args:
        window: such as 2013-12; by default the newest that has ended.
    Raises: NotFound if nothing is live, or nothing was answered in the window; UsageError if it has not begun.
    Example: noria loop review flights --window 2013-12
    """
    release = live.live_release(ws, model)
    bounds = live.window_of(ws, model, window)
    _require_requests(ws, model, bounds)
    version = _usable(ws, _main(release))
    queued = _queue_review(ws, model, bounds, version, phase="asked")
    number = 1
    while (job := ws.jobs.get(queued.job)) is not None and job.state in ("failed", "finished") and number < MAX_ASKED:
        number += 1
        queued = _queue_review(ws, model, bounds, version, phase=f"asked {number}")
    return queued


def _require_requests(ws: Workspace, model: str, window: Window) -> None:
    """There is something to review. Raises: UsageError; NotFound."""
    now = live.as_of(ws, model) or ws.clock.now()
    if window.start > now:
        raise UsageError(
            f"{window.name} has not begun: for {model} it is {utc_text(now)[:10]}",
            hint=f"noria project months {model} shows the windows that have been",
        )
    if not capture.predictions(ws, model, window.start_text, window.end_text).num_rows:
        raise NotFound(
            f"{model} answered no request in {window.name}: there is nothing to review",
            hint=f"noria project months {model} shows the windows that have been",
        )


def _call_if_failed(ws: Workspace, queued: Queued) -> None:
    """A review that its owners gave up stays so until a person asks again: raise the alert, once."""
    job = ws.jobs.get(queued.job)
    if job is None or job.state != "failed":
        return
    first = job.error.splitlines()[0] if job.error else "no reason is known"
    message = f"the review of {queued.window} failed: {first}"[:500]
    with ws.ledger.read() as tx:
        standing = monitoring.alert(tx, queued.model, ALERT)
    if standing is None or not standing.is_open or standing.message != message:
        with ws.ledger.transaction() as tx:
            alerts.raise_alert(
                tx, queued.model, ALERT, kind="loop", severity="error", message=message, window=queued.window
            )


def _check(ws: Workspace, version: DatasetVersion) -> dict[str, JSON]:
    """Check a new version at once. If it is broken, every live model that uses the data set records the stop."""
    line = pins.check(ws, version)
    if line.ok:
        return {"dataset": version.ref, "ok": True}
    for model in live.models(ws):
        release = live.live_release(ws, model)
        if any(pin.dataset == version.name for pin in release.pins):
            review.stop(ws, model, _window_of(ws, model, version), version, line.failures)
    return {"dataset": version.ref, "ok": False, "failures": list(line.failures)}


def _review(ws: Workspace, model: str, window: Window, version: DatasetVersion) -> dict[str, JSON]:
    opened = loader(ws)
    decision = review.decide(ws, model, window, version, opened)
    _backfill(ws, model, window, opened)
    result: dict[str, JSON] = {"decision": decision.decision, "reason": decision.reason}
    if decision.decision == "train":
        result.update(challenge(ws, decision))
    return result


def _backfill(ws: Workspace, model: str, window: Window, opened: Opened) -> None:
    """Measure the window before again if labels were missing then: late ones have come since."""
    before = previous(window)
    with ws.ledger.read() as tx:
        known = monitoring.quality(tx, model, before.name)
    if known is not None and known.labelled < known.rows:
        performance.measured(ws, model, *live.window_with_requests(ws, model, before.name), opened)


def _due(ws: Workspace, model: str, release: Release) -> tuple[Window, DatasetVersion, str] | None:
    """The oldest window whose review is due, with the version to look at; None while there is none.

    A window is due when it has ended and its labels have had their delay. Under an event clock the
    data must have come so far, too: a version that reaches the window's last day. Each window is
    judged on the data that ended with it, however late its review comes, so the outcome does not
    depend on the machine's speed.
    """
    now = live.as_of(ws, model)
    if now is None:
        return None
    with ws.ledger.read() as tx:
        decided = records.decisions(tx, model)
    monitor = ws.project.model(model).monitor
    until = now - duration(monitor.labels.delay)
    ended = list(_ended(ws, model, monitor.window, decided, until))
    for window in ended:
        known = [item for item in decided if item.window == window.name]
        if any(item.decision != "stopped" and item.as_of >= window.end_text for item in known):
            continue
        if ws.project.clock != "events":
            return window, _usable(ws, _main(release)), "closed"
        version = _of_window(ws, _main(release), window, following(window))
        return None if version is None else (window, version, "closed")
    return _renewed(ws, ended, decided, _usable(ws, _main(release)), now)


def _renewed(
    ws: Workspace, ended: list[Window], decided: list[DecisionRecord], version: DatasetVersion, now: datetime
) -> tuple[Window, DatasetVersion, str] | None:
    """All windows are reviewed: a newer version of the data asks for one more look at the newest of them."""
    if not ended or any(item.dataset_version >= version.version for item in decided):
        return None
    if ws.project.clock == "events" and (not version.time_max or instant(version.time_max) >= ended[-1].end):
        return None  # it belongs to a window that has not ended
    return ended[-1], version, f"data {version.version}"


def _ended(ws: Workspace, model: str, size: str, decided: list[DecisionRecord], until: datetime) -> Iterator[Window]:
    """The windows that have ended, oldest first, from the newest fully reviewed one or the first event on."""
    done = [named(item.window) for item in decided if item.decision != "stopped"]
    if done:
        first: datetime | None = max(done).start
    else:
        first = _first_event(ws, model)
    if first is None:
        return
    found = list(closed(size, first=first, until=until))
    yield from found[-MAX_WINDOWS:]


def _reaches(version: DatasetVersion, window: Window) -> bool:
    return not version.time_max or instant(version.time_max) >= window.end - timedelta(days=1)


class _First(msgspec.Struct, frozen=True, gc=False):
    at: str = ""
    t: int = 0


_first_line = msgspec.json.Decoder(_First)


def _first_event(ws: Workspace, model: str) -> datetime | None:
    """When the first logged request was: its event time, or when it was answered."""
    with ws.ledger.read() as tx:
        found = [piece.event_min for piece in serving.segments(tx, model) if piece.event_min]
    times = [instant(text) for text in found]
    for path in segment.sources(segment.folder(ws.project.state, model))[:1]:
        payloads, _ = read_lines(path, limit_bytes=1 << 14)
        for payload in payloads[:1]:
            line = _first_line.decode(payload)
            times.append(instant(line.at) if line.at else datetime.fromtimestamp(line.t / 1e6, tz=UTC))
    return min(times, default=None)


def _window_of(ws: Workspace, model: str, version: DatasetVersion) -> Window:
    """The window that a version's newest rows belong to."""
    moment = instant(version.time_max) if version.time_max else live.as_of(ws, model) or ws.clock.now()
    return containing(moment, ws.project.model(model).monitor.window)


def _newest(ws: Workspace, dataset: str) -> DatasetVersion:
    with ws.ledger.read() as tx:
        found = data.newest(tx, dataset)
    assert found is not None, "a pinned data set has a version"
    return found


def _usable(ws: Workspace, dataset: str) -> DatasetVersion:
    """The newest version that has not failed its checks; the newest of all if every one has."""
    with ws.ledger.read() as tx:
        found = data.versions(tx, dataset)[::-1]
        for version in found:
            outcome = checks.latest(tx, dataset, version.tree)
            if outcome is None or outcome.ok:
                return version
    return found[0]


def _of_window(ws: Workspace, dataset: str, window: Window, after: Window) -> DatasetVersion | None:
    """The version that ended with a window: the newest that reaches it and not the window after.

    If every version that reaches it reaches further, the oldest of them. Versions that failed their
    checks do not count; None if the data have not come so far.
    """
    with ws.ledger.read() as tx:
        found = []
        for version in data.versions(tx, dataset):
            outcome = checks.latest(tx, dataset, version.tree)
            if (outcome is None or outcome.ok) and _reaches(version, window):
                found.append(version)
    own = [version for version in found if not (version.time_max and _reaches(version, after))]
    return own[-1] if own else next(iter(found), None)


def _main(release: Release) -> str:
    """The data set whose versions make a model's windows: the first that its run was pinned to."""
    if not release.pins:
        raise NotFound(f"{release.ref} was made from no data set", hint="noria run makes releases from data sets")
    return release.pins[0].dataset


def _queue_checks(ws: Workspace, release: Release) -> list[str]:
    """Queue the checks of data that came since a release; gives the jobs that are not done yet."""
    pending = []
    for pin in release.pins:
        version = _newest(ws, pin.dataset)
        if version.version > pin.version:
            payload: dict[str, JSON] = {"dataset": version.name, "version": version.version}
            name = ws.jobs.enqueue("check", payload, key=f"check/{version.ref}/{version.tree}")
            job = ws.jobs.get(name)
            if job is not None and job.state in ("waiting", "running"):
                pending.append(name)
    return pending


def _queue_review(ws: Workspace, model: str, window: Window, version: DatasetVersion, phase: str = "closed") -> Queued:
    payload: dict[str, Any] = {
        "model": model,
        "window": window.name,
        "dataset": version.name,
        "version": version.version,
    }
    job = ws.jobs.enqueue("review", payload, key=f"review/{model}/{window.name}/{version.ref}/{phase}")
    return Queued(job=job, model=model, window=window.name, dataset=version.name, version=version.version)
