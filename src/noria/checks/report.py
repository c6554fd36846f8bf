"""The report of a run of checks as one page: what failed, in which rows, and how each column looks.

One HTML file with its style inside, no script and nothing fetched. Every text from the data is
escaped. Row values appear here (as examples) and in the report object, never in the ledger.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from noria.checks import records
from noria.checks.examine import StoredReport
from noria.checks.facts import Finding
from noria.checks.summary import ColumnProfile, TableProfile
from noria.core.errors import NotFound
from noria.core.verb import verb
from noria.data.versions import resolve
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

__all__ = ["WrittenReport", "page", "report"]

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c2330;background:#fff}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.3rem 0}
.verdict{display:inline-block;padding:.1rem .7rem;border-radius:1rem;color:#fff;font-weight:600}
.ok{background:#1a7f4b}.stop{background:#b3261e}.warn{background:#9a6700}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #e3e7ee}
th{font-weight:600;color:#566176;font-size:.85rem}td.n{text-align:right;font-variant-numeric:tabular-nums}
code{background:#f3f5f9;padding:0 .25rem;border-radius:3px}.dim{color:#76819a}svg{display:block}
@media(prefers-color-scheme:dark){body{background:#12161f;color:#e4e8f0}th,td{border-color:#2a3140}code{background:#1e2532}}
"""
_WIDTH, _HEIGHT = 240, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReport:
    """Where a report page was written."""

    dataset: str
    version: int
    ok: bool
    to: str


@verb(permission="checks.read", changes=False, where="project")
def report(ws: Workspace, dataset: str, to: str = "") -> WrittenReport:
    """Write the last report on a version as one HTML page; by default `NAME-checks.html` in the project.

    Raises: NotFound if the version was not checked.
    """
    version = resolve(ws, dataset)
    with ws.ledger.read() as tx:
        found = records.latest(tx, version.name, version.tree)
    if found is None:
        raise NotFound(f"{version.ref} was not checked", hint=f"noria data check {version.name}")
    made = msgspec.json.decode(ws.objects.get_bytes(found.report), type=StoredReport)
    target = Path(to).absolute() if to else ws.project.root / f"{version.name}-checks.html"
    with disk_faults(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.write_text(page(made), encoding="utf-8")
        part.replace(target)
    return WrittenReport(dataset=version.name, version=version.version, ok=found.ok, to=str(target))


def page(made: StoredReport) -> str:
    """The page of a report."""
    bad = [finding for finding in made.findings if finding.severity == "error"]
    total = made.passed + len(made.findings)
    verdict = f'<span class="verdict {"stop" if bad else "ok"}">{"STOP" if bad else "passed"}</span>'
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{_e(made.dataset)}@{made.version}: checks</title><style>{_STYLE}</style>",
        f"<h1>{_e(made.dataset)}@{made.version} {verdict}</h1>",
        f"<p>{total - len(made.findings)} of {total} rules passed on {made.rows:,} rows.",
        f" Looked at: {_e(', '.join(made.new_files) or 'nothing new')}.</p>",
        f'<p class="dim">content <code>{_e(made.tree)}</code><br>rules <code>{_e(made.suite)}</code></p>',
    ]
    if made.findings:
        parts += ["<h2>What did not pass</h2>", _findings(made.findings)]
    if made.profiles:
        parts += ["<h2>Columns</h2>", _columns(made.profiles, made.new_files)]
    return "\n".join(parts) + "\n</html>\n"


def _findings(findings: Sequence[Finding]) -> str:
    rows = []
    for finding in findings:
        level = "stop" if finding.severity == "error" else "warn"
        where = ", ".join(str(row) for row in finding.rows) + (" …" if finding.count > len(finding.rows) else "")
        examples = " ".join(f"<code>{_e(example[:60])}</code>" for example in finding.examples)
        rows.append(
            f'<tr><td><span class="verdict {level}">{_e(finding.severity)}</span></td>'
            f"<td><b>{_e(finding.column or 'table')}</b></td><td>{_e(finding.rule)}</td>"
            f'<td class="n">{finding.count:,} of {finding.total:,}</td><td>{_e(finding.message)}</td>'
            f"<td>{examples}</td><td>{_e(finding.file)}<br><span class='dim'>rows {_e(where)}</span></td></tr>"
        )
    head = "<tr><th><th>column<th>rule<th>rows<th>what<th>for example<th>where</tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _columns(profiles: Sequence[TableProfile], new_files: Sequence[str]) -> str:
    """Each column of the newest file over that of the first one: 5 to 95 %, quartiles and the median."""
    first = profiles[0]
    last = next((profile for profile in reversed(profiles) if profile.file in new_files), profiles[-1])
    rows = []
    for name, now in last.columns.items():
        before = first.columns.get(name)
        resolution = f"{now.lattice.step:g}" if now.lattice else ""
        median = f"{now.quantiles[2]:.6g}" if now.quantiles else ""
        rows.append(
            f"<tr><td><b>{_e(name)}</b></td><td>{_e(now.type)}</td><td class='n'>{now.null_share:.1%}</td>"
            f"<td class='n'>{median}</td><td class='n'>{resolution}</td>"
            f"<td>{_strip(before, now)}</td></tr>"
        )
    files = f"{_e(first.file)} (grey), {_e(last.file)} (blue)"
    head = f"<tr><th>column<th>type<th>null<th>median<th>resolution<th>{files}</tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _strip(before: ColumnProfile | None, now: ColumnProfile) -> str:
    shown = [profile for profile in (before, now) if profile is not None and profile.quantiles]
    if not shown or now.family != "number":
        return " ".join(_e(level) for level, _ in now.levels[:4])
    low = min(profile.quantiles[0] for profile in shown)
    width = max(profile.quantiles[-1] for profile in shown) - low or 1.0
    bars = []
    for index, profile in enumerate(shown):
        q = [(value - low) / width * (_WIDTH - 4) + 2 for value in profile.quantiles]
        y = 8 + index * 14
        colour = "#9aa5b8" if profile is before else "#2f6fde"
        bars.append(
            f'<line x1="{q[0]:.1f}" x2="{q[4]:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
            f'<rect x="{q[1]:.1f}" y="{y - 4}" width="{max(q[3] - q[1], 1):.1f}" height="8" rx="2" fill="{colour}"/>'
            f'<rect x="{q[2] - 1:.1f}" y="{y - 5}" width="2" height="10" fill="#fff" stroke="{colour}"/>'
        )
    label = f"5 to 95 %: {shown[-1].quantiles[0]:.4g} to {shown[-1].quantiles[-1]:.4g}"
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{label}">{"".join(bars)}</svg>'


def _e(text: str) -> str:
    return html.escape(text, quote=True)
