"""What was served and what became of it, as a version of a data set: the next model's material.

Logged answers joined with the labels that were known at a time. Each row keeps how it came to be
answered (release, arm, the arm's probability), because a model that learns from its own choices
learns them. The version's lineage names the sealed segments and the releases. It stands here and not
in `data`, which knows neither predictions nor labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from noria.core.clock import duration, instant, utc_text
from noria.core.errors import NotFound, UsageError
from noria.core.fact import Edge
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.verb import verb
from noria.core.words import counted
from noria.data import lock
from noria.data.commit import commit
from noria.data.records import DatasetVersion
from noria.data.select import checked_name
from noria.data.tabular import tables
from noria.monitoring import labels as label_log
from noria.monitoring import records
from noria.monitoring.live import as_of as newest_moment
from noria.serving import capture
from noria.serving import records as serving
from noria.serving.segment import MAX_AGE_S
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np, pa = lazy("numpy"), lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["Feedback", "from_predictions"]

EDGES_MAX = 1000
"""More segments than this are named by one list of them."""
FEW = 30
"""A group of answers smaller than this says nothing about who gets a label."""
RARE = 0.05
"""A group whose labels are so much rarer than another's has, as good as, none."""
_LOGGED = {
    "id": "prediction_id",
    "rid": "request_id",
    "at_time": "event_time",
    "t": "answered_at",
    "dep": "deployment",
    "rel": "release",
    "arm": "arm",
    "pi": "propensity",
    "y": "score",
    "c": "answer",
}


@frozen(kw_only=True)
class Feedback:
    """The version that was made, how many answers it has and how many of them a label, and what to beware of.

    `open_answers` are in log files that are still written to, and not in the version.
    """

    dataset: DatasetVersion
    answered: int
    labelled: int
    open_answers: int
    warnings: tuple[str, ...]


@verb(permission="monitoring.collect")
def from_predictions(
    ws: Workspace,
    *,
    model: str = "",
    name: str = "",
    since: str = "",
    until: str = "",
    as_of: str = "",
    label: str = "label",
    labelled_only: bool = False,
    note: str = "",
) -> Feedback:
    """Make answered predictions, joined with their labels, a version of a data set.

    Each row has the inputs as received, the score, release, arm and the arm's probability
    (`propensity`), and the label in its latest revision, null while there is none. Warns where
    labels depend on the answer: such rows teach a model its own choices.

    Args:
        model: whose answers.
        name: of the data set.
        since: the first event time, such as 2026-10-01; by default from the start.
        until: the first event time that is left out; by default none.
        as_of: labels as they were known then; by default now.
        label: the name of the label's column.
        labelled_only: leave out answers without a label.
        note: a remark that the version keeps.
    Raises: NotFound if nothing was answered; UsageError for a column name that is taken.
    Example:
        noria data from-predictions --model churn --name churn-feedback --since 2026-10-01
    """
    if not model or not name:
        raise UsageError("say whose predictions, and the data set's name", hint="--model MODEL --name NAME")
    since, until, as_of = (_moment(text) for text in (since, until, as_of))
    capture.seal(ws)
    label_log.seal(ws, model, force=True)
    with lock.dataset_lock(ws, checked_name(name)), lock.leased(ws, f"data from-predictions {name}") as claim:
        claim()
        answered = capture.predictions(ws, model, since, until, sealed=True)
        if not answered.num_rows:
            raise _nothing_answered(ws, model, since, until)
        known = label_log.read(ws, model, as_of=as_of)
        places = label_log.joined(known, answered["rid"], answered["id"])
        rows = _rows(answered, known, places, label)
        has_label = np.asarray(rows[label].is_valid())
        warnings = _warnings(ws, model, answered, has_label)
        if labelled_only:
            rows = rows.filter(pa.array(has_label))
        roles = {"key": _name("id", rows), "time": _name("at_time", rows), "label": label}
        version = commit(
            ws,
            name,
            tables.store(ws, rows, name, time=roles["time"]),
            roles=roles,
            source=f"predictions of {model}{f' since {since}' if since else ''}{f' until {until}' if until else ''}",
            note=note,
            operation="predictions",
            inputs=_lineage(ws, model, since, until),
        )
    everything = capture.predictions(ws, model, since, until)
    return Feedback(
        dataset=version,
        answered=answered.num_rows,
        labelled=int(has_label.sum()),
        open_answers=everything.num_rows - answered.num_rows,
        warnings=warnings,
    )


def _nothing_answered(ws: Workspace, model: str, since: str, until: str) -> NotFound:
    """Why there are no answers to take: the log that has them is still written to, or there are none."""
    opened = capture.predictions(ws, model, since, until).num_rows
    if opened:
        return NotFound(
            f"{model} has no sealed answer in this time: {counted(opened, 'answer')} in a log that is still written to",
            hint=f"try again in a minute: a log is closed after {MAX_AGE_S:.0f} s, or when its server stops",
        )
    with ws.ledger.read() as tx:
        known = serving.logged_models(tx)
    if model in known:
        return NotFound(f"{model} has no sealed answer in this time", hint="--since and --until are event times")
    return NotFound(f"{model} has no sealed answer", hint=f"models that have: {', '.join(known) or 'none'}")


