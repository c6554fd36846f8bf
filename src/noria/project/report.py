"""`noria report`: the story of a model as one file, with the pictures that matter and the table beneath.

One HTML file without scripts and without anything to load; the same ledger gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.identity import digest
from noria.core.verb import verb
from noria.monitoring.facts import Estimate
from noria.monitoring.window import named
from noria.project import charts
from noria.project.charts import Cell, Line, Mark, Point
from noria.project.months import Month, ReleaseLine, months, releases_of
from noria.project.style import CSS
from noria.registry import records as registry
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

__all__ = ["ReportWritten", "page", "report"]

MAX_BYTES = 300_000
SIZES = ((60, 40), (36, 30), (24, 20), (12, 12), (6, 6))
"""Windows and columns that are shown: the most that fit into a file of MAX_BYTES."""
NO_WINDOW = "no window was measured yet: one is, when it has ended and had answered requests"
NAMES = {"auc": "AUC", "log_loss": "log loss", "rmse": "root mean squared error", "mae": "mean absolute error"}
BETTER = {"auc": "higher is better", "log_loss": "lower is better", "rmse": "lower is better", "mae": "lower is better"}
DRAWN = {"promoted": "promoted", "refused": "refused", "stopped": "stopped", "rolled back": "rolled", "held": "rolled"}


@frozen(kw_only=True)
class ReportWritten:
    """A report that was written: where, how large, and its digest. `windows` is how many it tells of;
    `note` says why there is none."""

    path: str
    size_bytes: int
    digest: str
    model: str
    windows: int
    note: str = ""


@verb(permission="project.report", changes=False, where="project")
def report(ws: Workspace, to: str = "report.html", model: str = "") -> ReportWritten:
    """Write the report of a model: quality, drift, decisions, promotions, refusals, stopped data.

    Args:
        to: a file inside the project folder.
        model: may be left out where there is only one.
    Raises: NotFound; UsageError for a place outside the project.
    Example: noria report --to report.html
    """
    found = months(ws, model)
    name = model or _only(ws)
    path = _inside(ws, to)
    with ws.ledger.read() as tx:
        releases = releases_of(tx, name)
    text = b""
    for windows, columns in SIZES:
        shown = found[-windows:]
        text = page(ws.project.name, name, shown, releases, _drift(ws, shown)[:columns]).encode("utf-8")
        if len(text) <= MAX_BYTES:
            break
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(text)
        part.replace(path)
    return ReportWritten(
        path=str(path),
        size_bytes=len(text),
        digest=digest(text),
        model=name,
        windows=min(windows, len(found)),
        note="" if found else NO_WINDOW,
    )


def page(
    project: str,
    model: str,
    found: Sequence[Month],
    releases: Sequence[ReleaseLine],
    drift: Sequence[tuple[str, Sequence[Cell]]],
) -> str:
    """The report as HTML. Pure: the same values give the same text."""
    shown = list(found)
    names = [_short(month.month) for month in shown]
    metrics = [name for name in NAMES if any(name in month.live for month in shown)]
    body = [
        f"<header><p class=faint>{escape(project)}</p><h1>{escape(model)}</h1>",
        f"<p class=lead>{_lead(shown)}</p></header>",
        _tiles(shown, releases),
    ]
    for index, metric in enumerate(metrics):
        lines = (_line("first release", "frozen", metric, shown), _line("as served", "live", metric, shown))
        chart = charts.quality(names, lines, _marks(shown), better=BETTER[metric], label=NAMES[metric])
        caption = _legend() if index == 0 else ""
        body.append(f"<figure>{chart}{caption}</figure>")
    if drift:
        body.append("<h2>Drift against what the live release was trained on</h2>")
        body.append(f"<figure>{charts.heat(names, drift)}{_heat_legend()}</figure>")
    body.append("<h2>Window by window</h2>" + _table(shown, metrics[0] if metrics else ""))
    body.append("<h2>Releases</h2>" + _releases(releases))
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(model)}: report</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{CSS}</style></head>"
    )
    foot = (
        "<footer>Written by <code>noria report</code> from the ledger: the same ledger gives the same bytes.</footer>"
    )
    return f"{head}<body><main>{''.join(body)}{foot}</main></body></html>\n"


def _only(ws: Workspace) -> str:
    with ws.ledger.read() as tx:
        return registry.models(tx)[0]


def _inside(ws: Workspace, to: str) -> Path:
    root = ws.project.root.resolve()
    path = (root / to).resolve()
    if not path.is_relative_to(root) or path == root:
        raise UsageError(f"{to} is not a file inside the project", hint="give a name such as report.html")
    return path


def _drift(ws: Workspace, found: Sequence[Month]) -> list[tuple[str, list[Cell]]]:
    """Each column's cells: the prediction first, then the columns that went furthest beyond their floors."""
    shown = list(found)
    documents = [ws.objects.get_json(month.drift_report) if month.drift_report else None for month in shown]
    columns: dict[str, list[Cell]] = {}
    for index, document in enumerate(documents):
        for item in document["columns"] if document else ():
            cells = columns.setdefault(item["column"], [Cell(None, False, "not measured")] * len(shown))
            cells[index] = _cell(item, shown[index].month)
    return sorted(columns.items(), key=lambda item: (item[0] != "prediction", -_furthest(item[1]), item[0]))


