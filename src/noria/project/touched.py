"""Forward lineage: from data or runs to every version, release and prediction that they touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.registry import records as registry
from noria.serving import records as serving
from noria.serving import segment
from noria.serving.line import decode
from noria.store.ledger import Reader
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

pc, pq = lazy("pyarrow.compute"), lazy("pyarrow.parquet")

__all__ = ["Touched", "by_runs", "by_trees", "counts", "predictions"]

MAX_RUNS = 10_000


@frozen(kw_only=True)
class Touched:
    """One thing that something reached."""

    what: str
    ref: str
    text: str
    at: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def by_trees(ws: Workspace, dataset: str, versions: Sequence[int]) -> list[Touched]:
    """What versions of a data set touched: the runs pinned to them, and what those made."""
    wanted = {(dataset, version) for version in versions}
    with ws.ledger.read() as tx:
        found = [
            run
            for run in tracking.runs(tx, limit=MAX_RUNS)
            if any((pin.dataset, pin.version) in wanted for pin in run.pins)
        ]
    return by_runs(ws, [run.run for run in found])


def by_runs(ws: Workspace, runs: Sequence[str]) -> list[Touched]:
    """What runs made: versions, releases, and how many predictions those gave."""
    found: list[Touched] = []
    with ws.ledger.read() as tx:
        for run in runs:
            record = tracking.run(tx, run)
            if record is not None:
                text = f"{run} {record.status}, asked for by {record.cause}"
                found.append(Touched(what="run", ref=f"run/{run}", text=text, at=record.started_at))
        made = _releases(tx, set(runs))
    for version_ref, at, model, releases in made:
        found.append(Touched(what="model", ref=f"model/{version_ref}", text=version_ref, at=at))
        found += predictions(ws, model, releases)
    return found


def predictions(ws: Workspace, model: str, releases: Sequence[int]) -> list[Touched]:
    """Releases with their states and the number of predictions that each gave."""
    numbers = counts(ws, model) if releases else {}
    found = []
    with ws.ledger.read() as tx:
        for number in releases:
            record = registry.release(tx, model, number)
            if record is not None:
                count = numbers.get(number, 0)
                text = f"{record.ref} is {record.state}, gave {count:,} predictions"
                ref = f"release/{model}/{number}"
                details = {"predictions": count, "state": record.state}
                found.append(Touched(what="release", ref=ref, text=text, at=record.made_at, details=details))
    return found


def counts(ws: Workspace, model: str) -> dict[int, int]:
    """How many answers each release gave, over sealed and open logs; shadows do not count."""
    sources = segment.sources(segment.folder(ws.project.state, model))
    files = {path.name: segment.read(path)[0] for path in sources}
    with ws.ledger.read() as tx:
        sealed = serving.segments(tx, model)
    total: Counter[int] = Counter()
    for piece in sealed:
        table = pq.read_table(ws.objects.path(piece.segment), columns=["rel", "sh", "st"])
        answered = table.filter(pc.and_(pc.equal(table["sh"], ""), pc.equal(table["st"], 200)))
        for item in pc.value_counts(answered["rel"]).to_pylist():
            total[int(item["values"])] += int(item["counts"])
    known = {piece.source for piece in sealed}
    for name, lines in files.items():
        if name not in known:
            total.update(line.rel for line in decode(lines) if not line.is_shadow and line.st == 200)
    return dict(total)


def _releases(tx: Reader, runs: set[str]) -> list[tuple[str, str, str, list[int]]]:
    """(version's ref, when, model, numbers of its releases) of the versions that runs made, oldest first."""
    found = []
    for model in registry.models(tx):
        numbered = registry.releases(tx, model)
        for version in reversed(registry.versions(tx, model)):
            if version.run in runs:
                numbers = sorted(item.release for item in numbered if item.version == version.version)
                found.append((version.ref, version.at, model, numbers))
    return found
