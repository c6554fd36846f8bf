"""Two model versions in figures: asked on the same rows now, else as their gates measured them on the same rows.

A model is loaded as servers load it, so what no rule permits is not. Whatever keeps both from being asked is said, and
then only what is on record is shown: of metrics that were measured apart no difference has an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from noria.core.errors import NoriaError, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.governance.policy import of as policy_of
from noria.packaging import bundle as bundles
from noria.packaging.flavor import Bundle
from noria.project.compared.rows import Rows, rows_of, unseen
from noria.project.compared.sides import Side
from noria.registry.contrast import Contrast, Flipped, Gap, Part, contrast
from noria.registry.evidence import Champion
from noria.registry.kept import VersionRecord
from noria.registry.metrics import METRICS, Metric
from noria.registry.scored import Sample, hours_of, labelled, read_scores
from noria.registry.sliced import MIN_ROWS
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Array: TypeAlias = npt.NDArray[np.float64]
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["Scored", "scored"]

USUAL = {"binary": ("auc", "log_loss"), "regression": ("mae", "rmse")}
"""What is measured of versions whose evaluation names no metric."""
COLUMNS_MAX = 20
"""Inputs whose groups are looked at where no slice is declared."""


@frozen(kw_only=True)
class Scored:
    """Two versions on the same rows. Metrics are in the order in which they were declared: the first is the main one.

    `rows` of `of` labelled ones were used; `told` names them, `data` the data set versions that they come from.
    `level` is that of the intervals. `is_new` is False where the figures are those of the gates: no model was asked.
    """

    a: str
    b: str
    task: str
    told: str
    data: tuple[str, ...]
    rows: int
    of: int
    positives: int
    level: float
    is_new: bool
    metrics: tuple[Gap, ...]
    slices: tuple[Part, ...]
    column: str
    is_exact: bool
    flips: Flipped | None
    is_declared: bool = True


def scored(ws: Workspace, a: Side, b: Side, on: str = "") -> tuple[Scored | None, tuple[str, ...]]:
    """What two sides score on the same rows, and what has to be said of it; None if nothing could be compared.

    Args:
        on: "a" or "b" for the holdout of that side, or a data set version; the newer one's holdout by default.
    """
    why = next((side.why for side in (a, b) if side.why), "")
    if a.version is None or b.version is None:
        return None, (f"{why}, so no model can be asked",)
    if a.version.bundle and a.version.bundle == b.version.bundle:
        return None, (f"both are {a.version.ref}: the same model to the byte",)
    try:
        return _asked(ws, (a, a.version), (b, b.version), on)
    except NoriaError as error:
        reason = error.message
    kept = None if on else _kept(ws, a, b)
    if kept is None:
        return None, (f"they were not asked on the same rows: {reason}",)
    return kept, (f"the figures are those that their gates measured on the same rows, for now {reason}",)


def _asked(
    ws: Workspace, first: tuple[Side, VersionRecord], second: tuple[Side, VersionRecord], on: str
) -> tuple[Scored, tuple[str, ...]]:
    """Both asked now. Raises: NoriaError with why they cannot be."""
    (a, one), (b, other) = first, second
    bundle = _alike(ws, one, other)
    newest = a if on == "a" or (on != "b" and _is_newer(a, b)) else b
    if not on and newest.document is None:
        newest = b if newest is a else a  # that was measured, if any was; what is told names whose rows they are
    rows = rows_of(ws, newest, "" if on in ("a", "b") else on)
    found = labelled(rows.frame, rows.roles.label, bundle.labels)
    if not len(found.y):
        raise UsageError(f"none of the {len(rows.frame):,} rows of {rows.told} has a label")
    kept, notes = unseen(found.rows, rows, ws, (a, b))
    if not kept.any():
        raise UsageError(f"no row of {rows.told} is left: {'; '.join(notes)}")
    load = bundles.loader(ws)
    scores = [_scores(ws, load, side, version, rows, found.rows)[kept] for side, version in (first, second)]
    sample = Sample(found.rows[kept], found.y[kept], scores[1], bundle.threshold, bundle.task, found.unlabelled)
    champion = Champion(one.version, scores[0], bundles.read(ws, one.bundle).threshold)
    names = _names(b, a) or list(USUAL[bundle.task])
    metrics = {name: METRICS[name] for name in names if name in METRICS and METRICS[name].task == bundle.task}
    metrics = metrics or {name: METRICS[name] for name in USUAL[bundle.task]}
    declared = [name for name in _slices(b, a) if name in found.rows.columns]
    made = _contrast(ws, sample, champion, metrics, rows, other.model, declared, [each.name for each in bundle.fields])
    is_whole = bool(kept.all()) and rows.name == a.measured_on == b.measured_on
    own = _own(a, b, [name for name in names if name not in metrics], is_whole=is_whole)
    figures = _figures(made, one.ref, other.ref, rows, task=bundle.task, of=len(kept), own=own)
    return replace(figures, is_declared=bool(declared)), notes


def _figures(made: Contrast, a: str, b: str, rows: Rows, *, task: str, of: int, own: tuple[Gap, ...]) -> Scored:
    return Scored(
        a=a,
        b=b,
        task=task,
        told=rows.told,
        data=rows.data,
        rows=made.n,
        of=of,
        positives=made.positives,
        level=made.level,
        is_new=True,
        metrics=(*made.gaps, *own),
        slices=made.parts,
        column=made.column,
        is_exact=made.is_exact,
        flips=made.flips,
    )


def _scores(
    ws: Workspace, load: bundles.Opened, side: Side, version: VersionRecord, rows: Rows, labelled_rows: pd.DataFrame
) -> Array:
    """What a version gives on the labelled rows: as it was kept where these are its own holdout, else asked now."""
    told = {} if side.document is None else side.document["data"]
    if side.measured_on == rows.name and told.get("bundle") == version.bundle and told.get("scores"):
        try:
            kept = read_scores(ws.objects.get_bytes(told["scores"]))
        except NotFound:
            kept = None  # then the model is asked
        if kept is not None and len(kept) == len(labelled_rows):
            return kept
    return load(version.bundle).predict(labelled_rows)


def _alike(ws: Workspace, one: VersionRecord, other: VersionRecord) -> Bundle:
    """The bundle of the other, if both answer the same question. Raises: UsageError if they do not."""
    for version in (one, other):
        if not version.bundle:
            raise UsageError(f"{version.ref} is files that a client keeps, no bundle that can be asked")
    before, now = bundles.read(ws, one.bundle), bundles.read(ws, other.bundle)
    if before.task != now.task:
        raise UsageError(f"{one.ref} is a {before.task} model and {other.ref} a {now.task} one")
    if list(before.labels) != list(now.labels):
        raise UsageError(f"{one.ref} tells {_words(before.labels)} apart, and {other.ref} {_words(now.labels)}")
    return now


def _words(labels: Sequence[Any]) -> str:
    return " and ".join(repr(each) for each in labels)[:80]


def _is_newer(a: Side, b: Side) -> bool:
    assert a.version is not None, "only versions are asked"
    assert b.version is not None, "only versions are asked"
    if a.version.model == b.version.model:
        return a.version.version > b.version.version
    return a.version.at > b.version.at


def _names(*sides: Side) -> list[str]:
    """The metrics that evaluations name, those of the first side first."""
    return list(dict.fromkeys(name for side in sides if side.document for name in side.document["order"]))


def _slices(*sides: Side) -> list[str]:
    found = (part["column"] for side in sides if side.document for part in side.document["slices"])
    return list(dict.fromkeys(found))


def _contrast(
    ws: Workspace,
    sample: Sample,
    champion: Champion,
    metrics: Mapping[str, Metric],
    rows: Rows,
    model: str,
    declared: Sequence[str],
    inputs: Sequence[str],
) -> Contrast:
    """The figures, under the rules that gates have for a model: its level, and the rows that a slice needs."""
    rules = policy_of(ws, model).config.gate
    others = [name for name in inputs if name in sample.rows.columns][:COLUMNS_MAX]
    least = {name: int(rules.slices.get(name, {}).get("min_rows", MIN_ROWS)) for name in metrics}
    return contrast(
        sample,
        champion,
        metrics,
        declared=declared,
        columns=[] if declared else others,
        level=rules.level,
        min_rows=least,
        blocks=hours_of(sample.rows, rows.roles.time),
    )


def _own(a: Side, b: Side, names: Sequence[str], *, is_whole: bool) -> tuple[Gap, ...]:
    """Metrics of the project's own as its gates measured them, where that was on all of these rows."""
    if not is_whole:
        return ()
    note = "the project's own, as its gates measured it here"
    return tuple(_gap_of(a, b, name, note) for name in names if _measured(a, name) and _measured(b, name))


