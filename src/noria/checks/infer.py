"""Rules inferred from a reference version: what is worth writing down about each column, and how wide.

The widths follow principles, not a fit to later data: a share of nulls may double or rise by five
points, a fixed resolution must stay, hard bounds are only those that many rows touch, and zero is the
floor of what was never below it and came near it. The file
belongs to the project once it is written: inferring again shows what it would change and why, and
takes only what nobody edited, and only when told to.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.checks import habits, reference
from noria.checks.evaluate import MIN_ROWS, holds
from noria.checks.facts import ChecksInferred
from noria.checks.scanning import source, units
from noria.checks.scanning.accumulate import EXACT_DISTINCT, ColumnState
from noria.checks.scanning.profile import ColumnProfile, floats, profile_numbers
from noria.checks.scanning.scan import BATCH_ROWS
from noria.checks.scanning.tally import Rows
from noria.checks.suites.merge import Change, changes, merged
from noria.checks.suites.place import base_path, profile_path, shown, suite_path
from noria.checks.suites.rules import ColumnRules, Suite, TableRules, When, count
from noria.checks.suites.suitefile import read_text, text_of
from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.identity import short
from noria.core.lazy import lazy
from noria.core.verb import verb
from noria.core.words import counted
from noria.data.rows.layout import layout_of
from noria.data.versions import DatasetVersion, resolve
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
    Mask = Any
pc = lazy("pyarrow.compute")
pq = lazy("pyarrow.parquet")

__all__ = ["SuiteReport", "infer", "infer_suite"]

NULL_SLACK = 0.05
NEVER_NULL = 0.01
WHEN_SLACK = 0.02
"""For columns that come together: one is there exactly when the other is."""
NEW_LEVELS = 0.05
_MAX_LEVELS = 100
_MIN_LEVEL_ROWS = 5
"""Levels are a closed set only if an average one is seen this often."""
_FEW_DISTINCT = 20
"""Fewer distinct numbers than this are codes or counts: their quantiles say little about a unit."""
_TOUCHED = 0.01
"""A hard bound is one that at least this share of the values touch exactly."""
_TINY = 0.05
"""Positive values whose least is at most this share of their median begin at zero: prices, not temperatures."""
_SAMPLE_ROWS = 50_000
_UNREST_ROWS = 200_000
_PARTS = 4
_MIN_PART_ROWS = 200
_MANY_ROWS = 1000
_UNREST = 5.0
_WHEN_SHARE = 0.15
_WHEN_NULLS = 0.02
_WHEN_GAIN = 5.0
_DENSE = 2
"""Whole numbers that never repeat and take up less than so many times their count were counted out."""
_NAMED = re.compile(r"(?i:^|_)id$|[a-z]Id$")
_UNORDERED = 0.001
"""So few rows may stand before an earlier one in a file that is in order of time."""


@frozen(kw_only=True)
class SuiteReport:
    """What was inferred and where it stands. `is_new` says that the file was written.

    `changes` are the keys that are inferred otherwise than the file says: those that a person
    edited are kept; the others wait, or were taken if `is_accepted`.
    """

    dataset: str
    version: int
    suite: str
    is_new: bool
    rules: int
    columns: int
    changes: tuple[Change, ...] = ()
    is_accepted: bool = False


@verb(permission="checks.infer", where="project")
def infer(ws: Workspace, dataset: str, accept: bool = False) -> SuiteReport:
    """Infer rules from a version and write `checks/NAME.toml`; what a person edited is never changed.

    If the file is there, the keys that would change are shown: inferred last, yours, and now. What
    you edited stays; `accept` takes the others, line by line.

    Args:
        accept: take the changes of keys that nobody edited.
    Raises: NotFound; UsageError if the version has no rows; ConfigError for a broken file; Conflict.
    Example:
        noria data check flights --infer
    """
    version = resolve(ws, dataset)
    if not version.rows:
        raise UsageError(f"{version.ref} has no rows to infer rules from")
    states = reference.states(source.parts(ws, version))
    suite = infer_suite(ws, version, states)
    path = suite_path(ws, version.name)
    text = text_of(suite, _comment(version))
    if not path.is_file():
        _write(ws, version, path, text, (text, states))
        return _report(ws, version, path, suite, is_new=True)
    mine = path.read_text(encoding="utf-8")
    read_text(mine, str(path))
    base = base_path(path)
    found = changes(base.read_text(encoding="utf-8") if base.is_file() else "", mine, text)
    is_taken = accept and bool(found)
    if is_taken:
        _write(ws, version, path, merged(mine, found), (text, states))
    suite = read_text(path.read_text(encoding="utf-8"), str(path))
    return _report(ws, version, path, suite, is_new=is_taken, found=found)


def _report(
    ws: Workspace, version: DatasetVersion, path: Path, suite: Suite, *, is_new: bool, found: Sequence[Change] = ()
) -> SuiteReport:
    return SuiteReport(
        dataset=version.name,
        version=version.version,
        suite=shown(ws, path),
        is_new=is_new,
        rules=count(suite, is_wall=ws.project.clock == "wall"),
        columns=len(suite.columns),
        changes=tuple(found),
        is_accepted=is_new and bool(found),
    )


def _comment(version: DatasetVersion) -> str:
    return (
        f"Rules for {version.name}, inferred from {version.ref} ({counted(version.rows, 'row')}). "
        "They are yours: edit them.\n"
        "A rule that fails stops the pipeline before training. `noria data check` runs them."
    )


def _write(
    ws: Workspace, version: DatasetVersion, path: Path, text: str, inferred: tuple[str, Mapping[str, ColumnState]]
) -> None:
    """The suite, what was inferred, and the reference's profile; then the fact."""
    base, states = inferred
    profiles = {name: state.profile(is_full=True) for name, state in states.items()}
    _replace(base_path(path), base.encode())
    _replace(profile_path(path), reference.encode(version.name, version.ref, profiles))
    _replace(path, text.encode())
    content = ws.objects.put_file(path)
    with ws.ledger.transaction() as tx:
        fact = ChecksInferred(dataset=version.name, version=version.version, tree=version.tree, suite=content)
        tx.append(fact, inputs=[("tree", version.tree)], outputs=[("suite", content)])


