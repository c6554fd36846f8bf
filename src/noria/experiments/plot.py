"""Runs as pictures: their curves over each other, and parallel coordinates of their params and metrics, as SVG.

The same goes into the pages of the server and into files. Of each metric at most `POINTS` points are drawn, with the
least and the greatest among them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from noria.core.clock import instant
from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.experiments import coordinates, records
from noria.experiments.coordinates import Dot
from noria.experiments.curves import Footers, curves_of, names_of
from noria.experiments.draw import Line, sheet
from noria.experiments.records import LoggedRun
from noria.pipeline.space import Dimension
from noria.registry.export import inside
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace
from noria.tracking.run import resolve
from noria.tracking.system import PROCESS, is_system

__all__ = ["CHARTS_MAX", "POINTS", "RUNS_MAX", "Panel", "Plotted", "chief", "named", "panels", "parallel", "plot"]

POINTS = 600
RUNS_MAX = 20
CHARTS_MAX = 60
AXES_MAX = 7
LEVELS_MAX = 12
LOG_FROM = 100.0
"""A param whose values lie further apart than this factor has an axis of powers."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@frozen(kw_only=True)
class Plotted:
    """A picture that was written, and what is on it."""

    path: str
    size_bytes: int
    runs: tuple[str, ...]
    metrics: tuple[str, ...]
    next: str


@frozen
class Panel:
    """One chart: a metric, a line for each run that has it, what goes across, and how many points there are."""

    metric: str
    lines: tuple[Line, ...]
    across: str
    total: int


@verb(permission="experiments.write", changes=False)
def plot(ws: Workspace, runs: Sequence[str], metric: Sequence[str] = (), to: str = "", by: str = "step") -> Plotted:
    """Write the curves of runs as an SVG, over each other; of three runs on with parallel coordinates of their params.

    The same runs give the same file. It follows the light or dark setting of whoever looks at it.

    Args:
        runs: ids of runs, or their first or last characters.
        metric: which metrics are drawn; all but those of the machine by default.
        to: a new file inside the project; RUN.svg if left out. The same picture may be there already.
        by: what goes across: step, or time in seconds since each run began.
    Raises: NotFound for a run or a metric that is not there; UsageError; Conflict for a file that is something else.
    Example: noria experiments plot run_01k3 run_01k4 --metric loss
    """
    if by not in ("step", "time"):
        raise UsageError(f"{by[:40]!r} cannot go across", hint="step or time")
    found = named(ws, runs)
    drawn = panels(ws, found, metric, by=by)
    if not drawn:
        known = sorted({name for run in found for name in names_of(ws, run.run)})
        hint = f"one of: {', '.join(known[:12])}" if known else "they logged no metric"
        raise NotFound(f"the runs have no points of {', '.join(metric) or 'any metric'}"[:200], hint=hint)
    below = parallel(ws, found, chief(drawn)) if len(found) > 2 else ""
    title = f"run {found[0].run}" if len(found) == 1 else f"{len(found)} runs"
    content = sheet(
        title,
        [(each.metric, each.lines, each.across) for each in drawn],
        more=below,
        more_height=coordinates.HEIGHT if below else 0,
    ).encode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", found[0].run).lstrip(".") + ("" if len(found) == 1 else "-and-others")
    target = inside(ws, to or f"{name}.svg")
    with disk_faults(target):
        if target.exists() and (not target.is_file() or target.read_bytes() != content):
            raise Conflict(f"{target} exists and is something else", hint="name a new file")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(content)
        part.replace(target)
    names = tuple(run.run for run in found)
    return Plotted(
        path=str(target),
        size_bytes=len(content),
        runs=names,
        metrics=tuple(each.metric for each in drawn),
        next=f"noria diff {names[0]} {names[1]}" if len(names) > 1 else f"noria experiments show {names[0]}",
    )


def named(ws: Workspace, runs: Sequence[str]) -> list[LoggedRun]:
    """The runs that texts name, each once, in their order. Raises: NotFound; UsageError for none or too many."""
    names = list(dict.fromkeys(resolve(ws, run).run for run in runs[: RUNS_MAX + 1]))
    if not names or len(runs) > RUNS_MAX:
        raise UsageError(f"{len(runs)} runs cannot be drawn together", hint=f"1 to {RUNS_MAX}")
    with ws.ledger.read() as tx:
        found = [records.run(tx, name) for name in names]
    return [each for each in found if each is not None]


