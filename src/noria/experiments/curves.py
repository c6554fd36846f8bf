"""The curves of a run, read for drawing: the metrics that are asked for, each made small, in one pass over segments.

A long history is made of what the summaries of its segments show, so that of a million points none is read. The
least and the greatest value of each are among what is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from noria.core.frozen import frozen
from noria.experiments import points, records
from noria.experiments.points import Chunk, Curve
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

__all__ = ["Drawn", "Footers", "curves_of", "names_of"]

Footers = Callable[[str], Sequence[Chunk]]
"""The summaries of a segment by its digest. It never changes, so whoever asks often may keep them."""


@frozen
class Drawn:
    """A metric of a run as it is drawn: a part of its points in order, and how many there are."""

    run: str
    metric: str
    curve: Curve
    total: int


def names_of(ws: Workspace, run: str) -> list[str]:
    """The metrics of a run, in the ledger or in its live series."""
    with ws.ledger.read() as tx:
        known = {each.key for each in records.metrics(tx, [run])[run]}
        is_going = (found := records.run(tx, run)) is not None and found.status == "running"
    return sorted(known | (points.names(ws.series.read(run)) if is_going else set()))


def curves_of(
    ws: Workspace, run: str, names: Sequence[str], limit: int, *, footers: Footers | None = None
) -> list[Drawn]:
    """At most `limit` points of each of these metrics of a run, in their order; those without points are left out.

    Args:
        footers: gives the summaries of a segment; read from the store if left out.
    """
    read = footers or (lambda segment: points.chunks(ws.objects, segment))
    wanted = set(names)
    with ws.ledger.read() as tx:
        own = [segment for segment, _ in records.segments(tx, run)]
        sealed = [segment for segment in tracking.segments(tx, run) if segment not in own]
    told = {segment: read(segment) for segment in own}
    chunks: dict[str, list[Chunk]] = {}
    for summaries in told.values():
        for chunk in summaries:
            if chunk.name in wanted:
                chunks.setdefault(chunk.name, []).append(chunk)
    live = points.split(ws.series.read(run))
    others = set(live) & wanted
    found: dict[str, tuple[Curve, int]] = {}
    for name in (each for each in chunks if not sealed and each not in others):
        curve = _of_summaries(chunks[name], limit)
        if curve is not None:
            found[name] = (points.downsample(curve, limit), sum(chunk.points for chunk in chunks[name]))
    left = wanted - set(found)
    holding = {segment: left & {chunk.name for chunk in summaries} for segment, summaries in told.items()}
    whole = _whole(ws, {**holding, **dict.fromkeys(sealed, left)})
    for name in left:
        parts = [*whole.get(name, ()), *([live[name]] if name in others else ())]
        curve = points.ordered(points.joined(parts))
        if len(curve):
            found[name] = (points.downsample(curve, limit), len(curve))
    return [Drawn(run, name, *found[name]) for name in names if name in found]


def _of_summaries(chunks: Sequence[Chunk], limit: int) -> Curve | None:
    """The curve as the summaries show it, where that is all of it or about as much as is drawn; else None."""
    if all(len(chunk.shown) == chunk.points for chunk in chunks):
        return points.curve([point for chunk in chunks for point in chunk.shown])
    if len(chunks) >= limit / 4 and sum(chunk.points for chunk in chunks) > limit:
        return points.thin(chunks)
    return None


def _whole(ws: Workspace, wanted: Mapping[str, set[str]]) -> Mapping[str, list[Curve]]:
    """All points of the names that are wanted of each segment, which is opened once."""
    found: dict[str, list[Curve]] = {}
    for segment, names in wanted.items():
        for name, part in points.some(ws.objects, segment, names).items() if names else ():
            found.setdefault(name, []).append(part)
    return found