def _replace(path: Path, content: bytes) -> None:
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(content)
        part.replace(path)


def infer_suite(ws: Workspace, version: DatasetVersion, states: Mapping[str, ColumnState] | None = None) -> Suite:
    """The rules that a version gives as a reference. Pure but for reading the version."""
    parts = source.parts(ws, version)
    found = states if states is not None else reference.states(parts)
    profiles = {name: found[name].profile() for name in version.column_names() if name in found}
    sample = _sample(parts, version, _UNREST_ROWS)
    roles = _roles(ws, version, sample, profiles)
    drifts = _drifts(sample, profiles, version.time)
    rules = {
        name: _column(profile, role=roles.get(name, ""), drift=drifts.get(name, units.FAR[1]))
        for name, profile in profiles.items()
    }
    for name, reason in _reasons(sample, profiles).items():
        rules[name] = _with_reason(rules[name], *reason)
    for name, habit in _habits(sample, profiles, version, roles).items():
        rules[name] = dataclasses.replace(rules[name], **habit)
    config = ws.project.data.get(version.name)
    return Suite(
        dataset=version.name,
        reference=f"{version.ref} {short(version.content)}",
        table=TableRules(key=version.key, time=version.time, fresh=config.fresh if config else ""),
        columns=rules,
    )


def _sample(parts: Sequence[source.Part], version: DatasetVersion, rows: int) -> pa.Table:
    """At most so many rows, evenly taken from all files; all of them if they are fewer."""
    step = max(1, -(-version.rows // rows))
    tables = []
    for part in parts:
        if step == 1:
            tables.append(source.columns_of(part, version.column_names()))
            continue
        first = 0
        with pq.ParquetFile(part.path, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                at = np.arange((-first) % step, batch.num_rows, step)
                tables.append(_plain(pa.Table.from_batches([batch.take(pa.array(at))])))
                first += batch.num_rows
    return pa.concat_tables(tables, promote_options="permissive")


def _plain(table: pa.Table) -> pa.Table:
    columns = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in table.columns]
    return pa.table(columns, names=table.column_names)


def allowed_nulls(share: float, rows: int) -> float:
    """The highest share of nulls that a file may have: five points more, or twice as much, but never near all.

    A column that never was null in a thousand rows may be in one row of a hundred; one that is
    mostly null may lose at most six tenths of the values that it has.
    """
    if share == 0.0:
        return NEVER_NULL if rows >= _MANY_ROWS else NULL_SLACK
    return round(share + max(NULL_SLACK, min(share, 0.6 * (1 - share))), 4) if share < 1 else 1.0


def _roles(
    ws: Workspace, version: DatasetVersion, sample: pa.Table, profiles: Mapping[str, ColumnProfile]
) -> dict[str, str]:
    """What a column is for, where its numbers name rows or only grow: they have no range and no unit.

    key, time, label: as the version says (of several key columns, each). growing: the column that appends go
    by. name: whole numbers that tell rows apart (see `_is_name`).
    """
    found = {name: "name" for name, profile in profiles.items() if _is_name(name, profile, sample)}
    if version.watermark:
        found[version.watermark.partition("=")[0]] = "growing"
    found |= dict.fromkeys(layout_of(ws.objects, version).key, "key")
    return found | {getattr(version, role): role for role in ("label", "time", "key") if getattr(version, role)}


def _is_name(name: str, profile: ColumnProfile, sample: pa.Table) -> bool:
    """Whether whole numbers are names of things: so called, or never the same twice and rising or without gaps."""
    if not profile.type.startswith(("int", "uint")) or not profile.values:
        return False
    if _NAMED.search(name):
        return True
    if profile.nulls or profile.values < _MIN_PART_ROWS or profile.distinct < min(profile.values, EXACT_DISTINCT):
        return False
    values = sample[name].to_numpy()
    if len(np.unique(values)) < len(values):
        return False
    is_rising = bool((values[1:] > values[:-1]).all())
    return is_rising or profile.high - profile.low < _DENSE * profile.values


def _drifts(table: pa.Table, profiles: Mapping[str, ColumnProfile], time: str) -> dict[str, float]:
    """How far a column may drift before a unit is suspected: five times what the reference's own parts do.

    The reference is cut into parts in order of time (of rows, without a time); the greatest distance
    of a part from the whole is the column's own unrest. Parts of less than 200 rows tell nothing.
    """
    if table.num_rows < _PARTS * _MIN_PART_ROWS:
        return {}
    order = pc.sort_indices(table[time]) if time in table.column_names else pa.array(np.arange(table.num_rows))
    rows = np.array_split(order.to_numpy(), _PARTS)
    found = {}
    for name, whole in profiles.items():
        if whole.family != "number" or not whole.quantiles:
            continue
        stick = units.yardstick([whole])
        if not stick.spread:
            continue
        values = floats(table[name])
        parts = (profile_numbers(values[part], whole.type) for part in rows)
        unrest = max((stick.distance(stick.told(part)) for part in parts if stick.told(part)), default=1.0)
        found[name] = round(min(max(_UNREST * unrest, units.FAR[0]), units.FAR[1]), 3)
    return found


def _column(profile: ColumnProfile, *, role: str, drift: float) -> ColumnRules:
    kind = profile.family if profile.family != "null" else ""
    if role in ("key", "time"):
        return ColumnRules(type=kind, nulls=0.0)
    values: dict[str, Any] = {"type": kind, "nulls": allowed_nulls(profile.null_share, profile.rows)}
    if role in ("growing", "name"):
        return ColumnRules(**values)
    if profile.family == "number" and profile.quantiles:  # infinite values alone have none
        values |= _number(profile) | {"drift": drift}
    if profile.family == "text" and _is_closed(profile):
        values |= {"levels": tuple(sorted(level for level, _ in profile.levels)), "new_levels": NEW_LEVELS}
    return ColumnRules(**values)


def _number(profile: ColumnProfile) -> dict[str, Any]:
    values: dict[str, Any] = {
        "unit": True,
        "typical": _short(profile.quantiles),
        "seen": _short((profile.low, profile.high)),
    }
    if profile.is_sparse:
        values["typical_nonzero"] = _short(profile.body)
    if profile.lattice is not None:
        values |= {"step": profile.lattice.step, "offset": profile.lattice.offset}
    if profile.distinct > 1:
        if profile.low == 0.0 and profile.at_low >= _TOUCHED:
            values["min"] = 0.0
        if profile.at_high >= _TOUCHED and profile.high in _CEILINGS:
            values["max"] = profile.high
    middle = profile.quantiles[2] if profile.quantiles else 0.0
    if "min" not in values and profile.values >= MIN_ROWS and middle > 0 and 0 <= profile.low <= _TINY * middle:
        values["floor"] = 0.0
    return values


def _short(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(f"{value:.9g}") for value in values)


_CEILINGS = (1.0, 10.0, 100.0, 360.0)
"""Ends of scales that people make: shares, marks, per cent, degrees. Other greatest values are chance."""


def _is_closed(profile: ColumnProfile) -> bool:
    return 0 < profile.distinct <= _MAX_LEVELS and profile.values >= _MIN_LEVEL_ROWS * profile.distinct


def _with_reason(rules: ColumnRules, when: When, share: float) -> ColumnRules:
    values = {each.name: getattr(rules, each.name) for each in dataclasses.fields(rules)}
    slack = WHEN_SLACK if share == 0.0 and when.sign == "present" else NULL_SLACK
    return ColumnRules(**(values | {"when": str(when), "nulls_when": round(share + slack, 4)}))


def _reasons(table: pa.Table, profiles: Mapping[str, ColumnProfile]) -> dict[str, tuple[When, float]]:
    """For each column with nulls, a condition on another one under which it has hardly any.

    Of the conditions that cover at least 15 % of the rows and cut the share of nulls to a fifth
    and to at most 2 %, the one that covers most rows.
    """
    with_nulls = [name for name, p in profiles.items() if 0 < p.nulls < p.rows]
    if not with_nulls:
        return {}
    if table.num_rows > _SAMPLE_ROWS:
        table = table.take(np.linspace(0, table.num_rows - 1, _SAMPLE_ROWS).astype(np.int64))
    rows = Rows(table, 0)
    conditions = [(when, holds(when, rows)) for when in _conditions(profiles)]
    found: dict[str, tuple[When, float]] = {}
    for name in with_nulls:
        missing = np.asarray(pc.is_null(table[name], nan_is_null=True).to_numpy())
        best: tuple[int, When, float] | None = None
        for when, where in conditions:
            among = int(where.sum())
            if when.column == name or among < max(_WHEN_SHARE * len(missing), MIN_ROWS):
                continue
            share = float(missing[where].mean())
            fits = share <= min(_WHEN_NULLS, profiles[name].null_share / _WHEN_GAIN)
            if fits and (best is None or among > best[0]):
                best = (among, when, share)
        if best is not None:
            found[name] = best[1:]
    return found


def _habits(
    table: pa.Table, profiles: Mapping[str, ColumnProfile], version: DatasetVersion, roles: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """By column, the longest silence and the usual values; nothing where the reference is not in order of time."""
    if version.time not in table.column_names or table.num_rows < 2:
        return {}
    times = pc.drop_null(table[version.time].combine_chunks())
    is_down = pc.sum(pc.less(times[1:], times[:-1])).as_py() or 0
    if is_down > _UNORDERED * table.num_rows:
        return {}
    step = max(1, -(-version.rows // max(table.num_rows, 1)))
    rows = Rows(table, 0)
    conditions = [(when, holds(when, rows)) for when in _conditions(profiles)]
    found: dict[str, dict[str, Any]] = {}
    for name, profile in profiles.items():
        if name in roles:
            continue
        mine: dict[str, Any] = {}
        others = [(str(when), where) for when, where in conditions if when.column != name]
        if 0 < profile.nulls < profile.rows:
            run = habits.silence(rows[name].missing, others, step=step, least=_WHEN_SHARE)
            mine |= {"null_run": run[0], "null_run_when": run[1]} if run else {}
        if profile.family == "number" and 0 < profile.distinct <= EXACT_DISTINCT:
            usual = habits.usual(rows[name].floats, is_sparse=profile.is_sparse, step=step)
            if usual is not None:
                mine |= {"usual": usual.values, "usual_shares": usual.shares, "clump": usual.clump}
        if mine:
            found[name] = mine
    return found


def _conditions(profiles: Mapping[str, ColumnProfile]) -> list[When]:
    found = []
    for name, profile in profiles.items():
        if profile.nulls and profile.values:
            found.append(When(name, "present"))
        if profile.family == "number" and profile.distinct > _FEW_DISTINCT:
            for cut in profile.quantiles[1:4]:
                found += [When(name, ">=", float(f"{cut:.6g}")), When(name, "<=", float(f"{cut:.6g}"))]
    return found
