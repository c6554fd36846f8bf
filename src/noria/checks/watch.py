"""`noria data watch`: is the newest version of a data set like those before it? Before any model sees it.

Four questions, each against the data set's own history, with no threshold to set:

- volume: rows against their median, or rows gained against theirs where a table only ever grew.
- freshness: the time since the last version, against the usual time between two; and `fresh`.
- schema: a column that left, or came, or has another type.
- nulls: each column's share, beyond binomial chance and its own unrest.

Robust (median and trimmed deviation, so an old anomaly does not hide a new one), with Student's
quantiles for short histories; with fewer than five earlier versions only what needs no history is
an error. The shares of false alarms are measured by simulation in the tests.
"""

from __future__ import annotations

import functools
import itertools
import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from noria.checks.evaluate import ColumnCheck
from noria.checks.scanning import source
from noria.checks.scanning.scan import scan, shape_of
from noria.checks.suites.rules import ColumnRules
from noria.core.clock import duration, instant
from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.verb import verb
from noria.core.words import counted
from noria.data.records import DatasetVersion
from noria.data.versions import list_datasets, log
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")
stats = lazy("scipy.stats")

__all__ = ["Anomaly", "Seen", "WatchReport", "Watched", "judge", "watch"]

HISTORY = 40
"""So many versions are looked at."""
MIN_HISTORY = 5
"""Fewer earlier versions than this say nothing about what is usual."""
ERROR, WARN = 0.001, 0.01
"""How often a question may be answered wrongly on data that is as always, for an error and a warning."""
_LIMIT_MAX = 10.0
"""In scales: at five earlier versions Student's quantile is beyond anything."""
_ROWS_FLOOR = 0.04
"""A relative change of rows below this is nothing, however still the history was."""
_GAIN_FLOOR = 0.1
"""The same for rows gained, of the usual gain."""
_GAP_FLOOR = 0.3
"""The same for the logarithm of the time between versions."""
_NULLS_FLOOR = 0.01
_NULLS_WARN, _NULLS_ERROR = 0.01, 0.05
"""A share of nulls must move by so much to be worth a word, or an error."""
_HALF = 0.5


@frozen(kw_only=True)
class Anomaly:
    """What is out of the ordinary: a question, the column it is about, and how sure.

    `value` is what was seen, `low` and `high` what would be usual.
    """

    question: str
    column: str
    severity: str
    message: str
    value: float = 0.0
    low: float = 0.0
    high: float = 0.0


@frozen(kw_only=True)
class Watched:
    """One data set: its newest version against `history` earlier ones. `rows` counts files where `unit` is file.

    `unread` are versions whose rows are not on this machine, so that their nulls are not known.
    """

    dataset: str
    version: int
    rows: int
    history: int
    ok: bool
    anomalies: tuple[Anomaly, ...]
    rows_before: tuple[int, ...] = ()
    unread: tuple[int, ...] = ()
    unit: str = "row"


@frozen(kw_only=True)
class WatchReport:
    """What `noria data watch` saw. `ok` is False if there is an anomaly of severity error."""

    ok: bool
    datasets: tuple[Watched, ...]


@frozen(kw_only=True)
class Seen:
    """What is known of one version: rows, when it came, its columns with their types, nulls by column.

    `nulls` is None if its rows are not here. A version of plain files has no rows: `rows` counts its
    files then, and `unit` says so.
    """

    rows: int
    at: datetime
    columns: Mapping[str, str]
    nulls: Mapping[str, int] | None
    time_max: str = ""
    unit: str = "row"


@verb(permission="checks.read", changes=False, where="project")
def watch(ws: Workspace, dataset: str = "") -> WatchReport:
    """Look for anomalies of volume, freshness, schema and nulls in the newest version of each data set.

    Each is compared with its own earlier versions. An error means: look before you train.

    Args:
        dataset: only this one; by default every data set.
    Raises: NotFound.
    Example:
        noria data watch flights
    """
    names = [dataset] if dataset else [version.name for version in list_datasets(ws) if version.at]
    found = tuple(_watched(ws, name) for name in names)
    return WatchReport(ok=all(each.ok for each in found), datasets=found)


