"""How far a run under way has come, and how long its steps will still take, for whoever looks on.

The journal says what is begun and over, at once; the ledger says how long the same steps took
before. Nothing is guessed: where a step has never run, or runs for longer than it used to, the time
left is not known, and why is said.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from noria.core.clock import utc_text
from noria.core.frozen import frozen
from noria.pipeline import records
from noria.pipeline.attempt import journal
from noria.pipeline.attempt.journal import Seen, Waits
from noria.pipeline.driving.forecast import Ahead, seconds_left
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = ["ItemsLine", "Progress", "RunningLine", "WaitingLine", "progress"]

LAST = 5
"""So many of the last times that a step ran tell how long it takes: the middle one counts."""
LATE, LATE_S = 1.5, 1.0
"""What runs for so many times as long as usual, and so many seconds more, is late: its end is not known."""


@frozen(kw_only=True)
class RunningLine:
    """What runs now: a step, or an item of a mapped one (score.17); since when, for how many seconds.

    `usual_s` is what it took the last times, for an item the mean of the others; None: not known.
    """

    step: str
    since: str
    seconds: float
    usual_s: float | None


@frozen(kw_only=True)
class ItemsLine:
    """A mapped step that is under way: so many of its items are over."""

    step: str
    done: int
    of: int


@frozen(kw_only=True)
class WaitingLine:
    """A step, or an item of a mapped one, that failed and waits for its next attempt.

    `attempt` is the number of that, of `of` (0: of any number); `until` when it begins, `error` why the last failed.
    """

    step: str
    attempt: int
    of: int
    until: str
    error: str


@frozen(kw_only=True)
class Progress:
    """How far a run has come: steps that are over, of how many, what runs now, and mapped steps under way.

    `waiting` is what failed and begins again.

    `left_s` is how many seconds the steps will still take; what turns out to be cached makes it
    shorter. None: not known, and `unknown` says why.
    """

    done: int
    of: int
    running: tuple[RunningLine, ...]
    items: tuple[ItemsLine, ...]
    left_s: float | None
    unknown: str
    waiting: tuple[WaitingLine, ...] = ()


def progress(ws: Workspace, run: str, since: datetime) -> Progress | None:
    """How far a run has come that this machine drives; None for one of another machine, or before it has a plan.

    `since`: when its process began with it. What is planned and begun from before is that of a process which is gone.
    """
    seen = journal.seen(journal.place(ws.project.state, run))
    if seen is None:
        return None
    is_of_before = seen.planned_at < since.timestamp()
    if is_of_before:
        seen.begun.clear()
        seen.waiting.clear()
    with ws.ledger.read() as tx:
        usual = _usual(tx, seen)
    told = _told(seen, usual, ws.clock.now().timestamp())
    return replace(told, left_s=None, unknown="it was just taken up again") if is_of_before else told


@frozen
class _Usual:
    """What a step takes: seconds, those of one item for a mapped one, and how many items it had last time."""

    seconds: float | None
    longest_s: float = 0.0
    items: int = 0


def _usual(tx: Reader, seen: Seen) -> dict[str, _Usual]:
    """What is known of each step that is not over."""
    ran: dict[str, list[float]] = {}
    for name, (status, seconds) in seen.over.items():
        step, _, _ = name.rpartition(".")
        if step in seen.maps and status == "done":
            ran.setdefault(step, []).append(seconds)
    found = {}
    for name in seen.parents:
        if name in seen.over:
            continue
        if name in seen.choices:
            found[name] = _Usual(0.0)
        else:
            found[name] = _before(tx, name, seen.maps.get(name))
            if ran.get(name):  # the items of this run tell more, but of the longest one the last run knows too
                longest = max(*ran[name], found[name].longest_s)
                found[name] = _Usual(statistics.fmean(ran[name]), longest, seen.maps[name])
    return found


def _before(tx: Reader, name: str, items: int | None) -> _Usual:
    """What the last runs say of a step. `items`: how many it has in this run, if it is mapped and begun."""
    last = records.took(tx, name, LAST)
    if not last:
        return _Usual(None, items=items or 0)
    if not last[0].items and items is None:
        times = [record.seconds for record in last]
        return _Usual(statistics.median(times), max(times))
    each = [
        item.seconds for record in last[:1] for item in records.items(tx, record.run, name) if item.status == "done"
    ]
    count = last[0].items if items is None else items
    return _Usual(statistics.fmean(each), max(each), count) if each else _Usual(None, items=count)


def _told(seen: Seen, usual: Mapping[str, _Usual], now: float) -> Progress:
    steps = [name for name in seen.parents if name not in seen.choices]
    running = sorted(seen.begun.values(), key=lambda begun: begun.at)
    lines = tuple(
        RunningLine(
            step=begun.name,
            since=utc_text(datetime.fromtimestamp(begun.at, UTC)),
            seconds=round(max(0.0, now - begun.at), 3),
            usual_s=_rounded(usual[_step_of(seen, begun.name)].seconds),
        )
        for begun in running
        if _step_of(seen, begun.name) in usual
    )
    over = Counter(_step_of(seen, name) for name in seen.over if name not in seen.parents)
    maps = tuple(
        ItemsLine(step=name, done=over[name], of=items) for name, items in seen.maps.items() if name not in seen.over
    )
    unknown = _unknown(seen, usual, now)
    left = None if unknown else seconds_left(_ahead(seen, usual, over, now), seen.slots)
    done = sum(name in seen.over for name in steps)
    return Progress(
        done=done,
        of=len(steps),
        running=lines,
        items=maps,
        left_s=_rounded(left),
        unknown=unknown,
        waiting=tuple(_waiting(each) for each in sorted(seen.waiting.values(), key=lambda waits: waits.at)),
    )


def _waiting(waits: Waits) -> WaitingLine:
    until = utc_text(datetime.fromtimestamp(waits.at, UTC))
    return WaitingLine(step=waits.name, attempt=waits.attempt, of=waits.of, until=until, error=waits.error)


def _unknown(seen: Seen, usual: Mapping[str, _Usual], now: float) -> str:
    """Why nobody knows how long it will take; "" if it can be told."""
    again = next(iter(seen.waiting), "")
    if again:
        return f"{again} failed, and waits for its next attempt"
    new = [name for name, known in usual.items() if known.seconds is None and seen.maps.get(name) != 0]
    if new:
        more = f" and {len(new) - 1} more" if len(new) > 1 else ""
        return f"{new[0]}{more} never ran to the end before"
    for begun in seen.begun.values():
        known = usual.get(_step_of(seen, begun.name))
        if known is not None and now - begun.at > LATE * known.longest_s + LATE_S:
            return f"{begun.name} runs for longer than it ever did of late ({known.longest_s:.1f} s)"
    return ""


def _ahead(seen: Seen, usual: Mapping[str, _Usual], over: Mapping[str, int], now: float) -> dict[str, Ahead]:
    found = {}
    for name, known in usual.items():
        each = known.seconds or 0.0
        at_work = [begun for begun in seen.begun.values() if _step_of(seen, begun.name) == name]
        begun = tuple(max(0.0, each - (now - attempt.at)) for attempt in at_work)
        is_mapped = name in seen.maps or bool(known.items)
        rest = max(0, (known.items - over.get(name, 0) if is_mapped else 1) - len(begun))
        beside = min(rest, max(1, seen.slots))
        pieces = (*begun, *((rest * each / beside,) * beside if beside else ()))
        found[name] = Ahead(seen.parents[name], pieces, len(begun))
    return found


def _step_of(seen: Seen, name: str) -> str:
    """The step that an attempt belongs to: itself, or the mapped one."""
    step, _, _ = name.rpartition(".")
    return step if name not in seen.parents and step in seen.maps else name


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
