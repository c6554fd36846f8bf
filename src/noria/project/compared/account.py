"""Why one of two is better, in a few sentences: how much, whether beyond chance, where, and what stands behind it.

Nothing here is measured. A cause is named only where a single kind of thing differs; otherwise the candidates are, and
the command that tells them apart. Pure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from noria.core.words import counted
from noria.project.compared.inputs import Input, kinds_of
from noria.project.compared.logged import Logged
from noria.project.compared.scoring import Scored
from noria.registry.contrast import Gap, Part
from noria.tracking.records import RunRecord

__all__ = ["account", "next_command"]

SHARE_MIN = 0.1
"""A group that adds less than this part of a difference is not named."""
NAMED = 3
_PARAMETER = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*")
WORDS = {"seed": "the seed"}


def account(
    a: str,
    b: str,
    scored: Scored | None,
    *,
    logged: Sequence[Logged],
    inputs: Sequence[Input],
    notes: Sequence[str],
    is_known: bool,
) -> tuple[str, ...]:
    """The sentences, in their order.

    Args:
        a, b: what the two are called.
        notes: why there is no measured comparison, if there is none.
        is_known: whether both runs are on record, so that their inputs could be compared.
    """
    told = []
    main = scored.metrics[0] if scored is not None and scored.metrics else None
    if scored is not None and main is not None:
        told.append(_how_much(scored, main))
        told += _others(scored)
        told += _where(scored, main)
        told += _flipped(scored)
    elif logged:
        told.append(_as_logged(a, b, logged))
    else:
        told.append(f"No metric of {a} and {b} can be compared" + (f": {notes[0]}." if notes else "."))
    return (*told, _behind(inputs, None if main is None else main.is_beyond_chance, is_known=is_known))


def next_command(
    a: RunRecord | None, b: RunRecord | None, inputs: Sequence[Input], *, made_by: str, version: str
) -> str:
    """The command that tells candidates apart, or that goes on from a cause; "" where a run is unknown.

    Args:
        made_by: what made b: "pipeline", "script" or "recording".
        version: a model version whose evaluation there is; "" without.
    """
    if a is None or b is None:
        return ""
    if made_by == "recording":
        return f"noria experiments plot {a.run} {b.run}"
    kinds = kinds_of(inputs)
    if len(kinds) == 1:
        first = inputs[0]
        if kinds == ["data"] and "@" in first.a and "@" in first.b and " " not in first.a:
            return f"noria data diff {first.a} {first.b}"
        return f"noria registry report {version}" if version else f"noria explain {b.run}"
    given = [each for each in inputs if each.kind == "configuration" and each.a and _PARAMETER.fullmatch(each.name)]
    if made_by == "pipeline" and given:
        return f"noria run -p {shlex.quote(f'{given[0].name}={given[0].a}')}"
    if "environment" in kinds:
        return f"noria reproduce {a.run} --environment here"
    files = [each.file for each in inputs if each.kind == "code" and each.file]
    if files and a.code.commit and a.code.commit != b.code.commit and not a.code.dirty:
        return f"git checkout {a.code.commit[:12]} -- {shlex.quote(files[0])} && noria run"
    return f"noria reproduce {a.run}"


def _others(scored: Scored) -> list[str]:
    """The other metrics that differ beyond chance, since one of them may go against the first."""
    found = [each for each in scored.metrics[1:] if each.is_beyond_chance and each.difference is not None]
    if not found:
        return []
    told = []
    for each in found:
        name = scored.b if ((each.difference or 0) > 0) == (each.better == "higher") else scored.a
        told.append(f"{each.metric} ({each.difference:+.4g} [{each.low:+.4g}, {each.high:+.4g}], in favour of {name})")
    return [f"Beyond chance {'is' if len(told) == 1 else 'are'} also {', '.join(told)}."]


def _how_much(scored: Scored, main: Gap) -> str:
    head = f"{main.metric} is {_number(main.a)} for {scored.a} and {_number(main.b)} for {scored.b}"
    rows = f"on {counted(scored.rows, 'row')} of {scored.told}"
    if main.difference is None:
        return f"{head} {rows}: undefined, {main.note or 'so nothing can be said of it'}."
    if main.low is None or main.high is None:
        return f"{head} {rows}; how much of that is chance is not known: {main.note}."
    between = f"{main.difference:+.4g}, {scored.level:.0%} [{main.low:+.4g}, {main.high:+.4g}]"
    if not main.is_beyond_chance:
        return f"{head} {rows}: {between}. That is within chance: neither is shown to be better."
    better = scored.b if (main.difference > 0) == (main.better == "higher") else scored.a
    return f"{head} {rows}: {between}. {better} is better, beyond chance."


def _where(scored: Scored, main: Gap) -> list[str]:
    """The groups of the column that tells the most, with what each adds; what goes against the whole is named too."""
    parts = [each for each in scored.slices if each.metric == main.metric]
    own = [each for each in parts if each.column == scored.column] if scored.column else []
    proven = [each for each in parts if each.is_beyond_chance]
    if not own:
        if not parts or not scored.is_new:
            return []
        columns = ", ".join(dict.fromkeys(each.column for each in parts))
        if not main.is_beyond_chance and not proven:
            return []
        return [f"It is spread over the rows: the groups of {columns} do not differ in it by more than chance."]
    if not main.is_beyond_chance:
        named = [each for each in own if each.is_beyond_chance][:NAMED]
        if not named:
            return []
        return [f"Yet they part by {scored.column}: {'; '.join(_gap(each) for each in named)}."]
    ranked = sorted((each for each in own if each.is_beyond_chance), key=lambda each: -(each.share or 0.0))
    named = [each for each in ranked if (each.share or 0.0) >= SHARE_MIN][:NAMED]
    against = [each for each in reversed(ranked) if (each.share or 0.0) < 0][:NAMED]
    if not named:
        return [f"It is largest by {scored.column}, where no group by itself is beyond chance."]
    rest = len(own) - len(named) - len(against)
    more = f"; {counted(rest, 'other group')} {'adds' if rest == 1 else 'add'} the rest" if rest and not against else ""
    told = [f"It arises by {scored.column}: {'; '.join(_share(each) for each in named)}{more}."]
    if against:
        told.append(f"Against it {'goes' if len(against) == 1 else 'go'} {'; '.join(_gap(each) for each in against)}.")
    return told


def _share(part: Part) -> str:
    share = part.share or 0.0
    much = f"{share:.0%} of it" if share <= 1.0 + SHARE_MIN else f"more than all of it, {share:.1f} times"
    return f"{part.level} carries {much} ({part.difference:+.4g} on {counted(part.n, 'row')})"


def _gap(part: Part) -> str:
    return (
        f"{part.level} {part.difference:+.4g} [{part.low:+.4g}, {part.high:+.4g}] on {counted(part.n, 'row')}"
        if part.low is not None
        else f"{part.level} {part.difference:+.4g} on {counted(part.n, 'row')}"
    )


def _flipped(scored: Scored) -> list[str]:
    found = scored.flips
    if found is None or found.note or not found.count:
        return []
    right = sum(each[2] for each in found.ways)
    part = f"{counted(found.count, 'row')} of {found.n:,}"
    if scored.task != "binary":
        return []
    return [
        f"They call {part} otherwise; {scored.b} is right on {right:,} of these, {scored.a} on {found.count - right:,}."
    ]


def _as_logged(a: str, b: str, logged: Sequence[Logged]) -> str:
    both = [each for each in logged if each.difference is not None]
    if not both:
        return f"{a} and {b} logged no metric of the same name, so nothing says which is better."
    main = next((each for each in both if each.better), both[0])
    head = f"{main.metric} was logged as {_number(main.a)} by {a} and {_number(main.b)} by {b}"
    if not main.difference:
        return f"{head}: no difference."
    favour = ""
    if main.better:
        favour = f", in favour of {b if (main.difference > 0) == (main.better == 'higher') else a}"
    best = ""
    if main.a_best_step is not None and main.b_best_step is not None:
        ends = (main.a_best, main.a_best_step), (main.b_best, main.b_best_step)
        best = " At their best: " + " and ".join(f"{_number(value)} at step {step}" for value, step in ends) + "."
    told = f"{head}: {main.difference:+.4g}{favour}.{best}"
    return f"{told} How much of that is chance is not known: no model was asked."


def _behind(inputs: Sequence[Input], is_beyond_chance: bool | None, *, is_known: bool) -> str:
    """What of the inputs stands behind the difference: a cause only if it is the only kind, and there is something."""
    if not is_known:
        return "Not both have a run on record here, so what went into them cannot be compared."
    kinds = kinds_of(inputs)
    if not kinds:
        return (
            "Nothing on record differs between what went into them: what differs is chance in training, as of threads "
            "or of a random number without a seed."
        )
    told = "; ".join(_named(kind, [each for each in inputs if each.kind == kind]) for kind in kinds)
    if len(kinds) > 1:
        return (
            f"{len(kinds)} kinds of input differ, so none can be called the cause. Candidates: {told}. "
            "A run with one of them as it was tells them apart: the command below begins with one."
        )
    whole = f"Only one kind of input differs: {told}."
    if is_beyond_chance:
        return f"{whole} It is the cause, as far as training has no chance of its own."
    return whole if is_beyond_chance is False else f"{whole} What is more than chance comes of it."


def _named(kind: str, found: Sequence[Input]) -> str:
    shown = [_input(each) for each in found[:NAMED]]
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{WORDS.get(kind, kind)} ({', '.join(shown)}{more})"


def _input(each: Input) -> str:
    if each.kind == "data":
        rows = [(each.added, "added"), (each.removed, "removed"), (each.changed, "changed")]
        counts = [f"{number:,} rows {word}" for number, word in rows if number]
        columns = [f"columns {', '.join(each.columns[:NAMED])}"] if each.columns else []
        told = "; ".join(filter(None, [", ".join(counts), *columns])) or each.change
        return f"{each.a or 'none'} → {each.b or 'none'}" + (f": {told}" if told else "")
    where = f" in {each.file}" if each.file and each.file != each.name else ""
    if each.a or each.b:
        return f"{each.name}{where} {each.a or 'unset'} → {each.b or 'unset'}"
    return f"{each.name}{where}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}" if abs(value) < 1000 else f"{value:.6g}"