def _measured(side: Side, name: str) -> Mapping[str, Any]:
    return {} if side.document is None else side.document["metrics"].get(name, {})


def _gap_of(a: Side, b: Side, name: str, note: str) -> Gap:
    one, other = _measured(a, name), _measured(b, name)
    is_known = one["value"] is not None and other["value"] is not None
    return Gap(
        metric=name,
        better=other["better"],
        a=one["value"],
        a_low=one["low"],
        a_high=one["high"],
        b=other["value"],
        b_low=other["low"],
        b_high=other["high"],
        difference=other["value"] - one["value"] if is_known else None,
        note=note,
    )


def _kept(ws: Workspace, a: Side, b: Side) -> Scored | None:
    """What gates measured of both on the same rows; None if they were others, or one was never measured."""
    if a.document is None or b.document is None or not a.measured_on or a.measured_on != b.measured_on:
        return None
    if a.document["task"] != b.document["task"] or a.document["n"] != b.document["n"]:
        return None
    assert a.version is not None, "an evaluation is of a version"
    assert b.version is not None, "an evaluation is of a version"
    gaps = tuple(
        _judged(b, a.version.version, _gap_of(a, b, name, "measured apart: no interval of the difference"))
        for name in _names(b, a)
        if _measured(a, name) and _measured(b, name)
    )
    return Scored(
        a=a.version.ref,
        b=b.version.ref,
        task=b.document["task"],
        told=f"the holdout of {b.version.ref}",
        data=tuple(b.document["data"].get("pins", ())),
        rows=b.document["n"],
        of=b.document["n"],
        positives=b.document["positives"],
        level=b.document["level"],
        is_new=False,
        metrics=gaps,
        slices=_kept_parts(a.document, b.document, _names(b, a)),
        column="",
        is_exact=False,
        flips=_kept_flips(b.document, a.version.version),
    )


