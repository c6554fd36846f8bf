"""What a training set may not know of its holdout: its rows, its times, its answers.

- duplicates: rows of the holdout that are here too, equal in every column that both have.
- time: a row here that is not before every row there.
- copies: a column that tells the label by itself. A number: its area under the ROC curve (two
  labels) or its rank correlation (a number as label). A text or a code with few values: the share
  of rows that its levels' most frequent label explains.

Rows are found by a 64-bit hash of their values and then compared themselves, so chance finds none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.checks.facts import Finding
from noria.checks.findings import failed, passed
from noria.checks.samples import with_samples
from noria.checks.scanning import source
from noria.checks.scanning.arrays import is_null, whole
from noria.checks.scanning.chunk import family, floats
from noria.checks.scanning.hashing import hashes_of
from noria.checks.scanning.repeats import codes_of
from noria.checks.scanning.source import Part
from noria.checks.scanning.tally import ROWS, Places
from noria.checks.suites.rules import Leakage
from noria.core.errors import NoriaError
from noria.core.lazy import lazy
from noria.core.words import counted, no_column, percent
from noria.data.versions import DatasetVersion, resolve
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")
pq = lazy("pyarrow.parquet")

__all__ = ["check"]

SAMPLE = 200_000
"""A copy is a copy in any part of the rows: copies are looked for in at most so many, evenly taken."""
_MIN_ROWS = 50
_MIN_LEVEL_ROWS = 5
"""Levels with fewer rows on average are names: any name tells its row's label."""


def check(
    ws: Workspace, version: DatasetVersion, rules: Leakage, parts: Sequence[Part], new: Sequence[str]
) -> tuple[list[Finding], dict[str, Places]]:
    """Every rule about leakage, and by new file the rows that the holdout has too."""
    findings: list[Finding] = []
    leaked: dict[str, Places] = {}
    if rules.holdout:
        try:
            holdout = resolve(ws, rules.holdout)
            others = source.parts(ws, holdout)
        except NoriaError as error:
            return [_whole(rules, "leakage", "", version, f"cannot be evaluated: {error.message}")], {}
        found, leaked = _duplicates(version, holdout, rules, parts, others, new)
        findings.append(found)
        if rules.time:
            findings.append(_overlap(version, holdout, rules, parts, others))
    if rules.label:
        findings += _copies(version, rules, parts)
    return findings, leaked if any(f.rule == "leakage: duplicates" and not f.passed for f in findings) else {}


def _duplicates(
    version: DatasetVersion,
    holdout: DatasetVersion,
    rules: Leakage,
    parts: Sequence[Part],
    others: Sequence[Part],
    new: Sequence[str],
) -> tuple[Finding, dict[str, Places]]:
    name = "leakage: duplicates"
    wanted = [rules.key] if rules.key else [c for c in version.column_names() if c not in rules.ignore]
    missing = [c for c in wanted if c not in holdout.column_names()] if rules.key else []
    columns = [c for c in wanted if c in holdout.column_names()]
    if missing or not columns:
        said = (
            f"{no_column(missing[0], holdout.column_names())} in {holdout.ref}"
            if missing
            else f"{holdout.ref} shares no column"
        )
        return _whole(rules, name, "", version, f"cannot be evaluated: {said}"), {}
    there = np.concatenate([_hashes(part, columns) for part in others]) if others else np.zeros(0, np.uint64)
    if not len(there):
        return _whole(rules, name, "", version, f"cannot be evaluated: {holdout.ref} is empty"), {}
    candidates = _rows_with(others, columns, there, np.concatenate([_hashes(part, columns) for part in parts]))
    leaked: dict[str, Places] = {}
    shared: set[Any] = set()
    for part in parts:
        places = np.flatnonzero(np.isin(_hashes(part, columns), there))
        if not len(places):
            continue
        rows = source.columns_of(part, columns).take(whole(places)).to_pylist()
        keys = [_key(row) for row in rows]
        is_same = np.array([key in candidates for key in keys], bool)
        shared |= {key for key in keys if key in candidates}
        if is_same.any():
            leaked[part.file] = places[is_same]
    count = sum(candidates[key] for key in shared)
    if count <= rules.duplicates * holdout.rows:
        return passed(name, rules.key, total=holdout.rows, severity=rules.severity), {}
    first = next((part.file for part in parts if part.file in leaked), "")
    of = f"with the same {rules.key}" if rules.key else "equal in every column"
    are = counted(count, f"row of {holdout.ref} is", f"rows of {holdout.ref} are")
    message = f"{are} here too, {of} ({percent(count / holdout.rows)} of it)"
    found = failed(
        name,
        rules.key,
        message,
        count=sum(map(len, leaked.values())),
        total=version.rows,
        severity=rules.severity,
        file=first,
        rows=[int(place) for place in leaked[first][:ROWS]] if first else (),
    )
    for part in parts:
        if part.file == first:
            found = with_samples([found], {0: columns}, part, rules.key)[0]
    return found, {file: places for file, places in leaked.items() if file in new} if rules.severity == "error" else {}


