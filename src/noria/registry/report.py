"""An evaluation as one HTML file: no script, no network, charts as inline SVG, readable in ten years."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from noria.registry import report_insights
from noria.registry.drawing import HEIGHT, PAD, figure, line, number, range_of, unit_axes, x_of, y_of

__all__ = ["render"]

MAX_SLICES = 60
_STYLE = """
:root { --ink:#1c2430; --soft:#66707f; --line:#dfe4ea; --paper:#fff; --band:#f5f7f9;
  --new:#0b6e99; --old:#c2762b; --good:#1d7f4f; --bad:#b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6eaf0; --soft:#98a3b3; --line:#323b47; --paper:#14181e;
  --band:#1b2129; --new:#54b6e0; --old:#e8a45c; --good:#5cc794; --bad:#ff8a80; } }
* { box-sizing:border-box } body { margin:0; background:var(--paper); color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif }
main { max-width:1080px; margin:0 auto; padding:32px 24px 64px }
h1 { font-size:26px; margin:0 0 4px } h2 { font-size:17px; margin:36px 0 10px }
p.sub { color:var(--soft); margin:0 0 18px } .pill { display:inline-block; padding:2px 12px; border-radius:99px;
  font-weight:600; font-size:14px; color:#fff } .pill.yes { background:var(--good) } .pill.no { background:var(--bad) }
table { border-collapse:collapse; width:100% }
th { text-align:left; font-weight:600; color:var(--soft); font-size:13px }
th,td { padding:6px 12px 6px 0; border-bottom:1px solid var(--line); vertical-align:middle }
td.n,th.n { text-align:right; font-variant-numeric:tabular-nums } td.mark { width:28px; font-weight:700 }
.nowrap { white-space:nowrap }
.yes { color:var(--good) } .no { color:var(--bad) } .pill.yes,.pill.no { color:#fff }
.charts { display:flex; flex-wrap:wrap; gap:20px } figure { margin:0; flex:1 1 300px; max-width:340px }
figcaption { font-weight:600; font-size:14px; margin-bottom:4px } figcaption span { color:var(--soft); font-weight:400 }
svg { width:100%; height:auto; display:block } svg text { fill:var(--soft); font-size:11px }
.axis { stroke:var(--line); fill:none } .new { stroke:var(--new); fill:none; stroke-width:2 }
.old { stroke:var(--old); fill:none; stroke-width:1.6; stroke-dasharray:5 3 }
.dot { fill:var(--new) } .ring { fill:var(--paper); stroke:var(--old); stroke-width:1.8 }
.range { stroke:var(--new); stroke-width:2 } .whisker { stroke:var(--ink); stroke-width:1.4; opacity:.65 }
.bar-a { fill:var(--soft); opacity:.5 } .bar-b { fill:var(--new); opacity:.75 }
.zero { stroke:var(--line); stroke-dasharray:3 3 }
.area { fill:var(--new); opacity:.13 } .spread { fill:var(--soft); opacity:.28 }
.matrix { width:auto } .matrix td,.matrix th { padding:10px 18px; border:0; text-align:center }
.matrix th.side { text-align:right; padding-left:0 } .matrix b { font-size:20px; display:block; line-height:1.25 }
.matrix .cell { border-radius:8px; min-width:128px } .matrix small,.note { color:var(--soft); font-size:13px }
.pair { display:flex; flex-wrap:wrap; gap:8px 48px; align-items:flex-start } .pair > div { flex:1 1 400px }
.reason { border-left:3px solid var(--old); padding:4px 12px; color:var(--soft) }
code,.mono { font:13px/1.4 ui-monospace,SFMono-Regular,Menlo,monospace; overflow-wrap:anywhere }
.key { color:var(--soft) }
"""

_SAID = {"pins": "data versions"}
"""What the page calls a key of the document."""


def render(document: Mapping[str, Any]) -> str:
    """The page of an evaluation's JSON document, with the verdicts in it. Deterministic."""
    title, verdicts = document["title"] or "Evaluation", document.get("verdicts", ())
    body = [
        f"<h1>{escape(title)} {_pill(verdicts)}</h1>",
        f'<p class="sub">{escape(_summary(document))}</p>',
        _gates(verdicts),
        "<h2>Metrics</h2>",
        _metrics(document),
        report_insights.calls(document),
        _charts(document),
        _slices(document),
        _groups(document),
        report_insights.flips(document),
        report_insights.importance(document),
        report_insights.dependence(document),
        "<h2>What it was computed on</h2>",
        _data(document),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _pill(verdicts: Sequence[Mapping[str, Any]]) -> str:
    if not verdicts:
        return ""
    passed = sum(1 for verdict in verdicts if verdict["passed"])
    is_open = passed == len(verdicts)
    word = "passes" if is_open else "refused"
    return f'<span class="pill {"yes" if is_open else "no"}">{word} {passed}/{len(verdicts)}</span>'


def _summary(document: Mapping[str, Any]) -> str:
    parts = [f"{document['n']:,} labelled rows"]
    if document["unlabelled"]:
        parts.append(f"{document['unlabelled']:,} without a label left out")
    if document["task"] == "binary" and document["n"]:
        parts.append(f"{document['positives']:,} positive ({document['positives'] / document['n']:.1%})")
        parts.append(f"threshold {document['threshold']:.3g}")
    parts.append(f"intervals at {document['level']:.0%}")
    return " · ".join(parts)


def _gates(verdicts: Sequence[Mapping[str, Any]]) -> str:
    if not verdicts:
        return ""
    rows = "".join(
        f'<tr><td class="mark {"yes" if v["passed"] else "no"}">{"✓" if v["passed"] else "✗"}</td>'
        f"<td>{escape(v['gate'])}</td><td>{escape(v['text'])}</td></tr>"
        for v in verdicts
    )
    return f"<h2>Gates</h2><table><tbody>{rows}</tbody></table>"


def _metrics(document: Mapping[str, Any]) -> str:
    champion = document["champion"]
    rows = []
    for name in document["order"]:
        item = document["metrics"][name]
        other = champion.get(name)
        rows.append(
            f"<tr><td>{escape(name)} <span class='key'>{item['better']} is better</span></td>"
            f'<td class="n"><b>{number(item["value"])}</b></td><td class="n">{range_of(item)}</td>'
            + (f'<td class="n">{number(other["value"])}</td><td class="n">{range_of(other)}</td>' if other else "")
            + f"<td>{_interval_bar(item, other)}</td></tr>"
        )
    head = '<th>metric</th><th class="n">value</th><th class="n">interval</th>'
    if champion:
        head += '<th class="n">champion</th><th class="n">interval</th>'
    return f"<table><thead><tr>{head}<th></th></tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _interval_bar(item: Mapping[str, Any], other: Mapping[str, Any] | None) -> str:
    """A small ruler: the interval as a line, the value as a dot, the champion's as a ring."""
    numbers = [x for m in (item, other or {}) for x in (m.get("low"), m.get("value"), m.get("high")) if x is not None]
    if len(numbers) < 2 or max(numbers) == min(numbers):
        return ""
    low, high = float(min(numbers)), float(max(numbers))

    def x(value: float) -> float:
        return 8 + 184 * (value - low) / (high - low)

    parts = ['<line class="axis" x1="8" x2="192" y1="12" y2="12"/>']
    if other and other["value"] is not None:
        parts.append(f'<circle class="ring" cx="{x(other["value"]):.1f}" cy="12" r="4.5"/>')
    if item["value"] is not None:
        if item["low"] is not None:
            parts.append(f'<line class="range" x1="{x(item["low"]):.1f}" x2="{x(item["high"]):.1f}" y1="12" y2="12"/>')
        parts.append(f'<circle class="dot" cx="{x(item["value"]):.1f}" cy="12" r="4"/>')
    return f'<svg viewBox="0 0 200 24" style="max-width:200px" role="img">{"".join(parts)}</svg>'


def _charts(document: Mapping[str, Any]) -> str:
    curves = document["curves"]
    figures = []
    if curves["roc"]:
        figures.append(_roc(curves))
    if curves["calibration"]:
        figures.append(_calibration(curves["calibration"]))
    if curves["edges"]:
        figures.append(_histogram(curves, is_binary=document["task"] == "binary"))
    return f'<h2>Curves</h2><div class="charts">{"".join(figures)}</div>' if figures else ""


def _roc(curves: Mapping[str, Any]) -> str:
    lines = line([(0, 0), (1, 1)], "zero")
    if curves["champion_roc"]:
        lines += line(curves["champion_roc"], "old")
    lines += line(curves["roc"], "new")
    note = "dashed: champion" if curves["champion_roc"] else "dotted: chance"
    return figure("ROC", note, unit_axes("false positive rate", "true positive rate") + lines)


def _calibration(points: Sequence[Sequence[float]]) -> str:
    dots = "".join(
        f'<circle class="dot" cx="{x_of(a):.1f}" cy="{y_of(b):.1f}" r="4"><title>{int(n):,} rows</title></circle>'
        for a, b, n in points
    )
    body = line([(0, 0), (1, 1)], "zero") + line([(a, b) for a, b, _ in points], "new") + dots
    return figure("Calibration", "tenths of the rows", unit_axes("mean score", "observed share") + body)


def _histogram(curves: Mapping[str, Any], *, is_binary: bool) -> str:
    """Both classes as shares of their own rows, so that a rare class is seen."""
    edges, groups = curves["edges"], [(curves["negative"], "bar-a")]
    if is_binary:
        groups.append((curves["positive"], "bar-b"))
    shares = [[count / max(sum(counts), 1) for count in counts] for counts, _ in groups]
    top = max((max(share, default=0) for share in shares), default=0) or 1
    low, span = edges[0], (edges[-1] - edges[0]) or 1
    bars = []
    for share, (_, style) in zip(shares, groups, strict=True):
        for left, right, value in zip(edges[:-1], edges[1:], share, strict=True):
            x, y = x_of((left - low) / span), y_of(value / top)
            width, height = max(x_of((right - low) / span) - x - 0.6, 0.4), y_of(0) - y
            bars.append(f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>')
    marks = "".join(
        f'<text x="{x_of(at):.0f}" y="{HEIGHT - PAD + 16}" text-anchor="middle">{low + at * span:.3g}</text>'
        for at in (0, 0.5, 1)
    )
    name = "Scores" if is_binary else "Residuals"
    note = "blue: positive, grey: negative" if is_binary else "predicted minus observed"
    axis = f'<path class="axis" d="M{PAD} {y_of(0)}H{x_of(1)}"/>'
    return figure(name, note, axis + "".join(bars) + marks)


def _slices(document: Mapping[str, Any]) -> str:
    slices = document["slices"]
    if not slices or not document["order"]:
        return ""
    name = document["order"][0]
    better = document["metrics"][name]["better"]
    overall = document["metrics"][name]["value"]
    values = [v for s in slices for v in (s["metrics"].get(name), s["champion"].get(name)) if v is not None]
    if overall is not None:
        values.append(overall)
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    shown = sorted(slices, key=lambda s: -s["n"])[:MAX_SLICES]
    kept = [s for s in slices if s in shown]
    rows = "".join(_slice_row(s, name, low, high, overall) for s in kept)
    note = f" The {len(shown)} largest of {len(slices)}." if len(slices) > len(shown) else ""
    ring = ", ring: champion" if document["champion"] else ""
    return (
        f"<h2>Slices</h2><p class='sub'>{escape(name)} ({better} is better). Dot: this version{ring}; "
        f"dotted: all rows.{note}</p><table><thead><tr><th>slice</th><th class='n'>rows</th>"
        f"<th class='n'>{escape(name)}</th><th class='n'>champion</th><th></th>"
        f"</tr></thead><tbody>{rows}</tbody></table>"
    )


def _slice_row(part: Mapping[str, Any], name: str, low: float, high: float, overall: float | None) -> str:
    span = (high - low) or 1.0
    value, other = part["metrics"].get(name), part["champion"].get(name)

    def x(number: float) -> float:
        return 8 + 284 * (number - low) / span

    marks = ['<line class="axis" x1="8" x2="292" y1="10" y2="10"/>']
    if overall is not None:
        marks.append(f'<line class="zero" x1="{x(overall):.1f}" x2="{x(overall):.1f}" y1="0" y2="20"/>')
    if other is not None:
        marks.append(f'<circle class="ring" cx="{x(other):.1f}" cy="10" r="4.5"/>')
    if value is not None:
        marks.append(f'<circle class="dot" cx="{x(value):.1f}" cy="10" r="4"/>')
    return (
        f"<tr><td style='white-space:nowrap'>{escape(part['column'])} = {escape(part['level'])}</td>"
        f"<td class='n'>{part['n']:,}</td>"
        f"<td class='n'>{number(value)}</td><td class='n'>{number(other)}</td>"
        f'<td><svg viewBox="0 0 300 20" style="max-width:300px" role="img">{"".join(marks)}</svg></td></tr>'
    )


def _groups(document: Mapping[str, Any]) -> str:
    """How groups are treated: three shares of each, drawn on one scale from 0 to 1."""
    groups = document.get("groups")
    if not groups:
        return ""
    names = {"called": "called positive", "hits": "positives found", "false_alarms": "negatives called positive"}
    head = "".join(f"<th class='n'>{name}</th><th></th>" for name in names.values())
    rows = "".join(
        f"<tr><td style='white-space:nowrap'>{escape(part['column'])} = {escape(part['level'])}</td>"
        f"<td class='n'>{part['n']:,}</td>" + "".join(_share_cells(part[key]) for key in names) + "</tr>"
        for part in groups
    )
    return (
        "<h2>Groups</h2><p class='sub'>Shares of the rows of each group, of its positives and of its negatives, "
        f"with intervals at {document['level']:.0%}, from 0 to 1.</p><table><thead><tr><th>group</th>"
        f"<th class='n'>rows</th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _share_cells(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return "<td class='n'>–</td><td></td>"
    low, value, high = (8 + 104 * share[key] for key in ("low", "value", "high"))
    return (
        f"<td class='n'>{share['value']:.1%}</td><td><svg viewBox='0 0 120 20' style='width:110px' role='img' "
        f"aria-label='{share['low']:.1%} to {share['high']:.1%} of {share['trials']:,}'>"
        '<line class="axis" x1="8" x2="112" y1="10" y2="10"/>'
        f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="10" y2="10"/>'
        f'<circle class="dot" cx="{value:.1f}" cy="10" r="3.5"/></svg></td>'
    )


def _data(document: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><td class="key">{escape(_SAID.get(str(key), str(key)))}</td>'
        f'<td class="mono">{escape(_text(value))}</td></tr>'
        for key, value in sorted(document["data"].items())
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
