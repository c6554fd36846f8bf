"""A search as one page: what came of it, its history, parallel coordinates, and a table of its trials.

One HTML file with its style and pictures inside, no script and nothing fetched. Every text of the
project is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from noria.experiments.coordinates import Dot, parallel, shown
from noria.pipeline.space import Dimension
from noria.search import charts
from noria.search.records import StudyRecord, TrialRecord
from noria.store.workspace import Workspace

__all__ = ["page", "place"]

MAX_ROWS = 1000
_STYLE = """
:root{color-scheme:light dark;--ground:#fbfaf8;--panel:#fff;--ink:#1d1b18;--faint:#6f6a62;--rule:#e6e2db;
--live:#1f5fbf;--good:#1d7a4d;--bad:#b3261e;--warn:#8a5a00;--far:#c9c3b8}
@media(prefers-color-scheme:dark){:root{--ground:#141518;--panel:#1b1d21;--ink:#eceae6;--faint:#9d9a94;--rule:#303339;
--live:#7fb0ff;--good:#5cc48f;--bad:#ff8a80;--warn:#e0b050;--far:#43464d}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1040px;margin:0 auto;padding:40px 24px 56px}h1{font-size:30px;line-height:1.15;margin:0 0 8px}
h2{font-size:18px;margin:40px 0 10px}.faint{color:var(--faint)}p{margin:0 0 6px;max-width:80ch}
.tiles{display:flex;flex-wrap:wrap;gap:12px 40px;margin:24px 0 8px;padding:16px 0;border-block:1px solid var(--rule)}
.tiles div{display:flex;flex-direction:column}.tiles b{font-size:22px;line-height:1.2;font-variant-numeric:tabular-nums}
.tiles span{color:var(--faint);font-size:13px}figure{margin:0;overflow-x:auto}
figure svg{display:block;width:100%;min-width:640px;height:auto}
.many{display:grid;grid-template-columns:repeat(auto-fill,minmax(280px,1fr));gap:18px 24px}
.many svg{width:100%;height:auto;overflow:visible}svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg .tick{fill:var(--faint);font-size:11px}svg .axis{font-weight:600}svg .faint{fill:var(--faint);font-weight:400}
.halo{paint-order:stroke;stroke:var(--ground);stroke-width:3px}.grid{stroke:var(--rule)}
.axis-line{stroke:var(--faint);stroke-width:1.2}.strong{fill:var(--live)}
.best{fill:none;stroke:var(--good);stroke-width:2}circle.dot{stroke:var(--ground);stroke-width:1}
.dot.done{fill:var(--live)}.dot.pruned{fill:var(--far)}circle.dot.best{fill:var(--good);stroke-width:1.5}
.mark{fill:none;stroke:var(--bad);stroke-width:1.8}.mark.pruned{fill:var(--far);stroke:none}
.mark.stopped{stroke:var(--warn)}
path.trial{fill:none;stroke:color-mix(in oklab,var(--live),var(--far) calc(var(--rank)*100%));
stroke-width:calc(2.2px - 1.4px*var(--rank));stroke-opacity:calc(.9 - .45*var(--rank))}
path.trial.best{stroke:var(--good);stroke-width:3.2;stroke-opacity:1}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:600;color:var(--faint);border-bottom:1px solid var(--ink);padding:6px 14px 6px 0;
white-space:nowrap}td{border-bottom:1px solid var(--rule);padding:6px 14px 6px 0;vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}tr.first td{font-weight:600}tr.first td:first-child{color:var(--good)}
.failed{color:var(--bad)}.pruned,.stopped{color:var(--warn)}code{font-family:ui-monospace,"DejaVu Sans Mono",monospace}
"""


def place(ws: Workspace, study: str) -> Path:
    """Where the page of a study is written for a browser."""
    return ws.project.state / "search" / f"{study}.html"


def page(
    study: StudyRecord, trials: Sequence[TrialRecord], space: Mapping[str, Dimension], best: int, reason: str = ""
) -> str:
    """The page of a study; `best` is the number of its best trial, -1 without one."""
    dots = _dots(study, trials, best)
    parts = [
        f"<h1>Search for {escape(study.model)}</h1>",
        f'<p class="faint"><code>{escape(study.study)}</code>, pipeline {escape(study.pipeline)}, '
        f"started {escape(study.started_at[:16].replace('T', ' '))} UTC by {escape(study.actor)}</p>",
        _lead(study, trials, best, reason),
        _tiles(study, trials, best),
    ]
    drawn = charts.history(dots, metric=study.metric, better=study.better)
    if drawn:
        parts += ["<h2>History</h2>", f"<figure>{drawn}</figure>", _legend()]
    lines = parallel(dots, space, metric=study.metric)
    if lines:
        parts += [
            "<h2>Parallel coordinates</h2>",
            f"<figure>{lines}</figure>",
            '<p class="faint">A line for each trial with a value: the better the stronger, the best in green.</p>',
        ]
        each = "".join(f"<div>{charts.scatter(dots, item, metric=study.metric)}</div>" for item in space.values())
        parts += ["<h2>Each parameter</h2>", f'<div class="many">{each}</div>']
    parts += ["<h2>Trials</h2>", _table(study, trials, space, best)]
    body = "\n".join(parts)
    title = f"Search for {escape(study.model)}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
    )


def _lead(study: StudyRecord, trials: Sequence[TrialRecord], best: int, reason: str) -> str:
    if best < 0:
        text = "No trial succeeded."
    else:
        found = next(trial for trial in trials if trial.trial == best)
        values = ", ".join(f"{name} {shown(value)}" for name, value in found.params.items())
        text = f"Trial {best} is the best: {study.metric} {found.value:.4g} with {values}."
    note = f" {reason[:1].upper()}{reason[1:]}." if reason else ""
    rows = "the pipeline's own validation rows" if not study.share else _kept(study)
    judged = f"Judged on {rows}. The holdout was not looked at: it judges the model that the best trial leads to."
    return f'<p>{escape(text + note)}</p><p class="faint">{escape(judged)}</p>'


def _kept(study: StudyRecord) -> str:
    by = f"the newest by {study.time}" if study.time else f"whole {study.key}s" if study.key else "a seeded draw"
    return f"{study.share:.0%} of the training rows ({by}), which no trial was trained on"


def _tiles(study: StudyRecord, trials: Sequence[TrialRecord], best: int) -> str:
    counts = {state: sum(trial.state == state for trial in trials) for state in ("done", "pruned", "failed", "stopped")}
    tiles = [(str(counts["done"]), "trials done")]
    tiles += [(str(counts[state]), state) for state in ("pruned", "failed", "stopped") if counts[state]]
    first = next((trial for trial in trials if trial.origin == "default" and trial.value is not None), None)
    found = next((trial for trial in trials if trial.trial == best), None)
    if found is not None and found.value is not None:
        tiles.append((f"{found.value:.4g}", f"best {study.metric}"))
        if first is not None and first.value is not None and first.trial != best:
            tiles.append((f"{found.value - first.value:+.4g}", "against the defaults"))
    tiles.append((f"{max((trial.elapsed_s for trial in trials), default=0.0):,.0f} s", "in all"))
    words = [study.sampler, *([study.pruner] if study.pruner else []), f"seed {study.seed}"]
    tiles.append((f"{study.parallel}", "at once; " + ", ".join(words)))
    return (
        '<div class="tiles">'
        + "".join(f"<div><b>{escape(value)}</b><span>{escape(text)}</span></div>" for value, text in tiles)
        + "</div>"
    )


def _legend() -> str:
    return (
        '<p class="faint">Dots are trials that were done, the line is the best so far. Under the axis: '
        "▾ pruned, × failed or stopped. A trial says more when pointed at.</p>"
    )


def _table(study: StudyRecord, trials: Sequence[TrialRecord], space: Mapping[str, Dimension], best: int) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in space)
    sign = -1.0 if study.better == "higher" else 1.0
    ordered = sorted(trials, key=lambda each: (each.value is None, sign * (each.value or 0.0), each.trial))
    rows = []
    for trial in ordered[:MAX_ROWS]:
        cells = "".join(f"<td>{escape(shown(trial.params.get(name)))}</td>" for name in space)
        value = "–" if trial.value is None else f"{trial.value:.5g}"
        style = ' class="first"' if trial.trial == best else ""
        rows.append(
            f'<tr{style}><td class="n">{trial.trial}</td><td class="{escape(trial.state)}">{escape(trial.state)}</td>'
            f'<td class="n">{value}</td>{cells}<td class="n">{trial.seconds:.1f} s</td>'
            f"<td>{escape(trial.reason)}</td><td><code>{escape(trial.run)}</code></td></tr>"
        )
    head = f'<tr><th class="n">trial</th><th></th><th class="n">{escape(study.metric)}</th>{heads}'
    head += '<th class="n">took</th><th></th><th>run</th></tr>'
    more = f'<p class="faint">and {len(trials) - MAX_ROWS} more</p>' if len(trials) > MAX_ROWS else ""
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>{more}'


def _dots(study: StudyRecord, trials: Sequence[TrialRecord], best: int) -> list[Dot]:
    sign = -1.0 if study.better == "higher" else 1.0
    known = sorted((trial for trial in trials if trial.value is not None), key=lambda each: sign * (each.value or 0.0))
    ranks = {trial.trial: place / max(1, len(known) - 1) for place, trial in enumerate(known)}
    found = []
    for trial in trials:
        value = "" if trial.value is None else f" {study.metric} {trial.value:.5g}"
        values = ", ".join(f"{name} {shown(item)}" for name, item in trial.params.items())
        reason = f" ({trial.reason})" if trial.reason else ""
        found.append(
            Dot(
                number=trial.trial,
                state=trial.state,
                value=trial.value,
                params=trial.params,
                rank=ranks.get(trial.trial),
                is_best=trial.trial == best,
                note=f"trial {trial.trial}: {trial.state}{value}{reason}; {values}",
            )
        )
    return found