def _furthest(cells: Sequence[Cell]) -> float:
    return max((cell.ratio or 0.0) + (10.0 if cell.drifted else 0.0) for cell in cells)


def _cell(item: Any, window: str) -> Cell:
    values = item["effect"] / item["floor"] if item["effect"] is not None else None
    gap = abs(item["nulls"] - item["nulls_before"]) / item["null_floor"]
    ratio = gap if values is None else max(values, gap)
    effect = "no values" if item["effect"] is None else f"effect {item['effect']:.3f}"
    p = "" if item["p"] is None else f", p {item['p']:.2g}"
    nulls = (
        f", nulls {item['nulls']:.1%} (were {item['nulls_before']:.1%})"
        if item["nulls"] or item["nulls_before"]
        else ""
    )
    note = (
        f"{item['column']}, {window}: {effect} (counts from {item['floor']:.3f}){p}{nulls}; "
        f"smallest effect that would be seen {item['detectable']:.3f}"
    )
    return Cell(ratio, item["drifted"], note)


def _line(name: str, style: str, metric: str, shown: Sequence[Month]) -> Line:
    points = []
    for month in shown:
        item: Estimate | None = (month.live if style == "live" else month.frozen).get(metric)
        if item is None or item.value is None:
            points.append(Point(None))
            continue
        bounds = f" [{item.low:.3f}, {item.high:.3f}]" if item.low is not None and item.high is not None else ""
        note = f"{month.month}, {name}: {item.value:.4f}{bounds}, {item.n:,} labelled"
        points.append(Point(item.value, item.low, item.high, note))
    return Line(name, style, tuple(points))


def _marks(shown: Sequence[Month]) -> list[Mark]:
    found = []
    for index, month in enumerate(shown):
        for stop in month.stopped:
            found.append(Mark(index, "stopped", "!", f"{month.month}: {stop.reason}"))
        kind = DRAWN.get(month.decision, "wait" if month.decision else "")
        if kind and kind != "stopped":
            found.append(Mark(index, kind, f"r{month.challenger}", f"{month.month}: {month.decision}. {month.reason}"))
    return found


def _lead(shown: Sequence[Month]) -> str:
    if not shown:
        return f"{NO_WINDOW.capitalize()}."
    pairs = [(m.auc_live, m.auc_static) for m in shown if m.auc_live is not None and m.auc_static is not None]
    span = f"{_long(shown[0].month)} to {_long(shown[-1].month)}" if len(shown) > 1 else _long(shown[0].month)
    if not pairs:
        return f"{span}."
    live, frozen = (sum(side) / len(pairs) for side in zip(*pairs, strict=True))
    word = "above" if live >= frozen else "below"
    return (
        f"{span}: the model that kept itself right had a mean AUC of <b>{live:.3f}</b>, "
        f"<b>{abs(live - frozen):.3f}</b> {word} the first release left alone (<b>{frozen:.3f}</b>)."
    )