def _judged(b: Side, champion: int, gap: Gap) -> Gap:
    """The same with the interval that a gate found where it compared just these two."""
    assert b.document is not None, "what was measured has an evaluation"
    flips = (b.document.get("insights") or {}).get("flips") or {}
    for verdict in b.document["verdicts"]:
        if (
            verdict["gate"] == f"champion {gap.metric}"
            and flips.get("champion") == champion
            and verdict["low"] is not None
        ):
            sign = 1 if gap.better == "higher" else -1
            low, high = sorted((sign * verdict["low"], sign * verdict["high"]))
            return replace(gap, low=low, high=high, is_beyond_chance=low > 0 or high < 0, note="")
    return gap


def _kept_parts(one: Mapping[str, Any], other: Mapping[str, Any], names: Sequence[str]) -> tuple[Part, ...]:
    """The groups that both evaluations have, without intervals: each was measured by itself."""
    known = {(part["column"], part["level"]): part for part in one["slices"]}
    found = []
    for part in other["slices"]:
        same = known.get((part["column"], part["level"]))
        if same is None or same["n"] != part["n"]:
            continue
        for name in names:
            ends = same["metrics"].get(name), part["metrics"].get(name)
            found.append(
                Part(
                    metric=name,
                    column=part["column"],
                    level=part["level"],
                    n=part["n"],
                    a=ends[0],
                    b=ends[1],
                    difference=None if None in ends else ends[1] - ends[0],
                    low=None,
                    high=None,
                    confidence=other["level"],
                    is_beyond_chance=None,
                    share=None,
                    note="measured apart",
                )
            )
    return tuple(found)


def _kept_flips(document: Mapping[str, Any], champion: int) -> Flipped | None:
    """The rows that flipped, where the evaluation is against just that version."""
    found = (document.get("insights") or {}).get("flips")
    if not found or found["reason"] or found["champion"] != champion:
        return None
    return Flipped(
        n=found["n"],
        same=found["same"],
        ways=tuple((turn["way"], turn["n"], turn["right"]) for turn in found["turns"]),
    )