def _rows_with(others: Sequence[Part], columns: list[str], there: Any, here: Any) -> Mapping[Any, int]:
    """The rows of the holdout whose hash is also here, and how often each is there."""
    found: dict[Any, int] = {}
    at = 0
    for part in others:
        places = np.flatnonzero(np.isin(there[at : at + part.rows], here))
        at += part.rows
        if len(places):
            for row in source.columns_of(part, columns).take(whole(places)).to_pylist():
                key = _key(row)
                found[key] = found.get(key, 0) + 1
    return found


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The values of a row as texts: 1 and 1.0 are the same value, and so are NaN and null."""
    return tuple(_plain(value) for value in row.values())


def _plain(value: Any) -> str:
    if value is None or value != value:
        return "null"
    if isinstance(value, bool):
        return str(value)
    return repr(float(value)) if isinstance(value, int | float) else str(value)


def _hashes(part: Part, columns: list[str]) -> Any:
    return hashes_of(part.path, columns)


def _overlap(
    version: DatasetVersion, holdout: DatasetVersion, rules: Leakage, parts: Sequence[Part], others: Sequence[Part]
) -> Finding:
    name = "leakage: time"
    for each in (version, holdout):
        if rules.time not in each.column_names():
            said = f"cannot be evaluated: {each.ref} has {no_column(rules.time, each.column_names())}"
            return _whole(rules, name, rules.time, version, said)
    try:
        last = max(span[1] for span in _spans(parts, rules.time))
        first = min(span[0] for span in _spans(others, rules.time))
    except (NoriaError, ValueError) as error:
        said = error.message if isinstance(error, NoriaError) else "a side has no times"
        return _whole(rules, name, rules.time, version, f"cannot be evaluated: {said}")
    if last < first:
        return passed(name, rules.time, total=version.rows, severity=rules.severity)
    message = f"times reach {last[:19]}, and {holdout.ref} begins at {first[:19]}"
    return _whole(rules, name, rules.time, version, message)


def _spans(parts: Sequence[Part], column: str) -> list[tuple[str, str]]:
    found = [source.time_span(part, column, pq.read_schema(part.path).names) for part in parts]
    return [span for span in found if span[0]]


def _copies(version: DatasetVersion, rules: Leakage, parts: Sequence[Part]) -> list[Finding]:
    name = "leakage: copies"
    if rules.label not in version.column_names():
        said = f"cannot be evaluated: {version.ref} has {no_column(rules.label, version.column_names())}"
        return [_whole(rules, name, rules.label, version, said)]
    label = _sampled(parts, rules.label, version.rows)
    is_known = ~is_null(label, or_nan=True)
    classes = len(pc.unique(label.drop_null()))
    if int(is_known.sum()) < _MIN_ROWS or classes < 2:
        kinds = counted(classes, "kind")
        said = f"cannot be evaluated: the label has {counted(int(is_known.sum()), 'value')} of {kinds}"
        return [_whole(rules, name, rules.label, version, said)]
    found = []
    for column in version.column_names():
        if column in (rules.label, *rules.ignore):
            continue
        told = _told(_sampled(parts, column, version.rows), label, is_known)
        if told is not None and told[0] >= rules.copies:
            message = f"tells the label {rules.label} by itself: {told[1]} {told[0]:.4f} (below {rules.copies:g})"
            found.append(_whole(rules, name, column, version, message))
    return found or [passed(name, rules.label, total=version.rows, severity=rules.severity)]


def _sampled(parts: Sequence[Part], column: str, rows: int) -> pa.ChunkedArray[Any]:
    step = max(1, -(-rows // SAMPLE))
    tables = [source.columns_of(part, [column]) for part in parts]
    tables = [table.take(whole(np.arange(0, table.num_rows, step))) for table in tables]
    found: pa.ChunkedArray[Any] = pa.concat_tables(tables, promote_options="permissive")[column]
    return found


def _told(values: Any, label: Any, is_known: Any) -> tuple[float, str] | None:
    """How well a column alone tells the label (0..1) and by what measure; None if it has nothing to say."""
    of, of_label = family(values.type), family(label.type)
    both = is_known & ~is_null(values, or_nan=True)
    count = int(both.sum())
    if count < _MIN_ROWS or count < 0.5 * int(is_known.sum()) or of in ("other", "null"):
        return None
    answers = codes_of([label.filter(pa.array(both))])
    kinds = int(answers.max()) + 1
    if kinds < 2:
        return None
    numbers = _numbers(values, of)
    if numbers is not None and kinds == 2:
        area = _auc(numbers[both], answers == 1)
        if max(area, 1 - area) > 0.5:
            best: tuple[float, str] = (max(area, 1 - area), "area under the ROC curve")
            share = _purity(values.filter(pa.array(both)), answers, count)
            return max(best, share) if share is not None else best
    if numbers is not None and of_label == "number" and kinds > 2:
        mine, theirs = _ranked(numbers[both]), _ranked(floats(label)[both])
        if mine.std() > 0 and theirs.std() > 0:
            return abs(float(np.corrcoef(mine, theirs)[0, 1])), "rank correlation"
    return _purity(values.filter(pa.array(both)), answers, count)


def _numbers(values: Any, of: str) -> Any:
    if of == "number":
        return floats(values)
    if of == "bool":
        return floats(values.cast(pa.int8()))
    return None


def _auc(values: Any, is_one: Any) -> float:
    """The area under the ROC curve with ties at one half. Source: Mann and Whitney (1947)."""
    ranks = _ranked(values)
    ones = int(is_one.sum())
    zeros = len(values) - ones
    return float((ranks[is_one].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def _ranked(values: Any) -> Any:
    """Ranks from 1, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _purity(values: Any, answers: Any, count: int) -> tuple[float, str] | None:
    levels = codes_of([values])
    size = int(levels.max()) + 1
    if size < 2 or count < _MIN_LEVEL_ROWS * size:
        return None
    kinds = int(answers.max()) + 1
    table = np.bincount(levels * kinds + answers, minlength=size * kinds).reshape(size, kinds)
    most = float(table.sum(axis=0).max()) / count
    found = float(table.max(axis=1).sum()) / count
    return (found, "share explained by its levels") if found > most else None


def _whole(rules: Leakage, name: str, column: str, version: DatasetVersion, message: str) -> Finding:
    """A finding about every row."""
    return failed(name, column, message, count=version.rows, total=version.rows, severity=rules.severity)