def _watched(ws: Workspace, name: str) -> Watched:
    versions = list(reversed(log(ws, name)[: HISTORY + 1]))
    seen = [_seen(ws, version) for version in versions]
    config = ws.project.data.get(name)
    now = ws.clock.now() if ws.project.clock == "wall" else None
    anomalies = judge(seen, now=now, fresh=config.fresh if config else "")
    newest = versions[-1]
    return Watched(
        dataset=newest.name,
        version=newest.version,
        rows=_volume_of(newest)[0],
        unit=_volume_of(newest)[1],
        history=len(versions) - 1,
        ok=not any(anomaly.severity == "error" for anomaly in anomalies),
        anomalies=tuple(anomalies),
        rows_before=tuple(_volume_of(version)[0] for version in versions[:-1]),
        unread=tuple(v.version for v, s in zip(versions, seen, strict=True) if s.nulls is None),
    )


def judge(seen: Sequence[Seen], *, now: datetime | None = None, fresh: str = "") -> list[Anomaly]:
    """The anomalies of the last version against those before it, errors first. Pure.

    Args:
        seen: oldest first, at least one.
        now: the wall clock; None where events keep the time.
        fresh: how old the newest time may be, such as "24h", or "".
    """
    unit = seen[-1].unit
    found = _volume([each.rows for each in seen if each.unit == unit], unit)
    if now is not None:
        found += _freshness(seen, now, fresh)
    if len(seen) > 1:
        found += _schema(seen[-2].columns, seen[-1].columns)
        found += _nulls(seen)
    return sorted(found, key=lambda anomaly: (anomaly.severity != "error", anomaly.question, anomaly.column))


def _volume(rows: Sequence[int], unit: str = "row") -> list[Anomaly]:
    now, before = rows[-1], rows[:-1]
    if not now:
        return [_anomaly("volume", "error", f"the newest version has no {unit}s")]
    if not before:
        return []
    if len(before) < MIN_HISTORY:
        if now < _HALF * before[-1]:
            said = f"{counted(now, unit)}, {before[-1]:,} before"
            said += f"; {counted(len(before), 'earlier version says', 'earlier versions say')} little"
            return [_anomaly("volume", "warn", said, value=now)]
        return []
    gains = np.diff(np.array(before, float))
    is_growing = bool(np.all(gains >= 0)) and bool(np.any(gains > 0)) and len(gains) >= MIN_HISTORY - 1
    if is_growing:
        gain, scale = _centre(
            gains, max(3 * math.sqrt(max(float(np.median(gains)), 1.0)), _GAIN_FLOOR * float(np.median(gains)))
        )
        usual, n = before[-1] + gain, len(gains)
        far, low, high = abs(now - usual) / scale, usual - _limit(n, ERROR) * scale, usual + _limit(n, ERROR) * scale
        was_there = False
    else:
        # a fall to nothing is as surprising as a rise without end: ratios, not differences
        levels, n = np.log(np.maximum(before, 1)), len(before)
        level, scale = _centre(levels, _ROWS_FLOOR)
        usual = math.exp(level)
        far = abs(math.log(now) - level) / scale
        low, high = (math.exp(level + sign * _limit(n, ERROR) * scale) for sign in (-1, 1))
        # a week has its weekends: what was there twice before is usual, however far from the median
        was_there = int(np.count_nonzero(np.abs(levels - math.log(now)) < 2 * _ROWS_FLOOR)) >= 2
    severity = _severity(far, n)
    if not severity or was_there:
        return []
    way = "fewer" if now < usual else "more"
    said = f"{counted(now, unit)}, {way} than usual ({max(low, 0):,.0f} to {high:,.0f}; {before[-1]:,} before)"
    return [_anomaly("volume", severity, said, value=now, low=max(low, 0.0), high=high)]