def _moment(text: str) -> str:
    try:
        return utc_text(instant(text)) if text else ""
    except ValueError as error:
        raise UsageError(f"{text!r} is no time", hint="such as 2026-10-01 or 2026-10-01T12:00Z") from error


def _rows(answered: pa.Table, known: label_log.Labels, places: Any, label: str) -> pa.Table:
    """Inputs by their own names, how each was answered, and the label with the time it became known."""
    inputs = {name[2:]: answered[name] for name in answered.column_names if name.startswith("x_")}
    if label in inputs or label in _LOGGED.values():
        raise UsageError(f"{label!r} is the name of another column", hint="--label OTHER")
    columns: dict[str, Any] = {_free(told, inputs): answered[name] for name, told in _LOGGED.items()}
    columns |= inputs
    found: list[Any] = [None] * answered.num_rows
    rows = np.flatnonzero(places >= 0)
    for row, value in zip(rows.tolist(), label_log.values(known, places[rows]), strict=True):
        found[row] = value
    columns[label] = _array(found)
    received = np.zeros(answered.num_rows, dtype=np.int64)
    received[rows] = known.received_us[places[rows]]
    when = pa.array(received, pa.timestamp("us", tz="UTC"), mask=places < 0)
    columns[_free("labelled_at", {**inputs, label: None})] = when
    made: pa.Table = pa.table(columns)
    return made


def _free(name: str, taken: Any) -> str:
    return f"logged_{name}" if name in taken else name


def _name(logged: str, rows: pa.Table) -> str:
    told = _LOGGED[logged]
    return f"logged_{told}" if f"logged_{told}" in rows.column_names else told


def _array(values: Sequence[Any]) -> Any:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _lineage(ws: Workspace, model: str, since: str, until: str) -> list[Edge]:
    """The sealed answers and labels, and the releases that answered."""
    with ws.ledger.read() as tx:
        pieces = serving.segments(tx, model, "local")
        known = records.label_segments(tx, model)
    chosen = [p for p in pieces if (not since or p.event_max >= since) and (not until or p.event_min < until)]
    segments = [("segment", piece.segment) for piece in chosen]
    labels = [("labels", piece.segment) for piece in known]
    releases = sorted({number for piece in chosen for number in piece.releases})
    if len(segments) + len(labels) > EDGES_MAX:
        listed = ws.objects.put_json([[role, digest] for role, digest in (*segments, *labels)])
        segments, labels = [("segments", listed)], []
    return [*segments, *labels, *(("release", f"release/{model}/{number}") for number in releases)]


def _warnings(ws: Workspace, model: str, answered: pa.Table, has_label: Any) -> tuple[str, ...]:
    found = [*_chosen_by_answer(answered, has_label), *_young(ws, model, answered, has_label)]
    if not has_label.any():
        found.insert(0, "no answer has a label yet")
    return tuple(found)


def _chosen_by_answer(answered: pa.Table, has_label: Any) -> list[str]:
    """Whether who gets a label depends on what was answered: then the label is missing not at random."""
    told, groups = _groups(answered)
    shares = {name: float(has_label[mask].mean()) for name, mask in groups.items() if int(mask.sum()) >= FEW}
    if len(shares) < 2 or max(shares.values()) == 0:
        return []
    best = max(shares, key=lambda name: shares[name])
    least = min(shares, key=lambda name: shares[name])
    if shares[least] > RARE * shares[best]:
        return []
    count = int(groups[least].sum())
    propensity = answered["pi"].to_numpy()
    is_certain = bool((propensity >= 1).all())
    tail = (
        "; every row was answered by its arm with certainty, so nothing in the log can correct it: "
        "hold back a random share of requests from the decision and label those"
        if is_certain
        else "; weigh rows by 1 / propensity, or train on the arm that was held back"
    )
    return [
        f"labels come only for some answers: {shares[best]:.0%} of rows with {told} {best} have one, "
        f"{shares[least]:.0%} of {count:,} with {least}; a model trained on these learns its own choices{tail}"
    ]


def _groups(answered: pa.Table) -> tuple[str, dict[str, Any]]:
    """Rows by the class that was answered, or by the halves of the score where there is none."""
    classes: Any = answered["c"]
    if classes.null_count < len(classes):
        texts = [None if value is None else str(value) for value in classes.to_pylist()]
        named = np.array(texts, dtype=object)
        return "answer", {str(name): named == name for name in sorted({text for text in texts if text is not None})}
    scores = answered["y"].to_numpy()
    middle = float(np.nanmedian(scores)) if len(scores) else 0.0
    return "score", {f"above {middle:.4g}": scores > middle, f"up to {middle:.4g}": scores <= middle}


def _young(ws: Workspace, model: str, answered: pa.Table, has_label: Any) -> list[str]:
    delay = duration(ws.project.model(model).monitor.labels.delay)
    now = newest_moment(ws, model)
    if not delay or now is None:
        return []
    edge = pa.scalar(now - delay, pa.timestamp("us", tz="UTC"))
    young = np.asarray(pc.greater(answered["at_time"], edge))
    count = int((young & ~has_label).sum())
    words = (
        f"{count:,} rows without a label are younger than the labels' delay of {_days(delay)}: theirs may still come"
    )
    return [words] if count else []


def _days(length: timedelta) -> str:
    return f"{length.days}d" if length.days else f"{length.total_seconds() / 3600:.0f}h"
