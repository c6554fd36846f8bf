"""The sections of a report beside metrics: calls at the threshold, rows that flipped, importance, dependence.

A section that could not be computed says why; one that does not apply is not there, nor is any in a document of
before there were such sections. Every text that comes from data is escaped here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from noria.registry.drawing import HEIGHT, PAD, figure, line, number, range_of, x_of, y_of

__all__ = ["calls", "dependence", "flips", "importance"]

COLUMNS_SHOWN = 30
SPREAD = 0.22
"""How much of a chart's height the distribution below its line takes."""
LABEL_MAX = 9

Part = Mapping[str, Any]


def _section(document: Part, name: str) -> Part:
    found: Part = (document.get("insights") or {}).get(name) or {}
    return found


def _missing(title: str, part: Part) -> str:
    return f"<h2>{title}</h2><p class='reason'>Not computed: {escape(part['reason'])}.</p>"


def calls(document: Part) -> str:
    """Confusion at the threshold that is deployed, or the residuals of a regression."""
    if part := _section(document, "confusion"):
        title = f"Calls at the threshold {part['threshold']:.3g}"
        return _missing(title, part) if part["reason"] else _confusion(title, part, document)
    if part := _section(document, "residuals"):
        return _missing("Residuals", part) if part["reason"] else _residuals(part, document)
    return ""


def _confusion(title: str, part: Part, document: Part) -> str:
    other = _section(document, "champion_confusion")
    other = {} if other.get("reason") else other
    total = max(document["n"], 1)
    positives, negatives = part["recall"]["trials"], part["specificity"]["trials"]

    def cell(key: str, name: str, style: str) -> str:
        count, of = part[key], positives if name == "positives" else negatives
        strength = 0.10 + 0.35 * count / total
        before = f"<br>champion {other[key]:,}" if other else ""
        share = f"{count / of:.1%} of the {name}" if of else f"there are no {name}"
        return (
            f"<td class='cell' style='background:color-mix(in srgb, var(--{style}) {strength:.0%}, transparent)'>"
            f"<b>{count:,}</b><small>{share}<br>{count / total:.1%} of all rows{before}</small></td>"
        )

    matrix = (
        "<table class='matrix'><thead><tr><th></th><th>called positive</th><th>called negative</th></tr></thead><tbody>"
        f"<tr><th class='side'>positive<br><small>{positives:,} rows</small></th>"
        f"{cell('true_positives', 'positives', 'good')}{cell('false_negatives', 'positives', 'bad')}</tr>"
        f"<tr><th class='side'>negative<br><small>{negatives:,} rows</small></th>"
        f"{cell('false_positives', 'negatives', 'bad')}{cell('true_negatives', 'negatives', 'good')}"
        "</tr></tbody></table>"
    )
    names = {
        "precision": "precision <span class='key'>right, of those called positive</span>",
        "recall": "recall <span class='key'>found, of the positives</span>",
        "specificity": "specificity <span class='key'>left alone, of the negatives</span>",
        "called": "called positive <span class='key'>of all rows</span>",
    }
    head = "<th></th><th class='n'>share</th><th class='n'>interval</th>"
    head += "<th class='n'>champion</th>" if other else ""
    rows = "".join(
        f"<tr><td>{told}</td>{_share(part[name])}" + (_value(other[name]) if other else "") + "</tr>"
        for name, told in names.items()
    )
    shares = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    at = f", the champion's at its own threshold {other['threshold']:.3g}" if other else ""
    note = f"<p class='sub'>Rows at or above the threshold are called positive{at}.</p>"
    return f"<h2>{title}</h2>{note}<div class='pair'><div>{matrix}</div><div>{shares}</div></div>"


def _share(share: Part) -> str:
    if share["value"] is None:
        return "<td class='n'>–</td><td class='n'>of no row</td>"
    interval = f"[{share['low']:.1%}, {share['high']:.1%}]"
    return f"<td class='n'><b>{share['value']:.1%}</b></td><td class='n nowrap'>{interval}</td>"