def _freshness(seen: Sequence[Seen], now: datetime, fresh: str) -> list[Anomaly]:
    found = []
    newest = seen[-1]
    age = (now - newest.at).total_seconds()
    if fresh:
        told = instant(newest.time_max) if newest.time_max else newest.at
        if now - told > duration(fresh):
            said = f"the newest {'time' if newest.time_max else 'version'} is {_span(now - told)} old, at most {fresh}"
            found.append(_anomaly("freshness", "error", said, value=(now - told).total_seconds()))
    gaps = [max((b.at - a.at).total_seconds(), 1.0) for a, b in itertools.pairwise(seen)]
    if len(gaps) >= MIN_HISTORY and not found:
        logs = np.log(gaps)
        usual, scale = _centre(logs, _GAP_FLOOR)
        severity = _severity((math.log(max(age, 1.0)) - usual) / scale, len(gaps))
        if severity:
            limit = math.exp(usual + _limit(len(gaps), ERROR) * scale)
            said = f"no version for {_seconds(age)}; one came every {_seconds(math.exp(usual))}"
            found.append(_anomaly("freshness", severity, said, value=age, high=limit))
    moved = [a.time_max < b.time_max for a, b in itertools.pairwise(seen) if a.time_max and b.time_max]
    if len(moved) > MIN_HISTORY and all(moved[:-1]) and not moved[-1]:
        said = f"the newest time is still {newest.time_max[:19]}, as in the version before"
        found.append(_anomaly("freshness", "warn", said))
    return found


def _schema(before: Mapping[str, str], now: Mapping[str, str]) -> list[Anomaly]:
    found = [
        _anomaly("schema", "error", f"the column {name} ({kind}) is gone", column=name)
        for name, kind in before.items()
        if name not in now
    ]
    found += [
        _anomaly("schema", "warn", f"a new column {name} ({kind})", column=name)
        for name, kind in now.items()
        if name not in before
    ]
    for name, kind in now.items():
        was = before.get(name, kind)
        if was != kind:
            severity = "warn" if _family(was) == _family(kind) else "error"
            found.append(_anomaly("schema", severity, f"the column {name} is {kind}, it was {was}", column=name))
    return found


def _nulls(seen: Sequence[Seen]) -> list[Anomaly]:
    newest = seen[-1]
    if newest.nulls is None or not newest.rows:
        return []
    names = [name for name in newest.columns if name in newest.nulls]
    found = []
    for name in names:
        before = [
            (each.nulls[name], each.rows)
            for each in seen[:-1]
            if each.nulls is not None and each.rows and name in each.nulls
        ]
        share = newest.nulls[name] / newest.rows
        if not before:
            continue
        anomaly = _share(name, share, newest.rows, before, len(names))
        if anomaly is not None:
            found.append(anomaly)
    return found


def _share(name: str, share: float, rows: int, before: Sequence[tuple[int, int]], columns: int) -> Anomaly | None:
    """Shares on the scale of arcsin(sqrt(p)), where binomial chance has one size. Source: Anscombe (1948)."""
    shares = [nulls / total for nulls, total in before]
    usual = float(np.median(shares))
    moved = share - usual
    if abs(moved) < _NULLS_WARN:
        return None
    angles = np.arcsin(np.sqrt(shares))
    chance = 0.25 / rows + 0.25 / float(np.median([total for _, total in before]))
    centre, spread = _centre(angles, 0.0)
    scale = math.sqrt(spread**2 + chance + _NULLS_FLOOR**2)
    far = abs(math.asin(math.sqrt(share)) - centre) / scale
    said = f"null in {share:.1%} of rows, usually {usual:.1%}"
    if len(before) < MIN_HISTORY:
        is_clear = far > _limit(MIN_HISTORY, ERROR) and abs(moved) >= _NULLS_ERROR
        said += f" ({counted(len(before), 'earlier version')})"
        return _anomaly("nulls", "warn", said, column=name, value=share, high=usual) if is_clear else None
    severity = _severity(far, len(before), tests=columns)
    if not severity:
        return None
    if moved < _NULLS_ERROR:
        severity = "warn"
    return _anomaly("nulls", severity, said, column=name, value=share, high=usual)


