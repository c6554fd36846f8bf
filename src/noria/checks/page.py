"""The report of a run of checks as one page: what failed, in which rows, and how each column looks.

One HTML file with its style and pictures inside, no script and nothing fetched. Every text from the
data is escaped. Row values appear here (as examples) and in the report object, never in the ledger.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from noria.checks.examine import StoredReport
from noria.checks.facts import Finding
from noria.checks.findings import is_failure
from noria.checks.scanning.summary import ColumnProfile
from noria.core.words import counted, percent

__all__ = ["page"]

_STYLE = """
:root{--ink:#1b2330;--dim:#6b7688;--line:#e4e8ef;--card:#fff;--back:#f6f7fa;--ok:#1a7f4b;--stop:#b3261e;--warn:#9a6700;
--blue:#2f6fde;--grey:#b7c0cf;--pill:#fff;--soft:#fdf0ef;--softwarn:#fdf6e3}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8f0;--dim:#8d98ac;--line:#2a3140;--card:#181d28;--back:#10141c;
--ok:#3fb27f;--stop:#ef7a72;--warn:#d9a13b;--blue:#6d9df0;--grey:#566176;--pill:#10141c;--soft:#2a1d1f;--softwarn:#29241a}}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;margin:0;color:var(--ink);
background:var(--back)}main{max-width:72rem;margin:0 auto;padding:2rem 1.2rem 4rem}
h1{font-size:1.6rem;margin:0 0 .2rem;display:flex;gap:.8rem;align-items:center}
h2{font-size:1.1rem;margin:2.2rem 0 .7rem}p{margin:.3rem 0}.dim{color:var(--dim)}
.pill{font-size:.8rem;padding:.15rem .7rem;border-radius:1rem;color:var(--pill);font-weight:600;letter-spacing:.02em}
.ok{background:var(--ok)}.stop{background:var(--stop)}.warn{background:var(--warn)}
.tiles{display:flex;gap:.8rem;flex-wrap:wrap;margin:1.2rem 0}.tile{background:var(--card);border:1px solid var(--line);
border-radius:.6rem;padding:.7rem 1.1rem;min-width:8rem}.tile b{display:block;font-size:1.5rem;line-height:1.2}
.card{background:var(--card);border:1px solid var(--line);border-left:5px solid var(--stop);border-radius:.5rem;
padding:.8rem 1.1rem;margin:.6rem 0}.card.w{border-left-color:var(--warn)}
.card h3{margin:0;font-size:1rem;display:flex;gap:.6rem;align-items:baseline;flex-wrap:wrap}
.card h3 span{font-weight:400;color:var(--dim)}.lead{font-size:1.05rem}
.rows{overflow-x:auto;margin:.5rem 0 .3rem}.rows table{width:auto}.rows td,.rows th{padding:.2rem .8rem .2rem 0}
.rows td.x{color:var(--stop);font-weight:600}.card.w .rows td.x{color:var(--warn)}td.w{white-space:normal}
.t-stop b{color:var(--stop)}.t-warn b{color:var(--warn)}a{color:inherit;text-decoration-color:var(--grey)}
code{background:var(--back);border:1px solid var(--line);padding:0 .3rem;border-radius:3px;font-size:.88em}
.table{background:var(--card);border:1px solid var(--line);border-radius:.6rem;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem}th,td{text-align:left;padding:.4rem .7rem;
border-bottom:1px solid var(--line);white-space:nowrap}tr:last-child td{border-bottom:0}
th{font-weight:600;color:var(--dim);font-size:.8rem}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tr.bad td:first-child{box-shadow:inset 4px 0 var(--stop)}tr.hint td:first-child{box-shadow:inset 4px 0 var(--warn)}
tr.bad{background:var(--soft)}tr.hint{background:var(--softwarn)}svg{display:block;max-width:100%}
svg text{font:10px system-ui,sans-serif;
fill:var(--dim)}.f-stop{fill:var(--stop)}.f-warn{fill:var(--warn)}.f-blue{fill:var(--blue)}.f-grey{fill:var(--grey)}
.f-line{fill:var(--line)}
@media(max-width:44rem){main{padding:1.2rem .9rem 3rem}.tiles{gap:.5rem}
.tile{min-width:0;flex:1 1 28%;padding:.5rem .7rem}.tile b{font-size:1.2rem}
.found tr:first-child{display:none}.found tr{display:grid;grid-template-columns:1fr auto auto;
gap:0 .8rem;padding:.5rem .7rem;border-bottom:1px solid var(--line)}
.found td{border:0;padding:.1rem 0;white-space:normal;overflow-wrap:anywhere}
.found td.w{grid-row:2;grid-column:1/-1}.found td.rule,.found td.file{grid-row:3;color:var(--dim)}
.found td.file{grid-column:2/-1;text-align:right}.found td.bar{display:none}
.found td.many::after{content:" rows"}}
"""
_WIDTH, _HEIGHT = 200, 34
_LEVELS = 5
_FILES = 60


def page(made: StoredReport) -> str:
    """The page of a report."""
    bad = [finding for finding in made.findings if is_failure(finding)]
    warned = [finding for finding in made.findings if not is_failure(finding)]
    total = made.passed + len(made.findings)
    verdict = f'<span class="pill {"stop" if bad else "ok"}">{"STOP" if bad else "passed"}</span>'
    name = f"{_e(made.dataset)}@{made.version}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{name}: checks</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{name} {verdict}</h1><p class='lead'>{_lead(made, bad)}</p>",
        _tiles(made, total, len(bad), len(warned)),
    ]
    if bad:
        parts += ["<h2>What stopped it</h2>", _overview(bad)]
    if warned:
        parts += ["<h2>Warnings</h2>", _overview(warned)]
    if made.findings:
        parts += ["<h2>Rows to look at</h2>", *map(_card, made.findings)]
    if len(made.profiles) > 1:
        parts += ["<h2>Files</h2>", _files(made, {finding.file for finding in bad})]
    if made.profiles:
        parts += ["<h2>Columns</h2>", _columns(made)]
    parts.append(
        f"<p class='dim'>content <code>{_e(made.tree)}</code><br>rules <code>{_e(made.suite)}</code>"
        + (f"<br>compared with report <code>{_e(made.baseline)}</code>" if made.baseline else "")
        + "</p></main></body></html>"
    )
    return "\n".join(parts) + "\n"


def _lead(made: StoredReport, bad: Sequence[Finding]) -> str:
    """In a sentence or two: what it means, what was looked at, and what to do."""
    looked = ", ".join(made.new_files[:4]) + (f" and {len(made.new_files) - 4} more" if len(made.new_files) > 4 else "")
    says = "Every rule that can stop a pipeline passed."
    if bad:
        accused = list(dict.fromkeys(finding.column or "the table" for finding in bad))
        names = ", ".join(accused[:5]) + (f" and {len(accused) - 5} more" if len(accused) > 5 else "")
        says = f"Nothing is trained on this version: {counted(len(bad), 'rule')} failed, about {names}."
    return f"{_e(says)} Looked at: {_e(looked or 'nothing new')}."


def _tiles(made: StoredReport, total: int, failed: int, warned: int) -> str:
    tiles = [
        (f"{made.rows:,}", "row" if made.rows == 1 else "rows", ""),
        (f"{total - failed - warned:,} of {total:,}", "rules passed", ""),
        (f"{failed:,}", "failed", "t-stop" if failed else ""),
        (f"{warned:,}", "warning" if warned == 1 else "warnings", "t-warn" if warned else ""),
        (f"{len(made.new_files)} of {len(made.profiles)}", "files looked at", ""),
    ]
    shown = (f'<div class="tile {mark}"><b>{value}</b>{noun}</div>' for value, noun, mark in tiles)
    return f'<div class="tiles">{"".join(shown)}</div>'


def _overview(findings: Sequence[Finding]) -> str:
    """One line for each finding: the column, what is wrong in words, how many rows; a link to the rows."""
    rows = []
    for finding in findings:
        level = "stop" if finding.severity == "error" else "warn"
        share = finding.count / finding.total if finding.total else 0.0
        many = f"{finding.count:,}" if finding.total else ""
        said = _e(finding.message)
        if finding.rows:
            said = f'<a href="#{_anchor(finding)}">{said}</a>'
        rows.append(
            f"<tr><td><b>{_e(finding.column or 'table')}</b></td><td class='w'>{said}</td>"
            f"<td class='rule'>{_e(finding.rule)}</td>"
            f"<td class='n many'>{many}</td><td class='n'>{percent(share) if finding.total else ''}</td>"
            f"<td class='bar'>{_share(share, level)}</td><td class='file'>{_e(finding.file)}</td></tr>"
        )
    head = (
        "<tr><th>column</th><th>what is wrong</th><th>rule</th><th class='n'>rows</th><th class='n'>share</th>"
        "<th></th><th>file</th></tr>"
    )
    return f'<div class="table"><table class="found">{head}{"".join(rows)}</table></div>'


def _anchor(finding: Finding) -> str:
    return _e(f"{finding.column or 'table'}-{finding.rule}-{finding.file}".replace(" ", "-"))


_ASKED = {
    "missing column": "a column that has rules must be there",
    "nulls": "the share of rows without a value",
    "nulls when": "values should be there where another column says so",
    "null run": "how many rows in a row are without a value, against the longest such silence of the reference",
    "usual values": "values that came back all the time in the reference",
    "range": "values beyond everything that was accepted, or beyond a bound",
    "resolution": "the step that all values of the reference were multiples of",
    "unit": "whether the values look as if their unit had changed",
    "levels": "texts that the reference did not have",
    "shift": "how far the distribution is from the reference's",
    "unique": "rows that share their key",
    "references": "values that another data set does not have",
}
"""What a rule asks, for somebody who has never read its documentation."""


def _card(finding: Finding) -> str:
    """The rows of a finding, each with its number and the values that the rule looked at; "" if it names none."""
    if not finding.rows:
        return ""
    level = "stop" if finding.severity == "error" else "warn"
    of = f" of {_e(finding.file)}" if finding.file else ""
    others = ", ".join(f"{row:,}" for row in finding.rows[len(finding.samples) :])
    left = finding.count - len(finding.rows)
    more = f"also rows {others}" if others else ""
    more += (" and " if more else "") + f"{counted(left, 'other')}" if left > 0 else ""
    return (
        f'<div class="card{" w" if level == "warn" else ""}" id="{_anchor(finding)}">'
        f"<h3>{_e(finding.column or 'table')}<span>{_e(finding.rule)}: {_e(finding.message)}</span></h3>"
        + (f"<p class='dim'>Asked: {_e(_ASKED[finding.rule])}.</p>" if finding.rule in _ASKED else "")
        + _samples(finding)
        + (f"<p class='dim'>{more}{of}. Row numbers count from 0.</p>" if more or of else "")
        + "</div>"
    )


def _samples(finding: Finding) -> str:
    if not finding.samples:
        return f"<p>rows {', '.join(f'{row:,}' for row in finding.rows)}</p>"
    names = list(finding.samples[0].values)
    accused = set(finding.column.split(", ")) & set(names)
    accused = accused or set(names) & set(re.findall(r"\w+", finding.message)) or set(names)
    head = "".join(f"<th>{_e(name)}</th>" for name in names)
    body = "".join(
        f"<tr><td class='n'>{sample.row:,}</td>"
        + "".join(f"<td{' class=x' if name in accused else ''}>{_e(sample.values[name])}</td>" for name in names)
        + "</tr>"
        for sample in finding.samples
    )
    return f"<div class='rows'><table><tr><th class='n'>row</th>{head}</tr>{body}</table></div>"


def _share(share: float, level: str) -> str:
    """A share of rows as a bar of 100 pixels, at least one."""
    width = max(1.0, min(share, 1.0) * 100)
    bar = f'<rect width="{width:.1f}" height="8" rx="3" class="f-{level}"/>'
    return (
        f'<svg width="100" height="8" role="img" aria-label="{percent(share)} of rows">'
        f'<rect width="100" height="8" rx="3" class="f-line"/>{bar}</svg>'
    )


def _files(made: StoredReport, broken: set[str]) -> str:
    """The rows of each file as bars in order: accepted grey, new blue, failing red."""
    shown = made.profiles[-_FILES:]
    top = max((profile.rows for profile in shown), default=1) or 1
    step = max(min(60.0, 900 / len(shown)), 240 / len(shown))
    bars = []
    for index, profile in enumerate(shown):
        height = 70 * profile.rows / top
        colour = "f-stop" if profile.file in broken else "f-blue" if profile.file in made.new_files else "f-grey"
        size = f'width="{step * 0.8:.1f}" height="{max(height, 1):.1f}"'
        bars.append(
            f'<rect x="{index * step:.1f}" y="{74 - height:.1f}" {size} rx="2" class="{colour}">'
            f"<title>{_e(profile.file)}: {profile.rows:,} rows</title></rect>"
        )
    first, last = shown[0].file, shown[-1].file
    width = step * len(shown)
    return (
        f'<svg viewBox="0 0 {width:.0f} 96" width="{width:.0f}" role="img" aria-label="rows of {len(shown)} files">'
        f"{''.join(bars)}"
        f'<text x="0" y="90">{_e(first)}</text><text x="{width:.0f}" y="90" text-anchor="end">{_e(last)}</text></svg>'
        '<p class="dim">rows of each file: accepted before (grey), new (blue), stopped (red)</p>'
    )


def _columns(made: StoredReport) -> str:
    """Each column of the newest file over that of the first one."""
    first = made.profiles[0]
    last = next((profile for profile in reversed(made.profiles) if profile.file in made.new_files), made.profiles[-1])
    stopped = {finding.column for finding in made.findings if is_failure(finding)}
    hinted = {finding.column for finding in made.findings} - stopped
    rows = []
    for name, now in last.columns.items():
        before = first.columns.get(name) if first is not last else None
        state = ' class="bad"' if name in stopped else ' class="hint"' if name in hinted else ""
        rows.append(
            f"<tr{state}><td><b>{_e(name)}</b></td><td>{_e(now.type)}</td><td class='n'>{now.null_share:.1%}</td>"
            f"<td class='n'>{_typical(now)}</td><td class='n'>{_extent(now)}</td>"
            f"<td class='n'>{f'{now.lattice.step:g}' if now.lattice else ''}</td><td>{_picture(before, now)}</td></tr>"
        )
    both = f"{_e(last.file)} (blue) over {_e(first.file)} (grey)" if first is not last else _e(last.file)
    head = (
        "<tr><th>column</th><th>type</th><th class='n'>null</th><th class='n'>middle</th><th class='n'>extent</th>"
        f"<th class='n'>resolution</th><th>{both}</th></tr>"
    )
    return f'<div class="table"><table>{head}{"".join(rows)}</table></div>'


def _typical(now: ColumnProfile) -> str:
    if now.quantiles:
        return f"{now.quantiles[2]:.6g}"
    return f"{now.moments[0]:.6g}" if now.moments else ""


def _extent(now: ColumnProfile) -> str:
    if now.family == "number" and now.values:
        return f"{now.low:.5g} … {now.high:.5g}"
    return f"{now.distinct:,} texts" if now.family == "text" and now.levels else ""


def _picture(before: ColumnProfile | None, now: ColumnProfile) -> str:
    if now.family == "number" and now.bars:
        return _histogram(before, now)
    if now.levels:
        return _levels(now)
    return '<span class="dim">many different texts</span>' if now.family == "text" and now.values else ""


def _histogram(before: ColumnProfile | None, now: ColumnProfile) -> str:
    """Bars of the newest file over those of the first one, on one scale."""
    drawn = [each for each in (before, now) if each is not None and each.bars and each.family == "number"]
    low = min(each.bars_low for each in drawn)
    span = max(each.bars_high for each in drawn) - low or 1.0
    top = max(_density(each) for each in drawn) or 1.0
    bars = []
    for each in drawn:
        width = (each.bars_high - each.bars_low) / len(each.bars) or span / len(each.bars)
        colour, inset = ("f-grey", 0.0) if each is before else ("f-blue", 0.2)
        for index, share in enumerate(each.bars):
            height = (_HEIGHT - 4) * (share / width) / top
            x = (each.bars_low + index * width - low) / span * (_WIDTH - 2)
            wide = max(width / span * (_WIDTH - 2), 1.0)
            if share:
                bars.append(
                    f'<rect x="{x + wide * inset:.1f}" y="{_HEIGHT - height:.1f}" width="{wide * (1 - 2 * inset):.1f}" '
                    f'height="{max(height, 0.7):.1f}" class="{colour}"/>'
                )
    label = f"99 % of values from {now.bars_low:.4g} to {now.bars_high:.4g}"
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{label}">{"".join(bars)}</svg>'


def _density(each: ColumnProfile) -> float:
    width = (each.bars_high - each.bars_low) / len(each.bars) or 1.0
    return max(each.bars) / width


def _levels(now: ColumnProfile) -> str:
    """The most frequent levels as one bar cut in pieces."""
    total = now.values or 1
    pieces, x = [], 0.0
    for index, (level, count) in enumerate(now.levels[:_LEVELS]):
        wide = count / total * _WIDTH
        fade = 1 - index * 0.16
        pieces.append(
            f'<rect x="{x:.1f}" y="4" width="{max(wide - 1, 0.5):.1f}" height="12" rx="2" class="f-blue" '
            f'opacity="{fade:.2f}"><title>{_e(level)}: {count / total:.1%}</title></rect>'
        )
        x += wide
    pieces.append(f'<rect x="{x:.1f}" y="4" width="{max(_WIDTH - x, 0):.1f}" height="12" rx="2" class="f-line"/>')
    words = " · ".join(f"{level[:14]} {count / total:.0%}" for level, count in now.levels[:3])
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT - 2}" role="img" aria-label="{_e(words)}">{"".join(pieces)}'
        f'<text x="0" y="29">{_e(words)}</text></svg>'
    )


def _e(text: str) -> str:
    return html.escape(text, quote=True)