def _value(share: Part) -> str:
    return "<td class='n'>–</td>" if share["value"] is None else f"<td class='n'>{share['value']:.1%}</td>"


def _residuals(part: Part, document: Part) -> str:
    other = _section(document, "champion_residuals")
    rows = [("this version", part)] + ([("champion", other)] if other and not other["reason"] else [])
    head = "".join(f"<th class='n'>{share:.0%}</th>" for share, _ in part["quantiles"])
    body = "".join(
        f"<tr><td>{name}</td><td class='n'><b>{number(each['mean'])}</b></td>"
        f"<td class='n'>{range_of(each)}</td>"
        + "".join(f"<td class='n'>{number(value)}</td>" for _, value in each["quantiles"])
        + "</tr>"
        for name, each in rows
    )
    return (
        "<h2>Residuals</h2><p class='sub'>Predicted minus observed: the mean, and the value that so many of the rows "
        "stay below.</p><table><thead><tr><th></th><th class='n'>mean</th><th class='n'>interval</th>"
        f"{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def flips(document: Part) -> str:
    """The rows on which this version and the champion part, and who was right."""
    part, title = _section(document, "flips"), "Rows that flipped"
    if not part:
        return ""
    if part["reason"]:
        return _missing(title, part)
    is_binary = part["threshold"] is not None
    moved, better = part["n"] - part["same"], part["better"]
    told = f"Against version {part['champion']}"
    if is_binary:
        told += f" (its threshold {part['champion_threshold']:.3g}, here {part['threshold']:.3g})"
    told += f": {part['same']:,} of {part['n']:,} rows {'are called the same' if is_binary else 'are as near'}, "
    told += f"{moved:,} {'flipped' if is_binary else 'moved'}."
    if better["value"] is not None:
        word = "right" if is_binary else "nearer"
        told += f" This version is {word} on {better['value']:.1%} of them"
        told += f" [{better['low']:.1%}, {better['high']:.1%}]."
    head = "<th></th><th class='n'>rows</th>" + (
        "<th class='n'>this version right</th><th class='n'>champion right</th>" if is_binary else ""
    )
    rows = "".join(
        f"<tr><td>{escape(turn['way'])}</td><td class='n'><b>{turn['n']:,}</b></td>"
        + (f"<td class='n'>{turn['right']:,}</td><td class='n'>{turn['n'] - turn['right']:,}</td>" if is_binary else "")
        + "</tr>"
        for turn in part["turns"]
    )
    table = f"<table style='max-width:560px'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    shown = "".join(_examples(turn, is_binary) for turn in part["turns"])
    return f"<h2>{title}</h2><p class='sub'>{escape(told)}</p>{table}" + (
        f"<div class='pair' style='margin-top:18px'>{shown}</div>" if shown else ""
    )


def _examples(turn: Part, is_binary: bool) -> str:
    if not turn["rows"]:
        return ""
    has_key = any(row["key"] for row in turn["rows"])
    rows = "".join(
        f"<tr><td class='n'>{row['row']:,}</td>"
        + (f"<td class='mono'>{escape(row['key'])}</td>" if has_key else "")
        + "<td class='n'>"
        + (f"{row['label']:.0f}" if is_binary else number(row["label"]))
        + "</td>"
        + f"<td class='n'>{number(row['champion'])}</td><td class='n'><b>{number(row['score'])}</b></td></tr>"
        for row in turn["rows"]
    )
    head = "<th class='n'>row</th>" + ("<th>key</th>" if has_key else "")
    head += "<th class='n'>outcome</th><th class='n'>champion</th><th class='n'>this version</th>"
    note = f"the {len(turn['rows'])} furthest of {turn['n']:,}" if turn["n"] > len(turn["rows"]) else "all"
    return (
        f"<div><p class='note'>{escape(turn['way'])}: {note}; rows of the holdout, from 0</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def importance(document: Part) -> str:
    """How much worse the metric gets without each column, as bars with intervals on one scale."""
    part, title = _section(document, "importance"), "Importance"
    if not part:
        return ""
    if part["reason"]:
        return _missing(title, part)
    weights = part["weights"][:COLUMNS_SHOWN]
    ends = [bound for weight in part["weights"] for bound in (weight["low"], weight["high"])]
    low, high = min(0.0, *ends), max(0.0, *ends)
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return 6.0 + 488.0 * float(value - low) / span

    rows = "".join(
        f"<tr><td class='mono'>{escape(weight['column'])}</td><td class='n'>{_signed(weight['drop'])}</td>"
        f"<td class='n nowrap'>[{_signed(weight['low'])}, {_signed(weight['high'])}]</td><td>"
        f"<svg viewBox='0 0 500 18' style='max-width:500px' role='img'>"
        f"<line class='zero' x1='{at(0):.1f}' x2='{at(0):.1f}' y1='0' y2='18'/>"
        f"<rect class='bar-b' x='{min(at(0), at(weight['drop'])):.1f}' y='4' height='10' rx='2' "
        f"width='{abs(at(weight['drop']) - at(0)):.1f}'/>"
        f"<line class='whisker' x1='{at(weight['low']):.1f}' x2='{at(weight['high']):.1f}' y1='9' y2='9'/>"
        "</svg></td></tr>"
        for weight in weights
    )
    rest = len(part["weights"]) - len(weights)
    notes = [f"{rest:,} more columns are in the JSON."] if rest else []
    notes += [f"{part['left_out']:,} columns were not asked about."] if part["left_out"] else []
    return (
        f"<h2>{title}</h2><p class='sub'>How much worse {escape(part['metric'])} gets when a column is shuffled "
        f"between rows: the mean of {part['repeats']} shuffles of {part['n']:,} rows, where it is "
        f"{number(part['value'])}, with intervals at {part['level']:.0%}. Of columns that say the same, each looks "
        f"unimportant. {' '.join(notes)}</p>"
        "<table><thead><tr><th>column</th><th class='n'>worse by</th><th class='n'>interval</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _signed(value: float) -> str:
    """A difference with its sign; what rounds to nothing has none."""
    text = f"{value:+.4f}" if abs(value) < 100 else f"{value:+,.1f}"
    return text if any(digit in text for digit in "123456789") else "0"


def dependence(document: Part) -> str:
    """The score by the value of each of the most important columns, with the distribution of the column below."""
    part, title = _section(document, "dependence"), "Partial dependence"
    if not part:
        return ""
    if part["reason"]:
        return _missing(title, part)
    drawn = [curve for curve in part["curves"] if not curve["reason"]]
    points = [point for curve in drawn for point in (*curve["points"], curve["missing"]) if point]
    ends = [point[key] for point in points for key in ("low", "high", "score")] + [part["mean"]]
    low, high = min(ends), max(ends)
    body = "".join(_curve(curve, low, high, part["mean"]) for curve in drawn)
    refused = "".join(
        f"<p class='reason'>{escape(curve['column'])}: not computed: {escape(curve['reason'])}.</p>"
        for curve in part["curves"]
        if curve["reason"]
    )
    which = "The first columns. " if _section(document, "importance").get("reason") else ""
    return (
        f"<h2>{title}</h2><p class='sub'>{which}The mean score of {part['n']:,} rows if all of them had that value, "
        "the rest being as it is; shaded: the middle half of the rows; dotted: the mean as they are; grey: how often "
        "the value occurs. All charts have one scale.</p>"
        f'<div class="charts">{body}</div>{refused}'
    )


def _curve(curve: Part, low: float, high: float, mean: float) -> str:
    span = (high - low) or 1.0

    def up(value: float) -> float:
        return SPREAD + (1 - SPREAD) * (value - low) / span

    points = curve["points"]
    axes = f'<path class="axis" d="M{x_of(0)} {y_of(1)}V{y_of(0)}H{x_of(1)}"/>' + _ticks(low, high, up)
    axes += line([(0, up(mean)), (1, up(mean))], "zero")
    body = _ordered(curve, points, up) if curve["kind"] == "ordered" else _levels(curve, points, up)
    notes = []
    if missing := curve["missing"]:
        notes.append(f"null in {missing['share']:.1%} of the rows: {number(missing['score'])}")
    if curve["rest"]:
        notes.append(f"other levels: {curve['rest']:.1%}")
    return figure(curve["column"], "; ".join(notes), axes + body)


def _ticks(low: float, high: float, up: Any) -> str:
    return "".join(
        f'<text x="{PAD - 6}" y="{y_of(up(value)) + 4:.0f}" text-anchor="end">{_tick(value)}</text>'
        for value in (low, (low + high) / 2, high)
    )


def _tick(value: float) -> str:
    """A number of at most six characters, for what stands beside an axis."""
    if abs(value) >= 100_000:
        return f"{value:.0e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


def _ordered(curve: Part, points: Sequence[Part], up: Any) -> str:
    edges = curve["edges"]
    ends = [*edges, *(point["at"] for point in points)]
    first, last = min(ends), max(ends)
    width = (last - first) or 1.0

    def across(value: float) -> float:
        return (value - first) / width if last > first else 0.5

    top = max(curve["counts"], default=0) or 1
    bars = "".join(
        _bar(across(left), across(right), SPREAD * 0.85 * count / top)
        for left, right, count in zip(edges[:-1], edges[1:], curve["counts"], strict=True)
    )
    band = [(across(p["at"]), up(p["high"])) for p in points] + [
        (across(p["at"]), up(p["low"])) for p in reversed(points)
    ]
    area = " ".join(f"{x_of(a):.1f},{y_of(b):.1f}" for a, b in band)
    middle = line([(across(p["at"]), up(p["score"])) for p in points], "new")
    dots = "".join(_dot(across(p["at"]), up(p["score"]), p) for p in points)
    shown = [points[0]] if len(points) == 1 else [points[0], points[len(points) // 2], points[-1]]
    marks = "".join(
        f'<text x="{x_of(across(p["at"])):.0f}" y="{HEIGHT - PAD + 16}" text-anchor="middle">'
        f"{escape(_short(p['value'], LABEL_MAX + 3))}</text>"
        for p in shown
    )
    return f'{bars}<polygon class="area" points="{area}"/>{middle}{dots}{marks}'


def _levels(curve: Part, points: Sequence[Part], up: Any) -> str:
    step = 1 / max(len(points), 1)
    top = max((point["share"] or 0.0 for point in points), default=0.0) or 1.0
    parts = []
    for index, point in enumerate(points):
        at = (index + 0.5) * step
        parts.append(_bar(at - step * 0.35, at + step * 0.35, SPREAD * 0.85 * (point["share"] or 0.0) / top))
        upper, lower = y_of(up(point["high"])), y_of(up(point["low"]))
        parts.append(
            f'<rect class="area" x="{x_of(at) - 7:.1f}" width="14" y="{upper:.1f}" height="{lower - upper:.1f}"/>'
        )
        parts.append(_dot(at, up(point["score"]), point))
        place = f'x="{x_of(at):.0f}" y="{HEIGHT - PAD + 14}"'
        turn = f' transform="rotate(-32 {x_of(at):.0f} {HEIGHT - PAD + 14})"' if len(points) > 4 else ""
        anchor = "end" if turn else "middle"
        parts.append(f'<text {place} text-anchor="{anchor}"{turn}>{escape(_short(point["value"], LABEL_MAX))}</text>')
    return "".join(parts)


def _bar(left: float, right: float, height: float) -> str:
    x, y = x_of(left), y_of(height)
    width = max(x_of(right) - x - 0.6, 0.4)
    return f'<rect class="spread" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{y_of(0) - y:.1f}"/>'


def _dot(across: float, up: float, point: Part) -> str:
    share = f", {point['share']:.1%} of the rows" if point["share"] is not None else ""
    told = escape(f"{point['value']}: {point['score']:.4g}{share}")
    return f'<circle class="dot" cx="{x_of(across):.1f}" cy="{y_of(up):.1f}" r="3.5"><title>{told}</title></circle>'


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