def panels(
    ws: Workspace,
    runs: Sequence[LoggedRun],
    names: Sequence[str] = (),
    *,
    by: str = "step",
    is_of_machine: bool = False,
    footers: Footers | None = None,
) -> list[Panel]:
    """A chart for each metric that the runs have, by name, CHARTS_MAX at most.

    Args:
        names: only these; without any all, those of the machine or the others.
        footers: as `curves_of` takes it.
    """
    wanted = {
        run.run: [name for name in names_of(ws, run.run) if _is_wanted(name, names, is_of_machine)] for run in runs
    }
    shown = sorted({name for each in wanted.values() for name in each}, key=_place)[:CHARTS_MAX]
    lines: dict[str, list[Line]] = {name: [] for name in shown}
    totals = dict.fromkeys(shown, 0)
    for number, run in enumerate(runs):
        began_us = (instant(run.started_at) - _EPOCH).total_seconds() * 1e6
        asked = [name for name in wanted[run.run] if name in lines]
        for each in curves_of(ws, run.run, asked, POINTS, footers=footers):
            is_timed = by == "time" or is_system(each.metric)
            xs = ((each.curve.at_us - began_us) / 1e6).tolist() if is_timed else each.curve.steps.tolist()
            label = f"{run.name} ({run.run[-6:]})" if run.name and run.name not in run.run else run.run
            lines[each.metric].append(Line(label, number, xs, each.curve.values.tolist()))
            totals[each.metric] += each.total
    across = {name: "seconds" if by == "time" or is_system(name) else "step" for name in shown}
    return [Panel(name, tuple(lines[name]), across[name], totals[name]) for name in shown if lines[name]]


def chief(drawn: Sequence[Panel]) -> str:
    """The metric that most runs have, by name the first; "" without any."""
    return max(drawn, key=lambda panel: len(panel.lines)).metric if drawn else ""


def _place(name: str) -> tuple[bool, str]:
    """By name; of the machine's metrics those of the run's own processes first."""
    return (is_system(name) and not name.startswith(PROCESS), name)


def _is_wanted(name: str, names: Sequence[str], is_of_machine: bool) -> bool:
    return name in names if names else is_system(name) == is_of_machine


def parallel(ws: Workspace, runs: Sequence[LoggedRun], metric: str) -> str:
    """Parallel coordinates: the params that differ and all runs have, then other metrics, then the one; "" if too few.

    A line is the stronger the higher the metric: which way is better, a metric does not say.
    """
    ids = [run.run for run in runs]
    with ws.ledger.read() as tx:
        params, latest = records.params(tx, ids), records.latest(tx, ids)
    values = {run: value for run in ids if (value := latest[run].get(metric)) is not None and math.isfinite(value)}
    if len(values) < 2:
        return ""
    ordered = sorted(values, key=lambda run: -values[run])
    columns: dict[str, Mapping[str, float | str]] = {}
    for name in sorted({key for run in values for key in params[run]}):
        texts = {run: params[run][name] for run in values if name in params[run]}
        if len(texts) == len(values) and len(set(texts.values())) > 1:
            columns[name] = _as_numbers(texts)
    for name in sorted({key for run in values for key in latest[run] if key != metric and not is_system(key)}):
        numbers = {run: number for run in values if (number := latest[run].get(name)) is not None}
        if len(numbers) == len(values) and len(set(numbers.values())) > 1 and all(map(math.isfinite, numbers.values())):
            columns.setdefault(name, numbers)
    space = {name: axis for name, each in columns.items() if (axis := _axis(name, list(each.values()))) is not None}
    shown = dict(list(space.items())[:AXES_MAX])
    dots = [
        Dot(
            number=place,
            state="done",
            value=values[run],
            params={name: columns[name][run] for name in shown},
            rank=place / max(1, len(ordered) - 1),
            is_best=False,
            note=f"{run}: {metric} {values[run]:.6g}",
        )
        for place, run in enumerate(ordered)
    ]
    return coordinates.parallel(dots, shown, metric=metric)


def _as_numbers(texts: Mapping[str, str]) -> Mapping[str, float | str]:
    """The values as numbers where all are such, and finite."""
    try:
        numbers = {run: float(text) for run, text in texts.items()}
    except ValueError:
        return texts
    return numbers if all(map(math.isfinite, numbers.values())) else texts


def _axis(name: str, values: Sequence[float | str]) -> Dimension | None:
    """The axis of a column that has at least two values; None for more texts than an axis can say."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) == len(values):
        low, high = float(min(numbers)), float(max(numbers))
        kind = "int" if all(float(number).is_integer() for number in numbers) else "float"
        return Dimension(name=name, kind=kind, low=low, high=high, log=low > 0 and high / low >= LOG_FROM)
    levels = sorted({str(value) for value in values})
    return Dimension(name=name, kind="choice", choices=tuple(levels)) if len(levels) <= LEVELS_MAX else None
