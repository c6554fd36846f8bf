"""The report's style sheet: one column of text, charts on plain ground, light and dark from the reader's system."""

from __future__ import annotations

__all__ = ["CSS"]

CSS = """
:root{color-scheme:light dark;
--ground:#fbfaf8;--font:system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
--panel:#fff;--ink:#1d1b18;--faint:#6f6a62;--rule:#e6e2db;
--live:#1f5fbf;--frozen:#b0662a;--good:#1d7a4d;--bad:#b3261e;--warn:#8a5a00;--hot:29 95 191;--cold:.06}
@media (prefers-color-scheme:dark){:root{--ground:#141518;--panel:#1b1d21;--ink:#eceae6;--faint:#9d9a94;
--rule:#303339;
--live:#7fb0ff;--frozen:#e39a5c;--good:#5cc48f;--bad:#ff8a80;--warn:#e0b050;--hot:110 165 255;--cold:.08}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:15px/1.5 var(--font)}
main{max-width:1040px;margin:0 auto;padding:40px 24px 56px}
h1{font-size:34px;line-height:1.15;margin:0 0 10px;letter-spacing:-.02em}
h2{font-size:18px;margin:44px 0 12px}
header p{margin:0}
.lead{font-size:18px;max-width:62ch}
.faint{color:var(--faint)}
.tiles{display:flex;flex-wrap:wrap;gap:12px 40px;margin:28px 0 8px;padding:18px 0;
border-block:1px solid var(--rule)}
.tiles div{display:flex;flex-direction:column}
.tiles b{font-size:24px;line-height:1.2;font-variant-numeric:tabular-nums}
.tiles span{color:var(--faint);font-size:13px}
figure{margin:24px 0 0;overflow-x:auto}
figure svg:not(.sign){display:block;width:100%;min-width:640px;height:auto}
figcaption{color:var(--faint);font-size:13px;margin-top:10px;max-width:90ch}
svg text{font:12px var(--font);fill:var(--ink)}
svg .tick{fill:var(--faint)}
svg .axis{font-weight:600}
svg .axis .faint{fill:var(--faint);font-weight:400}
.grid{stroke:var(--rule)}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round}
.line.live{stroke:var(--live)}
.line.frozen{stroke:var(--frozen);stroke-dasharray:5 4}
.band{stroke:none}
.band.live{fill:var(--live);opacity:.16}
.band.frozen{fill:var(--frozen);opacity:.14}
.dot{stroke:var(--ground);stroke-width:1.5}
.dot.live{fill:var(--live)}
.dot.frozen{fill:var(--frozen)}
svg .end{font-weight:600}
svg .end.live{fill:var(--live)}
svg .end.frozen{fill:var(--frozen)}
.promotion{stroke:var(--good);stroke-width:1.5;stroke-dasharray:2 3}
.mark.promoted rect{fill:var(--good)}
.mark.promoted text,.mark.stopped text{fill:var(--ground);font-weight:700}
.mark.stopped polygon{fill:var(--bad)}
.mark.refused polygon{fill:none;stroke:var(--warn);stroke-width:2}
.mark.rolled polygon{fill:var(--bad)}
.mark.wait circle{fill:var(--faint);opacity:.6}
.sign{width:32px;height:24px;vertical-align:-6px}
svg .name{fill:var(--ink)}
svg .name.strong{font-weight:700}
rect.heat{fill:rgb(var(--hot) / calc(var(--cold) + .9*var(--heat)))}
rect.none{fill:none;stroke:var(--rule);stroke-dasharray:2 3}
rect.drifted{stroke:var(--ink);stroke-width:1.6}
svg .ratio{font-size:11px}
svg .ratio.far{fill:var(--ground);font-weight:600}
i.heat{display:inline-block;width:22px;height:12px;margin:0 1px;vertical-align:-1px;border-radius:2px;
background:rgb(var(--hot) / calc(var(--cold) + .9*var(--heat)))}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:600;color:var(--faint);border-bottom:1px solid var(--ink);
padding:6px 12px 6px 0;white-space:nowrap}
td{border-bottom:1px solid var(--rule);padding:8px 12px 8px 0;vertical-align:top}
td p{margin:0 0 4px}
td:first-child{white-space:nowrap;font-weight:600}
.n{text-align:right}
td.n .faint{display:block;font-size:12px;white-space:nowrap}
.tag{display:inline-block;padding:0 8px;border-radius:9px;border:1px solid currentColor;font-size:12px;
white-space:nowrap;color:var(--faint)}
.tag.promoted{color:var(--good)}
.tag.refused{color:var(--warn)}
.tag.stopped,.tag.rolled{color:var(--bad)}
footer{margin-top:48px;color:var(--faint);font-size:13px}
code{font-family:ui-monospace,"DejaVu Sans Mono",monospace}
@media print{body{background:#fff}
main{max-width:none}}
"""