def _tiles(shown: Sequence[Month], releases: Sequence[ReleaseLine]) -> str:
    outcome = [month.decision for month in shown]
    stops = sum(len(month.stopped) for month in shown)
    live = next((item.release for item in reversed(releases) if item.state == "production"), 0)
    tiles = [
        (f"{sum(month.rows for month in shown):,}", "predictions measured"),
        (f"{outcome.count('promoted')}", "challengers promoted"),
        (f"{outcome.count('refused')}", "challengers refused"),
        (f"{stops}", "broken batches stopped"),
        (f"r{live}" if live else "none", "live now"),
    ]
    return (
        '<div class="tiles">'
        + "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in tiles)
        + "</div>"
    )


def _legend() -> str:
    def sign(kind: str) -> str:
        mark = charts.mark_alone(kind)
        return f'<svg class="sign" viewBox="0 0 32 24" aria-hidden="true">{mark}</svg>'

    return (
        "<figcaption>Bands are 95 % intervals. In the lane below: "
        f"{sign('promoted')} a challenger was promoted, {sign('refused')} trained and refused by the paired test, "
        f"{sign('stopped')} data stopped by their checks, {sign('rolled')} rolled back, "
        f"{sign('wait')} nothing to do.</figcaption>"
    )


def _heat_legend() -> str:
    steps = "".join(f'<i class="heat" style="--heat:{shade:.2f}"></i>' for shade in (0.0, 0.25, 0.5, 0.75, 1.0))
    return (
        f"<figcaption>Effect over the column's own floor: 0 {steps} 2 times and more. Framed cells count as drift: "
        "proven over all columns at once, and beyond what the training data differ from themselves.</figcaption>"
    )


def _table(shown: Sequence[Month], metric: str) -> str:
    head = [
        "window",
        "requests",
        "labelled",
        f"{NAMES.get(metric, 'quality')} live",
        "frozen",
        "drifted",
        "decision",
        "because",
    ]
    numbers = {1, 2, 3, 4}
    rows = []
    for month in shown:
        drifted = ", ".join(month.drifted_columns[:6]) + (" …" if len(month.drifted_columns) > 6 else "")
        share = f"{month.labelled / month.rows:.1%}" if month.rows else ""
        stops = "".join(
            f'<p><span class="tag stopped">stopped</span> {escape(stop.reason)}</p>' for stop in month.stopped
        )
        word = (
            f'<span class="tag {DRAWN.get(month.decision, "wait")}">{escape(month.decision)}</span>'
            if month.decision
            else ""
        )
        cells = [
            escape(month.month),
            f"{month.rows:,}",
            share,
            _figure(month.live.get(metric)),
            _figure(month.frozen.get(metric)),
            escape(drifted),
            word if month.decision != "stopped" else "",
            stops + (f"<p>{escape(month.reason or _so_far(month))}</p>" if month.decision != "stopped" else ""),
        ]
        rows.append("".join(f"<td{' class=n' if i in numbers else ''}>{cell}</td>" for i, cell in enumerate(cells)))
    titles = "".join(f"<th{' class=n' if i in numbers else ''}>{escape(name)}</th>" for i, name in enumerate(head))
    return (
        f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>'
        + "".join(f"<tr>{row}</tr>" for row in rows)
        + "</tbody></table></div>"
    )


def _so_far(month: Month) -> str:
    return f"not over: as of {month.as_of[:16].replace('T', ' ')}" if month.as_of else ""


def _figure(item: Estimate | None) -> str:
    if item is None or item.value is None:
        return ""
    bounds = (
        f"<span class=faint>{item.low:.3f} – {item.high:.3f}</span>"
        if item.low is not None and item.high is not None
        else ""
    )
    return f"{item.value:.3f} {bounds}"


def _releases(releases: Sequence[ReleaseLine]) -> str:
    rows = "".join(
        f"<tr><td>r{item.release}</td><td class=n>{item.version}</td><td>{escape(item.state)}</td>"
        f"<td>{escape(item.reason[:300])}</td></tr>"
        for item in releases[-60:]
    )
    return (
        '<div class="wide"><table><thead><tr><th>release</th><th class=n>version</th>'
        "<th>state</th><th>because</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _short(name: str) -> str:
    """A window's name on an axis: "Feb" for a month."""
    return f"{named(name).start:%b}" if len(name) == 7 and "W" not in name else name.removeprefix("20")


def _long(name: str) -> str:
    return f"{named(name).start:%B %Y}" if len(name) == 7 and "W" not in name else name
