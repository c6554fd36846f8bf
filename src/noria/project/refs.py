"""Explaining what has no page of its own: a fact by number, a decision, a measurement, a commit, a digest.

Whatever Noria prints as an id can be pasted back. Short forms are taken where they fit one thing
only; where they fit several, the error names them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from noria.core.errors import NotFound, UsageError
from noria.core.identity import is_digest, short
from noria.governance import lineage
from noria.governance import records as governance
from noria.loop import records as loop
from noria.monitoring import records as monitoring
from noria.project import searches, ticks, touched
from noria.project.chain import Chain, Link
from noria.project.sentence import sentence
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

__all__ = ["by_edges", "named", "only", "shortened"]

T = TypeVar("T")
MAX_RUNS = 10_000
_FACT = re.compile(r"facts?[/ ](\d{1,18})")
_DECISION = re.compile(r"retrain/([^/]+)/([^/]+)/(\d{1,18})")
_MEASURED = re.compile(r"(drift|quality)/([^/]+)/([^/]+)")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_DIGITS = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})")


def only(name: str, found: Sequence[T], names: Sequence[str]) -> T:
    """The one thing that a short form fits. Raises: UsageError naming the first of several."""
    if len(found) > 1:
        raise UsageError(
            f"{name[:80]!r} fits {len(found)} things", hint=f"give more of it: {', '.join(sorted(names)[:3])}"
        )
    return found[0]


def named(ws: Workspace, name: str) -> Chain | None:
    """A fact, a decision, or a measurement by its ref; None for a text of another form."""
    if match := _FACT.fullmatch(name):
        return _fact(ws, int(match[1]))
    if match := _DECISION.fullmatch(name):
        return _decision(ws, name, match[1], match[2], int(match[3]))
    if match := _MEASURED.fullmatch(name):
        return _measured(ws, name, match[1], match[2], match[3])
    if name.startswith(("study", "trial/")):
        return searches.chain(ws, name)
    if name.startswith("tick/"):
        return ticks.chain(ws, name)
    return None


def shortened(ws: Workspace, name: str) -> Chain | None:
    """A commit or a digest, whole or by its first digits; None if there is none."""
    found = _commit(ws, name) if _COMMIT.fullmatch(name) else None
    if found is None and (match := _DIGITS.fullmatch(name)):
        found = _digest(ws, name, f"sha256:{match[1]}")
    return found


def by_edges(ws: Workspace, name: str) -> Chain | None:
    """What a ref was made from and what was made from it; None if no fact names it."""
    try:
        above, below = lineage.ancestors(ws, name), lineage.descendants(ws, name)
    except NotFound:
        return None
    if not above and not below:
        return None
    return Chain(id=name, kind="object", links=_lineage(above), touched=_lineage(below))


def _lineage(found: Sequence[lineage.Link]) -> tuple[Link, ...]:
    return tuple(
        Link(what=item.role, ref=item.ref, text=f"{item.kind} (fact {item.seq})", at=item.at, actor=item.actor)
        for item in found
    )


def _fact(ws: Workspace, number: int) -> Chain:
    head = ws.ledger.head()
    if not 1 <= number <= head:
        raise NotFound(f"there is no fact {number}", hint=f"facts go from 1 to {head}")
    link, given, gave = _sentence(ws, number)
    return Chain(id=f"fact/{number}", kind="fact", links=(link, *given), touched=gave)


def _sentence(ws: Workspace, number: int) -> tuple[Link, tuple[Link, ...], tuple[Link, ...]]:
    """A fact as a link, and the things that it names as its inputs and as its outputs."""
    stored = ws.ledger.facts(after=number - 1, limit=1)[0]
    fact = stored.fact
    with ws.ledger.read() as tx:
        text = sentence(tx, stored)
    link = Link(
        what=fact.kind,
        ref=f"fact/{number}",
        text=f"{fact.subject}: {text}" if text else fact.subject,
        at=fact.at,
        actor=fact.actor,
        details=dict(fact.data),
    )
    given = tuple(Link(what=role, ref=ref, text="used by it") for role, ref in fact.inputs)
    gave = tuple(Link(what=role, ref=ref, text="made by it") for role, ref in fact.outputs)
    return link, given, gave


def _decision(ws: Workspace, name: str, model: str, window: str, version: int) -> Chain | None:
    with ws.ledger.read() as tx:
        decided = [item for item in loop.decisions(tx, model, window=window) if item.dataset_version == version]
        caused = [run for run in tracking.runs(tx, limit=MAX_RUNS) if run.cause == name]
        judged = [item for item in loop.judgements(tx, model) if item.run in {run.run for run in caused}]
    if not decided:
        return None
    item = decided[0]
    details = {"rules": list(item.rules), "data": f"{item.dataset}@{version}", "as_of": item.as_of}
    link = Link(what="decision", ref=name, text=f"{item.decision}: {item.reason}", at=item.at, details=details)
    came = [
        Link(what="judgement", ref=f"fact/{each.seq}", text=f"{each.decision}: {each.reason}", at=each.at)
        for each in judged
    ]
    reached = touched.by_runs(ws, [run.run for run in caused])
    return Chain(
        id=name,
        kind="decision",
        links=(link, *_seen(ws, model, window)),
        touched=(*came, *_links(reached)),
    )


def _measured(ws: Workspace, name: str, kind: str, model: str, window: str) -> Chain | None:
    found = [link for link in _seen(ws, model, window) if link.what == kind]
    if not found:
        return None
    with ws.ledger.read() as tx:
        decided = loop.decisions(tx, model, window=window)
    came = tuple(
        Link(
            what="decision",
            ref=f"retrain/{model}/{window}/{item.dataset_version}",
            text=f"{item.decision}: {item.reason}",
            at=item.at,
        )
        for item in decided
    )
    return Chain(id=name, kind=kind, links=tuple(found), touched=came)


def _seen(ws: Workspace, model: str, window: str) -> list[Link]:
    """What was measured of a window."""
    with ws.ledger.read() as tx:
        drift, quality = monitoring.drift(tx, model, window), monitoring.quality(tx, model, window)
    links = []
    if drift is not None:
        text = f"{window}: {', '.join(drift.drifted) or 'no column'} drifted, {drift.rows:,} requests"
        details: dict[str, Any] = {"report": drift.report, "drifted": list(drift.drifted)}
        links.append(Link(what="drift", ref=f"drift/{model}/{window}", text=text, at=drift.at, details=details))
    if quality is not None:
        figures = ", ".join(f"{name} {item.value:.3f}" for name, item in quality.live.items() if item.value is not None)
        text = f"{window}: {figures or 'no figure'}; {quality.labelled:,} of {quality.rows:,} labelled"
        links.append(Link(what="quality", ref=f"quality/{model}/{window}", text=text, at=quality.at))
    return links


def _commit(ws: Workspace, name: str) -> Chain | None:
    with ws.ledger.read() as tx:
        fits = [run for run in tracking.runs(tx, limit=MAX_RUNS) if run.code.commit.startswith(name)]
    commits = sorted({run.code.commit for run in fits})
    if not commits:
        return None
    commit = only(name, commits, commits)
    code = fits[0].code
    changed = sum(run.code.dirty for run in fits)
    text = f"{len(fits)} run{'s' * (len(fits) != 1)} of it, {changed} with changes that are not in it"
    details = {"branch": code.branch, "remote": code.remote, "entry": code.entry}
    link = Link(what="code", ref=commit, text=text, at=fits[-1].started_at, details=details)
    reached = touched.by_runs(ws, [run.run for run in reversed(fits)])
    return Chain(id=commit, kind="commit", links=(link,), touched=_links(reached))


def _digest(ws: Workspace, name: str, prefix: str) -> Chain | None:
    """What a digest names: by the edges of facts, by their text, or only as bytes that are stored."""
    with ws.ledger.read() as tx:
        fits = set(governance.refs_from(tx, prefix))
    fits |= {str(known) for known in ws.objects.names() if known.startswith(prefix)}
    if is_digest(prefix):
        fits.add(prefix)
    if not fits:
        return None
    found = only(name, sorted(fits), sorted(fits))
    with ws.ledger.read() as tx:
        numbers = governance.mentioned(tx, found)
    is_stored = ws.objects.has(found)
    if not numbers and not is_stored:
        return None
    size = f"{ws.objects.size(found):,} bytes" if is_stored else "not in the store"
    facts = [_sentence(ws, number)[0] for number in numbers]
    said = "" if facts else "; no fact names it: a part of something that one does"
    head = Link(what="object", ref=found, text=f"{short(found)}, {size}{said}")
    edges = by_edges(ws, found)
    told = tuple(Link(what=item.what, ref=item.ref, text=item.text, at=item.at, actor=item.actor) for item in facts)
    links, below = (edges.links, edges.touched) if edges else ((), ())
    return Chain(id=found, kind="object", links=(head, *told, *links), touched=below)


def _links(found: Sequence[touched.Touched]) -> tuple[Link, ...]:
    return tuple(
        Link(what=item.what, ref=item.ref, text=item.text, at=item.at, details=dict(item.details)) for item in found
    )
