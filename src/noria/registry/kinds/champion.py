"""Against the champion, on the same rows, by a paired test: `auc = { champion = "not worse", margin = 0.002 }`.

"not worse" needs proof that the loss is within the margin; "better" needs proof of a gain. A point
estimate alone decides nothing: a challenger that is better by luck is refused, with its interval
and the smallest gain that so many rows would have shown.
"""

from __future__ import annotations

from noria.registry.evidence import Evidence
from noria.registry.facts import Verdict
from noria.registry.paired import compare, too_few

__all__ = ["judge"]


def judge(evidence: Evidence) -> list[Verdict]:
    """One verdict for each metric that is compared; without a champion it passes, and says so."""
    found = []
    for name, rule in evidence.policy.metrics.items():
        metric = evidence.metrics.get(name)
        if not rule.champion or metric is None:
            continue  # a metric that does not exist is the metric gate's no
        gate = f"champion {name}"
        sample, champion, level = evidence.sample, evidence.champion, evidence.policy.level
        if champion is None:
            text = "no champion: compared with nothing, absolute limits only"
            found.append(Verdict(gate=gate, passed=True, text=text, n=len(sample.y)))
            continue
        limit = 0.0 if rule.champion == "better" else -rule.margin
        few = too_few(sample.y, sample.task)
        if few:
            text = f"{name} against version {champion.version}: {few}"
            found.append(Verdict(gate=gate, passed=False, text=text, limit=limit, n=len(sample.y)))
            continue
        paired = compare(
            metric,
            sample.y,
            champion.score,
            sample.score,
            level=level,
            thresholds=(champion.threshold, sample.threshold),
            rows=sample.rows,
            blocks=evidence.blocks,
        )
        if not paired.is_defined:
            text = f"{name} against version {champion.version} is undefined (NaN): one class, no rows or a bad score"
            found.append(Verdict(gate=gate, passed=False, text=text, limit=limit, n=paired.n))
            continue
        passed = paired.low > 0 if rule.champion == "better" else paired.low >= limit
        need = "above 0" if rule.champion == "better" else f"at least {limit:.4g}"
        text = (
            f"{name} {paired.challenger:.4f} (champion {paired.champion:.4f}, {paired.gain:+.4f}, "
            f"{level:.0%} [{paired.low:+.4f}, {paired.high:+.4f}]); {rule.champion}: lower bound {need}"
        )
        detectable = paired.detectable(limit)
        found.append(
            Verdict(
                gate=gate,
                passed=passed,
                text=text + _sees(detectable),
                value=paired.challenger,
                limit=limit,
                champion=paired.champion,
                gain=paired.gain,
                low=paired.low,
                high=paired.high,
                n=paired.n,
                detectable=detectable,
            )
        )
    return found


def _sees(detectable: float | None) -> str:
    """What a rule would have said yes to in 4 of 5 cases, in words; empty where that is not known."""
    if detectable is None:
        return ""
    return f"; sees gains from {detectable:.4f}" if detectable > 0 else f"; admits losses up to {-detectable:.4f}"