def _centre(values: Any, floor: float) -> tuple[float, float]:
    """Median, and the standard deviation about it without the farthest sixth (at least one), at least `floor`.

    It is made consistent for normal values. Up to a sixth of the values may be anomalies themselves.
    """
    count = len(values)
    middle = float(np.median(values))
    kept = count - max(1, count // 6)
    if kept < 1:
        return middle, floor
    gaps = np.sort(np.abs(values - middle))[:kept]
    return middle, max(math.sqrt(float(np.mean(gaps**2)) / _shrunk(kept / count)), floor)


@functools.cache
def _shrunk(part: float) -> float:
    """The variance of a normal variable between its middle `part` of values, by its own variance."""
    z = float(stats.norm.ppf((1 + part) / 2))
    return 1 - 2 * z * float(stats.norm.pdf(z)) / part


@functools.cache
def _limit(n: int, share: float) -> float:
    """How many scales from the median of `n` values the next one lies with this probability, two-sided.

    Student's distribution with 0.6 (n - 1) degrees of freedom, for what trimming costs (held against
    simulation in the tests: a little too wide, never too narrow); the median's own error adds pi / 2n.
    """
    found = float(stats.t.isf(share / 2, 0.6 * (n - 1))) * math.sqrt(1 + math.pi / (2 * n))
    return min(found, _LIMIT_MAX)


def _severity(far: float, n: int, *, tests: int = 1) -> str:
    if far > _limit(n, ERROR / tests):
        return "error"
    return "warn" if far > _limit(n, WARN / tests) else ""


def _anomaly(
    question: str,
    severity: str,
    message: str,
    *,
    column: str = "",
    value: float = 0.0,
    low: float = 0.0,
    high: float = 0.0,
) -> Anomaly:
    return Anomaly(
        question=question,
        column=column,
        severity=severity,
        message=message,
        value=float(value),
        low=float(low),
        high=float(high),
    )


def _family(kind: str) -> str:
    if kind.startswith(("int", "uint", "float", "double", "half", "decimal")):
        return "number"
    return "text" if "string" in kind else kind.partition("[")[0]


def _span(age: Any) -> str:
    return _seconds(age.total_seconds())


def _seconds(age: float) -> str:
    for unit, size in (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0)):
        if age >= 2 * size:
            return counted(round(age / size), unit)
    return counted(round(age), "second")


def _seen(ws: Workspace, version: DatasetVersion) -> Seen:
    try:
        nulls: Mapping[str, int] | None = _counts(ws, version)
    except NotFound:
        nulls = None
    return Seen(
        rows=_volume_of(version)[0],
        unit=_volume_of(version)[1],
        at=instant(version.at),
        columns={name: kind for name, kind, _ in version.columns},
        nulls=nulls,
        time_max=version.time_max,
    )


def _volume_of(version: DatasetVersion) -> tuple[int, str]:
    """How much there is of a version, and of what: rows of tables, files where there are no tables."""
    return (version.rows, "row") if version.columns else (version.files, "file")


def _counts(ws: Workspace, version: DatasetVersion) -> dict[str, int]:
    """Nulls by column, from a cache by content. Raises: NotFound if the rows are not here."""
    total: dict[str, int] = dict.fromkeys(version.column_names(), 0)
    for part in source.parts(ws, version):
        mine = _cached(ws, part)
        for name in total:
            total[name] += mine.get(name, part.rows)
    return total


def _cached(ws: Workspace, part: source.Part) -> dict[str, int]:
    note = ws.project.state / "cache" / "nulls" / f"{source.content_of(part).removeprefix('sha256:')}.json"
    try:
        return msgspec.json.decode(note.read_bytes(), type=dict[str, int])
    except (FileNotFoundError, msgspec.DecodeError):
        pass  # never counted, cleared away, or altered: it is counted, as it can always be
    shape = shape_of(part.path, part.file)
    watchers = [ColumnCheck(name, ColumnRules(), shape.schema) for name in shape.schema.names]
    scan(part.path, part.file, shape, watchers)
    found = {each.name: each.state.nulls for each in watchers if each.state is not None}
    with disk_faults(note):
        note.parent.mkdir(parents=True, exist_ok=True)
        part_file = note.with_suffix(f".{uuid.uuid4().hex}.part")  # another process may count the same
        part_file.write_bytes(msgspec.json.encode(found))
        part_file.replace(note)
    return found
